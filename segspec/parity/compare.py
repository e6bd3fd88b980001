"""Hold two recordings of one network together: every node, alone and end to end, gradients, statistics, training.

Errors are relative, in the L2 norm. In float64 a limit follows from how deep a node lies, in float32 from how far a
backend's own float32 is from its float64.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from copy import copy
from dataclasses import dataclass, replace

from segspec.backends.arrays import Digest, Reading, norm
from segspec.parity.recording import MODES, OPTIMIZERS, Recording, name_of
from segspec.parity.scene import Part, Relation, Scene
from segspec.parity.sizes import LIMIT

LIMIT_OF_ONE = 1e-12
"""The largest error of a single op on equal inputs, and what each op more on the way to a node may add, up to LIMIT."""
GRADIENT_LIMIT = 1e-8
NOISE = 16
"""How many times the quieter backend's float32 noise two backends may be apart."""
LEAST_NOISE = 2**-21
"""What counts as noise where there is hardly any: a few roundings of float32."""
VANISHED = LIMIT_OF_ONE / GRADIENT_LIMIT
"""A gradient this much smaller than the largest of its layer is what cancellation left: held to that one's rounding.

So a bias before a normalisation, whose gradient is zero but for the rounding of a sum over all pixels, may differ by
what one op may, of the gradient of what is summed, or of the weights beside it.
"""

AMPLIFIED = "as far as it moves where every node is disturbed by its floor"

IDENTITY = Relation(1.0, 0.0, "")


@dataclass(frozen=True)
class Comparison:
    """One comparison of two backends; ``error`` is None where there are no two arrays to compare.

    ``check`` says what is compared: ``outputs`` as they are; ``nodes`` end to end, what a backend is known to compute
    coarsely taken from the first; ``replay``, each node alone on what the first backend's had, or on several times
    that; ``gradients`` of parameters and inputs, and their ``gradient replay``; ``statistics`` that training updates;
    ``sgd`` and ``adam``.
    """

    check: str
    size: str
    mode: str
    dtype: str
    subject: str
    what: str
    shape: tuple[int, ...]
    error: float | None
    limit: float
    ok: bool
    note: str = ""
    gates: bool = True


def compare(first: Recording, second: Recording) -> list[Comparison]:
    """Every comparison of two recordings."""
    return list(_Pair(first, second).comparisons())


def apart(one: Digest, other: Digest, scale: float = 0.0) -> float:
    """The relative L2 error: ‖a − b‖ / ‖a‖, or / ``scale`` if that is larger; infinite where either is not finite."""
    if not (math.isfinite(one.norm) and math.isfinite(other.norm)):
        return math.inf
    length, distance = max(one.norm, scale), norm(one.values - other.values)
    return distance / length if length else (0.0 if distance == 0 else math.inf)


class _Pair:
    def __init__(self, first: Recording, second: Recording) -> None:
        self.first = first
        self.second = second
        self.plan = first.plan
        self.outputs = first.about["outputs"]
        self.trainable = [entry["name"] for entry in first.about["state"] if entry["kind"] == "trainable"]
        self.above: dict[str, dict[str, frozenset[str]]] = {}

    def upstream(self, scene: str) -> dict[str, frozenset[str]]:
        """The nodes that each node depends on, itself and what a block holds included."""
        if scene not in self.above:
            found: dict[str, frozenset[str]] = {"": frozenset()}
            for part in self.first.scenes[scene].parts:
                inside = f"{part.path}."
                inner = [held for path, held in found.items() if path.startswith(inside)] if part.arguments else []
                found[part.path] = frozenset({part.path}).union(
                    *(found.get(path, frozenset()) for path in part.sources), *inner
                )
            self.above[scene] = found
        return self.above[scene]

    def comparisons(self) -> Iterator[Comparison]:
        for size in self.plan.sizes:
            for mode in MODES:
                for dtype in self.plan.dtypes:
                    name = name_of(size, mode, dtype)
                    left, right = self.first.arrays(name), self.second.arrays(name)
                    if left is not None and right is not None:
                        yield from _Pass(self, size, mode, dtype, left, right).comparisons()
        for optimizer in OPTIMIZERS if self.plan.steps else ():
            yield from self._training(optimizer)

    def _training(self, optimizer: str) -> Iterator[Comparison]:
        left, right = self.first.arrays(optimizer), self.second.arrays(optimizer)
        if left is None or right is None or not (left or right):
            return
        height, width = self.plan.training_size
        size = f"{height}x{width}"
        coarse = [
            item for held in (self.first, self.second) for item in held.scenes[f"{size} train"].gradient_floors.values()
        ]
        coarse = [item for item in coarse if item[0] > LIMIT]
        floor, reasons = sum(limit for limit, _ in coarse), "; ".join(sorted({reason for _, reason in coarse}))
        relations = [recording.scenes[f"{size} train"].relations for recording in (self.first, self.second)]
        start = self.first.arrays("calibrate")
        shared = self._called_again(f"{size} train")
        for step in range(self.plan.steps):
            keys = {"loss": f"step {step} loss", **{name: f"step {step} parameter {name}" for name in self.trainable}}
            for name, key in keys.items():
                yield self._step(optimizer, size, step, name, left.digest(key), right.digest(key), floor, reasons)
            for name in (entry["name"] for entry in self.first.about["state"] if entry["kind"] == "statistic"):
                key = f"step {step} statistic {name}"
                before = start.digest(f"statistic {name}") if start else None
                value, other = left.digest(key), right.digest(key)
                if before and value and other and name not in shared:
                    expected, note = _expected(name, relations, value, before, before)
                    note = "; ".join(filter(None, [note, reasons]))
                    yield self._step(optimizer, size, step, name, expected, other, floor, note)

    def _step(
        self,
        optimizer: str,
        size: str,
        step: int,
        name: str,
        left: Digest | None,
        right: Digest | None,
        floor: float,
        note: str,
    ) -> Comparison:
        limit = max(GRADIENT_LIMIT, floor)
        subject = f"{name} after step {step + 1}"
        if not (left and right):
            lacking = (self.second if left else self.first).backend
            note = f"{lacking} has no output to learn from"
            return Comparison(optimizer, size, "train", "float64", subject, "", (), None, limit, False, note)
        error = apart(left, right)
        # Steps amplify what is coarse, by how much nobody knows: then the replays judge, and this is reported.
        gates = not floor
        ok = error <= limit or not gates
        return Comparison(optimizer, size, "train", "float64", subject, "", left.shape, error, limit, ok, note, gates)

    def _called_again(self, scene: str) -> set[str]:
        """The statistics of modules that run more than once in a pass."""
        again = {part.inner.partition("#")[0] for part in self.first.scenes[scene].parts if "#" in part.inner}
        return {entry["name"] for entry in self.first.about["state"] if entry["name"].rpartition(".")[0] in again}


def _expected(
    name: str, relations: list[Mapping[str, Relation]], value: Digest, before: Digest, own_before: Digest
) -> tuple[Digest, str]:
    """The second backend's statistic, from the first's by both relations; and the note that says so."""
    one, other = (held.get(name, IDENTITY) for held in relations)
    canonical = (value.values - one.of_before * before.values) / one.of_value
    expected = other.of_value * canonical + other.of_before * own_before.values
    reasons = "; ".join(held.reason for held in (one, other) if held.reason)
    made = Digest(value.shape, norm(expected), expected)
    return made, f"by its relation: {reasons}" if reasons else ""


class _Pass:
    """Two recordings of one forward pass."""

    def __init__(
        self, pair: _Pair, size: tuple[int, int], mode: str, dtype: str, left: Reading, right: Reading
    ) -> None:
        self.pair = pair
        self.size, self.mode, self.dtype = f"{size[0]}x{size[1]}", mode, dtype
        self.name = name_of(size, mode, dtype)
        self.left, self.right = left, right
        self.scenes: list[Scene] = [held.scenes[f"{self.size} {mode}"] for held in (pair.first, pair.second)]
        self.exact = [held.arrays(name_of(size, mode, "float64")) for held in (pair.first, pair.second)]
        self.above = pair.upstream(f"{self.size} {mode}")
        self.readers: dict[int | None, list[Part]] | None = None
        self.floors: dict[str, dict[str, tuple[float, str]]] = {}

    def comparisons(self) -> Iterator[Comparison]:
        yield from self._outputs()
        for part in self.scenes[0].parts:
            yield from self._node("nodes", part, self.right)
        if self.dtype == "float64":
            replay = self.pair.second.arrays(f"{self.name} replay")
            if replay is not None:
                yield from self._replay(replay)
                if self.mode == "train":
                    yield from self._replayed_statistics(replay)
                    yield from self._gradients("gradient replay", replay)
            if self.mode == "train":
                yield from self._gradients("gradients", self.right)
        elif self.mode == "train":
            yield from self._single_statistics()
            yield from self._single_gradients()

    # --- what a node computes ------------------------------------------------------------------------

    def _replay(self, replay: Reading) -> Iterator[Comparison]:
        """Each node alone, on what the first backend's had or on several times that."""
        alone = copy(self)
        beyond = self.pair.first.arrays(f"{self.name} beyond")
        alone.left = beyond or self.left
        names = {part.path: part.names for part in self.scenes[0].parts}
        for part in self.scenes[0].parts:
            yield from alone._arguments(part, replay)
            read = [f"node {name}" for source in part.sources for name in names.get(source, ())]
            # What the second backend does not have returned no multiple to those that read it.
            if not beyond or all(name in replay for name in read):
                yield from alone._node("replay", part, replay)

    def _outputs(self) -> Iterator[Comparison]:
        """The outputs as users see them, with all that coarse ops do to them."""
        right = self.pair.second.arrays(f"{self.name} as it is") or self.right
        wanted = [output for output in self.pair.outputs if self.mode == "train" or not output["training"]]
        parts = {part.path: part for part in self.scenes[0].parts}
        for index, output in enumerate(wanted):
            path, name = output["path"], f"output {index}"
            coarse = self._coarse(path, "floors" if self.dtype == "float64" else "float32_floors")
            if path:
                shape, depth = parts[path].shapes[output["index"]], parts[path].depth
            else:  # an input that is returned
                given = self.left.digest(name)
                shape, depth = given.shape if given else (), 0
            held = self._one("outputs", output["name"], "", name, shape, depth, coarse, right)
            if held.error is not None and held.limit < held.error <= (moved := self._moved(name, right)):
                held = replace(held, limit=moved, ok=True, note="; ".join(filter(None, [held.note, AMPLIFIED])))
            yield held

    def _moved(self, name: str, right: Reading) -> float:
        """How far an output moves where nodes are disturbed by what is declared of them; a floor knows no gain."""
        moved = 0.0
        for held, plain in ((self.pair.first, self.left), (self.pair.second, right)):
            disturbed = held.arrays(f"{self.name} disturbed")
            one, other = plain.digest(name), disturbed.digest(name) if disturbed else None
            if one and other and one.shape == other.shape:
                moved += apart(one, other)
        return moved

    def _node(self, check: str, part: Part, right: Reading) -> Iterator[Comparison]:
        own = self._floor(part.path, "floors" if self.dtype == "float64" else "float32_floors")
        alone = check == "replay"
        # Recorded apart, the second backend could not take from the first what is coarse.
        recorded_apart = f"{self.name} replay" not in self.pair.second.passes
        if self.dtype == "float32":
            coarse = self._coarse(part.path, "float32_floors")
        else:
            coarse = self._coarse(part.path, "floors") if recorded_apart and not alone else own
        for index, shape in enumerate(part.shapes):
            subject = part.path if len(part.shapes) == 1 else f"{part.path}:{index}"
            name = f"node {part.key}:{index}"
            yield self._one(check, subject, part.what, name, shape, 1 if alone else part.depth, coarse, right)

    def _one(
        self,
        check: str,
        subject: str,
        what: str,
        name: str,
        shape: tuple[int, ...],
        depth: int,
        coarse: tuple[float, str],
        right: Reading,
    ) -> Comparison:
        arrays = [held.digest(name) for held in (self.left, right)]
        found = [None if array is None else array.shape for array in arrays]
        one, other = arrays
        # Alone, a node that is given what has another shape than is inferred may well return such.
        wanted = shape if check != "replay" or one is None else one.shape
        if one is None or other is None or found != [wanted, wanted]:
            titles = (self.pair.first.backend, self.pair.second.backend)
            note = "; ".join(f"{title} {_shown(item)}" for title, item in zip(titles, found, strict=True))
            return self._made(check, subject, what, shape, None, LIMIT, f"shape: inferred {_shown(shape)}, {note}")
        error = apart(one, other)
        if self.dtype == "float64":
            limit = max(min(LIMIT, LIMIT_OF_ONE * depth), coarse[0])
        else:
            bests = [held.digest(name) if held else None for held in self.exact]
            own = [
                apart(best, array)
                for best, array in zip(bests, (one, other), strict=True)
                if best and best.shape == array.shape
            ]
            limit = max(NOISE * max(min(own, default=0.0), LEAST_NOISE), coarse[0])
        return self._made(check, subject, what, shape, error, limit, coarse[1])

    def _arguments(self, part: Part, replay: Reading) -> Iterator[Comparison]:
        """In a replay every node returns the other backend's values: a block that gets others is called wrongly."""
        for index, argument in enumerate(part.arguments):
            name = f"argument {part.inner}:{index}"
            one, other = self.left.digest(name), replay.digest(name)
            error = apart(one, other) if one and other and one.shape == other.shape else None
            if error is None or error > LIMIT_OF_ONE:
                shape = one.shape if one else ()
                note = f"{part.what} gets another {argument}"
                yield self._made("replay", f"{part.path}({argument})", part.what, shape, error, LIMIT_OF_ONE, note)

    # --- what training updates -----------------------------------------------------------------------

    def _misshapen(self, part: Part) -> bool:
        """Whether a node of the first backend returned another shape than is inferred."""
        found = self.left.digest(f"node {part.key}:0")
        return found is not None and found.shape != part.shapes[0]

    def _replayed_statistics(self, replay: Reading) -> Iterator[Comparison]:
        """Each update of a statistic, from the same value and the same batch."""
        relations = [held.relations for held in self.scenes]
        # Relations are of the inferred number of values: what ran on another is told of as a shape.
        others = {part.inner for part in self.scenes[0].parts if self._misshapen(part)}
        for key in [name for name in self.left if name.startswith("after ")]:
            name = key.removeprefix("after ")
            before = f"before {name}"
            path, again, count = name.partition("#")
            if f"{path.rpartition('.')[0]}{again}{count}" in others:
                continue
            value, own = self.left.digest(key), replay.digest(key)
            start, own_start = self.left.digest(before), replay.digest(before)
            assert value
            if not (own and start and own_start and value.shape == own.shape):
                yield self._made("statistics", name, "", value.shape, None, LIMIT, "it is not updated")
                continue
            expected, note = _expected(name, relations, value, start, own_start)
            floor, reason = self._floor(self._path_of(name), "floors")
            error, limit = apart(expected, own), max(LIMIT_OF_ONE, floor)
            note = "; ".join(filter(None, [note, reason]))
            yield self._made("statistics", name, "", value.shape, error, limit, note)

    def _single_statistics(self) -> Iterator[Comparison]:
        """In float32, after one pass: those of modules that run once."""
        relations = [held.relations for held in self.scenes]
        exact = self.exact[1]
        again = self.pair._called_again(f"{self.size} {self.mode}")
        for key in [name for name in self.left if name.startswith("statistic ")]:
            name = key.removeprefix("statistic ")
            before = f"before {name}"
            value, own, best = self.left.digest(key), self.right.digest(key), exact.digest(key) if exact else None
            start, own_start = self.left.digest(before), self.right.digest(before)
            if name in again or not (value and own and best and start and own_start):
                continue
            expected, note = _expected(name, relations, value, start, own_start)
            coarse = self._coarse(self._path_of(name), "float32_floors")
            limit = max(NOISE * max(apart(best, own), LEAST_NOISE), coarse[0])
            yield self._made("statistics", name, "", value.shape, apart(expected, own), limit, note)

    # --- gradients -----------------------------------------------------------------------------------

    def _gradients(self, check: str, right: Reading) -> Iterator[Comparison]:
        """Of every parameter and input; in a replay also of what every node returned."""
        alone = check == "gradient replay"
        total = sum(limit for held in self.scenes for limit, _ in held.gradient_floors.values())
        reasons = {reason for held in self.scenes for _, reason in held.gradient_floors.values()}
        if alone:
            for part in self.scenes[0].parts:
                for index, shape in enumerate(part.shapes):
                    name = f"gradient node {part.key}:{index}"
                    if name in self.left:
                        readers = self._readers().get(self._tensor(f"node {part.key}:{index}"), [])
                        floor = sum(self._floor(reader.path, "gradient_floors")[0] for reader in readers)
                        # What flows back to a node may cancel out.
                        scale = max((self._gradient_norm(reader) for reader in readers), default=0.0)
                        yield self._gradient(check, part.path, part.what, name, shape, scale, floor, "", right)
            wanted = [(f"gradient {name}", name) for name in self.pair.trainable]
        else:
            wanted = [(f"gradient {name}", name) for name in self.pair.trainable]
            wanted += [(f"gradient input {name}", f"input {name}") for name in self.pair.first.about["inputs"]]
        scales = self._scales()
        for name, subject in wanted:
            held = self.left.digest(name) or right.digest(name)
            if held:
                shape = held.shape
                path = self._path_of(subject)
                floor = self._floor(path, "gradient_floors")[0] if alone else total
                note = "; ".join(sorted(reasons)) if floor and not alone else ""
                yield self._gradient(check, subject, "", name, shape, scales.get(path, 0.0), floor, note, right)

    def _single_gradients(self) -> Iterator[Comparison]:
        """In float32, beside float32's own noise: reported, and no verdict."""
        for name in self.pair.trainable:
            key = f"gradient {name}"
            held = [arrays.digest(key) if arrays else None for arrays in (self.left, self.right, *self.exact)]
            one, other, best, other_best = held
            if one and other and best and other_best:
                noise = max(apart(best, one), apart(other_best, other))
                note = "of float32's noise in train mode; no verdict"
                made = self._made("gradients", name, "", one.shape, apart(one, other), noise, note)
                yield replace(made, ok=True, gates=False)

    def _gradient(
        self,
        check: str,
        subject: str,
        what: str,
        name: str,
        shape: tuple[int, ...],
        scale: float,
        floor: float,
        note: str,
        right: Reading,
    ) -> Comparison:
        one, other = self.left.digest(name), right.digest(name)
        if one is None or other is None:
            # Where nothing flows back, one backend may have zeros and the other nothing.
            there = one or other
            vanished = there is not None and there.norm == 0
            titles = (self.pair.first.backend, self.pair.second.backend)
            lacking = titles[0] if one is None else titles[1]
            error = 0.0 if vanished else None
            return self._made(check, subject, what, shape, error, GRADIENT_LIMIT, f"{lacking} has no gradient")
        if one.shape != other.shape:
            return self._made(check, subject, what, shape, None, GRADIENT_LIMIT, "the gradients' shapes differ")
        error = apart(one, other, VANISHED * scale)
        return self._made(check, subject, what, shape, error, max(GRADIENT_LIMIT, floor), note)

    def _scales(self) -> dict[str, float]:
        """The largest norm, for each layer, of the gradients of its parameters and of what it returned."""
        found: dict[str, float] = {}
        for part in self.scenes[0].parts:
            path = part.inner.partition("#")[0]
            found[path] = max(found.get(path, 0.0), self._gradient_norm(part))
        for name in self.pair.trainable:
            if held := self.left.digest(f"gradient {name}"):
                path = self._path_of(name)
                found[path] = max(found.get(path, 0.0), held.norm)
        return found

    # --- where things stand --------------------------------------------------------------------------

    def _path_of(self, name: str) -> str:
        """The node of a tensor of the state."""
        return name.partition("#")[0].rpartition(".")[0]

    def _readers(self) -> dict[int | None, list[Part]]:
        """What reads each tensor; what a block returns is the tensor of a node inside it."""
        if self.readers is None:
            self.readers = {}
            parts = {part.path: part for part in self.scenes[0].parts}
            for part in parts.values():
                for source in filter(None, part.sources):
                    held = parts.get(source)
                    for name in held.names if held else ():
                        self.readers.setdefault(self._tensor(f"node {name}"), []).append(part)
        return self.readers

    def _tensor(self, name: str) -> int | None:
        """Which tensor of the recording has a name."""
        return self.left.identity(name)

    def _gradient_norm(self, part: Part) -> float:
        """The largest norm of the gradients of what a part returned."""
        held = [self.left.digest(f"gradient node {name}") for name in part.names]
        return max((digest.norm for digest in held if digest), default=0.0)

    def _floor(self, path: str, kind: str) -> tuple[float, str]:
        """What both backends declare of one node."""
        found = [getattr(held, kind)[path] for held in self.scenes if path in getattr(held, kind)]
        return sum(limit for limit, _ in found), "; ".join(reason for _, reason in found)

    def _declared(self, kind: str) -> dict[str, tuple[float, str]]:
        """What both backends declare, by node."""
        if kind not in self.floors:
            paths = dict.fromkeys(path for held in self.scenes for path in getattr(held, kind))
            self.floors[kind] = {path: self._floor(path, kind) for path in paths}
        return self.floors[kind]

    def _coarse(self, path: str, kind: str) -> tuple[float, str]:
        """What they declare of all nodes above one, itself included."""
        above = self.above.get(path, frozenset())
        found = {declared: coarse for declared, coarse in self._declared(kind).items() if declared in above}
        held = {declared: coarse for declared, coarse in found.items() if coarse[0] > LIMIT}
        small = min(sum(limit for limit, _ in found.values() if limit <= LIMIT), LIMIT)
        if not held:
            return small, ""
        first = next(iter(sorted(held)))
        more = f" and {len(held) - 1} more" if len(held) > 1 else ""
        return sum(limit for limit, _ in held.values()) + small, f"floor: {first}{more}: {held[first][1]}"

    def _made(
        self,
        check: str,
        subject: str,
        what: str,
        shape: tuple[int, ...],
        error: float | None,
        limit: float,
        note: str = "",
    ) -> Comparison:
        ok = error is not None and error <= limit
        return Comparison(check, self.size, self.mode, self.dtype, subject, what, shape, error, limit, ok, note)


def _shown(shape: tuple[int, ...] | None) -> str:
    return "nothing" if shape is None else "×".join(map(str, shape)) or "a number"
