"""What a macro sees of an op: its attributes as values to print, and what constructors ask for besides."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from segspec.algebra.expressions import Scope
from segspec.algebra.symbols import Number, Sym
from segspec.graph.model import OpCall
from segspec.ops.attributes import Kind, kind_of
from segspec.render.backend import Backend
from segspec.render.text import value_of


def op_view(call: OpCall, backend: Backend) -> dict[str, Any]:
    """The op for a template. Equal pairs are one number; four sides also stand one by one.

    ``padding_sides`` is None where opposite sides are equal and ``padding`` holds (height, width);
    ``scale_ratio`` holds fractions where ``scale`` is not whole. ``exact_layer`` is the helper that stands for the
    framework's own layer, empty where none does.
    """
    op = call.op
    view: dict[str, Any] = {}
    for name, value in op.attributes().items():
        kind = kind_of(type(op), name)
        if kind.expected == Kind.pads:
            view.update(_sides(name, value))
        elif kind.expected == Kind.factors:
            view.update(_scale(value))
        elif kind.plural:
            view[name] = _listed(value)
        else:
            view[name] = value_of(value)
    view |= {name: value_of(value) for name, value in op.derived(call.inputs).items()}
    if view.get("stride") is not None and view["stride"] == view.get("kernel_size") and "pool" in op.name:
        view["stride"] = None
    view["exact_layer"] = backend.exact_layers.get(op.name, "") if backend.exact_running_stats else ""
    scope = Scope(op.attributes())
    view |= {name: value_of(value.evaluate(scope)) for name, value in backend.facts(op.name).let.items()}
    return view


def _listed(value: Any) -> Any:
    """Nested tuples as lists of any length."""
    return [_listed(item) for item in value] if isinstance(value, tuple) else value_of(value)


def _sides(name: str, value: tuple[Number, ...] | None) -> dict[str, Any]:
    if value is None:
        return {name: None}
    top, bottom, left, right = value
    even = top == bottom and left == right
    held = {
        name: value_of((top, left)),
        f"{name}_sides": None if even else tuple(map(value_of, value)),
    }
    return {
        **held,
        **{side: value_of(size) for side, size in zip(("top", "bottom", "left", "right"), value, strict=True)},
    }


def _scale(value: tuple[Number, Number] | None) -> dict[str, Any]:
    if value is None:
        return {"scale": None, "scale_ratio": None}
    if any(isinstance(factor, Sym) for factor in value):
        return {"scale": value_of(value), "scale_ratio": None}
    ratios = [Fraction(factor).limit_denominator(10_000) for factor in value]  # type: ignore[arg-type]
    if all(ratio.denominator == 1 for ratio in ratios):
        return {"scale": value_of(tuple(ratio.numerator for ratio in ratios)), "scale_ratio": None}
    return {
        "scale": None,
        "scale_ratio": [(ratio.numerator, ratio.denominator) for ratio in ratios],
    }
