"""Carrying weights from one file to another: read, hold to the network, write as the target's readers expect."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from segspec.errors import Place, SpecError, fail
from segspec.graph.elaborate import elaborate
from segspec.graph.model import Graph
from segspec.spec.load import Definition
from segspec.weights import formats, initial, portable
from segspec.weights.fit import MAX_LISTED, Fit, Fitted, grouped, idle, placed
from segspec.weights.published import Match, Published, nearest
from segspec.weights.state import Entry, entries
from segspec.weights.tensors import DTYPES, Checkpoint, Tensor

MAX_KEYS = 20
"""How many tensors a warning names."""
HELD = 2**28
"""After how many bytes the memory of the source's tensors is given back."""

Progress = Callable[[int], None]
"""What is told how many bytes are written."""


def fitted(
    definition: Definition,
    settings: Mapping[str, Any],
    preset: str,
    checkpoint: Checkpoint,
    *,
    named_by: str = "",
    published: str = "",
    allowed: Sequence[str] = (),
) -> Fitted:
    """A checkpoint's tensors by the names of a network.

    Its keys are those of its format's framework unless ``named_by`` says otherwise, or those of one of the spec's
    published checkpoints, whose preset is then the network's: ``published`` says which, or they are tried.
    ``allowed`` are patterns of names that may be missing, unexpected or of another shape; they are left out. Raises
    :class:`~segspec.errors.SpecError` where anything else does not fit.
    """
    graph = elaborate(definition, settings, preset)
    backend = formats.backend_of(named_by or checkpoint.format)
    fit = Fit(graph, checkpoint, backend, allowed)
    if published or not fit.exact:
        shapes = {key: tensor.shape for key, tensor in checkpoint.tensors.items()}
        names = backend.name if backend else ""
        match = nearest(definition, shapes, settings, preset, name=published, backend=names, allowed=allowed)
        if match and (published or match.exact or match.misplaced < fit.misplaced):
            return _used(_published(match, checkpoint), checkpoint, allowed)
    found = fit.fitted()
    notes = (*checkpoint.notes, *_strangers(graph, checkpoint), *found.notes)
    return _used(replace(found, notes=notes), checkpoint, allowed)


def _used(found: Fitted, checkpoint: Checkpoint, allowed: Sequence[str]) -> Fitted:
    """The same, if anything of the file is used, with a note of each pattern that allows nothing."""
    if not found.keys:
        message = f"none of its tensors is one of {found.graph.definition.name}'s"
        raise fail("checkpoint", message, Place(str(checkpoint.path)), remedy="allow less")
    names = [entry.name for entry in entries(found.graph)]
    return replace(found, notes=(*found.notes, *idle(allowed, [*names, *checkpoint.tensors])))


def _published(match: Match, checkpoint: Checkpoint) -> Fitted:
    """The tensors of a published checkpoint by the names of the network that it is of."""
    place = Place(str(checkpoint.path))
    if not match.exact:
        raise SpecError([replace(problem, place=problem.place or place) for problem in match.problems()])
    found = match.result()
    if whole := [source.key for source in found.sources.values() if not checkpoint.tensors[source.key].floating]:
        raise fail("checkpoint", f"these tensors are of whole numbers: {', '.join(whole[:MAX_LISTED])}", place)
    tensors = {}
    for name, source in found.sources.items():
        tensor = checkpoint.tensors[source.key]
        tensor = tensor.transposed() if source.transposed else tensor
        tensors[name] = tensor.reversed() if source.reversed else tensor
    kind = next((tensor.dtype for tensor in tensors.values()), "F32")
    shapes = {entry.name: entry.shape for entry in entries(found.graph) if entry.name in found.zeros}
    tensors |= {
        name: Tensor(name, kind, shape, partial(np.zeros, shape, DTYPES[kind])) for name, shape in shapes.items()
    }
    keys = tuple(source.key for source in found.sources.values())
    return Fitted(found.graph, tensors, found.left, keys, (*checkpoint.notes, *_said(found, checkpoint)))


def _said(found: Published, checkpoint: Checkpoint) -> Iterator[str]:
    """Which checkpoint it is, of which network, and what was not taken from it."""
    network = found.graph.definition.name + (f" --preset {found.graph.preset}" if found.graph.preset else "")
    network += "".join(f" --set {name}={value}" for name, value in found.graph.settings.items())
    yield f"{checkpoint.path} is read as {found.title}, for {network}"
    names = [entry.name for entry in entries(found.graph)]
    weights = [key for key, tensor in checkpoint.tensors.items() if tensor.floating]
    ignored = set(found.ignored)
    if unused := [key for key in weights if key in ignored]:
        yield f"not used: {grouped(unused, weights)}"
    if found.zeros:
        yield f"zero, as it is not in the published network: {grouped(found.zeros, names)}"
    if found.left:
        yield f"not taken from {checkpoint.path}, so left out: {grouped(found.left, names)}"


def _strangers(graph: Graph, checkpoint: Checkpoint) -> Iterator[str]:
    """Where a portable checkpoint was written for another network: equal tensors do not make an equal function."""
    said, here = checkpoint.metadata, portable.metadata(graph)
    if "spec" not in said or "parameters" not in said:
        return
    if said["spec"] != here["spec"]:
        yield f"{checkpoint.path} was written for {said['spec']:.80}"
    try:
        before = json.loads(said["parameters"])
    except ValueError:
        return
    now = json.loads(here["parameters"])
    if isinstance(before, dict):
        for name in now:
            if name in before and before[name] != now[name]:
                yield f"{checkpoint.path} was written for {name}={before[name]!r:.80}, and this is {name}={now[name]!r}"


def write(
    found: Fitted,
    path: Path,
    kind: str,
    progress: Progress = lambda done: None,
    release: Callable[[], None] = lambda: None,
) -> None:
    """Write fitted tensors to a file of a format, one at a time; the file is replaced when all is written.

    ``release`` is called now and then, to give back the memory of what was read.
    """
    released = 0

    def written(count: int) -> None:
        nonlocal released
        if count - released >= HELD:
            released = count
            release()
        progress(count)

    tensors = placed(found, formats.backend_of(kind))
    formats.write(path, kind, tensors, portable.metadata(found.graph), written)


def recast(found: Fitted, kind: str) -> str:
    """What is to be said where the target's framework loads fewer types than there are; empty where nothing is."""
    backend = formats.backend_of(kind)
    wanted = backend.checkpoints.dtype if backend else ""
    others = sorted({tensor.dtype for tensor in found.tensors.values()} - {wanted})
    if not backend or not wanted or not others:
        return ""
    return f"{' and '.join(others)} become {wanted}, the type that {backend.title} loads"


def strange_numbers(checkpoint: Checkpoint, keys: Sequence[str], kind: str) -> str:
    """The keys of tensors with an element that is infinite or not a number, or would be in a file of this format.

    In words, empty where there are none.
    """
    backend = formats.backend_of(kind)
    wanted = backend.checkpoints.dtype if backend else ""
    found = []
    for key in keys:
        tensor = checkpoint.tensors[key]
        if not (tensor.cast(wanted) if wanted not in ("", tensor.dtype) else tensor).finite:
            found.append(key)
        checkpoint.release()
    more = f" and {len(found) - MAX_KEYS:,} more" if len(found) > MAX_KEYS else ""
    return f"not all numbers are finite in {', '.join(found[:MAX_KEYS])}{more}" if found else ""


def fresh(graph: Graph, seed: int) -> Fitted:
    """The network's own start: its initialisers, drawn one at a time as they are written."""
    return complete(Fitted(graph, {}, tuple(entry.name for entry in entries(graph)), ()), seed)


def complete(found: Fitted, seed: int) -> Fitted:
    """The same with the network's own start for what the file does not have."""
    drawn = {entry.name: _drawn(entry, seed) for entry in entries(found.graph) if entry.name in found.left}
    return replace(found, tensors={**found.tensors, **drawn}, left=())


def _drawn(entry: Entry, seed: int) -> Tensor:
    return Tensor(entry.name, "F32", entry.shape, lambda: initial.values(entry, seed))
