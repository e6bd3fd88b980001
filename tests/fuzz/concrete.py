"""A second reading of the language: one spec at one size, with plain numbers and no symbols.

It covers what :mod:`drawing` writes, unrolls as it goes, and asks the ops' own rules. What it says of a spec (its
shapes, its parameters, whether it takes a size) is compared with what elaboration infers for all sizes at once.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from segspec.ops import OPS, Op, Slot
from segspec.ops.attributes import kind_of
from segspec.ops.combination import Arithmetic
from segspec.ops.reach import nothing

Shape = tuple[int, ...]
Written = Mapping[str, Any]
FUNCTIONS = {"range": range, "len": len, "min": min, "max": max, "enumerate": enumerate}
LARGEST = 20_000
"""How many elements a value may have: networks are to be small."""


class Misfit(Exception):
    """The spec does not fit together at this size."""


class TooLarge(Misfit):
    """It may well fit, and is too much for a test."""


@dataclass(frozen=True)
class Value:
    """What a node reads: a tensor of this shape, perhaps of whole numbers."""

    shape: Shape
    whole: bool = False
    misfits: frozenset[str] = field(default=frozenset(), compare=False)
    """Why there is no such tensor at this size: what does not fit in all that it is computed from."""

    untrainable: frozenset[str] = field(default=frozenset(), compare=False)
    """Likewise, what speaks against train mode."""

    learned: bool = field(default=False, compare=False)
    """Whether it depends on a weight."""


@dataclass(frozen=True)
class Ran:
    """An op with the shapes of what it read and returned, and whether what it read depends on a weight."""

    op: Op
    inputs: tuple[Shape, ...]
    outputs: tuple[Shape, ...]
    learned: bool


@dataclass(frozen=True)
class Made:
    """What a node became: its outputs, what its elements returned, its state, and how it was written."""

    written: Written
    names: Mapping[str, Any]
    read: tuple[Value, ...]
    outputs: Mapping[str, Value]
    default: str = ""
    steps: tuple[Value, ...] = ()
    slots: tuple[Slot, ...] = ()
    taken: tuple[tuple[int, ...], ...] = ()
    """How many axes and channels the inputs of its blocks have, and which share a batch: it is applied to such only."""

    complete: bool = True
    """Whether all that is inside is read, so that no class is cut."""

    @property
    def value(self) -> Value:
        """What a reference without an output's name means."""
        if self.default not in self.outputs:
            raise Misfit("several outputs")
        return self.outputs[self.default]


class Require:
    """Keeps what does not hold, and what does not in train mode."""

    def __init__(self) -> None:
        self.misfits: list[str] = []
        self.training: list[str] = []

    def equal(self, left: Any, right: Any, message: str, remedy: str = "") -> None:
        if left != right:
            self.misfits.append(message)

    def at_least(self, value: Any, minimum: int, message: str, remedy: str = "", *, training: bool = False) -> None:
        if value < minimum:
            (self.training if training else self.misfits).append(message)


def shaped(op: Op, shapes: tuple[Shape, ...], require: Require) -> tuple[Shape, ...]:
    """The shapes of an op's outputs; raises :class:`Misfit` where its rule cannot even go on."""
    try:
        return op.shapes(shapes, require)  # type: ignore[return-value]
    except (ValueError, IndexError):
        if require.misfits:
            raise Misfit(require.misfits[0]) from None
        raise


@dataclass
class Body:
    """One call of a block (or the network): its nodes so far, each with what it returns."""

    blocks: Mapping[str, Any]
    names: dict[str, Any]
    inputs: dict[str, Value]
    previous: str = ""
    nodes: dict[str, Made] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    reads: set[tuple[str, str, int | None]] = field(default_factory=set)
    lenient: bool = False
    """Whether what does not fit is noted in the values that depend on it: nothing may read them."""

    untrainable: list[str] = field(default_factory=list)
    """What speaks against train mode at this size, whatever is read."""

    ops: list[Ran] = field(default_factory=list)
    """Every op that ran."""

    # --- statements ------------------------------------------------------------------------------

    def plus(self, nodes: Written) -> Body:
        """This body and statements as they stand below ``nodes:``; raises :class:`Misfit` where they do not fit."""
        grown = replace(
            self,
            reads=set(self.reads),
            names=dict(self.names),
            nodes=dict(self.nodes),
            used=set(self.used),
            untrainable=list(self.untrainable),
            ops=list(self.ops),
        )
        try:
            grown._statements(nodes, grown.names)
        except (ValueError, TypeError, ArithmeticError) as error:
            raise Misfit(f"{type(error).__name__}: {error}") from None
        return grown

    def _statements(self, nodes: Written, names: Mapping[str, Any]) -> None:
        for key, held in nodes.items():
            if key.startswith("for "):
                for inner in _turns(key, names):
                    self._statements(held, inner)
            elif key.startswith("if "):
                if evaluated(key[3:], names):
                    self._statements(held, names)
            else:
                name = _filled(key, names)
                made = self._node(held, names)
                self.nodes[name], self.previous = made, name

    def _node(self, written: Written, names: Mapping[str, Any]) -> Made:
        if written.get("op") in OPS and OPS[written["op"]].inputs[1] == 0:
            read: list[Value] = []
        else:
            sources = written.get("from", "_")
            sources = sources if isinstance(sources, list) else [sources]
            read = [self.read(item, inner) for text in sources for item, inner in _spread(text, names)]
        if "apply" in written:
            owner = _filled(written["apply"], names)
            while owner in self.nodes and "apply" in self.nodes[owner].written:
                owner = self.nodes[owner].written["apply"]
            if owner not in self.nodes:
                raise Misfit(f"no node {owner}")
            target = self.nodes[self._used(owner)]
            made = self._call(target.written, target.names, read, again=True)
            if made.taken != target.taken:
                raise Misfit("the block takes other inputs")
            outputs = made.outputs
            if [slot.shape for slot in made.slots] != [slot.shape for slot in target.slots]:
                outputs = self._noted(outputs, ["the weights do not fit"])
            return Made(written, names, tuple(read), outputs, made.default)
        return self._call(written, names, read)

    def _call(self, written: Written, names: Mapping[str, Any], read: list[Value], *, again: bool = False) -> Made:
        if "repeat" in written:
            once = {key: value for key, value in written.items() if key != "repeat"}
            return self._chain(written, [(once, names)] * evaluated(written["repeat"], names), names, read)
        if "sequence" in written:
            return self._chain(written, list(_elements(written["sequence"], names)), names, read)
        if "block" in written:
            return self._block(written, names, read)
        return self._op(written, names, read, again=again)

    def _chain(
        self, written: Written, elements: list[tuple[Written, Mapping[str, Any]]], names: Mapping[str, Any], read: Any
    ) -> Made:
        if not elements:
            raise Misfit("an empty sequence")
        made = []
        for element, inner in elements:
            made.append(self._call(element, inner, [made[-1].value] if made else read))
            if len(made[-1].outputs) > 1 and "block" not in element:
                raise Misfit("several outputs in a sequence")
        steps = tuple(item.value for item in made)
        slots = tuple(slot for item in made for slot in item.slots)
        complete = all(item.complete and len(item.outputs) == 1 for item in made)
        taken = tuple(item for element in made for item in element.taken)
        return Made(written, names, tuple(read), {"": steps[-1]}, "", steps, slots, taken, complete)

    def _noted(self, outputs: Mapping[str, Value], misfits: list[str], read: Sequence[Value] = ()) -> dict[str, Value]:
        """Outputs with what does not fit, here and in all that was read; raises :class:`Misfit` unless lenient."""
        if misfits and not self.lenient:
            raise Misfit(misfits[0])
        below = frozenset(misfits).union(*(value.misfits for value in read))
        return {name: replace(value, misfits=value.misfits | below) for name, value in outputs.items()}

    def _op(self, written: Written, names: Mapping[str, Any], read: list[Value], *, again: bool) -> Made:
        declared = OPS[written["op"]]
        attributes: dict[str, Any] = {}
        own = len(read)
        for name, raw in written.items():
            if name in ("op", "from", "repeat", "init"):
                continue
            kind = kind_of(declared, name)
            if kind.reference:
                own -= again
                read = read if again else [*read, self.read(raw, names)]
                attributes[name] = raw
            else:
                attributes[name] = kind.read(_filled(raw, names) if kind.word else evaluated(raw, names))
        try:
            op = declared(**attributes)
            op.validate()
        except (ValueError, TypeError) as error:
            raise Misfit(str(error)) from None
        if not op.takes[0] <= own <= op.takes[1]:
            raise Misfit("another number of inputs")
        for index, value in enumerate(read):
            if value.whole != (index < len(op.whole_inputs) and op.whole_inputs[index]):
                raise Misfit("indices are no values")
        shapes, require = tuple(value.shape for value in read), Require()
        outputs = shaped(op, shapes, require)
        self.untrainable += require.training
        if any(size < 1 for shape in outputs for size in shape):
            require.misfits.append("nothing is left")
        if require.misfits and not self.lenient:
            raise Misfit(require.misfits[0])
        if sum(math.prod(shape) for shape in outputs) > LARGEST:
            raise TooLarge("more elements than a test should have")
        learned = any(value.learned for value in read)
        self.ops.append(Ran(op, shapes, outputs, learned))
        whole = op.whole_outputs or (False,) * len(outputs)
        ends = op.outputs if len(outputs) > 1 else ("",)
        slots = op.slots(shapes)
        learned = (learned and declared.reach is not nothing) or any(slot.trainable for slot in slots)
        untrainable = frozenset(require.training).union(*(value.untrainable for value in read))
        held = {
            name: Value(shape, flag, untrainable=untrainable, learned=learned)
            for name, shape, flag in zip(ends, outputs, whole, strict=True)
        }
        noted = self._noted(held, require.misfits, read)
        return Made(written, names, tuple(read), noted, ends[0], (), slots)

    def _block(self, written: Written, names: Mapping[str, Any], read: list[Value]) -> Made:
        block = self.blocks[written["block"]]
        given = {key: evaluated(value, names) for key, value in written.items() if key not in ("block", "from")}
        body = replace(opened(self.blocks, block, given, read), lenient=self.lenient).plus(block["nodes"])
        outputs = body.outputs(block)
        self.untrainable += body.untrainable
        self.ops += body.ops
        always = [name for name, (_, when) in outputs.items() if when == "always"]
        slots = tuple(slot for made in body.nodes.values() for slot in made.slots)
        # It is handed all its inputs, whatever the output asked for needs.
        misfits = frozenset[str]().union(*(value.misfits for value in read))
        untrainable = frozenset[str]().union(*(value.untrainable for value in read))
        held = {
            name: replace(value, misfits=value.misfits | misfits, untrainable=value.untrainable | untrainable)
            for name, (value, _) in outputs.items()
        }
        default = always[0] if len(always) == 1 else ""
        batches = [value.shape[0] for value in read]
        taken = tuple((len(value.shape), value.shape[1], batches.index(value.shape[0])) for value in read)
        return Made(written, names, tuple(read), held, default, (), slots, taken, body.complete)

    # --- references ------------------------------------------------------------------------------

    def read(self, text: str, names: Mapping[str, Any], *, count: bool = True) -> Value:
        """What a reference means; what it names counts as used, unless ``count`` says no."""
        if conditional := re.fullmatch(r"(.+?) if (.+) else (.+)", text):
            yes, test, no = conditional.groups()
            return self.read(yes if evaluated(test, names) else no, names, count=count)
        name, output, tap = re.fullmatch(r"([\w{}+\- ]+?)(?:\.(\w+))?(?:\[(\d+)\])?", _filled(text, names)).groups()  # type: ignore[union-attr]
        name = self.previous if name == "_" else name
        if count:
            self._used(name)
        if name in self.inputs:
            return self.inputs[name]
        if name not in self.nodes:
            raise Misfit(f"no node {name}")
        made = self.nodes[name]
        if count:
            self.reads.add((name, output or made.default, tap and int(tap)))
        if tap is not None:
            if int(tap) >= len(made.steps):
                raise Misfit("no such element")
            return made.steps[int(tap)]
        if output and output not in made.outputs:
            raise Misfit("no such output")
        return made.outputs[output] if output else made.value

    def _used(self, name: str) -> str:
        self.used.add(name)
        return name

    def outputs(self, block: Written) -> dict[str, tuple[Value, str]]:
        """What the block returns, by name, and when."""
        if "outputs" not in block:
            return {self.previous: (self.read("_", self.names), "always")}
        found = {}
        for name, held in block["outputs"].items():
            held = held if isinstance(held, dict) else {"from": held}
            found[name] = (self.read(held["from"], self.names), held.get("when", "always"))
        return found

    @property
    def complete(self) -> bool:
        """Whether every output of a block, and every sequence to its end, is read: no class is cut then."""
        for name, made in self.nodes.items():
            ends = [(name, "", None), (name, "", len(made.steps) - 1)]
            whole = not made.steps or any(end in self.reads for end in ends)
            several = len(made.outputs) > 1 and "op" not in made.written
            if not (made.complete and whole) or (
                several and any((name, item, None) not in self.reads for item in made.outputs)
            ):
                return False
        return True

    @property
    def repeats(self) -> bool:
        """Whether an op repeats an axis of 1."""
        return any(
            1 in sizes and len({*sizes}) > 1
            for ran in self.ops
            if isinstance(ran.op, Arithmetic)
            for sizes in zip(*ran.inputs, strict=False)
        )

    @property
    def parameters(self) -> int:
        """The number of trainable elements."""
        return sum(math.prod(slot.shape) for made in self.nodes.values() for slot in made.slots if slot.trainable)  # type: ignore[misc]


def network(spec: Written, size: tuple[int, int, int], *, lenient: bool = True) -> tuple[Body, dict[str, Value]]:
    """The network and its outputs at one size, (height, width, batch).

    Raises :class:`Misfit` where the network does not take that. What no output depends on may not fit, if ``lenient``.
    """
    body = replace(opened_network(spec, size), lenient=lenient).plus(spec["nodes"])
    outputs = {name: value for name, (value, _) in body.outputs(spec).items()}
    for value in outputs.values():
        if value.misfits:
            raise Misfit(sorted(value.misfits)[0])
    return body, outputs


def opened_network(spec: Written, size: tuple[int, int, int], blocks: Mapping[str, Any] | None = None) -> Body:
    """The network's inputs and names at one size, no nodes yet; ``blocks`` are the spec's unless they are given."""
    height, width, batch = size
    names = _named(spec, {})
    shapes = {
        name: Value((batch, evaluated(held["channels"], names), height, width)) for name, held in spec["inputs"].items()
    }
    return Body(
        spec.get("blocks", {}) if blocks is None else blocks,
        names,
        shapes,
        next(iter(shapes)) if len(shapes) == 1 else "",
    )


def opened(blocks: Mapping[str, Any], block: Written, given: Mapping[str, Any], read: list[Value]) -> Body:
    """A block's inputs and names at one call, no nodes yet."""
    inputs = block.get("inputs", ["x"])
    inputs = inputs if isinstance(inputs, dict) else dict.fromkeys(inputs)
    if len(inputs) != len(read):
        raise Misfit("another number of inputs")
    if any(len(value.shape) < 2 for value in read):
        raise Misfit("a block reads tensors of at least two axes")
    values = dict(given)
    for index, (name, value) in enumerate(zip(inputs, read, strict=True)):
        if inputs[name]:
            values[inputs[name]["channels"]] = value.shape[1]
        else:
            values["in_channels" if index == 0 else f"{name}_channels"] = value.shape[1] if len(value.shape) > 1 else 1
    shapes = dict(zip(inputs, read, strict=True))
    return Body(blocks, _named(block, values), shapes, next(iter(shapes)) if len(shapes) == 1 else "")


def _named(block: Written, given: Mapping[str, Any]) -> dict[str, Any]:
    names = {name: default_of(held) for name, held in block.get("params", {}).items()} | dict(given)
    for name, text in block.get("let", {}).items():
        names[name] = evaluated(text, names)
    return names


def default_of(parameter: Any) -> Any:
    """A parameter's default; a type where it has none."""
    return parameter["default"] if isinstance(parameter, dict) else parameter


def _elements(sequence: Any, names: Mapping[str, Any]) -> Iterator[tuple[Written, Mapping[str, Any]]]:
    for element in sequence if isinstance(sequence, list) else [sequence]:
        key = next(iter(element))
        if key.startswith("for "):
            for inner in _turns(key, names):
                yield from _elements(element[key], inner)
        elif key.startswith("if "):
            if evaluated(key[3:], names):
                yield from _elements(element[key], names)
        elif "repeat" in element:
            once = {name: value for name, value in element.items() if name != "repeat"}
            yield from [(once, names)] * evaluated(element["repeat"], names)
        else:
            yield element, names


def _spread(text: str, names: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """``conv{i} for i in range(2)``: the references it stands for; any other text is one itself."""
    item, counted, loop = text.partition(" for ")
    for inner in _turns(f"for {loop}", names) if counted else [names]:
        yield item, inner


def _turns(key: str, names: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    variable, items = re.fullmatch(r"for (\w+) in (.+)", key).groups()  # type: ignore[union-attr]
    for item in evaluated(items, names):
        yield {**names, variable: item}


def evaluated(raw: Any, names: Mapping[str, Any]) -> Any:
    """An expression's value; it is Python, and written by the strategy."""
    if isinstance(raw, str):
        return eval(raw, {"__builtins__": FUNCTIONS}, dict(names))
    if isinstance(raw, list):
        return [evaluated(item, names) for item in raw]
    if isinstance(raw, dict):
        return {key: evaluated(item, names) for key, item in raw.items()}
    return raw


def _filled(text: str, names: Mapping[str, Any]) -> str:
    return re.sub(r"\{([^}]*)\}", lambda found: str(evaluated(found[1], names)), text)
