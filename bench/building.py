"""What a generated module's constructors build, without any framework: every layer, and what it is made with.

A framework's names stand for what is called, so that two modules build the same network if this finds the same of
both. What cannot matter is left out: an argument that is the default anyway, and the dilation of a 1×1 kernel.
"""

from __future__ import annotations
import __future__

import ast
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

CONVOLUTION = {"stride": 1, "padding": 0, "output_padding": 0, "dilation": 1, "groups": 1}
DEFAULTS: dict[str, Any] = {**CONVOLUTION, "bias": True, "bias_attr": True}
"""What the frameworks' convolutions take an argument for that is not given."""


class Made:
    """What a framework's name, or a call of it, makes."""

    def __init__(self, name: str, args: Sequence[Any] = (), given: Mapping[str, Any] | None = None) -> None:
        self.name = name
        self.args = tuple(args)
        self.given = dict(given or {})

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Made(f"{self.name}.{name}")

    def __call__(self, *args: Any, **given: Any) -> Made:
        return Made(self.name, args, given)

    def __mro_entries__(self, bases: tuple[object, ...]) -> tuple[type]:
        return (type(self.name, (_Layer,), {}),)

    @property
    def pointwise(self) -> bool:
        """Whether it is a convolution with a kernel of one element."""
        return self.given.get("kernel_size") in (1, (1, 1))

    def plain(self) -> Any:
        """It as plain data."""
        convolution = "conv" in self.name.lower()
        given = {
            name: value
            for name, value in self.given.items()
            if not (convolution and (DEFAULTS.get(name) == value or (name == "dilation" and self.pointwise)))
        }
        return self.name, plain(self.args), plain(given)


class _Layer:
    """What a class of the module derives from."""

    def __init__(self, *args: Any, **given: Any) -> None:
        self.base = Made(type(self).__mro__[1].__name__, args, given)
        self.registered: list[Made] = []

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any, **given: Any) -> Made:
            made = Made(name, args, given)
            self.registered.append(made)
            return made

        return call

    def plain(self) -> Any:
        return type(self).__name__, plain(vars(self))


def plain(value: object) -> Any:
    """Anything that is built, as plain data that compares."""
    if isinstance(value, Made | _Layer):
        return value.plain()
    if isinstance(value, list | tuple):
        return tuple(map(plain, value))
    if isinstance(value, dict):
        return tuple((name, plain(held)) for name, held in sorted(value.items()))
    return getattr(value, "__name__", value)  # of a function, its name


def built(tree: ast.Module) -> Any:
    """The network that a module's tree builds with default arguments; None if it builds none."""
    kept = ast.Module([item for item in tree.body if not isinstance(item, ast.Import | ast.ImportFrom)], [])
    held: dict[str, Any] = {name: Made(name) for name in ("torch", "paddle", "nn", "F")}
    held |= {"math": math, "__name__": "module"}
    try:
        # Annotations are not evaluated: they name what is not here.
        exec(compile(kept, "module", "exec", __future__.annotations.compiler_flag, dont_inherit=True), held)
        return held[held["__all__"][0]]()
    except Exception:  # a mutant may fail in any way
        return None


def layers(network: Any) -> dict[tuple[str, str], list[Made]]:
    """The layers of the frameworks' own, by class and attribute, of all instances of the class."""
    found: dict[tuple[str, str], list[Made]] = defaultdict(list)

    def visit(value: object) -> None:
        if isinstance(value, _Layer):
            for name, held in vars(value).items():
                if isinstance(held, Made):
                    found[type(value).__name__, name].append(held)
                elif isinstance(held, _Layer) and held.base.args:  # a framework's own layer with something added
                    found[type(value).__name__, name].append(held.base)
                visit(held)
        elif isinstance(value, Made):
            visit([*value.args, *value.given.values()])
        elif isinstance(value, list | tuple):
            for held in value:
                visit(held)

    visit(network)
    return found
