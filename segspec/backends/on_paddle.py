"""PaddlePaddle's process."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from worker import MISSING, main, mask

try:
    import paddle
    from paddle import nn
except ImportError:
    sys.exit(MISSING)


class Paddle:
    """See :class:`worker.Framework`."""

    version = str(paddle.version.full_version)

    def __init__(self) -> None:
        self.kept: dict[int, np.ndarray] = {}

    def build(self, network: type, dtype: str) -> Any:
        paddle.set_default_dtype(dtype)  # type: ignore[arg-type]  # its type is a list of literals
        made = network()
        for path, layer in made.named_sublayers():
            if isinstance(layer, nn.Dropout | nn.Dropout2D):
                vars(layer)["forward"] = _held(layer, path)
        return made

    def seed(self, number: int) -> None:
        paddle.seed(number)

    @contextmanager
    def undrawn(self) -> Iterator[None]:
        nothing = nn.initializer.Constant(0.0)
        nn.initializer.set_global_initializer(nothing, nothing)
        try:
            yield
        finally:
            nn.initializer.set_global_initializer(None)

    def state(self, network: Any) -> dict[str, Any]:
        return dict(network.state_dict())

    def layers(self, network: Any) -> Iterable[tuple[str, Any]]:
        return network.named_sublayers(include_self=True)  # type: ignore[no-any-return]

    def elements(self, layer: Any) -> Iterable[Any]:
        return layer.children() if isinstance(layer, nn.Sequential) else ()

    def watch(self, layer: Any, before: Callable[[Any], None], after: Callable[[Any], Any]) -> Callable[[], None]:
        def entering(_: Any, inputs: Any) -> None:
            before(inputs[0])

        first = layer.register_forward_pre_hook(entering)
        second = layer.register_forward_post_hook(lambda _, inputs, output: after(output))

        def end() -> None:
            first.remove()
            second.remove()

        return end

    def tensor(self, array: np.ndarray, like: Any = None, *, gradient: bool = False) -> Any:
        made = paddle.to_tensor(np.array(array))
        made = made if like is None or made.dtype == like.dtype else made.astype(like.dtype)
        made.stop_gradient = not (gradient and made.is_floating_point())
        return made

    def array(self, tensor: Any) -> np.ndarray:
        held: np.ndarray = tensor.numpy()
        return held

    def put(self, tensor: Any, array: np.ndarray) -> None:
        tensor.set_value(np.ascontiguousarray(array))

    def same_value(self, tensor: Any, array: np.ndarray) -> Any:
        return tensor + (self.tensor(array, tensor) - tensor).detach()

    def has_gradient(self, tensor: Any) -> bool:
        return not tensor.stop_gradient

    def keep_gradient(self, tensor: Any) -> None:
        def keep(found: Any) -> None:
            if found is not None:
                self.kept[id(tensor)] = found.numpy()

        # What retain_grads keeps may share its memory with the gradient of what the tensor was reshaped from, and
        # then that one's sums go into it.
        tensor.register_hook(keep)

    def gradient(self, tensor: Any) -> np.ndarray | None:
        kept = self.kept.pop(id(tensor), None)
        return kept if kept is not None or tensor.grad is None else tensor.grad.numpy()

    def mode(self, network: Any, *, train: bool) -> None:
        self.kept.clear()
        network.train() if train else network.eval()

    def parameters(self, network: Any) -> dict[str, Any]:
        network.clear_gradients()
        return dict(network.named_parameters())

    def gradients(self, wanted: bool) -> Any:
        return paddle.set_grad_enabled(wanted)

    def optimizer(self, name: str, network: Any, settings: dict[str, float]) -> Any:
        held = dict(settings)
        named = {"learning_rate": held.pop("lr"), "parameters": network.parameters(), **held}
        return {"sgd": paddle.optimizer.Momentum, "adam": paddle.optimizer.Adam}[name](**named)

    def step(self, optimizer: Any) -> None:
        optimizer.step()
        optimizer.clear_grad()


def _held(layer: Any, path: str) -> Callable[[Any], Any]:
    """A dropout's forward with the mask that every backend draws."""

    def forward(x: Any) -> Any:
        if not layer.training:
            return x if layer.__dict__.get("mode", "upscale_in_train") == "upscale_in_train" else x * (1 - layer.p)
        shape = tuple(x.shape) if isinstance(layer, nn.Dropout) else (*x.shape[:2], 1, 1)
        axis = layer.__dict__.get("axis")
        if axis is not None:  # elements that differ along other axes alone are dropped together
            kept = {axis} if isinstance(axis, int) else set(axis)
            shape = tuple(size if index in kept else 1 for index, size in enumerate(shape))
        keep = paddle.to_tensor(mask(path, shape, layer.p).astype("float64")).astype(x.dtype)
        return x * keep / ((1 - layer.p) or 1)  # at p = 1 nothing is kept

    return forward


if __name__ == "__main__":
    main(Paddle())
