"""The U²-Nets equal the published networks, written anew here, in float64, with their weights."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from test_references import build, hold_together, parameters  # noqa: E402
from torch import Tensor, nn  # noqa: E402

pytestmark = pytest.mark.torch

FULL = {
    "encoder": [(32, 64), (32, 128), (64, 256), (128, 512), (256, 512), (256, 512)],
    "decoder": [(16, 64), (32, 64), (64, 128), (128, 256), (256, 512)],
}
SMALL = {"encoder": [(16, 64)] * 6, "decoder": [(16, 64)] * 5}
# Every width another one, so that none can stand for its neighbour.
NARROW = {
    "encoder": [(2, 4), (3, 5), (4, 6), (5, 7), (6, 8), (7, 9)],
    "decoder": [(3, 10), (4, 11), (5, 12), (6, 13), (7, 14)],
}
SIZES = [(64, 96), (65, 47)]


def convolution(inside: int, outside: int, dilation: int = 1) -> nn.Sequential:
    layer = nn.Conv2d(inside, outside, 3, padding=dilation, dilation=dilation)
    return nn.Sequential(layer, nn.BatchNorm2d(outside), nn.ReLU())


def enlarged(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, like.shape[2:], mode="bilinear", align_corners=False)


class Pooling(nn.Module):
    """RSU-L: after each level but the last two, half the size."""

    def __init__(self, levels: int, inside: int, middle: int, outside: int) -> None:
        super().__init__()
        self.first = convolution(inside, outside)
        self.down = nn.ModuleList([convolution(outside, middle)])
        self.down.extend(convolution(middle, middle) for _ in range(levels - 2))
        self.bottom = convolution(middle, middle, 2)
        self.up = nn.ModuleList(convolution(2 * middle, middle) for _ in range(levels - 2))
        self.up.append(convolution(2 * middle, outside))

    def forward(self, x: Tensor) -> Tensor:
        first = x = self.first(x)
        kept: list[Tensor] = []
        for layer in self.down:
            x = layer(F.max_pool2d(x, 2, 2, ceil_mode=True) if kept else x)
            kept.append(x)
        x = self.bottom(x)
        for layer in self.up:
            skip = kept.pop()
            x = layer(torch.cat([enlarged(x, skip), skip], 1))
        return x + first


class Flat(nn.Module):
    """RSU-4F: dilations 1, 2, 4, 8 and back."""

    def __init__(self, inside: int, middle: int, outside: int) -> None:
        super().__init__()
        self.first = convolution(inside, outside)
        self.a = convolution(outside, middle)
        self.b = convolution(middle, middle, 2)
        self.c = convolution(middle, middle, 4)
        self.d = convolution(middle, middle, 8)
        self.e = convolution(2 * middle, middle, 4)
        self.f = convolution(2 * middle, middle, 2)
        self.g = convolution(2 * middle, outside)

    def forward(self, x: Tensor) -> Tensor:
        first = self.first(x)
        a = self.a(first)
        b = self.b(a)
        c = self.c(b)
        e = self.e(torch.cat([self.d(c), c], 1))
        f = self.f(torch.cat([e, b], 1))
        return self.g(torch.cat([f, a], 1)) + first


def residual(stage: int, inside: int, widths: Sequence[int]) -> nn.Module:
    return Flat(inside, *widths) if stage > 4 else Pooling(8 - stage, inside, *widths)


class U2Net(nn.Module):
    """The U of residual U-blocks; ``head`` is what stands on its six maps, the finest first."""

    def __init__(
        self, encoder: Sequence[Sequence[int]], decoder: Sequence[Sequence[int]], head: nn.Module, inputs: int = 3
    ) -> None:
        super().__init__()
        self.down, self.up, self.head = nn.ModuleList(), nn.ModuleList(), head
        for stage, widths in enumerate(encoder, 1):
            self.down.append(residual(stage, inputs, widths))
            inputs = widths[1]
        for stage in (5, 4, 3, 2, 1):
            self.up.append(residual(stage, inputs + encoder[stage - 1][1], decoder[stage - 1]))
            inputs = decoder[stage - 1][1]

    def forward(self, x: Tensor) -> list[Tensor]:
        kept: list[Tensor] = []
        for stage in self.down:
            x = stage(F.max_pool2d(x, 2, 2, ceil_mode=True) if kept else x)
            kept.append(x)
        maps = [kept.pop()]
        for stage in self.up:
            skip = kept.pop()
            maps.insert(0, stage(torch.cat([enlarged(maps[0], skip), skip], 1)))
        return self.head(maps)


def widths_of_maps(encoder: Sequence[Sequence[int]], decoder: Sequence[Sequence[int]]) -> list[int]:
    return [*(outside for _, outside in decoder), encoder[5][1]]


class Sides(nn.Module):
    """A classifier a map and their fusion; the fusion first."""

    def __init__(self, widths: Sequence[int], classes: int, kernel: int, sigmoid: bool) -> None:
        super().__init__()
        self.sides = nn.ModuleList(nn.Conv2d(width, classes, kernel, padding=kernel // 2) for width in widths)
        self.fusion = nn.Conv2d(6 * classes, classes, 1)
        self.last = torch.sigmoid if sigmoid else lambda x: x

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        sides = [enlarged(side(x), maps[0]) for side, x in zip(self.sides, maps, strict=True)]
        return [self.last(x) for x in (self.fusion(torch.cat(sides, 1)), *sides)]


class Joined(nn.Module):
    """The maps enlarged and concatenated, and two pointwise layers."""

    def __init__(self, widths: Sequence[int], classes: int) -> None:
        super().__init__()
        width = sum(widths)
        self.layers = nn.Sequential(
            nn.Conv2d(width, width, 1), nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, classes, 1)
        )

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        return [self.layers(torch.cat([enlarged(x, maps[0]) for x in maps], 1))]


def sides(widths: dict[str, list[tuple[int, int]]], classes: int = 1, kernel: int = 3, sigmoid: bool = True) -> U2Net:
    return U2Net(**widths, head=Sides(widths_of_maps(**widths), classes, kernel, sigmoid))


def joined(widths: dict[str, list[tuple[int, int]]], classes: int) -> U2Net:
    return U2Net(**widths, head=Joined(widths_of_maps(**widths), classes))


@pytest.mark.parametrize(("name", "widths", "count"), [("u2net", FULL, 44_009_869), ("u2netp", SMALL, 1_131_181)])
def test_published_parameter_counts(network, name, widths, count):
    with torch.device("meta"):
        assert parameters(sides(widths)) == count
        assert parameters(network(name, "torch")()) == count
        several = parameters(sides(widths, 59, 1, sigmoid=False))
        assert parameters(network("u2net_seg", "torch", width=1, **widths)()) == several
        assert parameters(network("u2net_seg_ocr_head", "torch", width=1, **widths)()) == parameters(joined(widths, 59))


@pytest.mark.parametrize("name", ["u2net", "u2netp"])
@pytest.mark.parametrize("classes", [1, 2])
def test_salience_is_the_hand_written_one(network, name, classes):
    theirs = build(lambda: sides(NARROW, classes))
    ours = build(lambda: network(name, "torch", width=1, **NARROW)(num_classes=classes))
    hold_together(theirs, ours, SIZES, SIZES[1:], outputs=list)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "widths"), [("u2net", FULL), ("u2netp", SMALL)])
def test_full_salience_is_the_hand_written_one(network, name, widths):
    hold_together(build(lambda: sides(widths)), build(network(name, "torch")), [(33, 64)], [(33, 64)], outputs=list)


@pytest.mark.parametrize("kernel", [1, 3])
def test_classes_are_the_hand_written_ones(network, kernel):
    theirs = build(lambda: sides(NARROW, 4, kernel, sigmoid=False))
    ours = build(network("u2net_seg", "torch", width=1, **NARROW, num_classes=4, side_kernel=kernel))
    hold_together(theirs, ours, SIZES, SIZES[1:], outputs=list)


def test_the_joined_head_is_the_hand_written_one(network):
    theirs = build(lambda: joined(NARROW, 4))
    ours = build(network("u2net_seg_ocr_head", "torch", width=1, **NARROW, num_classes=4))
    hold_together(theirs, ours, SIZES, SIZES[1:], outputs=list)


def test_every_map_is_a_loss_of_its_own(network):
    """In evaluation too seven maps come back, the fusion first, each between 0 and 1."""
    net = build(network("u2netp", "torch", width=1, **NARROW)).eval()
    with torch.no_grad():
        maps = net(torch.randn(1, 3, 31, 64, dtype=torch.float64))
    assert [tuple(item.shape) for item in maps] == [(1, 1, 31, 64)] * 7
    assert all(item.min() > 0 and item.max() < 1 for item in maps)
    fused = net.sides.outconv(torch.logit(torch.cat(maps[1:], 1)))
    assert torch.allclose(torch.sigmoid(fused), maps[0])
