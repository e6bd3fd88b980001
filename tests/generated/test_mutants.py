"""A sample of ``bench/mutants.py``: single changes of each kind to generated code, and verify catches every one."""

from __future__ import annotations

import ast
import os
import sys
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
BENCH = Path(__file__).resolve().parents[2] / "bench"

KINDS = (
    "activation",
    "align_corners",
    "ceil_mode",
    "concat order",
    "count-padding",
    "crop",
    "dilation",
    "dropout",
    "epsilon",
    "missing activation",
    "missing bias",
    "momentum",
    "padding",
    "stride",
    "swapped inputs",
    "transposed weight",
    "wrong skip",
)
EACH, SEED = 3, 5


@pytest.fixture(scope="module")
def bench() -> Any:
    """The benchmark, a script beside which its parts lie."""
    sys.path.insert(0, str(BENCH))
    try:
        import mutants
    finally:
        sys.path.remove(str(BENCH))
    return mutants


@pytest.fixture(scope="module")
def trials(bench: Any) -> list[Any]:
    return [trial for network in bench.NETWORKS for trial in bench.trials(network)]


@pytest.mark.slow
def test_every_kind_has_mutants_and_each_a_name_of_its_own(trials: list[Any]) -> None:
    assert set(KINDS) <= {trial.mutant.kind for trial in trials}
    assert len({trial.key for trial in trials}) == len(trials)


def test_every_survivor_that_is_explained_is_a_mutant(bench: Any, trials: list[Any]) -> None:
    keys = {trial.key for trial in trials}
    assert [key for key in bench.explained() if key not in keys] == []


@pytest.mark.torch
@pytest.mark.paddle
def test_a_sample_of_each_kind_is_caught(bench: Any, trials: list[Any]) -> None:
    explained = bench.explained()
    wanted = [trial for trial in trials if trial.mutant.kind in KINDS and trial.key not in explained]
    chosen = bench.sample(wanted, EACH, SEED)
    assert len(chosen) == EACH * len(KINDS)
    found = [
        item
        for backend in ("torch", "paddle")
        for item in bench.judge([trial for trial in chosen if trial.backend == backend], thorough=False)
    ]
    assert [item.trial.key for item in found if item.how == "survived"] == []
    # Those that do not run prove little.
    assert {item.trial.mutant.kind for item in found if item.how == "caught"} == set(KINDS)


MODULE = """
from torch import nn

__all__ = ["Net"]


class Block(nn.Module):
    def __init__(self, channels: int, dilation: int = 1, bias: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, channels, kernel_size=3, dilation=dilation, bias=bias)
        self.head = nn.Conv2d(channels, 2, kernel_size=1)

    def forward(self, x):
        return self.head(self.conv(x))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = Block(4, dilation=2)
        self.second = Block(4, dilation=2)

    def forward(self, x):
        return self.first(x) + self.second(x)
"""


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("dilation: int = 1", "dilation: int = 3", True),  # every call gives it
        ("bias: bool = False", "bias: bool = True", False),
        ("dilation=dilation, bias=bias", "bias=bias, dilation=dilation", True),
        ("dilation=dilation, bias", "dilation=2, bias", True),
        ("dilation=dilation, bias", "bias", False),
        ("2, kernel_size=1)", "2, kernel_size=1, stride=1, bias=True)", True),
        ("2, kernel_size=1)", "2, kernel_size=1, dilation=2)", True),
        ("2, kernel_size=1)", "2, kernel_size=1, stride=2)", False),
        ("self.second = Block(4, dilation=2)", "self.second = Block(4, dilation=3)", False),
        ("self.second = Block(4, dilation=2)", "self.second = Block(4)", False),
    ],
)
def test_what_builds_the_same_layers_is_no_mutant(bench: Any, old: str, new: str, same: bool) -> None:
    building = sys.modules["building"]
    assert old in MODULE
    made = [building.plain(building.built(ast.parse(text))) for text in (MODULE, MODULE.replace(old, new, 1))]
    assert made[0]
    assert (made[0] == made[1]) is same
