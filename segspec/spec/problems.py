"""What Pydantic found wrong with a spec, as problems with a place, a node and a remedy.

Pydantic says where in the *models* something is wrong; here that is followed back to where in the text it
stands, and to the model whose keys are the ones that could have been meant.
"""

from __future__ import annotations

from itertools import islice
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, Tag, ValidationError

from segspec.algebra.expressions import ExpressionError
from segspec.errors import Problem, shown, suggest
from segspec.ops import OPS
from segspec.ops.attributes import kind_of
from segspec.ops.initializers import INITIALIZERS, Initializer
from segspec.spec import models
from segspec.spec.document import Document, Path

MAX_PROBLEMS = 200

_EXPECTED = {
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "list_type": "a list",
    "string_type": "a word",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
}


def problems_of(error: ValidationError, read: Document) -> list[Problem]:
    """The problems that a validation error stands for."""
    models.complete()
    return [_problem(item, read) for item in islice(error.errors(include_url=False), MAX_PROBLEMS)]


def _problem(item: Any, read: Document) -> Problem:
    kind, context = item["type"], item.get("ctx", {})
    if kind in ("extra_forbidden", "missing"):
        *location, key = item["loc"]
        return (_unknown if kind == "extra_forbidden" else _missing)(str(key), _Spot(location, read.data), read)
    spot = _Spot(item["loc"], read.data)
    place = read.place(spot.path, key=spot.key)
    if kind == "segspec":
        if context["at"] is not None:
            place = read.place((*spot.path, context["at"]), key=context["key"])
        return Problem(context["code"], context["message"], place, spot.node, context["remedy"])
    if isinstance(cause := context.get("error"), ExpressionError):
        return Problem(cause.code, str(cause), place, spot.node, cause.remedy)
    wanted, remedy = _EXPECTED.get(kind, ""), context.get("remedy", "")
    if kind == "literal_error":
        choices = [part.strip("' ") for part in context["expected"].replace(" or ", ", ").split(", ")]
        wanted, near = f"one of {', '.join(choices)}", suggest(str(item["input"]), choices)
        remedy = near if near.startswith("did you") else ""
    elif kind == "greater_than_equal":
        wanted = f"at least {context['ge']:g}"
    elif kind == "too_long":
        return Problem("limit", f"there are more than {context['max_length']} entries", place, spot.node)
    elif kind == "greater_than":
        wanted = f"more than {context['gt']:g}"
    message = f"expected {wanted}, found {shown(item['input'])}" if wanted else item["msg"]
    return Problem("schema", message, place, spot.node, remedy)


def _unknown(key: str, spot: _Spot, read: Document) -> Problem:
    near = suggest(key, spot.keys(), what="known keys")
    return Problem("schema", f"'{key}' has no meaning here", read.place((*spot.path, key), key=True), spot.node, near)


def _missing(key: str, spot: _Spot, read: Document) -> Problem:
    fields = {item.alias or name: item for name, item in spot.model.model_fields.items()}
    wanted = ", ".join(map(str, fields[key].examples or []))
    if "op" in fields and (names := get_args(fields["op"].annotation)):
        wanted = kind_of(OPS[names[0]], key).expected
    remedy = f"add {key}: {wanted}".strip()
    return Problem("schema", f"'{key}' is missing", read.place(spot.path, key=True), spot.node, remedy)


class _Spot:
    """Where one of Pydantic's locations leads: in the data, among the nodes, in the models."""

    def __init__(self, location: Any, data: Any) -> None:
        self.held = data
        self.path: Path = ()
        self.nodes: list[str] = []
        self.key = False
        self.kind: Any = models.Spec
        self.model: type[BaseModel] = models.Spec
        for part in location:
            holder, self.kind = _bare(self.kind), _inner(self.kind, part)
            if _is_model(_bare(self.kind)):
                self.model = _bare(self.kind)
            self._go(part, holder)

    @property
    def node(self) -> str:
        return ".".join(self.nodes)

    def keys(self) -> list[str]:
        """The keys that an author may write here."""
        names = [item.alias or name for name, item in self.model.model_fields.items()]
        return [name for name in names if not name.startswith("<")]

    def _go(self, part: str | int, holder: Any) -> None:
        """Follow one part of the location, which ``holder`` is the type around, in the data."""
        if isinstance(part, int):
            self._item(part, _bare(_inner(holder, part)))
        elif part == "[key]":
            self.key = True
        elif part.startswith("<"):
            self.key = part in ("<name>", "<loop>", "<test>", "<tests>", "<foreign>")
            if part in ("<each>", "<where>"):
                self._enter(next(iter(self.held)))
        elif isinstance(self.held, dict) and part in self.held:
            self._enter(part)
            if self.path[:-1] == ("blocks",):
                self.nodes.append(part)

    def _item(self, index: int, item: Any) -> None:
        """Enter an item of what is a list in the models, and in the data perhaps a mapping, or the one item itself."""
        if item in (models.Input, models.Output):
            listed = models.listed_inputs if item is models.Input else models.listed_outputs
            for part in listed(self.held)[index]["<path>"][1:]:
                self._enter(part)
        elif isinstance(self.held, list):
            self._enter(index)
        elif isinstance(self.held, dict) and all("key" in _bare(kind).model_fields for kind in get_args(item)):
            key = list(self.held)[index]
            self._enter(key)
            if models.NodeStatement in map(_bare, get_args(item)) and not key.startswith(("for ", "if ")):
                self.nodes.append(key)

    def _enter(self, part: str | int) -> None:
        if isinstance(self.held, dict | list):
            self.path = (*self.path, part)
            self.held = self.held[part]  # type: ignore[index]  # a key of a mapping, an index of a list


def _bare(kind: Any) -> Any:
    """A type without its annotations, and without the None that it may also be."""
    if get_origin(kind) is Annotated:
        return _bare(get_args(kind)[0])
    if get_origin(kind) in (Union, UnionType):
        others = [item for item in get_args(kind) if item is not type(None)]
        return _bare(others[0]) if len(others) == 1 else kind
    return kind


def _inner(kind: Any, part: str | int) -> Any:
    """The type of what ``part`` of a location leads to from a value of type ``kind``."""
    kind = _bare(kind)
    if kind is Initializer:
        return INITIALIZERS.get(str(part))
    if _is_model(kind):
        fields = {item.alias or name: item for name, item in kind.model_fields.items()}
        return fields[part].annotation if part in fields else None
    args = get_args(kind)
    if get_origin(kind) in (Union, UnionType):
        return next((item for item in args if part in _tags(item)), None)
    return args[-1] if get_origin(kind) in (list, dict) else None


def _tags(member: Any) -> list[Any]:
    """What Pydantic's locations call a member of a union."""
    tags = [item.tag for item in getattr(member, "__metadata__", ()) if isinstance(item, Tag)]
    if _is_model(_bare(member)) and (kind := _bare(member).model_fields.get("kind")):
        tags += get_args(kind.annotation) if get_origin(kind.annotation) is Literal else ()
    return tags


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)
