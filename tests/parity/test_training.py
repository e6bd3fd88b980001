"""What only training shows, and what only a node's own replay does: each fault is caught, and named."""

from __future__ import annotations

from pathlib import Path

import pytest
from numpy.linalg import norm
from small import network, plan, reports

from segspec.graph.model import Graph
from segspec.parity.recording import OPTIMIZERS, Recording, Task, record
from segspec.parity.verify import Report, report
from segspec.render.backend import backend
from segspec.weights import seeded
from segspec.weights.state import entries

pytestmark = [pytest.mark.torch, pytest.mark.paddle]

HEADS = """
nodes:
  stem: {{op: conv2d, out_channels: 6, kernel_size: 3, padding: 1}}
  norm: {{op: batch_norm2d, momentum: 0.25}}
  act: {{op: relu}}
  side: {{op: conv2d, from: act, out_channels: 2, kernel_size: 1}}
  drop: {{op: dropout, from: act, p: 0.25}}
  logits: {{op: conv2d, out_channels: 2, kernel_size: 1}}
outputs:
  logits: logits
  aux: {{from: side, when: training, loss_weight: {weight}}}
"""

UNITS = """
blocks:
  Unit:
    nodes:
      conv: {op: conv2d, out_channels: 4, kernel_size: 3, padding: 1}
      norm: {op: batch_norm2d}
      act: {op: leaky_relu, negative_slope: 0.2}
      out: {op: add, from: [act, x]}
nodes:
  one: {block: Unit}
  two: {block: Unit}
  three: {block: Unit}
  gate: {op: sigmoid}
  merged: {op: concat, from: [gate, two]}
  logits: {op: conv2d, out_channels: 2, kernel_size: 1}
outputs: [logits]
"""

COARSE = """
nodes:
  conv: {op: conv2d, out_channels: 4, kernel_size: 1}
  small: {op: max_pool2d, kernel_size: 2, ceil_mode: true}
  big: {op: resize, like: conv, mode: bilinear, align_corners: false}
  again: {op: resize, size: [23, 31], mode: bilinear, align_corners: true}
  act: {op: leaky_relu, negative_slope: 0.2}
  merged: {op: concat, from: [act, again]}
  logits: {op: conv2d, out_channels: 2, kernel_size: 1}
outputs: [logits]
"""

SIDE = "self.side = nn.Conv2D(6, 2, kernel_size=1)"

# The module imports no more than it needs.
ATTRIBUTE = "__import__('paddle').ParamAttr"
DECAY = "__import__('paddle').regularizer.L2Decay(0.125)"

GRAPHS = {
    "heads": network(HEADS.format(weight=0.5), name="heads"),
    "units": network(UNITS, name="units"),
    "coarse": network(COARSE, name="coarse"),
}
PLANS = {"heads": plan(steps=2), "units": plan(steps=2), "coarse": plan((17, 23))}

CHANGES: dict[str, tuple[str, dict[str, str]]] = {
    # what only gradients show
    "a gradient stopped": ("heads", {"self.side(act)": "self.side(act.detach())"}),
    "a gradient halved": (
        "heads",
        {"self.norm(self.stem(x))": "self.norm((lambda y: y / 2 + (y / 2).detach())(self.stem(x)))"},
    ),
    "the input's gradient stopped": ("units", {"self.one(x)": "self.one(x.detach())"}),
    "a parameter frozen": (
        "heads",
        {SIDE: f"{SIDE[:-1]}, weight_attr={ATTRIBUTE}(trainable=False))"},
    ),
    "nothing to learn from": ("units", {"self.logits(merged)": "self.logits(merged).detach()"}),
    # what only an optimiser shows
    "a learning rate of its own": (
        "heads",
        {SIDE: f"{SIDE[:-1]}, weight_attr={ATTRIBUTE}(learning_rate=0.5))"},
    ),
    "a decay of its own": ("heads", {SIDE: f"{SIDE[:-1]}, weight_attr={ATTRIBUTE}(regularizer={DECAY}))"}),
    # what only statistics show
    "momentum inverted": ("heads", {"momentum=0.75": "momentum=0.25"}),
    "statistics updated twice": (
        "heads",
        {"F.relu(self.norm(self.stem(x)))": "F.relu([self.norm(self.stem(x)), self.norm(self.stem(x))][0])"},
    ),
    # what only training mode shows
    "statistics in use": ("heads", {"momentum=0.75": "momentum=0.75, use_global_stats=True"}),
    "dropout of another rate": ("heads", {"nn.Dropout(0.25)": "nn.Dropout(0.3)"}),
    "dropout of whole channels": ("heads", {"nn.Dropout(0.25)": "nn.Dropout2D(0.25)"}),
    "dropout along an axis": ("heads", {"nn.Dropout(0.25)": "nn.Dropout(0.25, axis=0)"}),
    "dropout scaled at inference": ("heads", {"nn.Dropout(0.25)": 'nn.Dropout(0.25, mode="downscale_in_infer")'}),
    # what cannot be given its weights
    "unregistered": (
        "heads",
        {
            "self.logits = nn.Conv2D(6, 2, kernel_size=1)": "self.held = [nn.Conv2D(6, 2, 1)]",
            "self.logits(drop)": "self.held[0](drop)",
        },
    ),
    # several places, and what is behind another
    "a block of many instances": ("units", {"negative_slope=0.2": "negative_slope=0.21"}),
    "one fault behind another": (
        "units",
        {"negative_slope=0.2": "negative_slope=0.21", "F.sigmoid(": "F.tanh(", "[gate, two]": "[two, gate]"},
    ),
    "one fault that undoes another": ("units", {"act + x": "act - x", "self.three(two)": "self.three(-two)"}),
    "wrong behind what is coarse": ("coarse", {"negative_slope=0.2": "negative_slope=0.2000001"}),
    "a wrong resize before a coarse one": (
        "coarse",
        {'size=conv.shape[-2:], mode="bilinear", align_corners=False': 'size=conv.shape[-2:], mode="nearest"'},
    ),
}


NAMED = {
    "a gradient stopped": ["act"],
    "a gradient halved": ["stem"],
    "the input's gradient stopped": ["input x"],
    "a parameter frozen": ["side"],
    "a learning rate of its own": ["side"],
    "a decay of its own": ["side"],
    "momentum inverted": ["norm"],
    "statistics updated twice": ["stem"],  # where the source no longer is what was generated
    "statistics in use": ["norm"],
    "dropout of another rate": ["drop"],
    "dropout of whole channels": ["drop"],
    "dropout along an axis": ["drop"],
    "dropout scaled at inference": ["drop"],
    "a block of many instances": ["one.act"],
    "one fault behind another": ["one.act", "gate", "merged"],
    "one fault that undoes another": ["one.out", "three"],
    "wrong behind what is coarse": ["act"],
    "a wrong resize before a coarse one": ["big"],
}
"""Of each change, the faults that are to be found: these and no others."""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Report]:
    return reports(tmp_path_factory.mktemp("changes"), GRAPHS, CHANGES, plans=PLANS)


@pytest.mark.parametrize("name", GRAPHS)
def test_unchanged_it_agrees(found: dict[str, Report], name: str) -> None:
    assert [item for item in found[name].comparisons if not item.ok] == []
    assert found[name].ok
    assert found[name].faults == ()
    checks = {item.check for item in found[name].comparisons}
    assert checks >= {"outputs", "nodes", "replay", "gradients", "gradient replay"}
    assert PLANS[name].steps == 0 or checks >= {"statistics", "sgd", "adam"}


@pytest.mark.parametrize("change", NAMED)
def test_each_fault_is_found_where_it_is_and_nowhere_else(found: dict[str, Report], change: str) -> None:
    report = found[change]
    assert report.failures == ()
    assert not report.ok
    assert [finding.path for finding in report.faults] == NAMED[change]


def test_every_change_says_what_is_to_be_found() -> None:
    assert set(NAMED) | {"unregistered", "nothing to learn from"} == set(CHANGES)


@pytest.mark.parametrize(
    ("change", "checks"),
    [
        ("a gradient stopped", {"gradients", "gradient replay", "sgd", "adam"}),
        ("the input's gradient stopped", {"gradients"}),
        ("a learning rate of its own", {"sgd", "adam"}),
        ("a decay of its own", {"sgd", "adam"}),
        ("momentum inverted", {"statistics", "sgd", "adam"}),
    ],
)
def test_only_training_shows_it(found: dict[str, Report], change: str, checks: set[str]) -> None:
    wrong = {item.check for item in found[change].comparisons if not item.ok}
    assert wrong == checks
    assert found[change].first is None


def test_a_statistic_in_eval_mode_shows_nothing_of_its_update(found: dict[str, Report]) -> None:
    assert {item.mode for item in found["momentum inverted"].comparisons if not item.ok} == {"train"}


def test_a_fault_of_a_block_is_one_and_says_where_else_it_is(found: dict[str, Report]) -> None:
    (finding,) = found["a block of many instances"].faults
    assert (finding.path, finding.again) == ("one.act", ("two.act", "three.act"))


def test_faults_behind_another_have_lines_and_sizes(found: dict[str, Report]) -> None:
    for finding in found["one fault behind another"].faults:
        assert all(numbers for _, numbers in finding.lines), finding.path
        assert finding.size.startswith("meaning")
    first = found["one fault behind another"].first
    assert first
    assert first.path == "one.act"


def test_what_has_no_weights_says_so_in_every_pass(found: dict[str, Report]) -> None:
    report = found["unregistered"]
    assert not report.ok
    assert {title for title, _, _ in report.failures} == {"PaddlePaddle"}
    for _, _, why in report.failures:
        assert "unexpected: logits.bias, logits.weight" in why


def test_the_gate_is_sharp_where_a_coarse_op_stands_before(found: dict[str, Report]) -> None:
    """The limit of a node behind two coarse resizes is that of any node; what users see keeps the floors."""
    rows = [item for item in found["coarse"].comparisons if item.dtype == "float64" and item.subject == "act"]
    assert {item.check for item in rows if item.limit <= 1e-10} >= {"replay", "nodes"}
    (finding,) = found["wrong behind what is coarse"].faults
    assert finding.comparison.error == pytest.approx(1e-8, rel=1)
    assert all(item.ok for item in found["wrong behind what is coarse"].comparisons if item.check == "outputs")


def test_where_one_backend_learns_nothing_its_steps_are_missing(found: dict[str, Report]) -> None:
    report = found["nothing to learn from"]
    wrong = [item for item in report.comparisons if not item.ok]
    assert {item.check for item in wrong} == {"gradients", "gradient replay", "sgd", "adam"}
    assert all(item.note == "PaddlePaddle has no output to learn from" for item in wrong if item.check == "sgd")


def _recorded(name: str, graph: Graph, folder: Path, given: list[Recording]) -> list[Recording]:
    return record([Task(graph, backend(name), plan(steps=2))], folder, given)


def test_a_wrong_loss_weight_shows_in_the_steps_alone(tmp_path: Path) -> None:
    first = _recorded("torch", GRAPHS["heads"], tmp_path, [])
    other = network(HEADS.format(weight=0.25), name="heads")
    (second,) = _recorded("paddle", other, tmp_path, first)
    found = report(first[0], second)
    assert {item.check for item in found.comparisons if not item.ok} == {"sgd", "adam"}
    assert "loss after step 1" in {item.subject for item in found.comparisons if not item.ok}
    assert not found.ok
    assert found.faults


def test_no_first_step_of_sgd_changes_a_tensor_by_more_than_its_rate(tmp_path: Path) -> None:
    """Gradients a million times the weights would lead anywhere, and amplify every rounding on the way."""
    steep = network(
        "nodes:\n  conv: {op: conv2d, out_channels: 4, kernel_size: 3}\n  steep: {op: affine, scale: 1000}\n"
        "  logits: {op: conv2d, out_channels: 2, kernel_size: 1}\noutputs: [logits]\n"
    )
    (recording,) = _recorded("torch", steep, tmp_path, [])
    steps = recording.arrays("sgd")
    assert steps
    moved = {}
    for entry in entries(steep):
        before = seeded.weight(entry)
        moved[entry.name] = norm(steps[f"step 0 parameter {entry.name}"] - before) / norm(before)
    rate = OPTIMIZERS["sgd"]["lr"]
    assert rate / 4 < max(moved.values()) < rate * 1.01
