"""Cutting a class to the outputs that are read of it, and telling what a class consists of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache

from segspec.algebra.symbols import Symbol, symbols_of
from segspec.errors import fail
from segspec.graph.model import (
    ApplyCall,
    BlockCall,
    Call,
    Module,
    ModuleOutput,
    Node,
    OpCall,
    Requirement,
    SequenceCall,
    Tensor,
    called,
    elements_of,
    strictest,
)

MAX_INSTANCES = 20_000


def restrict(module: Module, outputs: Iterable[ModuleOutput]) -> Module:
    """The class that holds only what these of its outputs need: nodes, arguments, requirements.

    Blocks inside are restricted in turn to what is read of them.
    """
    kept = tuple(outputs)
    held = {node.name: node for node in module.nodes}
    always = reachable(held, [output.tensor for output in kept if not output.training], applied=False)
    run = reachable(held, [output.tensor for output in kept], applied=False)
    needed = reachable(held, [output.tensor for output in kept])
    nodes = [node for node in module.nodes if node.name in needed]
    tensors = [
        *(source for node in nodes for source in node.sources),
        *(output.tensor for output in kept),
    ]
    owners = {node.name: node.call.target for node in nodes if isinstance(node.call, ApplyCall)}
    reads: dict[str, list[Tensor]] = {}
    for tensor in dict.fromkeys(tensors):
        reads.setdefault(owners.get(tensor.node, tensor.node), []).append(tensor)
    moved: dict[Tensor, Tensor] = {}
    cut: list[Node] = []
    for node in nodes:
        read = reads.get(owners.get(node.name, node.name), [])
        call, order = _cut(node.call, read)
        cut.append(replace(node, call=call, training=node.name not in always, idle=node.name not in run))
        # A tap after the last element that is left is the sequence as a whole.
        whole = len(call.elements) if isinstance(call, SequenceCall) else None
        for tensor in read:
            upto = None if tensor.upto == whole else tensor.upto
            moved[replace(tensor, node=node.name)] = Tensor(node.name, order.index(tensor.output), upto)
    cut = [replace(node, sources=tuple(moved.get(source, source) for source in node.sources)) for node in cut]
    kept = tuple(replace(output, tensor=moved.get(output.tensor, output.tensor)) for output in kept)
    seen: set[Symbol] = set()
    instances = 1
    inner: list[Requirement] = []
    paths = {node.name for node in cut}
    for node in cut:
        for path, call in _calls(node):
            paths.add(path)
            seen |= constructor_symbols(call) if not isinstance(node.call, ApplyCall) else set()
            instances += call.module.instances if isinstance(call, BlockCall) else 1
    if instances > MAX_INSTANCES:
        raise fail(
            "limit",
            f"the network has more than {MAX_INSTANCES:,} nodes",
            module.definition.place(key=True),
        )
    own = tuple(item for item in module.own if item.node in paths)
    for node in cut:
        for path, call in _calls(node):
            if isinstance(call, BlockCall):
                inner += [item.within(path) for item in called(call.module, call.values)[1]]
    return replace(
        module,
        arguments=tuple(argument for argument in module.arguments if argument.symbol in seen),
        nodes=tuple(cut),
        outputs=kept,
        own=own,
        requirements=strictest([*own, *inner]),
        instances=instances,
        key=(module.key, tuple(output.name for output in kept)),
    )


def _calls(node: Node) -> Iterator[tuple[str, Call]]:
    """The calls that a node consists of, by path; those of the module that it applies again."""
    call = node.call.call if isinstance(node.call, ApplyCall) else node.call
    for path, inner in elements_of(call):
        yield f"{node.name}.{path}" if path else node.name, inner


def _cut(call: Call, read: list[Tensor]) -> tuple[Call, list[int]]:
    """A call restricted to the outputs that are read, and which of the old outputs the new ones are."""
    indices = sorted({tensor.output for tensor in read}) or [0]
    if isinstance(call, BlockCall) and len(indices) < len(call.module.outputs):
        module = _with_outputs(call.module, tuple(indices))
        return BlockCall(module, call.values, tuple(call.outputs[index] for index in indices)), indices
    if isinstance(call, SequenceCall):
        taps = [tensor.upto for tensor in read]
        elements = call.elements if None in taps or not taps else call.elements[: max(tap for tap in taps if tap)]
        return SequenceCall(tuple(_default_cut(element) for element in elements)), [0]
    if isinstance(call, ApplyCall):
        inner, order = _cut(call.call, read)
        return ApplyCall(call.target, inner), order
    return call, list(range(len(call.outputs)))


@lru_cache(maxsize=1_024)
def _with_outputs(module: Module, indices: tuple[int, ...]) -> Module:
    return restrict(module, [module.outputs[index] for index in indices])


def _default_cut(call: Call) -> Call:
    """An element of a sequence, which returns its block's one default output."""
    if isinstance(call, BlockCall):
        names = [output.name for output in call.module.outputs]
        return _cut(call, [Tensor("", names.index(default_outputs(call.module)[0]))])[0]
    return _cut(call, [])[0]


def default_outputs(module: Module) -> list[str]:
    """The outputs that a reference without a name can mean."""
    declared = module.definition.block.outputs
    if not declared:
        return [output.name for output in module.outputs]
    always = [output for output in declared if output.when == "always"]
    if len(always) == len(declared):
        return [output.name for output in module.outputs]
    names = {output.name.text if output.name else output.source.text.split(".")[-1] for output in always}
    return [output.name for output in module.outputs if output.name in names]


def reachable(nodes: Mapping[str, Node], tensors: Iterable[Tensor], *, applied: bool = True) -> set[str]:
    """The nodes and inputs that these values depend on, by name; also, if ``applied``, for the modules they apply."""
    found: set[str] = set()
    waiting = [tensor.node for tensor in tensors]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        if (node := nodes.get(name)) is not None:
            waiting += [source.node for source in node.sources]
            if applied and isinstance(node.call, ApplyCall):
                waiting.append(node.call.target)
    return found


def constructor_symbols(call: Call) -> set[Symbol]:
    """The symbols that the code of a call names: attributes, weights' sizes, a block's arguments."""
    if isinstance(call, OpCall):
        shapes = [slot.shape for slot in call.op.slots(call.inputs)]
        held = [*call.op.attributes().values(), *call.op.derived(call.inputs).values(), *shapes]
        return {symbol for symbol in symbols_of(held) if not symbol.size}
    if isinstance(call, BlockCall):
        values = [call.argument(argument.name) for argument in call.module.arguments]
        return {symbol for symbol in symbols_of(values) if not symbol.size}
    return set()
