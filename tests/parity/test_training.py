"""What only training shows, and what only a node's own replay does: each fault is caught, and named."""

from __future__ import annotations

from pathlib import Path

import pytest
from small import network, plan, reports

from segspec.graph.model import Graph
from segspec.parity.recording import Recording, Task, record
from segspec.parity.verify import Report, report
from segspec.render.backend import backend

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
    "a parameter frozen": ("heads", {SIDE: f"{SIDE[:-1]}, weight_attr=paddle.ParamAttr(trainable=False))"}),
    # what only an optimiser shows
    "a learning rate of its own": ("heads", {SIDE: f"{SIDE[:-1]}, weight_attr=paddle.ParamAttr(learning_rate=0.5))"}),
    "a decay of its own": (
        "heads",
        {SIDE: f"{SIDE[:-1]}, weight_attr=paddle.ParamAttr(regularizer=paddle.regularizer.L2Decay(0.125)))"},
    ),
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
