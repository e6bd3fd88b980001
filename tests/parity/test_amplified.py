"""Outputs as they are, of a network that amplifies: what is declared of single nodes shows larger at its end."""

from __future__ import annotations

from pathlib import Path

import pytest

from segspec.graph.elaborate import elaborate
from segspec.parity.compare import AMPLIFIED, LIMIT, _Pass
from segspec.parity.recording import Plan, Task, record
from segspec.parity.settings import BATCH
from segspec.parity.verify import report
from segspec.render.backend import backends
from segspec.spec.load import load

SIZE = (32, 32)
"""So small that U²-Net's deepest maps are single pixels, normalised a hundred times one after another."""


@pytest.mark.torch
@pytest.mark.paddle
def test_outputs_are_held_to_what_floors_come_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = elaborate(load("u2netp"), {}, "")
    plan = Plan((SIZE,), BATCH, 0, SIZE, dtypes=("float64",))
    first, second = backends().values()
    one = record([Task(graph, first, plan)], tmp_path)
    (other,) = record([Task(graph, second, plan)], tmp_path, one)
    found = report(one[0], other)
    assert found.ok
    outputs = [item for item in found.comparisons if item.check == "outputs" and item.mode == "eval"]
    beyond = [item for item in outputs if (item.error or 0) > LIMIT]
    assert beyond
    assert all(item.note == AMPLIFIED and item.limit < 1e-4 for item in beyond)
    # By themselves, and where what is coarse is taken from the other backend, all nodes agree far more closely.
    assert all(item.limit <= LIMIT for item in found.comparisons if item.check == "nodes" and item.mode == "eval")

    monkeypatch.setattr(_Pass, "_moved", lambda *_: 0.0)
    assert not report(one[0], other).ok
