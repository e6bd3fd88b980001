"""How parameters start: each distribution declared once, in PyTorch's sense of fan.

He, Zhang, Ren, Sun 2015 (kaiming); Glorot, Bengio 2010 (xavier). For a weight of canonical shape
(a, b, *kernel), fan-in is b·|kernel| and fan-out a·|kernel|, as in ``torch.nn.init``.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SerializeAsAny, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from segspec.errors import shown, suggest
from segspec.ops.laws import Gaussian, Interval, Law, Point


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """Fan-in and fan-out of a weight of this canonical shape, (a, b, *kernel)."""
    return math.prod(shape[1:]), shape[0] * math.prod(shape[2:])


class Initializer(BaseModel):
    """Base of every initialiser."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    name: ClassVar[str]
    axes: ClassVar[int] = 1
    """How many axes a tensor must have at least to be filled so."""

    def objection(self, axes: int, weight: int) -> str:
        """Why it cannot fill a tensor of so many axes, beside a weight of so many; nothing if it can."""
        return f"{self.name} needs a tensor of at least {self.axes} axes, not {axes}" if axes < self.axes else ""

    def law(self, fan_in: int, fan_out: int) -> Law | None:
        """How each element is distributed, the fans being the weight's; None where each has a value of its own."""
        raise NotImplementedError(self.name)


class Zeros(Initializer):
    """All zeros."""

    name = "zeros"

    def law(self, fan_in: int, fan_out: int) -> Law:
        return Point(0.0)


class Ones(Initializer):
    """All ones."""

    name = "ones"

    def law(self, fan_in: int, fan_out: int) -> Law:
        return Point(1.0)


class Constant(Initializer):
    """One value everywhere."""

    name = "constant"
    value: float

    def law(self, fan_in: int, fan_out: int) -> Law:
        return Point(self.value)


class Normal(Initializer):
    """A normal distribution."""

    name = "normal"
    mean: float = 0.0
    std: float = Field(gt=0)

    def law(self, fan_in: int, fan_out: int) -> Law:
        return Gaussian(self.mean, self.std)


class Uniform(Initializer):
    """A uniform distribution between ``low`` and ``high``."""

    name = "uniform"
    low: float
    high: float

    def law(self, fan_in: int, fan_out: int) -> Law:
        return Interval(self.low, self.high)

    @model_validator(mode="after")
    def _ordered(self) -> Uniform:
        if self.low >= self.high:
            raise PydanticCustomError("initializer", "low must be less than high")
        return self


class KaimingNormal(Initializer):
    """Normal with std √(2 / fan), for layers before a ReLU."""

    name = "kaiming_normal"
    axes = 2
    mode: Literal["fan_in", "fan_out"] = "fan_in"

    def law(self, fan_in: int, fan_out: int) -> Law:
        return Gaussian(0.0, math.sqrt(2 / (fan_in if self.mode == "fan_in" else fan_out)))


class KaimingUniform(Initializer):
    """Uniform in ±√(6 / fan), for layers before a ReLU."""

    name = "kaiming_uniform"
    axes = 2
    mode: Literal["fan_in", "fan_out"] = "fan_in"

    def law(self, fan_in: int, fan_out: int) -> Law:
        return _within(math.sqrt(6 / (fan_in if self.mode == "fan_in" else fan_out)))


class XavierNormal(Initializer):
    """Normal with std √(2 / (fan_in + fan_out))."""

    name = "xavier_normal"
    axes = 2

    def law(self, fan_in: int, fan_out: int) -> Law:
        return Gaussian(0.0, math.sqrt(2 / (fan_in + fan_out)))


class XavierUniform(Initializer):
    """Uniform in ±√(6 / (fan_in + fan_out))."""

    name = "xavier_uniform"
    axes = 2

    def law(self, fan_in: int, fan_out: int) -> Law:
        return _within(math.sqrt(6 / (fan_in + fan_out)))


class FanInUniform(Initializer):
    """Uniform in ±1 / √fan_in, the fan being the weight's: PyTorch's default for weights and biases."""

    name = "fan_in_uniform"

    def objection(self, axes: int, weight: int) -> str:
        return f"{self.name} needs a weight of at least 2 axes, not {weight}" if weight < 2 else ""

    def law(self, fan_in: int, fan_out: int) -> Law:
        return _within(1 / math.sqrt(fan_in))


class Bilinear(Initializer):
    """Bilinear enlargement of each channel by itself, for transposed convolutions (Long, Shelhamer, Darrell 2015).

    Input channel i goes to its group's output channel i alone, through 1 − |y| / ⌈k/2⌉ along either axis, y
    counted from the kernel's centre; all else is zero.
    """

    name = "bilinear"
    axes = 4

    def objection(self, axes: int, weight: int) -> str:
        return f"{self.name} needs a tensor of 4 axes, not {axes}" if axes != 4 else ""

    def law(self, fan_in: int, fan_out: int) -> None:
        return None


def _within(bound: float) -> Law:
    return Interval(-bound, bound)


INITIALIZERS: dict[str, type[Initializer]] = {
    made.name: made
    for made in (
        *(Zeros, Ones, Constant, Normal, Uniform, KaimingNormal, KaimingUniform),
        *(XavierNormal, XavierUniform, FanInUniform, Bilinear),
    )
}


def _read(value: Any) -> Any:
    if isinstance(value, Initializer):
        return value
    name: Any = value
    options: dict[str, Any] = {}
    if isinstance(value, dict) and len(value) == 1:
        ((name, options),) = value.items()
    if not isinstance(name, str) or name not in INITIALIZERS or not isinstance(options, dict):
        expected = f"expected an initialiser, a word or {{word: {{option: value}}}}, found {shown(value)}"
        near = suggest(str(name), INITIALIZERS, what="initialisers")
        raise PydanticCustomError("initializer", "{expected}", {"expected": expected, "remedy": near})
    try:
        return INITIALIZERS[name](**options)
    except ValidationError as error:
        found = [
            InitErrorDetails(type=item["type"], loc=(name, *item["loc"]), input=item["input"], ctx=item.get("ctx", {}))
            for item in error.errors()
        ]
        raise ValidationError.from_exception_data(name, found) from None


AnyInitializer = Annotated[SerializeAsAny[Initializer], BeforeValidator(_read)]
"""An initialiser as written in YAML: ``zeros`` or ``{normal: {std: 0.01}}``."""
