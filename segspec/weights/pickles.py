"""Pickles as data: a machine that builds plain values and calls nothing but what it is handed by name.

It knows the opcodes that checkpoints consist of, and refuses all others. What it builds are dicts, lists,
tuples, numbers and texts; a global is one of the few stand-ins of its caller, or the end. Long texts and byte
strings stay where they are in the file, and nothing is allocated because a header says so.
"""

from __future__ import annotations

import codecs
import pickletools
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

LONG = 4_096
"""A text or byte string of this many bytes is left in the file until it is needed."""

PART = 2**20
"""How many bytes of a long text are decoded at a time."""
_OPCODES = {opcode.code: opcode for opcode in pickletools.opcodes}

MAX_STEPS = 2_000_000
"""How many opcodes a pickle may have, and values that it hands to a stand-in: tens of thousands of tensors."""

COUNTED = {
    pickletools.TAKEN_FROM_ARGUMENT1: 1,
    pickletools.TAKEN_FROM_ARGUMENT4: 4,
    pickletools.TAKEN_FROM_ARGUMENT4U: 4,
    pickletools.TAKEN_FROM_ARGUMENT8U: 8,
}
"""How many bytes say how long an argument is."""


class Refused(ValueError):
    """The pickle holds something that no checkpoint needs, or is damaged; the message says what."""


@dataclass(frozen=True, eq=False)
class Raw:
    """Bytes that are decoded when they are asked for: ``held`` as it stands, or a text as Latin-1."""

    held: memoryview | str
    utf8: bool = False

    def __len__(self) -> int:
        return self._length

    @cached_property
    def _length(self) -> int:
        return sum(map(len, self._parts())) if self.utf8 or isinstance(self.held, str) else len(self.held)

    def decoded(self) -> bytes | memoryview:
        """The bytes."""
        return b"".join(self._parts()) if self.utf8 or isinstance(self.held, str) else self.held

    def _parts(self) -> Iterator[bytes]:
        """The bytes of a text, piece by piece."""
        try:
            if isinstance(self.held, str):
                yield self.held.encode("latin-1")
                return
            decoder = codecs.getincrementaldecoder("utf-8")()
            for start in range(0, len(self.held), PART):
                part, last = self.held[start : start + PART], start + PART >= len(self.held)
                yield decoder.decode(bytes(part), last).encode("latin-1")
        except ValueError:
            raise Refused("a text stands for bytes, but has characters that are none") from None


def encoded(text: object, encoding: object) -> Raw:
    """The stand-in for ``_codecs.encode``, by which old protocols write bytes: of a text in Latin-1."""
    if encoding not in ("latin1", "latin-1"):
        raise Refused("it encodes a text otherwise than in Latin-1")
    if isinstance(text, Raw):
        return text
    if not isinstance(text, str):
        raise Refused("it encodes something that is no text")
    return Raw(text)


class Buildable:
    """A stand-in's result that the pickle gives a state after making it."""

    def build(self, state: Any) -> None:
        """Take the state; raise :class:`Refused` if it is not of the expected form."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Named:
    """A global that is only handed to others, such as the class of an array."""

    name: str


def read(
    data: memoryview,
    start: int,
    known: Mapping[str, Callable[..., Any] | Named],
    persistent: Callable[[Any], Any] | None = None,
) -> tuple[Any, int]:
    """The value of the pickle at ``start``, and where it ends.

    ``known`` maps a global's ``module.name`` to what takes its place. Raises :class:`Refused`.
    """
    return _Machine(data, known, persistent).run(start)


class _Machine:
    def __init__(
        self,
        data: memoryview,
        known: Mapping[str, Callable[..., Any] | Named],
        persistent: Callable[[Any], Any] | None,
    ) -> None:
        self.data, self.known, self.persistent = data, known, persistent
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.steps = 0

    def run(self, start: int) -> tuple[Any, int]:
        try:
            for name, argument, end in _tokens(self.data, start):
                self.spend(1)
                if name == "STOP":
                    return self.pop(), end
                self.step(name, argument)
        except Refused:
            raise
        except (IndexError, KeyError):
            raise Refused("it is no pickle, or a damaged one: it takes what it never put there") from None
        except (ValueError, TypeError, RecursionError) as error:
            raise Refused(f"it is no pickle, or a damaged one: {error}") from None
        raise AssertionError("the tokens end with STOP")

    def spend(self, count: int) -> None:
        """Count what the pickle takes; a list that it made once can be walked many times."""
        self.steps += count
        if self.steps > MAX_STEPS:
            raise Refused(f"it takes more than {MAX_STEPS:,} steps, which no checkpoint does")

    def pop(self) -> Any:
        """The value on top; what lies below the last mark is out of reach."""
        if self.marks and len(self.stack) <= self.marks[-1]:
            raise IndexError
        return self.stack.pop()

    def marked(self) -> list[Any]:
        """The values above the last mark, which goes too."""
        place = self.marks.pop()
        values = self.stack[place:]
        del self.stack[place:]
        return values

    def step(self, name: str, argument: Any) -> None:
        """One opcode."""
        match name:
            case "PROTO" | "FRAME":
                pass
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                self.stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[name])
            case "EMPTY_DICT":
                self.stack.append({})
            case "EMPTY_LIST":
                self.stack.append([])
            case "EMPTY_TUPLE":
                self.stack.append(())
            case "MARK":
                self.marks.append(len(self.stack))
            case "TUPLE":
                self.stack.append(tuple(self.marked()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                values = [self.pop() for _ in range(int(name[-1]))]
                self.stack.append(tuple(reversed(values)))
            case "LIST":
                self.stack.append(self.marked())
            case "APPEND" | "APPENDS":
                values = self.marked() if name == "APPENDS" else [self.pop()]
                self.held(list).extend(values)
            case "DICT" | "SETITEM" | "SETITEMS":
                values = [self.pop(), self.pop()][::-1] if name == "SETITEM" else self.marked()
                if name == "DICT":
                    self.stack.append({})
                self.fill(values)
            case "BINPUT" | "LONG_BINPUT" | "MEMOIZE":
                self.memo[len(self.memo) if name == "MEMOIZE" else argument] = self.stack[-1]
            case "BINGET" | "LONG_BINGET":
                self.stack.append(self.memo[argument])
            case "GLOBAL":
                self.stack.append(self.named(*argument))
            case "STACK_GLOBAL":
                attribute, module = self.pop(), self.pop()
                self.stack.append(self.named(module, attribute))
            case "REDUCE":
                arguments, function = self.pop(), self.pop()
                if not callable(function) or not isinstance(arguments, tuple):
                    raise Refused("it calls something that is no function")
                self.spend(len(arguments) + sum(len(held) for held in arguments if isinstance(held, list)))
                self.stack.append(function(*arguments))
            case "BUILD":
                state, target = self.pop(), self.stack[-1]
                if isinstance(target, Buildable):
                    target.build(state)
                elif not isinstance(target, dict):  # an ordered dict's own attributes are no tensors
                    raise Refused("it sets the attributes of something that has none")
            case "BINPERSID":
                if self.persistent is None:
                    raise Refused("it refers to something outside itself")
                self.stack.append(self.persistent(self.pop()))
            case _ if argument is not None:
                self.stack.append(argument)
            case _:
                raise Refused(f"it has the opcode {name}, which no checkpoint needs")

    def held(self, kind: type) -> Any:
        """The container on top."""
        if type(self.stack[-1]) is not kind:
            raise Refused(f"it adds to something that is no {kind.__name__}")
        return self.stack[-1]

    def fill(self, values: list[Any]) -> None:
        """Add keys and values to the dict on top."""
        target = self.held(dict)
        if len(values) % 2:
            raise Refused("a dict has a key without a value")
        for key, value in zip(values[::2], values[1::2], strict=True):
            if not isinstance(key, str | int | float | None):
                raise Refused("a dict has a key that is no text or number")
            if key in target:
                raise Refused(f"the key {key!r:.80} is there twice")
            target[key] = value

    def named(self, module: Any, name: Any) -> Any:
        """What takes a global's place."""
        found = self.known.get(f"{module}.{name}") if isinstance(module, str) and isinstance(name, str) else None
        if found is None:
            raise Refused(f"it asks for {module}.{name}, which no checkpoint needs: loading it could run code")
        return found


def _tokens(data: memoryview, start: int) -> Iterator[tuple[str, Any, int]]:
    """Each opcode's name, its argument (None if it has none), and where it ends."""
    at = start
    while True:
        if at >= len(data):
            raise Refused("it is cut off: it ends before its pickle does")
        code = _OPCODES.get(chr(data[at]))
        if code is None:
            raise Refused(f"it is no pickle: byte {at} is no opcode")
        at += 1
        if code.arg is None:
            yield code.name, None, at
        elif code.name == "GLOBAL":
            words = []
            for _ in range(2):
                line = bytes(data[at : at + LONG]).partition(b"\n")[0]
                words.append(line.decode("utf-8"))
                at += len(line) + 1
            yield code.name, words, at
        elif code.name in _ARGUMENTS:
            count = code.arg.n
            if count in COUNTED:
                width = COUNTED[count]
                count = int.from_bytes(data[at : at + width], "little")
                at += width
            if count > len(data) - at:
                raise Refused(f"it is cut off, or lies: {count:,} bytes should follow where {len(data) - at:,} do")
            argument = _ARGUMENTS[code.name](data[at : at + count])
            at += count
            if code.name == "FRAME" and argument > len(data) - at:
                raise Refused(f"it is cut off, or lies: a frame of {argument:,} bytes where {len(data) - at:,} follow")
            yield code.name, argument, at
        else:
            raise Refused(f"it has the opcode {code.name}, which no checkpoint needs")


def _unsigned(held: memoryview) -> int:
    return int.from_bytes(held, "little")


def _signed(held: memoryview) -> int:
    return int.from_bytes(held, "little", signed=True)


def _text(held: memoryview) -> str | Raw:
    return Raw(held, utf8=True) if len(held) >= LONG else str(held, "utf-8", "surrogatepass")


def _old_text(held: memoryview) -> str | Raw:
    return Raw(held) if len(held) >= LONG else str(held, "latin-1")


_ARGUMENTS: dict[str, Callable[[memoryview], Any]] = {
    "PROTO": _unsigned,
    "FRAME": _unsigned,
    "BININT": _signed,
    "BININT1": _unsigned,
    "BININT2": _unsigned,
    "LONG1": _signed,
    "BINFLOAT": lambda held: struct.unpack(">d", held)[0],
    "SHORT_BINUNICODE": _text,
    "BINUNICODE": _text,
    "BINUNICODE8": _text,
    "SHORT_BINSTRING": _old_text,
    "BINSTRING": _old_text,
    "SHORT_BINBYTES": Raw,
    "BINBYTES": Raw,
    "BINBYTES8": Raw,
    "BINPUT": _unsigned,
    "LONG_BINPUT": _unsigned,
    "BINGET": _unsigned,
    "LONG_BINGET": _unsigned,
}
"""The opcodes with an argument, and how it is read."""


# --- writing -----------------------------------------------------------------------------------------


def opening() -> bytes:
    """The start of a pickle of protocol 4, which has counts of eight bytes."""
    return b"\x80\x04"


def literal(value: Any) -> bytes:
    """The opcodes of a plain value: a text, a number, None, or a tuple of these."""
    match value:
        case None:
            return b"N"
        case bool():
            return b"\x88" if value else b"\x89"
        case int():
            size = value.bit_length() // 8 + 1
            return b"\x8a" + bytes([size]) + value.to_bytes(size, "little", signed=True)
        case str():
            text = value.encode()
            return b"X" + struct.pack("<I", len(text)) + text
        case tuple():
            return b"(" + b"".join(map(literal, value)) + b"t"
    raise TypeError(f"{value!r} has no literal")


def named(name: str) -> bytes:
    """The opcode that asks for a global, ``module.name``."""
    module, _, attribute = name.rpartition(".")
    return f"c{module}\n{attribute}\n".encode()


def raw(length: int) -> bytes:
    """The opcode before this many bytes."""
    return b"\x8e" + struct.pack("<Q", length)
