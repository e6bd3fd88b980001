"""Forms are exact: what is inferred for every H and W at once is what counting with numbers gives at each."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from segspec.algebra.expressions import Expression, ExpressionError, Scope
from segspec.algebra.symbols import Number, Symbol, Undecided, bounds, compare, evaluate, number, show, substitute
from segspec.errors import SpecError
from segspec.graph.elaborate import elaborate
from segspec.graph.instances import at_size, resolve
from segspec.graph.model import Graph, OpCall
from segspec.graph.sizes import size_problem, size_rule
from segspec.ops import Shape
from segspec.ops.combination import Add
from segspec.spec.load import load

QUICK = settings(
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much],
)

# --- expressions --------------------------------------------------------------------------------------

A, B = Symbol("a"), Symbol("b")
PYTHON = {"__builtins__": {}, "ceil": math.ceil, "max": max, "min": min}


def _larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    two = st.tuples(inner, inner)
    divisor = st.sampled_from("2347")
    return st.one_of(
        two.map(lambda t: f"({t[0]} + {t[1]})"),
        two.map(lambda t: f"({t[0]} - {t[1]})"),
        two.map(lambda t: f"({t[0]} * {t[1]})"),
        st.tuples(inner, divisor).map(lambda t: f"({t[0]} // {t[1]})"),
        st.tuples(inner, divisor).map(lambda t: f"({t[0]} % {t[1]})"),
        st.tuples(inner, divisor).map(lambda t: f"ceil({t[0]} / {t[1]})"),
        two.map(lambda t: f"({t[0]} // max(1, {t[1]}))"),
        two.map(lambda t: f"max({t[0]}, {t[1]})"),
        two.map(lambda t: f"min({t[0]}, {t[1]})"),
        inner.map(lambda t: f"(-{t})"),
        inner.map(lambda t: f"({t})**2"),
    )


EXPRESSIONS = st.recursive(st.sampled_from(["a", "b", "1", "2", "3", "8"]), _larger, max_leaves=8)
VALUES = st.integers(1, 40)


def _value(text: str, a: int, b: int) -> Any:
    """What Python makes of an expression, its divisions exact."""
    for divisor in "2347":
        text = text.replace(f" / {divisor})", f" * q{divisor})")
    exact = {f"q{divisor}": Fraction(1, int(divisor)) for divisor in "2347"}
    return eval(text, {**PYTHON, **exact, "a": a, "b": b})


@settings(QUICK, max_examples=400)
@given(EXPRESSIONS, VALUES, VALUES)
def test_expressions(text: str, a: int, b: int) -> None:
    try:
        form: Number = Expression(text).evaluate(Scope({"a": number(A), "b": number(B)}))
    except (ExpressionError, Undecided):
        return
    wanted = _value(text, a, b)
    assert substitute(form, {A: a, B: b}) == wanted
    assert evaluate(form, {A: a, B: b}) == wanted
    printed = eval(show(form), {**PYTHON, "a": a, "b": b})  # generated code computes the same
    assert isinstance(printed, int)
    assert printed == wanted
    low, high = bounds(form)
    assert low <= wanted <= high


@settings(QUICK, max_examples=300)
@given(EXPRESSIONS, EXPRESSIONS, st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), VALUES, VALUES)
def test_decisions_hold_at_every_value(left: str, right: str, operator: str, a: int, b: int) -> None:
    scope = Scope({"a": number(A), "b": number(B)})
    try:
        answer = compare(operator, Expression(left).evaluate(scope), Expression(right).evaluate(scope))
    except (ExpressionError, Undecided):
        return
    values = {"x": _value(left, a, b), "y": _value(right, a, b)}
    assert eval(f"x {operator} y", {"__builtins__": {}}, values) is answer


# --- networks -----------------------------------------------------------------------------------------

SMALL = st.integers(1, 3)
NODES = st.one_of(
    st.fixed_dictionaries(
        {
            "op": st.just("conv2d"),
            "out_channels": st.just(4),
            "kernel_size": st.integers(1, 4),
            "stride": SMALL,
            "padding": st.integers(0, 2),
            "dilation": st.sampled_from([1, 1, 2, 5]),
        }
    ),
    st.fixed_dictionaries(
        {
            "op": st.just("max_pool2d"),
            "kernel_size": st.integers(2, 3),
            "stride": SMALL,
            "padding": st.integers(0, 1),
            "ceil_mode": st.booleans(),
        }
    ),
    st.fixed_dictionaries(
        {
            "op": st.just("conv_transpose2d"),
            "out_channels": st.just(4),
            "kernel_size": st.integers(1, 4),
            "stride": st.just(2),
            "padding": st.integers(0, 2),
            "output_padding": st.integers(0, 1),
        }
    ),
    st.fixed_dictionaries(
        {"op": st.just("resize"), "scale": st.sampled_from([0.5, 1.5, 2, 3, [2, 1]]), "mode": st.just("nearest")}
    ),
    st.fixed_dictionaries({"op": st.just("resize"), "like": st.just("NODE"), "mode": st.just("nearest")}),
    st.fixed_dictionaries({"op": st.just("pad"), "sides": st.integers(0, 2), "mode": st.just("reflect")}),
    st.fixed_dictionaries({"op": st.just("crop"), "sides": st.integers(0, 2)}),
    st.fixed_dictionaries({"op": st.just("crop"), "like": st.just("NODE")}),
    st.fixed_dictionaries({"op": st.just("pad_to"), "like": st.just("NODE")}),
    st.fixed_dictionaries({"op": st.just("adaptive_avg_pool2d"), "output_size": st.integers(1, 5)}),
    st.fixed_dictionaries({"op": st.just("add"), "other": st.just("NODE")}),
    st.fixed_dictionaries({"op": st.just("concat"), "other": st.just("NODE"), "dim": st.integers(2, 3)}),
)


@st.composite
def networks(draw: st.DrawFn) -> dict[str, Any]:
    """A network of a few nodes, each of which reads any node before it."""
    nodes: dict[str, Any] = {"stem": {"op": "conv2d", "out_channels": 4, "kernel_size": 1}}
    read: set[str] = set()
    for index in range(draw(st.integers(1, 6))):
        before = st.sampled_from(list(nodes)[-3:])
        node = {key: draw(before) if value == "NODE" else value for key, value in draw(NODES).items()}
        node["from"] = [draw(before)]
        if "other" in node:
            node["from"].append(node.pop("other"))
        read |= {*node["from"], *([node["like"]] if "like" in node else [])}
        nodes[f"n{index}"] = node
    return {
        "segspec": 1,
        "name": "net",
        "inputs": {"image": {"channels": 3}},
        "nodes": nodes,
        "outputs": [name for name in nodes if name not in read],
    }


class Record:
    """Where shape rules say what must hold, of numbers."""

    def __init__(self) -> None:
        self.holds = True

    def equal(self, left: Number, right: Number, message: str, remedy: str = "") -> None:
        self.holds = self.holds and left == right

    def at_least(self, value: Number, minimum: int, message: str, remedy: str = "", *, training: bool = False) -> None:
        self.holds = self.holds and (training or bool(value >= minimum))  # type: ignore[operator]


def counted(graph: Graph, height: int, width: int) -> dict[str, Shape] | None:
    """The shapes of all nodes, counted with numbers; None where something does not fit.

    A size is broadcast where it is 1 at every size of the image, not where it happens to be.
    """
    shapes: dict[str, Shape] = {"image": (1, 3, height, width)}
    record = Record()
    for node in graph.root.nodes:
        assert isinstance(node.call, OpCall)
        of = tuple(shapes[source.node] for source in node.sources)
        if isinstance(node.call.op, Add):
            for axis in (2, 3):
                pairs = zip(of, node.call.inputs, strict=True)
                record.holds &= len({shape[axis] for shape, form in pairs if form[axis] != 1}) <= 1
        shapes[node.name] = node.call.op.shape(of, record)
        if not record.holds:
            return None
    return shapes


def _load(folder: Path, spec: Mapping[str, Any]) -> Any:
    path = folder / "net.yaml"
    path.write_text(yaml.safe_dump(dict(spec), sort_keys=False), encoding="utf-8")
    return load(path)


SIZES = [*((size, size) for size in range(1, 40)), (7, 64), (64, 7), (33, 48), (1, 2), (97, 131)]


@settings(QUICK, max_examples=100)
@given(spec=networks())
def test_shapes_and_sizes(spec: dict[str, Any], tmp_path: Path) -> None:
    try:
        graph = elaborate(_load(tmp_path, spec))
        rule = size_rule(graph)
    except SpecError as error:
        assert all(problem.code in ("shape", "limit") for problem in error.problems)  # noqa: PT017 (or it succeeds)
        return
    for height, width in SIZES:
        shapes = counted(graph, height, width)
        refused = size_problem(graph, height, width, 1, training=False)
        assert (refused is None) is (shapes is not None), (height, width)
        assert (rule.height.allows(height) and rule.width.allows(width)) is (shapes is not None), (height, width, rule)
        for node in graph.root.nodes if shapes else ():
            found = resolve(node.call.outputs[0], at_size(graph, height, width))
            assert shapes is not None
            assert found == shapes[node.name], (height, width, node.name)


@pytest.mark.parametrize("size", [1, 7, 64, 97, 131])
def test_the_zoo(size: int) -> None:
    for name in ("unet", "unet_upsample"):
        graph = elaborate(load(name))
        refused = size_problem(graph, size, size, 1, training=False)
        assert (refused is None) is (name == "unet" or size % 16 == 0)
