"""What ``checkpoints:`` of a spec may hold: how published checkpoints name the tensors of the network.

A rule gives a module of the published network the path of its node. It holds for all that lies below, so the
names of tensors (weight, running_mean) never occur: they are the framework's, and known of it. What no rule
names has the same path in both.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Field, WithJsonSchema

from segspec.algebra.expressions import Pattern
from segspec.errors import shown
from segspec.spec.basics import AnyValue, Each, Model, Name, Test, Text, Word, error, listed

DEFAULTS = "defaults"
"""What stands in ``presets`` for the spec without any."""


def _pattern(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise error("schema", f"expected a name, found {shown(value)}", "put it in quotes" if value is not None else "")
    return Pattern(value)


Foreign: TypeAlias = Annotated[Pattern, BeforeValidator(_pattern), WithJsonSchema({"type": "string"})]
Foreigns: TypeAlias = Annotated[list[Foreign], BeforeValidator(listed)]
Words: TypeAlias = Annotated[list[Word], BeforeValidator(listed)]


class Within(Model):
    """A module that is a block of the network, and the checkpoint of the block's own spec that names what is in it."""

    node: Annotated[Word, Field(examples=["NODE"])]
    checkpoint: Annotated[Name, Field(examples=["NAME"])]


class Rename(Model):
    """``FOREIGN: OWN``: what the published network calls a module, and the path that it has here."""

    kind: Literal["<rename>"] = "<rename>"
    key: str
    foreign: Annotated[Foreign, Field(alias="<foreign>")]
    own: Annotated[Word, Field(alias="<value>")]


class Delegate(Model):
    """``FOREIGN: {node: …, checkpoint: …}``: a block whose own spec names what is in it."""

    kind: Literal["<within>"] = "<within>"
    key: str
    foreign: Annotated[Foreign, Field(alias="<foreign>")]
    within: Annotated[Within, Field(alias="<value>")]


class RuleLoop(Model):
    """``for NAME in LIST:`` and the rules it repeats."""

    kind: Literal["<for>"] = "<for>"
    key: str
    loop: Annotated[Each, Field(alias="<loop>")]
    body: Annotated[Rules, Field(alias="<value>")]


class RuleCondition(Model):
    """``if CONDITION:`` and the rules it keeps."""

    kind: Literal["<if>"] = "<if>"
    key: str
    test: Annotated[Test, Field(alias="<test>")]
    body: Annotated[Rules, Field(alias="<value>")]


def _rules(value: Any) -> Any:
    if not isinstance(value, dict):
        remedy = "rules are a mapping from the published names to paths of nodes"
        raise error("schema", f"expected rules, found {shown(value)}", remedy)
    return [_rule(key, entry) for key, entry in value.items()]


def _rule(key: str, value: Any) -> dict[str, Any]:
    word = key.partition(" ")[0].lower()
    if word == "for":
        return {"kind": "<for>", "key": key, "<loop>": key, "<value>": value}
    if word == "if":
        return {"kind": "<if>", "key": key, "<test>": key, "<value>": value}
    kind = "<within>" if isinstance(value, dict) else "<rename>"
    return {"kind": kind, "key": key, "<foreign>": key, "<value>": value}


AnyRule: TypeAlias = Annotated[Rename | Delegate | RuleLoop | RuleCondition, Field(discriminator="kind")]
Rules: TypeAlias = Annotated[list[AnyRule], BeforeValidator(_rules)]


class Checkpoint(Model):
    """One published checkpoint, or several of one naming.

    ``presets`` are those whose network it is of, the first that fits being taken. Tensors whose shapes depend
    on the parameter ``classes`` are the classifier's: a file may have another number of classes.
    """

    title: Annotated[Text, Field(examples=["…"])]
    url: Text = ""
    doc: Text = ""
    backend: Annotated[str, Field(examples=["torch"])]
    presets: list[str] = [DEFAULTS]
    classes: Name = "num_classes"
    let: dict[Name, AnyValue] = {}
    words: Annotated[dict[str, str], Field(description="segments of names that are called otherwise everywhere")] = {}
    rules: Rules = []
    ignore: Annotated[Foreigns, Field(description="what of the file the network has no use for")] = []
    lacks: Annotated[Words, Field(description="nodes that the file has nothing for")] = []
    zeros: Annotated[Words, Field(description="tensors that are zero and not in the file")] = []
    bgr: Annotated[Words, Field(description="convolutions that read an image whose channels are BGR")] = []
