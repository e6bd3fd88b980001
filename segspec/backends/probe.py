"""Watching every node of a generated module: its source with a call around the expression of each node.

The marked ``forward`` of each class comes from the renderer. It is laid over the syntax tree of the module's own
source, so what runs is that source and nothing else, at its own lines; also where somebody has changed it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from types import CodeType

NODE, ENTERED, PLACE = "__node__", "__entered__", "__place__"
"""What the marks call, what a ``forward`` calls with its inputs as it begins, and what that returns."""
LONGEST = 16
"""How many lines of one statement are shown."""


def instrument(source: str, marks: dict[str, str], filename: str) -> CodeType:
    """The module's code, its nodes marked as far as the marks fit.

    ``forward`` begins with ``__place__, x, … = __entered__(self, x, …)``; each node's expression stands in
    ``__node__(__place__, name, …)``. Both functions must be in the namespace in which the code runs.
    """
    tree = ast.parse(source, filename)
    for name, forward in forwards(tree).items():
        if name not in marks:  # a layer that another framework has built in: no block, of which nodes are recorded
            continue
        lay(_function(marks[name]), forward)
        inputs = [item.arg for item in forward.args.args]
        entering = ast.Assign(
            [_tuple([PLACE, *inputs[1:]], ast.Store())],
            ast.Call(ast.Name(ENTERED, ast.Load()), [ast.Name(item, ast.Load()) for item in inputs], []),
        )
        ast.copy_location(entering, forward.body[0])
        documented = isinstance(forward.body[0], ast.Expr) and isinstance(forward.body[0].value, ast.Constant)
        forward.body.insert(int(documented), entering)
    return compile(ast.fix_missing_locations(tree), filename, "exec")


def lines(source: str, marks: dict[str, str]) -> dict[tuple[str, str], list[int]]:
    """The lines that make and that compute each node, by class and node, counted from 1; none of what is no Python."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return {}
    found: dict[tuple[str, str], list[int]] = {}
    for holder in _classes(tree):
        for part in ast.walk(holder):
            if isinstance(part, ast.Assign | ast.Call) and (name := _attribute(part)):
                found.setdefault((holder.name, name), []).extend(_lines_of(part))
    for name, forward in forwards(tree).items():
        if name in marks:
            lay(_function(marks[name]), forward)
            for statement in _statements(forward.body):
                for part in ast.walk(statement):
                    if _is_mark(part) and not isinstance(statement, ast.If):
                        found.setdefault((name, _named(part)), []).extend(_lines_of(statement))
    return found


def _lines_of(statement: ast.stmt | ast.expr) -> range:
    """All lines of a statement; of a very long one, as a sequence of many layers is, those it begins with."""
    return range(statement.lineno, min(statement.end_lineno or 0, statement.lineno + LONGEST - 1) + 1)


def forwards(tree: ast.Module) -> dict[str, ast.FunctionDef]:
    """The ``forward`` of each class."""
    return {
        holder.name: item
        for holder in _classes(tree)
        for item in holder.body
        if isinstance(item, ast.FunctionDef) and item.name == "forward"
    }


def lay(marked: ast.AST, own: ast.AST) -> ast.AST:
    """``own`` with the marks of ``marked`` in the same places; where the two differ, in the nearest above."""
    if _is_mark(marked):
        fitting = _fitting(marked, own)
        inner = lay(fitting.args[1], own)
        arguments: list[ast.AST] = [ast.Name(PLACE, ast.Load()), ast.Constant(_named(fitting)), inner]
        return ast.copy_location(ast.Call(ast.Name(NODE, ast.Load()), arguments, []), own)  # type: ignore[arg-type]
    if type(marked) is not type(own):
        return own
    if _head(marked) != _head(own):
        # Something else is called, perhaps on the same.
        if isinstance(marked, ast.Call) and isinstance(own, ast.Call) and len(marked.args) == len(own.args):
            for index, (theirs, ours) in enumerate(zip(marked.args, own.args, strict=True)):
                if _is_mark(theirs) and _fits(_fitting(theirs, ours), ours):
                    own.args[index] = lay(theirs, ours)  # type: ignore[call-overload]
        return own
    for name, value in ast.iter_fields(marked):
        held = getattr(own, name)
        if isinstance(value, ast.AST) and isinstance(held, ast.AST):
            setattr(own, name, lay(value, held))
        elif isinstance(value, list) and isinstance(held, list):
            setattr(own, name, _lay_all(value, held))
    return own


def _lay_all(marked: list[ast.AST], own: list[ast.AST]) -> list[ast.AST]:
    """One after another; statements that were added or removed are passed over by what they assign."""
    if len(marked) == len(own):
        return [lay(*pair) for pair in zip(marked, own, strict=True)]
    by_target = {_target(item): item for item in marked}
    return [lay(by_target[_target(item)], item) if _target(item) in by_target else item for item in own]


def _target(statement: ast.AST) -> str:
    if isinstance(statement, ast.Assign):
        return ast.dump(statement.targets[0])
    return type(statement).__name__ if isinstance(statement, ast.If | ast.Return) else ""


def _fitting(marked: ast.AST, own: ast.AST) -> ast.Call:
    """Of marks one inside another the first whose own expression begins as ``own`` does; if none does, the outermost.

    So an activation that somebody took out takes its mark along, and the layer before it keeps its own.
    """
    assert isinstance(marked, ast.Call)
    held: ast.AST = marked
    while _is_mark(held):
        assert isinstance(held, ast.Call)
        if _fits(held, own):
            return held
        inside = held.args[1]
        held = next((part for part in ast.iter_child_nodes(inside) if _is_mark(part)), inside)
    return marked


def _fits(mark: ast.Call, own: ast.AST) -> bool:
    """Whether an expression begins as the one in a mark does."""
    return type(mark.args[1]) is type(own) and _head(mark.args[1]) == _head(own)


def _head(part: ast.AST) -> str:
    """What is called, of a call."""
    return ast.dump(part.func) if isinstance(part, ast.Call) and not _is_mark(part) and _plain(part.func) else ""


def _plain(function: ast.AST) -> bool:
    """Whether it is a name with dots, which says what is called, and not a method of another call's result."""
    while isinstance(function, ast.Attribute):
        function = function.value
    return isinstance(function, ast.Name)


def _is_mark(part: ast.AST) -> bool:
    return isinstance(part, ast.Call) and isinstance(part.func, ast.Name) and part.func.id == NODE


def _named(mark: ast.AST) -> str:
    """The node that a mark names: its last argument but one."""
    assert isinstance(mark, ast.Call)
    assert isinstance(mark.args[-2], ast.Constant)
    return str(mark.args[-2].value)


def _function(text: str) -> ast.FunctionDef:
    (function,) = ast.parse(text).body
    assert isinstance(function, ast.FunctionDef)
    # Its annotations and docstring are its own; only the body is laid over the other.
    return function


def _attribute(part: ast.AST) -> str:
    """The attribute that a statement makes, by assigning or by registering it; empty if it makes none."""
    match part:
        case ast.Assign(targets=[ast.Attribute(attr=name)]):
            return name
        case ast.Call(func=ast.Attribute(attr="register_buffer"), args=[ast.Constant(value=str(name)), *_]):
            return name
    return ""


def _classes(tree: ast.Module) -> list[ast.ClassDef]:
    return [item for item in tree.body if isinstance(item, ast.ClassDef)]


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for statement in body:
        yield statement
        if isinstance(statement, ast.If):
            yield from _statements(statement.body)


def _tuple(names: list[str], context: ast.expr_context) -> ast.Tuple:
    return ast.Tuple([ast.Name(name, context) for name in names], context)
