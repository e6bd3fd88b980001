"""Every node of a network in the order in which generated code computes them, and under which key it is recorded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from segspec.algebra.symbols import substitute, whole
from segspec.graph.instances import Instance, Values, at_size, resolve
from segspec.graph.model import ApplyCall, BlockCall, Call, Graph, Module, Node, OpCall, SequenceCall, Tensor

Size = tuple[int, int]


@dataclass(frozen=True)
class Step:
    """One node (or element of a sequence) that computes something.

    ``key`` is its module's path and, where that runs several times in a pass, which time; ``inner`` the path of the
    layer or block that it calls, and which of that one's calls this is. ``sources`` are the paths of the nodes that
    it reads, and ``arguments`` of a block the names of its inputs; ``module`` is the class in which it stands and
    ``depth`` the number of ops on the longest way from an input.
    """

    path: str
    key: str
    inner: str
    module: str
    node: str
    what: str
    sources: tuple[str, ...]
    arguments: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    depth: int
    instance: Instance


@lru_cache(maxsize=16)
def steps(graph: Graph, size: Size, batch: int, *, train: bool) -> tuple[Step, ...]:
    """The steps of one pass at one size, each block after its contents; backends have them in common."""
    walker = _Walker(train)
    values = at_size(graph, *size, batch)
    walker.module(graph.root, ("", ""), values, {item.name: "" for item in graph.root.inputs})
    return tuple(walker.steps)


class _Walker:
    """A prefix is what precedes a node's name in its path, and in the path under which its state stands."""

    def __init__(self, train: bool) -> None:
        self.train = train
        self.steps: list[Step] = []
        self.depths: dict[str, int] = {"": 0}
        self.calls: Counter[str] = Counter()

    def module(self, module: Module, prefix: tuple[str, str], values: Values, origins: Mapping[str, str]) -> str:
        """Add the steps of a module; which of its calls this is, as keys say it."""
        path, owner = prefix
        suffix = self._count(owner)
        # Generated code computes what only training needs last.
        for node in sorted(module.nodes, key=lambda node: node.training):
            if node.idle or (node.training and not self.train):
                continue
            sources = tuple(
                origins[tensor.node] if tensor.node in origins else path_of(module, tensor, path)
                for tensor in node.sources
            )
            target = node.call.target if isinstance(node.call, ApplyCall) else node.name
            call = node.call.call if isinstance(node.call, ApplyCall) else node.call
            self._call(
                call, path + node.name, owner + target, f"{owner}{node.name}{suffix}", values, node, sources, module
            )
        return suffix

    def _call(
        self,
        call: Call,
        path: str,
        owner: str,
        key: str,
        values: Values,
        node: Node,
        sources: tuple[str, ...],
        module: Module,
        inside: str = "",
    ) -> None:
        if isinstance(call, SequenceCall):
            for index, element in enumerate(call.elements):
                place = f"{inside}.{index}" if inside else str(index)
                held, own = f"{path}.{index}", f"{owner}.{index}"
                key = own + self._count(f"element {own}") if not isinstance(element, SequenceCall) else own
                self._call(element, held, own, key, values, node, sources, module, place)
                sources = (_last(element, held),)
            return
        if isinstance(call, OpCall) and call.op.is_tensor:
            self.depths[path] = 0
            return
        instance = Instance(path, owner, call, values, node, inside, node.training)
        depth = 1 + max((self.depths[source] for source in sources), default=0)
        arguments: tuple[str, ...] = ()
        if isinstance(call, OpCall):
            inner = owner + self._count(f"op {owner}")
        elif isinstance(call, BlockCall):
            own_values = {symbol: substitute(value, values) for symbol, value in call.values.items()}
            arguments = tuple(item.name for item in call.module.inputs)
            before = len(self.steps)
            origins = dict(zip(arguments, sources, strict=True))
            inner = owner + self.module(call.module, (f"{path}.", f"{owner}."), own_values, origins)
            depth = max((step.depth for step in self.steps[before:]), default=depth)
        self.depths[path] = depth
        what = call.module.name if isinstance(call, BlockCall) else call.op.name  # type: ignore[union-attr]
        shapes = tuple(tuple(map(whole, resolve(shape, values))) for shape in call.outputs)
        self.steps.append(
            Step(path, key, inner, module.name, node.name, what, sources, arguments, shapes, depth, instance)
        )

    def _count(self, owner: str) -> str:
        count = self.calls[owner]
        self.calls[owner] += 1
        return f"#{count}" if count else ""


def path_of(module: Module, tensor: Tensor, prefix: str = "") -> str:
    """The path of the step that computes a tensor of a module: in a sequence, its element's; empty for an input."""
    if any(item.name == tensor.node for item in module.inputs):
        return ""
    call = module.node(tensor.node).call
    held = call.call if isinstance(call, ApplyCall) else call
    if isinstance(held, SequenceCall):
        last = (tensor.upto or len(held.elements)) - 1
        return _last(held.elements[last], f"{prefix}{tensor.node}.{last}")
    return prefix + tensor.node


def _last(call: Call, path: str) -> str:
    """The path of what a call returns: of a sequence, its last element's."""
    while isinstance(call, SequenceCall):
        path, call = f"{path}.{len(call.elements) - 1}", call.elements[-1]
    return path
