"""Sums of products over named axes."""

from __future__ import annotations

from typing import Any, ClassVar

from segspec.algebra.symbols import Number
from segspec.ops.attributes import Pattern, Switch
from segspec.ops.base import Op, Require, Shape, op, product
from segspec.ops.patterns import parse
from segspec.ops.reach import Along, Reach, named


@op("einsum")
class Einsum(Op):
    """Multiply tensors and sum over every axis that the output lacks: ``n s h w, n k h w -> n s k``.

    With ``mean``, each sum is divided by the number of its terms.
    """

    equation: Pattern
    mean: Switch = False

    inputs: ClassVar = (1, 8)
    examples: ClassVar = (
        {"equation": "n c h w -> n h"},
        {"equation": "n c h w, n k h w -> n c k", "other": [2, 3, 9, 12]},
        {"equation": "n c h w, n k h w -> n c k", "mean": True, "other": [2, 3, 9, 12]},
        {"equation": "n row col, n col depth -> n depth row", "shape": [2, 4, 7], "other": [2, 7, 3]},
        {"equation": "n c h w, n k h w -> n c k h w", "other": [2, 3, 9, 12]},
    )

    def validate(self) -> None:
        pattern = parse(self.equation)
        if any(len(group) != 1 for axes in (*pattern.inputs, pattern.output) for group in axes):
            raise ValueError("an equation names every axis by itself: join or split axes with rearrange")
        if len(pattern.names) > len(_LETTERS):
            raise ValueError(f"an equation has at most {len(_LETTERS)} axes")

    @property
    def takes(self) -> tuple[int, int]:
        count = len(parse(self.equation).inputs)
        return count, count

    def shape(self, inputs: tuple[Shape, ...], require: Require) -> Shape:
        sizes = self._sizes(inputs, require)
        return tuple(sizes.get(group[0], 1) for group in parse(self.equation).output)

    def _sizes(self, inputs: tuple[Shape, ...], require: Require | None = None) -> dict[str, Number]:
        sizes: dict[str, Number] = {}
        pattern = parse(self.equation)
        for axes, shape in zip(pattern.inputs, inputs, strict=False):
            if require:
                names = " ".join(name for (name,) in axes)
                count = f"{len(axes)} {'axis' if len(axes) == 1 else 'axes'}"
                require.equal(len(shape), len(axes), f"'{names}' is of {count}, and the input has {len(shape)}")
            for (name,), size in zip(axes, shape, strict=False):
                if require and name in sizes:
                    require.equal(sizes[name], size, f"the inputs differ in '{name}': {{left}} and {{right}}")
                sizes.setdefault(name, size)
        return sizes

    def reach(self, along: Along) -> Reach:
        pattern = parse(self.equation)
        return named(pattern.inputs[along.input], pattern.output)

    def macs(self, inputs: tuple[Shape, ...], output: Shape) -> Number:
        return product(tuple(self._sizes(inputs).values()))

    def derived(self, inputs: tuple[Shape, ...]) -> dict[str, Any]:
        """The equation in letters, as the frameworks want it, and what is summed.

        An axis keeps its name if that is a letter. ``summed`` has, for each axis, an input that has it and the
        axis's place there.
        """
        pattern = parse(self.equation)
        spare = iter(letter for letter in _LETTERS if letter not in pattern.names)
        letters = {name: name if len(name) == 1 else next(spare) for name in pattern.names}
        sides = ["".join(letters[name] for (name,) in axes) for axes in (*pattern.inputs, pattern.output)]
        kept = {name for (name,) in pattern.output}
        places = {
            name: {"input": index, "axis": axis}
            for index, axes in reversed(list(enumerate(pattern.inputs)))
            for axis, (name,) in enumerate(axes)
            if name not in kept
        }
        summed = [places[name] for name in pattern.names if name in places]
        return {"letters": f"{', '.join(sides[:-1])} -> {sides[-1]}", "summed": summed}


_LETTERS = "abcdefghijklmnopqrstuvwxyz"
