"""DeepLab v3+ and PSPNet, written by hand in PyTorch as the implementations that the articles use compute them."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from references import conv_bn_relu, stage
from torch import Tensor, nn


def resized(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, like.shape[2:], mode="bilinear", align_corners=True)


def normalised(inside: int, outside: int, size: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(inside, outside, size, stride, size // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(outside)]


class InvertedResidual(nn.Module):
    def __init__(self, inside: int, outside: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = expansion * inside
        wider = [*normalised(inside, hidden, 1), nn.ReLU6()] if expansion > 1 else []
        depthwise = [*normalised(hidden, hidden, 3, stride, hidden), nn.ReLU6()]
        self.layers = nn.Sequential(*wider, *depthwise, *normalised(hidden, outside, 1))
        self.adds = stride == 1 and inside == outside

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.adds else self.layers(x)


class MobileNetV2(nn.Module):
    """Made with its strides; then every 3×3 convolution past the output stride keeps the size and dilates."""

    channels = (24, 320)

    def __init__(self, output_stride: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Sequential(*normalised(3, 32, 3, 2), nn.ReLU6())]
        inside = 32
        for outside, count, stride in [
            *((16, 1, 1), (24, 2, 2), (32, 3, 2), (64, 4, 2)),
            *((96, 3, 1), (160, 3, 2), (320, 1, 1)),
        ]:
            for index in range(count):
                expansion = 6 if len(layers) > 1 else 1
                layers.append(InvertedResidual(inside, outside, 1 if index else stride, expansion))
                inside = outside
        reached, dilation = 1, 1
        for layer in layers:
            for conv in layer.modules():
                if isinstance(conv, nn.Conv2d) and conv.kernel_size == (3, 3):
                    before = dilation
                    if conv.stride == (2, 2) and reached == output_stride:
                        conv.stride = (1, 1)
                        dilation *= 2
                    else:
                        reached *= conv.stride[0]
                        before = dilation
                    conv.dilation = conv.padding = (before, before)
        self.low, self.deep = nn.Sequential(*layers[:4]), nn.Sequential(*layers[4:])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        low = self.low(x)
        return low, self.deep(low)


MOMENTUM = 0.0003


class Separable(nn.Module):
    def __init__(self, inside: int, outside: int, stride: int, dilation: int, after: bool = False) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(inside, inside, 3, stride, dilation, dilation, inside, bias=False)
        self.bn1 = nn.BatchNorm2d(inside, momentum=MOMENTUM)
        self.pointwise = nn.Conv2d(inside, outside, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outside, momentum=MOMENTUM)
        self.after = after

    def forward(self, x: Tensor) -> Tensor:
        if self.after:
            return F.relu(self.bn2(self.pointwise(F.relu(self.bn1(self.depthwise(x))))))
        return self.bn2(self.pointwise(self.bn1(self.depthwise(F.relu(x)))))


class Unit(nn.Module):
    def __init__(self, channels: tuple[int, int, int], stride: int, dilation: int, in_place: bool) -> None:
        super().__init__()
        inside, inner, outside = channels
        self.skip = None
        if inside != outside or stride != 1:
            conv = nn.Conv2d(inside, outside, 1, stride, bias=False)
            self.skip = nn.Sequential(conv, nn.BatchNorm2d(outside, momentum=MOMENTUM))
        self.first = Separable(inside, inner, 1, dilation)
        self.second = Separable(inner, outside, 1, dilation)
        self.third = Separable(outside, outside, stride, dilation)
        self.in_place = in_place

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        kept = F.relu(x) if self.in_place else x
        shortcut = kept if self.skip is None else self.skip(x)
        inside = self.second(self.first(x))
        return inside, self.third(inside) + shortcut


class Xception(nn.Module):
    channels = (256, 2048)

    def __init__(self, output_stride: int, in_place: bool) -> None:
        super().__init__()
        third = {16: 2, 8: 1}[output_stride]
        rate = 16 // output_stride
        self.stem = nn.Sequential(
            nn.Conv2d(3, 32, 3, 2, 1, bias=False),
            nn.BatchNorm2d(32, momentum=MOMENTUM),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, 1, 1, bias=False),
            nn.BatchNorm2d(64, momentum=MOMENTUM),
            nn.ReLU(),
        )
        self.units = nn.ModuleList(
            [
                Unit((64, 128, 128), 2, 1, in_place),
                Unit((128, 256, 256), 2, 1, in_place),
                Unit((256, 728, 728), third, 1, in_place),
                *(Unit((728, 728, 728), 1, rate, in_place) for _ in range(16)),
                Unit((728, 728, 1024), 1, rate, in_place),
            ]
        )
        widths = [1024, 1536, 1536, 2048]
        self.exit = nn.Sequential(*(Separable(a, b, 1, rate, after=True) for a, b in pairwise(widths)))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.stem(x)
        insides = []
        for unit in self.units:
            inside, x = unit(x)
            insides.append(inside)
        return insides[1], self.exit(x)


class DeepLabV3Plus(nn.Module):
    def __init__(self, backbone: MobileNetV2 | Xception, classes: int, channels: int, output_stride: int) -> None:
        super().__init__()
        self.backbone = backbone
        low, deep = backbone.channels
        factor = 16 // output_stride
        self.branches = nn.ModuleList([conv_bn_relu(deep, channels, 1)])
        self.branches.extend(conv_bn_relu(deep, channels, 3, rate * factor) for rate in (6, 12, 18))
        self.context = conv_bn_relu(deep, channels, 1)
        self.project = conv_bn_relu(5 * channels, channels, 1)
        self.low = conv_bn_relu(low, 48, 1)
        self.refine = nn.Sequential(
            *(conv_bn_relu(48 + channels, channels), nn.Dropout(0.5)),
            *(conv_bn_relu(channels, channels), nn.Dropout(0.1)),
        )
        self.classifier = nn.Conv2d(channels, classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        low, deep = self.backbone(image)
        maps = [branch(deep) for branch in self.branches]
        maps.append(resized(self.context(deep.mean((2, 3), keepdim=True)), deep))
        x = self.project(torch.cat(maps, 1))
        low = self.low(low)
        x = self.refine(torch.cat([resized(x, low), low], 1))
        return resized(self.classifier(x), image)


class PSPNet(nn.Module):
    """On ResNet-50 with its last two stages dilated; the branches are registered and take means."""

    def __init__(self, classes: int, width: int, auxiliary: bool) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            *(nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU()),
            nn.MaxPool2d(3, 2, 1),
            stage(64, 64, 1, [1] * 3),
            stage(256, 128, 2, [1] * 4),
            stage(512, 256, 1, [2] * 6),
        )
        self.last = stage(1024, 512, 1, [4] * 3)
        self.branches = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(bins), conv_bn_relu(2048, 512, 1)) for bins in (1, 2, 3, 6)
        )
        self.head = nn.Sequential(conv_bn_relu(4096, width), nn.Dropout(0.1), nn.Conv2d(width, classes, 1))
        self.aux = None
        if auxiliary:
            self.aux = nn.Sequential(conv_bn_relu(1024, 256), nn.Dropout(0.1), nn.Conv2d(256, classes, 1))

    def forward(self, image: Tensor) -> list[Tensor]:
        x = self.stem(image)
        deep = self.last(x)
        maps = [deep, *(resized(branch(deep), deep) for branch in self.branches)]
        found = [resized(self.head(torch.cat(maps, 1)), image)]
        if self.aux is not None and self.training:
            found.append(resized(self.aux(x), image))
        return found
