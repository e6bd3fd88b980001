"""A checkpoint's rules at work on a graph: from the published name of a tensor to the path that it has here."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from segspec.algebra.expressions import (
    ExpressionError,
    Pattern,
    Scope,
    Template,
    UnknownName,
    iterate,
    truth,
    unpack,
)
from segspec.algebra.symbols import Undecided, substitute
from segspec.errors import Place, Problem, fail, suggest
from segspec.graph.instances import instances
from segspec.graph.model import BlockCall, Graph
from segspec.spec.checkpoints import AnyRule, Checkpoint, Delegate, RuleCondition, RuleLoop
from segspec.spec.load import Definition
from segspec.spec.models import Spec


@dataclass
class Rule:
    """A rule as it was written, and whether any tensor met it; one in a loop stands for each turn by itself."""

    text: str
    place: Place
    pattern: re.Pattern[str]
    own: Callable[[Mapping[str, int]], str]
    met: bool = False


class Naming:
    """A checkpoint's rules for what the published network has below ``foreign`` and the graph below ``path``."""

    def __init__(
        self,
        graph: Graph,
        definition: Definition,
        name: str,
        parameters: Mapping[str, Any],
        foreign: str = "",
        path: str = "",
    ) -> None:
        assert isinstance(definition.block, Spec)
        self.graph, self.definition, self.name = graph, definition, name
        self.foreign, self.path = foreign, path
        self.checkpoint: Checkpoint = definition.block.checkpoints[name]
        self.rules: list[Rule] = []
        self.within: list[tuple[Rule, Naming]] = []
        self.words: set[str] = set()
        """Those that a name had."""
        scope = Scope(parameters)
        for key, value in definition.block.let.items():
            try:
                scope = scope.bind({key: value.evaluate(scope)})
            except (ExpressionError, Undecided):
                continue  # it is of no use to rules: it speaks of channels
        for key, value in self.checkpoint.let.items():
            scope = scope.bind({key: self._guard(partial(value.evaluate, scope), "let", key)})
        self._expand(self.checkpoint.rules, ("rules",), scope)
        self.scope = scope
        self.ignored = [
            self._compiled(pattern, scope, "ignore", index) for index, pattern in enumerate(self.checkpoint.ignore)
        ]

    def rename(self, key: str) -> tuple[str, list[Rule]]:
        """What a tensor is called here, and the rules that it met: none where both names are the same."""
        met: list[Rule] = []
        own = ""
        for rule, naming in self.within:
            if below(key, naming.foreign):
                own, inner = naming.rename(key)
                met += inner or [rule]
                rule.met = True
        words = self.checkpoint.words
        parts = key[len(self.foreign) :].lstrip(".").split(".")
        if not met:
            self.words |= words.keys() & set(parts)
        rest = ".".join(words.get(part, part) for part in parts)
        for rule in self.rules:
            if found := rule.pattern.match(rest):
                rule.met = True
                slots = {name: int(number) for name, number in found.groupdict().items()}
                own = joined(self.path, rule.own(slots), rest[found.end() :].lstrip("."))
                met.append(rule)
        return own if met else joined(self.path, rest), met

    def ignores(self, key: str) -> bool:
        """Whether the checkpoint says that the network has no use for a tensor."""
        rest = key[len(self.foreign) :].lstrip(".")
        return any(pattern.match(rest) for pattern in self.ignored) or any(
            naming.ignores(key) for _, naming in self.within if below(key, naming.foreign)
        )

    def paths(self, part: str) -> Iterator[tuple[str, Place]]:
        """The paths that ``lacks``, ``zeros`` or ``bgr`` lists, those of the blocks inside included."""
        for index, word in enumerate(getattr(self.checkpoint, part)):
            path = self._guard(partial(word.fill, self.scope), part, index)
            yield joined(self.path, path), self._place(part, index)
        for _, naming in self.within:
            yield from naming.paths(part)

    def unmet(self) -> Iterator[Problem]:
        """The rules, and the words, that no tensor met."""
        places: set[Place] = set()
        for rule in [*self.rules, *(rule for rule, _ in self.within)]:
            if not rule.met and rule.place not in places:
                places.add(rule.place)
                message = f"no tensor of the file is called '{rule.text}'"
                yield Problem(
                    "rule", message, rule.place, "", "correct it, or put it under the 'if' that it depends on"
                )
        for word in self.checkpoint.words.keys() - self.words:
            message = f"no name in the file has the part '{word}'"
            yield Problem("rule", message, self._place("words", word, key=True), "", "correct it or remove it")
        for _, naming in self.within:
            yield from naming.unmet()

    def _expand(self, rules: Iterable[AnyRule], path: tuple[str | int, ...], scope: Scope) -> None:
        """Unroll loops and conditions, and make each rule ready for this graph."""
        for rule in rules:
            here = (*path, rule.key)
            if isinstance(rule, RuleLoop):
                for item in self._guard(partial(_items, rule, scope), *here):
                    names = self._guard(partial(unpack, rule.loop.target, item), *here)
                    self._expand(rule.body, here, scope.bind(names))
            elif isinstance(rule, RuleCondition):
                if self._guard(partial(_holds, rule, scope), *here):
                    self._expand(rule.body, here, scope)
            else:
                self._add(rule, here, scope)

    def _add(self, rule: Any, here: tuple[str | int, ...], scope: Scope) -> None:
        pattern = self._compiled(rule.foreign, scope, *here)
        text = rule.foreign.fill(scope)
        made = Rule(text, self._place(*here, key=True), pattern, lambda slots: "")
        if not isinstance(rule, Delegate):
            made.own = partial(self._own, rule.own, scope, here)
            self.rules.append(made)
            return
        path = joined(self.path, self._guard(partial(rule.within.node.fill, scope), *here))
        definition, parameters = block_at(self.graph, path, self._place(*here, "node"))
        known = getattr(definition.block, "checkpoints", {})
        wanted = rule.within.checkpoint
        if wanted not in known:
            message = f"'{definition.name}' has no checkpoint '{wanted}'"
            place = self._place(*here, "checkpoint")
            raise fail("unknown-checkpoint", message, place, remedy=suggest(wanted, known, what="checkpoints"))
        self.within.append((made, Naming(self.graph, definition, wanted, parameters, joined(self.foreign, text), path)))

    def _own(self, template: Template, scope: Scope, here: tuple[str | int, ...], slots: Mapping[str, int]) -> str:
        return str(self._guard(partial(template.fill, scope.bind(slots)), *here))

    def _compiled(self, pattern: Pattern, scope: Scope, *path: str | int) -> re.Pattern[str]:
        return re.compile(self._guard(partial(pattern.regex, scope), *path) + _END)

    def _place(self, *path: str | int, key: bool = False) -> Place:
        return self.definition.place("checkpoints", self.name, *path, key=key)

    def _guard(self, run: Callable[[], Any], *path: str | int) -> Any:
        """Run an evaluation and give what can go wrong in it its place."""
        place = self._place(*path)
        try:
            return run()
        except UnknownName as error:
            remedy = suggest(error.name, error.known, what="names here")
            raise fail(error.code, str(error), place, remedy=remedy) from None
        except ExpressionError as error:
            raise fail(error.code, str(error), place, remedy=error.remedy) from None
        except Undecided:
            raise fail("expression", "this depends on what the network's parameters leave open", place) from None


def _items(rule: RuleLoop, scope: Scope) -> list[Any]:
    return iterate(rule.loop.items.evaluate(scope))


def _holds(rule: RuleCondition, scope: Scope) -> bool:
    return truth(rule.test.evaluate(scope), scope)


_END = r"(?=\.|\Z)"
"""What follows a match: a rule is of whole parts of a name."""


def block_at(graph: Graph, path: str, place: Place) -> tuple[Definition, dict[str, Any]]:
    """The block that stands at a path, and what its parameters are there."""
    found = next((item for item in instances(graph) if item.path == path and isinstance(item.call, BlockCall)), None)
    if found is None:
        known = [item.path for item in instances(graph) if isinstance(item.call, BlockCall)]
        raise fail("rule", f"'{path}' is no block of the network", place, remedy=suggest(path, known))
    assert isinstance(found.call, BlockCall)
    module = found.call.module
    parameters = {name: value for name, value in module.choices if name in module.definition.block.params}
    for symbol, value in found.call.values.items():
        if not symbol.size:
            parameters[symbol.name] = substitute(value, found.values)
    return module.definition, parameters


def joined(*parts: str) -> str:
    """A path of those of its parts that are not empty."""
    return ".".join(part for part in parts if part)


def below(path: str, holder: str) -> bool:
    """Whether a path is ``holder`` or lies in it; every path lies in the empty one."""
    return not holder or path == holder or path.startswith(f"{holder}.")
