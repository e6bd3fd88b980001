"""Writing generated files: whole or not at all, and only where they change."""

from __future__ import annotations

import difflib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from segspec.errors import Place, fail


def write(files: Mapping[Path, str]) -> list[Path]:
    """Write each file beside its place and move it there; the paths that changed."""
    changed = [path for path, text in files.items() if _held(path) != text]
    for path in changed:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        except OSError as error:
            raise fail("output", f"cannot write: {error.strerror}", Place(str(path))) from None
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
                file.write(files[path])
            os.chmod(name, 0o644)
            os.replace(name, path)
        except OSError as error:
            os.unlink(name)
            raise fail("output", f"cannot write: {error.strerror}", Place(str(path))) from None
    return changed


def differences(files: Mapping[Path, str]) -> str:
    """A unified diff from what the files hold to what they should; empty where all are up to date."""
    parts = []
    for path, text in files.items():
        held = _held(path)
        old = "/dev/null" if held is None else str(path)
        lines = difflib.unified_diff((held or "").splitlines(True), text.splitlines(True), old, str(path))
        parts += list(lines) if held != text else []
    return "".join(parts)


def _held(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
