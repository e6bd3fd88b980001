"""What the models of every part of a spec are made of: their base, their errors, the kinds of text they hold."""

from __future__ import annotations

import keyword
from typing import Annotated, Any, TypeAlias

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, WithJsonSchema
from pydantic_core import PydanticCustomError

from segspec.algebra.expressions import Expression, Loop, References, Template, Value
from segspec.errors import shown
from segspec.spec.names import objection


class Model(BaseModel):
    """Base of all: immutable, closed."""

    # A schema holds those of all that it refers to, so that each is built when it is first used.
    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True, strict=True, defer_build=True)


def error(
    code: str, message: str, remedy: str = "", *, at: str | None = None, key: bool = False
) -> PydanticCustomError:
    """An error that keeps segspec's code and remedy on its way through Pydantic.

    ``at`` says below which key the wrong value stands, with ``key`` that the key itself is wrong.
    """
    held = {"message": message, "code": code, "remedy": remedy, "at": at, "key": key}
    return PydanticCustomError("segspec", "{message}", held)  # Pydantic fills braces, and a user's text may hold some


def _name(value: str) -> str:
    if reason := objection(value):
        raise error("name", reason, "choose another name")
    return value


def _template(value: Any) -> Any:
    if not isinstance(value, str):
        raise error("schema", f"expected a name, found {shown(value)}", "put it in quotes" if value is not None else "")
    return Template(value)


def references(value: Any) -> Any:
    """What an entry of ``from`` says."""
    if not isinstance(value, str):
        raise error("schema", f"expected a node's name, found {shown(value)}", "a reference is text, such as enc1")
    if keyword.iskeyword(value):
        raise error("name", objection(value), "choose another name")
    return References(value)


def listed(value: Any) -> Any:
    """A list, or the one item of it that stands by itself."""
    return value if isinstance(value, list) else [value]


def _text(value: Any) -> Any:
    if not isinstance(value, str):
        raise error("schema", f"expected text, found {shown(value)}", "put it in quotes" if value is not None else "")
    return value.strip()


def something(value: Any) -> Any:
    """What stands after a key, where leaving the key out would mean something."""
    if value is None:
        raise error("schema", "nothing stands after the key", "give it a value, or leave the key out")
    return value


def _test(key: str) -> Expression:
    """The condition of a key ``if CONDITION``."""
    return Expression(key[len("if") :].strip())


def _number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise error("schema", f"expected a number, found {shown(value)}")
    return value


Name: TypeAlias = Annotated[str, AfterValidator(_name)]
Text: TypeAlias = Annotated[str, BeforeValidator(_text)]
Word: TypeAlias = Annotated[Template, BeforeValidator(_template), WithJsonSchema({"type": "string"})]
Each: TypeAlias = Annotated[Loop, BeforeValidator(Loop), WithJsonSchema({"type": "string"})]
Test: TypeAlias = Annotated[Expression, BeforeValidator(_test), WithJsonSchema({"type": "string"})]
AnyValue: TypeAlias = Annotated[Value, BeforeValidator(Value), WithJsonSchema({})]
Number: TypeAlias = Annotated[int | float, BeforeValidator(_number)]
Ref: TypeAlias = Annotated[References, BeforeValidator(references), WithJsonSchema({"type": "string"})]
Refs: TypeAlias = Annotated[list[Ref], BeforeValidator(listed)]
