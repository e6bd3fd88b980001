"""Which names generated Python can use."""

from __future__ import annotations

import keyword
import re

IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
MAX_LENGTH = 80

# What every generated module uses from Python itself; a parameter or a class of this name would hide it.
PYTHON = frozenset({"self", "super", "int", "float", "bool", "str", "tuple", "list", "range", "isinstance", "math"})


def objection(name: str) -> str:
    """Why ``name`` cannot be an identifier in generated code; empty if it can."""
    if not IDENTIFIER.fullmatch(name):
        return f"'{name[:MAX_LENGTH]}' is not an identifier: use letters, digits and underscores, a letter first"
    if len(name) > MAX_LENGTH:
        return f"'{name[:20]}…' has more than {MAX_LENGTH} letters"
    if keyword.iskeyword(name):
        return f"'{name}' is a word of Python's own"
    if name == "self" or "__" in name:
        return f"'{name}' has a meaning of its own in Python"
    return ""


def class_name(name: str) -> str:
    """A name in the form of a class's: ``double_conv`` becomes ``DoubleConv``."""
    return "".join(part[:1].upper() + part[1:] for part in name.split("_") if part)
