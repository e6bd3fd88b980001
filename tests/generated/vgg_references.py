"""FCN, DeepLab v1 and v2 and the U-Net without padding, written by hand in PyTorch from their sources' descriptions.

Nothing here is generated, and nothing is shared with what is.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from references import stage
from torch import Tensor, nn


class VGG(nn.Module):
    """The convolutions of VGG-16; ``pools`` holds each pooling's window, stride and padding."""

    def __init__(
        self, width: int, norm: bool, pools: Sequence[tuple[int, int, int]], *, first: int = 1, last: int = 1
    ) -> None:
        super().__init__()
        self.stages = nn.ModuleList()
        self.pools = pools
        inside = 3
        for index, times in enumerate([2, 2, 3, 3, 3]):
            outside = [width, 2 * width, 4 * width, 8 * width, 8 * width][index]
            layers: list[nn.Module] = []
            for _ in range(times):
                dilation = last if index == 4 else 1
                padding = dilation if layers or index else first
                layers.append(nn.Conv2d(inside, outside, 3, padding=padding, dilation=dilation))
                layers += [nn.BatchNorm2d(outside)] * norm + [nn.ReLU()]
                inside = outside
            self.stages.append(nn.Sequential(*layers))

    def forward(self, x: Tensor, ceil: bool) -> list[Tensor]:
        found = []
        for layers, (size, stride, padding) in zip(self.stages, self.pools, strict=True):
            x = F.max_pool2d(layers(x), size, stride, padding, ceil_mode=ceil)
            found.append(x)
        return found


def perceptron(inside: int, hidden: int, classes: int, size: int, **first: int) -> nn.Sequential:
    """Two hidden layers and a classifier, the first of which sees a window."""
    return nn.Sequential(
        nn.Conv2d(inside, hidden, size, **first),
        nn.ReLU(),
        nn.Conv2d(hidden, hidden, 1),
        nn.ReLU(),
        nn.Conv2d(hidden, classes, 1),
    )


class FCN(nn.Module):
    """FCN-8s, 16s and 32s as their authors' network descriptions have them, on VGG-16 with batch normalisation."""

    def __init__(self, classes: int, width: int, hidden: int, stride: int) -> None:
        super().__init__()
        self.vgg = VGG(width, True, [(2, 2, 0)] * 5, first=100)
        self.head = perceptron(8 * width, hidden, classes, 7)

        def up(size: int, step: int) -> nn.Module:
            return nn.ConvTranspose2d(classes, classes, size, step, bias=False)

        self.start = {8: 31, 16: 27, 32: 19}[stride]
        if stride <= 16:
            self.up_head = up(4, 2)
            self.score4 = nn.Conv2d(8 * width, classes, 1)
        if stride == 8:
            self.up4 = up(4, 2)
            self.score3 = nn.Conv2d(4 * width, classes, 1)
        self.last = up(2 * stride, stride)

    def forward(self, image: Tensor) -> Tensor:
        maps = self.vgg(image, ceil=True)
        x = self.head(maps[4])
        if hasattr(self, "up_head"):
            x = self.up_head(x)
            x = x + self.score4(maps[3])[:, :, 5 : 5 + x.shape[2], 5 : 5 + x.shape[3]]
        if hasattr(self, "up4"):
            x = self.up4(x)
            x = x + self.score3(maps[2])[:, :, 9 : 9 + x.shape[2], 9 : 9 + x.shape[3]]
        x = self.last(x)[:, :, self.start :, self.start :]
        return x[:, :, : image.shape[2], : image.shape[3]]


DILATED = [(3, 2, 1), (3, 2, 1), (3, 2, 1), (3, 1, 1), (3, 1, 1)]


class DeepLabV1(nn.Module):
    """LargeFOV, with and without the multi-scale branches, on VGG-16 without batch normalisation."""

    def __init__(self, classes: int, width: int, hidden: int, branches: int) -> None:
        super().__init__()
        self.vgg = VGG(width, False, DILATED, last=2)
        self.head = perceptron(8 * width, hidden, classes, 3, padding=12, dilation=12)
        inside = [3, width, 2 * width, 4 * width, 8 * width] if branches else []
        self.branches = nn.ModuleList(
            perceptron(channels, branches, classes, 3, padding=1, stride=stride)
            for channels, stride in zip(inside, [8, 4, 2, 1, 1], strict=False)
        )

    def forward(self, image: Tensor) -> Tensor:
        maps = self.vgg(image, ceil=False)
        # A mean of nine, those beyond the border being zero.
        x = F.avg_pool2d(F.pad(maps[4], [1, 1, 1, 1]), 3, 1)
        x = self.head(x)
        for branch, item in zip(self.branches, [image, *maps], strict=False):
            x = x + branch(item)
        return F.interpolate(x, image.shape[2:], mode="bilinear", align_corners=True)


class DeepLabV2(nn.Module):
    """Summed classifiers at four dilations, on ResNet-50 or VGG-16, at one scale or at three."""

    def __init__(
        self, classes: int, *, width: int = 0, hidden: int = 0, scales: bool = False, frozen: bool = False
    ) -> None:
        super().__init__()
        self.scales = scales
        self.frozen = frozen
        rates = [6, 12, 18, 24]
        if width:
            self.body: nn.Module = VGG(width, False, DILATED, last=2)
            made = [perceptron(8 * width, hidden, classes, 3, padding=rate, dilation=rate) for rate in rates]
        else:
            self.body = nn.Sequential(
                nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False),
                nn.BatchNorm2d(64),
                nn.ReLU(),
                nn.MaxPool2d(3, stride=2, padding=1),
                stage(64, 64, 1, [1] * 3),
                stage(256, 128, 2, [1] * 4),
                stage(512, 256, 1, [2] * 6),
                stage(1024, 512, 1, [4] * 3),
            )
            made = [nn.Conv2d(2048, classes, 3, padding=rate, dilation=rate) for rate in rates]
        self.classifiers = nn.ModuleList(made)

    def train(self, mode: bool = True) -> DeepLabV2:
        super().train(mode)
        for item in self.modules():
            if isinstance(item, nn.BatchNorm2d):
                item.train(mode and not self.frozen)
        return self

    def score(self, image: Tensor) -> Tensor:
        x = self.body(image, ceil=False)[4] if isinstance(self.body, VGG) else self.body(image)
        total = torch.zeros(())
        for classifier in self.classifiers:
            total = total + classifier(x)
        return total

    def forward(self, image: Tensor) -> list[Tensor]:
        def resized(x: Tensor, height: int, width: int) -> Tensor:
            return F.interpolate(x, (height, width), mode="bilinear", align_corners=False)

        height, width = image.shape[2:]
        scores = [self.score(image)]
        if self.scales:
            scores.append(self.score(resized(image, 3 * height // 4, 3 * width // 4)))
            scores.append(self.score(resized(image, height // 2, width // 2)))
        fitted = [resized(item, *scores[0].shape[2:]) if index else item for index, item in enumerate(scores)]
        best = torch.stack(fitted).amax(0)
        return [resized(item, height, width) for item in [best, *(scores if self.scales and self.training else [])]]


class UNetValid(nn.Module):
    """The figure of the U-Net's paper."""

    def __init__(self, inputs: int, classes: int, width: int) -> None:
        super().__init__()
        widths = [inputs, *(width * 2**i for i in range(5))]

        def double(inside: int, outside: int) -> nn.Sequential:
            return nn.Sequential(nn.Conv2d(inside, outside, 3), nn.ReLU(), nn.Conv2d(outside, outside, 3), nn.ReLU())

        self.down = nn.ModuleList(map(double, widths, widths[1:]))
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * c, c, 2, stride=2) for c in reversed(widths[1:-1]))
        self.fuse = nn.ModuleList(double(2 * c, c) for c in reversed(widths[1:-1]))
        self.classifier = nn.Conv2d(width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        skips: list[Tensor] = []
        for index, layers in enumerate(self.down):
            x = layers(F.max_pool2d(x, 2) if index else x)
            skips.append(x)
        skips.pop()
        for up, fuse in zip(self.up, self.fuse, strict=True):
            x, skip = up(x), skips.pop()
            top, left = ((skip.shape[axis] - x.shape[axis]) // 2 for axis in (2, 3))
            x = fuse(torch.cat([skip[:, :, top : top + x.shape[2], left : left + x.shape[3]], x], 1))
        return self.classifier(x)
