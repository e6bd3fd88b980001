"""The body of ``init_weights``: the spec's initialisers, where they are not the framework's own defaults."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

import jinja2

from segspec.algebra.symbols import Sym
from segspec.graph.instances import instances
from segspec.graph.model import Call, Graph, OpCall, SequenceCall
from segspec.graph.starts import rules, starts, starts_of_op
from segspec.ops import Slot
from segspec.ops.initializers import Initializer
from segspec.render.backend import Backend
from segspec.render.text import Code, docstring


def initialisation(graph: Graph, backend: Backend, environment: jinja2.Environment) -> dict[str, Any] | None:
    """What ``init_weights`` does to each class of layers; None where the framework's defaults are all right.

    The frameworks apply it to a class after its parts, so a block's branch can set again what the branch of
    an op has set.
    """
    filler = _Filler(backend, environment)
    branches: dict[tuple[str, ...], list[str]] = {}
    for op, calls in _layers(graph).items():
        own = backend.default_init.get(op, {})
        found = [_trainable(graph, call) for call in calls]
        chosen = {slot.name: (slot, init) for items in found for slot, init in items}
        everywhere = set.intersection(*({slot.name for slot, _ in items} for items in found))
        wanted = [(slot, init) for slot, init in chosen.values() if own.get(slot.name) != init]
        if lines := filler.lines(op, backend.instance, wanted, optional=(chosen.keys() - everywhere) | {"bias"}):
            branches.setdefault(tuple(lines), []).append(filler.layer(op))
    for module in graph.modules:
        lines = []
        for node in module.nodes:
            for path, call in _ops(node.call, f"{backend.instance}.{node.name}"):
                wanted = _of_node(graph, call)
                # Whether it is there is known, unless a parameter of the class says it.
                optional = {slot.name for slot, _ in wanted if isinstance(getattr(call.op, slot.name, None), Sym)}
                lines += filler.lines(call.op.name, path, wanted, optional)
        if lines:
            branches.setdefault(tuple(lines), []).append(module.name)
    if not branches:
        return None
    instance = f"isinstance({backend.instance}, {{}})"
    made = [_branch(instance.format(_types(types)), lines) for lines, types in branches.items()]
    return {"docstring": docstring([_summary(graph)], 4), "branches": made}


def _branch(condition: str, lines: Sequence[str]) -> dict[str, Any]:
    """A branch; one that is all under a condition of its own has the two in one."""
    first, *rest = lines
    if first.startswith("if ") and all(line.startswith("    ") for line in rest):
        condition = f"{condition} and {first.removeprefix('if ').removesuffix(':')}"
        lines = [line.removeprefix("    ") for line in rest]
    return {"condition": condition, "lines": lines}


class _Target(Code):
    """The expression of a tensor to fill; ``is_matrix`` if it is one of two axes in canonical layout, [out, in]."""

    is_matrix: bool


class _Filler:
    """Writes the lines that fill a layer's tensors."""

    def __init__(self, backend: Backend, environment: jinja2.Environment) -> None:
        self.backend = backend
        self.macros: Any = environment.get_template("init.jinja").module

    def layer(self, op: str) -> str:
        """The framework's class for an op."""
        return str(self.macros.layer(op))

    def lines(
        self, op: str, layer: str, wanted: Iterable[tuple[Slot, Initializer]], optional: Collection[str]
    ) -> list[str]:
        """The lines that fill slots of one layer, the ``optional`` ones where the layer has them."""
        facts = self.backend.facts(op)
        lines: list[str] = []
        for slot, init in wanted:
            target = _Target(layer if slot.itself else f"{layer}.{facts.state.get(slot.name, slot.name)}")
            target.is_matrix = len(slot.shape) == 2 and slot.name not in facts.transposed
            filling = str(getattr(self.macros, init.name)(init, target)).splitlines()
            if init.name == "fan_in_uniform" and not any(held.startswith("bound") for held in lines):
                weight = Code(layer if slot.itself else f"{layer}.weight")
                lines.insert(0, str(self.macros.bound(weight, "weight" in facts.transposed)))
            if slot.name in optional:
                filling = [f"if {target} is not None:", *(f"    {line}" for line in filling)]
            lines += filling
        return lines


def _layers(graph: Graph) -> dict[str, list[OpCall]]:
    """The calls of each op, but for tensors, which are no layers: their class's branch fills them."""
    found: dict[str, list[OpCall]] = {}
    for call in {id(instance.call): instance.call for instance in instances(graph)}.values():
        if isinstance(call, OpCall) and not call.op.is_tensor:
            found.setdefault(call.op.name, []).append(call)
    return found


def _trainable(graph: Graph, call: OpCall) -> list[tuple[Slot, Initializer]]:
    """An op's parameters, with how they start where its node says nothing."""
    chosen = starts_of_op(graph, call)
    return [(slot, chosen[slot.name]) for slot in call.op.slots(call.inputs) if slot.trainable]


def _of_node(graph: Graph, call: OpCall) -> list[tuple[Slot, Initializer]]:
    """What the branch of a node's class sets: what the node says, and tensors, unless at zeros, as they are made."""
    slots = {slot.name: slot for slot in call.op.slots(call.inputs)}
    said = {name: init for name, init in starts(graph, call).items() if init.name != "zeros"}
    return [(slots[name], init) for name, init in (said if call.op.is_tensor else dict(call.init)).items()]


def _ops(call: Call, path: str) -> Iterator[tuple[str, OpCall]]:
    if isinstance(call, OpCall):
        yield path, call
    elif isinstance(call, SequenceCall):
        for index, element in enumerate(call.elements):
            yield from _ops(element, f"{path}[{index}]")


def _types(types: list[str]) -> str:
    return types[0] if len(types) == 1 else f"({', '.join(types)})"


def _summary(graph: Graph) -> str:
    names = {init.name for slots in rules(graph).values() for init in slots.values()}
    if names & {"kaiming_normal", "kaiming_uniform"}:
        return "Start as He et al. (2015) propose for layers before a ReLU."
    if names & {"xavier_normal", "xavier_uniform"}:
        return "Start as Glorot and Bengio (2010) propose."
    return "Start as the spec says." if names else "Start from the same distributions in every framework."
