"""Which tensors hold whole numbers: what is read as indices must be indices, and these are read as nothing else."""

from __future__ import annotations

from collections.abc import Sequence

from segspec.errors import Problem
from segspec.graph.model import ApplyCall, BlockCall, Call, Graph, Module, Node, OpCall, Tensor
from segspec.ops.attributes import kind_of

Path = tuple[str, ...]


def mixed_up(graph: Graph) -> list[Problem]:
    """The nodes that read indices as values, or values as indices."""
    concerned = any(isinstance(node.call, OpCall) and _uses(node.call) for held in graph.modules for node in held.nodes)
    if not concerned:
        return []
    walk = _Walk()
    walk.module(graph.root, (False,) * len(graph.root.inputs), ())
    return walk.problems


def _uses(call: OpCall) -> bool:
    return any(call.op.whole_outputs) or any(call.op.whole_inputs)


class _Walk:
    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.known: dict[tuple[int, tuple[bool, ...]], tuple[bool, ...]] = {}

    def module(self, module: Module, given: tuple[bool, ...], path: Path) -> tuple[bool, ...]:
        """Which outputs of a module are whole numbers where those of its inputs are that are ``given``."""
        key = id(module), given
        if key not in self.known:
            held = {Tensor(item.name): is_whole for item, is_whole in zip(module.inputs, given, strict=True)}
            for node in module.nodes:
                # What a sequence holds after an element is never indices.
                read = [held.get(source, False) for source in node.sources]
                found = self._call(node.call, read, node, (*path, node.name))
                held |= {Tensor(node.name, index): is_whole for index, is_whole in enumerate(found)}
            self.known[key] = tuple(held.get(output.tensor, False) for output in module.outputs)
        return self.known[key]

    def _call(self, call: Call, read: Sequence[bool], node: Node, path: Path) -> Sequence[bool]:
        if isinstance(call, ApplyCall):
            return self._call(call.call, read, node, path)
        if isinstance(call, BlockCall):
            return self.module(call.module, tuple(read), path)
        if isinstance(call, OpCall):
            self._op(call, read, node, path)
            return call.op.whole_outputs or (False,) * len(call.outputs)
        for element in call.elements:
            read = self._call(element, read, node, path)
        return read

    def _op(self, call: OpCall, read: Sequence[bool], node: Node, path: Path) -> None:
        op = call.op
        named = sum(kind_of(type(op), name).reference for name, value in op.attributes().items() if value is not None)
        for index, is_whole in enumerate(read[: len(read) - named]):
            wanted = index < len(op.whole_inputs) and op.whole_inputs[index]
            if is_whole == wanted:
                continue
            message = f"input {index + 1} of {op.name} is the indices of a pooling, and what it reads are values"
            remedy = "give the pooling return_indices: true, and read its .indices"
            if is_whole:
                message = f"{op.name} cannot read indices: they say where maxima were, and are no values"
                remedy = "read the pooling itself; its indices are for max_unpool2d"
            self.problems.append(Problem("inputs", message, node.place, ".".join(path), remedy))
