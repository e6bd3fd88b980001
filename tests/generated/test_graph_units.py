"""Graph units, the dense CRF and SegNet equal their equations, written out naively here, in float64."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from types import ModuleType
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from test_references import LIMIT, build, hold_together, image, randomise, relative  # noqa: E402
from torch import Tensor, nn  # noqa: E402

pytestmark = pytest.mark.torch


@pytest.fixture(autouse=True)
def double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


def drawn(unit: nn.Module) -> nn.Module:
    randomise(unit)
    with torch.no_grad():
        for name, tensor in unit.named_parameters(recurse=False):
            tensor.copy_(torch.randn(tensor.shape, generator=torch.Generator().manual_seed(len(name))))
    return unit.eval()


def count(unit: nn.Module) -> int:
    return sum(parameter.numel() for parameter in unit.parameters())


# --- GloRe ---------------------------------------------------------------------------------------


def glore(unit: Any, x: Tensor) -> Tensor:
    """V = X Bᵀ, Z = W₂ relu(W₁ V + V), Y = Z B: matrices of states, nodes and pixels."""
    n, _, h, w = x.shape
    states, assignment = unit.conv_state(x).flatten(2), unit.conv_proj(x).flatten(2)
    v = torch.matmul(states, assignment.transpose(1, 2))
    mixed = unit.gcn.conv1(v.transpose(1, 2)).transpose(1, 2)
    z = unit.gcn.conv2(F.relu(mixed + v))
    y = torch.matmul(z, assignment).reshape(n, -1, h, w)
    extended: Tensor = x + unit.blocker(unit.conv_extend(y))
    return extended


def test_the_glore_unit(module: Callable[..., ModuleType]) -> None:
    assert count(module("glore", "torch").GloReUnit(512, 256, 128)) == 411_136
    unit = drawn(module("glore", "torch").GloReUnit(6, 4, 3))
    x = torch.randn(2, 6, 5, 7)
    assert relative(glore(unit, x).detach(), unit(x)) <= LIMIT
    assert unit.blocker.eps == 1e-4


def test_the_glore_unit_starts_as_the_identity(network: Callable[..., type]) -> None:
    unit = network("glore", "torch")(num_classes=3, channels=8, states=4, nodes=3).glore.eval()
    x = torch.randn(2, 8, 5, 5)
    assert torch.equal(unit(x), x)


# --- Beyond Grids ----------------------------------------------------------------------------------


def gcu(unit: Any, x: Tensor) -> Tensor:
    """The paper's equations (1) to (5) with every difference written out."""
    sigma = torch.sigmoid(unit.scales)[None, :, :, None, None]
    difference = (x[:, None] - unit.centres[None, :, :, None, None]) / sigma
    assignment = torch.softmax(-(difference**2).sum(2) / 2, 1)
    z = (assignment[:, :, None] * difference).sum((3, 4)) / assignment.sum((2, 3))[..., None]
    z = z / z.norm(dim=2, keepdim=True)
    adjacency = z @ z.transpose(1, 2)
    vertices = F.relu(adjacency @ z @ unit.weight.weight.T)
    return torch.einsum("nkhw,nkd->ndhw", assignment, vertices)


def test_the_graph_convolutional_unit(module: Callable[..., ModuleType]) -> None:
    assert count(module("gcu", "torch").GCU(512, 32, 256)) == 163_840
    unit = drawn(module("gcu", "torch").GCU(4, 3, 5))
    x = torch.randn(2, 4, 5, 7)
    assert relative(gcu(unit, x), unit(x)) <= LIMIT
    assert (unit(x) > 0).any()


def test_a_vertex_that_no_pixel_is_near_does_no_harm(module: Callable[..., ModuleType]) -> None:
    unit = drawn(module("gcu", "torch").GCU(4, 3, 5))
    with torch.no_grad():
        unit.centres[0] += 1_000
    assert unit(torch.randn(1, 4, 5, 7)).isfinite().all()


# --- GINet -----------------------------------------------------------------------------------------


def interaction(unit: Any, x: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
    """The unit with matrices, the semantic graph repeated for every image."""
    n, _, h, w = x.shape
    words = words.expand(n, -1, -1)
    theta = unit.conv_theta(x).flatten(2)
    visual = torch.bmm(theta, unit.conv_phi(x).flatten(2).transpose(1, 2)).transpose(1, 2) / (h * w)

    def reason(layer: Any, graph: Tensor) -> Tensor:
        mixed = layer.conv1(graph.transpose(1, 2)).transpose(1, 2)
        found: Tensor = layer.conv2(F.relu(mixed + graph))
        return found

    words, visual = reason(unit.word_gcn, words), reason(unit.vis_gcn, visual)
    inner = unit.interaction
    energy = torch.bmm(inner.query(words).transpose(1, 2), inner.key(visual))
    semantic = torch.bmm(inner.visual_value(visual), torch.softmax(energy, -1).transpose(1, 2))
    semantic = inner.semantic_scale * words + semantic
    seen = torch.bmm(inner.semantic_value(words), torch.softmax(energy, -2))
    nodes = inner.visual_scale * seen + visual
    y = torch.bmm(theta.transpose(1, 2), nodes.transpose(1, 2)).transpose(1, 2).reshape(n, -1, h, w)
    return unit.bn(unit.extend_dim(y)) + x, semantic


def test_the_graph_interaction_unit(module: Callable[..., ModuleType]) -> None:
    unit = drawn(module("ginet", "torch").GIUnit(6, 4, 3, 5))
    drawn(unit.interaction)
    x, words = torch.randn(2, 6, 5, 7), torch.randn(1, 4, 5)
    for expected, found in zip(interaction(unit, x, words), unit(x, words), strict=True):
        assert relative(expected, found) <= LIMIT


def test_the_embeddings_are_a_buffer_of_the_checkpoint(network: Callable[..., type]) -> None:
    ginet = network("ginet", "torch")(num_classes=4, channels=8, states=4, nodes=3)
    assert "embeddings" in ginet.state_dict()
    assert "embeddings" not in dict(ginet.named_parameters())
    assert ginet.embeddings.std() > 0.5
    logits, classes, _ = ginet(torch.randn(2, 3, 64, 64))
    assert classes.shape == (2, 4)
    ginet.embeddings.copy_(torch.randn_like(ginet.embeddings))
    assert not torch.equal(classes, ginet(torch.randn(2, 3, 64, 64))[1])
    assert logits.shape == (2, 4, 64, 64)


# --- the dense CRF -----------------------------------------------------------------------------------


def mean_field(picture: Tensor, scores: Tensor, window: int | None, steps: int = 5) -> Tensor:
    """Algorithm 1 of Krähenbühl and Koltun for one image, pixel by pixel, with the defaults' weights and widths."""
    _, h, w = picture.shape
    pixels = [(y, x) for y in range(h) for x in range(w)]
    q = torch.softmax(scores, 0)
    for _ in range(steps):
        energy = torch.zeros_like(scores)
        for y, x in pixels:
            heard, weights = [torch.zeros(len(scores)) for _ in range(2)], [0.0, 0.0]
            for v, u in pixels:
                near = window is None or max(abs(v - y), abs(u - x)) <= window // 2
                if (v, u) == (y, x) or not near:
                    continue
                place = float((v - y) ** 2 + (u - x) ** 2)
                colour = float(((picture[:, v, u] - picture[:, y, x]) ** 2).sum())
                exponents = torch.tensor([-place / (2 * 67**2) - colour / (2 * 3**2), -place / (2 * 3**2)])
                for index, kernel in enumerate(torch.exp(exponents)):
                    heard[index] += kernel * q[:, v, u]
                    weights[index] += float(kernel)
            message = 4 * heard[0] / (weights[0] + 1e-20) + 3 * heard[1] / (weights[1] + 1e-20)
            energy[:, y, x] = -scores[:, y, x] + (message.sum() - message)
        q = torch.softmax(-energy, 0)
    return q


@pytest.mark.parametrize("contrast", [4, 60])
@pytest.mark.parametrize(("preset", "window"), [("", 7), ("exact", None)])
def test_the_dense_crf_is_mean_field_inference(
    network: Callable[..., type], preset: str, window: int | None, contrast: int
) -> None:
    picture, scores = contrast * torch.randn(1, 3, 6, 9), torch.randn(1, 3, 6, 9)
    crf = network("dense_crf", "torch", preset, num_classes=3)()
    found = crf(picture, scores)
    assert relative(mean_field(picture[0], scores[0], window), found[0]) <= LIMIT
    assert relative(found, torch.softmax(scores, 1)) > 0.1


@pytest.mark.parametrize("preset", ["", "exact"])
def test_a_pixel_unlike_all_others_hears_nothing(network: Callable[..., type], preset: str) -> None:
    """Colours as of photographs: kernels vanish, what is left of them is still divided by its own sum."""
    crf = network("dense_crf", "torch", preset, num_classes=3, window=5)()
    picture, scores = 255 * torch.rand(1, 3, 12, 9), torch.randn(1, 3, 12, 9)
    picture[..., 3:, 4:] = picture[..., :1, :1] + torch.randn(1, 3, 9, 5)
    found = crf(picture, scores)
    assert found.isfinite().all()
    assert relative(found, crf.float()(picture.float(), scores.float()).double()) < 1e-4


def test_a_width_or_weight_of_one_is_as_good_as_any(network: Callable[..., type]) -> None:
    crf = network("dense_crf", "torch", num_classes=3, appearance=1, smoothness=1, near_width=1, colour_width=1)()
    assert crf(torch.randn(1, 3, 6, 5), torch.randn(1, 3, 6, 5)).isfinite().all()


def test_a_window_of_the_whole_image_is_the_exact_crf(network: Callable[..., type]) -> None:
    picture, scores = 4 * torch.randn(2, 3, 5, 7), torch.randn(2, 4, 5, 7)
    exact = network("dense_crf", "torch", "exact", num_classes=4)()(picture, scores)
    assert relative(exact, network("dense_crf", "torch", num_classes=4, window=13)()(picture, scores)) <= LIMIT
    assert relative(exact, network("dense_crf", "torch", num_classes=4, window=3)()(picture, scores)) > 1e-3


# --- SegNet ------------------------------------------------------------------------------------------


class SegNet(nn.Module):
    """The published stages, indices handed over by hand."""

    def __init__(self, width: int, classes: int, second: int) -> None:
        super().__init__()
        widths = [width, 2 * width, 4 * width, 8 * width, 8 * width]
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        inside = 3
        for times, outside in zip([2, 2, 3, 3, 3], widths, strict=True):
            self.encoder.append(self.stage([inside] + [outside] * times))
            inside = outside
        for index, times in ((4, 3), (3, 3), (2, 3), (1, second)):
            self.decoder.append(self.stage([widths[index]] * times + [widths[index - 1]]))
        self.decoder.append(nn.Sequential(self.stage([width, width]), nn.Conv2d(width, classes, 3, padding=1)))

    def stage(self, channels: list[int]) -> nn.Sequential:
        layers: list[nn.Module] = []
        for inside, outside in pairwise(channels):
            layers += [nn.Conv2d(inside, outside, 3, padding=1), nn.BatchNorm2d(outside), nn.ReLU()]
        return nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        kept = []
        for stage in self.encoder:
            x = stage(x)
            size = x.shape
            x, indices = F.max_pool2d(x, 2, return_indices=True)
            kept.append((indices, size))
        for stage in self.decoder:
            indices, size = kept.pop()
            x = stage(F.max_unpool2d(x, indices, 2, output_size=size[2:]))
        return x


@pytest.mark.parametrize(("preset", "second"), [("", 2), ("paddleseg", 3)])
def test_segnet(network: Callable[..., type], monkeypatch: pytest.MonkeyPatch, preset: str, second: int) -> None:
    theirs = build(lambda: SegNet(4, 5, second))
    ours = build(lambda: network("segnet", "torch", preset)(num_classes=5, width=4))
    monkeypatch.setitem(hold_together.__globals__, "image", lambda h, w: image(max(h, 32), max(w, 32)))
    hold_together(theirs, ours, [(64, 64), (65, 47)], [(64, 96)])
