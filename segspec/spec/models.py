"""What a spec file may hold, as Pydantic models; unknown keys are errors everywhere.

The models keep what was written: expressions are parsed, never evaluated. The models of op nodes are
derived from the declarations in :mod:`segspec.ops`.

Fields whose alias stands in <angle brackets> are made here, from a key or from how a thing was written.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Literal, TypeAlias, Union

from pydantic import BeforeValidator, ConfigDict, Discriminator, Field, Tag, WithJsonSchema, create_model

from segspec.algebra.expressions import References, Template, Value
from segspec.errors import shown, suggest
from segspec.ops import OPS
from segspec.ops.attributes import Kind, kind_of
from segspec.ops.initializers import AnyInitializer
from segspec.spec.basics import (
    AnyValue,
    Each,
    Model,
    Name,
    Number,
    Ref,
    Refs,
    Test,
    Text,
    Word,
    error,
    references,
    something,
)
from segspec.spec.checkpoints import Checkpoint, RuleCondition, RuleLoop

TYPES = ("int", "float", "bool", "str", "list")
WAYS = ("op", "block", "sequence", "apply")
MAX_NAMES = 500


def _version(value: Any) -> Any:
    if value != 1:
        raise error("schema", f"segspec reads version 1 of the language, found {shown(value)}", "write segspec: 1")
    return value


class Citation(Model):
    """A paper or a reference implementation."""

    title: Annotated[Text, Field(examples=["…"])]
    authors: Text = ""
    year: int | None = None
    url: Text = ""
    note: Text = ""


class Parameter(Model):
    """A parameter: its type or its default, and what it means. ``stride: 1`` and ``channels: int`` are short forms."""

    type: Literal["int", "float", "bool", "str", "list"]
    default: Any = None
    required: Annotated[bool, Field(alias="<required>")] = True
    doc: Text = ""
    choices: list[Any] | None = None
    minimum: Number | None = None


def _parameter(value: Any) -> Any:
    if isinstance(value, str) and value in TYPES:
        return {"type": value}
    if isinstance(value, dict) and not {"default", "type"} & value.keys():
        near = next((suggest(key, ("default", "type")) for key in value), "")
        raise error(
            "schema",
            "a parameter needs a type or a default",
            near if near.startswith("did you") else "write 'channels: int' or 'stride: 1'",
        )
    given = {**value, "<required>": "default" not in value} if isinstance(value, dict) else {"default": value}
    if "default" in given:
        _default(given, short=not isinstance(value, dict))
    return {"<required>": False, **given}


def _default(given: dict[str, Any], *, short: bool) -> None:
    """Check a parameter's default, and let its type follow from it."""
    default, at = given["default"], None if short else "default"
    found = _type_of(default)
    if found is None:
        what = f"{shown(default)} cannot be a parameter's default"
        raise error("schema", what, "use a number, true or false, a word or a list", at=at)
    if found == "str" and short:
        near = suggest(default, TYPES, what="types")
        raise error(
            "schema",
            f"{shown(default)} is not a type",
            f"{near}; a word as default is {{default: {default}}}",
        )
    declared = given.setdefault("type", found)
    if declared in TYPES and declared != found and (declared, found) != ("float", "int"):
        raise error("schema", f"the default {shown(default)} is not of the type {declared}", at=at)
    choices, least = given.get("choices"), given.get("minimum")
    if isinstance(choices, list) and default not in choices:
        listed = ", ".join(map(shown, choices))
        raise error("choice", f"the default {shown(default)} is not among the choices", f"choices: {listed}", at=at)
    if isinstance(least, int | float) and isinstance(default, int | float) and default < least:
        raise error("choice", f"the default {shown(default)} is below the minimum", f"minimum: {least}", at=at)


def _type_of(value: Any) -> str | None:
    for kind, name in (
        (bool, "bool"),
        (int, "int"),
        (float, "float"),
        (str, "str"),
        (list, "list"),
    ):
        if isinstance(value, kind):
            return name
    return None


class Input(Model):
    """An input of a block: a map, whose channels a spec's own inputs state as an expression.

    ``length`` says that it is (N, C, L) and what its last axis is, such as the nodes of a graph.
    """

    name: Annotated[Ref, Field(alias="<name>")]
    path: Annotated[tuple[str | int, ...], Field(alias="<path>")]
    channels: Annotated[AnyValue | None, BeforeValidator(something)] = None
    length: Annotated[AnyValue | None, BeforeValidator(something)] = None
    doc: Text = ""

    def stated(self) -> dict[str, tuple[int, Value]]:
        """What is said of its axes: which axis, and its size."""
        held = (("channels", 1, self.channels), ("length", 2, self.length))
        return {name: (axis, value) for name, axis, value in held if value is not None}


def listed_inputs(value: Any) -> Any:
    """The inputs one by one, each with its name and path."""
    if isinstance(value, dict):
        return [_input(name, given) for name, given in value.items()]
    if isinstance(value, list):
        return [{"<name>": name, "<path>": ("inputs", index)} for index, name in enumerate(value)]
    raise error("schema", f"expected inputs, found {shown(value)}", "write [x, skip], or {image: {channels: 3}}")


def _input(name: str, given: Any) -> Any:
    if given is not None and not isinstance(given, dict):
        raise error("schema", f"expected what the input is, found {shown(given)}", "write {channels: 3}", at=name)
    return _made(given or {}, {"<name>": name, "<path>": ("inputs", name)})


def _made(given: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """What an author gave, with the fields that are made here; nobody else gives these."""
    if taken := next((key for key in given if key in own), None):
        raise error("schema", f"'{taken}' has no meaning here", "remove it")
    return {**given, **own}


class Output(Model):
    """An output: which node's value it is, and when the network returns it.

    ``when: training`` leaves it to train mode; ``when: used`` to blocks that ask for it by name.
    """

    name: Annotated[Word | None, Field(alias="<name>")] = None
    source: Annotated[References, BeforeValidator(references), Field(alias="from", examples=["NODE"])]
    tests: Annotated[list[Test], Field(alias="<tests>")] = []
    path: Annotated[tuple[str | int, ...], Field(alias="<path>")] = ()
    when: Literal["always", "training", "used"] = "always"
    loss_weight: Annotated[Number, Field(ge=0)] = 1.0
    doc: Text = ""


def listed_outputs(value: Any) -> Any:
    """The outputs one by one, each with its name, its path and the conditions around it."""
    if isinstance(value, str):
        value = [value]
    if isinstance(value, list):
        return [_output(None, item, ("outputs", index), ()) for index, item in enumerate(value)]
    if isinstance(value, dict):
        return list(_named_outputs(value, ("outputs",), ()))
    raise error("schema", f"expected outputs, found {shown(value)}", "write [logits], or {logits: fc}")


def _named_outputs(value: dict[str, Any], path: tuple[str | int, ...], tests: tuple[str, ...]) -> Iterator[Any]:
    for name, given in value.items():
        if name.startswith("if ") and isinstance(given, dict):
            yield from _named_outputs(given, (*path, name), (*tests, name))
        else:
            yield _output(name, given, (*path, name), tests)


def _output(name: str | None, given: Any, path: tuple[str | int, ...], tests: tuple[str, ...]) -> Any:
    given = given if isinstance(given, dict) else {"from": given}
    return _made(given, {"<name>": name, "<path>": path, "<tests>": list(tests)})


class Node(Model):
    """What every node may have: what it reads, how often it is repeated, a comment."""

    source: Annotated[Refs | None, BeforeValidator(something), Field(alias="from")] = None
    repeat: Annotated[AnyValue | None, BeforeValidator(something)] = None
    doc: Text = ""

    way: ClassVar[str]


class OpNode(Node):
    """A node that is one op; the derived classes add the op's attributes."""

    op: str
    init: dict[str, AnyInitializer] = {}

    way: ClassVar = "op"

    def written(self) -> dict[str, Any]:
        """The attributes that the author gave."""
        common = OpNode.model_fields
        return {name: getattr(self, name) for name in self.model_fields_set if name not in common}


class BlockNode(Node):
    """A node that is a block; every other key is one of the block's parameters."""

    model_config = ConfigDict(extra="allow")
    block: Word

    way: ClassVar = "block"


class SequenceNode(Node):
    """A node that runs several nodes one after another, each on what the one before returned."""

    sequence: Elements

    way: ClassVar = "sequence"


class ApplyNode(Node):
    """A node that runs another node's module again, with the same weights."""

    apply: Word

    way: ClassVar = "apply"


def _attribute(kind: Kind, required: bool) -> Any:
    if kind.expected == "a node's name":
        held: Any = Ref
    else:
        held = Annotated[
            Template if kind.word else Value,
            BeforeValidator(_literal(kind)),
            WithJsonSchema({"description": kind.expected}),
        ]
    return (held, ... if required else None)


def _literal(kind: Kind) -> Any:
    def read(raw: Any) -> Template | Value:
        if isinstance(raw, dict) is not kind.named or raw is None or (kind.word and not isinstance(raw, str)):
            raise error("schema", f"expected {kind.expected}, found {shown(raw)}")
        return Template(raw) if kind.word else Value(raw)

    return read


@lru_cache
def op_models() -> dict[str, type[OpNode]]:
    """The node model of every op, derived from its declaration."""
    models = {}
    for name, declared in OPS.items():
        attributes = {
            item.name: _attribute(kind_of(declared, item.name), item.default is dataclasses.MISSING)
            for item in dataclasses.fields(declared)  # type: ignore[arg-type]
        }
        models[name] = create_model(
            f"{declared.__name__}Node",
            __base__=OpNode,
            __doc__=declared.__doc__,
            **{"op": (Literal[name], ...), **attributes},
        )
    return models


def _one_way(value: Any) -> Any:
    """Check that a node says one way to compute it, before its model is chosen by that."""
    if not isinstance(value, dict):
        raise error("schema", f"expected a node, found {shown(value)}", "a node is a mapping, such as {op: relu}")
    ways = [key for key in WAYS if key in value]
    if len(ways) > 1:
        raise error(
            "schema", f"a node is one of {' and '.join(ways)}, not both", "make two nodes of it", at=ways[1], key=True
        )
    if not ways:
        near = [(key, suggest(key, WAYS)) for key in value]
        at, remedy = next((item for item in near if item[1].startswith("did you")), (None, "write {op: relu}"))
        raise error("schema", "a node needs one of op, block, sequence and apply", remedy, at=at, key=True)
    if ways == ["op"] and (not isinstance(value["op"], str) or value["op"] not in OPS):
        near_op = suggest(str(value["op"]), OPS, what="ops")
        raise error("unknown-op", f"no op is called {shown(value['op'])}", near_op, at="op")
    return value


def _tag(value: Any) -> str:
    if isinstance(value, Node):
        return f"<{value.op}>" if isinstance(value, OpNode) else f"<{value.way}>"
    return f"<{value['op']}>" if "op" in value else next(f"<{way}>" for way in WAYS if way in value)


_MEMBERS: list[Any] = [Annotated[model, Tag(f"<{name}>")] for name, model in op_models().items()]
_MEMBERS += [
    Annotated[BlockNode, Tag("<block>")],
    Annotated[SequenceNode, Tag("<sequence>")],
    Annotated[ApplyNode, Tag("<apply>")],
]
AnyNode: TypeAlias = Annotated[Union[tuple(_MEMBERS)], Discriminator(_tag), BeforeValidator(_one_way)]  # type: ignore[valid-type]  # noqa: UP007


class ElementStatement(Model):
    """A node in a sequence."""

    kind: Literal["<element>"] = "<element>"
    node: Annotated[AnyNode, Field(alias="<value>")]


class LoopElements(Model):
    """``for NAME in LIST:`` in a sequence, and the elements it repeats."""

    kind: Literal["<each>"] = "<each>"
    key: str
    loop: Annotated[Each, Field(alias="<loop>")]
    body: Annotated[Elements, Field(alias="<value>")]


class ConditionElements(Model):
    """``if CONDITION:`` in a sequence, and the elements it keeps."""

    kind: Literal["<where>"] = "<where>"
    key: str
    test: Annotated[Test, Field(alias="<test>")]
    body: Annotated[Elements, Field(alias="<value>")]


def _elements(value: Any) -> Any:
    """A list of nodes, or one node, as the body of ``for`` and ``if`` may be."""
    items = value if isinstance(value, list) else [value]
    if not items:
        raise error("schema", "the sequence is empty", "give it a node")
    return [_element(item) for item in items]


def _element(value: Any) -> Any:
    if isinstance(value, dict) and len(value) == 1 and next(iter(value)).startswith(("for ", "if ")):
        ((key, inner),) = value.items()
        made = _statement(key, inner)
        return {**made, "kind": {"<loop>": "<each>", "<condition>": "<where>"}[made["kind"]]}
    return {"kind": "<element>", "<value>": value}


AnyElement: TypeAlias = Annotated[ElementStatement | LoopElements | ConditionElements, Field(discriminator="kind")]
Elements: TypeAlias = Annotated[list[AnyElement], BeforeValidator(_elements)]


class Statement(Model):
    """One entry of ``nodes``, under the key it was written with."""

    key: str


class NodeStatement(Statement):
    """A node and its name, which may hold expressions in braces."""

    kind: Literal["<node>"] = "<node>"
    name: Annotated[Word, Field(alias="<name>")]
    node: Annotated[AnyNode, Field(alias="<value>")]


class LoopStatement(Statement):
    """``for NAME in LIST:`` and the nodes it repeats."""

    kind: Literal["<loop>"] = "<loop>"
    loop: Annotated[Each, Field(alias="<loop>")]
    body: Annotated[Body, Field(alias="<value>")]


class ConditionStatement(Statement):
    """``if CONDITION:`` and the nodes it keeps."""

    kind: Literal["<condition>"] = "<condition>"
    test: Annotated[Test, Field(alias="<test>")]
    body: Annotated[Body, Field(alias="<value>")]


def _body(value: Any) -> Any:
    if not isinstance(value, dict):
        raise error("schema", f"expected nodes, found {shown(value)}", "nodes are a mapping from names to nodes")
    if unnamed := next((key for key in WAYS if not isinstance(value.get(key, {}), dict)), None):
        raise error("schema", "the node has no name", "write NAME: {op: relu}", at=unnamed, key=True)
    return [_statement(key, entry) for key, entry in value.items()]


def _statement(key: str, value: Any) -> dict[str, Any]:
    word = key.partition(" ")[0]
    word = word.lower() if " " in key else word
    if word == "for":
        return {"kind": "<loop>", "key": key, "<loop>": key, "<value>": value}
    if word == "if":
        return {"kind": "<condition>", "key": key, "<test>": key, "<value>": value}
    return {"kind": "<node>", "key": key, "<name>": key, "<value>": value}


AnyStatement: TypeAlias = Annotated[NodeStatement | LoopStatement | ConditionStatement, Field(discriminator="kind")]
Body: TypeAlias = Annotated[list[AnyStatement], BeforeValidator(_body)]
AnyParameter: TypeAlias = Annotated[Parameter, BeforeValidator(_parameter)]
Init: TypeAlias = dict[str, dict[str, AnyInitializer]]


class Block(Model):
    """A named graph with parameters, inputs, nodes and outputs."""

    doc: Text = ""
    class_name: Word | None = None
    references: list[Citation] = []
    params: Annotated[dict[Name, AnyParameter], Field(max_length=MAX_NAMES)] = {}
    let: Annotated[dict[Name, AnyValue], Field(max_length=MAX_NAMES)] = {}
    inputs: Annotated[list[Input], BeforeValidator(listed_inputs)] = Field(default=["x"], validate_default=True)
    nodes: Body = []
    outputs: Annotated[list[Output], BeforeValidator(listed_outputs)] = []


class Expected(Model):
    """What the reference has: ``check`` holds the network to it."""

    parameters: int | None = None


class Expectations(Expected):
    """What is expected of the network at its defaults and at its presets."""

    presets: dict[Name, Expected] = {}


class Spec(Block):
    """A file: a network with blocks of its own, or (without nodes) a library of blocks."""

    segspec: Annotated[int, BeforeValidator(_version), Field(examples=[1])]
    name: Name = ""
    title: Text = ""
    imports: Annotated[dict[str, list[Name]], Field(alias="import")] = {}
    blocks: dict[Name, Block] = {}
    presets: dict[Name, dict[str, Any]] = {}
    init: Init = {}
    expect: Expectations = Expectations()
    checkpoints: dict[Name, Checkpoint] = {}


@lru_cache(maxsize=1)
def complete() -> None:
    """Resolve what the models that refer to one another say of their fields; reading a spec does not need it."""
    for model in (
        SequenceNode,
        LoopElements,
        ConditionElements,
        LoopStatement,
        ConditionStatement,
        NodeStatement,
        RuleLoop,
        RuleCondition,
        Checkpoint,
        Block,
        Spec,
    ):
        model.model_rebuild()
