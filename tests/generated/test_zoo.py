"""Every network of the zoo at its defaults: both frameworks compute the same, in eval and in train mode.

All presets at all sizes are verified by ``python bench/architectures.py --measure``, which takes an hour.
"""

from __future__ import annotations

import json

import pytest

from segspec.cli import main
from segspec.graph.elaborate import elaborate
from segspec.parity.sizes import default_sizes, refused
from segspec.parity.verify import BATCH, LIMIT
from segspec.render.backend import backends
from segspec.spec.load import load
from segspec.spec.zoo import networks

OBLONG = (64, 96)
"""Not square, and such that the zoo's resizes have ratios that are exact in both frameworks."""


@pytest.mark.parametrize("name", networks())
@pytest.mark.torch
@pytest.mark.paddle
def test_both_frameworks_agree(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    chosen = list(backends().values())
    graph = elaborate(load(name))
    size = OBLONG if refused(graph, chosen, OBLONG, BATCH) is None else default_sizes(graph, chosen, BATCH)[0]
    assert main(["verify", name, f"--size={size[0]}x{size[1]}", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["results"]
    sharp = [row for row in rows if row["dtype"] == "float64"]
    assert {row["mode"] for row in sharp} == {"eval", "train"}
    assert {output.name for output in graph.root.outputs} <= {row["output"] for row in sharp}
    if size == OBLONG:
        assert all(row["limit"] <= LIMIT for row in sharp), "no op is coarse at this size"
