"""What a node reads: references in ``from``, ``like`` and ``outputs``, resolved to tensors with shapes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from segspec.algebra.expressions import Reference
from segspec.errors import Place, fail, suggest
from segspec.graph.frame import Frame, Skipped
from segspec.graph.model import ApplyCall, BlockCall, Node, OpCall, SequenceCall, Tensor
from segspec.graph.restrict import default_outputs
from segspec.ops import OPS, Shape
from segspec.spec import models
from segspec.spec.load import statements


class Reader:
    """Resolves the references of one node (or of a block's outputs), which stands at ``path``."""

    def __init__(
        self, frame: Frame, name: str, path: tuple[str | int, ...], names: Mapping[str, Any], previous: str
    ) -> None:
        self.frame = frame
        self.name = name
        self.path = path
        self.names = names
        self.previous = previous

    def place(self, *more: str | int, key: bool = False) -> Place:
        return self.frame.definition.place(*self.path, *more, key=key)

    def _sources(self, written: models.Node) -> tuple[list[Tensor], list[Shape]]:
        if written.source is None and isinstance(written, models.OpNode) and OPS[written.op].is_tensor:
            return [], []
        if written.source is None:
            if not self.previous:
                known = ", ".join(self.frame.inputs)
                raise fail(
                    "inputs",
                    "the first node of several inputs must say what it reads",
                    self.place(key=True),
                    node=self.name,
                    remedy=f"add from: one of {known}",
                )
            found = [(Reference(self.previous), self.place(key=True))]
        else:
            found = []
            many = isinstance(self._raw_at(("from",)), list)
            for index, references in enumerate(written.source):
                place = self.place("from", index) if many else self.place("from")
                resolved = self.frame.resolve(references, place, self.names, self.name)
                found += [(self._earlier(reference, place), place) for reference in resolved]
        pairs = [self.tensor(reference, place) for reference, place in found]
        return [tensor for tensor, _ in pairs], [shape for _, shape in pairs]

    def _raw_at(self, path: tuple[str | int, ...]) -> Any:
        """What was written at a path below the node."""
        held: Any = self.frame.definition.file.document.data
        for part in (*self.frame.definition.path, *self.path, *path):
            held = held[part]
        return held

    def _earlier(self, reference: Reference, place: Place) -> Reference:
        if reference.node != "_":
            return reference
        if not self.previous:
            raise fail("unknown-node", "'_' is the node before, and there is none", place, node=self.name)
        return Reference(self.previous, reference.output, reference.upto)

    def tensor(self, reference: Reference, place: Place) -> tuple[Tensor, Shape]:
        """What a reference means, and its shape."""
        frame, name = self.frame, reference.node
        if name in frame.inputs:
            if reference.output or reference.upto is not None:
                raise fail("unknown-node", f"the input '{name}' has no parts", place, node=self.name)
            return Tensor(name), frame.inputs[name]
        if name == self.name and self.name:
            raise fail(
                "cycle",
                f"the node '{name}' reads itself",
                place,
                node=name,
                remedy="read an earlier node",
            )
        if name not in frame.nodes:
            if frame.gaps:
                raise Skipped
            later = {
                item.key for item in statements(frame.definition.block.nodes) if isinstance(item, models.NodeStatement)
            }
            if name in later:
                raise fail(
                    "cycle",
                    f"'{self.name}' reads '{name}', which comes later",
                    place,
                    node=self.name,
                    remedy=f"move '{name}' up: a node reads only what stands above it, so no cycle can form",
                )
            known = [*frame.inputs, *frame.nodes]
            raise fail(
                "unknown-node",
                f"there is no node '{name}'",
                place,
                node=self.name,
                remedy=suggest(name, [item for item in known if item != self.name], what="nodes above"),
            )
        node = frame.nodes[name]
        if node is None:
            raise Skipped
        if reference.upto is not None:
            if not isinstance(node.call, SequenceCall) or reference.upto > len(node.call.elements):
                raise fail(
                    "unknown-node",
                    f"'{name}' has no element {reference.upto - 1}",
                    place,
                    node=self.name,
                    remedy="a tap names an element of a sequence, counted from 0",
                )
            return Tensor(name, 0, reference.upto), node.call.elements[reference.upto - 1].outputs[0]
        index = self._output_index(node, reference, place)
        return Tensor(name, index), node.call.outputs[index]

    def _output_index(self, node: Node, reference: Reference, place: Place) -> int:
        call = node.call.call if isinstance(node.call, ApplyCall) else node.call
        if isinstance(call, OpCall) and len(call.op.outputs) > 1:
            if reference.output and reference.output not in call.op.outputs:
                raise fail(
                    "unknown-node",
                    f"'{node.name}' has no output '{reference.output}'",
                    place,
                    node=self.name,
                    remedy=suggest(reference.output, call.op.outputs, what="its outputs"),
                )
            return call.op.outputs.index(reference.output) if reference.output else 0
        if not isinstance(call, BlockCall):
            if reference.output:
                asked = f"return_{reference.output}"
                returns = isinstance(call, OpCall) and asked in call.op.attributes()
                raise fail(
                    "unknown-node",
                    f"'{node.name}' has no outputs of their own names",
                    place,
                    node=self.name,
                    remedy=f"add {asked}: true to '{node.name}'" if returns else f"write '{node.name}'",
                )
            return 0
        names = [output.name for output in call.module.outputs]
        if reference.output:
            if reference.output not in names:
                raise fail(
                    "unknown-node",
                    f"'{node.name}' has no output '{reference.output}'",
                    place,
                    node=self.name,
                    remedy=suggest(reference.output, names, what="its outputs"),
                )
            return names.index(reference.output)
        default = default_outputs(call.module)
        if len(default) != 1:
            listed = ", ".join(f"{node.name}.{name}" for name in names)
            raise fail(
                "inputs",
                f"'{node.name}' has several outputs",
                place,
                node=self.name,
                remedy=f"say which: {listed}",
            )
        return names.index(default[0])
