"""HRNetV2 equals the published networks, written anew here, in float64, with their weights."""

from __future__ import annotations

import re

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from test_references import build, hold_together, parameters  # noqa: E402
from torch import Tensor, nn  # noqa: E402

pytestmark = pytest.mark.torch


def convolution(inside: int, outside: int, size: int = 3, stride: int = 1, *, relu: bool = True) -> nn.Sequential:
    layers = [nn.Conv2d(inside, outside, size, stride, size // 2, bias=False), nn.BatchNorm2d(outside)]
    return nn.Sequential(*layers, *([nn.ReLU()] if relu else []))


class Residual(nn.Module):
    """Convolutions of given sizes beside a shortcut; nodes named as the authors name them."""

    def __init__(self, inside: int, widths: list[int], sizes: list[int]) -> None:
        super().__init__()
        self.count = len(widths)
        for index, (width, size) in enumerate(zip(widths, sizes, strict=True), 1):
            before = widths[index - 2] if index > 1 else inside
            setattr(self, f"conv{index}", nn.Conv2d(before, width, size, padding=size // 2, bias=False))
            setattr(self, f"bn{index}", nn.BatchNorm2d(width))
        if inside != widths[-1]:
            self.downsample = convolution(inside, widths[-1], 1, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for index in range(1, self.count + 1):
            y = F.relu(y) if index > 1 else y
            y = getattr(self, f"bn{index}")(getattr(self, f"conv{index}")(y))
        return F.relu(y + (self.downsample(x) if hasattr(self, "downsample") else x))


def bottleneck(inside: int, planes: int) -> Residual:
    return Residual(inside, [planes, planes, 4 * planes], [1, 3, 1])


class Exchange(nn.Module):
    """One module: four residual blocks a branch, then every branch from all.

    ``enlarge`` brings a map to another's size.
    """

    def __init__(self, widths: list[int], enlarge) -> None:
        super().__init__()
        self.enlarge = enlarge
        self.branches = nn.ModuleList(
            nn.Sequential(*(Residual(width, [width, width], [3, 3]) for _ in range(4))) for width in widths
        )
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(self.path(widths, target, source) for source in range(len(widths)))
            for target in range(len(widths))
        )

    @staticmethod
    def path(widths: list[int], target: int, source: int) -> nn.Module:
        if source == target:
            return nn.Identity()
        if source > target:
            return convolution(widths[source], widths[target], 1, relu=False)
        steps = [convolution(widths[source], widths[source], 3, 2) for _ in range(target - source - 1)]
        return nn.Sequential(*steps, convolution(widths[source], widths[target], 3, 2, relu=False))

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        maps = [branch(x) for branch, x in zip(self.branches, maps, strict=True)]
        fused = []
        for target, paths in enumerate(self.fuse_layers):
            total = torch.zeros_like(maps[target])
            for source, path in enumerate(paths):
                x = path(maps[source])
                total = total + (self.enlarge(x, maps[target]) if source > target else x)
            fused.append(F.relu(total))
        return fused


class Trunk(nn.Module):
    """Stem, four bottlenecks, and three stages of 1, 4 and 3 modules on 2, 3 and 4 branches."""

    def __init__(self, width: int, enlarge) -> None:
        super().__init__()
        self.enlarge = enlarge
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 3, 2, 1, bias=False), nn.BatchNorm2d(64)
        self.conv2, self.bn2 = nn.Conv2d(64, 64, 3, 2, 1, bias=False), nn.BatchNorm2d(64)
        self.layer1 = nn.Sequential(bottleneck(64, 64), *(bottleneck(256, 64) for _ in range(3)))
        self.widths = [width * 2**index for index in range(4)]
        self.transition1 = nn.ModuleList(
            [convolution(256, width), nn.Sequential(convolution(256, 2 * width, 3, 2))],
        )
        for stage, count in ((2, 1), (3, 4), (4, 3)):
            if stage > 2:
                joining = nn.Sequential(convolution(self.widths[stage - 2], self.widths[stage - 1], 3, 2))
                kept = (nn.Identity() for _ in range(stage - 1))
                setattr(self, f"transition{stage - 1}", nn.ModuleList([*kept, joining]))
            modules = (Exchange(self.widths[:stage], enlarge) for _ in range(count))
            setattr(self, f"stage{stage}", nn.Sequential(*modules))

    def branches(self, x: Tensor) -> list[Tensor]:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer1(F.relu(self.bn2(self.conv2(x))))
        maps = self.stage2([transition(x) for transition in self.transition1])
        maps = self.stage3([*maps, self.transition2[2](maps[1])])
        return self.stage4([*maps, self.transition3[3](maps[2])])


def repeated(x: Tensor, like: Tensor) -> Tensor:
    """Enlarged by a whole number, each pixel repeated."""
    times = like.shape[2] // x.shape[2]
    return x.repeat_interleave(times, 2).repeat_interleave(times, 3)


def bilinear(x: Tensor, like: Tensor, align_corners: bool = False) -> Tensor:
    return F.interpolate(x, like.shape[2:], mode="bilinear", align_corners=align_corners)


def bilinear_aligned(x: Tensor, like: Tensor) -> Tensor:
    return bilinear(x, like, align_corners=True)


class Classifier(Trunk):
    def __init__(self, width: int, classes: int) -> None:
        super().__init__(width, repeated)
        self.incre_modules = nn.ModuleList(
            nn.Sequential(bottleneck(inside, 32 * 2**index)) for index, inside in enumerate(self.widths)
        )
        self.downsamp_modules = nn.ModuleList(
            nn.Sequential(nn.Conv2d(128 * 2**index, 256 * 2**index, 3, 2, 1), nn.BatchNorm2d(256 * 2**index), nn.ReLU())
            for index in range(3)
        )
        self.final_layer = nn.Sequential(nn.Conv2d(1024, 2048, 1), nn.BatchNorm2d(2048), nn.ReLU())
        self.classifier = nn.Linear(2048, classes)

    def forward(self, x: Tensor) -> Tensor:
        maps = self.branches(x)
        x = self.incre_modules[0](maps[0])
        for index, halve in enumerate(self.downsamp_modules, 1):
            x = self.incre_modules[index](maps[index]) + halve(x)
        return self.classifier(self.final_layer(x).mean((2, 3)))


class Segmentation(Trunk):
    def __init__(self, width: int, classes: int, enlarge=bilinear, full_size: bool = False) -> None:
        super().__init__(width, enlarge)
        self.full_size = full_size
        joined = sum(self.widths)
        self.last_layer = nn.Sequential(
            nn.Conv2d(joined, joined, 1), nn.BatchNorm2d(joined), nn.ReLU(), nn.Conv2d(joined, classes, 1)
        )

    def forward(self, image: Tensor) -> Tensor:
        maps = self.branches(image)
        x = self.last_layer(torch.cat([self.enlarge(x, maps[0]) for x in maps], 1))
        return self.enlarge(x, image) if self.full_size else x


@pytest.mark.parametrize(
    ("preset", "width", "classifier", "segmentation"),
    [
        ("", 18, 21_299_004, 9_641_119),
        ("w32", 32, 41_232_680, 29_546_515),
        ("w48", 48, 77_469_864, 65_859_379),
    ],
)
def test_published_parameter_counts(network, preset, width, classifier, segmentation):
    with torch.device("meta"):
        assert parameters(Classifier(width, 1000)) == classifier
        assert parameters(network("hrnet", "torch", preset)()) == classifier
        assert parameters(Segmentation(width, 19)) == segmentation
        assert parameters(network("hrnet_seg", "torch", preset)()) == segmentation


def test_the_classifier_is_the_hand_written_one(network):
    theirs = build(lambda: Classifier(5, 7))
    ours = build(lambda: network("hrnet", "torch")(width=5, num_classes=7))
    hold_together(theirs, ours, [(64, 96), (32, 32)], [(64, 96)])


def test_segmentation_is_the_hand_written_one(network):
    theirs = build(lambda: Segmentation(5, 7))
    ours = build(lambda: network("hrnet_seg", "torch")(width=5, num_classes=7))
    hold_together(theirs, ours, [(64, 96), (67, 35)], [(67, 35)])


@pytest.mark.parametrize("full_size", [False, True])
def test_aligned_segmentation_is_the_hand_written_one(network, full_size):
    theirs = build(lambda: Segmentation(5, 7, bilinear_aligned, full_size))
    settings = {"align_corners": True, "full_size": full_size}
    ours = build(lambda: network("hrnet_seg", "torch", **settings)(width=5, num_classes=7))
    hold_together(theirs, ours, [(67, 35)], [(67, 35)])


@pytest.mark.parametrize("aligned", [False, True])
def test_paddlesegs_padding_is_the_hand_written_one(network, aligned):
    """Where a map's sides are even, "same" with a stride of 2 pads a 3×3 window behind the map only."""

    def make() -> nn.Module:
        theirs = Segmentation(5, 7, bilinear_aligned if aligned else bilinear, full_size=True)
        for layer in theirs.modules():
            if isinstance(layer, nn.Conv2d) and layer.stride == (2, 2):
                layer.padding = (0, 0)
                layer.register_forward_pre_hook(lambda _, given: F.pad(given[0], (0, 1, 0, 1)))
        return theirs

    ours = build(lambda: network("hrnet_seg", "torch", "paddleseg", align_corners=aligned)(width=5, num_classes=7))
    hold_together(build(make), ours, [(64, 96)], [(64, 96)], smallest=64)


@pytest.mark.slow
def test_full_segmentation_is_the_hand_written_one(network):
    theirs = build(lambda: Segmentation(18, 19, full_size=True))
    hold_together(theirs, build(network("hrnet_seg", "torch", full_size=True)), [(65, 96)], [(65, 96)])


def test_names_are_the_authors_but_for_lists(network):
    """As the doc of the backbone says: an element of a list is a node of its own here."""
    with torch.device("meta"):
        theirs = Classifier(18, 1000).state_dict()
        ours = network("hrnet", "torch")().state_dict()
        backbone = network("hrnet_seg", "torch")().backbone.state_dict()

    def renamed(name: str) -> str:
        for there, here in [
            (r"^(stage\d|transition\d|incre_modules|downsamp_modules)\.(\d)", r"\1_\2"),
            (r"\.branches\.(\d)", r".branch\1"),
            (r"\.fuse_layers\.(\d)\.(\d)", r".fuse\1_\2"),
        ]:
            name = re.sub(there, here, name)
        return name

    expected = {renamed(name): tensor.shape for name, tensor in theirs.items()}
    assert {name: tensor.shape for name, tensor in ours.items()} == expected
    assert set(backbone) == {name for name in ours if not re.match("incre|downsamp|final|classifier", name)}
