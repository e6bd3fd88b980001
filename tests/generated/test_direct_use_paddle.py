"""Generated Paddle modules do what users of Paddle do with a layer."""

from __future__ import annotations

import copy
import inspect
import math
import pickle

import numpy as np
import pytest

paddle = pytest.importorskip("paddle")

import paddle.nn.functional as F  # noqa: E402
from paddle import Tensor, nn  # noqa: E402
from paddle.static import InputSpec  # noqa: E402

pytestmark = [
    pytest.mark.paddle,
    pytest.mark.filterwarnings("ignore:When training, we now always track:UserWarning"),
]

NETWORKS = {
    "unet": ("", {}, {"width": 4}),
    "unet_upsample": ("", {}, {"width": 4}),
    "deeplabv3": ("torchvision", {"auxiliary": True}, {"channels": 16}),
}
SMALL = {"in_channels": 1, "num_classes": 2}
ANY_SIZE = [InputSpec([None, 1, None, None], "float32", "image")]


@pytest.fixture(params=NETWORKS)
def small(request, network):
    """A small instance of each network, in evaluation mode, its statistics not those of a start."""
    preset, settings, arguments = NETWORKS[request.param]
    paddle.seed(0)
    made = network(request.param, "paddle", preset, **settings)(**SMALL, **arguments)
    with paddle.no_grad():
        made(image(32, 48))
    made.eval()
    return made


def image(height: int, width: int, batch: int = 2, channels: int = 1) -> Tensor:
    draw = np.random.default_rng(height * 1000 + width)
    return paddle.to_tensor(draw.standard_normal((batch, channels, height, width), "float32"))


def listed(returned: Tensor | tuple[Tensor, ...]) -> list[Tensor]:
    return [returned] if isinstance(returned, Tensor) else list(returned)


def odd_sizes(layer: nn.Layer) -> list[tuple[int, int]]:
    """Sizes unlike 32×48 that the network takes."""
    divisible = type(layer).__name__ == "UNetUpsample"
    return [(48, 80), (16, 32)] if divisible else [(33, 49), (57, 71), (16, 17)]


def same(one: Tensor, other: Tensor) -> bool:
    return np.array_equal(one.numpy(), other.numpy())


def trainable(layer: nn.Layer) -> list[Tensor]:
    return [tensor for tensor in layer.parameters() if not tensor.stop_gradient]


def test_the_first_exported_name_is_the_networks_class(module):
    for name, expected in [("unet", "UNet"), ("unet_upsample", "UNetUpsample")]:
        found = module(name, "paddle")
        assert found.__all__[0] == expected
        assert issubclass(getattr(found, expected), nn.Layer)
    assert module("deeplabv3", "paddle").__all__[0] == "DeepLabV3"
    assert module("resnet", "paddle", depth=101).__all__[0] == "ResNet101"


def test_arguments_are_named_typed_and_ordered(network):
    unet = network("unet", "paddle")
    signature = inspect.signature(unet.__init__, eval_str=True)
    found = [(item.name, item.annotation, item.default) for item in signature.parameters.values()]
    assert found[1:] == [("in_channels", int, 3), ("num_classes", int, 59), ("width", int, 64)]
    by_name = unet(in_channels=1, num_classes=2, width=16)
    by_place = unet(1, 2, 16)
    state = by_name.state_dict()
    assert {key: tensor.shape for key, tensor in state.items()} == {
        key: tensor.shape for key, tensor in by_place.state_dict().items()
    }
    assert by_place.set_state_dict(state) == ([], [])
    by_name.eval()
    by_place.eval()
    x = image(37, 53)
    assert by_name(x).shape == [2, 2, 37, 53]
    assert same(by_name(x), by_place(x))
    assert same(by_name(image=x), by_name(x))


@pytest.mark.parametrize(
    ("name", "preset", "settings", "count"),
    [
        ("unet", "", {}, 18_464_379),
        ("unet_upsample", "", {}, 34_527_041),
        ("deeplabv3", "torchvision", {"auxiliary": True}, 42_004_074),
    ],
)
def test_published_parameter_counts(network, name, preset, settings, count):
    layer = network(name, "paddle", preset, **settings)()
    assert sum(math.prod(tensor.shape) for tensor in trainable(layer)) == count


def test_settings_become_the_arguments_defaults(network):
    by_setting = network("unet", "paddle", num_classes=3, width=8)()
    by_argument = network("unet", "paddle")(num_classes=3, width=8)
    assert str(by_setting) == str(by_argument)


def test_any_batch_and_size(small):
    for size in odd_sizes(small):
        for batch in (1, 3):
            with paddle.no_grad():
                assert small(image(*size, batch)).shape == [batch, 2, *size]


def test_the_auxiliary_output_is_for_training(small):
    x = image(32, 48)
    assert isinstance(small(x), Tensor)
    small.train()
    returned = small(x)
    if hasattr(small, "aux_head"):
        assert isinstance(returned, tuple)
        assert [output.shape for output in returned] == [[2, 2, 32, 48]] * 2
    else:
        assert isinstance(returned, Tensor)
    small.eval()
    assert isinstance(small(x), Tensor)


def test_deep_copy_is_independent(small):
    twin = copy.deepcopy(small)
    x = image(32, 48)
    expected = small(x)
    assert same(twin(x), expected)
    with paddle.no_grad():
        for parameter in trainable(twin):
            parameter.set_value(parameter + 1)
        twin.train()
        twin(x)
    assert same(small(x), expected)


def test_pickles(small):
    again = pickle.loads(pickle.dumps(small))
    x = image(32, 48)
    assert type(again) is type(small)
    assert not again.training
    assert same(again(x), small(x))


def test_checkpoints_load_completely(small, tmp_path):
    paddle.save(small.state_dict(), str(tmp_path / "small.pdparams"))
    other = copy.deepcopy(small)
    with paddle.no_grad():
        for parameter in trainable(other):
            nn.init.normal_(parameter)
    assert other.set_state_dict(paddle.load(str(tmp_path / "small.pdparams"))) == ([], [])
    x = image(32, 48)
    assert same(other(x), small(x))


def test_becomes_static(small):
    static = paddle.jit.to_static(copy.deepcopy(small), input_spec=ANY_SIZE, full_graph=True)
    static.eval()
    for size in odd_sizes(small):
        x = image(*size)
        assert np.allclose(static(x).numpy(), small(x).numpy(), rtol=1e-5, atol=1e-5)


def test_trains_when_static(small):
    twin = copy.deepcopy(small)
    for layer in [*small.sublayers(), *twin.sublayers()]:
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
    static = paddle.jit.to_static(twin, full_graph=True)
    small.train()
    static.train()
    x = image(32, 48)
    expected, found = listed(small(x)), listed(static(x))
    assert len(found) == len(expected)
    for one, other in zip(expected, found, strict=True):
        assert np.allclose(one.numpy(), other.numpy(), rtol=1e-3, atol=1e-4)
    sum(output.sum() for output in found).backward()
    assert all(parameter.grad is not None for parameter in trainable(static))


def test_saves_and_loads_for_any_size(small, tmp_path):
    paddle.jit.save(small, str(tmp_path / "small"), input_spec=ANY_SIZE)
    loaded = paddle.jit.load(str(tmp_path / "small"))
    loaded.eval()
    for size in [(32, 48), *odd_sizes(small)]:
        for batch in (1, 3):
            x = image(*size, batch)
            assert np.allclose(loaded(x).numpy(), small(x).numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore:amp_guard can only be enabled:UserWarning")
@pytest.mark.parametrize("level", ["O1", "O2"])
def test_mixed_precision(small, level):
    """On a processor Paddle's ``auto_cast`` changes nothing; the code must still run under it."""
    small.train()
    with paddle.amp.auto_cast(level=level, dtype="bfloat16"):
        loss = sum(output.astype("float32").square().mean() for output in listed(small(image(32, 48))))
    loss.backward()
    assert all(np.isfinite(parameter.grad.numpy()).all() for parameter in trainable(small))


def test_double_precision(small):
    x = image(48, 80)
    expected = small(x).numpy()
    small.to(dtype="float64")
    found = small(x.astype("float64"))
    assert found.dtype == paddle.float64
    assert np.linalg.norm(found.numpy() - expected) < 1e-4 * np.linalg.norm(expected)


def test_trains(small):
    """Every parameter has a gradient, and steps lower the loss."""
    x = image(32, 48)
    target = (x[:, 0] > 0).astype("int64")
    optimizer = paddle.optimizer.Adam(3e-4, parameters=small.parameters())
    small.train()
    losses = []
    for _ in range(6):
        paddle.seed(0)  # dropout draws the same masks at every step
        loss = sum(F.cross_entropy(output, target, axis=1) for output in listed(small(x)))
        optimizer.clear_grad()
        loss.backward()
        assert all(parameter.grad is not None for parameter in trainable(small))
        optimizer.step()
        losses.append(float(loss))
    assert losses[-1] < losses[0]


def test_starts_as_the_spec_says(small):
    """He's normal distribution by fan-out for every convolution; zeros and ones elsewhere."""
    fresh = type(small)(**SMALL)
    for layer in fresh.sublayers():
        if isinstance(layer, nn.Conv2D | nn.Conv2DTranspose):
            weight = layer.weight.numpy()
            std = math.sqrt(2 / (weight.shape[0] * weight[0, 0].size))
            if weight.size > 10_000:
                assert float(weight.std()) == pytest.approx(std, rel=0.05)
                assert abs(float(weight.mean())) < 0.05 * std
            assert layer.bias is None or not layer.bias.numpy().any()
        elif isinstance(layer, nn.BatchNorm2D):
            assert (layer.weight.numpy() == 1).all()
            assert not layer.bias.numpy().any()


@pytest.mark.parametrize("size", [(5, 9), (7, 4), (4, 8), (6, 7), (9, 3)])
def test_pad_to_centres(module, size):
    """Each axis by its own difference d: ⌊d / 2⌋ before and the rest after, negative ones cut."""
    x = np.arange(1.0, 43.0, dtype="float32").reshape(6, 7)
    expected = np.zeros(size, "float32")
    top, left = (size[0] - 6) // 2, (size[1] - 7) // 2
    for row in range(size[0]):
        for column in range(size[1]):
            if 0 <= row - top < 6 and 0 <= column - left < 7:
                expected[row, column] = x[row - top, column - left]
    found = module("unet", "paddle").pad_to(paddle.to_tensor(x)[None, None], size)
    assert np.array_equal(found.numpy()[0, 0], expected)


def test_blocks_are_of_use_by_themselves(module):
    """Every class of a generated module can be built and run alone."""
    unet = module("unet", "paddle")
    up = unet.UpStage(8, 6, 5)
    assert up(paddle.randn([2, 8, 4, 5]), paddle.randn([2, 6, 9, 7])).shape == [2, 5, 9, 7]
    assert unet.DoubleConv(3, 4, kernel_size=1)(paddle.randn([2, 3, 5, 6])).shape == [2, 4, 5, 6]
    deeplab = module("deeplabv3", "paddle", "torchvision", auxiliary=True)
    block = deeplab.ProjectionBottleneck(6, 2, stride=2)
    assert block(paddle.randn([2, 6, 7, 9])).shape == [2, 8, 4, 5]
    assert deeplab.ASPP(8, 4)(paddle.randn([2, 8, 5, 6])).shape == [2, 4, 5, 6]


@pytest.mark.parametrize(
    ("name", "settings", "arguments", "inputs"),
    [
        ("dense_crf", {"num_classes": 3, "window": 3, "iterations": 1}, {}, 2),
        ("segnet", {}, {"width": 2, "num_classes": 3}, 1),
    ],
)
def test_what_rearranges_and_unpools_exports_with_any_size(network, tmp_path, name, settings, arguments, inputs):
    made = network(name, "paddle", **settings)(**arguments)
    made.eval()
    specs = [InputSpec([None, 3, None, None], "float32") for _ in range(inputs)]
    paddle.jit.save(paddle.jit.to_static(made, input_spec=specs, full_graph=True), str(tmp_path / "saved"))
    loaded = paddle.jit.load(str(tmp_path / "saved"))
    loaded.eval()
    for height, width, batch in ((32, 48, 2), (37, 41, 1)):
        given = [image(height, width, batch, channels=3) for _ in range(inputs)]
        assert np.allclose(loaded(*given).numpy(), made(*given).numpy(), rtol=1e-4, atol=1e-5)
