"""What a spec file may hold, as Pydantic models; unknown keys are errors everywhere.

The models keep what was written: expressions are parsed, never evaluated. The models of op nodes are
derived from the declarations in :mod:`segspec.ops`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Literal, TypeAlias, Union

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    WithJsonSchema,
    create_model,
)
from pydantic_core import PydanticCustomError

from segspec.algebra.expressions import (
    Expression,
    ExpressionError,
    References,
    Template,
    Value,
    parse_loop,
)
from segspec.errors import suggest
from segspec.ops import OPS
from segspec.ops.attributes import Kind, kind_of
from segspec.ops.initializers import AnyInitializer
from segspec.spec.names import objection

TYPES = ("int", "float", "bool", "str", "list")
WAYS = ("op", "block", "sequence", "apply")


class Model(BaseModel):
    """Base of all: immutable, closed."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True, populate_by_name=True)


def error(code: str, message: str, remedy: str = "") -> PydanticCustomError:
    """An error that keeps segspec's code and remedy on its way through Pydantic."""
    # Pydantic fills {braces} in messages; what a user wrote may hold some.
    return PydanticCustomError("segspec", "{message}", {"message": message, "code": code, "remedy": remedy})


def _name(value: str) -> str:
    if reason := objection(value):
        raise error("name", reason, "choose another name")
    return value


def _template(value: Any) -> Any:
    if not isinstance(value, str):
        raise error("schema", f"expected a name, found {value!r}")
    return Template(value)


def _references(value: Any) -> Any:
    if not isinstance(value, str):
        raise error(
            "schema",
            f"expected a node's name, found {value!r}",
            "a reference is text, such as enc1",
        )
    return References(value)


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _text(value: Any) -> Any:
    if not isinstance(value, str):
        raise error("schema", f"expected text, found {value!r}", "put it in quotes")
    return value.strip()


Name: TypeAlias = Annotated[str, AfterValidator(_name)]
Text: TypeAlias = Annotated[str, BeforeValidator(_text)]
Word: TypeAlias = Annotated[Template, BeforeValidator(_template), WithJsonSchema({"type": "string"})]
AnyValue: TypeAlias = Annotated[Value, BeforeValidator(Value), WithJsonSchema({})]
Ref: TypeAlias = Annotated[References, BeforeValidator(_references), WithJsonSchema({"type": "string"})]
Refs: TypeAlias = Annotated[list[Ref], BeforeValidator(_listed)]


class Citation(Model):
    """A paper or a reference implementation."""

    title: Text
    authors: Text = ""
    year: int | None = None
    url: Text = ""
    note: Text = ""


class Parameter(Model):
    """A parameter: its type or its default, and what it means. ``stride: 1`` and ``channels: int`` are short forms."""

    type: Literal["int", "float", "bool", "str", "list"]
    default: Any = None
    required: bool = True
    doc: Text = ""
    choices: list[Any] | None = None
    minimum: int | float | None = None


def _parameter(value: Any) -> Any:
    if isinstance(value, str) and value in TYPES:
        return {"type": value}
    if isinstance(value, dict):
        if unknown := [key for key in value if key not in ("type", "default", "doc", "choices", "minimum")]:
            raise error(
                "schema",
                f"a parameter has no '{unknown[0]}'",
                suggest(unknown[0], ("type", "default", "doc", "choices", "minimum")),
            )
        if "default" not in value and "type" not in value:
            raise error(
                "schema",
                "a parameter needs a type or a default",
                "write 'channels: int' or 'stride: 1'",
            )
        given = {**value, "required": "default" not in value}
    else:
        given = {"default": value, "required": False}
    if not given["required"]:
        found = _type_of(given["default"])
        if found is None:
            raise error(
                "schema",
                f"{given['default']!r} cannot be a parameter's default",
                "use a number, a bool, a word or a list",
            )
        if found == "str" and not isinstance(value, dict):
            known = suggest(given["default"], TYPES, what="types")
            raise error(
                "schema",
                f"'{given['default']}' is not a type",
                f"{known}; a word as default is {{default: {given['default']}}}",
            )
        declared = given.setdefault("type", found)
        if declared != found and not (declared == "float" and found == "int"):
            raise error("schema", f"the default {given['default']!r} is not of the type {declared}")
    choices = given.get("choices")
    if isinstance(choices, list) and not given["required"] and given["default"] not in choices:
        raise error(
            "choice",
            f"the default {given['default']!r} is not among the choices",
            f"choices: {choices}",
        )
    return given


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
    """An input of a block: a map, whose channels a spec's own inputs state as an expression."""

    name: Ref
    channels: AnyValue | None = None
    doc: Text = ""


def _inputs(value: Any) -> Any:
    if isinstance(value, dict):
        return [{"name": name, **(given if isinstance(given, dict) else {"": given})} for name, given in value.items()]
    return [{"name": name} for name in value] if isinstance(value, list) else value


class Output(Model):
    """An output: which node's value it is, and when the network returns it.

    ``when: training`` leaves it to train mode; ``when: used`` to blocks that ask for it by name.
    """

    name: Word | None = None
    source: Annotated[References, BeforeValidator(_references), Field(alias="from")]
    tests: list[Any] = Field(default=[], alias="<tests>")
    path: tuple[str | int, ...] = Field(default=(), alias="<path>")
    when: Literal["always", "training", "used"] = "always"
    loss_weight: float = Field(default=1.0, ge=0)
    doc: Text = ""


def _outputs(value: Any) -> Any:
    if isinstance(value, str):
        value = [value]
    if isinstance(value, list):
        entries = enumerate(value)
        return [_output(None, item, ("outputs", index), []) for index, item in entries]
    if isinstance(value, dict):
        return list(_named_outputs(value, ("outputs",), []))
    return value


def _named_outputs(value: dict[str, Any], path: tuple[str | int, ...], tests: list[Expression]) -> Iterator[Any]:
    for name, given in value.items():
        if name.startswith("if ") and isinstance(given, dict):
            yield from _named_outputs(given, (*path, name), [*tests, Expression(name[3:])])
        else:
            yield _output(name, given, (*path, name), tests)


def _output(name: str | None, given: Any, path: tuple[str | int, ...], tests: list[Expression]) -> Any:
    fields = {"name": name, "<path>": path, "<tests>": tests}
    return {**fields, **given} if isinstance(given, dict) else {**fields, "from": given}


class Node(Model):
    """What every node may have: what it reads, how often it is repeated, a comment."""

    source: Annotated[Refs | None, Field(alias="from")] = None
    repeat: AnyValue | None = None
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
    elif kind.word:
        held = Word
    else:
        held = Annotated[Value, BeforeValidator(_literal(kind)), WithJsonSchema({"description": kind.expected})]
    return (held, ...) if required else (held | None, None)


def _literal(kind: Kind) -> Any:
    def read(raw: Any) -> Value:
        if isinstance(raw, dict) or raw is None:
            raise error("schema", f"expected {kind.expected}, found {raw!r}")
        return Value(raw)

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
        raise error("schema", f"expected a node, found {value!r}", "a node is a mapping, such as {op: relu}")
    ways = [key for key in WAYS if key in value]
    if len(ways) != 1:
        if not ways:
            near = next((suggest(key, WAYS) for key in value if "did you mean" in suggest(key, WAYS)), "")
            raise error(
                "schema",
                "a node needs one of op, block, sequence and apply",
                near or "write {op: relu}",
            )
        raise error("schema", f"a node is one of {' and '.join(ways)}, not both", "make two nodes of it")
    if ways == ["op"] and value["op"] not in OPS:
        raise error(
            "unknown-op",
            f"no op is called {value['op']!r}",
            suggest(str(value["op"]), OPS, what="ops"),
        )
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
    target: Any
    items: Any
    body: Annotated[Elements, Field(alias="<value>")]


class ConditionElements(Model):
    """``if CONDITION:`` in a sequence, and the elements it keeps."""

    kind: Literal["<where>"] = "<where>"
    key: str
    test: Any
    body: Annotated[Elements, Field(alias="<value>")]


def _elements(value: Any) -> Any:
    """A list of nodes, or one node, as the body of ``for`` and ``if`` may be."""
    items = value if isinstance(value, list) else [value]
    return [_element(item) for item in items]


def _element(value: Any) -> Any:
    if isinstance(value, dict) and len(value) == 1 and next(iter(value)).startswith(("for ", "if ")):
        ((key, inner),) = value.items()
        made = _statement(key, inner)
        return {**made, "kind": {"<loop>": "<each>", "<condition>": "<where>"}[made["kind"]]}
    return {"kind": "<element>", "<value>": value}


AnyElement: TypeAlias = Annotated[ElementStatement | LoopElements | ConditionElements, Field(discriminator="kind")]
Elements: TypeAlias = Annotated[list[AnyElement], BeforeValidator(_elements), Field(min_length=1)]


class Statement(Model):
    """One entry of ``nodes``, under the key it was written with."""

    key: str


class NodeStatement(Statement):
    """A node and its name, which may hold expressions in braces."""

    kind: Literal["<node>"] = "<node>"
    name: Word
    node: Annotated[AnyNode, Field(alias="<value>")]


class LoopStatement(Statement):
    """``for NAME in LIST:`` and the nodes it repeats."""

    kind: Literal["<loop>"] = "<loop>"
    target: Any
    items: Any
    body: Annotated[Body, Field(alias="<value>")]


class ConditionStatement(Statement):
    """``if CONDITION:`` and the nodes it keeps."""

    kind: Literal["<condition>"] = "<condition>"
    test: Any
    body: Annotated[Body, Field(alias="<value>")]


def _body(value: Any) -> Any:
    if not isinstance(value, dict):
        raise error("schema", f"expected nodes, found {value!r}", "nodes are a mapping from names to nodes")
    return [_statement(key, entry) for key, entry in value.items()]


def _statement(key: str, value: Any) -> dict[str, Any]:
    try:
        if key.startswith("for "):
            target, items = parse_loop(key)
            return {
                "kind": "<loop>",
                "key": key,
                "target": target,
                "items": items,
                "<value>": value,
            }
        if key.startswith("if "):
            return {
                "kind": "<condition>",
                "key": key,
                "test": Expression(key[3:]),
                "<value>": value,
            }
    except ExpressionError as problem:
        raise error(problem.code, str(problem), problem.remedy) from None
    return {"kind": "<node>", "key": key, "name": key, "<value>": value}


AnyStatement: TypeAlias = Annotated[NodeStatement | LoopStatement | ConditionStatement, Field(discriminator="kind")]
Body: TypeAlias = Annotated[list[AnyStatement], BeforeValidator(_body)]
AnyParameter: TypeAlias = Annotated[Parameter, BeforeValidator(_parameter)]
Init: TypeAlias = dict[str, dict[str, AnyInitializer]]


class Block(Model):
    """A named graph with parameters, inputs, nodes and outputs."""

    doc: Text = ""
    class_name: Word | None = None
    references: list[Citation] = []
    params: dict[Name, AnyParameter] = {}
    let: dict[Name, AnyValue] = {}
    inputs: Annotated[list[Input], BeforeValidator(_inputs)] = Field(default=["x"], validate_default=True)
    nodes: Body = []
    outputs: Annotated[list[Output], BeforeValidator(_outputs)] = []


class Expected(Model):
    """What the reference has: ``check`` holds the network to it."""

    parameters: int | None = None


class Expectations(Expected):
    """What is expected of the network at its defaults and at its presets."""

    presets: dict[Name, Expected] = {}


class Spec(Block):
    """A file: a network with blocks of its own, or (without nodes) a library of blocks."""

    segspec: Literal[1]
    name: Name = ""
    title: Text = ""
    imports: Annotated[dict[str, list[Name]], Field(alias="import")] = {}
    blocks: dict[Name, Block] = {}
    presets: dict[Name, dict[str, Any]] = {}
    init: Init = {}
    expect: Expectations = Expectations()


for _model in (
    SequenceNode,
    LoopElements,
    ConditionElements,
    LoopStatement,
    ConditionStatement,
    NodeStatement,
    Block,
    Spec,
):
    _model.model_rebuild()
