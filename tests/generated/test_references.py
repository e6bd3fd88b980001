"""Generated PyTorch code equals public and hand-written implementations, in float64, with their weights."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import references  # noqa: E402
from torch import Tensor, nn  # noqa: E402

pytestmark = pytest.mark.torch

LIMIT = 1e-10


def leaves_as_run(network: nn.Module, image: Tensor) -> list[nn.Module]:
    """The modules that hold parameters themselves, in the order in which they run."""
    order: list[nn.Module] = []
    held = [item for item in network.modules() if any(True for _ in item.parameters(recurse=False))]
    hooks = [item.register_forward_pre_hook(lambda item, _: order.append(item)) for item in held]
    was_training = network.training
    with torch.no_grad():
        network.train()(image)  # auxiliary heads run in training only
    network.train(was_training)
    for hook in hooks:
        hook.remove()
    assert len(order) == len(set(order)) == len(held)
    return order


@torch.no_grad()
def randomise(network: nn.Module, seed: int = 0) -> None:
    """No weight or statistic zero, one or symmetric; activations stay near one."""
    draw = torch.Generator().manual_seed(seed)
    for item in network.modules():
        if isinstance(item, nn.BatchNorm2d):
            item.weight.uniform_(0.5, 1.5, generator=draw)
            item.running_var.uniform_(0.5, 1.5, generator=draw)
            item.bias.normal_(0, 0.2, generator=draw)
            item.running_mean.normal_(0, 0.2, generator=draw)
        elif isinstance(item, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            item.weight.normal_(0, (2 / item.weight[0].numel()) ** 0.5, generator=draw)
            if item.bias is not None:
                item.bias.normal_(0, 0.2, generator=draw)


def without_dropout(network: nn.Module) -> nn.Module:
    for item in network.modules():
        if isinstance(item, nn.Dropout):
            item.p = 0.0
    return network


def image(height: int, width: int, batch: int = 2, channels: int = 3) -> Tensor:
    draw = torch.Generator().manual_seed(height * 1000 + width)
    return torch.randn(batch, channels, height, width, generator=draw, dtype=torch.float64)


def relative(reference: Tensor, other: Tensor) -> float:
    assert reference.shape == other.shape
    return float((reference - other).norm() / reference.norm())


def parameters(network: nn.Module) -> int:
    return sum(item.numel() for item in network.parameters())


def build(make: Callable[[], nn.Module]) -> nn.Module:
    """An instance in float64 whose memory is taken once, and whose own initialisation is skipped."""
    with torch.device("meta"):
        network = make().double()
    network.to_empty(device="cpu")
    randomise(network)
    return without_dropout(network)


def hold_together(
    theirs: nn.Module,
    ours: nn.Module,
    evaluated: Sequence[tuple[int, int]],
    trained: Sequence[tuple[int, int]],
    outputs: Callable[[Any], list[Tensor]] = lambda returned: [returned],
    smallest: int = 16,
) -> None:
    """With the same weights, the same outputs at every size, and the same statistics after training passes.

    Weights are matched by order of execution, not by name.
    """
    small = image(smallest, smallest)
    pairs = list(zip(leaves_as_run(theirs, small), leaves_as_run(ours, small), strict=True))
    for source, target in pairs:
        target.load_state_dict(source.state_dict(), strict=True)
    for training, sizes in ((False, evaluated), (True, trained)):
        theirs.train(training)
        ours.train(training)
        for size in sizes:
            x = image(*size)
            with torch.no_grad():
                expected, returned = outputs(theirs(x)), ours(x)
            found = list(returned) if isinstance(returned, tuple) else [returned]
            assert len(found) == len(expected)
            for one, other in zip(expected, found, strict=True):
                assert one.isfinite().all()
                assert relative(one, other) <= LIMIT
    for source, target in pairs:
        if isinstance(source, nn.BatchNorm2d):
            assert relative(source.running_mean, target.running_mean) <= LIMIT
            assert relative(source.running_var, target.running_var) <= LIMIT


# --- torchvision ---------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def vision() -> Iterator[Any]:
    """torchvision's models, also where its compiled operators do not load beside this PyTorch."""
    pytest.importorskip("torch")
    if importlib.util.find_spec("torchvision") is None:
        pytest.skip("torchvision is not installed")
    try:
        from torchvision import models

        yield models
        return
    except RuntimeError:
        pass
    # What its modules name at import; nothing here runs them.
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    from torchvision import models

    yield models


AUXILIARY = {False: "without auxiliary head", True: "with auxiliary head"}


def deeplab(vision: Any, depth: int, auxiliary: bool) -> Callable[[], nn.Module]:
    make = getattr(vision.segmentation, f"deeplabv3_resnet{depth}")
    return lambda: make(weights=None, weights_backbone=None, num_classes=21, aux_loss=auxiliary)


@pytest.mark.parametrize(
    ("depth", "auxiliary", "count"),
    [
        (50, False, 39_638_869),
        (50, True, 42_004_074),
        (101, False, 58_630_997),
        (101, True, 60_996_202),
    ],
)
def test_deeplabv3_has_torchvisions_parameters(vision, network, depth, auxiliary, count):
    ours = network("deeplabv3", "torch", "torchvision", depth=depth, auxiliary=auxiliary)
    with torch.device("meta"):
        assert parameters(deeplab(vision, depth, auxiliary)()) == count
        assert parameters(ours()) == count


# At the wide one all of the pyramid's rates reach beyond their kernels' centres: 8 · 36 < 297.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("depth", "auxiliary", "evaluated", "trained"),
    [
        (50, False, [(97, 131), (17, 297)], [(97, 131), (17, 297)]),
        (50, True, [(64, 96)], [(17, 297)]),
        (101, False, [(17, 297)], [(33, 47)]),
        (101, True, [(33, 47)], [(65, 99)]),
    ],
)
def test_deeplabv3_is_torchvisions(vision, network, depth, auxiliary, evaluated, trained):
    ours = network("deeplabv3", "torch", "torchvision", depth=depth, auxiliary=auxiliary)

    def outputs(returned: dict[str, Tensor]) -> list[Tensor]:
        # torchvision's auxiliary head runs in evaluation too.
        return [returned["out"], *([returned["aux"]] if auxiliary and theirs.training else [])]

    theirs = build(deeplab(vision, depth, auxiliary))
    hold_together(theirs, build(ours), evaluated, trained, outputs)


def test_every_deeplabv3_loads_torchvisions_backbone(vision, network):
    with torch.device("meta"):
        checkpoint = vision.resnet50(weights=None).state_dict()
        for preset, settings in [("", {}), ("", {"output_stride": 16}), ("extra_stages", {})]:
            backbone = network("deeplabv3", "torch", preset, **settings)().backbone
            features = {key: value for key, value in checkpoint.items() if key[:3] != "fc."}
            missing, unexpected = backbone.load_state_dict(features, strict=False, assign=True)
            assert not unexpected
            assert {key.split(".")[0] for key in missing} <= {"layer5", "layer6", "layer7"}
            assert bool(missing) == (preset == "extra_stages")


# --- by hand -------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["settings", "arguments"])
def test_unet_is_the_hand_written_one(network, given):
    values = {"num_classes": 3, "width": 24}
    if given == "settings":
        ours = build(network("unet", "torch", **values))
    else:
        ours = build(lambda: network("unet", "torch")(**values))
    theirs = build(lambda: references.UNet(3, 3, 24))
    assert parameters(theirs) == parameters(ours)
    sizes = [(97, 131), (123, 123), (64, 48), (17, 33)]
    hold_together(theirs, ours, sizes, sizes[:2])


@pytest.mark.parametrize("given", ["settings", "arguments"])
def test_unet_upsample_is_the_hand_written_one(network, given):
    values = {"num_classes": 3, "width": 24}
    if given == "settings":
        ours = build(network("unet_upsample", "torch", **values))
    else:
        ours = build(lambda: network("unet_upsample", "torch")(**values))
    theirs = build(lambda: references.UNetUpsample(3, 3, 24))
    assert parameters(theirs) == parameters(ours)
    hold_together(theirs, ours, [(96, 128), (32, 80)], [(96, 128)])


FOURTH = {
    "extra_stages": [
        (256, 1, [2] * 6),
        (512, 1, [1, 2, 4]),
        (512, 1, [1, 2, 4]),
        (512, 1, [2, 4, 8]),
        (512, 1, [4, 8, 16]),
    ],
    "stride 8": [(256, 1, [2] * 6), (512, 1, [4, 8, 16])],
    "stride 16": [(256, 2, [1] * 6), (512, 1, [2, 4, 8])],
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layout", "preset", "settings", "rates"),
    [
        ("extra_stages", "extra_stages", {}, [12, 24, 36]),
        ("stride 8", "", {}, [12, 24, 36]),
        ("stride 16", "", {"output_stride": 16, "rates": [3, 5]}, [3, 5]),
    ],
)
def test_deeplabv3_is_the_hand_written_one(network, layout, preset, settings, rates):
    values = {"num_classes": 3, "channels": 24}
    ours = network("deeplabv3", "torch", preset, **settings, **values)
    theirs = build(lambda: references.DeepLabV3(3, 3, 24, FOURTH[layout], rates))
    ours = build(ours)
    assert parameters(theirs) == parameters(ours)
    hold_together(theirs, ours, [(97, 131)], [(17, 297)])


@pytest.mark.parametrize(
    ("name", "preset", "count"),
    [
        ("unet", "", 18_464_379),
        ("unet_upsample", "", 34_527_041),
        ("deeplabv3", "", 39_650_427),
        ("deeplabv3", "extra_stages", 92_408_955),
    ],
)
def test_published_parameter_counts(network, name, preset, count):
    with torch.device("meta"):
        assert parameters(network(name, "torch", preset)()) == count


def test_hand_written_references_have_the_published_parameter_counts():
    with torch.device("meta"):
        assert parameters(references.UNet(3, 59, 64)) == 18_464_379
        assert parameters(references.UNetUpsample(3, 1, 64)) == 34_527_041
        extra = references.DeepLabV3(3, 59, 256, FOURTH["extra_stages"], [12, 24, 36])
        assert parameters(extra) == 92_408_955
