"""Every error a user can cause: its place, its code, its remedy, and how it is shown.

Nothing in segspec prints a problem by itself. A stage that finds one makes a :class:`Problem`; a stage
that can go no further raises :class:`SpecError` with all that it found.
"""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

# The one table of codes: what each means, in the words of `error[code]`.
CODES = {
    "syntax": "the text is not YAML that segspec reads",
    "limit": "the spec is larger than segspec accepts",
    "duplicate": "a name is given twice",
    "schema": "a key or a value is not what the language has at this place",
    "unknown-op": "no op has this name",
    "unknown-block": "no block has this name",
    "unknown-node": "no node or input has this name",
    "unknown-name": "an expression uses a name that nothing defines",
    "unknown-parameter": "no parameter has this name",
    "unknown-preset": "the spec has no preset of this name",
    "unknown-spec": "no spec has this name",
    "unknown-backend": "segspec has no templates of this name",
    "import": "a file or a block cannot be imported",
    "cycle": "something depends on itself",
    "expression": "an expression cannot be evaluated",
    "name": "a name cannot be used in generated code",
    "attribute": "an attribute has a value that its op cannot have",
    "argument": "a block's argument is missing or of the wrong type",
    "choice": "a value is not among the parameter's choices",
    "inputs": "a node has the wrong number of inputs",
    "shape": "shapes do not fit together",
    "size": "the network cannot take an input of this size",
    "unused": "something is declared that nothing uses",
    "unknown-checkpoint": "the spec has no checkpoint of this name",
    "checkpoint": "a checkpoint is not one of the network's",
    "rule": "a rule of a checkpoint is not what the file or the network has",
    "expectation": "the network is not what the spec says it is",
    "refused": "a backend cannot compute this as the spec means it",
    "missing-framework": "a framework that must run is not installed",
    "recording": "a file is no recording of what it is compared with",
    "interpreter": "an interpreter cannot be started",
    "executor": "an executor cannot be had",
    "version": "something was made by another version of segspec",
    "backend-failed": "a backend stopped before it had a result",
    "unreadable": "a file of weights cannot be read, or not safely",
    "usage": "the command line is wrong",
    "output": "a file cannot be written",
}


MAX_SHOWN = 40
"""How many problems are printed; more than this would only hide the first."""

MAX_LINE = 140
"""How much of a line of the spec a problem shows."""

MAX_TEXT = 80
"""How much of what was found a message repeats."""


@dataclass(frozen=True)
class Place:
    """A position in a file; line and column count from 1, and 0 means the file as a whole."""

    file: str
    line: int = 0
    column: int = 0
    text: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


@dataclass(frozen=True)
class Problem:
    """One finding: where it is, what it is, and what to do about it."""

    code: str
    message: str
    place: Place | None = None
    node: str = ""
    remedy: str = ""

    def inside(self, node: str) -> Problem:
        """The same problem, seen from the block that holds ``node``."""
        return replace(self, node=f"{node}.{self.node}" if self.node else node)

    def __str__(self) -> str:
        lines = [f"{self.place}: " if self.place else ""]
        lines[0] += f"error[{self.code}]: {self.message}"
        if self.place and self.place.line:
            margin = len(str(self.place.line)) + 2
            text, indent = _excerpt(self.place.text, self.place.column - 1)
            lines.append(f"{self.place.line:>{margin}} | {text}".rstrip())
            lines.append(f"{'':>{margin}} | {'':>{indent}}^")
        if self.node:
            lines.append(f"  node: {self.node}")
        if self.remedy:
            lines.append(f"  help: {self.remedy}")
        return "\n".join(_printable(line) for line in lines)

    def as_dict(self) -> dict[str, object]:
        """The problem as plain data, for ``--json``."""
        place = self.place or Place("")
        return {
            "code": self.code,
            "message": self.message,
            "file": place.file,
            "line": place.line,
            "column": place.column,
            "node": self.node,
            "remedy": self.remedy,
        }


class SpecError(Exception):
    """The input is wrong; carries every problem that was found, in the order of the files' lines.

    The same finding at the same place (in each turn of a loop, say) is one problem.
    """

    def __init__(self, problems: Problem | Sequence[Problem]) -> None:
        found = [problems] if isinstance(problems, Problem) else problems
        different: dict[object, Problem] = {}
        for item in found:
            different.setdefault((item.code, item.message, item.place), item)
        files = {item.place.file if item.place else "": None for item in found}
        order = {file: index for index, file in enumerate(files)}

        def position(item: Problem) -> tuple[int, int, int]:
            place = item.place or Place("")
            return order[place.file], place.line, place.column

        self.problems = tuple(sorted(different.values(), key=position))
        super().__init__(self.problems)

    def __str__(self) -> str:
        parts = [str(problem) for problem in self.problems[:MAX_SHOWN]]
        if (more := len(self.problems) - MAX_SHOWN) > 0:
            parts.append(f"… and {more:,} more")
        return "\n\n".join(parts)

    @property
    def final(self) -> bool:
        """Whether looking for more problems would cost more than a spec may."""
        return any(problem.code == "limit" for problem in self.problems)


def fail(code: str, message: str, place: Place | None = None, *, node: str = "", remedy: str = "") -> SpecError:
    """A :class:`SpecError` of one problem, to be raised."""
    return SpecError(Problem(code, message, place, node, remedy))


def suggest(name: str, known: Iterable[str], *, what: str = "") -> str:
    """A remedy that names the nearest known name, or lists what there is."""
    names = sorted({str(item) for item in known})
    near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.6)
    lowered = {item.lower().replace("_", ""): item for item in names}
    same = lowered.get(str(name).lower().replace("_", ""))
    if same or near:
        return f"did you mean '{same or near[0]}'?"
    if not names:
        return f"there are no {what}" if what else ""
    listed = ", ".join(f"{item:.{MAX_TEXT}}" for item in names[:MAX_SHOWN]) + (", …" if len(names) > MAX_SHOWN else "")
    return f"{what or 'known'}: {listed}"


def shown(value: object) -> str:
    """What was found, as its author wrote it and in few words."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f"'{_printable(value[:MAX_TEXT])}{'…' if len(value) > MAX_TEXT else ''}'"
    if isinstance(value, dict):
        text = "{" + ", ".join(f"{key}: {_plain(item)}" for key, item in list(value.items())[:4]) + "}"
    elif isinstance(value, list):
        text = "[" + ", ".join(_plain(item) for item in value[:8]) + "]"
    else:
        text = repr(value)
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}…"


def _plain(value: object) -> str:
    if isinstance(value, dict | list):
        return "{…}" if isinstance(value, dict) else "[…]"
    return value[:20] if isinstance(value, str) else shown(value)


def shown_path(path: Path) -> str:
    """A path as a user would write it: relative to the working directory where it lies below it."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text)


def _excerpt(text: str, column: int) -> tuple[str, int]:
    """The part of a line around a column, and how far into it that column is printed."""
    start = max(0, column - MAX_LINE * 3 // 4) if len(text) > MAX_LINE else 0
    part = _printable(text[start : start + MAX_LINE])
    before = ("…" if start else "") + part[: column - start]
    after = part[column - start :] + ("…" if start + MAX_LINE < len(text) else "")
    return before + after, sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in before)
