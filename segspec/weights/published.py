"""Published checkpoints: which of a spec's a file is, and which of its tensors each of the network's is.

The rules (:mod:`segspec.spec.checkpoints`) lead from a published name to the key that the generated module of
the same framework has. So names and layouts of tensors are the framework's own facts, and a rule is written in
paths of nodes alone. Every rule must be met, every tensor by one, and what is left on either side accounted for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from segspec.errors import Problem, SpecError, fail, suggest
from segspec.graph.elaborate import Elaborator, elaborate
from segspec.graph.model import Graph
from segspec.render import backend as backends
from segspec.spec.checkpoints import DEFAULTS
from segspec.spec.load import Definition
from segspec.spec.models import Spec
from segspec.weights.fit import MAX_LISTED, counters, grouped, places_of, remedy, shown
from segspec.weights.naming import Naming, Rule, below
from segspec.weights.state import entries

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Source:
    """Where a tensor of the network comes from: a key of the file, and what has to be done with its values.

    ``transposed``: its two axes change places. ``reversed``: its axis 1 is turned round, from BGR to RGB.
    """

    key: str
    transposed: bool = False
    reversed: bool = False


@dataclass(frozen=True)
class Published:
    """A file as one of a spec's checkpoints, and the network that it is of.

    ``sources`` and ``zeros`` hold the names of the network's tensors (:mod:`segspec.weights.state`), as does
    ``left``: those that stay as they start, since the file lacks them or has another number of classes.
    ``ignored`` are the file's keys that the network has no use for, those of a classifier that is left included.
    """

    checkpoint: str
    title: str
    backend: backends.Backend
    graph: Graph
    sources: Mapping[str, Source]
    zeros: tuple[str, ...]
    left: tuple[str, ...]
    ignored: tuple[str, ...]


def recognise(definition: Definition, file: Shapes, *arguments: Any, **options: Any) -> Published:
    """A file as the first of a spec's checkpoints whose rules account for every tensor; as :func:`nearest` finds it.

    Raises :class:`SpecError` with what keeps the nearest one from fitting.
    """
    match = nearest(definition, file, *arguments, **options)
    if match is None or not match.sources:
        assert isinstance(definition.block, Spec)
        known = ", ".join(definition.block.checkpoints)
        message = f"the file is no checkpoint that '{definition.name}' knows"
        advice = f"it knows {known}" if known else "write the names that it has under checkpoints: in the spec"
        raise fail("checkpoint", message, remedy=advice)
    return match.result()


def nearest(
    definition: Definition,
    file: Shapes,
    settings: Mapping[str, Any] | None = None,
    preset: str = "",
    *,
    name: str = "",
    backend: str = "",
    allowed: Sequence[str] = (),
) -> Match | None:
    """The checkpoint of a spec that a file is, or comes nearest to; none where no tensor has a place in any.

    ``file`` gives the shape of each of its tensors. A checkpoint is tried at its presets in turn, or at
    ``preset`` where one is given; ``name`` and ``backend`` leave only the checkpoints of that name and that
    framework. The number of classes is the file's unless ``settings`` give another: then the classifier is left.
    ``allowed`` are patterns of tensors that may be missing, strange or of another shape.
    """
    assert isinstance(definition.block, Spec)
    known = definition.block.checkpoints
    if name and name not in known:
        message = f"'{definition.name}' has no checkpoint '{name[:80]}'"
        raise fail("unknown-checkpoint", message, remedy=suggest(name, known, what="checkpoints"))
    best: Match | None = None
    unread: SpecError | None = None
    elaborator = Elaborator()
    for key, checkpoint in known.items():
        if name in ("", key) and backend in ("", checkpoint.backend):
            for tried in [preset] if preset else checkpoint.presets:
                at = "" if tried == DEFAULTS else tried
                try:
                    match = Match(definition, key, file, settings or {}, at, allowed, elaborator).with_classes()
                except SpecError as error:  # the rules, or the preset, are not for these settings
                    unread = error
                    continue
                if match.exact:
                    return match
                if match.sources and (best is None or match.misplaced < best.misplaced):
                    best = match
    if unread and (name or not best):
        raise unread
    return best


class Match:
    """A file held against one checkpoint at one preset and settings."""

    def __init__(
        self,
        definition: Definition,
        name: str,
        file: Shapes,
        settings: Mapping[str, Any],
        preset: str,
        allowed: Sequence[str],
        elaborator: Elaborator,
    ) -> None:
        assert isinstance(definition.block, Spec)
        self.definition, self.name, self.file = definition, name, file
        self.settings, self.preset, self.allowed, self.elaborator = settings, preset, allowed, elaborator
        self.known = definition.block.checkpoints
        self.checkpoint = self.known[name]
        self.backend = backends.backend(self.checkpoint.backend)
        self.place = definition.place("checkpoints", name, key=True)
        self.graph = elaborate(definition, settings, preset, elaborator)
        self.shapes = {entry.name: entry.shape for entry in entries(self.graph)}
        self.places = {item.key: item for item in places_of(self.graph, self.backend)}
        self.counters = set(counters(self.graph, self.backend))
        self.naming = Naming(self.graph, definition, name, self.graph.parameters)
        self.sources: dict[str, Source] = {}
        self.ignored: list[str] = []
        self.strange: list[str] = []
        self.astray: dict[int, tuple[Rule, list[tuple[str, str]]]] = {}
        """By rule: the tensors that it leads to what the network does not have, each with that."""
        self.faults: list[Problem] = []
        flipped = {f"{path}.weight": place for path, place in self.naming.paths("bgr")}
        zeros = dict(self.naming.paths("zeros"))
        for key in file:
            self._take(key, flipped)
        self.faults += self.naming.unmet()
        for tensor, place in (flipped | zeros).items():
            if tensor not in self.shapes:
                message = f"the network has no tensor '{tensor}'"
                self.faults.append(Problem("rule", message, place, "", suggest(tensor, self.shapes)))
        self.zeros = zeros.keys() - self.sources.keys()
        lacks = [path for path, _ in self.naming.paths("lacks")]
        self.left = {name for name in self.shapes if any(below(name, path) for path in lacks)} - self.sources.keys()
        self.left |= {name for name in self.missing if self._allows(name)}
        self.misshapen = {name for name in self.sources if self._shape(name) != self.shapes[name]}
        self._leave({name for name in self.misshapen if self._allows(name, self.sources[name].key)})

    def with_classes(self) -> Match:
        """The same, of as many classes as the file has, or without its classifier where ``settings`` want others."""
        heads = self._heads() if self.misshapen and self.accounted else {}
        if not self.misshapen or not self.misshapen <= heads.keys():
            return self
        classes = self.checkpoint.classes
        if classes in self.settings:
            self._leave(self.misshapen)
            return self
        settings = {**self.settings, classes: self._classes_of_file(heads)}
        return Match(self.definition, self.name, self.file, settings, self.preset, self.allowed, self.elaborator)

    def _take(self, key: str, flipped: Mapping[str, Any]) -> None:
        try:
            own, rules = self.naming.rename(key)
        except SpecError as error:  # a rule has no path for this number
            self.faults += [problem for problem in error.problems if problem not in self.faults]
            return
        if len(rules) > 1:
            several = " and ".join(f"'{rule.text}'" for rule in rules)
            message = f"the rules {several} are both met by '{key}'"
            self.faults.append(Problem("rule", message, rules[-1].place, "", "let each tensor meet one rule"))
        elif own in self.places and (rules or not self.naming.ignores(key)):
            placed = self.places[own]
            name = placed.name
            if name in self.sources:
                message = f"'{self.sources[name].key}' and '{key}' would both be '{name}'"
                place = rules[0].place if rules else self.place
                self.faults.append(Problem("rule", message, place, "", "ignore one of them"))
            self.sources[name] = Source(key, placed.transposed, name in flipped)
        elif own in self.counters or self.naming.ignores(key) or self._allows(key, own):
            self.ignored.append(key)
        elif rules:
            self.astray.setdefault(id(rules[0]), (rules[0], []))[1].append((key, own))
        else:
            self.strange.append(key)

    @property
    def missing(self) -> list[str]:
        """The network's tensors that nothing accounts for."""
        held = self.sources.keys() | self.zeros | self.left
        return [name for name in self.shapes if name not in held]

    @property
    def accounted(self) -> bool:
        """Whether every rule is met and every tensor of both sides has its place, whatever their shapes."""
        return not (self.faults or self.astray or self.strange or self.missing)

    @property
    def exact(self) -> bool:
        """Whether the file is this checkpoint."""
        return self.accounted and not self.misshapen

    @property
    def misplaced(self) -> int:
        """How many tensors of either side are not in their place."""
        astray = sum(len(led) for _, led in self.astray.values())
        return len(self.missing) + len(self.strange) + len(self.misshapen) + astray

    def problems(self) -> list[Problem]:
        """What keeps the file from being this checkpoint; what is the file's and no rule's has no place."""
        found = []
        network, read = self.graph.name, f", its keys read as those of '{self.name}'"
        if self.missing:
            found.append(f"it lacks {grouped(self.missing, list(self.shapes))} of {network}{read}")
        if self.strange:
            found.append(f"{network} has no place for {grouped(self.strange, list(self.file))} of it{read}")
        if self.misshapen:
            keys = [self.sources[name].key for name in self.shapes if name in self.misshapen]
            listed = [f"{key} is {shown(self.file[key])} and should be {shown(self._wanted(key))}" for key in keys]
            more = "; …" if len(listed) > MAX_LISTED else ""
            found.append(f"it has tensors of another shape{read}: {'; '.join(listed[:MAX_LISTED])}{more}")
        advice = remedy(self.allowed, [*self.shapes, *self.file])
        advice += "; --checkpoint NAME reads it as another" if len(self.known) > 1 else ""
        problems = [Problem("checkpoint", message) for message in found[:-1]]
        problems += [Problem("checkpoint", message, None, "", advice) for message in found[-1:]]
        for rule, led in self.astray.values():
            (key, own), more = led[0], f" (and {len(led) - 1} more so)" if len(led) > 1 else ""
            message = f"'{key}' would be '{own}', which the network does not have{more}"
            problems.append(Problem("rule", message, rule.place, "", suggest(own, self.places)))
        return problems + self.faults

    def result(self) -> Published:
        """The file as this checkpoint, all in the network's order; raises :class:`SpecError` with the problems."""
        if not self.exact:
            raise SpecError(self.problems())
        sources = {name: self.sources[name] for name in self.shapes if name in self.sources}
        zeros, left = (tuple(name for name in self.shapes if name in part) for part in (self.zeros, self.left))
        return Published(
            self.name, self.checkpoint.title, self.backend, self.graph, sources, zeros, left, tuple(self.ignored)
        )

    def _leave(self, names: set[str]) -> None:
        """Let tensors of a wrong shape stay as they start."""
        self.left |= names
        self.ignored += [self.sources[name].key for name in self.sources if name in names]
        self.sources = {name: source for name, source in self.sources.items() if name not in names}
        self.misshapen = self.misshapen - names

    def _allows(self, *names: str) -> bool:
        return any(fnmatchcase(name, pattern) for name in names for pattern in self.allowed)

    def _wanted(self, key: str) -> tuple[int, ...]:
        """The shape that a tensor of the file should have there."""
        name, source = next((name, source) for name, source in self.sources.items() if source.key == key)
        return self.shapes[name][::-1] if source.transposed else self.shapes[name]

    def _shape(self, name: str) -> tuple[int, ...]:
        """The shape that the file's tensor has, in the canonical layout."""
        source = self.sources[name]
        return self.file[source.key][::-1] if source.transposed else self.file[source.key]

    def _heads(self) -> dict[str, tuple[int, ...]]:
        """The tensors whose shapes depend on the number of classes, each with its shape at one class more."""
        classes = self.checkpoint.classes
        if not isinstance(count := self.graph.parameters.get(classes), int):
            return {}
        try:
            graph = elaborate(self.definition, {**self.settings, classes: count + 1}, self.preset, self.elaborator)
        except SpecError:
            return {}
        return {
            entry.name: entry.shape
            for entry in entries(graph)
            if entry.name in self.shapes and self.shapes[entry.name] != entry.shape
        }

    def _classes_of_file(self, heads: Mapping[str, tuple[int, ...]]) -> int:
        """The number of classes that gives the first tensor of the classifier the shape that it has in the file."""
        count: int = self.graph.parameters[self.checkpoint.classes]
        name = next(name for name in heads if name in self.misshapen)
        for size, here, more in zip(self._shape(name), self.shapes[name], heads[name], strict=False):
            if more > here:
                return max(count + (size - here) // (more - here), 1)
        return count
