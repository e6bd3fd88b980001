"""Files of weights: recognised by what is in them, never by their names, and read without running any of it."""

from __future__ import annotations

import mmap
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from segspec import files
from segspec.errors import Place, fail
from segspec.render.backend import Backend, backends
from segspec.weights import archive, arrays, portable
from segspec.weights.pickles import Refused
from segspec.weights.tensors import Checkpoint, Pickled, Tensor

PORTABLE = "safetensors"
"""The name of the portable format on the command line; the others' are their backends'."""

WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "params", "weights")
"""Under which of these a training script keeps the weights beside its other state, the most telling first."""
PREFIXES = ("module.", "_orig_mod.")
"""What is put before every key by wrappers of a network: those for several devices, and the compiler's."""

SHARED = 16
"""How many times the file's own bytes its tensors may take together: some share them, as tied weights do."""
MAX_SAID = 400
"""How much a message repeats of what a file says."""

Written = Callable[[BinaryIO, Mapping[str, Tensor], Mapping[str, str]], Iterator[int]]
WRITERS: dict[str, Written] = {PORTABLE: portable.write, "archive": archive.write, "arrays": arrays.write}


def read(path: Path) -> Checkpoint:
    """The checkpoint in a file. Raises :class:`~segspec.errors.SpecError` if it is none, or not a harmless one."""
    place = Place(str(path))
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise fail("unreadable", "it is there, but is no file", place)  # reading a pipe would wait for its writer
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except ValueError:
        raise fail("unreadable", "the file is empty", place) from None
    except OSError as error:
        raise fail("unreadable", f"cannot read: {error.strerror}", place) from None
    try:
        return _read(memoryview(mapped), path, _releasing(mapped))
    except Refused as error:
        reason = str(error) if len(str(error)) <= MAX_SAID else f"{error!s:.{MAX_SAID}}…"
        raise fail("unreadable", f"this is no checkpoint that can be read: {reason}", place) from None


def _read(data: memoryview, path: Path, release: Callable[[], None]) -> Checkpoint:
    start = bytes(data[: len(archive.MAGIC)])
    if start.startswith(b"PK"):
        value, kind = archive.read(data), "archive"
    elif start == archive.MAGIC:
        value, kind = archive.read_old(data), "archive"
    elif start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04"):
        value, kind = arrays.read(data), "arrays"
    elif start[portable.LENGTH : portable.LENGTH + 1] == b"{":
        tensors, metadata = portable.read(data, path)
        return Checkpoint(path, PORTABLE, tensors, metadata, release=release)
    else:
        raise Refused("it starts as none of the formats does; known are safetensors, " + _known())
    values, notes = _weights(value, kind)
    tensors = {}
    for key, held in values.items():
        try:
            tensors[key] = held.tensor(key)
        except Refused as error:
            raise Refused(f"{key:.80}: {error}") from None
    if (together := sum(tensor.nbytes for tensor in tensors.values())) > SHARED * len(data):
        raise Refused(f"its tensors share their bytes, and would take {together:,} where it has {len(data):,}")
    return Checkpoint(path, kind, tensors, notes=notes, release=release)


def _known() -> str:
    return ", ".join(title(held.checkpoints.format) for held in backends().values())


def _releasing(mapped: mmap.mmap) -> Callable[[], None]:
    advice = getattr(mmap, "MADV_DONTNEED", None)  # Linux has it
    return lambda: None if advice is None else mapped.madvise(advice)


def _weights(value: Any, kind: str) -> tuple[dict[str, Pickled], tuple[str, ...]]:
    """The tensors of what a pickle holds, and from where they are taken."""
    notes = []
    if not isinstance(value, dict):
        raise Refused(f"it holds no tensors by name, but a {type(value).__name__}")
    wrapper = next((name for name in WRAPPERS if _tensors(value.get(name), kind)), None)
    found = _tensors(value if wrapper is None else value[wrapper], kind)
    if wrapper is not None:
        notes.append(f"the weights are those under '{wrapper}'")
    if not found:
        held = ", ".join(f"{key!r:.40}" for key in list(value)[:8])
        raise Refused(f"it holds no tensors by name, but {held or 'nothing'}")
    for prefix in PREFIXES:
        if all(key.startswith(prefix) for key in found):
            found = {key.removeprefix(prefix): held for key, held in found.items()}
            notes.append(f"'{prefix}' before every key is left out")
    return found, tuple(notes)


def _tensors(value: Any, kind: str) -> dict[str, Pickled]:
    """What of a dict are tensors; the rest (a counter, a name) is none of ours."""
    if not isinstance(value, dict):
        return {}
    if kind == "arrays":
        table = next(held.checkpoints.slices for held in backends().values() if held.checkpoints.format == kind)
        value = arrays.joined(value, table)
    return {key: held for key, held in value.items() if isinstance(key, str) and isinstance(held, Pickled)}


# --- writing ----------------------------------------------------------------------------------------------


def backend_of(kind: str) -> Backend | None:
    """The backend whose own a format is; none for the portable one."""
    return next((held for held in backends().values() if held.checkpoints.format == kind), None)


def title(kind: str) -> str:
    """What a format is called."""
    backend = backend_of(kind)
    return PORTABLE if backend is None else f"{backend.title}'s {'/'.join(backend.checkpoints.suffixes)}"


def format_of(name: str, path: Path | None = None) -> str:
    """The format that ``--from`` or ``--to`` names, or else the one of which the path has the suffix."""
    suffixes = {f".{PORTABLE}": PORTABLE}
    names = {PORTABLE: PORTABLE}
    for held in backends().values():
        suffixes |= dict.fromkeys(held.checkpoints.suffixes, held.checkpoints.format)
        names[held.name] = held.checkpoints.format
    known = names | {suffix.removeprefix("."): kind for suffix, kind in suffixes.items()}
    if name:
        if name.removeprefix(".") not in known:
            raise fail("usage", f"there is no format '{name[:80]}'", remedy=f"formats: {', '.join(known)}")
        return known[name.removeprefix(".")]
    if path is None or path.suffix.lower() not in suffixes:
        remedy = f"end its name with one of {', '.join(suffixes)}, or say --to {' or --to '.join(names)}"
        raise fail("usage", "the name does not tell its format", Place(str(path)), remedy=remedy)
    return suffixes[path.suffix.lower()]


def write(
    path: Path,
    kind: str,
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str],
    progress: Callable[[int], None] = lambda done: None,
) -> None:
    """Write tensors by key; the file is replaced when all is written.

    ``progress`` is called with the number of bytes written so far.
    """
    with files.replacing(path) as file:
        for done in WRITERS[kind](file, tensors, metadata if kind == PORTABLE else {}):
            progress(done)
