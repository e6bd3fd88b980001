"""Hold the renderings of one graph together: shapes, outputs and statistics, in every mode and dtype.

In float64 the relative L2 error of an output is at most 1e-10, or the declared floors of the coarse ops
above it. In float32 it is at most a small multiple of float32's own rounding noise, which is how far a
backend's float32 is from its float64, or again the declared floors.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from segspec.algebra.symbols import substitute, whole
from segspec.errors import SpecError, fail
from segspec.graph.instances import at_size, instances, resolve
from segspec.graph.model import Graph, ModuleOutput, OpCall
from segspec.graph.sizes import size_problem
from segspec.ops.base import product
from segspec.parity import run
from segspec.parity.sizes import Size, default_sizes
from segspec.render import Backend, render
from segspec.render.backend import Coarse, floors, size_refusal
from segspec.weights import seeded
from segspec.weights.state import entries

BATCH = 3
"""Three images: batch normalisation of two 1×1 maps has only ±1 to return, and its rounding to show."""
LIMIT = 1e-10
NOISE = 16
"""How many times the quieter backend's float32 noise two backends may be apart."""
LEAST_NOISE = 2**-21
"""What counts as noise where there is hardly any: a few roundings of float32."""

MODES = ("eval", "train")
DTYPES = ("float64", "float32")


@dataclass(frozen=True)
class Row:
    """One comparison of two backends; ``error`` is None where there are no two arrays to compare."""

    spec: str
    size: str
    mode: str
    dtype: str
    output: str
    backends: tuple[str, ...]
    shape: tuple[int, ...]
    error: float | None
    limit: float
    ok: bool
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The row as plain data, for ``--json``."""
        held = {**vars(self), "backends": list(self.backends), "shape": list(self.shape)}
        if self.error is None or not math.isfinite(self.error):
            held["error"] = None
        return held


def verify(graph: Graph, backends: Sequence[Backend], sizes: Sequence[Size], batch: int) -> Iterator[Row]:
    """Every comparison for one graph; without ``sizes``, at those of :func:`default_sizes`.

    Raises :class:`SpecError` where a framework is missing, or a size is one that the network or a
    backend cannot take.
    """
    chosen = list(backends)
    run.require(chosen)
    for size in sizes:
        problem = size_problem(graph, *size, batch, training=True) or size_refusal(graph, chosen, *size, batch)
        if problem:
            raise SpecError(problem)
    wanted = list(sizes) or default_sizes(graph, chosen, batch)
    if not wanted:
        raise fail(
            "size",
            f"no size was found at which {graph.name} can be verified with batch {batch}",
            graph.definition.place(),
        )
    runs = [
        run.Run(f"{height}x{width} {mode} {dtype}", _inputs(graph, height, width, batch), dtype, mode)
        for dtype in DTYPES
        for height, width in wanted
        for mode in MODES
    ]
    results = {held.name: run.run(held, {"": (graph, render(graph, held))}, {"": runs}) for held in chosen}
    for other in chosen[1:]:
        pair = _Pair(graph, chosen[0], other, results)
        if pair.failure:
            yield Row(graph.name, "", "", "", "", pair.names, (), None, LIMIT, False, pair.failure)
            continue
        for height, width in wanted:
            for mode in MODES:
                yield from pair.rows(height, width, batch, mode)


def _inputs(graph: Graph, height: int, width: int, batch: int) -> dict[str, np.ndarray]:
    values = at_size(graph, height, width, batch)
    shapes = {item.name: resolve(item.shape, values) for item in graph.root.inputs}
    return {name: seeded.image(name, tuple(map(whole, shape))) for name, shape in shapes.items()}


class _Pair:
    """Two backends' results for one graph."""

    def __init__(self, graph: Graph, first: Backend, second: Backend, results: Mapping[str, run.Results]) -> None:
        self.graph = graph
        self.backends = (first, second)
        self.names = (first.name, second.name)
        self.results = [results[name] for name in self.names]
        failures = [
            f"{held.title} failed: {result.failures['']}"
            for held, result in zip(self.backends, self.results, strict=True)
            if "" in result.failures
        ]
        self.failure = "\n".join(failures)

    def arrays(self, size: str, mode: str, dtype: str) -> list[dict[str, np.ndarray]]:
        """What both returned in one run."""
        return [result.arrays["", f"{size} {mode} {dtype}"] for result in self.results]

    def rows(self, height: int, width: int, batch: int, mode: str) -> Iterator[Row]:
        """The comparisons at one size in one mode: each output, then the statistics that training updates."""
        size = f"{height}x{width}"
        values = at_size(self.graph, height, width, batch)
        coarse, coarse_single = (
            floors(self.graph, list(self.backends), height, width, batch, training=mode == "train", single=single)
            for single in (False, True)
        )
        outputs = [output for output in self.graph.root.outputs if mode == "train" or not output.training]
        exact = self.arrays(size, mode, "float64")
        for dtype in DTYPES:
            held = self.arrays(size, mode, dtype)
            for index, output in enumerate(outputs):
                key = f"output {index}"
                shape = tuple(map(whole, resolve(output.shape, values)))
                left, right = (arrays.get(key) for arrays in held)
                yield self._row(
                    size,
                    mode,
                    dtype,
                    output,
                    shape,
                    (left, right),
                    [a.get(key) for a in exact],
                    coarse if dtype == "float64" else coarse_single,
                )
            if mode == "train":
                yield from self._statistics(size, dtype, height, width, batch, coarse)

    def _row(
        self,
        size: str,
        mode: str,
        dtype: str,
        output: ModuleOutput,
        shape: tuple[int, ...],
        arrays: tuple[np.ndarray | None, np.ndarray | None],
        exact: list[np.ndarray | None],
        coarse: list[Coarse],
    ) -> Row:
        def row(error: float | None, limit: float, ok: bool, note: str = "") -> Row:
            return Row(
                self.graph.name,
                size,
                mode,
                dtype,
                output.name,
                self.names,
                shape,
                error,
                limit,
                ok,
                note,
            )

        left, right = arrays
        found = [None if array is None else array.shape for array in arrays]
        if left is None or right is None or found != [shape, shape]:
            note = "; ".join(f"{name} {_shown(item)}" for name, item in zip(self.names, found, strict=True))
            return row(None, LIMIT, False, f"shape: inferred {_shown(shape)}, {note}")
        error = relative(left, right)
        above = [item for item in coarse if item.path.split(".")[0] in _upstream(self.graph, output.tensor.node)]
        if dtype == "float64":
            limit = max(LIMIT, _total(above))
            return row(error, limit, error <= limit, _floor_note(above))
        noise = min(
            relative(one, held) for one, held in zip(exact, arrays, strict=True) if one is not None and held is not None
        )
        limit = max(NOISE * max(noise, LEAST_NOISE), _total(above))
        return row(error, limit, error <= limit, _floor_note(above))

    def _statistics(
        self, size: str, dtype: str, height: int, width: int, batch: int, coarse: list[Coarse]
    ) -> Iterator[Row]:
        """Running means and variances after one step, the second backend's declared relations applied.

        Statistics below coarse ops are rows of their own. Those of modules that run more than once in a
        pass are left out: what one update makes of another is no relation of single steps.
        """
        left, right = self.arrays(size, "train", dtype)
        exact = self.arrays(size, "train", "float64")[1]
        groups: dict[tuple[str, frozenset[str]], list[tuple[np.ndarray, ...]]] = {}
        floors: dict[tuple[str, frozenset[str]], list[Coarse]] = {}
        reasons: dict[str, str] = {}
        found = list(instances(self.graph, at_size(self.graph, height, width, batch)))
        shared = {instance.owner for instance in found if instance.shared}
        state = {entry.name: entry for entry in entries(self.graph)}
        for instance in found:
            if not isinstance(instance.call, OpCall) or instance.path in shared:
                continue
            upstream = _upstream(self.graph, instance.path.split(".")[0])
            above = [item for item in coarse if item.path.split(".")[0] in upstream]
            for slot in instance.slots():
                key = f"statistic {instance.path}.{slot.name}"
                if slot.trainable or key not in left:
                    continue
                expected = left[key].astype("float64")
                rule = self.backends[1].facts(instance.call.op.name).divergences.get(slot.name)
                if rule:
                    n, _, *sizes = instance.inputs()[0]
                    attributes = instance.call.op.attributes().items()
                    of_value, of_before = rule.coefficients(
                        **{name: substitute(value, instance.values) for name, value in attributes},
                        count=product((n, *sizes)),
                    )
                    before = seeded.weight(state[f"{instance.path}.{slot.name}"]).astype("float64")
                    expected = of_value * expected + of_before * before
                    reasons[slot.name] = f"by its relation: {self.backends[1].title}: {rule.reason}"
                group = (slot.name, frozenset(item.reason for item in above))
                groups.setdefault(group, []).append((expected, right[key], exact[key]))
                floors[group] = max(floors.get(group, []), list(above), key=_total)
        for group, parts in groups.items():
            name, above = group[0], floors[group]
            expected, other, best = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
            error, limit = relative(expected, other), max(LIMIT, _total(above))
            notes = [note for note in (reasons.get(name), _floor_note(above)) if note]
            if dtype == "float32":
                limit, notes = NOISE * max(relative(best, other), LEAST_NOISE), notes[:1]
            note = "; ".join(notes)
            spec, shape = self.graph.name, other.shape
            yield Row(spec, size, "train", dtype, name, self.names, shape, error, limit, error <= limit, note)


def relative(reference: np.ndarray, other: np.ndarray) -> float:
    """The relative L2 error: ‖a − b‖ / ‖a‖, in float64; infinite where either is not finite."""
    a, b = reference.astype("float64"), other.astype("float64")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return math.inf
    norm = float(np.linalg.norm(a))
    difference = float(np.linalg.norm(a - b))
    return difference / norm if norm else (0.0 if difference == 0 else math.inf)


def _upstream(graph: Graph, name: str) -> set[str]:
    """The network's nodes that one of them depends on, itself included."""
    nodes = {node.name: node for node in graph.root.nodes}
    waiting, seen = [name], set()
    while waiting:
        held = waiting.pop()
        if held in nodes and held not in seen:
            seen.add(held)
            waiting += [source.node for source in nodes[held].sources]
    return seen


def _total(coarse: list[Coarse]) -> float:
    return sum(item.limit for item in coarse)


def _floor_note(coarse: list[Coarse]) -> str:
    if not coarse:
        return ""
    first = coarse[0]
    more = f" and {len(coarse) - 1} more" if len(coarse) > 1 else ""
    return f"floor: {first.op} at {first.path}{more}: {first.backend}: {first.reason}"


def _shown(shape: tuple[int, ...] | None) -> str:
    return "nothing" if shape is None else "×".join(map(str, shape))
