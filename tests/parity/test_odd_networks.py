"""Networks at the edge of what a spec may say: verify has an answer to each, and the right one."""

from __future__ import annotations

import math

import pytest
from small import network, plan, reports

from segspec.parity.report import as_json, as_text
from segspec.parity.verify import Report

pytestmark = [pytest.mark.torch, pytest.mark.paddle]

AGREE = {
    "no parameters": "nodes:\n  a: {op: relu}\n  b: {op: max_pool2d, kernel_size: 2}\noutputs: [b]\n",
    "one node": "nodes:\n  a: {op: sigmoid}\noutputs: [a]\n",
    "an input returned": "nodes:\n  a: {op: conv2d, out_channels: 2, kernel_size: 1}\noutputs: {a: a, same: x}\n",
    "several inputs": """
inputs: {x: {channels: 4}, y: {channels: 2}}
nodes:
  a: {op: conv2d, from: x, out_channels: 2, kernel_size: 1}
  b: {op: maximum, from: [a, y]}
outputs: {b: b, y: y}
""",
    "an output twice": """
nodes:
  a: {op: conv2d, out_channels: 2, kernel_size: 1}
  b: {op: identity}
outputs: {one: a, two: a, three: b}
""",
    "indices returned": """
nodes:
  conv: {op: conv2d, out_channels: 3, kernel_size: 1}
  pool: {op: max_pool2d, kernel_size: 2, return_indices: true}
outputs: {pool: pool, where: pool.indices}
""",
    "a block that returns its input": """
blocks:
  Keep:
    nodes:
      own: {op: relu}
    outputs: {kept: x, own: own}
nodes:
  keep: {block: Keep}
  sum: {op: add, from: [keep.kept, keep.own]}
outputs: {sum: sum, kept: keep.kept}
""",
    "a block called with one tensor twice": """
blocks:
  Both:
    inputs: [p, q]
    nodes:
      conv: {op: conv2d, from: p, out_channels: 4, kernel_size: 1}
      sum: {op: sub, from: [conv, q]}
nodes:
  both: {block: Both, from: [x, x]}
  more: {block: Both, from: [both, both]}
outputs: [more]
""",
    "a gradient that is nothing": """
nodes:
  a: {op: conv2d, out_channels: 2, kernel_size: 1}
  zero: {op: sub, from: [a, a]}
outputs: [zero]
""",
    "huge values": """
nodes:
  a: {op: conv2d, out_channels: 2, kernel_size: 1}
  b: {op: affine, scale: 1.0e+30}
outputs: [b]
""",
    "tiny values": """
nodes:
  a: {op: conv2d, out_channels: 2, kernel_size: 1}
  b: {op: affine, scale: 1.0e-30}
outputs: [b]
""",
    "a weight and a bias that a normalisation undoes": """
nodes:
  conv: {op: conv2d, out_channels: 4, kernel_size: 1, groups: 4}
  norm: {op: batch_norm2d, eps: 1.0e-12}
outputs: [norm]
""",
    "outputs that no gradient reaches": """
nodes:
  a: {op: conv2d, out_channels: 2, kernel_size: 1}
  b: {op: batch_norm2d}
  c: {op: max_pool2d, kernel_size: 2, return_indices: true}
  d: {op: coordinates, from: x}
outputs: [c.indices, d]
""",
    "training alone": """
nodes:
  a: {op: conv2d, out_channels: 2, kernel_size: 1}
  b: {op: dropout, p: 0.999}
  c: {op: dropout2d, from: a, p: 0.0}
outputs: {a: a, b: {from: b, when: training, loss_weight: 0.0}, c: {from: c, when: training}}
""",
}
SMALLEST = {
    "one image": "nodes:\n  a: {op: conv2d, out_channels: 2, kernel_size: 1}\n  b: {op: batch_norm2d}\noutputs: [b]\n",
    "two images": "nodes:\n  a: {op: batch_norm2d}\noutputs: [a]\n",
    "one pixel": "nodes:\n  a: {op: conv2d, out_channels: 2, kernel_size: 3, padding: 1}\noutputs: [a]\n",
}
PLANS = {"one image": plan(batch=1, steps=1), "two images": plan(batch=2, steps=2), "one pixel": plan((1, 1), steps=1)}
INFINITE = {
    "infinite outputs": "nodes:\n  a: {op: affine, scale: 400}\n  b: {op: exp}\n  c: {op: exp}\noutputs: [c]\n",
    "no numbers": """
nodes:
  a: {op: sub, from: [x, x]}
  b: {op: div, from: [a, a]}
  c: {op: relu}
outputs: [c]
""",
}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Report]:
    graphs = {name: network(text) for name, text in (AGREE | SMALLEST | INFINITE).items()}
    plans = {name: PLANS.get(name) or plan(steps=2) for name in graphs}
    return reports(tmp_path_factory.mktemp("odd"), graphs, plans=plans)


@pytest.mark.parametrize("name", [*AGREE, *SMALLEST])
def test_it_agrees(found: dict[str, Report], name: str) -> None:
    report = found[name]
    assert report.failures == ()
    assert [item for item in report.comparisons if not item.ok] == []
    assert report.ok
    assert report.first is None
    assert report.faults == ()


@pytest.mark.parametrize("name", INFINITE)
def test_what_is_not_finite_is_a_difference_and_said(found: dict[str, Report], name: str) -> None:
    report = found[name]
    assert not report.ok
    assert report.failures == ()
    assert math.inf in {item.error for item in report.comparisons}


def test_every_report_can_be_shown(found: dict[str, Report]) -> None:
    assert as_text(list(found.values()))
    assert "NaN" not in as_json(list(found.values()))
