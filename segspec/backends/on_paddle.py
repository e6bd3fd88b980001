"""PaddlePaddle's process."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from worker import MISSING, cotangent, main, mask, misfit

try:
    import paddle
    from paddle import nn
except ImportError:
    sys.exit(MISSING)


class Paddle:
    """See :class:`worker.Framework`."""

    def build(self, network: type, dtype: str) -> Any:
        paddle.set_default_dtype(dtype)  # type: ignore[arg-type]  # its type is a list of literals
        return network()

    def load(self, network: Any, arrays: dict[str, np.ndarray]) -> None:
        own = network.state_dict()
        # Its own loader only warns of missing keys and skips wrong shapes in silence.
        if problem := misfit({key: tuple(value.shape) for key, value in own.items()}, arrays):
            raise ValueError(f"the weights do not fit the module: {problem}")
        network.set_state_dict(arrays)

    def seed(self, number: int) -> None:
        paddle.seed(number)

    def state(self, network: Any) -> dict[str, np.ndarray]:
        return {key: value.numpy() for key, value in network.state_dict().items()}

    def run(
        self, network: Any, inputs: list[np.ndarray], *, train: bool, gradients: bool
    ) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
        network.train() if train else network.eval()
        for path, layer in network.named_sublayers():
            if isinstance(layer, nn.Dropout | nn.Dropout2D):
                vars(layer)["forward"] = _held(layer, path)
        tensors = [paddle.to_tensor(array, stop_gradient=not gradients) for array in inputs]
        with paddle.set_grad_enabled(gradients):
            returned = network(*tensors)
        outputs = list(returned) if isinstance(returned, tuple | list) else [returned]
        found: dict[str, np.ndarray] = {}
        if gradients:
            network.clear_gradients()
            total = sum(
                (output * paddle.to_tensor(cotangent(index, tuple(output.shape)).astype(inputs[0].dtype))).sum()
                for index, output in enumerate(outputs)
            )
            total.backward()
            named = [
                *network.named_parameters(),
                *((f"input {i}", tensor) for i, tensor in enumerate(tensors)),
            ]
            found = {key: value.grad.numpy() for key, value in named if value.grad is not None}
        return [output.numpy() for output in outputs], found


def _held(layer: Any, path: str) -> Callable[[Any], Any]:
    """A dropout's forward with the mask that every backend draws."""

    def forward(x: Any) -> Any:
        if not layer.training:
            return x if layer.__dict__.get("mode", "upscale_in_train") == "upscale_in_train" else x * (1 - layer.p)
        shape = tuple(x.shape) if isinstance(layer, nn.Dropout) else (*x.shape[:2], 1, 1)
        keep = paddle.to_tensor(mask(path, shape, layer.p).astype("float64")).astype(x.dtype)
        return x * keep / ((1 - layer.p) or 1)  # at p = 1 nothing is kept

    return forward


if __name__ == "__main__":
    main(Paddle())
