"""Whether two files of weights are one network: each in its backend's generated module, on the same images."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segspec.errors import SpecError, fail
from segspec.graph.model import Graph
from segspec.parity.process import Tell, require
from segspec.parity.recording import Plan, Recording, Task, record
from segspec.parity.settings import BATCH
from segspec.parity.sizes import default_sizes, exact_size
from segspec.parity.verify import Report, report
from segspec.render import Backend
from segspec.render.backend import backends
from segspec.render.check import refusals
from segspec.weights import formats
from segspec.weights.convert import complete
from segspec.weights.fit import Fitted
from segspec.weights.state import Entry


@dataclass(frozen=True)
class Side:
    """The weights of one file, and the backend in whose module they are run."""

    found: Fitted
    backend: Backend

    def weight(self, entry: Entry) -> np.ndarray:
        """One tensor of the file; what it lacks starts as the spec says."""
        tensor = complete(self.found, 0).tensors[entry.name]
        return np.concatenate(list(tensor.numbers())).reshape(tensor.shape)


def sides(graph: Graph, kinds: Sequence[str], python: Mapping[str, str]) -> tuple[Backend, Backend]:
    """The backends of two files by their formats; a portable file is run where the other one is not, if that is there.

    Raises :class:`SpecError` where a framework is missing, or a backend refuses the network.
    """
    own = [formats.backend_of(kind) for kind in kinds]
    there = [held for held in backends().values() if held.name in python or importlib.util.find_spec(held.module)]
    chosen: list[Backend] = []
    for mine, other in zip(own, own[::-1], strict=True):
        taken = [held.name for held in (other, *chosen) if held is not None]
        free = [held for held in there if held.name not in taken]
        chosen.append(mine or next(iter([*free, *there]), next(iter(backends().values()))))
    require([held for held in chosen if held.name not in python])
    if problems := refusals(graph, chosen):
        raise SpecError(problems)
    return chosen[0], chosen[1]


def verify(first: Side, second: Side, *, python: Mapping[str, str], tell: Tell | None = None) -> Report:
    """A report for two files of one network, in float64, at one size, in eval and train mode."""
    graph, pair = first.found.graph, [first.backend, second.backend]
    size = exact_size(graph, pair, BATCH) or next(iter(default_sizes(graph, pair, BATCH)), None)
    if size is None:
        message = f"no size was found at which {graph.name} can be verified with batch {BATCH}"
        raise fail("size", message, graph.definition.place())
    plan = Plan((size,), BATCH, 0, size, dtypes=("float64",))
    with tempfile.TemporaryDirectory(prefix="segspec-") as folder:
        found: list[Recording] = []
        for name, side in (("source", first), ("target", second)):
            task = Task(graph, side.backend, plan, weights=side.weight)
            place, given = Path(folder) / name, tuple(found)
            found += record([task], place, given, python=python.get(side.backend.name, ""), tell=tell)
        return report(found[0], found[1])
