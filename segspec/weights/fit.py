"""Holding a checkpoint to a network: which of its tensors is which of the network's, strictly.

Where a tensor goes and whether its two axes change places come from the op's declaration and the facts of the
backend that named the file's keys, never from a tensor's rank or place in the file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence, Sized
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from itertools import takewhile

import numpy as np

from segspec.errors import Place, Problem, SpecError, suggest
from segspec.graph.model import Graph
from segspec.render.backend import Backend, backends
from segspec.weights.state import entries, placement
from segspec.weights.tensors import Checkpoint, Tensor, of_array

MAX_LISTED = 6
"""How many blocks a message lists, and how many tensors of a block."""

ALLOW = "--allow PATTERN leaves out what it matches, as --allow 'head.*'"
"""What to do about tensors that do not fit."""


def remedy(allowed: Sequence[str], names: Sequence[str]) -> str:
    """What to do about tensors that do not fit, where ``allowed`` did not help."""
    return "; ".join([*idle(allowed, names), ALLOW])


def idle(allowed: Sequence[str], names: Sequence[str]) -> list[str]:
    """Which patterns match nothing, in words."""
    unmet = [pattern for pattern in allowed if not any(fnmatchcase(name, pattern) for name in names)]
    return [f"--allow '{pattern:.80}' matches no tensor" for pattern in unmet]


@dataclass(frozen=True)
class Fitted:
    """A network and its tensors by name, in canonical layout; ``left`` are those that the file does not have.

    ``keys`` are the file's keys that were used; ``notes`` say what a reader should know.
    """

    graph: Graph
    tensors: dict[str, Tensor]
    left: tuple[str, ...]
    keys: tuple[str, ...]
    notes: tuple[str, ...] = ()


@dataclass
class Fit:
    """A checkpoint beside what a network's state is called by a backend, or by node paths where there is none."""

    graph: Graph
    checkpoint: Checkpoint
    backend: Backend | None
    allowed: Sequence[str] = ()

    tensors: dict[str, Tensor] = field(default_factory=dict)
    keys: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    misshapen: dict[str, str] = field(default_factory=dict)
    mistyped: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shapes = {entry.name: entry.shape for entry in entries(self.graph)}
        places = {item.name: item for item in places_of(self.graph, self.backend)}
        for name, shape in shapes.items():
            self._take(name, shape, places[name])
        known = {place.key for place in places.values()} | _counters(self.graph)
        for key in self.checkpoint.tensors:
            if key not in known:
                (self.dropped if self._allowed(key) else self.unexpected).append(key)

    def _take(self, name: str, shape: tuple[int, ...], place: Placed) -> None:
        tensor = self.checkpoint.tensors.get(place.key)
        if tensor is None:
            (self.left if self._allowed(name, place.key) else self.missing).append(name)
            return
        found = tensor.shape[::-1] if place.transposed else tensor.shape
        if found != shape and self._allowed(name, place.key):
            self.left.append(name)
        elif found != shape:
            wanted = shape[::-1] if place.transposed else shape
            turned = "; its axes are in the opposite order" if tensor.shape == wanted[::-1] else ""
            self.misshapen[name] = f"{place.key} is {shown(tensor.shape)} and should be {shown(wanted)}{turned}"
        elif not tensor.floating:
            self.mistyped[name] = f"{place.key} is {tensor.dtype}"
        else:
            self.tensors[name] = tensor.transposed() if place.transposed else tensor
            self.keys.append(place.key)

    def _allowed(self, *names: str) -> bool:
        return any(fnmatchcase(name, pattern) for name in names for pattern in self.allowed)

    @property
    def exact(self) -> bool:
        """Whether every tensor has its place, but for what is allowed."""
        return not (self.missing or self.unexpected or self.misshapen or self.mistyped)

    @property
    def misplaced(self) -> int:
        """How many tensors of either side are not in their place."""
        return len(self.missing) + len(self.unexpected) + len(self.misshapen)

    def problems(self) -> list[Problem]:
        """What keeps the checkpoint from fitting, each kind grouped by block."""
        place = Place(str(self.checkpoint.path))
        names = [entry.name for entry in entries(self.graph)]
        title = self.backend.title if self.backend else ""
        as_named = f", its keys read as {title}'s" if title else ""
        found = []
        if self.missing:
            message = f"it lacks {_count(self.missing)} of {self.graph.name}{as_named}: {grouped(self.missing, names)}"
            found.append((message, suggest(self.missing[0], self.unexpected) if self.unexpected else ""))
        if self.unexpected:
            of_file = list(self.checkpoint.tensors)
            message = f"{self.graph.name} has no place for {_count(self.unexpected)} of it{as_named}"
            found.append((f"{message}: {grouped(self.unexpected, of_file)}", ""))
        for title, held in (("of another shape", self.misshapen), ("of whole numbers", self.mistyped)):
            if held:
                listed = [held[first] for first, *_ in _blocks(held, names).values()]
                message = f"it has {_count(held)} {title}: {grouped(held, names)}: {'; '.join(listed[:MAX_LISTED])}"
                found.append((message + ("; …" if len(held) > len(listed[:MAX_LISTED]) else ""), ""))
        problems = [Problem("checkpoint", message, place, "", advice) for message, advice in found]
        if problems:
            last = problems.pop()
            advice = "; ".join(filter(None, [last.remedy, remedy(self.allowed, [*names, *self.checkpoint.tensors])]))
            problems.append(replace(last, remedy=advice))
        return problems

    def fitted(self) -> Fitted:
        """The tensors; raises :class:`SpecError` with :meth:`problems` where not every one has its place."""
        if not self.exact:
            raise SpecError(self.problems())
        notes = []
        names = [entry.name for entry in entries(self.graph)]
        if self.dropped:
            notes.append(f"left out: {grouped(self.dropped, list(self.checkpoint.tensors))}")
        if self.left:
            notes.append(f"not in {self.checkpoint.path}, so left out: {grouped(self.left, names)}")
        return Fitted(self.graph, self.tensors, tuple(self.left), tuple(self.keys), tuple(notes))


@dataclass(frozen=True)
class Placed:
    """Where a tensor of the network is in a file: its key, and whether its two axes change places."""

    name: str
    key: str
    transposed: bool = False


def places_of(graph: Graph, backend: Backend | None) -> list[Placed]:
    """Where a backend has each tensor of the network; without one, where the portable checkpoint has it."""
    if backend is None:
        return [Placed(entry.name, entry.name) for entry in entries(graph)]
    return [Placed(item["name"], item["key"], item["transposed"]) for item in placement(graph, backend)]


def counters(graph: Graph, backend: Backend) -> list[str]:
    """The keys of the whole numbers that a backend's state has besides the network's tensors."""
    owners = {entry.name.removesuffix(f".{entry.slot}"): entry.op for entry in entries(graph)}
    return [f"{path}.{name}" for path, op in owners.items() for name in backend.facts(op).counters]


def _counters(graph: Graph) -> set[str]:
    return {key for backend in backends().values() for key in counters(graph, backend)}


def placed(fitted: Fitted, backend: Backend | None) -> dict[str, Tensor]:
    """The tensors as a backend's state has them; without one, as the portable checkpoint has them.

    They keep their types, but for a backend that loads only its networks' own.
    """
    found = {}
    for place in places_of(fitted.graph, backend):
        if place.name in fitted.tensors:
            tensor = fitted.tensors[place.name].named(place.key)
            tensor = tensor.transposed() if place.transposed else tensor
            wanted = backend.checkpoints.dtype if backend else ""
            found[place.key] = tensor.cast(wanted) if wanted not in ("", tensor.dtype) else tensor
    if backend is not None:
        left = {name.rpartition(".")[0] for name in fitted.left}
        for key in counters(fitted.graph, backend):
            if key.rpartition(".")[0] not in left:
                found[key] = of_array(key, np.zeros((), np.int64))
    return found


def grouped(names: Iterable[str], among: Sequence[str]) -> str:
    """Tensors by the blocks that hold them: 'enc1.* (14 of 14), logits.weight, logits.bias'."""
    depth = _depth(among)
    sizes = Counter(_block(name, depth) for name in among)
    parts = []
    for block, held in _blocks(names, among).items():
        several = [f"{block:.80}.* ({len(held)} of {sizes[block]})"]
        parts += several if len(held) > 2 else [f"{name:.80}" for name in held]
    return ", ".join(parts[:MAX_LISTED]) + (f" and {len(parts) - MAX_LISTED} more" if len(parts) > MAX_LISTED else "")


def _blocks(names: Iterable[str], among: Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    depth = _depth(among)
    for name in names:
        found.setdefault(_block(name, depth), []).append(name)
    return found


def _block(name: str, depth: int) -> str:
    return ".".join(name.split(".")[:depth])


def _depth(names: Sequence[str]) -> int:
    """How many parts of a name say its block: one, or more where all tensors stand in one block."""
    if not names:
        return 1
    first, last = (name.split(".") for name in (min(names), max(names)))
    shared = len([*takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))])
    return max(1, min(shared + 1, max(name.count(".") for name in names)))


def shown(shape: tuple[int, ...]) -> str:
    """A shape in words."""
    return "×".join(map(str, shape)) or "a single number"


def _count(names: Sized) -> str:
    return "1 tensor" if len(names) == 1 else f"{len(names):,} tensors"
