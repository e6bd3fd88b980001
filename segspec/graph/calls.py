"""What a node computes: its op, block, sequence or repetition, with attributes resolved and shapes inferred."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol

from segspec.algebra.expressions import References, Template, Value
from segspec.algebra.symbols import Number, Sym, Symbol, show, substitute, symbols_of
from segspec.errors import Place, SpecError, fail, shown, suggest
from segspec.graph.frame import Frame, NeedsValue, Skipped
from segspec.graph.model import (
    ApplyCall,
    BlockCall,
    Call,
    Module,
    Node,
    OpCall,
    Requirement,
    SequenceCall,
    Tensor,
    called,
)
from segspec.graph.references import Reader
from segspec.graph.requirements import Require
from segspec.graph.restrict import default_outputs
from segspec.graph.values import choices_text, kind_text, typed
from segspec.ops import OPS, Shape
from segspec.ops.attributes import kind_of
from segspec.spec import models
from segspec.spec.load import Definition


class Blocks(Protocol):
    """Who knows the class of a block at a call."""

    def module(
        self, definition: Definition, given: dict[str, Any], inputs: list[Shape | None], caller: Frame | None
    ) -> tuple[Module, dict[Symbol, Number]]:
        """The class, and what its symbols are in the caller's terms."""


class Site(Reader):
    """One node being elaborated: its place, its names, what it requires."""

    def __init__(
        self,
        blocks: Blocks,
        frame: Frame,
        name: str,
        path: tuple[str | int, ...],
        names: Mapping[str, Any],
        previous: str,
    ) -> None:
        super().__init__(frame, name, path, names, previous)
        self.blocks = blocks
        self.requirements: list[Requirement] = []

    def node(self, written: models.Node) -> Node:
        """Elaborate the node as a whole: what it reads, what it computes."""
        sources, shapes = self._sources(written)
        if isinstance(written, models.ApplyNode):
            call: Call = self._apply(written, shapes)
        elif written.repeat is not None:
            elements = self._repeated(written, shapes, (), self.name)
            if not elements:
                raise fail(
                    "attribute",
                    "a node cannot be repeated 0 times",
                    self.place("repeat"),
                    node=self.name,
                )
            call = SequenceCall(tuple(elements))
        else:
            call, extra = self._call(written, shapes, (), self.name)
            sources += extra
        if isinstance(call, SequenceCall) and len(shapes) != 1:
            what = "a sequence" if isinstance(written, models.SequenceNode) else "what is repeated"
            raise fail(
                "inputs",
                f"{what} reads one node, not {len(shapes)}",
                self.place(key=True),
                node=self.name,
                remedy="let a block of several inputs be a node of its own",
            )
        return Node(self.name, call, tuple(sources), self.place(key=True))

    def _call(
        self, written: models.Node, shapes: list[Shape], path: tuple[str | int, ...], where: str
    ) -> tuple[Call, list[Tensor]]:
        """One call of a node or of a sequence's element, and what it reads beyond ``from``."""
        self.frame.limits.spend_node(self.place(*path, key=True), where)
        if isinstance(written, models.OpNode):
            return self._op(written, shapes, path, where)
        if isinstance(written, models.BlockNode):
            return self._block(written, shapes, path, where), []
        if isinstance(written, models.SequenceNode):
            elements: list[Call] = []
            self._fill_sequence(written.sequence, shapes, (*path, "sequence"), where, elements)
            if not elements:
                raise fail("attribute", "the sequence is empty", self.place(*path, "sequence"), node=where)
            return SequenceCall(tuple(elements)), []
        raise TypeError(written)

    def _fill_sequence(
        self,
        sequence: list[Any],
        shapes: list[Shape],
        path: tuple[str | int, ...],
        where: str,
        elements: list[Call],
    ) -> None:
        """Append the calls of a sequence's entries, each on what the one before returned."""
        held = self._raw_at(path)
        for index, entry in enumerate(sequence):
            here = (*path, index) if isinstance(held, list) else path
            if isinstance(entry, models.LoopElements):
                here, outer = (*here, entry.key), self.names
                for variables in self.frame.loop(entry.loop, self.place(*here, key=True), outer):
                    self.names = {**outer, **variables}
                    self._fill_sequence(entry.body, shapes, here, where, elements)
                self.names = outer
                continue
            if isinstance(entry, models.ConditionElements):
                here = (*here, entry.key)
                if self.frame.test(entry.test, self.place(*here, key=True), self.names):
                    self._fill_sequence(entry.body, shapes, here, where, elements)
                continue
            element = entry.node
            if element.source is not None:
                raise fail(
                    "inputs",
                    "an element of a sequence reads the one before",
                    self.place(*here, "from", key=True),
                    node=where,
                    remedy="remove from:",
                )
            if isinstance(element, models.ApplyNode):
                raise fail(
                    "inputs",
                    "apply cannot stand in a sequence",
                    self.place(*here, key=True),
                    node=where,
                    remedy="make it a node",
                )
            current = [self._single(elements[-1], here, where)] if elements else shapes
            elements += self._elements(element, current, here, where, len(elements))

    def _elements(
        self,
        element: models.Node,
        shapes: list[Shape],
        path: tuple[str | int, ...],
        where: str,
        start: int,
    ) -> list[Call]:
        if element.repeat is not None:
            return self._repeated(element, shapes, path, where, start)
        call, extra = self._call(element, shapes, path, f"{where}.{start}")
        if extra:
            raise fail(
                "inputs",
                "an element of a sequence reads the one before alone",
                self.place(*path, key=True),
                node=where,
                remedy="make it a node of its own",
            )
        return [call]

    def _repeated(
        self,
        written: models.Node,
        shapes: list[Shape],
        path: tuple[str | int, ...],
        where: str,
        start: int = 0,
    ) -> list[Call]:
        assert written.repeat is not None
        place = self.place(*path, "repeat")
        times = self.frame.evaluate(written.repeat, place, self.names, self.name)
        if isinstance(times, Sym):
            raise NeedsValue(self.frame, symbols_of(times))
        if isinstance(times, bool) or not isinstance(times, int) or times < 0:
            raise fail("attribute", f"repeat is a whole number, not {shown(times)}", place, node=self.name)
        elements: list[Call] = []
        for index in range(times):
            call, extra = self._call(written, shapes, path, f"{where}.{start + index}")
            if extra:
                raise fail("inputs", "a repeated node reads the one before alone", place, node=where)
            elements.append(call)
            shapes = [self._single(call, path, where)]
        return elements

    def _single(self, call: Call, path: tuple[str | int, ...], where: str) -> Shape:
        if isinstance(call, BlockCall):
            default = default_outputs(call.module)
            if len(default) != 1:
                raise fail(
                    "inputs",
                    "a block of several outputs cannot stand in a sequence",
                    self.place(*path, key=True),
                    node=where,
                )
        return call.outputs[0]

    def _op(
        self, written: models.OpNode, shapes: list[Shape], path: tuple[str | int, ...], where: str
    ) -> tuple[Call, list[Tensor]]:
        declared = OPS[written.op]
        values: dict[str, Any] = {}
        extra: list[Tensor] = []
        for name, raw in written.written().items():
            if raw is None:
                continue
            place = self.place(*path, name)
            kind = kind_of(declared, name)
            if isinstance(raw, References):
                reference = self.frame.resolve(raw, place, self.names, where)
                if len(reference) != 1:
                    raise fail("inputs", f"{name} is one node", place, node=where)
                tensor, shape = self.tensor(self._earlier(reference[0], place), place)
                extra.append(tensor)
                shapes = [*shapes, shape]
                values[name] = str(reference[0])
                continue
            if isinstance(raw, Template):
                given: Any = self.frame.fill(raw, place, self.names)
            else:
                given = self.frame.evaluate(raw, place, self.names, where)
            if kind.known and (symbols := symbols_of(given)):
                raise NeedsValue(self.frame, symbols)
            try:
                values[name] = kind.read(given)
            except ValueError as error:
                raise fail(
                    "attribute",
                    f"{name}: {error}",
                    place,
                    node=where,
                    remedy=f"{name} is {kind.expected}",
                ) from None
        place = self.place(*path, key=True)
        op = declared(**values)
        try:
            op.validate()
        except ValueError as error:
            raise fail("attribute", f"{written.op}: {error}", place, node=where) from None
        # A function's attributes stand in forward, where the constructor's parameters have no names.
        called = not op.has_state and not path and written.repeat is None
        if called and (symbols := symbols_of(list(values.values()))):
            raise NeedsValue(self.frame, symbols)
        if (path or written.repeat is not None) and len(op.outputs) > 1:
            message = f"{written.op} has several outputs, so it cannot stand in a sequence"
            raise fail("inputs", message, place, node=where, remedy="make it a node of its own")
        least, most = op.takes
        count = len(shapes) - len(extra)
        if not least <= count <= most:
            wanted = str(least) if least == most else f"{least} or more"
            raise fail(
                "inputs",
                f"{written.op} takes {wanted} input{'s' if wanted != '1' else ''}, found {count}",
                self.place(*path, "from") if written.source else place,
                node=where,
            )
        require = Require(self.requirements, place, where, self.frame)
        outputs = op.shapes(tuple(shapes), require)
        sized = [symbol for slot in op.slots(tuple(shapes)) for symbol in symbols_of(slot.shape) if symbol.size]
        require.equal(len(sized), 0, "its weight would depend on the image's size", "pool to a fixed size before")
        slots = {slot.name: len(slot.shape) for slot in op.slots(tuple(shapes)) if slot.trainable or slot.itself}
        for name, init in written.init.items():
            if name not in slots:
                raise fail(
                    "attribute",
                    f"{written.op} has no parameter '{name}'",
                    self.place(*path, "init", name, key=True),
                    node=where,
                    remedy=suggest(name, slots, what="its parameters") if slots else "",
                )
            if objection := init.objection(slots[name], slots.get("weight", slots[name])):
                raise fail("attribute", f"{name}: {objection}", self.place(*path, "init", name), node=where)
        return OpCall(op, tuple(shapes), outputs, tuple(written.init.items())), extra

    def _block(
        self,
        written: models.BlockNode,
        shapes: list[Shape],
        path: tuple[str | int, ...],
        where: str,
    ) -> BlockCall:
        frame = self.frame
        place = self.place(*path, "block")
        name = frame.fill(written.block, place, self.names)
        definition = frame.definition.find(name) if name else None
        if definition is None:
            known = [key for key in frame.definition.file.definitions if key]
            raise fail(
                "unknown-block",
                f"there is no block '{name}'",
                place,
                node=where,
                remedy=suggest(name, known, what="blocks here") + "; import what stands in another file",
            )
        if any(len(shape) < 2 for shape in shapes):
            message = f"{name} is given a tensor without channels, and a block reads (N, C) or more axes"
            raise fail(
                "inputs", message, self.place(*path, key=True), node=where, remedy="keep the axis: keepdim: true"
            )
        given = self._arguments(written, definition, shapes, path, where)
        if (
            len(definition.block.inputs) == 1
            and len(shapes) != 1
            and definition.block.inputs[0].name.text.isidentifier()
        ):
            raise fail(
                "inputs",
                f"{name} takes 1 input, found {len(shapes)}",
                self.place(*path, key=True),
                node=where,
            )
        try:
            module, values = self.blocks.module(definition, given, list(shapes), frame)
        except SpecError as error:
            raise SpecError([problem.inside(where) for problem in error.problems]) from None
        if len(module.inputs) != len(shapes):
            wanted = ", ".join(item.name for item in module.inputs)
            raise fail(
                "inputs",
                f"{name} takes {len(module.inputs)} inputs ({wanted}), found {len(shapes)}",
                self.place(*path, key=True),
                node=where,
            )
        values = dict(values)
        for item, shape in zip(module.inputs, shapes, strict=True):
            # Where the block states its input's channels or length, what it gets must be that.
            require = Require(self.requirements, self.place(*path, key=True), where, self.frame)
            given_as = f"{name} is given {show(shape[1])} channels as '{item.name}'"
            require.equal(shape[1], substitute(item.shape[1], values), given_as)
            for axis in range(2, len(shape)):
                if not any(symbol.size for symbol in symbols_of(item.shape[axis])):
                    wanted_size = substitute(item.shape[axis], values)
                    given_as = f"{name} takes a length of {{right}} as '{item.name}', and is given {{left}}"
                    require.equal(shape[axis], wanted_size, given_as)
        outputs, required = called(module, values)
        for requirement in required:
            # What stays open is found again when it is known what is read of the block.
            if requirement.never():
                raise SpecError(requirement.within(where).problem())
        return BlockCall(module, values, outputs)

    def _arguments(
        self,
        written: models.BlockNode,
        definition: Definition,
        shapes: list[Shape],
        path: tuple[str | int, ...],
        where: str,
    ) -> dict[str, Any]:
        given: dict[str, Any] = {}
        raw = dict(written.model_extra or {})
        params = definition.block.params
        for key in raw:
            if key not in params:
                raise fail(
                    "unknown-parameter",
                    f"{definition.name} has no parameter '{key}'",
                    self.place(*path, key, key=True),
                    node=where,
                    remedy=suggest(key, [*params, "from", "repeat"], what="its parameters"),
                )
        for index, item in enumerate(definition.block.inputs):
            for axis, value in item.stated().values():
                text = value.raw
                if isinstance(text, str) and text in params and text not in raw and index < len(shapes):
                    given[text] = shapes[index][axis] if axis < len(shapes[index]) else 1
        for key, parameter in params.items():
            if key in given:
                continue
            place = self.place(*path, key)
            if key not in raw:
                if parameter.required:
                    raise fail(
                        "argument",
                        f"{definition.name} needs '{key}'",
                        self.place(*path, key=True),
                        node=where,
                        remedy=f"add {key}: {kind_text(parameter.type)}",
                    )
                given[key] = parameter.default
                continue
            written_value = raw[key]

            def read(
                parameter: models.Parameter = parameter,
                value: Any = written_value,
                place: Place = place,
            ) -> Any:
                if parameter.type == "str" and isinstance(value, str):
                    return Template(value).fill(self.frame.scope(self.names))
                return Value(value).evaluate(self.frame.scope(self.names))

            value = self.frame.guard(place, read, where)
            try:
                given[key] = typed(key, value, parameter)
            except ValueError as error:
                raise fail("argument", str(error), place, node=where, remedy=choices_text(parameter)) from None
        return given

    def _apply(self, written: models.ApplyNode, shapes: list[Shape]) -> ApplyCall:
        place = self.place("apply")
        name = self.frame.fill(written.apply, place, self.names)
        node = self.frame.nodes.get(name)
        if node is None:
            if name in self.frame.nodes and name != self.name:
                raise Skipped
            known = [item for item, held in self.frame.nodes.items() if held]
            raise fail(
                "unknown-node",
                f"there is no node '{name}' above to apply",
                place,
                node=self.name,
                remedy=suggest(name, known, what="nodes above"),
            )
        if isinstance(node.call, ApplyCall):
            name, node = node.call.target, self.frame.nodes[node.call.target] or node
        call = self._again(node.call, shapes, place)
        return ApplyCall(name, call)

    def _again(self, call: Call, shapes: list[Shape], place: Place) -> Call:
        """The same module on inputs of other shapes: its weights must fit them."""
        require = Require(self.requirements, place, self.name, self.frame)
        if isinstance(call, OpCall):
            if len(shapes) != len(call.inputs):
                raise fail(
                    "inputs",
                    f"the applied node takes {_counted(len(call.inputs))}, found {len(shapes)}",
                    place,
                    node=self.name,
                )
            before, after = call.op.slots(call.inputs), call.op.slots(tuple(shapes))
            for old, new in zip(before, after, strict=True):
                for left, right in zip(old.shape, new.shape, strict=True):
                    require.equal(
                        left,
                        right,
                        f"the shared {old.name} has another shape for this input: {{right}} for {{left}}",
                    )
            return replace(call, inputs=tuple(shapes), outputs=call.op.shapes(tuple(shapes), require))
        if isinstance(call, SequenceCall):
            elements: list[Call] = []
            for element in call.elements:
                elements.append(self._again(element, shapes, place))
                shapes = [elements[-1].outputs[0]]
            return SequenceCall(tuple(elements))
        assert isinstance(call, BlockCall)
        if len(shapes) != len(call.module.inputs):
            raise fail(
                "inputs",
                f"the applied node takes {_counted(len(call.module.inputs))}, found {len(shapes)}",
                place,
                node=self.name,
            )
        values = dict(call.values)
        given: dict[Symbol, Number] = {}
        for item, shape in zip(call.module.inputs, shapes, strict=True):
            require.equal(
                substitute(item.shape[1], values),
                shape[1],
                f"the shared block takes other channels as '{item.name}'",
            )
            require.equal(len(item.shape), len(shape), "the shared block takes inputs of another rank")
            for place_of, (axis, size) in enumerate(zip(item.shape, shape, strict=False)):
                symbol = next((symbol for symbol in symbols_of(axis) if symbol.size), None)
                if symbol and symbol not in given:
                    given[symbol] = size
                elif place_of != 1:
                    known = given[symbol] if symbol else substitute(axis, values)
                    other = f"the shared block takes {{left}} as axis {place_of} of '{item.name}', and not {{right}}"
                    require.equal(known, size, other)
        values |= given
        inside = Require([], place, self.name)
        for requirement in call.module.requirements:
            inside.add(requirement.under(values).within(self.name))
        outputs = tuple(tuple(substitute(size, values) for size in output.shape) for output in call.module.outputs)
        return BlockCall(call.module, values, outputs)


def _counted(inputs: int) -> str:
    return f"{inputs} input" + ("s" if inputs != 1 else "")
