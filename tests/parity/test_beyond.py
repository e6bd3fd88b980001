"""Faults that show neither where activations stay near one, nor at sizes whose halves are even."""

from __future__ import annotations

import pytest
from small import network, plan, reports

from segspec.parity.settings import Settings
from segspec.parity.verify import Report, plan_for
from segspec.render import backends

pytestmark = [pytest.mark.torch, pytest.mark.paddle]

NETWORKS = {
    # Nothing comes near 6.
    "kinks": """
nodes:
  small: {op: conv2d, out_channels: 4, kernel_size: 1}
  squashed: {op: sigmoid}
  act: {op: relu}
  top: {op: max_pool2d, kernel_size: 2, return_indices: true}
  logits: {op: conv2d, from: top, out_channels: 2, kernel_size: 1}
outputs: {logits: logits, where: top.indices}
""",
    # The variance is many millions.
    "varied": """
nodes:
  square: {op: mul, from: [x, x]}
  fourth: {op: mul, from: [square, square]}
  eighth: {op: mul, from: [fourth, fourth]}
  norm: {op: batch_norm2d}
  logits: {op: conv2d, out_channels: 2, kernel_size: 1}
outputs: [logits]
""",
    # What is guarded is near one.
    "guarded": """
nodes:
  gate: {op: sigmoid}
  safe: {op: affine, shift: 1.0e-15}
  share: {op: reciprocal}
outputs: [share]
""",
    # A batch of three images would have as many as channels.
    "placed": """
inputs: {x: {channels: 3}}
nodes:
  places: {op: coordinates, from: x}
  conv: {op: conv2d, from: x, out_channels: 2, kernel_size: 1}
outputs: {places: places, conv: conv}
""",
    "halves": """
nodes:
  half: {op: max_pool2d, kernel_size: 2, ceil_mode: true}
  wide: {op: pad_to, like: x}
outputs: [wide]
""",
}
CHANGES = {
    "ReLU6": ("kinks", {"F.relu(": "F.relu6("}),
    "an epsilon": ("varied", {"nn.BatchNorm2D(4)": "nn.BatchNorm2D(4, epsilon=1.01e-5)"}),
    "a guard": ("guarded", {"+ 1e-15": "+ 2e-15"}),
    "channels": ("placed", {"x.shape[0]": "x.shape[1]"}),
    "columns": ("halves", {"dx // 2, dx - dx // 2": "dx - dx // 2, dx // 2"}),
    "rows": ("halves", {"dy // 2, dy - dy // 2": "dy - dy // 2, dy // 2"}),
}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Report]:
    graphs = {name: network(body, name=name) for name, body in NETWORKS.items()}
    usual = plan_for(graphs["halves"], list(backends().values()), Settings(steps=0, starts=False))
    several = plan((8, 16), (9, 12), (7, 10))
    plans = {
        title: usual if name == "halves" else several
        for title, (name, _) in [*((name, (name, {})) for name in NETWORKS), *CHANGES.items()]
    }
    return reports(tmp_path_factory.mktemp("beyond"), graphs, CHANGES, plans=plans)


@pytest.mark.parametrize("name", NETWORKS)
def test_whole_ones_agree(found: dict[str, Report], name: str) -> None:
    assert found[name].ok
    assert found[name].comparisons


@pytest.mark.parametrize(
    ("title", "node"),
    [
        ("ReLU6", "act"),
        ("an epsilon", "norm"),
        ("a guard", "safe"),
        ("channels", "places"),
        ("columns", "wide"),
        ("rows", "wide"),
    ],
)
def test_the_fault_is_seen_and_named(found: dict[str, Report], title: str, node: str) -> None:
    assert not found[title].failures
    assert [finding.path for finding in found[title].faults] == [node]


@pytest.mark.parametrize("title", ["ReLU6", "an epsilon", "a guard"])
def test_it_shows_beyond_the_usual_range_alone(found: dict[str, Report], title: str) -> None:
    wrong = {(item.check, item.mode, item.dtype) for item in found[title].comparisons if not item.ok}
    assert wrong == {("replay", "eval", "float64")}
