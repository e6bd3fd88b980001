"""PyTorch's process."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from worker import MISSING, main, mask

try:
    import torch
    from torch import nn
except ImportError:
    sys.exit(MISSING)


class Torch:
    """See :class:`worker.Framework`."""

    version = torch.__version__

    def build(self, network: type, dtype: str) -> Any:
        torch.set_default_dtype(getattr(torch, dtype))
        made = network()
        for path, module in made.named_modules():
            if isinstance(module, nn.Dropout | nn.Dropout2d):
                vars(module)["forward"] = _held(module, path)
        return made

    def seed(self, number: int) -> None:
        torch.manual_seed(number)

    @contextmanager
    def undrawn(self) -> Iterator[None]:
        names = ("kaiming_uniform_", "uniform_", "normal_", "trunc_normal_", "xavier_uniform_")
        drawing = {name: getattr(nn.init, name) for name in names}
        for name in names:
            setattr(nn.init, name, lambda tensor, *_, **__: tensor)
        try:
            yield
        finally:
            for name, function in drawing.items():
                setattr(nn.init, name, function)

    def state(self, network: Any) -> dict[str, Any]:
        return {key: value for key, value in network.state_dict().items() if not key.endswith("num_batches_tracked")}

    def layers(self, network: Any) -> Iterable[tuple[str, Any]]:
        return network.named_modules()  # type: ignore[no-any-return]

    def elements(self, layer: Any) -> Iterable[Any]:
        return layer.children() if isinstance(layer, nn.Sequential) else ()

    def watch(self, layer: Any, before: Callable[[Any], None], after: Callable[[Any], Any]) -> Callable[[], None]:
        def entering(_: Any, inputs: Any) -> None:
            before(inputs[0])

        first = layer.register_forward_pre_hook(entering)
        second = layer.register_forward_hook(lambda _, inputs, output: after(output))

        def end() -> None:
            first.remove()
            second.remove()

        return end

    def tensor(self, array: np.ndarray, like: Any = None, *, gradient: bool = False) -> Any:
        made = torch.from_numpy(np.array(array))  # a copy: the array may be a part of a file
        made = made if like is None else made.to(like.dtype)
        return made.requires_grad_(gradient and made.is_floating_point())

    def array(self, tensor: Any) -> np.ndarray:
        held: np.ndarray = tensor.detach().numpy()
        return held

    def put(self, tensor: Any, array: np.ndarray) -> None:
        with torch.no_grad():
            tensor.copy_(torch.from_numpy(np.ascontiguousarray(array)))

    def same_value(self, tensor: Any, array: np.ndarray) -> Any:
        return tensor + (self.tensor(array, tensor) - tensor).detach()

    def has_gradient(self, tensor: Any) -> bool:
        return bool(tensor.requires_grad)

    def keep_gradient(self, tensor: Any) -> None:
        tensor.retain_grad()

    def gradient(self, tensor: Any) -> np.ndarray | None:
        return None if tensor.grad is None else tensor.grad.numpy()

    def mode(self, network: Any, *, train: bool) -> None:
        network.train(train)

    def parameters(self, network: Any) -> dict[str, Any]:
        network.zero_grad()
        return dict(network.named_parameters())

    def gradients(self, wanted: bool) -> Any:
        return torch.set_grad_enabled(wanted)

    def optimizer(self, name: str, network: Any, settings: dict[str, float]) -> Any:
        made = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[name]
        return made(network.parameters(), **settings)

    def step(self, optimizer: Any) -> None:
        optimizer.step()
        optimizer.zero_grad()


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
