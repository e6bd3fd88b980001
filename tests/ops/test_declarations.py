"""The vocabulary is whole: every op and initialiser is declared well, and every backend can write it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import MISSING, fields
from itertools import product
from typing import Any

import jinja2
import pytest
from grid import NO_LAYER, Case, cases, layer
from jinja2 import nodes
from sweep import evaluate, network

from segspec.errors import Place, SpecError
from segspec.graph.requirements import Require
from segspec.ops import OPS
from segspec.ops.attributes import kind_of
from segspec.ops.initializers import INITIALIZERS
from segspec.render import render, render_all
from segspec.render.backend import Backend, backend, backends

BACKENDS = pytest.mark.parametrize("name", backends())
CASES = list(cases())

VOCABULARY = {
    *("conv2d", "conv_transpose2d", "linear", "batch_norm2d", "dropout", "dropout2d"),
    *("relu", "relu6", "leaky_relu", "prelu", "sigmoid", "softmax", "hard_swish", "silu", "gelu", "identity"),
    *("max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d"),
    *("global_avg_pool2d", "global_max_pool2d", "resize", "pad", "pad_to", "crop"),
    *("concat", "add", "sub", "mul", "maximum", "flatten"),
}
"""What there is at the least."""

NOT_IN_EXAMPLES = {"max_pool2d": {"dilation"}}
"""Examples are for every backend, and Paddle's pooling has no dilation: the sweep has it."""


def _macros(held: Backend, template: str) -> dict[str, list[str]]:
    """The macros of a template and their arguments."""
    tree = jinja2.Environment().parse((held.folder / template).read_text(encoding="utf-8"))
    return {macro.name: [argument.name for argument in macro.args] for macro in tree.find_all(nodes.Macro)}


def test_the_vocabulary_is_complete() -> None:
    assert set(OPS) >= VOCABULARY


@pytest.mark.parametrize("op", OPS)
def test_an_op_is_declared_well(op: str) -> None:
    declared = OPS[op]
    assert (declared.__doc__ or "").strip(), "a line says what it computes"
    assert "(*" not in (declared.__doc__ or ""), "that line is not the dataclass's own"
    for item in fields(declared):  # type: ignore[arg-type]
        assert kind_of(declared, item.name).expected
    required = {item.name for item in fields(declared) if item.default is MISSING}  # type: ignore[arg-type]
    names = {item.name for item in fields(declared)}  # type: ignore[arg-type]
    for example in declared.examples:
        assert required <= set(example) <= names | {"shape", "other"}
    tried = {name for example in declared.examples for name in example}
    assert names - tried == NOT_IN_EXAMPLES.get(op, set()), "every attribute is in some example"


@BACKENDS
def test_every_op_has_its_macro_and_every_macro_its_op(name: str) -> None:
    found = _macros(backend(name), "ops.jinja")
    assert set(found) == set(OPS)
    assert all(arguments == ["op", "inputs"] for arguments in found.values())


@BACKENDS
def test_every_initializer_has_its_macro(name: str) -> None:
    found = _macros(backend(name), "init.jinja")
    assert {macro for macro in found if not macro.startswith("_")} == {*INITIALIZERS, "bound", "layer"}


@BACKENDS
def test_the_facts_name_only_what_there_is(name: str) -> None:
    held = backend(name)
    assert set(held.ops) <= set(OPS)
    assert set(held.default_init) <= set(OPS)
    assert sorted(held.reserved, key=str.lower) == held.reserved
    for op, facts in held.ops.items():
        example = OPS[op].examples[0]
        slots = {slot.name for slot in _op(op, example).slots(((2, 4, 9, 12),))}
        assert set(facts.state) | set(facts.transposed) | set(facts.divergences) <= slots


def _op(name: str, example: Any) -> Any:
    declared = OPS[name]
    read = {key: kind_of(declared, key).read(value) for key, value in example.items() if key not in ("shape", "other")}
    return declared(**read)


@pytest.mark.parametrize("op", OPS)
def test_inputs_of_any_rank_are_taken_or_refused(op: str) -> None:
    """A rule never fails by itself, whatever it is asked of."""
    for example in OPS[op].examples:
        made = _op(op, example)
        named = sum(kind_of(OPS[op], key).reference for key in example if key not in ("shape", "other"))
        for ranks in product(range(7), repeat=made.takes[0] + named):
            shapes = tuple((2, 4, 9, 12, 3, 2)[:rank] for rank in ranks)
            with suppress(SpecError):
                outputs = made.shapes(shapes, Require([], Place("any.yaml"), "any"))
                made.slots(shapes)
                made.derived(shapes)
                made.macs(shapes, outputs[0])


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], str]:
    """Every case as every backend writes it; formatting them together is what makes it quick."""
    folder = tmp_path_factory.mktemp("written")
    graphs = {case.id: case.graph(folder) for case in CASES}
    keys = [(name, key) for name in backends() for key in graphs]
    return dict(zip(keys, render_all((graphs[key], backend(name)) for name, key in keys), strict=True))


@BACKENDS
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_every_example_is_written(name: str, case: Case, sources: dict[tuple[str, str], str]) -> None:
    """As a call in ``forward``, or as a layer made in ``__init__`` and called in ``forward``."""
    source = sources[name, case.id]
    tree = ast.parse(source)
    made = list(_attributes(tree))
    state = OPS[case.op].slots is not OPS["relu"].slots or OPS[case.op].stochastic
    if case.form == "layer":
        assert made == ["result"]
        assert "nn.Sequential(" in source
    else:
        assert made == (["result"] if state else [])
    returned = next(item for item in ast.walk(tree) if isinstance(item, ast.FunctionDef) and item.name == "forward")
    assert isinstance(returned.body[-1], ast.Return)


def _attributes(tree: ast.Module) -> Iterator[str]:
    for item in ast.walk(tree):
        if isinstance(item, ast.Call) and ast.unparse(item.func) == "self.register_buffer":
            yield ast.literal_eval(item.args[0])
        if isinstance(item, ast.Assign) and isinstance(item.targets[0], ast.Attribute):
            target = item.targets[0]
            if isinstance(target.value, ast.Name) and target.value.id == "self" and target.attr != "sides":
                yield target.attr


REFUSED_IN_A_SEQUENCE = [
    (op, example) for op, declared in OPS.items() for example in declared.examples if not layer(op, example)
]


@BACKENDS
@pytest.mark.parametrize(("op", "example"), REFUSED_IN_A_SEQUENCE, ids=str)
def test_what_cannot_stand_in_a_sequence_says_so(name: str, op: str, example: Any) -> None:
    """Refused, with what to do instead; :data:`grid.NO_LAYER` lists all there are."""
    written = {key: value for key, value in example.items() if key not in ("shape", "other", "offset")}
    if "like" in written:
        written["like"] = "x"
    before = _rank(len(example.get("shape", (2, 4, 9, 12))))
    nodes = {"a": {"op": "relu", "from": "x"}, **before, "y": {"sequence": [{"op": op, **written}]}}
    with pytest.raises(SpecError) as raised:
        render(network(nodes, channels=4), backend(name))
    (problem,) = raised.value.problems
    assert problem.code in ("refused", "inputs")
    if problem.code == "refused":
        assert problem.remedy == "make it a node of its own"


def _rank(axes: int) -> dict[str, Any]:
    """What makes a tensor of as many axes of a map."""
    return {"flat": {"op": "flatten", "start_dim": axes - 1}} if axes < 4 else {}


def test_the_list_of_what_cannot_stand_in_a_sequence() -> None:
    """Nothing more than was meant, and everything that needs one input and no other node can."""
    assert {op for op, _ in REFUSED_IN_A_SEQUENCE} == {key.split(" ")[0] for key in NO_LAYER}
    assert all(NO_LAYER.values())


# --- names that the frameworks use -------------------------------------------------------------------


@pytest.mark.torch
def test_torch_names_are_reserved() -> None:
    _reserved("torch", "sorted(set(dir(nn.Module())) | {'torch', 'nn', 'F', 'Tensor'})")


@pytest.mark.paddle
def test_paddle_names_are_reserved() -> None:
    _reserved("paddle", "sorted(set(dir(nn.Layer())) | {'paddle', 'nn', 'F', 'Tensor'})")


def _reserved(name: str, expression: str) -> None:
    values, failures = evaluate(name, [expression])
    assert not failures
    public = {item for item in values[0] if not item.startswith("_") and item.isidentifier()}
    held = set(backend(name).reserved)
    # A list may name more than one release of the framework has.
    assert public - held == set()


@BACKENDS
@pytest.mark.parametrize("kind", ["node", "input", "parameter", "class"])
def test_a_reserved_name_is_refused(name: str, kind: str) -> None:
    from segspec.render.backend import problems

    for word in ("forward", "training", "nn", "F", "Tensor", "init_weights", backend(name).module):
        more: dict[str, Any] = {}
        layers: dict[str, Any] = {"y": {"op": "conv2d", "out_channels": 4, "kernel_size": 1}}
        if kind == "node":
            layers = {word: layers["y"]}
        elif kind == "input":
            more["inputs"] = {word: {"channels": 1}}
        elif kind == "parameter":
            more["params"] = {word: 4}
            layers["y"]["out_channels"] = word
        else:
            more["class_name"] = word
        (problem,) = problems(network(layers, **more), [backend(name)])
        assert problem.code == "name"
        assert word in problem.message


# --- what a backend's float32 cannot do ---------------------------------------------------------------


@pytest.mark.paddle
def test_batch_statistics_of_large_constant_areas_are_coarse_in_float32() -> None:
    """As its file says: more than a few roundings, and less than the floor."""
    norm = "F.batch_norm(x.astype(t), paddle.zeros([1], t), paddle.ones([1], t), training=True).astype('float64')"
    error = "(lambda single, exact: float((single - exact).norm() / exact.norm()))"
    image = "paddle.arange(4096, dtype='float64').reshape([1, 1, 64, 64]).sin()"
    both = f"(lambda x: {error}(*[{norm} for t in ('float32', 'float64')]))"
    values, failures = evaluate("paddle", [f"{both}(F.pad({image}, [{around}] * 4, value=0.7))" for around in (0, 100)])
    assert not failures
    (floor,) = backend("paddle").facts("batch_norm2d").float32_floors
    assert floor.limit.raw == "count / 2**28"
    assert values[0] < 16 * 2**-24 < values[1] < 264**2 / 2**28
