"""Patterns of axes in einops' notation: ``n c h w -> n (h w) c``, ``n s l, n k l -> n s k``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeAlias

Group: TypeAlias = tuple[str, ...]
"""One axis of a tensor: a name, several that it joins in parentheses, or none for an axis of length 1."""


@dataclass(frozen=True)
class Pattern:
    """What each input's axes are called, and which of them the output has, in which order."""

    inputs: tuple[tuple[Group, ...], ...]
    output: tuple[Group, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Every axis of the inputs once, in order."""
        return tuple(dict.fromkeys(name for axes in self.inputs for group in axes for name in group))


def parse(text: str) -> Pattern:
    """Read a pattern; raises ``ValueError`` that says what is wrong."""
    left, arrow, right = text.partition("->")
    if not arrow or "->" in right:
        raise ValueError(f"the pattern '{text}' needs one arrow: 'n c h w -> n (h w) c'")
    pattern = Pattern(tuple(_axes(part, text) for part in left.split(",")), _axes(right, text))
    out = [name for group in pattern.output for name in group]
    for name in out:
        if name not in pattern.names:
            apart = f": write axes apart, '{' '.join(name)}'" if set(name) <= {*"".join(pattern.names)} else ""
            raise ValueError(f"the pattern '{text}' has no axis '{name}' left of its arrow{apart}")
        if out.count(name) > 1:
            raise ValueError(f"the pattern '{text}' names '{name}' twice right of its arrow")
    return pattern


def _axes(text: str, whole: str) -> tuple[Group, ...]:
    found: list[Group] = []
    tokens = re.findall(r"[A-Za-z]\w*|\S", text)
    group: list[str] | None = None
    for token in tokens:
        if token == "(" and group is None:
            group = []
        elif token == ")" and group is not None:
            found.append(tuple(group))
            group = None
        elif token == "1" and group is None:
            found.append(())
        elif token.isidentifier() and token.isascii():
            if group is None:
                found.append((token,))
            else:
                group.append(token)
        else:
            raise ValueError(f"the pattern '{whole}' holds '{token}', which is no name of an axis")
    if group is not None:
        raise ValueError(f"the pattern '{whole}' does not close a parenthesis")
    if not found:
        raise ValueError(f"the pattern '{whole}' names no axes on one side")
    names = [name for group in found for name in group]
    return tuple(found) if len(set(names)) == len(names) else _twice(names, whole)


def _twice(names: list[str], whole: str) -> tuple[Group, ...]:
    name = next(name for name in names if names.count(name) > 1)
    raise ValueError(f"the pattern '{whole}' names '{name}' twice for one tensor")
