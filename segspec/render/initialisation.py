"""The body of ``init_weights``: the spec's initialisers, where they are not the framework's own defaults."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jinja2

from segspec.graph.instances import instances
from segspec.graph.model import Call, Graph, OpCall, SequenceCall
from segspec.ops import OPS
from segspec.ops.initializers import Initializer
from segspec.render.backend import Backend
from segspec.render.text import Code, docstring
from segspec.spec.models import Spec


def initialisation(graph: Graph, backend: Backend, environment: jinja2.Environment) -> dict[str, Any] | None:
    """What ``init_weights`` does to each class of layers; None where the framework's defaults are all right.

    The frameworks apply it to a class after its parts, so a block's branch can set again what the branch of
    an op has set.
    """
    filler = _Filler(backend, environment)
    rules = graph.definition.block.init if isinstance(graph.definition.block, Spec) else {}
    branches: dict[tuple[str, ...], list[str]] = {}
    for op, defaults in _defaults(graph).items():
        if OPS[op].is_tensor:
            continue  # no layer of its own: its class's branch fills it
        chosen = {slot: rules.get(op, {}).get(slot, default) for slot, default in defaults.items()}
        own = backend.default_init.get(op, {})
        wanted = {slot: init for slot, init in chosen.items() if own.get(slot) != init}
        if lines := filler.lines(op, backend.instance, wanted):
            branches.setdefault(tuple(lines), []).append(filler.layer(op))
    for module in graph.modules:
        lines = []
        for node in module.nodes:
            for path, call in _ops(node.call, f"{backend.instance}.{node.name}"):
                wanted = dict(call.init)
                if call.op.is_tensor:
                    # Made as zeros, so that these need not be set.
                    slots = {slot.name: slot.init for slot in call.op.slots(())}
                    wanted = {**slots, **rules.get(call.op.name, {}), **wanted}
                    wanted = {name: init for name, init in wanted.items() if init.name != "zeros"}
                lines += filler.lines(call.op.name, path, wanted)
        if lines:
            branches.setdefault(tuple(lines), []).append(module.name)
    if not branches:
        return None
    made = [{"types": _types(types), "lines": lines} for lines, types in branches.items()]
    return {"docstring": docstring([_summary(rules)], 4), "branches": made}


class _Filler:
    """Writes the lines that fill a layer's tensors."""

    def __init__(self, backend: Backend, environment: jinja2.Environment) -> None:
        self.backend = backend
        self.macros: Any = environment.get_template("init.jinja").module

    def layer(self, op: str) -> str:
        """The framework's class for an op."""
        return str(self.macros.layer(op))

    def lines(self, op: str, layer: str, wanted: dict[str, Initializer]) -> list[str]:
        """The lines that fill the slots of one layer."""
        lines = []
        if any(init.name == "fan_in_uniform" for init in wanted.values()):
            lines.append(str(self.macros.bound(op, f"{layer}.weight")))
        for slot, init in wanted.items():
            tensor = layer if OPS[op].is_tensor else f"{layer}.{self.backend.facts(op).state.get(slot, slot)}"
            line = str(getattr(self.macros, init.name)(init, Code(tensor)))
            lines += [f"if {tensor} is not None:", f"    {line}"] if slot == "bias" else [line]
        return lines


def _defaults(graph: Graph) -> dict[str, dict[str, Initializer]]:
    """The ops of a network that have parameters, with how these start where nothing is said."""
    found: dict[str, dict[str, Initializer]] = {}
    for call in {id(instance.call): instance.call for instance in instances(graph)}.values():
        if isinstance(call, OpCall):
            for slot in call.op.slots(call.inputs):
                if slot.trainable:
                    found.setdefault(call.op.name, {}).setdefault(slot.name, slot.init)
    return found


def _ops(call: Call, path: str) -> Iterator[tuple[str, OpCall]]:
    if isinstance(call, OpCall):
        yield path, call
    elif isinstance(call, SequenceCall):
        for index, element in enumerate(call.elements):
            yield from _ops(element, f"{path}[{index}]")


def _types(types: list[str]) -> str:
    return types[0] if len(types) == 1 else f"({', '.join(types)})"


def _summary(rules: dict[str, dict[str, Initializer]]) -> str:
    names = {init.name for slots in rules.values() for init in slots.values()}
    if names & {"kaiming_normal", "kaiming_uniform"}:
        return "Start as He et al. (2015) propose for layers before a ReLU."
    if names & {"xavier_normal", "xavier_uniform"}:
        return "Start as Glorot and Bengio (2010) propose."
    return "Start as the spec says." if rules else "Start from the same distributions in every framework."
