"""Published checkpoints at work: torchvision's networks and what is generated compute the same from its files."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from test_references import LIMIT, build, image, relative, vision  # noqa: E402, F401
from torch import nn  # noqa: E402

import segspec  # noqa: E402
from segspec.cli import main  # noqa: E402
from segspec.spec.load import load  # noqa: E402
from segspec.weights import formats  # noqa: E402
from segspec.weights.published import recognise  # noqa: E402
from segspec.weights.state import entries  # noqa: E402

pytestmark = pytest.mark.torch


def converted(name: str, theirs: nn.Module, target: Path, *options: str) -> Path:
    """What ``segspec weights convert`` makes of the file that holds a network of theirs."""
    source = target.with_name("published.pth")
    torch.save(theirs.state_dict(), source)
    assert main(["weights", "convert", name, str(source), str(target), *options]) == 0
    return target


SEGMENTATION = {"weights": None, "weights_backbone": None}
NETWORKS: dict[str, tuple[str, str, Callable[[Any], nn.Module]]] = {
    "resnet18": ("resnet", "depth18", lambda models: models.resnet18(weights=None)),
    "resnet50": ("resnet", "", lambda models: models.resnet50(weights=None)),
    "mobilenet_v2": ("mobilenet_v2", "", lambda models: models.mobilenet_v2(weights=None)),
    "vgg16_bn": ("vgg16_bn", "", lambda models: models.vgg16_bn(weights=None)),
    "fcn_resnet50": (
        "fcn_resnet",
        "auxiliary",
        lambda models: models.segmentation.fcn_resnet50(**SEGMENTATION, num_classes=21, aux_loss=True),
    ),
    "deeplabv3_resnet50": (
        "deeplabv3",
        "torchvision_auxiliary",
        lambda models: models.segmentation.deeplabv3_resnet50(**SEGMENTATION, num_classes=21, aux_loss=True),
    ),
    "deeplabv3_resnet101": (
        "deeplabv3",
        "torchvision_resnet101",
        lambda models: models.segmentation.deeplabv3_resnet101(**SEGMENTATION, num_classes=21, aux_loss=False),
    ),
}
SLOW = ("vgg16_bn", "deeplabv3_resnet50", "deeplabv3_resnet101")


@pytest.mark.parametrize(
    "which", [pytest.param(which, marks=pytest.mark.slow if which in SLOW else []) for which in NETWORKS]
)
def test_torchvision(which: str, vision: Any, network: Callable[..., type], tmp_path: Path) -> None:  # noqa: F811
    name, preset, make = NETWORKS[which]
    theirs = build(lambda: make(vision)).eval()
    ours = build(network(name, "torch", preset)).eval()
    ours.load_state_dict(torch.load(converted(name, theirs, tmp_path / "own.pth"), weights_only=True), strict=True)
    x = image(65, 97)
    with torch.no_grad():
        expected, found = theirs(x), ours(x)
    assert relative(expected["out"] if isinstance(expected, dict) else expected, found) <= LIMIT


def _segmentation(name: str, auxiliary: bool) -> Callable[[Any], nn.Module]:
    return lambda models: getattr(models.segmentation, name)(**SEGMENTATION, num_classes=21, aux_loss=auxiliary)


def _classifier(name: str) -> Callable[[Any], nn.Module]:
    return lambda models: getattr(models, name)(weights=None)


VARIANTS: dict[str, tuple[str, str, Callable[[Any], nn.Module]]] = {
    **{f"resnet{depth}": ("resnet", f"depth{depth}", _classifier(f"resnet{depth}")) for depth in (18, 34, 101, 152)},
    "resnet50": ("resnet", "", _classifier("resnet50")),
    "vgg16_bn": ("vgg16_bn", "", _classifier("vgg16_bn")),
    "vgg16": ("vgg16_bn", "plain", _classifier("vgg16")),
    "mobilenet_v2": ("mobilenet_v2", "", _classifier("mobilenet_v2")),
    "fcn_resnet50": ("fcn_resnet", "", _segmentation("fcn_resnet50", False)),
    "fcn_resnet50 with aux": ("fcn_resnet", "auxiliary", _segmentation("fcn_resnet50", True)),
    "fcn_resnet101": ("fcn_resnet", "resnet101", _segmentation("fcn_resnet101", False)),
    "fcn_resnet101 with aux": ("fcn_resnet", "resnet101_auxiliary", _segmentation("fcn_resnet101", True)),
    "deeplabv3_resnet50": ("deeplabv3", "torchvision", _segmentation("deeplabv3_resnet50", False)),
    "deeplabv3_resnet50 with aux": ("deeplabv3", "torchvision_auxiliary", _segmentation("deeplabv3_resnet50", True)),
    "deeplabv3_resnet101": ("deeplabv3", "torchvision_resnet101", _segmentation("deeplabv3_resnet101", False)),
    "deeplabv3_resnet101 with aux": (
        "deeplabv3",
        "torchvision_resnet101_auxiliary",
        _segmentation("deeplabv3_resnet101", True),
    ),
}


@pytest.mark.parametrize("which", VARIANTS)
def test_every_variant_is_recognised(which: str, vision: Any) -> None:  # noqa: F811
    """By the names and shapes of its tensors alone, each of which has its place."""
    name, preset, make = VARIANTS[which]
    with torch.device("meta"):
        theirs = {key: tuple(tensor.shape) for key, tensor in make(vision).state_dict().items()}
    found = recognise(load(name), theirs)
    assert (found.checkpoint, found.graph.preset) == ("torchvision", preset)
    assert not found.left
    assert not found.zeros
    assert all(key.endswith("num_batches_tracked") for key in found.ignored)
    assert len(found.sources) + len(found.ignored) == len(theirs)
    assert found.sources.keys() == {entry.name for entry in entries(found.graph)}


def test_an_auxiliary_head_that_is_not_asked_for_is_left_out(vision: Any, capsys: Any, tmp_path: Path) -> None:  # noqa: F811
    """The published files have one; ``--preset torchvision`` is the network without."""
    with torch.device("meta"):
        theirs = NETWORKS["deeplabv3_resnet50"][2](vision)
    theirs = theirs.to_empty(device="cpu")
    for tensor in theirs.state_dict().values():
        tensor.zero_()
    path = converted("deeplabv3", theirs, tmp_path / "model.pdparams", "--preset", "torchvision")
    assert "not used: aux_classifier.* (7 of 7)" in capsys.readouterr().err
    assert not any(key.startswith("aux") for key in formats.read(path).tensors)


def test_a_classifier_for_other_classes_stays_out(vision: Any, tmp_path: Path, capsys: Any) -> None:  # noqa: F811
    theirs = build(lambda: vision.resnet18(weights=None))
    path = converted("resnet", theirs, tmp_path / "own.pth", "--set", "num_classes=5")
    own = torch.load(path, weights_only=True)
    assert "fc.weight" not in own
    assert torch.equal(own["layer4.1.conv2.weight"], theirs.state_dict()["layer4.1.conv2.weight"])
    said = capsys.readouterr().err
    assert "for resnet --preset depth18 --set num_classes=5" in said
    assert "so left out: fc.weight, fc.bias" in said


@pytest.mark.paddle
@pytest.mark.parametrize("which", ["deeplabv3_resnet50", "deeplabv3_resnet50 with aux"])
def test_from_torchvision_to_paddle(which: str, vision: Any, network: Callable[..., type], tmp_path: Path) -> None:  # noqa: F811
    """``segspec weights convert deeplabv3 deeplabv3_resnet50_coco.pth model.pdparams``."""
    paddle = importlib.import_module("paddle")
    _, preset, make = VARIANTS[which]
    theirs = build(lambda: make(vision)).float().eval()
    path = converted("deeplabv3", theirs, tmp_path / "model.pdparams")
    ours = network("deeplabv3", "paddle", preset)()
    missing, unexpected = ours.set_state_dict(paddle.load(str(path)))
    assert missing == unexpected == []
    ours.to(dtype="float64")
    ours.eval()
    x = image(64, 96)
    with torch.no_grad(), paddle.no_grad():
        expected, found = theirs.double()(x)["out"], ours(paddle.to_tensor(x.numpy()))
    assert relative(expected, torch.from_numpy(np.array(found))) <= LIMIT


def test_loaded_by_segspec(vision: Any, tmp_path: Path) -> None:  # noqa: F811
    """The network is of the preset that the file is of; a classifier for other classes starts anew."""
    theirs = build(lambda: vision.resnet18(weights=None)).float().eval()
    torch.save(theirs.state_dict(), tmp_path / "resnet18.pth")
    ours = segspec.load("resnet", backend="torch", weights=tmp_path / "resnet18.pth").eval()
    x = image(65, 97).float()
    with torch.no_grad():
        assert relative(theirs(x), ours(x)) <= 1e-5
    tuned = segspec.load("resnet", backend="torch", weights=tmp_path / "resnet18.pth", num_classes=5)
    assert tuned.fc.weight.shape == (5, 512)
    assert torch.equal(tuned.layer4[1].conv2.weight, theirs.layer4[1].conv2.weight)
