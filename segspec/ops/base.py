"""What an op is: one declaration, from which the language, the shapes, the weights and the tests follow.

To add an op, write a class below :class:`Op` with :func:`op` on it and one macro in each backend's
templates; nothing else names it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, ClassVar, Protocol, TypeAlias, TypeVar, dataclass_transform

from segspec.algebra.symbols import Number, symbols_of
from segspec.ops.initializers import Initializer
from segspec.ops.reach import Along, Reach

Shape: TypeAlias = "tuple[Number, ...]"
"""The sizes of a tensor's axes, batch first and channels second: (N, C, H, W) for a map."""


class Require(Protocol):
    """Where a shape rule says what must hold; what the forms leave open is kept and checked later."""

    def equal(self, left: Number, right: Number, message: str, remedy: str = "") -> None:
        """``left`` and ``right`` must be the same number; ``message`` may name them as {left} and {right}."""

    def at_least(self, value: Number, minimum: int, message: str, remedy: str = "", *, training: bool = False) -> None:
        """``value`` must not be below ``minimum`` (only in train mode, if ``training``)."""


@dataclass(frozen=True)
class Slot:
    """One tensor of an op's state, in its canonical layout (PyTorch's).

    A slot that is not ``trainable`` is a statistic that training updates, or a tensor that a checkpoint
    gives. ``itself`` marks the one tensor that a node *is*: its key is the node's path alone.
    """

    name: str
    shape: Shape
    init: Initializer
    trainable: bool = True
    itself: bool = False


class Op:
    """Base of every op: attributes as dataclass fields, meaning as methods.

    ``inputs`` is the least and the greatest number of inputs; an op that reads nothing *is* a tensor, which its class
    holds, and :func:`op` marks it ``is_tensor``; ``preserves_shape`` marks ops whose output has their one input's
    shape; ``whole_inputs`` says of each input whether it is of whole numbers, as indices are (none, where it is left
    out); ``examples`` are the attributes its tests try, each with its inputs' shapes where these are not the usual
    (2, 4, 9, 12).
    """

    name: ClassVar[str]
    inputs: ClassVar[tuple[int, int]] = (1, 1)
    is_tensor: ClassVar[bool] = False
    preserves_shape: ClassVar[bool] = False
    stochastic: ClassVar[bool] = False
    whole_inputs: ClassVar[tuple[bool, ...]] = ()
    examples: ClassVar[tuple[Mapping[str, Any], ...]] = ({},)

    def validate(self) -> None:
        """Raise ``ValueError`` where the attributes, each right alone, do not go together."""

    def shape(self, inputs: tuple[Shape, ...], require: Require) -> Shape:
        """The output's shape; what the inputs must satisfy goes to ``require``."""
        if self.preserves_shape:
            return inputs[0]
        raise NotImplementedError(self.name)

    @property
    def takes(self) -> tuple[int, int]:
        """The least and the greatest number of inputs with these attributes."""
        return self.inputs

    @property
    def outputs(self) -> tuple[str, ...]:
        """The outputs' names, the first what the op's own name means; one output needs no name."""
        return ("",)

    @property
    def whole_outputs(self) -> tuple[bool, ...]:
        """Of each output whether it is of whole numbers; empty if none is."""
        return ()

    def shapes(self, inputs: tuple[Shape, ...], require: Require) -> tuple[Shape, ...]:
        """The shape of each output."""
        return (self.shape(inputs, require),)

    def slots(self, inputs: tuple[Shape, ...]) -> tuple[Slot, ...]:
        """The op's parameters and statistics, in the order in which they are registered."""
        return ()

    def macs(self, inputs: tuple[Shape, ...], output: Shape) -> Number:
        """Multiply-accumulates for one forward pass; counted, as is usual, for convolutions and matrix products."""
        return 0

    def reach(self, along: Along) -> Reach:
        """Which elements of its inputs an output element reads: ``reach = pointwise`` or ``whole_image``, or a window.

        Every op says so; the attributes have values when it is asked.
        """
        raise NotImplementedError(self.name)

    def derived(self, inputs: tuple[Shape, ...]) -> dict[str, Any]:
        """What the code asks for beyond the attributes, such as ``in_channels``."""
        return {}

    @property
    def has_state(self) -> bool:
        """Whether it must be an attribute of its class: it has weights, or behaves differently in training."""
        return self.stochastic or type(self).slots is not Op.slots

    @cached_property
    def symbolic(self) -> dict[str, Any]:
        """The attributes that depend on symbols."""
        return {name: value for name, value in self.attributes().items() if symbols_of(value)}

    def attributes(self) -> dict[str, Any]:
        """The attributes by name, as resolved."""
        return {item.name: getattr(self, item.name) for item in fields(self)}  # type: ignore[arg-type]


OPS: dict[str, type[Op]] = {}
"""Every op by name; filled by :func:`op` as the modules of this package are imported."""

_T = TypeVar("_T", bound=type[Op])


@dataclass_transform(frozen_default=True, kw_only_default=True)
def op(name: str) -> Callable[[_T], _T]:
    """Declare an op: make its class a frozen dataclass and enter it in :data:`OPS`."""

    def enter(declared: _T) -> _T:
        if declared.reach is Op.reach:
            raise TypeError(f"the op {name} does not say how it moves the receptive field: reach = pointwise, for one")
        made: _T = dataclass(frozen=True, kw_only=True)(declared)  # type: ignore[assignment]
        made.name = name
        made.is_tensor = made.inputs[1] == 0
        OPS[name] = made
        return made

    return enter


def product(numbers: tuple[Number, ...]) -> Number:
    """The product of the numbers; 1 for none."""
    result: Number = 1
    for number in numbers:
        result = result * number
    return result


def axis_of(shape: Shape, axis: int, require: Require) -> int:
    """The axis counted from the front; one that the tensor has not is reported and answered with the last."""
    last = len(shape) - 1
    require.at_least(min(axis + last + 1, last - axis), 0, f"the input has no axis {axis}", f"its axes are 0 to {last}")
    return min(axis if axis >= 0 else max(axis + last + 1, 0), last)


def map_of(inputs: tuple[Shape, ...], require: Require, index: int = 0) -> tuple[Number, Number, Number, Number]:
    """The (N, C, H, W) of an input that must be a map; a wrong rank is reported and answered with ones."""
    shape = inputs[index]
    require.equal(len(shape), 4, f"expected a map (N, C, H, W), found {len(shape)} axes")
    n, c, h, w = shape if len(shape) == 4 else (*shape, 1, 1, 1, 1)[:4]
    return n, c, h, w
