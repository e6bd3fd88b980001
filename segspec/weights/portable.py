"""The portable checkpoint: a safetensors file whose keys are node paths, each tensor in its canonical layout.

Its metadata say which network it belongs to: the spec's name and digest, the parameters in force, and the
version of segspec that wrote it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from safetensors import SafetensorError, safe_open

from segspec import __version__
from segspec.graph.model import Graph
from segspec.weights.pickles import Refused
from segspec.weights.tensors import DTYPES, MAX_LISTING, Tensor, prepared, shape_of

LENGTH = 8
"""How many bytes say how long the header is."""


def metadata(graph: Graph) -> dict[str, str]:
    """What a portable checkpoint says of the network that it belongs to."""
    return {
        "segspec": __version__,
        "spec": graph.name,
        "digest": graph.definition.file.digest(),
        "parameters": json.dumps(dict(graph.parameters), sort_keys=True, default=str),
    }


def read(data: memoryview, path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a safetensors file and its metadata.

    The library checks the header: that no tensor overlaps another, and that all together are the rest of the file.
    """
    length = int.from_bytes(data[:LENGTH], "little")
    if length > MAX_LISTING:
        raise Refused(f"its header claims {length:,} bytes; no checkpoint's takes more than {MAX_LISTING:,}")
    try:
        with safe_open(path, framework="np") as file:
            held = file.metadata() or {}
    except SafetensorError as error:
        raise Refused(f"it is damaged or cut off: {error}") from None
    header = json.loads(bytes(data[LENGTH : LENGTH + length]), object_pairs_hook=_once)
    header.pop("__metadata__", None)
    tensors = {}
    for key, entry in header.items():
        kind, shape, (start, _) = (entry[name] for name in ("dtype", "shape", "data_offsets"))
        if kind not in DTYPES:
            raise Refused(f"{key:.80}: its elements are of the type {kind}")
        try:
            tensors[key] = _tensor(key, kind, shape_of(tuple(shape)), data[LENGTH + length + start :])
        except Refused as error:
            raise Refused(f"{key:.80}: {error}") from None
    return tensors, held


def _tensor(key: str, kind: str, shape: tuple[int, ...], data: memoryview) -> Tensor:
    def read() -> np.ndarray:
        return np.frombuffer(data, DTYPES[kind], math.prod(shape)).reshape(shape)

    return Tensor(key, kind, shape, read)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise Refused(f"the key {key!r:.80} is there twice")
        found[key] = value
    return found


def write(file: BinaryIO, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> Iterator[int]:
    """Write tensors as a safetensors file; yields the bytes of them written so far.

    The library's own writer wants all tensors in memory at once.
    """
    # Those with the widest elements first, as the library orders them, so that all are aligned.
    placed = sorted(tensors.items(), key=lambda item: -DTYPES[item[1].dtype].itemsize)
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for key, tensor in placed:
        start, end = end, end + tensor.nbytes
        shape = tensor.shape
        header[key] = {"dtype": tensor.dtype, "shape": shape, "data_offsets": (start, end)}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % LENGTH)
    file.write(len(text).to_bytes(LENGTH, "little") + text)
    done = 0
    for pieces in prepared(tensor for _, tensor in placed):
        for piece in pieces:
            file.write(piece.data.cast("B"))
            done += piece.nbytes
            yield done
