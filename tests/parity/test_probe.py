"""The marks that record every node: laid over a module's own source, they change nothing of what it does."""

from __future__ import annotations

import ast
import traceback
from collections.abc import Iterator
from typing import Any

import pytest

from segspec.backends import probe
from segspec.graph.elaborate import Elaborator, elaborate
from segspec.graph.model import Graph, OpCall, SequenceCall
from segspec.render import backends, marks, render_all
from segspec.spec.load import Loader
from segspec.spec.zoo import networks

SOURCE = '''\
"""A module without a framework: layers are functions of numbers."""


def relu(x):
    return max(x, 0)


class Unit:
    """A class."""

    def __init__(self):
        self.conv = lambda x: x - 3
        self.bn = lambda x: x * 10
        self.pair = lambda x: (x, x + 1)

    def forward(self, x, skip):
        """Its docstring stays the first statement."""
        low = relu(self.bn(self.conv(x)))  # a comment
        left, right = self.pair(
            low,
        )
        merged = left + right + skip
        if merged > 1000:
            big = merged // 2
            return big, left
        return relu(merged), left
'''

MARKS = {
    "Unit": """\
def forward(self, x, skip):
    low = __node__("relu", relu(__node__("bn", self.bn(__node__("conv", self.conv(x))))))
    left, right = __node__("pair", self.pair(low))
    merged = __node__("merged", left + right + skip)
    if merged > 1000:
        big = __node__("big", merged // 2)
        return big, left
    return __node__("out", relu(merged)), left
"""
}


class Run:
    """What a source's class returns with its marks, and which nodes these told of."""

    def __init__(self, source: str = SOURCE, marked: dict[str, str] = MARKS, inputs: tuple[int, ...] = (7, 1)) -> None:
        self.nodes: list[tuple[str, Any]] = []
        self.entered: list[tuple[str, tuple[Any, ...]]] = []
        self.names: dict[str, Any] = {probe.NODE: self._node, probe.ENTERED: self._enter}
        exec(probe.instrument(source, marked, "unit.py"), self.names)
        self.unit = self.names["Unit"]()
        self.returned = self.unit.forward(*inputs)

    def _enter(self, layer: Any, *inputs: Any) -> tuple[Any, ...]:
        self.entered.append((type(layer).__name__, inputs))
        return ("place", *inputs)

    def _node(self, place: str, name: str, value: Any) -> Any:
        assert place == "place"
        self.nodes.append((name, value))
        return value


def _plain(source: str, inputs: tuple[int, ...] = (7, 1)) -> Any:
    names: dict[str, Any] = {}
    exec(source, names)
    return names["Unit"]().forward(*inputs)


def _changed(old: str, new: str) -> str:
    assert SOURCE.count(old) == 1
    return SOURCE.replace(old, new)


# --- the source as it was generated ------------------------------------------------------------------


def test_every_node_tells_of_its_value_in_the_order_of_the_computation() -> None:
    run = Run()
    assert run.nodes == [("conv", 4), ("bn", 40), ("relu", 40), ("pair", (40, 41)), ("merged", 82), ("out", 82)]
    assert run.entered == [("Unit", (7, 1))]
    assert run.returned == _plain(SOURCE)


def test_a_branch_that_is_not_taken_tells_nothing() -> None:
    run = Run(inputs=(1000, 1))
    assert run.nodes[-2:] == [("merged", 19942), ("big", 9971)]
    assert run.returned == _plain(SOURCE, (1000, 1))


def test_what_a_mark_returns_is_what_the_next_node_reads() -> None:
    class Doubling(Run):
        def _node(self, place: str, name: str, value: Any) -> Any:
            return 2 * super()._node(place, name, value) if name == "conv" else value

        def _enter(self, layer: Any, *inputs: Any) -> tuple[Any, ...]:
            return ("place", *(value + 1 for value in inputs))

    assert Doubling().returned == (80 + 20 + 80 + 20 + 1 + 2 + 0, 100)


def test_docstrings_and_signatures_stay() -> None:
    forward = Run().names["Unit"].forward
    assert forward.__doc__ == "Its docstring stays the first statement."
    assert forward.__code__.co_varnames[:3] == ("self", "x", "skip")


def test_a_docstring_alone_is_a_forward_too() -> None:
    source = 'class Unit:\n    def forward(self, x, skip):\n        """Nothing."""\n'
    assert Run(source).returned is None


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("relu(self.bn(self.conv(x)))", "relu(self.bn(self.nothing(x)))", 18),
        ("            low,\n", "            low / 0,\n", 20),
        ("left + right + skip", "left + nothing + skip", 22),
        ("return relu(merged)", "return nothing(merged)", 26),
    ],
)
def test_a_traceback_names_the_sources_own_lines(old: str, new: str, line: int) -> None:
    with pytest.raises((AttributeError, NameError, ZeroDivisionError)) as raised:
        Run(_changed(old, new))
    frames = traceback.extract_tb(raised.value.__traceback__)
    assert [frame.lineno for frame in frames if frame.filename == "unit.py"] == [line]


def test_the_lines_of_a_node_are_where_it_is_made_and_where_it_is_computed() -> None:
    found = probe.lines(SOURCE, MARKS)
    assert found == {
        ("Unit", "conv"): [12, 18],
        ("Unit", "bn"): [13, 18],
        ("Unit", "relu"): [18],
        ("Unit", "pair"): [14, 19, 20, 21],
        ("Unit", "merged"): [22],
        ("Unit", "big"): [24],
        ("Unit", "out"): [26],
    }


# --- a source that somebody has changed --------------------------------------------------------------

CHANGES = {
    # what was changed: the change, and the nodes that are still told of
    "an activation removed": ("relu(self.bn(self.conv(x)))", "self.bn(self.conv(x))", "conv bn pair merged out"),
    "an inner layer removed": ("relu(self.bn(self.conv(x)))", "relu(self.conv(x))", "conv relu pair merged out"),
    "the innermost removed": ("self.bn(self.conv(x))", "self.bn(x)", "conv bn relu pair merged out"),
    "a function replaced": ("relu(self.bn(", "abs(self.bn(", "conv bn relu pair merged out"),
    "an argument added": ("self.conv(x)", "self.conv(x + 1)", "conv bn relu pair merged out"),
    "an operator replaced": ("left + right + skip", "left - right + skip", "conv bn relu pair merged out"),
    "another expression": ("left + right + skip", "sum([left, right, skip])", "conv bn relu pair merged out"),
    "inputs swapped": ("left + right + skip", "skip + right + left", "conv bn relu pair merged out"),
    "a statement added": (
        "        merged =",
        "        left = left + 1\n        merged =",
        "conv bn relu pair merged out",
    ),
    "a statement that returns": (
        "        return relu(merged), left",
        "        left += 1\n        return relu(merged), left",
        "conv bn relu pair merged out",
    ),
    "a statement that asserts": ("        low =", "        assert x\n        low =", "conv bn relu pair merged out"),
    "statements swapped": (
        "        left, right = self.pair(\n            low,\n        )\n        merged = left + right + skip\n",
        "        merged = low + low + 1 + skip\n        left, right = self.pair(\n            low,\n        )\n",
        "conv bn relu merged pair out",
    ),
    "a local variable between": (
        "low = relu(self.bn(self.conv(x)))",
        "y = self.conv(x)\n        low = relu(self.bn(y))",
        "conv bn relu pair merged out",
    ),
    "a condition around": (
        "        merged = left + right + skip\n",
        "        if True:\n            merged = left + right + skip\n",
        "conv bn relu pair out",
    ),
    "an output more": ("return relu(merged), left", "return relu(merged), left, right", None),
    "an output less": ("return relu(merged), left", "return relu(merged)", None),
    "a layer of another name": ("self.conv(x)", "(self.conv or self.bn)(x)", None),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_source_does_what_it_says_and_tells_of_what_is_left(change: str) -> None:
    old, new, nodes = CHANGES[change]
    source = _changed(old, new)
    run = Run(source)
    assert run.returned == _plain(source)
    told = [name for name, _ in run.nodes]
    assert len(told) == len(set(told)), "a node is told of once"
    if nodes is not None:
        assert told == nodes.split()
    assert {"pair", "merged", "bn"} <= set(told) or nodes is not None


def test_an_activation_that_was_removed_leaves_the_others_their_values() -> None:
    """What the report needs: the node that lost its activation differs, and not the layer before it."""
    run = Run(_changed("relu(self.bn(self.conv(x)))", "self.bn(self.conv(x))"), inputs=(1, 1))
    assert dict(run.nodes)["conv"] == -2
    assert dict(run.nodes)["bn"] == -20
    assert "relu" not in dict(run.nodes)


def test_a_renamed_input_is_handed_over_by_its_own_name() -> None:
    source = SOURCE.replace("self, x, skip", "self, image, skip").replace("self.conv(x)", "self.conv(image)")
    run = Run(source)
    assert run.entered == [("Unit", (7, 1))]
    assert [name for name, _ in run.nodes] == ["conv", "bn", "relu", "pair", "merged", "out"]
    assert run.returned == _plain(source)


@pytest.mark.parametrize(
    "body",
    [
        "    forward = lambda self, x, skip: x\n",
        "    def forward(self, *inputs):\n        return inputs\n",
        "    def forward(self, x, skip=1, *more, key=2, **rest):\n        return x, skip, more, key, rest\n",
        "    def forward(self, x, /, skip):\n        return x + skip\n",
        "    def forward(self, x, skip):\n        return [y for y in (x, skip) if y]\n",
        "    def forward(self, x, skip):\n        yield x\n        yield skip\n",
        "    def forward(self, x, skip):\n        try:\n            return x / 0\n        except ZeroDivisionError:\n"
        "            return skip\n",
        "    def forward(self, x, skip):\n        pass\n",
    ],
)
def test_code_that_no_mark_fits_runs_as_it_is(body: str) -> None:
    source = f"class Unit:\n{body}"

    def shown(value: Any) -> Any:
        return list(value) if isinstance(value, Iterator) else value

    assert shown(Run(source).returned) == shown(_plain(source))


def test_a_class_of_ones_own_has_no_marks_and_is_nobodys_block() -> None:
    """So is a layer that one framework has built in and the other module brings along: it has no arguments here."""
    source = SOURCE + "\n\nclass Mine:\n    def forward(self, x):\n        return relu(x)\n"
    run = Run(source)
    assert run.names["Mine"]().forward(3) == 3
    assert run.entered == [("Unit", (7, 1))]


def test_marks_of_a_class_that_is_gone_are_nobodys() -> None:
    assert Run(marked={**MARKS, "Gone": MARKS["Unit"]}).returned == _plain(SOURCE)


def test_what_is_no_python_is_said_with_its_line() -> None:
    with pytest.raises(SyntaxError) as raised:
        probe.instrument("class Unit:\n    def forward(self:\n", MARKS, "unit.py")
    assert (raised.value.filename, raised.value.lineno) == ("unit.py", 2)


# --- what the renderer marks -------------------------------------------------------------------------


class _Stripped(ast.NodeTransformer):
    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        is_mark = isinstance(node.func, ast.Name) and node.func.id == probe.NODE
        return node.args[-1] if is_mark else node


def _body(function: ast.FunctionDef) -> str:
    return "\n".join(ast.dump(statement) for statement in function.body)


@pytest.fixture(scope="module")
def zoo() -> dict[str, Graph]:
    loader, elaborator, found = Loader(), Elaborator(), {}
    for name in networks():
        spec = loader.load(name)
        for preset in ("", *spec.block.presets):
            found[f"{name} {preset}".strip()] = elaborate(spec, {}, preset, elaborator)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("backend", list(backends()))
def test_marks_are_the_generated_forward_with_calls_around_its_nodes(zoo: dict[str, Graph], backend: str) -> None:
    held = backends()[backend]
    for (key, graph), source in zip(zoo.items(), render_all((graph, held) for graph in zoo.values()), strict=True):
        found = marks(graph, held)
        own = probe.forwards(ast.parse(source))
        assert set(found) == {module.name for module in graph.modules}, key
        for module in graph.modules:
            (marked,) = ast.parse(found[module.name]).body
            assert isinstance(marked, ast.FunctionDef)
            named = [probe._named(part) for part in ast.walk(marked) if probe._is_mark(part)]
            assert len(named) == len(set(named)), f"{key}: {module.name}"
            unmarked = {
                node.name
                for node in module.nodes
                if isinstance(node.call, SequenceCall) or (isinstance(node.call, OpCall) and node.call.op.is_tensor)
            }
            assert set(named) >= {node.name for node in module.nodes} - unmarked, f"{key}: {module.name}"
            assert _body(_Stripped().visit(marked)) == _body(own[module.name]), f"{key}: {module.name}"
        # And laid over it they all fit: each node has its lines.
        lines = probe.lines(source, found)
        missing = {(module.name, node.name) for module in graph.modules for node in module.nodes} - set(lines)
        assert not missing, key
