"""Both frameworks in one process: a generated module run in one mode, with gradients, in float64.

Only tests may do so; ``segspec verify`` gives each framework a process of its own. What is taken of segspec is the
seeded weights and where each stands in a backend's state.
"""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from segspec.graph.model import Graph
from segspec.ops.laws import Point
from segspec.render.backend import backend
from segspec.weights import seeded
from segspec.weights.state import entries, placement

torch.set_num_threads(1)
paddle.device.set_device("cpu")


@dataclass(frozen=True)
class Result:
    """What one pass returned: outputs in order, and the gradients of inputs and parameters by name."""

    outputs: list[np.ndarray]
    gradients: dict[str, np.ndarray]


class Network:
    """A generated module of one backend, with weights drawn from their names."""

    def __init__(self, name: str, path: Path, graph: Graph) -> None:
        self.name = name
        self.path = path
        self.graph = graph
        self.state = placement(graph, backend(name))
        self.weights = {entry.name: seeded.weight(entry).astype("float64") for entry in entries(graph)}
        self.network = self._imported()
        self._check_starts()
        self.load(self.weights)

    def _imported(self) -> Any:
        """The module's network, as an import of its own makes it."""
        network = _exported(self.path)
        if self.name == "paddle":
            paddle.set_default_dtype("float64")
            return network()
        torch.set_default_dtype(torch.float64)
        made = network()
        for module in made.modules():
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                module.eps = float(np.float32(module.eps))  # as PaddlePaddle's: with small variances it shows
                module.register_forward_hook(_laid_out)
        return made

    def _check_starts(self) -> None:
        """Raise ``ValueError`` unless what starts with one value everywhere does."""
        held = {key: value.numpy() for key, value in self.network.state_dict().items()}
        keys = {item["name"]: item["key"] for item in self.state}
        for entry in entries(self.graph):
            found = held[keys[entry.name]]
            if isinstance(entry.law, Point) and not np.allclose(found, entry.law.value, rtol=1e-7, atol=0):
                raise ValueError(f"{entry.name} starts with {found}, and {entry.law.value} is declared")

    def reloaded(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """What the module computes in eval mode, imported anew and given the state of this one."""
        again = copy(self)
        again.network = self._imported()
        load = again.network.load_state_dict if self.name == "torch" else again.network.set_state_dict
        left = load(self.network.state_dict())
        if any(left):
            raise ValueError(f"the state does not fit: {left}")
        again.network.eval()
        return again.passed(inputs).outputs

    def load(self, weights: Mapping[str, np.ndarray]) -> None:
        """Set every parameter and statistic; ``ValueError`` unless the state has just these, in these shapes."""
        given = {
            item["key"]: weights[item["name"]].T if item["transposed"] else weights[item["name"]] for item in self.state
        }
        own = {key: tuple(value.shape) for key, value in self.network.state_dict().items() if "num_batches" not in key}
        if own != {key: value.shape for key, value in given.items()}:
            raise ValueError(f"the state is {own}, and not { ({key: value.shape for key, value in given.items()}) }")
        if self.name == "torch":
            held = {key: torch.from_numpy(value.copy()) for key, value in given.items()}
            self.network.load_state_dict(held, strict=False)
        else:
            self.network.set_state_dict(given)

    @property
    def parameters(self) -> int:
        """The number of trainable elements."""
        trains = (lambda item: item.requires_grad) if self.name == "torch" else lambda item: not item.stop_gradient
        return sum(math.prod(item.shape) for item in self.network.parameters() if trains(item))

    def run(self, inputs: Sequence[np.ndarray], *, train: bool, noise: Noise | None = None) -> Result:
        """One pass from the seeded state; with ``noise``, which PyTorch alone has, every result is disturbed."""
        self.load({key: noise.disturbed(value) for key, value in self.weights.items()} if noise else self.weights)
        self.network.train() if train else self.network.eval()
        for path, module in self._modules():
            if type(module).__name__.startswith("Dropout"):
                vars(module)["forward"] = _held(module, path)
        if noise:
            with noise:
                return self._torch([noise.disturbed(item) for item in inputs])
        return self.passed(inputs)

    def passed(self, inputs: Sequence[np.ndarray]) -> Result:
        """One pass with what state there is."""
        return self._torch(inputs) if self.name == "torch" else self._paddle(inputs)

    def _modules(self) -> Iterator[tuple[str, Any]]:
        return self.network.named_modules() if self.name == "torch" else self.network.named_sublayers()  # type: ignore[no-any-return]

    def _torch(self, inputs: Sequence[np.ndarray]) -> Result:
        tensors = [torch.from_numpy(item.copy()).requires_grad_() for item in inputs]
        outputs = _listed(self.network(*tensors))
        parts = [
            (output * torch.from_numpy(_cotangent(index, tuple(output.shape)))).sum()
            for index, output in enumerate(outputs)
            if output.is_floating_point()
        ]
        self.network.zero_grad()
        total = sum(parts)
        if isinstance(total, torch.Tensor) and total.requires_grad:
            total.backward()
        return self._result(outputs, tensors, lambda item: item.detach().numpy().copy())

    def _paddle(self, inputs: Sequence[np.ndarray]) -> Result:
        tensors = [paddle.to_tensor(item, stop_gradient=False) for item in inputs]
        outputs = _listed(self.network(*tensors))
        parts = [
            (output * paddle.to_tensor(_cotangent(index, tuple(output.shape)))).sum()
            for index, output in enumerate(outputs)
            if output.is_floating_point()
        ]
        self.network.clear_gradients()
        total = sum(parts)
        if isinstance(total, paddle.Tensor) and not total.stop_gradient:
            total.backward()
        return self._result(outputs, tensors, lambda item: item.numpy())

    def _result(self, outputs: list[Any], tensors: list[Any], array: Any) -> Result:
        found = {f"input {index}": tensor for index, tensor in enumerate(tensors)}
        named = dict(self.network.named_parameters())
        for item in self.state:
            if item["trainable"]:
                found[item["name"]] = named[item["key"]]
        transposed = {item["name"] for item in self.state if item["transposed"]}
        gradients = {}
        for name, tensor in found.items():
            # What nothing depends on has no gradient in one framework and zeros in the other.
            gradient = np.zeros(tuple(tensor.shape)) if tensor.grad is None else array(tensor.grad)
            gradients[name] = gradient.T if name in transposed else gradient
        return Result([array(output) for output in outputs], gradients)


def _laid_out(module: Any, inputs: Any, output: torch.Tensor) -> None:
    """Lay out what flows back into batch normalisation as the map itself is.

    PyTorch 2.13's gradient is wrong for one image where that comes with its channels last, as from a transposition.
    """
    if output.requires_grad:
        output.register_hook(lambda gradient: torch.empty(gradient.shape, dtype=gradient.dtype).copy_(gradient))


_softmax = paddle.nn.functional.softmax


def _unclipped(x: Any, axis: int = -1, dtype: Any = None, name: Any = None) -> Any:
    """PaddlePaddle's softmax, but where it returns exp(-64) for less: no code that calls it can mend that."""
    returned = _softmax(x, axis)
    if float(returned.min()) >= 1e-27:
        return returned
    powers = paddle.exp(x - x.max(axis, keepdim=True).detach())
    return powers / powers.sum(axis, keepdim=True)


paddle.nn.functional.softmax = _unclipped


CANCELLING = (torch.ops.aten.gelu, torch.ops.aten.gelu_backward, torch.ops.aten.silu_backward)
"""Functions that lose digits inside: 1 + tanh(x) far below zero; x + (1 − x) in PaddlePaddle's gradient of SiLU."""


_leaky_relu = paddle.nn.functional.leaky_relu


def _below(x: Any, negative_slope: float = 0.01, name: Any = None) -> Any:
    """PaddlePaddle's leaky ReLU, but with PyTorch's choice of a derivative at 0: that from below, and not 1."""
    if bool((x == 0).any()):
        return paddle.where(x > 0, x, negative_slope * x)
    return _leaky_relu(x, negative_slope)


paddle.nn.functional.leaky_relu = _below


_normalize = paddle.nn.functional.normalize


def _differentiated(x: Any, p: float = 2, axis: int = 1, **options: Any) -> Any:
    """PaddlePaddle's normalisation with the gradient that it has: its own adds 1e-12 to the norm, which may be less."""
    squares = (x * x).sum(axis, keepdim=True)
    norm = paddle.sqrt(paddle.where(squares > 0, squares, paddle.ones_like(squares))) * (squares > 0).astype(x.dtype)
    returned = x / norm.clip(1e-12)
    return returned + (_normalize(x, p, axis, **options) - returned).detach()


paddle.nn.functional.normalize = _differentiated


class Noise(TorchDispatchMode):
    """Every floating-point result times 1 + noise, of the ``forward`` pass too: what an unlucky rounding might do."""

    def __init__(self, seed: int, scale: float, *, forward: bool = True) -> None:
        super().__init__()
        self.forward = forward
        self.draw = np.random.default_rng(seed)
        self.scale = scale
        self.infinite = False  # whether anything on the way was

    def disturbed(self, value: np.ndarray) -> np.ndarray:
        """The values, each with its noise."""
        if not self.forward:
            return value
        return np.asarray(value * (1 + self.scale * self.draw.standard_normal(value.shape)))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        returned = func(*args, **(kwargs or {}))
        first = returned[0] if isinstance(returned, tuple) else returned
        # What aliases an input is a view of it, or the input itself, changed.
        fresh = isinstance(first, torch.Tensor) and func._schema.returns[0].alias_info is None
        # A maximum is not rounded, and its gradient looks for the elements that are equal to it.
        fresh = fresh and func.overloadpacket is not torch.ops.aten.amax
        if fresh and first.is_floating_point() and first.numel():
            self.infinite |= not bool(torch.isfinite(first).all())
            if not self.forward and torch._C._current_graph_task_id() < 0:
                return returned
            first.mul_(1 + self._drawn(first))
            if func.overloadpacket in CANCELLING:  # what is left of the difference of two that are as large as these
                first.add_(self._drawn(first) * args[0].abs() * (1 + args[-1].abs()))
        return returned

    def _drawn(self, like: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(np.asarray(self.scale * self.draw.standard_normal(tuple(like.shape))))


def _held(module: Any, path: str) -> Any:
    """A dropout's forward with a mask that follows from its path."""

    def forward(x: Any) -> Any:
        if not module.training or module.p == 0:
            return x
        shape = (
            (*x.shape[:2], *(1 for _ in x.shape[2:]))
            if type(module).__name__.lower().endswith("2d")
            else tuple(x.shape)
        )
        keep = np.asarray(seeded.generator(f"dropout {path}").random(shape) >= module.p)
        held = torch.from_numpy(keep) if isinstance(x, torch.Tensor) else paddle.to_tensor(keep)
        held = held.to(x.dtype) if isinstance(x, torch.Tensor) else held.astype(x.dtype)
        return x * held / ((1 - module.p) or 1)

    return forward


def _cotangent(index: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.asarray(seeded.generator(f"cotangent {index}").standard_normal(shape))


def _listed(returned: Any) -> list[Any]:
    return list(returned) if isinstance(returned, tuple | list) else [returned]


def _exported(path: Path) -> type:
    """The network's class of a generated module: the first name that it exports."""
    name = f"fuzzed_{path.parent.name}_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    network: type = getattr(module, module.__all__[0])
    return network
