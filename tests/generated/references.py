"""Networks written by hand in PyTorch from their sources' descriptions, to hold generated code to.

Nothing here is generated, and nothing is shared with what is.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def conv_bn_relu(inside: int, outside: int, size: int = 3, dilation: int = 1, bias: bool = True) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inside, outside, size, padding=dilation * (size - 1) // 2, dilation=dilation, bias=bias),
        nn.BatchNorm2d(outside),
        nn.ReLU(),
    )


def double_conv(inside: int, outside: int, size: int = 3) -> nn.Sequential:
    return nn.Sequential(conv_bn_relu(inside, outside, size), conv_bn_relu(outside, outside, size))


class UNet(nn.Module):
    """The form for any size: ceil-mode pooling, and a decoder that fits its maps to the skips."""

    def __init__(self, inputs: int, classes: int, width: int) -> None:
        super().__init__()
        widths = [width, 2 * width, 4 * width, 8 * width]
        self.down = nn.ModuleList(map(double_conv, [inputs, *widths], widths))
        self.middle = double_conv(8 * width, 16 * width, 1)
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * c, c, 2, stride=2) for c in reversed(widths))
        self.fuse = nn.ModuleList(double_conv(2 * c, c) for c in reversed(widths))
        self.classifier = nn.Conv2d(width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for stage in self.down:
            x = stage(x)
            skips.append(x)
            x = F.max_pool2d(x, 2, 2, ceil_mode=True)
        x = self.middle(x)
        for up, fuse in zip(self.up, self.fuse, strict=True):
            skip = skips.pop()
            # After pooling that rounds up, the map is as large as the skip or one larger. Of the
            # difference −1, ⌊−1 / 2⌋ = −1 comes before: the first row goes, and the last stays.
            x = up(x)[:, :, -skip.shape[2] :, -skip.shape[3] :]
            x = fuse(torch.cat([skip, x], 1))
        return self.classifier(x)


class UNetUpsample(nn.Module):
    """The form with five 3×3 stages and repeated pixels in the decoder."""

    def __init__(self, inputs: int, classes: int, width: int) -> None:
        super().__init__()
        widths = [width * 2**i for i in range(5)]
        self.down = nn.ModuleList(map(double_conv, [inputs, *widths], widths))
        self.up = nn.ModuleList(conv_bn_relu(2 * c, c) for c in reversed(widths[:4]))
        self.fuse = nn.ModuleList(double_conv(2 * c, c) for c in reversed(widths[:4]))
        self.classifier = nn.Conv2d(width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        skips: list[Tensor] = []
        for stage in self.down:
            x = F.max_pool2d(skips[-1], 2) if skips else x
            skips.append(stage(x))
        x = skips.pop()
        for up, fuse in zip(self.up, self.fuse, strict=True):
            x = up(x.repeat_interleave(2, 2).repeat_interleave(2, 3))
            x = fuse(torch.cat([skips.pop(), x], 1))
        return self.classifier(x)


class Bottleneck(nn.Module):
    """1×1, 3×3 with the stride, 1×1; the shortcut is a convolution in a stage's first block."""

    def __init__(self, inside: int, planes: int, stride: int, dilation: int, project: bool) -> None:
        super().__init__()
        outside = 4 * planes
        self.residual = nn.Sequential(
            nn.Conv2d(inside, planes, 1, bias=False),
            nn.BatchNorm2d(planes),
            nn.ReLU(),
            nn.Conv2d(planes, planes, 3, stride, dilation, dilation, bias=False),
            nn.BatchNorm2d(planes),
            nn.ReLU(),
            nn.Conv2d(planes, outside, 1, bias=False),
            nn.BatchNorm2d(outside),
        )
        self.shortcut = nn.Sequential()
        if project:
            self.shortcut = nn.Sequential(nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.residual(x) + self.shortcut(x))


def stage(inside: int, planes: int, stride: int, dilations: Sequence[int]) -> nn.Sequential:
    blocks = [Bottleneck(inside, planes, stride, dilations[0], project=True)]
    blocks += [Bottleneck(4 * planes, planes, 1, d, project=False) for d in dilations[1:]]
    return nn.Sequential(*blocks)


class DeepLabV3(nn.Module):
    """ResNet-50, atrous spatial pyramid pooling, head; every stage after the second as it is told.

    ``stages`` holds (planes, stride, the blocks' dilations) of each of these.
    """

    def __init__(
        self,
        inputs: int,
        classes: int,
        channels: int,
        stages: Sequence[tuple[int, int, Sequence[int]]],
        rates: Sequence[int],
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(inputs, 64, 7, stride=2, padding=3, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        described = [(64, 1, [1] * 3), (128, 2, [1] * 4), *stages]
        inside = [64, *(4 * planes for planes, _, _ in described)]
        self.stages = nn.Sequential(*map(stage, inside, *zip(*described, strict=True)))
        self.pointwise = conv_bn_relu(inside[-1], channels, 1)
        self.atrous = nn.ModuleList(conv_bn_relu(inside[-1], channels, 3, rate) for rate in rates)
        self.pooled = conv_bn_relu(inside[-1], channels, 1)
        self.project = conv_bn_relu((2 + len(rates)) * channels, channels, 1)
        self.head = nn.Sequential(conv_bn_relu(channels, channels), nn.Conv2d(channels, classes, 1))

    def forward(self, image: Tensor) -> Tensor:
        x = self.stages(self.stem(image))
        branches = [self.pointwise(x), *(branch(x) for branch in self.atrous)]
        mean = self.pooled(x.mean((2, 3), keepdim=True))
        # Bilinear enlargement of one pixel repeats it.
        branches.append(mean.expand(-1, -1, *x.shape[2:]))
        x = self.head(self.project(torch.cat(branches, 1)))
        return F.interpolate(x, image.shape[2:], mode="bilinear", align_corners=False)
