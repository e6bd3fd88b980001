"""The values that parameters get: checked against their types, or symbols where none is needed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from segspec.algebra.symbols import Sym, Symbol
from segspec.errors import Place, Problem, SpecError, fail, shown, suggest
from segspec.ops.attributes import whole
from segspec.spec import models
from segspec.spec.load import Definition


def root_values(definition: Definition, settings: Mapping[str, Any], preset: str) -> dict[str, Any]:
    """The values of a network's parameters: its defaults, a preset's over these, and the settings over both."""
    block = definition.block
    assert isinstance(block, models.Spec)
    if preset and preset not in block.presets:
        remedy = suggest(preset, block.presets, what="presets")
        raise fail("unknown-preset", f"'{definition.name}' has no preset '{preset[:80]}'", remedy=remedy)
    values: dict[str, Any] = {}
    problems: list[Problem] = []
    chosen = block.presets.get(preset, {})
    for key in settings:
        if key not in block.params:
            remedy = suggest(key, block.params, what="parameters")
            problems.append(
                Problem(
                    "unknown-parameter",
                    f"'{definition.name}' has no parameter '{key[:80]}'",
                    None,
                    "",
                    remedy,
                )
            )
    for name, parameter in block.params.items():
        place = definition.place("params", name)
        value = parameter.default
        if name in chosen:
            value, place = chosen[name], definition.place("presets", preset, name)
        if name in settings:
            value, place = settings[name], Place(f"--set {name}")
        if value is None:
            problems.append(
                Problem(
                    "argument",
                    f"the parameter '{name}' has no value",
                    place,
                    "",
                    f"write --set {name}=VALUE" if name in settings else "give it a default",
                )
            )
            continue
        try:
            values[name] = typed(name, value, parameter)
        except ValueError as error:
            problems.append(
                Problem(
                    "choice" if parameter.choices else "argument",
                    str(error),
                    place,
                    "",
                    choices_text(parameter),
                )
            )
    if problems:
        raise SpecError(problems)
    return values


def typed(name: str, value: Any, parameter: models.Parameter) -> Any:
    """The value as the parameter's type has it; ``ValueError`` if it cannot be."""
    kind = parameter.type
    if kind == "int":
        try:
            value = whole(None)(value)
        except ValueError:
            raise ValueError(f"'{name}' is a whole number, not {shown(value)}") from None
    elif kind == "float" and isinstance(value, int | float | Fraction | Sym) and not isinstance(value, bool):
        value = float(value) if isinstance(value, Fraction) else value
    elif not isinstance(value, _TYPES[kind]):
        raise ValueError(f"'{name}' is {kind_text(kind)}, not {shown(value)}")
    if parameter.choices is not None and not isinstance(value, Sym) and value not in parameter.choices:
        raise ValueError(f"'{name}' cannot be {shown(value)}")
    if parameter.minimum is not None and not isinstance(value, Sym) and value < parameter.minimum:
        raise ValueError(f"'{name}' is at least {parameter.minimum}, not {shown(value)}")
    return value


_TYPES: dict[str, tuple[type, ...]] = {"float": (float, Sym), "bool": (bool, Sym), "str": (str,), "list": (list,)}


def choices_text(parameter: models.Parameter) -> str:
    """What a parameter can be."""
    if parameter.choices:
        return "choices: " + ", ".join(map(str, parameter.choices))
    return f"it is {kind_text(parameter.type)}"


def kind_text(kind: str) -> str:
    """A parameter's type in words."""
    return {
        "int": "a whole number",
        "float": "a number",
        "bool": "true or false",
        "str": "a word",
        "list": "a list",
    }[kind]


def parameter_symbol(name: str, parameter: models.Parameter, value: Any = None) -> Symbol:
    """The symbol that stands for a parameter without a value.

    Its bounds must hold for every value that it can get, since comparisons are decided by them. A network's
    own parameter, whose ``value`` is known, counts as positive if that and its default are.
    """
    if parameter.type == "bool":
        return Symbol(name, 0, 1)
    if parameter.type == "float":
        return Symbol(name, -math.inf if parameter.minimum is None else parameter.minimum, whole=False)
    if parameter.minimum is not None:
        return Symbol(name, parameter.minimum)
    values = [item for item in (value, parameter.default) if isinstance(item, int)]
    positive = value is not None and all(item >= 1 for item in values)
    return Symbol(name, 1 if positive else 0 if all(item >= 0 for item in values) else -math.inf)
