"""The layers that ``--exact-running-stats`` writes for Paddle: the canonical statistics, all else as Paddle's own."""

from __future__ import annotations

import copy
import importlib.util
import pickle
import sys
from contextlib import redirect_stdout
from io import StringIO

import numpy as np
import pytest

from segspec.cli import main

paddle = pytest.importorskip("paddle")

from paddle import nn  # noqa: E402
from paddle.static import InputSpec  # noqa: E402

pytestmark = [
    pytest.mark.paddle,
    pytest.mark.filterwarnings("ignore:When training, we now always track:UserWarning"),
]

SPEC = """segspec: 1
name: exact
inputs: {image: {channels: 3}}
nodes:
  conv: {op: conv2d, out_channels: 7, kernel_size: 3, padding: 1}
  norm: {op: batch_norm2d}
  act: {op: relu}
  more: {op: batch_norm2d, momentum: 0.03, affine: false}
  again: {apply: norm}
  frozen: {op: batch_norm2d, frozen: true}
  pooled: {op: mean, dim: [-1]}
  along: {op: batch_norm1d}
outputs: [along]
"""
CHANNELS = 7  # 1/7 is in no float
SHAPES = {"2D": (3, CHANNELS, 5, 6), "1D": (9, CHANNELS), "1D along": (3, CHANNELS, 4)}
DTYPES = {"float64": 1e-14, "float32": 2e-6}


@pytest.fixture(scope="module")
def module(tmp_path_factory):
    """The module as it is generated."""
    folder = tmp_path_factory.mktemp("exact")
    (folder / "exact.yaml").write_text(SPEC, encoding="utf-8")
    command = ["generate", str(folder / "exact.yaml"), "--backend", "paddle", "--exact-running-stats"]
    with redirect_stdout(StringIO()):
        assert main([*command, "-o", str(folder)]) == 0
    spec = importlib.util.spec_from_file_location("exact_statistics", folder / "paddle" / "exact.py")
    made = sys.modules["exact_statistics"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


@pytest.fixture(params=DTYPES)
def dtype(request):
    before = paddle.get_default_dtype()
    paddle.set_default_dtype(request.param)
    yield request.param
    paddle.set_default_dtype(before)


@pytest.fixture
def double():
    before = paddle.get_default_dtype()
    paddle.set_default_dtype("float64")
    yield
    paddle.set_default_dtype(before)


@pytest.fixture(params=SHAPES)
def shape(request):
    return SHAPES[request.param]


def kinds(module, shape):
    """The exact layer's class and Paddle's own."""
    axes = "2D" if len(shape) == 4 else "1D"
    return getattr(module, f"UnbiasedBatchNorm{axes}"), getattr(nn, f"BatchNorm{axes}")


def draw(shape, dtype="float64", seed=0):
    return (np.random.default_rng(seed).standard_normal(shape) * 3 + 2).astype(dtype)


def canonical(shape, momentum, steps):
    """The statistics after some steps, by PyTorch's rule, in float64."""
    mean, variance = np.zeros(CHANNELS), np.ones(CHANNELS)
    for x in steps:
        values = np.moveaxis(x.astype("float64"), 1, 0).reshape(CHANNELS, -1)
        mean = (1 - momentum) * mean + momentum * values.mean(1)
        variance = (1 - momentum) * variance + momentum * values.var(1, ddof=1)
    return mean, variance


def distance(found, expected):
    return float(np.linalg.norm(found.numpy() - expected) / (np.linalg.norm(expected) or 1))


def static(layer, shape, dtype, how):
    """The layer as a static graph of this shape, or of any."""
    sizes = list(shape) if how == "fixed" else [None, CHANNELS, *[None] * (len(shape) - 2)]
    return paddle.jit.to_static(layer, input_spec=[InputSpec(sizes, dtype, "x")], full_graph=True)


@pytest.mark.parametrize("how", ["dynamic", "fixed", "of any size"])
@pytest.mark.parametrize("momentum", [0.1, 0.03, 1, 0])
def test_statistics_are_the_canonical_ones(module, shape, dtype, momentum, how):
    made, _ = kinds(module, shape)
    layer = made(CHANNELS, momentum=1 - momentum)
    called = layer if how == "dynamic" else static(layer, shape, dtype, how)
    steps = [draw(shape, dtype, seed) for seed in range(4)]
    for x in steps:
        called(paddle.to_tensor(x))
    for found, expected in zip((layer._mean, layer._variance), canonical(shape, momentum, steps), strict=True):
        assert found.stop_gradient
        assert distance(found, expected) <= DTYPES[dtype]


def test_paddles_own_are_far_from_them(module, shape, double):
    """So that the test above shows something."""
    layer = kinds(module, shape)[1](CHANNELS)
    x = draw(shape)
    layer(paddle.to_tensor(x))
    mean, variance = canonical(shape, 0.1, [x])
    assert distance(layer._mean, mean) > 1e-8
    assert distance(layer._variance, variance) > 1e-3


@pytest.mark.parametrize("how", ["dynamic", "of any size"])
def test_outputs_and_gradients_are_those_of_paddles_own(module, shape, double, how):
    """Also where a layer is applied twice before the gradient is taken."""
    found = []
    for kind in kinds(module, shape):
        layer = kind(CHANNELS, momentum=0.97, epsilon=1e-3)
        layer.weight.set_value(draw([CHANNELS], seed=5))
        called = static(layer, shape, "float64", how) if how != "dynamic" else layer
        x = paddle.to_tensor(draw(shape), stop_gradient=False)
        y = called(called(x)) if how == "dynamic" else called(x)
        (y * paddle.to_tensor(draw(shape, seed=1))).sum().backward()
        found.append([y, x.grad, layer.weight.grad, layer.bias.grad])
    for one, other in zip(*found, strict=True):
        assert np.array_equal(one.numpy(), other.numpy())


@pytest.mark.parametrize("options", [{"use_global_stats": True}, {"weight_attr": False, "bias_attr": False}, {}])
@pytest.mark.parametrize("training", [True, False])
def test_where_nothing_is_averaged_nothing_changes(module, shape, double, options, training):
    found = []
    for kind in kinds(module, shape):
        layer = kind(CHANNELS, **options)
        layer._mean.set_value(draw([CHANNELS], seed=3))
        layer._variance.set_value(draw([CHANNELS], seed=4) ** 2)
        layer.train() if training else layer.eval()
        found.append([layer(paddle.to_tensor(draw(shape))).numpy(), layer._mean.numpy(), layer._variance.numpy()])
    assert np.array_equal(found[0][0], found[1][0])
    if options.get("use_global_stats") or not training:
        for mean, variance in ((held[1], held[2]) for held in found):
            assert np.array_equal(mean, draw([CHANNELS], seed=3))
            assert np.array_equal(variance, draw([CHANNELS], seed=4) ** 2)


@pytest.mark.parametrize("how", ["dynamic", "fixed", "of any size"])
@pytest.mark.parametrize("single", [(1, CHANNELS), (1, CHANNELS, 1), (1, CHANNELS, 1, 1)], ids=str)
def test_a_single_value_a_channel(module, double, single, how):
    """It has no variance: as in Paddle, it passes through and nothing is averaged."""
    for kind in kinds(module, single):
        layer = kind(CHANNELS)
        layer._mean.set_value(draw([CHANNELS], seed=3))
        called = layer if how == "dynamic" else static(layer, single, "float64", how)
        x = paddle.to_tensor(draw(single))
        assert np.array_equal(called(x).numpy(), x.numpy())
        assert np.array_equal(layer._mean.numpy(), draw([CHANNELS], seed=3))
        assert np.array_equal(layer._variance.numpy(), np.ones(CHANNELS))


def test_half_precision_is_averaged_in_single(module, monkeypatch):
    """CPUs have no kernel for it, so the normalisation itself is left out."""
    monkeypatch.setattr(module.F, "batch_norm", lambda x, *_, **__: x)
    layer = module.UnbiasedBatchNorm2D(CHANNELS)
    x = draw((4, CHANNELS, 150, 150), "float16")  # 90,000 values: float16 counts to 65,504
    assert layer(paddle.to_tensor(x)).dtype == paddle.float16
    for found, expected in zip((layer._mean, layer._variance), canonical(x.shape, 0.1, [x]), strict=True):
        assert found.dtype == paddle.float32
        assert distance(found, expected) <= DTYPES["float32"]


def test_mixed_precision_casts_no_average(module, monkeypatch):
    """Averages are taken where nothing is cast. `auto_cast` does nothing on a CPU, so its level is set by hand."""
    tracer, levels = paddle.base.framework._dygraph_tracer(), paddle.base.core.AmpLevel
    seen, where = [], paddle.where

    def watched(*arguments):
        seen.append(tracer._amp_level)
        return where(*arguments)

    monkeypatch.setattr(paddle, "where", watched)
    monkeypatch.setattr(tracer, "_amp_dtype", "bfloat16")
    monkeypatch.setattr(tracer, "_amp_level", levels.O2)
    module.UnbiasedBatchNorm2D(CHANNELS)(paddle.to_tensor(draw(SHAPES["2D"], "float32")))
    assert tracer._amp_level == levels.O2
    assert seen == [levels.O0, levels.O0]


def test_the_wrong_number_of_axes_is_an_error_in_training_too(module):
    for kind, wrong in (("1D", SHAPES["2D"]), ("2D", SHAPES["1D"])):
        layer = getattr(module, f"UnbiasedBatchNorm{kind}")(CHANNELS)
        with pytest.raises(ValueError, match="expected"):
            layer(paddle.to_tensor(draw(wrong, "float32")))


def test_large_maps_in_single_precision(module):
    """A million values a channel, far from zero: no further off than Paddle's own sums, which are its kernel's."""
    x = draw((4, 2, 512, 512), "float32") + 100
    values = np.moveaxis(x.astype("float64"), 1, 0).reshape(2, -1)
    errors = []
    for kind, ddof in zip(kinds(module, x.shape), (1, 0), strict=True):
        layer = kind(2, momentum=0.0)
        layer(paddle.to_tensor(x))
        errors.append((distance(layer._mean, values.mean(1)), distance(layer._variance, values.var(1, ddof=ddof))))
    for exact, own in zip(*errors, strict=True):
        assert exact <= max(2 * own, 2**-22)


# --- in a network --------------------------------------------------------------------------------------


@pytest.fixture
def network(module):
    paddle.seed(0)
    made = module.Exact()
    made(paddle.to_tensor(draw((2, 3, 8, 6), "float32")))
    return made


def test_keys_and_weights_are_those_of_the_plain_network(network, tmp_path):
    (tmp_path / "exact.yaml").write_text(SPEC, encoding="utf-8")
    with redirect_stdout(StringIO()):
        command = ["generate", str(tmp_path / "exact.yaml"), "--backend", "paddle", "-o", str(tmp_path)]
        assert main(command) == 0
    spec = importlib.util.spec_from_file_location("plain_statistics", tmp_path / "paddle" / "exact.py")
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    plain = made.Exact()
    assert list(plain.state_dict()) == list(network.state_dict())
    assert plain.set_state_dict(network.state_dict()) == ([], [])
    x = paddle.to_tensor(draw((2, 3, 8, 6), "float32", 9))
    plain.eval()
    network.eval()
    assert np.array_equal(plain(x).numpy(), network(x).numpy())
    assert network.set_state_dict(plain.state_dict()) == ([], [])


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_copies_go_on_alone(network, copied):
    twin = copied(network)
    x = paddle.to_tensor(draw((2, 3, 8, 6), "float32", 9))
    before = {key: value.numpy().copy() for key, value in network.state_dict().items()}
    twin(x)
    after = {key: value.numpy() for key, value in network.state_dict().items()}
    assert all(np.array_equal(before[key], after[key]) for key in before)
    network(x)
    for key, value in network.state_dict().items():
        assert np.array_equal(value.numpy(), twin.state_dict()[key].numpy())


def test_a_step_of_a_static_network_is_that_of_the_dynamic_one(network):
    twin = copy.deepcopy(network)
    called = paddle.jit.to_static(
        twin, input_spec=[InputSpec([None, 3, None, None], "float32", "image")], full_graph=True
    )
    for size in ((2, 3, 8, 6), (3, 3, 5, 9)):
        x = paddle.to_tensor(draw(size, "float32", 9))
        for made in (network, called):
            made(x).square().sum().backward()
    for key, value in network.state_dict().items():
        assert distance(twin.state_dict()[key], value.numpy()) <= 1e-6
    assert distance(twin.conv.weight.grad, network.conv.weight.grad.numpy()) <= 1e-4


def test_it_is_saved_for_inference(network, tmp_path):
    network.eval()
    paddle.jit.save(network, str(tmp_path / "net"), input_spec=[InputSpec([None, 3, None, None], "float32", "image")])
    x = paddle.to_tensor(draw((2, 3, 9, 7), "float32", 9))
    assert np.allclose(paddle.jit.load(str(tmp_path / "net"))(x).numpy(), network(x).numpy(), rtol=1e-5, atol=1e-6)


def test_the_derivative_of_leaky_relu_at_zero():
    """Docs say so; PyTorch's is the slope."""
    x = paddle.zeros([3])
    x.stop_gradient = False
    paddle.nn.functional.leaky_relu(x, 0.2).sum().backward()
    assert x.grad.tolist() == [1, 1, 1]
