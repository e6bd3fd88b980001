"""Backbones and networks that torchvision has: its keys, its checkpoints, its outputs in float64."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from test_references import LIMIT, build, hold_together, image, parameters, relative, vision  # noqa: E402, F401
from torch import Tensor, nn  # noqa: E402

pytestmark = pytest.mark.torch


def holds_its_checkpoint(theirs: nn.Module, ours: type, *sizes: tuple[int, int]) -> None:
    """The same keys in the same order, a strict load, and then the same outputs."""
    with torch.device("meta"):
        network = ours().eval()
    assert list(network.state_dict()) == list(theirs.state_dict())
    network.load_state_dict(theirs.state_dict(), strict=True, assign=True)
    theirs.eval()
    with torch.no_grad():
        for size in sizes:
            x = image(*size)
            assert relative(theirs(x), network(x)) <= LIMIT


DEPTHS = {18: 11_689_512, 34: 21_797_672, 50: 25_557_032, 101: 44_549_160, 152: 60_192_808}


@pytest.mark.parametrize(
    "depth", [pytest.param(depth, marks=pytest.mark.slow if depth > 50 else []) for depth in DEPTHS]
)
def test_resnet(vision, network, depth):  # noqa: F811
    ours = network("resnet", "torch", "" if depth == 50 else f"depth{depth}")
    theirs = build(lambda: getattr(vision, f"resnet{depth}")(weights=None))
    assert parameters(theirs) == DEPTHS[depth]
    holds_its_checkpoint(theirs, ours, (65, 95))


@pytest.mark.parametrize(("output_stride", "dilated"), [(16, [False, False, True]), (8, [False, True, True])])
def test_resnet_dilates(vision, network, output_stride, dilated):  # noqa: F811
    theirs = build(lambda: vision.resnet50(weights=None, replace_stride_with_dilation=dilated))
    holds_its_checkpoint(theirs, network("resnet", "torch", output_stride=output_stride), (97, 131))


def test_basic_blocks_dilate(vision, network):  # noqa: F811
    """torchvision's basic blocks refuse to: here its convolutions are changed after they are made."""
    theirs = build(lambda: vision.resnet34(weights=None))
    # At output stride 8 with the multi-grid 1, 2, 4: a stage's first block has the dilation of the stage before.
    for stage, dilations in ((theirs.layer3, [1] + [2] * 5), (theirs.layer4, [2, 8, 16])):
        for block, dilation in zip(stage, dilations, strict=True):
            for conv in (block.conv1, block.conv2):
                conv.stride, conv.padding, conv.dilation = (1, 1), (dilation, dilation), (dilation, dilation)
        stage[0].downsample[0].stride = (1, 1)
    ours = network("resnet", "torch", depth=34, output_stride=8, multi_grid=[1, 2, 4])
    holds_its_checkpoint(theirs, ours, (97, 131))


@pytest.mark.parametrize("width_mult", [1.0, 0.25, 0.35, 1.4])
def test_mobilenet_v2(vision, network, width_mult):  # noqa: F811
    settings = {} if width_mult == 1 else {"width_mult": width_mult}
    theirs = build(lambda: vision.mobilenet_v2(weights=None, width_mult=width_mult))
    holds_its_checkpoint(theirs, network("mobilenet_v2", "torch", **settings), (64, 96), (65, 47))


FCN = {(50, False): 32_957_013, (50, True): 35_322_218, (101, False): 51_949_141, (101, True): 54_314_346}


@pytest.mark.parametrize(
    ("depth", "auxiliary"), [pytest.param(*key, marks=pytest.mark.slow if key[0] > 50 else []) for key in FCN]
)
def test_fcn_resnet(vision, network, depth, auxiliary):  # noqa: F811
    preset = "_".join(["resnet101"] * (depth == 101) + ["auxiliary"] * auxiliary)
    ours = network("fcn_resnet", "torch", preset)
    make = getattr(vision.segmentation, f"fcn_resnet{depth}")
    theirs = build(lambda: make(weights=None, weights_backbone=None, num_classes=21, aux_loss=auxiliary))

    def outputs(returned: dict[str, Tensor]) -> list[Tensor]:
        # torchvision's auxiliary head runs in evaluation too.
        return [returned["out"], *([returned["aux"]] if auxiliary and theirs.training else [])]

    assert parameters(theirs) == FCN[depth, auxiliary]
    hold_together(theirs, build(ours), [(65, 97)], [(49, 33)], outputs)
