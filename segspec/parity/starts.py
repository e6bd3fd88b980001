"""Hold how networks start to what is declared: every tensor's distribution, in each backend and between them.

Each backend builds the network several times, from one seed, so that the result is the same whenever it is asked for,
and returns a sample of every tensor. What is declared for certain (zeros, ones, a constant, ``bilinear``) must be there
to the bit. Of what is random, let z be the values less the declared mean, by the declared standard deviation:

- mean: that of z is 0,
- std: the mean of z² is 1,
- range: no |z| is larger than the declared distribution gives,
- quantiles: the Kolmogorov–Smirnov distance to the declared distribution is 0,

each but for a sampling error; and of two backends mean, std and quantiles agree. Tensors that start alike (of one slot
of one op, by one initialiser) are judged together once more: each may be small, but there are many. Moreover no tensor
is a copy of another, nor each build of the one before.

The limits follow from the number of values. Together they are passed by chance, in a network that starts right, less
than once in 10⁹ times (Bonferroni). They are bounds, not approximations, for any number of values, and hold for normal
and uniform distributions alike, since both are sub-Gaussian with their own variance: for z² Laurent, Massart 2000,
lemma 1; for the distance to a distribution Massart 1990, and of two samples Wei, Dudley 2012.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, TypeAlias

import numpy as np

from segspec.graph.instances import parameters
from segspec.graph.model import Graph
from segspec.ops.initializers import Initializer
from segspec.ops.laws import Gaussian, Interval, Law
from segspec.render.backend import backend
from segspec.weights import initial
from segspec.weights.state import Entry, entries

FALSE_ALARM = 1e-9
"""How likely at most a network that starts right is found wrong, all its tests together."""

SEED = 0
LEAST, MOST = 2, 64
"""The number of builds; more than the least only for the sake of small tensors."""
BUDGET = 2**25
"""What these further builds may cost, in elements drawn."""
TENSOR = 2**13
"""What a tensor costs to make, in elements drawn."""
WANTED = 2**13
"""About how many values of each tensor are wanted, from all builds; a small one may have fewer."""
POOL = 2**17
"""About how many values are taken of tensors that start alike."""
COMPARED = 256
"""How many values of two tensors tell whether one is a copy of the other."""


@dataclass(frozen=True)
class StartRow:
    """One statistic of a tensor (or of several that start alike) in one backend, or between two.

    Of a tensor's statistics, it is the one that comes closest to its limit or is farthest beyond it. ``error`` is
    None where there is nothing to compare.
    """

    spec: str
    tensor: str
    check: str
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


@dataclass(frozen=True)
class _Statistic:
    """How far something is from what it should be, how far it may be, and in words what it would be then."""

    check: str
    error: float
    limit: float
    note: str


@dataclass(frozen=True)
class _Sample:
    """Values of a tensor, or of several that start alike, standardised by what is declared: one row a build."""

    tensor: str
    shape: tuple[int, ...]
    said: str
    law: Law
    z: np.ndarray

    @cached_property
    def ordered(self) -> np.ndarray:
        """All of them in ascending order."""
        return np.sort(self.z, axis=None)


Drawn: TypeAlias = "Mapping[str, np.ndarray] | str"
"""What each tensor starts as in one backend, one row a build; or what stopped it."""


def starts(graph: Graph, drawn_by: Mapping[str, Drawn]) -> Iterator[StartRow]:
    """Every comparison for one graph, of what its backends drew: by backend, then of each other with the first."""
    tensors = entries(graph)
    if not tensors:
        return
    tests = _Tests(tensors, len(drawn_by))
    builds = _builds(graph, tensors)
    drawn: dict[str, dict[str, _Sample]] = {}

    def row(tensor: str, shape: tuple[int, ...], said: str, found: _Statistic, *names: str) -> StartRow:
        ok = found.error <= found.limit
        note = said if ok else found.note
        return StartRow(graph.name, tensor, found.check, names, shape, found.error, found.limit, ok, note)

    for name, values in drawn_by.items():
        title = backend(name).title
        if isinstance(values, str):
            yield StartRow(graph.name, "", "start", (name,), (), None, 0.0, False, f"{title} failed: {values}")
            continue
        held: dict[str, _Sample] = {}
        for entry in tensors:
            array = values.get(entry.name)
            if array is None or array.shape[1] != _taken(entry.shape, builds):
                missing = f"{title} has no such tensor of {math.prod(entry.shape)} elements"
                yield StartRow(graph.name, entry.name, "start", (name,), entry.shape, None, 0.0, False, missing)
            elif _random(entry):
                sample = held[entry.name] = _sample(entry, array)
                found = [*tests.declared(sample), *_repeated(array)]
                yield row(entry.name, entry.shape, _counted(sample), _farthest(found), name)
            else:
                yield row(entry.name, entry.shape, _said(entry.init), _exact(entry, array, builds), name)
        for tensor, copied in tests.copies(list(held.values())):
            yield row(tensor, (), f"the most like another of {len(held)} tensors", copied, name)
        drawn[name] = held | _alike(tensors, held)
        for sample in drawn[name].values():
            if sample.tensor not in held:
                yield row(sample.tensor, sample.shape, _counted(sample), _farthest(tests.declared(sample)), name)
    first, *others = drawn or [""]
    for other in others:
        for key, sample in drawn[first].items():
            if key in drawn[other]:
                found = tests.equal(sample, drawn[other][key])
                yield row(sample.tensor, sample.shape, _counted(sample), _farthest(found), first, other)


def _farthest(found: Sequence[_Statistic]) -> _Statistic:
    """The statistic that comes closest to its limit, or is farthest beyond it."""
    return max(found, key=lambda item: item.error / item.limit if item.limit else math.inf)


# --- what is asked of the backends -------------------------------------------------------------------


def _builds(graph: Graph, tensors: Sequence[Entry]) -> int:
    """How many builds give the smallest random tensor enough values, within what they may cost."""
    smallest = min((math.prod(entry.shape) for entry in tensors if _random(entry)), default=WANTED)
    affordable = BUDGET // max(parameters(graph) + TENSOR * len(tensors), 1)
    return max(LEAST, min(math.ceil(WANTED / smallest), affordable, MOST))


def _step(shape: tuple[int, ...], builds: int) -> int:
    """Of how many elements one is taken, of a tensor: a number that falls into step with none of its axes."""
    step = max(math.prod(shape) * builds // WANTED, 1)
    while any(math.gcd(step, axis) > 1 for axis in shape):
        step += 1
    return step


def _taken(shape: tuple[int, ...], builds: int) -> int:
    """How many elements are taken of a tensor."""
    return math.ceil(math.prod(shape) / _step(shape, builds))


def asked(graph: Graph) -> dict[str, Any]:
    """The pass in which a backend's process draws the tensors: see ``Session.starts`` there."""
    tensors = entries(graph)
    builds = _builds(graph, tensors)
    steps = {entry.name: _step(entry.shape, builds) for entry in tensors}
    return {"id": "starts", "do": "starts", "dtype": "float32", "seed": SEED, "builds": builds, "steps": steps}


# --- what is found -----------------------------------------------------------------------------------


def _random(entry: Entry) -> bool:
    return isinstance(entry.law, Gaussian | Interval)


def _said(init: Initializer) -> str:
    """An initialiser in words."""
    options = ", ".join(f"{name}={value}" for name, value in init.model_dump(exclude_defaults=True).items())
    return f"{init.name}({options})" if options else init.name


def _counted(sample: _Sample) -> str:
    return f"{sample.said}, {sample.z.size} values"


def _sample(entry: Entry, values: np.ndarray) -> _Sample:
    assert entry.law
    z = (values.astype("float64") - entry.law.mean) / entry.law.std
    return _Sample(entry.name, entry.shape, _said(entry.init), entry.law, z)


def _alike(tensors: Sequence[Entry], samples: Mapping[str, _Sample]) -> dict[str, _Sample]:
    """Of tensors that start alike about as many values each, as one sample of the standardised distribution."""
    groups: dict[tuple[str, str, Initializer], list[Entry]] = {}
    for entry in tensors:
        if entry.name in samples:
            groups.setdefault((entry.op, entry.slot, entry.init), []).append(entry)
    found = {}
    for (op, slot, init), members in groups.items():
        if len(members) > 1:
            share = max(POOL // len(members), 1)
            z = np.concatenate([samples[entry.name].z.T.ravel()[:share] for entry in members])
            law: Law = Gaussian(0, 1) if isinstance(members[0].law, Gaussian) else Interval(-math.sqrt(3), math.sqrt(3))
            name = f"{op}.{slot} of {len(members)} nodes, standardised"
            found[f"{name}: {_said(init)}"] = _Sample(name, (), _said(init), law, z[None])
    return found


def _exact(entry: Entry, values: np.ndarray, builds: int) -> _Statistic:
    """How far values are from those that are declared."""
    expected = initial.values(entry, SEED).ravel()[:: _step(entry.shape, builds)]
    if (values == expected).all():
        return _Statistic("start", 0.0, 0.0, "")
    apart = np.abs(values.astype("float64") - expected)
    error = float(np.nan_to_num(apart, nan=math.inf).max())
    where = np.unravel_index(apart.argmax(), apart.shape)
    differs = f"{values[where]:.6g} where {_said(entry.init)} has {expected[where[1]]:.6g}"
    return _Statistic("start", error, 0.0, differs)


def _repeated(values: np.ndarray) -> list[_Statistic]:
    """The finding that every build has the same values, if so; no random number generator comes to that."""
    if not (values == values[0]).all():
        return []
    what = f"all values are {values.flat[0]:.6g}" if (values == values.flat[0]).all() else "the same in each build"
    return [_Statistic("start repeats", 1.0, 0.0, what)]


class _Tests:
    """The statistics of random tensors, with limits for so many tests."""

    def __init__(self, tensors: Sequence[Entry], backends: int) -> None:
        random = sum(map(_random, tensors))
        # Of each tensor, and of less than half as many groups: four against its law, four between backends.
        number = backends * (12 * random + random**2 // 2)
        self.tail = math.log(2 * max(number, 1) / FALSE_ALARM)

    def declared(self, sample: _Sample) -> list[_Statistic]:
        """A sample against its distribution."""
        law, said, z = sample.law, sample.said, sample.ordered
        if not np.isfinite(z).all():
            return [
                _Statistic("start", math.inf, 0.0, f"not all values are finite, where {said} has std {law.std:.3g}")
            ]
        count, mean, variance = z.size, float(z.mean()), float((z**2).mean())
        largest = float(max(z[0], z[-1], key=abs))
        ranks = np.arange(count + 1) / count
        below = _cdf(law, z)
        gaps = np.maximum(np.abs(below - ranks[1:]), np.abs(below - ranks[:-1]))
        at = int(gaps.argmax())
        found = [
            _Statistic(
                "start mean",
                abs(mean),
                math.sqrt(2 * self.tail / count),
                f"mean {law.mean + law.std * mean:.3g} where {said} has {law.mean:.3g}",
            ),
            _Statistic(
                "start std",
                abs(variance - 1),
                self._spread(count),
                f"std {law.std * math.sqrt(variance):.3g} where {said} has {law.std:.3g}",
            ),
            _Statistic(
                "start quantiles",
                float(gaps[at]),
                math.sqrt(self.tail / (2 * count)),
                f"{(at + 0.5) / count:.0%} of the values are below {law.mean + law.std * z[at]:.3g} "
                f"where {said} has {below[at]:.0%}",
            ),
        ]
        highest = self._highest(law, count)
        if abs(largest) > highest:
            note = f"{law.mean + law.std * largest:.3g} is farther from {law.mean:.3g} than {said} goes"
            found.append(_Statistic("start range", abs(largest), highest, note))
        return found

    def equal(self, one: _Sample, other: _Sample) -> list[_Statistic]:
        """Two backends' samples of one tensor against each other."""
        a, b, law = one.ordered, other.ordered, one.law
        if not (np.isfinite(a).all() and np.isfinite(b).all()):
            return [_Statistic("start agrees", math.inf, 0.0, "not all values are finite")]
        means, variances = [float(z.mean()) for z in (a, b)], [float((z**2).mean()) for z in (a, b)]
        both = np.concatenate([a, b])
        shares = [np.searchsorted(z, both, side="right") / z.size for z in (a, b)]
        at = int(np.abs(shares[0] - shares[1]).argmax())
        sizes = 1 / a.size + 1 / b.size
        said = [f"{law.mean + law.std * mean:.3g}" for mean in means]
        wide = [f"{law.std * math.sqrt(variance):.3g}" for variance in variances]
        return [
            _Statistic(
                "start agrees: mean",
                abs(means[0] - means[1]),
                math.sqrt(2 * self.tail * sizes),
                f"mean {said[0]} against {said[1]}",
            ),
            _Statistic(
                "start agrees: std",
                abs(variances[0] - variances[1]),
                self._spread(a.size) + self._spread(b.size),
                f"std {wide[0]} against {wide[1]}",
            ),
            _Statistic(
                "start agrees: quantiles",
                float(abs(shares[0][at] - shares[1][at])),
                math.sqrt((self.tail + 1 - math.log(2)) * sizes / 2),  # of two samples of one size, e for 2
                f"{shares[0][at]:.0%} against {shares[1][at]:.0%} of the values are at most "
                f"{law.mean + law.std * both[at]:.3g}",
            ),
        ]

    def copies(self, samples: Sequence[_Sample]) -> list[tuple[str, _Statistic]]:
        """Whether a tensor repeats another, if scaled: the largest product of two samples by one's norm."""
        long = [sample for sample in samples if sample.z.size >= COMPARED and np.isfinite(sample.z).all()]
        if len(long) < 2:
            return []
        z = np.array([sample.z.ravel()[:COMPARED] for sample in long])
        products = np.abs(np.triu(z @ z.T, 1)) / np.maximum(np.linalg.norm(z, axis=1), 1)
        earlier, later = np.unravel_index(products.argmax(), products.shape)
        note = f"repeats {long[earlier].tensor}"
        found = _Statistic("start copies", float(products[earlier, later]), math.sqrt(2 * self.tail), note)
        return [(long[later].tensor, found)]

    def _highest(self, law: Law, count: int) -> float:
        """The largest |z| that so many values have."""
        if isinstance(law, Gaussian):
            return math.sqrt(2 * (self.tail + math.log(count)))
        ends = max(map(abs, (law.quantile(0), law.quantile(1))))
        return math.sqrt(3) + ends / law.std * 2**-22  # the ends are rounded to float32

    def _spread(self, count: int) -> float:
        """How far the mean of z² may be from 1."""
        return 2 * math.sqrt(self.tail / count) + 2 * self.tail / count


def _cdf(law: Law, z: np.ndarray) -> np.ndarray:
    """The probability of at most each of these standardised values."""
    below: np.ndarray = (
        np.interp(z, *_normal()) if isinstance(law, Gaussian) else np.clip((z / math.sqrt(3) + 1) / 2, 0, 1)
    )
    return below


@lru_cache(maxsize=1)
def _normal() -> tuple[np.ndarray, np.ndarray]:
    """The standard normal distribution function, at points so dense that straight lines between them err by 10⁻⁶."""
    points = np.linspace(-8, 8, 8_193)
    return points, np.array([Gaussian(0, 1).cdf(point) for point in points])
