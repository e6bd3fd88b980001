"""PyTorch's process."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from worker import MISSING, cotangent, main, mask, misfit

try:
    import torch
    from torch import nn
except ImportError:
    sys.exit(MISSING)


class Torch:
    """See :class:`worker.Framework`."""

    def build(self, network: type, dtype: str) -> Any:
        torch.set_default_dtype(getattr(torch, dtype))
        return network()

    def load(self, network: Any, arrays: dict[str, np.ndarray]) -> None:
        own = {key: value for key, value in network.state_dict().items() if not key.endswith("num_batches_tracked")}
        if problem := misfit({key: tuple(value.shape) for key, value in own.items()}, arrays):
            raise ValueError(f"the weights do not fit the module: {problem}")
        network.load_state_dict({key: torch.from_numpy(array) for key, array in arrays.items()}, strict=False)

    def seed(self, number: int) -> None:
        torch.manual_seed(number)

    def state(self, network: Any) -> dict[str, np.ndarray]:
        return {key: value.detach().numpy().copy() for key, value in network.state_dict().items()}

    def run(
        self, network: Any, inputs: list[np.ndarray], *, train: bool, gradients: bool
    ) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
        network.train(train)
        for path, module in network.named_modules():
            if isinstance(module, nn.Dropout | nn.Dropout2d):
                vars(module)["forward"] = _held(module, path)
        tensors = [torch.from_numpy(array).requires_grad_(gradients) for array in inputs]
        with torch.set_grad_enabled(gradients):
            returned = network(*tensors)
        outputs = list(returned) if isinstance(returned, tuple) else [returned]
        found: dict[str, np.ndarray] = {}
        if gradients:
            network.zero_grad()
            total = sum(
                (output * torch.from_numpy(cotangent(index, tuple(output.shape))).to(output.dtype)).sum()
                for index, output in enumerate(outputs)
            )
            total.backward()
            named = [
                *network.named_parameters(),
                *((f"input {i}", tensor) for i, tensor in enumerate(tensors)),
            ]
            found = {key: value.grad.numpy().copy() for key, value in named if value.grad is not None}
        return [output.detach().numpy() for output in outputs], found


def _held(module: Any, path: str) -> Callable[[Any], Any]:
    """A dropout's forward with the mask that every backend draws."""

    def forward(x: Any) -> Any:
        if not module.training:
            return x
        shape = tuple(x.shape) if isinstance(module, nn.Dropout) else (*x.shape[:2], 1, 1)
        keep = torch.from_numpy(mask(path, shape, module.p)).to(x.dtype)
        return x * keep / ((1 - module.p) or 1)  # at p = 1 nothing is kept

    return forward


if __name__ == "__main__":
    main(Torch())
