"""Recordings in files: safetensors, with what they are recordings of in the metadata, and the digest of that.

So one backend can be run in one place and another in another, and both be compared in a third that has neither.
"""

from __future__ import annotations

import hashlib
import json
import mmap
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from segspec import __version__, files
from segspec.backends.arrays import SUMS, Reading
from segspec.errors import Place, fail
from segspec.parity.recording import Plan, Recording
from segspec.parity.scene import Scene
from segspec.weights import portable
from segspec.weights.pickles import Refused
from segspec.weights.tensors import DTYPES, Tensor

VERSION = 3


def save(recording: Recording, path: Path) -> None:
    """Write a recording; the file is replaced when all is written."""
    tensors: dict[str, Tensor] = {}
    passes: dict[str, Any] = {}
    for name, held in recording.passes.items():
        if isinstance(held, str):
            passes[name] = held
            continue
        keys: dict[int, str] = {}
        passes[name] = {}
        for entry, (dtype, shape, offset, sketched, norm) in held.index.items():
            parts = [(offset, entry, dtype, tuple(shape)), (sketched, f"{entry} (sketch)", "<f8", (SUMS,))]
            for place, key, kind, size in parts:
                if place is not None and place not in keys:  # an array of several names is there once
                    keys[place] = f"{name}/{key}"
                    tensors[keys[place]] = _tensor(held, keys[place], kind, size, place)
            passes[name][entry] = [dtype, shape, *(None if at is None else keys[at] for at in (offset, sketched)), norm]
    about = {
        "about": recording.about,
        "plan": asdict(recording.plan),
        "scenes": {name: asdict(scene) for name, scene in recording.scenes.items()},
        "environment": recording.environment,
        "times": recording.times,
        "passes": passes,
    }
    text = json.dumps(about)
    metadata = {"segspec": __version__, "version": str(VERSION), "recording": text, "digest": _digest(text)}
    with files.replacing(path) as file:
        for _ in portable.write(file, tensors, metadata):
            pass


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _tensor(held: Reading, key: str, dtype: str, shape: tuple[int, ...], place: int) -> Tensor:
    names = {kind: name for name, kind in DTYPES.items() if name != "BF16"}
    return Tensor(key, names[np.dtype(dtype)], shape, lambda: held.at(place, dtype, shape))


def load(path: Path) -> Recording:
    """Read a recording; raises :class:`~segspec.errors.SpecError` for a file that is none."""
    try:
        with path.open("rb") as file:
            data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        _, metadata = portable.read(data, path)
    except OSError as error:
        raise fail("recording", f"cannot be read: {error.strerror}", Place(str(path))) from None
    except Refused as error:
        raise fail("recording", str(error), Place(str(path)), remedy="record it anew, or copy it again") from None
    except ValueError:
        raise _stranger(path) from None
    if "recording" not in metadata:
        raise _stranger(path)
    if metadata.get("version") != str(VERSION):
        message = f"it was recorded by another version of segspec, {metadata.get('segspec', 'an unknown one')}"
        raise fail("version", message, Place(str(path)), remedy="record it anew")
    if metadata.get("digest") != _digest(metadata["recording"]):
        message = "it is damaged: what it says of its network has another digest"
        raise fail("recording", message, Place(str(path)), remedy="record it anew, or copy it again")
    about = json.loads(metadata["recording"])
    length = int.from_bytes(data[:8], "little")
    header = json.loads(bytes(data[8 : 8 + length]))
    header.pop("__metadata__")
    offsets = {key: 8 + length + held["data_offsets"][0] for key, held in header.items()}
    return _recording(path, about, offsets)


def _recording(path: Path, about: dict[str, Any], offsets: dict[str, int]) -> Recording:
    plan = about["plan"]
    sizes = tuple((int(height), int(width)) for height, width in plan["sizes"])
    height, width = plan["training_size"]
    made = Recording(
        about["about"],
        Plan(**{**plan, "sizes": sizes, "training_size": (height, width), "dtypes": tuple(plan["dtypes"])}),
        {name: Scene.read(scene) for name, scene in about["scenes"].items()},
        environment=about["environment"],
        times=about["times"],
    )
    for name, held in about["passes"].items():
        if isinstance(held, str):
            made.passes[name] = held
            continue
        index = {
            entry: [dtype, shape, *(None if key is None else offsets[key] for key in keys), norm]
            for entry, (dtype, shape, *keys, norm) in held.items()
        }
        made.passes[name] = Reading(str(path.resolve()), index)
    return made


def _stranger(path: Path) -> Exception:
    return fail("recording", "it is no recording of segspec's", Place(str(path)), remedy="make one with segspec record")
