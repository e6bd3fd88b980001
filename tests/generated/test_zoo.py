"""Every network of the zoo: both frameworks compute the same, in eval and in train mode.

Where widths are parameters, they are small here. Whole networks at all presets and sizes are verified by
``python bench/architectures.py --measure``, which takes an hour.
"""

from __future__ import annotations

import json

import pytest

from segspec.cli import main
from segspec.graph.elaborate import elaborate
from segspec.parity.settings import BATCH
from segspec.parity.sizes import LIMIT, default_sizes, refused
from segspec.render.backend import backends, floors
from segspec.spec.load import load
from segspec.spec.zoo import networks

OBLONG = (64, 128)
"""Not square, and such that resizes without aligned corners have ratios that are exact in both frameworks."""

SMALL = {"width": 16, "depth": 50, "channels": 32, "window": 3, "iterations": 2, "num_classes": 5}


@pytest.mark.parametrize("name", networks())
@pytest.mark.torch
@pytest.mark.paddle
def test_both_frameworks_agree(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    chosen = list(backends().values())
    definition = load(name)
    params = definition.block.params
    settings = {key: value for key, value in SMALL.items() if key in params and params[key].default > value}
    graph = elaborate(definition, settings)
    size = OBLONG
    if refused(graph, chosen, size, BATCH) or floors(graph, chosen, *size, BATCH, training=True):
        size = next(default_sizes(graph, chosen, BATCH))
    given = [f"--set={key}={value}" for key, value in settings.items()]
    given += [f"--size={size[0]}x{size[1]}", "--steps=0", "--no-starts", "--json"]
    assert main(["verify", name, *given]) == 0
    rows = json.loads(capsys.readouterr().out)["results"]
    sharp = [row for row in rows if row["dtype"] == "float64"]
    assert {row["mode"] for row in sharp} == {"eval", "train"}
    assert {output.name for output in graph.root.outputs} == {
        row["subject"] for row in sharp if row["check"] == "outputs"
    }
    assert {"outputs", "nodes", "replay", "gradient replay"} <= {row["check"] for row in sharp}
    if not floors(graph, chosen, *size, BATCH, training=True):
        assert all(row["limit"] <= LIMIT for row in sharp if row["check"] in ("outputs", "nodes", "replay"))
