"""YAML 1.2 text as plain data that remembers where each part of it stood.

PyYAML's C parser gives the events; they are composed here, because its own composer follows YAML 1.1
(``on`` is true, ``1e3`` a string), overwrites duplicate keys in silence, recurses without bound and
expands aliases without bound.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from segspec.errors import Place, Problem, SpecError, fail

MAX_BYTES = 1_000_000
MAX_DEPTH = 60
MAX_VALUES = 50_000

Path = tuple[str | int, ...]

# The core schema of YAML 1.2.2, section 10.3.2.
_SCALARS: tuple[tuple[re.Pattern[str], Callable[[str], Any]], ...] = (
    (re.compile(r"null|Null|NULL|~|"), lambda _: None),
    (re.compile(r"true|True|TRUE"), lambda _: True),
    (re.compile(r"false|False|FALSE"), lambda _: False),
    (re.compile(r"[-+]?[0-9]{1,30}"), int),
    (re.compile(r"0o[0-7]{1,30}"), lambda text: int(text[2:], 8)),
    (re.compile(r"0x[0-9a-fA-F]{1,30}"), lambda text: int(text[2:], 16)),
    (re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"), float),
    (re.compile(r"\+?(\.inf|\.Inf|\.INF)"), lambda _: math.inf),
    (re.compile(r"-(\.inf|\.Inf|\.INF)"), lambda _: -math.inf),
    (re.compile(r"\.nan|\.NaN|\.NAN"), lambda _: math.nan),
)


@dataclass(frozen=True)
class Document:
    """The data of one file and the place of each of its parts, by path from the root."""

    name: str
    text: str
    data: Any
    keys: dict[Path, Place]
    values: dict[Path, Place]

    def place(self, path: Path, *, key: bool = False) -> Place:
        """Where the value (or the key) at ``path`` stands; of what is not there, the nearest holder's."""
        for end in range(len(path), -1, -1):
            table = self.keys if key or end < len(path) else self.values
            if (found := table.get(path[:end])) is not None:
                return found
        return Place(self.name)


def parse(text: str, name: str) -> Document:
    """Read one YAML document.

    Raises :class:`SpecError` for what is not YAML, duplicate keys, tags, aliases that expand beyond
    reason, and data deeper or larger than any spec.
    """
    if len(text) > MAX_BYTES:
        raise fail("limit", f"the file has more than {MAX_BYTES:,} characters", Place(name))
    return _Composer(text, name).compose()


def read(path: Any, name: str) -> Document:
    """Read a YAML file; ``name`` is what messages call it."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise fail("unknown-spec", f"the file cannot be read: {error.strerror}", Place(name)) from None
    try:
        return parse(raw.decode("utf-8-sig").replace("\r\n", "\n"), name)
    except UnicodeDecodeError:
        raise fail("syntax", "the file is not UTF-8 text", Place(name), remedy="save it as UTF-8") from None


class _Composer:
    def __init__(self, text: str, name: str) -> None:
        self.text = text
        self.name = name
        self.lines = text.split("\n")
        self.keys: dict[Path, Place] = {}
        self.values: dict[Path, Place] = {}
        self.anchors: dict[str, tuple[Any, int]] = {}
        self.count = 0
        self.problems: list[Problem] = []

    def compose(self) -> Document:
        try:
            self.events: Iterator[Any] = iter(yaml.parse(self.text, Loader=yaml.CSafeLoader))
            self._next(), self._next()
            event = self._next()
            data = None if isinstance(event, yaml.StreamEndEvent | yaml.DocumentEndEvent) else self._value(event, ())
            self._next()
            if isinstance(self._next(), yaml.DocumentStartEvent):
                raise fail("syntax", "the file holds more than one document", Place(self.name))
        except StopIteration:
            data = None
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            place = self._place(mark) if mark else Place(self.name)
            message = " ".join(part for part in (error.context, error.problem) if part)
            raise fail("syntax", message, place) from None
        except yaml.YAMLError as error:
            message = str(error).split("\n")[0]
            raise fail("syntax", f"the text cannot be read as YAML: {message}", Place(self.name)) from None
        if self.problems:
            raise SpecError(self.problems)
        return Document(self.name, self.text, data, self.keys, self.values)

    def _next(self) -> Any:
        return next(self.events)

    def _place(self, mark: Any) -> Place:
        text = self.lines[mark.line] if mark.line < len(self.lines) else ""
        return Place(self.name, mark.line + 1, mark.column + 1, text)

    def _value(self, event: Any, path: Path) -> Any:
        place = self._place(event.start_mark)
        self.values[path] = place
        self._spend(1, place)
        if len(path) > MAX_DEPTH:
            raise fail("limit", f"the data is nested more than {MAX_DEPTH} deep", place)
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self.anchors:
                raise fail("syntax", f"no anchor is called '{event.anchor}' here", place)
            value, size = self.anchors[event.anchor]
            self._spend(size, place)
            return value
        if event.tag not in (None, "!") and not isinstance(event, yaml.ScalarEvent):
            raise fail("syntax", f"the tag {event.tag} has no meaning here", place, remedy="remove it")
        before = self.count
        if isinstance(event, yaml.ScalarEvent):
            value = self._scalar(event, place)
        elif isinstance(event, yaml.SequenceStartEvent):
            value = []
            while not isinstance(item := self._next(), yaml.SequenceEndEvent):
                value.append(self._value(item, (*path, len(value))))
        else:
            value = self._mapping(path)
        if event.anchor:
            self.anchors[event.anchor] = (value, self.count - before + 1)
        return value

    def _mapping(self, path: Path) -> dict[str, Any]:
        value: dict[str, Any] = {}
        while not isinstance(item := self._next(), yaml.MappingEndEvent):
            place = self._place(item.start_mark)
            if not isinstance(item, yaml.ScalarEvent):
                raise fail("syntax", "a key must be one word", place)
            key = item.value
            entry = (*path, key)
            if key in value:
                first = self.keys[entry]
                self.problems.append(
                    Problem(
                        "duplicate",
                        f"'{key}' is given twice; first in line {first.line}",
                        place,
                        remedy="rename one (of two loops, rename the variable), or merge them",
                    )
                )
            self.keys[entry] = place
            value[key] = self._value(self._next(), entry)
        return value

    def _scalar(self, event: Any, place: Place) -> Any:
        if event.tag not in (None, "!"):
            raise fail("syntax", f"the tag {event.tag} has no meaning here", place, remedy="remove it")
        if not event.implicit[0]:
            return event.value
        for pattern, convert in _SCALARS:
            if pattern.fullmatch(event.value):
                return convert(event.value)
        return event.value

    def _spend(self, values: int, place: Place) -> None:
        self.count += values
        if self.count > MAX_VALUES:
            raise fail("limit", f"the file holds more than {MAX_VALUES:,} values, aliases counted", place)
