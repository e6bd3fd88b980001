"""Generated PyTorch modules do what users of PyTorch do with a module."""

from __future__ import annotations

import copy
import inspect
import io
import math
import pickle
import shutil

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.export import Dim  # noqa: E402

pytestmark = pytest.mark.torch

NETWORKS = {
    "unet": ("", {}, {"width": 4}),
    "unet_upsample": ("", {}, {"width": 4}),
    "deeplabv3": ("torchvision", {"auxiliary": True}, {"channels": 16}),
}
SMALL = {"in_channels": 1, "num_classes": 2}


@pytest.fixture(params=NETWORKS)
def small(request, network):
    """A small instance of each network, in evaluation mode, its statistics not those of a start."""
    preset, settings, arguments = NETWORKS[request.param]
    torch.manual_seed(0)
    made = network(request.param, "torch", preset, **settings)(**SMALL, **arguments)
    with torch.no_grad():
        made(image(32, 48))
    return made.eval()


def image(height: int, width: int, batch: int = 2, channels: int = 1) -> Tensor:
    draw = torch.Generator().manual_seed(height * 1000 + width)
    return torch.randn(batch, channels, height, width, generator=draw)


def listed(returned: Tensor | tuple[Tensor, ...]) -> list[Tensor]:
    return [returned] if isinstance(returned, Tensor) else list(returned)


def odd_sizes(module: nn.Module) -> list[tuple[int, int]]:
    """Sizes unlike 32×48 that the network takes."""
    divisible = type(module).__name__ == "UNetUpsample"
    return [(48, 80), (96, 32)] if divisible else [(33, 49), (57, 71), (40, 31)]


def test_the_first_exported_name_is_the_networks_class(module):
    for name, expected in [("unet", "UNet"), ("unet_upsample", "UNetUpsample")]:
        found = module(name, "torch")
        assert found.__all__[0] == expected
        assert issubclass(getattr(found, expected), nn.Module)
    assert module("deeplabv3", "torch").__all__[0] == "DeepLabV3"
    assert module("resnet", "torch", depth=101).__all__[0] == "ResNet101"


def test_arguments_are_named_typed_and_ordered(network):
    unet = network("unet", "torch")
    signature = inspect.signature(unet, eval_str=True)
    found = [(item.name, item.annotation, item.default) for item in signature.parameters.values()]
    assert found == [("in_channels", int, 3), ("num_classes", int, 59), ("width", int, 64)]
    by_name = unet(in_channels=1, num_classes=2, width=16)
    by_place = unet(1, 2, 16)
    shapes = {key: tensor.shape for key, tensor in by_name.state_dict().items()}
    assert shapes == {key: tensor.shape for key, tensor in by_place.state_dict().items()}
    by_place.load_state_dict(by_name.state_dict())
    x = image(37, 53)
    assert by_name.eval()(x).shape == (2, 2, 37, 53)
    assert torch.equal(by_name(x), by_place.eval()(x))
    assert torch.equal(by_name(image=x), by_name(x))


def test_settings_become_the_arguments_defaults(network):
    by_setting = network("unet", "torch", num_classes=3, width=8)()
    by_argument = network("unet", "torch")(num_classes=3, width=8)
    assert str(by_setting) == str(by_argument)


def test_any_batch_and_size(small):
    for size in odd_sizes(small):
        for batch in (1, 3):
            with torch.no_grad():
                assert small(image(*size, batch)).shape == (batch, 2, *size)


def test_the_auxiliary_output_is_for_training(small):
    x = image(32, 48)
    assert isinstance(small(x), Tensor)
    returned = small.train()(x)
    if hasattr(small, "aux_head"):
        assert isinstance(returned, tuple)
        assert [output.shape for output in returned] == [(2, 2, 32, 48)] * 2
    else:
        assert isinstance(returned, Tensor)
    assert isinstance(small.eval()(x), Tensor)


def test_deep_copy_is_independent(small):
    twin = copy.deepcopy(small)
    x = image(32, 48)
    expected = small(x).detach()
    assert torch.equal(twin(x), expected)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.add_(1)
        twin.train()(x)
    assert torch.equal(small(x), expected)


def test_pickles(small):
    again = pickle.loads(pickle.dumps(small))
    x = image(32, 48)
    assert type(again) is type(small)
    assert not again.training
    assert torch.equal(again(x), small(x))


def test_checkpoints_load_strictly(small):
    file = io.BytesIO()
    torch.save(small.state_dict(), file)
    file.seek(0)
    other = copy.deepcopy(small)
    for parameter in other.parameters():
        nn.init.normal_(parameter)
    other.load_state_dict(torch.load(file, weights_only=True), strict=True)
    x = image(32, 48)
    assert torch.equal(other(x), small(x))


@pytest.mark.parametrize("training", [False, True])
def test_compiles_into_one_graph(small, training):
    torch.compiler.reset()
    small.train(training)
    for item in small.modules():
        if isinstance(item, nn.Dropout):
            item.p = 0.0
    # Whether there is one graph does not depend on what then compiles it.
    compiled = torch.compile(copy.deepcopy(small), fullgraph=True, backend="eager")
    for size in [(32, 48), odd_sizes(small)[0]]:
        x = image(*size)
        for one, other in zip(listed(small(x)), listed(compiled(x)), strict=True):
            assert torch.allclose(one, other, rtol=1e-4, atol=1e-4)
    if training:
        sum(output.sum() for output in listed(compiled(x))).backward()
        assert all(parameter.grad is not None for parameter in compiled.parameters())
    torch.compiler.reset()


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="the default compiler of PyTorch needs g++")
def test_compiles_to_machine_code(network):
    torch.compiler.reset()
    unet = network("unet", "torch")(in_channels=1, num_classes=2, width=4).eval()
    compiled = torch.compile(unet, fullgraph=True)
    with torch.no_grad():
        assert torch.allclose(compiled(image(35, 41)), unet(image(35, 41)), rtol=1e-3, atol=1e-4)
    torch.compiler.reset()


def test_exports_with_dynamic_sizes(small):
    x = image(64, 96)
    # DYNAMIC, unlike AUTO, raises where an axis is found to be fixed. Sizes of one pixel on the
    # smallest map are another graph to PyTorch, which specialises 0 and 1.
    shapes = ({0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC},)
    exported = torch.export.export(small, (x,), dynamic_shapes=shapes).module()
    for size in [(64, 96), *odd_sizes(small)]:
        for batch in (1, 3):
            x = image(*size, batch)
            assert torch.allclose(exported(x), small(x), rtol=1e-5, atol=1e-5)


def test_named_sizes_export_in_steps(network):
    """The rule of sizes that segspec states is what PyTorch's exporter finds."""
    net = network("unet_upsample", "torch")(in_channels=1, num_classes=2, width=4).eval()
    height, width = Dim("h", min=2, max=64), Dim("w", min=2, max=64)
    shapes = ({2: 16 * height, 3: 16 * width},)
    exported = torch.export.export(net, (image(64, 96),), dynamic_shapes=shapes).module()
    x = image(48, 80)
    assert torch.allclose(exported(x), net(x), rtol=1e-5, atol=1e-5)


def test_mixed_precision(small):
    x = image(64, 48)
    expected = small(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = small(x)
    assert found.dtype == torch.bfloat16
    assert (found - expected).norm() < 0.1 * expected.norm()
    small.train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = sum(output.square().mean() for output in listed(small(x)))
    loss.backward()
    assert all(parameter.grad.isfinite().all() for parameter in small.parameters())


def test_double_precision(small):
    x = image(33, 49) if type(small).__name__ != "UNetUpsample" else image(48, 80)
    expected = small(x)
    found = small.double()(x.double())
    assert found.dtype == torch.float64
    assert (found - expected).norm() < 1e-4 * expected.norm()


def test_channels_last(small):
    x = image(64, 48)
    expected = small(x)
    found = small.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    assert torch.allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_trains(small):
    """Every parameter has a gradient, and steps lower the loss."""
    x = image(32, 48)
    target = (x[:, 0] > 0).long()
    optimizer = torch.optim.Adam(small.parameters(), lr=3e-4)
    small.train()
    losses = []
    for _ in range(6):
        torch.manual_seed(0)  # dropout draws the same masks at every step
        loss = sum(F.cross_entropy(output, target) for output in listed(small(x)))
        optimizer.zero_grad()
        loss.backward()
        assert all(parameter.grad is not None for parameter in small.parameters())
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]


def test_starts_as_the_spec_says(small):
    """He's normal distribution by fan-out for every convolution; zeros and ones elsewhere."""
    fresh = type(small)(**SMALL)
    for item in fresh.modules():
        if isinstance(item, nn.Conv2d | nn.ConvTranspose2d):
            fan_out = item.weight.shape[0] * item.weight[0, 0].numel()
            if item.weight.numel() > 10_000:
                assert float(item.weight.detach().std()) == pytest.approx(math.sqrt(2 / fan_out), rel=0.05)
                assert abs(float(item.weight.detach().mean())) < 0.05 * math.sqrt(2 / fan_out)
            assert item.bias is None or not item.bias.any()
        elif isinstance(item, nn.BatchNorm2d):
            assert bool((item.weight == 1).all())
            assert not item.bias.any()


@pytest.mark.parametrize("size", [(5, 9), (7, 4), (4, 8), (6, 7), (9, 3)])
def test_pad_to_centres(module, size):
    """Each axis by its own difference d: ⌊d / 2⌋ before and the rest after, negative ones cut."""
    x = torch.arange(1.0, 43.0).reshape(1, 1, 6, 7)
    expected = torch.zeros(1, 1, *size)
    top, left = (size[0] - 6) // 2, (size[1] - 7) // 2
    for row in range(size[0]):
        for column in range(size[1]):
            if 0 <= row - top < 6 and 0 <= column - left < 7:
                expected[0, 0, row, column] = x[0, 0, row - top, column - left]
    assert torch.equal(module("unet", "torch").pad_to(x, size), expected)


def test_blocks_are_of_use_by_themselves(module):
    """Every class of a generated module can be built and run alone."""
    unet = module("unet", "torch")
    up = unet.UpStage(8, 6, 5)
    assert up(torch.randn(2, 8, 4, 5), torch.randn(2, 6, 9, 7)).shape == (2, 5, 9, 7)
    assert unet.DoubleConv(3, 4, kernel_size=1)(torch.randn(2, 3, 5, 6)).shape == (2, 4, 5, 6)
    deeplab = module("deeplabv3", "torch", "torchvision", auxiliary=True)
    block = deeplab.ProjectionBottleneck(6, 2, stride=2)
    assert block(torch.randn(2, 6, 7, 9)).shape == (2, 8, 4, 5)
    assert deeplab.ASPP(8, 4)(torch.randn(2, 8, 5, 6)).shape == (2, 4, 5, 6)


@pytest.mark.parametrize(
    ("name", "preset", "settings"),
    [
        ("resnet", "", {}),
        ("resnet", "", {"output_stride": 8}),
        ("deeplabv3", "", {}),
        ("deeplabv3", "torchvision", {"auxiliary": True}),
        ("deeplabv3", "extra_stages", {}),
    ],
)
def test_every_classes_defaults_are_of_use(module, name, preset, settings):
    """A class that needs no argument is one that runs without: its defaults fit its structure."""
    found = module(name, "torch", preset, **settings)
    classes = [item for item in vars(found).values() if isinstance(item, type)]
    ready = [
        item
        for item in classes
        if issubclass(item, nn.Module)
        and all(p.default is not p.empty for p in inspect.signature(item).parameters.values())
    ]
    assert ready
    for item in ready:
        with torch.device("meta"):
            made = item()
        with torch.no_grad():
            returned = listed(made.to_empty(device="cpu")(image(32, 48, channels=3)))
        assert returned[0].shape[0] == 2, item.__name__
