"""What one backend's pass at one size consists of, as plain data: its steps, and what the backend declares of them.

It goes into recordings, so that two of them can be compared where neither the spec nor a framework is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from segspec.algebra.symbols import substitute
from segspec.graph.model import Graph, OpCall
from segspec.ops.base import product
from segspec.parity.plan import Size, Step, steps
from segspec.render import Backend
from segspec.render.backend import floors


@dataclass(frozen=True)
class Part:
    """One step without its graph: see :class:`~segspec.parity.plan.Step`."""

    path: str
    key: str
    inner: str
    module: str
    node: str
    what: str
    sources: tuple[str, ...]
    arguments: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    depth: int

    @property
    def names(self) -> tuple[str, ...]:
        """The names of what it returns in a recording."""
        return tuple(f"{self.key}:{index}" for index in range(len(self.shapes)))


@dataclass(frozen=True)
class Relation:
    """A statistic's value after an update: of the canonical value and of the value before, so much each."""

    of_value: float
    of_before: float
    reason: str


@dataclass(frozen=True)
class Scene:
    """One pass: its parts in order; by path what is coarse in float64, in its gradient, in float32, and why.

    ``relations`` are those of the statistics, each by its name in a recording.
    """

    parts: tuple[Part, ...]
    floors: Mapping[str, tuple[float, str]]
    gradient_floors: Mapping[str, tuple[float, str]]
    float32_floors: Mapping[str, tuple[float, str]]
    relations: Mapping[str, Relation]

    @staticmethod
    def read(data: Mapping[str, Any]) -> Scene:
        """A scene from the plain data that ``dataclasses.asdict`` makes of one and JSON keeps."""
        parts = tuple(
            Part(
                **{
                    **part,
                    "sources": tuple(part["sources"]),
                    "arguments": tuple(part["arguments"]),
                    "shapes": tuple(map(tuple, part["shapes"])),
                }
            )
            for part in data["parts"]
        )
        coarse = {
            name: {path: (float(limit), str(reason)) for path, (limit, reason) in data[name].items()}
            for name in ("floors", "gradient_floors", "float32_floors")
        }
        relations = {name: Relation(**relation) for name, relation in data["relations"].items()}
        return Scene(parts, relations=relations, **coarse)


def scene(graph: Graph, backend: Backend, size: Size, batch: int, *, train: bool) -> Scene:
    """One pass of a graph in one backend."""
    found = steps(graph, size, batch, train=train)
    forward = _coarse(graph, backend, size, batch, training=train)
    both = _coarse(graph, backend, size, batch, training=train, gradients=True)
    single = _coarse(graph, backend, size, batch, training=train, single=True)
    relations = dict(item for step in found for item in _relations(step, backend)) if train else {}
    fields = ("path", "key", "inner", "module", "node", "what", "sources", "arguments", "shapes", "depth")
    parts = tuple(Part(**{name: getattr(step, name) for name in fields}) for step in found)
    return Scene(parts, forward, both, single, relations)


def _coarse(graph: Graph, backend: Backend, size: Size, batch: int, **options: bool) -> dict[str, tuple[float, str]]:
    found: dict[str, tuple[float, str]] = {}
    for item in floors(graph, [backend], *size, batch, **options):
        limit, reason = found.get(item.path, (0.0, item.reason))
        found[item.path] = (limit + item.limit, reason)
    return found


def _relations(step: Step, backend: Backend) -> list[tuple[str, Relation]]:
    """The declared relations of one call's statistics, by their names in a recording."""
    call, values = step.instance.call, step.instance.values
    rules = backend.facts(call.op.name).divergences if isinstance(call, OpCall) else {}
    if not (rules and isinstance(call, OpCall)):
        return []
    found = []
    for slot in call.op.slots(call.inputs):
        rule = rules.get(slot.name)
        if rule and not slot.trainable:
            n, _, *sizes = step.instance.inputs()[0]
            attributes = {name: substitute(value, values) for name, value in call.op.attributes().items()}
            of_value, of_before = rule.coefficients(**attributes, count=product((n, *sizes)))
            found.append((slot.name, Relation(of_value, of_before, f"{backend.title}: {rule.reason}")))
    owner, again, count = step.inner.partition("#")
    return [(f"{owner}.{name}{again}{count}", relation) for name, relation in found]
