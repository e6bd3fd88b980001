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

from segspec.errors import Place, Problem, SpecError, fail, shown

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


# Where libyaml says only what it could not read: what the author probably meant.
_HINTS = {
    "cannot start any token": "put it in quotes",
    "mapping values are not allowed": "put text that holds ': ' in quotes",
    "expected ',' or": "inside {…} and […], commas stand between entries, and text with braces or brackets in quotes",
    "expected key": "the entries of a mapping begin in one column",
    "expected '-' indicator": "the entries of a list begin in one column",
    "end of stream": "close the quotes",
    "expected node content": "close what is open, and put text with braces, brackets or commas in quotes",
    "could not find expected ':'": "an entry is written 'key: value'",
    "tag handle": "remove it, or put the text in quotes",
    "expected <document start>": "a spec is one document",
}


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
        if not key and path in self.values:
            return self.values[path]
        if not key and path and isinstance(path[-1], int) and path[:-1] in self.values:
            return self.values[path[:-1]]  # one item may stand where a list does
        for end in range(len(path), 0, -1):
            found = self.keys.get(path[:end]) or self.values.get(path[:end])
            if found is not None:
                return found
        return Place(self.name)


def parse(text: str, name: str) -> Document:
    """Read one YAML document.

    Raises :class:`SpecError` for what is not YAML, duplicate keys, tags, aliases that expand beyond
    reason, and data deeper or larger than any spec.
    """
    if len(text) > MAX_BYTES:
        raise _too_long(name)
    return _Composer(text.replace("\r\n", "\n").replace("\r", "\n"), name).compose()


def read(path: Any, name: str) -> Document:
    """Read a YAML file; ``name`` is what messages call it."""
    try:
        with path.open("rb") as file:
            raw = file.read(4 * MAX_BYTES + 1)
    except OSError as error:
        raise fail("unknown-spec", f"the file cannot be read: {error.strerror}", Place(name)) from None
    if len(raw) > 4 * MAX_BYTES:
        raise _too_long(name)
    try:
        return parse(raw.decode("utf-8-sig"), name)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        message = f"the file is not UTF-8 text: byte {raw[error.start]:#04x} in line {line}"
        raise fail("syntax", message, Place(name), remedy="save it as UTF-8") from None


def _too_long(name: str) -> SpecError:
    return fail("limit", f"the file has more than {MAX_BYTES:,} characters", Place(name))


class _Composer:
    def __init__(self, text: str, name: str) -> None:
        self.text = text
        self.name = name
        self.lines = re.split("[\n\x85\u2028\u2029]", text)  # all that libyaml counts as the end of a line
        self.keys: dict[Path, Place] = {}
        self.values: dict[Path, Place] = {}
        self.anchors: dict[str, tuple[Any, int]] = {}
        self.count = 0
        self.problems: list[Problem] = []

    def compose(self) -> Document:
        self._characters()
        try:
            self.events: Iterator[Any] = iter(yaml.parse(self.text, Loader=yaml.CSafeLoader))
            self._next(), self._next()
            event = self._next()
            data = None if isinstance(event, yaml.StreamEndEvent | yaml.DocumentEndEvent) else self._value(event, ())
            self._next()
            if isinstance(event := self._next(), yaml.DocumentStartEvent):
                place = self._place(event.start_mark)
                raise fail("syntax", "a second document begins here", place, remedy="a spec is one document")
        except StopIteration:
            data = None
        except yaml.MarkedYAMLError as error:
            raise SpecError([*self.problems, self._unread(error)]) from None
        if self.problems:
            raise SpecError(self.problems)
        return Document(self.name, self.text, data, self.keys, self.values)

    def _characters(self) -> None:
        """Refuse the characters that YAML leaves out, by their place."""
        for number, line in enumerate(self.lines):
            if found := yaml.reader.Reader.NON_PRINTABLE.search(line):
                column = found.start()
                message = f"the character {ord(line[column]):#x} cannot stand in YAML"
                raise fail("syntax", message, Place(self.name, number + 1, column + 1, line), remedy="remove it")

    def _unread(self, error: yaml.MarkedYAMLError) -> Problem:
        """What stopped libyaml, and where what it was reading began."""
        message = error.problem or "the text is not YAML"
        mark, begun = error.problem_mark or error.context_mark, error.context_mark
        if mark is None:
            return Problem("syntax", message, Place(self.name))
        if begun is not None and (begun.line, begun.column) != (mark.line, mark.column):
            message = f"{error.context} that begins at {begun.line + 1}:{begun.column + 1}: {message}"
            if mark.line >= len(self.lines) or not self.lines[mark.line].strip():
                mark = begun
        place = self._place(mark)
        remedy = next((hint for part, hint in _HINTS.items() if part in message), "")
        if place.text[place.column - 1 : place.column] == "\t":
            remedy = "indent with spaces, not tabs"
        return Problem("syntax", message, place, "", remedy)

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
                raise fail("syntax", f"no anchor is called '{event.anchor}' above", place)
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
                raise fail(
                    "syntax", "a key must be text", place, remedy="put a name that begins with a brace in quotes"
                )
            if item.value == "<<" and item.implicit[0]:
                raise fail(
                    "syntax", "'<<' merges nothing in YAML 1.2", place, remedy="write the keys out, or use a block"
                )
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
        if event.tag == "!" or not event.implicit[0]:
            return event.value
        for pattern, convert in _SCALARS:
            if pattern.fullmatch(event.value):
                value = convert(event.value)
                if isinstance(value, float) and not math.isfinite(value):
                    message = f"{shown(event.value)} is no finite number"
                    self.problems.append(Problem("syntax", message, place, "", "write one that is"))
                return value
        return event.value

    def _spend(self, values: int, place: Place) -> None:
        self.count += values
        if self.count > MAX_VALUES:
            raise fail("limit", f"the file holds more than {MAX_VALUES:,} values, aliases counted", place)
