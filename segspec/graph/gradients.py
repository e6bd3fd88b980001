"""Which ops read nothing that has a gradient in training, where the image has none: only what weights have made has."""

from __future__ import annotations

from functools import lru_cache

from segspec.graph.model import ApplyCall, BlockCall, Call, Graph, Module, OpCall, Tensor
from segspec.ops.reach import nothing


@lru_cache(maxsize=64)
def without_gradient(graph: Graph) -> frozenset[str]:
    """The paths of the ops of which no input depends on a weight."""
    walk = _Walk()
    walk.module(graph.root, "", [False] * len(graph.root.inputs))
    return frozenset(walk.found)


class _Walk:
    def __init__(self) -> None:
        self.found: set[str] = set()

    def module(self, module: Module, prefix: str, inputs: list[bool]) -> list[bool]:
        """Which of a module's outputs depend on a weight, from which of its inputs do."""
        held = {Tensor(item.name): learned for item, learned in zip(module.inputs, inputs, strict=True)}
        for node in module.nodes:
            if node.idle:
                continue
            read = [held[source] for source in node.sources]
            for upto, results in self._call(node.call, prefix + node.name, read):
                held |= {Tensor(node.name, index, upto): learned for index, learned in enumerate(results)}
        return [held[output.tensor] for output in module.outputs]

    def _call(self, call: Call, path: str, read: list[bool]) -> list[tuple[int | None, list[bool]]]:
        """Likewise of a call; of a sequence after each of its elements, and at last."""
        if isinstance(call, ApplyCall):
            return self._call(call.call, path, read)
        if isinstance(call, BlockCall):
            return [(None, self.module(call.module, f"{path}.", read))]
        if isinstance(call, OpCall):
            if not any(read):
                self.found.add(path)
            through = any(read) and type(call.op).reach is not nothing
            learned = through or any(slot.trainable for slot in call.op.slots(call.inputs))
            return [(None, [learned] * len(call.outputs))]
        steps: list[tuple[int | None, list[bool]]] = []
        for index, element in enumerate(call.elements):
            read = self._call(element, f"{path}.{index}", read)[-1][1]
            steps.append((index + 1, read))
        return [*steps, (None, read)]
