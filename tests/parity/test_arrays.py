"""How arrays are kept for comparing: a sketch of a large one keeps distances, a small one is itself."""

from __future__ import annotations

import math
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from segspec.backends.arrays import CHUNK, ROW, SMALL, SUMS, Reading, Writing, sketch
from segspec.parity.compare import apart

WITHIN = 0.25
"""Of 256 sums the distance is off by 1/√512, 4 %, as the standard deviation; by more where few values are not zero."""


def _vectors() -> Iterator[tuple[str, np.ndarray]]:
    generator = np.random.default_rng(7)
    for count in (SMALL + 1, 10_007, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 77):
        yield f"normal {count}", generator.standard_normal(count)
        yield f"constant {count}", np.full(count, 0.3)
        yield f"alternating {count}", np.where(np.arange(count) % 2, 1.0, -1.0)
        for place in (0, SUMS, ROW - 3, count // 2, count - 1):
            spike = np.zeros(count)
            spike[place] = -2.5
            yield f"spike at {place} of {count}", spike
        for period in (SUMS, 2 * SUMS, SUMS // 2, 7919, 49, 64 * 64, 2**16):
            yield f"period {period} of {count}", np.where(np.arange(count) % period == 3, 1.0, 0.0)
            yield f"wave {period} of {count}", np.sin(np.arange(count) * 2 * math.pi / period)
        yield f"heavy tails {count}", generator.standard_cauchy(count)
        yield f"ramp {count}", np.arange(count) / count
        yield f"first block {count}", np.where(np.arange(count) < SUMS, 1.0, 0.0)
        yield f"last block {count}", np.where(np.arange(count) >= count - SUMS, 1.0, 0.0)
    # What one chunk has, every other has too: with signs of their own they do not cancel, nor add up.
    yield "equal chunks", np.tile(generator.standard_normal(CHUNK), 6)
    yield "opposite chunks", np.concatenate([part := generator.standard_normal(CHUNK), -part, part, -part])
    yield "a block in each chunk", np.tile(np.where(np.arange(CHUNK) < 64, 1.0, 0.0), 6)


VECTORS = dict(_vectors())


@pytest.mark.parametrize("name", VECTORS)
def test_a_sketch_has_about_the_norm_of_what_it_stands_for(name: str) -> None:
    """It is linear, so what holds of a vector holds of a difference of two."""
    vector = VECTORS[name]
    sums, norm = sketch(vector)
    assert sums.shape == (SUMS,)
    assert norm == pytest.approx(np.linalg.norm(vector), rel=1e-12)
    assert np.linalg.norm(sums) == pytest.approx(norm, rel=WITHIN)


def test_a_single_value_is_kept_exactly() -> None:
    spike = np.zeros(CHUNK + 5)
    spike[CHUNK + 1] = 1e-9
    assert np.abs(sketch(spike)[0]).sum() == 1e-9


def test_sketches_are_linear() -> None:
    generator = np.random.default_rng(1)
    one, other = generator.standard_normal((2, CHUNK + 999))
    both, _ = sketch(2 * one - 3 * other)
    assert both == pytest.approx(2 * sketch(one)[0] - 3 * sketch(other)[0], abs=1e-9)


def test_the_same_array_has_the_same_sketch_whatever_its_layout_or_process() -> None:
    array = np.random.default_rng(2).standard_normal((100, 200)).T
    assert (sketch(np.ascontiguousarray(array))[0] == sketch(array)[0]).all()
    # Pinned: sketches are held together with those that other versions recorded elsewhere.
    assert sketch(np.arange(5000.0))[0][:3] == pytest.approx([-7443, 3107, -19189], rel=1e-12)


# --- comparing ---------------------------------------------------------------------------------------


def _read(path: Path, *arrays: np.ndarray, whole: bool = False) -> Reading:
    with path.open("wb") as file:
        write = Writing(file, whole=whole)
        for index, array in enumerate(arrays):
            write(str(index), array)
    return Reading(str(path), write.index)


def _apart(tmp_path: Path, one: np.ndarray, other: np.ndarray) -> float:
    held = _read(tmp_path / "arrays.bin", one, other)
    left, right = held.digest("0"), held.digest("1")
    assert left
    assert right
    return apart(left, right)


@pytest.mark.parametrize("error", [1e-13, 1e-9, 1e-4, 0.5, 3.0])
@pytest.mark.parametrize("count", [10, SMALL, SMALL + 1, CHUNK + 33])
def test_relative_errors_are_found_at_every_size(tmp_path: Path, count: int, error: float) -> None:
    generator = np.random.default_rng(count)
    one, noise = generator.standard_normal((2, count))
    noise *= error * np.linalg.norm(one) / np.linalg.norm(noise)
    found = _apart(tmp_path, one, one + noise)
    assert found == pytest.approx(error, rel=WITHIN if count > SMALL else 1e-2)


@pytest.mark.parametrize("count", [SMALL, CHUNK + 33])
def test_one_wrong_element_of_many_is_found(tmp_path: Path, count: int) -> None:
    one = np.random.default_rng(3).standard_normal(count)
    for place in (0, count // 2, count - 1):
        other = one.copy()
        other[place] += 1e-6
        assert _apart(tmp_path, one, other) == pytest.approx(1e-6 / np.linalg.norm(one), rel=1e-3)


@pytest.mark.parametrize("count", [SMALL, CHUNK + 33])
@pytest.mark.parametrize(
    "change",
    [lambda x: x[::-1], lambda x: np.roll(x, 1), lambda x: -x, lambda x: np.roll(x, SUMS), np.sort, np.zeros_like],
    ids=["reversed", "shifted", "negated", "shifted by the sums", "sorted", "zeros"],
)
def test_equal_values_in_another_order_are_not_equal(tmp_path: Path, count: int, change) -> None:
    one = np.random.default_rng(4).standard_normal(count)
    other = change(one)
    exact = float(np.linalg.norm(one - other) / np.linalg.norm(one))
    assert _apart(tmp_path, one, other) == pytest.approx(exact, rel=WITHIN)


@pytest.mark.parametrize("count", [5, CHUNK + 33])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("sides", [(True, False), (False, True), (True, True)])
def test_what_is_not_finite_never_agrees(tmp_path: Path, count: int, value: float, sides: tuple[bool, bool]) -> None:
    arrays = [np.ones(count), np.ones(count)]
    for array, spoilt in zip(arrays, sides, strict=True):
        array[count // 2] = value if spoilt else 1.0
    assert _apart(tmp_path, *arrays) == math.inf


@pytest.mark.parametrize("count", [5, CHUNK + 33])
@pytest.mark.parametrize("scale", [1e-200, 1e-30, 1e30, 1e200])
def test_no_scale_is_too_large_or_too_small(tmp_path: Path, count: int, scale: float) -> None:
    one = np.random.default_rng(5).standard_normal(count) * scale
    assert _apart(tmp_path, one, one) == 0
    assert _apart(tmp_path, one, one * 1.001) == pytest.approx(1e-3, rel=WITHIN)


def test_zeros(tmp_path: Path) -> None:
    assert _apart(tmp_path, np.zeros(CHUNK), np.zeros(CHUNK)) == 0
    assert _apart(tmp_path, np.zeros(CHUNK), np.full(CHUNK, 1e-300)) == math.inf
    assert _apart(tmp_path, np.ones(CHUNK), np.zeros(CHUNK)) == pytest.approx(1, rel=WITHIN)


def test_float32_of_a_large_array_is_summed_in_float64() -> None:
    """A million equal values: sums in float32 would have lost their last digits."""
    array = np.full(2**20, 0.1, "float32")
    assert sketch(array)[1] == pytest.approx(float(np.float32(0.1)) * 2**10, rel=1e-12)


# --- what is written ---------------------------------------------------------------------------------

SMALL_ARRAYS = [
    np.float64(3.5),
    np.empty(0),
    np.empty((0, 3, 2), "float32"),
    np.arange(24, dtype="float32").reshape(2, 3, 4),
    np.arange(24, dtype="int64").reshape(2, 3, 4).T,
    np.array([True, False]),
    np.array(7, "int32"),
    np.arange(SMALL * 1.0),
    np.arange(12.0).reshape(3, 4)[:, ::-2],
]


@pytest.mark.parametrize("array", SMALL_ARRAYS, ids=lambda array: f"{array.dtype} {array.shape}")
def test_small_arrays_are_exact(tmp_path: Path, array: np.ndarray) -> None:
    held = _read(tmp_path / "arrays.bin", np.ones(3, "int8"), array, np.ones(5))
    assert held["1"].dtype == array.dtype
    assert held["1"].shape == array.shape
    assert (held["1"] == array).all()
    digest = held.digest("1")
    assert digest
    assert digest.shape == array.shape
    assert (digest.values == np.asarray(array, "float64").ravel()).all()
    assert digest.norm == pytest.approx(np.linalg.norm(np.asarray(array, "float64").ravel()), rel=1e-14)
    assert apart(digest, digest) == 0
    assert (held["2"] == 1).all()


def test_a_large_array_is_kept_only_where_its_values_are_wanted(tmp_path: Path) -> None:
    array = np.random.default_rng(6).standard_normal((100, 101)).astype("float32")
    sketched, whole = _read(tmp_path / "a.bin", array), _read(tmp_path / "b.bin", array, whole=True)
    with pytest.raises(KeyError, match="only a sketch"):
        sketched["0"]
    assert (whole["0"] == array).all()
    for held in (sketched, whole):
        digest = held.digest("0")
        assert digest
        assert digest.values.shape == (SUMS,)
        assert digest.shape == (100, 101)
    # A whole one and a sketched one are held together all the same.
    one, other = sketched.digest("0"), whole.digest("0")
    assert one
    assert other
    assert apart(one, other) == 0


@pytest.mark.parametrize("shape", [(3, 4), (100, 101)])
def test_names_of_one_tensor_are_one_array(tmp_path: Path, shape: tuple[int, int]) -> None:
    tensor, twin = np.ones(shape), np.ones(shape)
    file = BytesIO()
    write = Writing(file)
    write("first", tensor, tensor)
    length = file.tell()
    write("again", tensor, tensor)
    assert file.tell() == length
    assert write.has(tensor)
    assert not write.has(twin)
    write("twin", twin, twin)
    write("sourceless", tensor)
    path = tmp_path / "arrays.bin"
    path.write_bytes(file.getvalue())
    held = Reading(str(path), write.index)
    assert held.identity("first") == held.identity("again")
    assert len({held.identity(name) for name in ("first", "twin", "sourceless")}) == 3
    assert held.identity("nobody") is None
    assert held.digest("nobody") is None
    assert list(held) == ["first", "again", "twin", "sourceless"]


def test_a_source_is_held_as_long_as_its_array_is_known(tmp_path: Path) -> None:
    """Else another tensor could come to lie where it lay, and be taken for it."""
    write = Writing(BytesIO())
    for index in range(50):
        tensor = np.full(3, float(index))
        write(str(index), tensor, tensor)
        del tensor
    assert len({tuple(entry[:3:2]) for entry in write.index.values()}) == 50


def test_a_file_without_arrays(tmp_path: Path) -> None:
    assert dict(_read(tmp_path / "arrays.bin")) == {}


def test_reading_keeps_no_file_open(tmp_path: Path) -> None:
    """A session of tests keeps hundreds of recordings, and a process may have as few as 256 files open."""
    resource = pytest.importorskip("resource", reason="the platform limits open files otherwise")
    array = np.arange(4.0)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
    try:
        held = [_read(tmp_path / f"{index}.bin", array + index) for index in range(100)]
        assert all(reading["0"][0] == index for index, reading in enumerate(held))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
