"""VGG-16 and what is built on it, and the U-Net without padding: torchvision's or hand-written ones, in float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import vgg_references as references  # noqa: E402
from test_references import LIMIT, build, image, parameters, relative, vision, without_dropout  # noqa: E402, F401
from torch import Tensor, nn  # noqa: E402

pytestmark = pytest.mark.torch


def outputs(returned: Any) -> list[Tensor]:
    return list(returned) if isinstance(returned, list | tuple) else [returned]


def leaves(network: nn.Module, x: Tensor) -> list[nn.Module]:
    """The modules that hold parameters themselves, in the order in which they first run."""
    order: dict[nn.Module, None] = {}
    held = [item for item in network.modules() if any(True for _ in item.parameters(recurse=False))]
    hooks = [item.register_forward_pre_hook(lambda item, _: order.update({item: None})) for item in held]
    with torch.no_grad():
        network.eval()(x)
    for hook in hooks:
        hook.remove()
    assert set(order) == set(held)
    return list(order)


def hold_together(
    theirs: nn.Module,
    ours: nn.Module,
    evaluated: Sequence[tuple[int, int]],
    trained: tuple[int, int],
    channels: int = 3,
) -> None:
    """With weights copied in order of execution: outputs, and in training gradients and statistics too."""
    first = image(*evaluated[0], channels=channels)
    pairs = list(zip(leaves(theirs, first), leaves(ours, first), strict=True))
    for source, target in pairs:
        target.load_state_dict(source.state_dict(), strict=True)
    for training, sizes in ((False, evaluated), (True, [trained])):
        theirs.train(training)
        ours.train(training)
        for size in sizes:
            x = image(*size, channels=channels)
            with torch.set_grad_enabled(training):
                expected, found = outputs(theirs(x)), outputs(ours(x))
            assert len(expected) == len(found)
            for one, other in zip(expected, found, strict=True):
                assert relative(one.detach(), other.detach()) <= LIMIT
            if training:
                for returned in (expected, found):
                    sum(item.square().mean() for item in returned).backward()  # type: ignore[union-attr]
    for source, target in pairs:
        for (name, one), (_, other) in zip(source.named_parameters(), target.named_parameters(), strict=True):
            # What batch normalisation takes away again: rounding alone is left of its gradient.
            if one.grad.norm() > 1e-12:
                assert relative(one.grad, other.grad) <= 1e-8, name
        if isinstance(source, nn.BatchNorm2d):
            assert relative(source.running_mean, target.running_mean) <= LIMIT
            assert relative(source.running_var, target.running_var) <= LIMIT


# --- VGG-16 ------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("preset", "name", "count"), [("", "vgg16_bn", 138_365_992), ("plain", "vgg16", 138_357_544)])
def test_vgg16_is_torchvisions(vision, network, preset, name, count):  # noqa: F811
    theirs = build(lambda: getattr(vision, name)(weights=None))
    checkpoint = theirs.state_dict()
    with torch.device("meta"):
        ours = network("vgg16_bn", "torch", preset)()
        segmenting = network("fcn8s", "torch", batch_norm=not preset)().backbone
        dilated = network("deeplabv1", "torch", batch_norm=not preset)().backbone
    assert parameters(ours) == parameters(theirs) == count
    assert list(ours.state_dict()) == list(checkpoint)
    without_dropout(ours).load_state_dict(checkpoint, strict=True, assign=True)
    for training, size in ((False, (65, 95)), (True, (64, 96)), (False, (224, 224))):
        x = image(*size)
        with torch.no_grad():
            assert relative(theirs.train(training)(x), ours.train(training)(x)) <= LIMIT
    features = {key: value for key, value in checkpoint.items() if key.startswith("features.")}
    segmenting.load_state_dict(features, strict=True, assign=True)
    dilated.load_state_dict(features, strict=True, assign=True)


@pytest.mark.parametrize(("output_stride", "strides", "layers"), [(16, [2, 2, 2, 2, 1], 44), (8, [2, 2, 2, 1, 1], 43)])
def test_vgg16_dilates(network, output_stride, strides, layers):
    """What the strided network computes (of stage 5 before its pooling) is there at every second pixel."""

    def features(stride: int) -> nn.Module:
        make = network("vgg16_bn", "torch", output_stride=stride, pool_size=3)
        return build(lambda: make(width=4).features[:layers]).eval()

    coarse, fine = features(2 * output_stride), features(output_stride)
    found = [module.stride for module in fine if isinstance(module, nn.MaxPool2d)]
    assert found == strides[: len(found)]
    fine.load_state_dict(coarse.state_dict())
    with torch.no_grad():
        x = image(97, 129)
        assert relative(coarse(x), fine(x)[:, :, ::2, ::2]) <= LIMIT


@pytest.mark.parametrize("output_stride", [32, 16, 8])
def test_poolings_that_keep_the_size_are_three_wide(network, output_stride):
    with torch.device("meta"):
        layers = network("vgg16_bn", "torch", output_stride=output_stride)().features
    for pool in layers:
        if isinstance(pool, nn.MaxPool2d):
            assert (pool.kernel_size, pool.padding) == ((2, 0) if pool.stride == 2 else (3, 1))


# --- networks ----------------------------------------------------------------------------------------

FORMS = {8: "", 16: "fcn16s", 32: "fcn32s"}


@pytest.mark.parametrize("stride", FORMS)
def test_fcn_is_the_hand_written_one(network, stride):
    values = {"num_classes": 3, "width": 4, "channels": 12}
    ours = build(network("fcn8s", "torch", FORMS[stride], **values))
    theirs = build(lambda: references.FCN(3, 4, 12, stride))
    assert parameters(theirs) == parameters(ours)
    hold_together(theirs, ours, [(64, 96), (33, 59), (1, 150)], (47, 30))


def test_fcn_returns_the_images_size(network):
    with torch.device("meta"):
        ours = network("fcn8s", "torch")()
        assert parameters(ours) == parameters(references.FCN(59, 64, 4096, 8)) == 135_558_673
        for size in ((512, 512), (256, 384), (225, 193)):
            assert ours(torch.empty(1, 3, *size)).shape == (1, 59, *size)


def test_fcn_starts_as_bilinear_enlargement(network):
    """Of one score everywhere, every enlargement returns that score, but near its borders."""
    ours = network("fcn8s", "torch", num_classes=3, width=4, channels=12)()
    for layer, step in ((ours.up4, 2), (ours.up3, 2), (ours.enlarged, 8)):
        scores = torch.arange(1.0, 4.0)[None, :, None, None].expand(1, 3, 6, 6)
        inner = layer(scores)[:, :, step:-step, step:-step]
        assert torch.allclose(inner, scores[:, :, :1, :1].expand_as(inner), atol=1e-6)
    assert not ours.score4.weight.any()
    assert not ours.score3.weight.any()


@pytest.mark.parametrize(("preset", "branches"), [("", 0), ("msc", 7)])
def test_deeplabv1_is_the_hand_written_one(network, preset, branches):
    values = {"num_classes": 3, "width": 4, "channels": 12}
    more = {"branch_channels": branches} if branches else {}
    ours = build(network("deeplabv1", "torch", preset, **values, **more))
    theirs = build(lambda: references.DeepLabV1(3, 4, 12, branches))
    assert parameters(theirs) == parameters(ours)
    hold_together(theirs, ours, [(65, 129), (64, 120), (41, 55)], (121, 50))


@pytest.mark.parametrize("scales", [False, True])
def test_deeplabv2_on_vgg16_is_the_hand_written_one(network, scales):
    values = {"num_classes": 3, "width": 4, "channels": 12}
    ours = build(network("deeplabv2", "torch", "vgg16_msc" if scales else "vgg16", **values))
    theirs = build(lambda: references.DeepLabV2(3, width=4, hidden=12, scales=scales))
    assert parameters(theirs) == parameters(ours)
    hold_together(theirs, ours, [(65, 229), (64, 120), (41, 55)], (50, 222))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("preset", "settings", "frozen"), [("", {}, False), ("msc", {}, True), ("msc", {"frozen": False}, False)]
)
def test_deeplabv2_on_resnet_is_the_hand_written_one(network, preset, settings, frozen):
    ours = build(network("deeplabv2", "torch", preset, depth=50, num_classes=3, **settings))
    theirs = build(lambda: references.DeepLabV2(3, scales=bool(preset), frozen=frozen))
    assert parameters(theirs) == parameters(ours)
    hold_together(theirs, ours, [(33, 229), (64, 48)], (50, 65))


def test_unet_valid_is_the_hand_written_one(network):
    ours = build(network("unet_valid", "torch", width=4))
    theirs = build(lambda: references.UNetValid(1, 2, 4))
    assert parameters(theirs) == parameters(ours)
    hold_together(theirs, ours, [(188, 220), (252, 205), (199, 231)], (236, 188), channels=1)


@pytest.mark.parametrize(("given", "returned"), [((572, 572), (388, 388)), ((252, 380), (68, 196))])
def test_unet_valid_has_the_papers_sizes(network, given, returned):
    with torch.device("meta"):
        ours = network("unet_valid", "torch")()
        assert parameters(ours) == parameters(references.UNetValid(1, 2, 64)) == 31_030_658
        assert ours(torch.empty(1, 1, *given)).shape == (1, 2, *returned)


def test_multi_scale_deeplabs_load_what_one_scale_has_learned(network: Callable[..., type]) -> None:
    with torch.device("meta"):
        for preset, other in (("", "msc"), ("vgg16", "vgg16_msc")):
            one, many = network("deeplabv2", "torch", preset)(), network("deeplabv2", "torch", other)()
            many.load_state_dict(one.state_dict(), strict=True, assign=True)
