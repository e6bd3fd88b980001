"""DeepLab v3+ and PSPNet equal hand-written ones, in float64, with their weights in order of execution."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

import references_deeplab as references  # noqa: E402
from test_references import LIMIT, build, hold_together, image, leaves_as_run, parameters, relative  # noqa: E402
from torch import nn  # noqa: E402

pytestmark = pytest.mark.torch


def deeplabv3plus(backbone: str, output_stride: int, classes: int, channels: int, in_place: bool = True) -> nn.Module:
    if backbone == "xception":
        return references.DeepLabV3Plus(references.Xception(output_stride, in_place), classes, channels, output_stride)
    return references.DeepLabV3Plus(references.MobileNetV2(output_stride), classes, channels, output_stride)


@pytest.mark.parametrize(("backbone", "count"), [("mobilenet_v2", 5_818_149), ("xception", 54_713_557)])
@pytest.mark.parametrize("output_stride", [16, 8])
def test_deeplabv3plus_has_the_published_parameters(network, backbone, output_stride, count):
    with torch.device("meta"):
        assert parameters(network("deeplabv3plus", "torch", backbone=backbone, output_stride=output_stride)()) == count
        assert parameters(deeplabv3plus(backbone, output_stride, 21, 256)) == count


# The wide one is beyond the reach of the pyramid's largest rate: 297 > 16 · 18 = 8 · 36.
@pytest.mark.parametrize("output_stride", [16, 8])
def test_deeplabv3plus_on_mobilenet_v2(network, output_stride):
    ours = network("deeplabv3plus", "torch", output_stride=output_stride, num_classes=3, channels=24)
    theirs = build(lambda: deeplabv3plus("mobilenet_v2", output_stride, 3, 24))
    hold_together(theirs, build(ours), [(97, 131), (17, 297)], [(33, 297)])


@pytest.mark.slow
@pytest.mark.parametrize("relu_shortcut", [False, True])
@pytest.mark.parametrize("output_stride", [16, 8])
def test_deeplabv3plus_on_xception(network, output_stride, relu_shortcut):
    settings = {"output_stride": output_stride, "relu_shortcut": relu_shortcut, "num_classes": 3, "channels": 24}
    ours = network("deeplabv3plus", "torch", "xception", **settings)
    theirs = build(lambda: deeplabv3plus("xception", output_stride, 3, 24, relu_shortcut))
    hold_together(theirs, build(ours), [(65, 97)], [(17, 297)])


def test_xceptions_exit_flow_dilates_as_told(network):
    from_paper = network("xception", "torch", output_stride=8, exit_dilation=4)
    with torch.device("meta"):
        made = from_paper()
    assert [getattr(made, name).depthwise.dilation for name in ("conv3", "conv4", "conv5")] == [(4, 4)] * 3
    assert made.block20.sepconv3.depthwise.dilation == (2, 2)


@pytest.mark.parametrize("auxiliary", [True, False])
def test_pspnet(network, auxiliary):
    ours = network("pspnet", "torch", "" if auxiliary else "without_auxiliary", num_classes=3, channels=24)
    theirs = build(lambda: references.PSPNet(3, 24, auxiliary))
    hold_together(theirs, build(ours), [(97, 131)], [(49, 65)], list)


def test_pspnet_has_the_published_parameters(network):
    with torch.device("meta"):
        assert parameters(network("pspnet", "torch", "without_auxiliary")()) == 46_614_651
        assert parameters(references.PSPNet(59, 512, auxiliary=False)) == 46_614_651


def gradients(network: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    held = leaves_as_run(network, x)
    network.train()(x).square().mean().backward()
    return [item.weight.grad for item in held]


def test_deeplabv3plus_has_the_same_gradients(network):
    ours = build(network("deeplabv3plus", "torch", num_classes=3, channels=24))
    theirs = build(lambda: deeplabv3plus("mobilenet_v2", 16, 3, 24))
    x = image(49, 65)
    for source, target in zip(leaves_as_run(theirs, x), leaves_as_run(ours, x), strict=True):
        target.load_state_dict(source.state_dict(), strict=True)
    pairs = zip(gradients(theirs, x), gradients(ours, x), strict=True)
    assert max(relative(one, other) for one, other in pairs) <= 100 * LIMIT
