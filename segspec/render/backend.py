"""What is known of a backend without importing it: ``templates/<backend>/backend.yaml``.

The file says, op by op, where the framework departs from the canonical meaning: attributes by another
name or complement, parameters by another name or layout, ``counters`` that its state holds besides, what it cannot
compute (``refuse``), where its float64 is not float64 (``floors``, and ``gradient_floors`` where only the gradient's
is not) or its float32 is coarser than its rounding (``float32_floors``), and what its training does otherwise
(``divergences``).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, PrivateAttr, ValidationError

from segspec.algebra.expressions import FUNCTIONS, ExpressionError, Scope
from segspec.algebra.symbols import Number, Sym, Symbol, Undecided, concrete, number, substitute
from segspec.errors import Place, Problem, fail, suggest
from segspec.graph.gradients import without_gradient
from segspec.graph.instances import Instance, at_size, instances, settled
from segspec.graph.model import Graph, OpCall
from segspec.ops.base import product
from segspec.spec import document, zoo
from segspec.spec.basics import AnyValue, Text
from segspec.spec.models import Init


class _Facts(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


class Refusal(_Facts):
    """Attributes, or attributes at certain sizes, that the backend cannot compute as they are meant."""

    when: AnyValue
    reason: Text
    remedy: Text = ""


class Floor(_Facts):
    """Where the backend computes part of an op in float32, and how large the relative error then is."""

    when: AnyValue
    limit: AnyValue
    reason: Text


class Divergence(_Facts):
    """A statistic that the backend's training updates otherwise.

    ``relation`` gives the backend's value exactly, from the canonical ``value``, the value ``before`` and
    the ``count`` of averaged elements a channel, besides the op's attributes. It is linear in the two values.
    """

    relation: AnyValue
    reason: Text

    def applies(self, **attributes: Any) -> bool:
        """Whether the backend's value is another than the canonical one with these attributes of the op."""
        return any(self.coefficients(**attributes, count=count) != (1.0, 0.0) for count in (2, 3))

    def coefficients(self, **names: Any) -> tuple[float, float]:
        """How much of the canonical value and of the value before make the backend's: it is linear in them."""
        parts = {name: Symbol(name, whole=False) for name in ("value", "before")}
        symbolic = {name: number(part) for name, part in parts.items()}
        form = self.relation.evaluate(Scope({**names, **symbolic}, functions=FUNCTIONS_OF_FACTS))
        of_value, of_before = (
            float(concrete(substitute(form, {part: int(part is wanted) for part in parts.values()})))
            for wanted in parts.values()
        )
        return of_value, of_before


class OpFacts(_Facts):
    """One op in one backend."""

    let: dict[str, AnyValue] = {}
    state: dict[str, str] = {}
    transposed: list[str] = []
    counters: list[str] = []
    refuse: list[Refusal] = []
    floors: list[Floor] = []
    gradient_floors: list[Floor] = []
    float32_floors: list[Floor] = []
    divergences: dict[str, Divergence] = {}


class Checkpoints(_Facts):
    """The files in which the framework keeps weights.

    ``format`` is one of those that segspec reads and writes by itself; ``load`` and ``save`` are the framework's own
    lines for a network ``net`` and a file, ``"{file}"``. ``slices`` is the key of a table of large arrays' slices;
    ``dtype`` the one type that its loader takes, if it takes no other.
    """

    format: Literal["archive", "arrays"]
    suffixes: list[str]
    load: str
    save: str
    slices: str = ""
    dtype: Literal["", "F32"] = ""


_ORDINARY = OpFacts()


class Backend(_Facts):
    """One backend: its name is its folder's."""

    name: str
    folder: Path
    title: Text
    extra: str
    module: str
    instance: str
    reference: bool = False
    reserved: list[str]
    helpers: list[str]
    checkpoints: Checkpoints
    ops: dict[str, OpFacts] = {}
    default_init: Init = {}
    exact_layers: dict[str, str] = {}

    # What the macros wrote of a call with these inputs: networks that share a block share its calls.
    _written: dict[tuple[OpCall, tuple[str, ...]], Any] = PrivateAttr(default_factory=dict)
    _exact: bool = PrivateAttr(default=False)

    @property
    def written(self) -> dict[tuple[OpCall, tuple[str, ...]], Any]:
        """What is written already."""
        return self._written

    def facts(self, op: str) -> OpFacts:
        """What is particular about an op; empty where nothing is."""
        return self.ops.get(op, _ORDINARY)

    @property
    def exact_running_stats(self) -> bool:
        """Whether ``exact_layers`` stand for the layers whose training updates statistics otherwise."""
        return self._exact

    def with_exact_running_stats(self) -> Backend:
        """The same backend with ``exact_layers`` in use: of the ops that have one, nothing diverges."""
        ops = {
            op: facts.model_copy(update={"divergences": {}}) if op in self.exact_layers else facts
            for op, facts in self.ops.items()
        }
        made = self.model_copy(update={"ops": ops})
        made._exact = True
        made._written = {}  # a copy shares it, and the same calls are written otherwise
        return made


@lru_cache(maxsize=1)
def backends() -> dict[str, Backend]:
    """Every backend that has templates, by name, the reference first: its semantics are the canonical ones."""
    found = {path.parent.name: _read(path) for path in sorted(zoo.TEMPLATES.glob("*/backend.yaml"))}
    return dict(sorted(found.items(), key=lambda item: not item[1].reference))


def backend(name: str) -> Backend:
    """The backend of this name."""
    if name not in backends():
        raise fail(
            "unknown-backend",
            f"there is no backend '{name[:80]}'",
            remedy=suggest(name, backends(), what="backends"),
        )
    return backends()[name]


def _read(path: Path) -> Backend:
    read = document.read(path, f"templates/{path.parent.name}/{path.name}")
    try:
        helpers = re.findall(r"{% macro ([^\W_]\w*)\(", (path.parent / "helpers.jinja").read_text(encoding="utf-8"))
        own = {"name": path.parent.name, "folder": path.parent, "helpers": helpers}
        return Backend.model_validate({**read.data, **own})
    except ValidationError as error:
        raise fail("schema", str(error), Place(read.name)) from None


# --- a graph under a backend's facts -----------------------------------------------------------------


def problems(graph: Graph, chosen: list[Backend]) -> list[Problem]:
    """What the backends cannot take of a graph at any size: names that they use, attributes they refuse."""
    found = list(_reserved(graph, chosen))
    for held in chosen:
        refusing = {name for name, facts in held.ops.items() if facts.refuse}
        for instance in instances(graph):
            if isinstance(instance.call, OpCall) and instance.call.op.name in refusing:
                learned = instance.path not in without_gradient(graph)
                found += [_refused(item, instance, held) for item in refusals(instance, held, learned=learned)]
        if held.exact_running_stats:
            found += [_inexact(item) for item in diverging(graph, held)]
    return list({(item.place, item.message): item for item in found}.values())


def size_refusal(graph: Graph, chosen: list[Backend], height: int, width: int, batch: int) -> Problem | None:
    """What the backends cannot compute at one input size, though the network itself can."""
    found = {instance.alike: instance for instance in instances(graph, at_size(graph, height, width, batch))}
    for held in chosen:
        for instance in found.values():
            for refusal in refusals(instance, held):
                return _refused(refusal, instance, held)
    return None


@dataclass(frozen=True)
class Diverging:
    """A statistic of an instance that one backend's training updates otherwise; ``attributes`` are its op's."""

    instance: Instance
    backend: str
    slot: str
    attributes: Mapping[str, Any]
    rule: Divergence


def diverging(graph: Graph, held: Backend, values: Mapping[Symbol, Number] | None = None) -> Iterator[Diverging]:
    """The statistics that training updates otherwise than the canonical rule says, in the order of execution.

    ``values`` are those of the root's symbols, as for :func:`~segspec.graph.instances.instances`.
    """
    for instance in instances(graph, values):
        if isinstance(instance.call, OpCall) and not instance.shared:
            rules = held.facts(instance.call.op.name).divergences
            attributes = settled(instance.call.op, instance.values).attributes() if rules else {}
            for slot, rule in rules.items():
                if rule.applies(**attributes):
                    yield Diverging(instance, held.title, slot, attributes, rule)


def _inexact(found: Diverging) -> Problem:
    assert isinstance(found.instance.call, OpCall)
    message = f"{found.backend} has no exact layer for {found.instance.call.op.name}: {found.rule.reason}"
    remedy = "leave --exact-running-stats out: verify applies the exact relation"
    return Problem("refused", message, found.instance.node.place, found.instance.path, remedy)


@dataclass(frozen=True)
class Coarse:
    """An instance whose float64 (or float32) is coarser in one backend: how coarse, and why."""

    path: str
    op: str
    backend: str
    limit: float
    reason: str


def floors(
    graph: Graph,
    chosen: list[Backend],
    height: int,
    width: int,
    batch: int,
    *,
    training: bool,
    gradients: bool = False,
    single: bool = False,
) -> list[Coarse]:
    """The ops whose float64 is coarser at this size and in this mode; also those of which only gradients are.

    With ``single``, the ops whose float32 is coarser than its rounding.
    """
    values = at_size(graph, height, width, batch)
    found = []
    for held in chosen:
        known: dict[tuple[int, int], list[tuple[float, str]]] = {}
        for instance in instances(graph, values):
            if isinstance(instance.call, OpCall) and (training or not instance.training):
                op = instance.call.op
                facts = held.facts(op.name)
                declared = facts.float32_floors if single else facts.floors
                declared = declared + (facts.gradient_floors if gradients else [])
                if not declared:
                    continue
                if instance.alike not in known:
                    known[instance.alike] = [
                        (float(floor.limit.evaluate(_scope(instance, training=training))), floor.reason)
                        for floor in declared
                        if _true(floor.when, instance, training=training)
                    ]
                found += [Coarse(instance.path, op.name, held.title, *coarse) for coarse in known[instance.alike]]
    return found


def refusals(instance: Instance, held: Backend, *, learned: bool = True) -> list[Refusal]:
    """Why a backend cannot compute an instance; ``learned`` says whether what it reads depends on a weight."""
    declared = held.facts(instance.call.op.name).refuse if isinstance(instance.call, OpCall) else []
    return [item for item in declared if _true(item.when, instance, learned=learned)]


def _refused(refusal: Refusal, instance: Instance, held: Backend) -> Problem:
    assert isinstance(instance.call, OpCall)
    message = f"{held.title} cannot compute this {instance.call.op.name}: {refusal.reason}"
    return Problem("refused", message, instance.node.place, instance.path, refusal.remedy)


def _true(condition: Any, instance: Instance, *, training: bool = False, learned: bool = True) -> bool:
    """Whether a condition is sure to hold for an instance, whatever the size where that is open."""
    try:
        return bool(condition.evaluate(_scope(instance, training=training, learned=learned)))
    except Undecided:
        return False
    except ExpressionError as error:
        raise fail("expression", f"a condition of the backend's: {error}") from None


def _scope(instance: Instance, *, training: bool = False, learned: bool = True) -> Scope:
    """An op's attributes and sizes by name, as the conditions of ``backend.yaml`` see them.

    ``learned`` says whether what it reads depends on a weight, which is known where attributes are refused.
    """
    assert isinstance(instance.call, OpCall)
    shapes = instance.inputs()
    before = shapes[0] if shapes else instance.shapes()[0]
    names: dict[str, Any] = {"training": training, "learned": learned, "count": product((*before[:1], *before[2:]))}
    for name, value in instance.call.op.attributes().items():
        if isinstance(value, tuple):
            names[name] = [substitute(item, instance.values) if isinstance(item, Sym) else item for item in value]
        else:
            names[name] = value if value is None or isinstance(value, str) else substitute(value, instance.values)
    for prefix, shape in (("in", before), ("out", instance.shapes()[0])):
        names[f"{prefix}_size"] = list(shape[2:])
    return Scope(names, functions=FUNCTIONS_OF_FACTS)


def _dyadic(over: Number, under: Number) -> bool:
    """Whether a ratio of sizes is exact in binary floating point."""
    top, bottom = concrete(over), concrete(under)
    return bottom <= 0 or (Fraction(top, bottom).denominator.bit_count() == 1)  # type: ignore[arg-type]


def _reserved(graph: Graph, chosen: list[Backend]) -> Iterator[Problem]:
    """Names that the code of a backend has for itself, or that two things would have in one class."""
    classes = {module.name for module in graph.modules}
    for module in graph.modules:
        definition = module.definition
        places = {item.name.text: item.path for item in definition.block.inputs}
        named = [(node.name, node.place, "node") for node in module.nodes]
        for item in module.inputs:
            named.append((item.name, definition.place(*places.get(item.name, ("inputs",)), key=True), "input"))
        for argument in module.arguments:
            place = definition.place("params", argument.name, key=True)
            named.append((argument.name, place, "parameter"))
            if argument.name in classes:
                message = f"a class is called '{argument.name}' too, which the parameter would hide"
                yield Problem("name", message, place, "", "choose another name")
        named.append((module.name, definition.place("class_name", key=True), "class"))
        for name, place, kind in named:
            titles = [
                held.title for held in chosen if name in held.reserved or (kind != "node" and name in held.helpers)
            ]
            if titles:
                has = "has" if len(titles) == 1 else "each have"
                message = f"{' and '.join(titles)} {has} a '{name}', so no {kind} can be called that"
                yield Problem("name", message, place, "", "choose another name")


def _float32(value: float) -> float:
    """The nearest float32."""
    rounded: float = struct.unpack("f", struct.pack("f", value))[0]
    return rounded


def _known(value: Number) -> bool:
    """Whether a size is the same at every size of the image."""
    return not isinstance(value, Sym)


FUNCTIONS_OF_FACTS: dict[str, Callable[..., Any]] = {
    **FUNCTIONS,
    "dyadic": _dyadic,
    "float32": _float32,
    "known": _known,
}
"""What the expressions of ``backend.yaml`` may call."""
