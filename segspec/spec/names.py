"""Which names generated Python can use."""

from __future__ import annotations

import keyword
import re

from segspec.errors import shown

IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
MAX_LENGTH = 80

IMPORTED = frozenset({"math", "Sequence"})
"""What generated modules import from Python; anything of this name would hide it."""

PYTHON = IMPORTED | {"super", "int", "float", "bool", "str", "tuple", "list", "range", "isinstance", "max", "min"}
"""What generated modules and constructors use from Python; a parameter or a class of this name would hide it."""


def objection(name: str, used: frozenset[str] = frozenset()) -> str:
    """Why ``name`` cannot be an identifier in generated code that uses ``used``; empty if it can."""
    if not IDENTIFIER.fullmatch(name):
        return f"{shown(name)} is not an identifier: use letters, digits and underscores, a letter first"
    if len(name) > MAX_LENGTH:
        return f"'{name[:20]}…' has more than {MAX_LENGTH} letters"
    if keyword.iskeyword(name):
        return f"'{name}' is a word of Python's own"
    if name == "self" or "__" in name:
        return f"'{name}' has a meaning of its own in Python"
    if name in used:
        return f"generated code uses Python's own '{name}'"
    return ""


def class_name(name: str) -> str:
    """A name in the form of a class's: ``double_conv`` becomes ``DoubleConv``."""
    return "".join(part[:1].upper() + part[1:] for part in name.split("_") if part)
