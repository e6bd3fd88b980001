"""Which sizes are verified where none is named: small ones where large ones would take gigabytes."""

from __future__ import annotations

import pytest
from small import network

from segspec.graph.elaborate import elaborate
from segspec.parity.settings import BATCH, Settings
from segspec.parity.sizes import HEAVY, default_sizes, training_size
from segspec.parity.verify import plan_for
from segspec.render import backends
from segspec.spec.load import load

EVERY_PIXEL = """
nodes:
  narrow: {op: conv2d, out_channels: 2, kernel_size: 1}
  each: {op: rearrange, pattern: "n c h w -> n c (h w)"}
  likeness: {op: einsum, from: [each, each], equation: "n c i, n c j -> n i j"}
outputs: [likeness]
"""


def test_where_every_pixel_meets_every_other_maps_are_smaller() -> None:
    graph, chosen = network(EVERY_PIXEL), list(backends().values())
    sizes = list(default_sizes(graph, chosen, BATCH))
    assert len(sizes) == 3
    assert all(height * width >= 2**8 for height, width in sizes)
    assert all((BATCH + 1) * (height * width) ** 2 <= HEAVY for height, width in sizes)
    height, width = training_size(graph, chosen, BATCH) or (0, 0)
    assert 0 < BATCH * (height * width) ** 2 <= HEAVY


def test_a_map_is_no_smaller_than_the_network_allows() -> None:
    graph = network(EVERY_PIXEL.replace("kernel_size: 1", "kernel_size: 50, padding: 0"))
    sizes = list(default_sizes(graph, list(backends().values()), BATCH))
    assert len(sizes) == 3
    assert all(min(size) >= 50 for size in sizes)


@pytest.mark.parametrize("name", ["unet", "deeplabv3", "dense_crf"])
def test_others_have_maps_of_the_usual_size(name: str) -> None:
    graph = elaborate(load(name))
    sizes = list(default_sizes(graph, list(backends().values()), BATCH))
    assert len(sizes) == 3
    assert all(min(size) >= 43 for size in sizes)


def test_small_is_the_first_of_them() -> None:
    graph, chosen = network(EVERY_PIXEL), list(backends().values())
    plan = plan_for(graph, chosen, Settings(small=True))
    assert list(plan.sizes) == list(default_sizes(graph, chosen, BATCH))[:1]
