"""Writing generated files: whole or not at all, and only where they change."""

from __future__ import annotations

import difflib
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from segspec.errors import Place, fail


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file that takes the place of ``path`` when all is written; until then, and on any error, that is as it was."""
    try:
        _require_replaceable(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise fail("output", f"cannot write: {error.strerror}", Place(str(path))) from None
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException as error:
        os.unlink(name)
        if isinstance(error, OSError):
            raise fail("output", f"cannot write: {error.strerror}", Place(str(path))) from None
        raise


def require_writable(paths: Iterable[Path]) -> None:
    """Raise :class:`SpecError` for a path that :func:`write` could not write; nothing is left behind."""
    for path in paths:
        try:
            _require_replaceable(path)
            folder = next(parent for parent in path.absolute().parents if parent.exists())
            with tempfile.NamedTemporaryFile(prefix=f".{path.name}.", dir=folder):
                pass
        except OSError as error:
            raise fail("output", f"cannot write: {error.strerror}", Place(str(path))) from None


def write(files: Mapping[Path, str]) -> list[Path]:
    """Write each file beside its place and move it there; the paths that changed."""
    changed = [path for path, text in files.items() if _held(path) != text]
    for path in changed:
        with replacing(path) as file:
            file.write(files[path].encode("utf-8"))
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


def _require_replaceable(path: Path) -> None:
    if path.exists() and not path.is_file():
        raise fail("output", "cannot write: it is there, and no file", Place(str(path)))


def _held(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
