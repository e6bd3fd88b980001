"""Elaboration: parameters bound, loops unrolled, blocks specialised, shapes inferred.

A block is elaborated with its parameters as symbols. Where something needs a parameter's *value* (a
loop's length, a list's index, a class's name) the block is begun again with that parameter bound to what
the caller gives, and is a class of its own for that value: this is how structural parameters are told
from value parameters. A *comparison* of symbols is first decided from their forms, in the block's terms,
then in the caller's, up to the network's own; only where no form decides it are parameters bound.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from segspec.algebra.expressions import Reference, Value
from segspec.algebra.symbols import Number, Sym, Symbol, bounds, number, show, symbols_of
from segspec.errors import Problem, SpecError, fail
from segspec.graph.calls import Site
from segspec.graph.frame import Decision, Frame, Limits, NeedsValue, Skipped
from segspec.graph.instances import misfits
from segspec.graph.kinds import mixed_up
from segspec.graph.model import Argument, Graph, Module, ModuleInput, ModuleOutput, N
from segspec.graph.naming import named
from segspec.graph.references import Reader
from segspec.graph.requirements import settle, sized, unseen_ones
from segspec.graph.restrict import reachable, restrict
from segspec.graph.starts import objections
from segspec.graph.values import parameter_symbol, root_values
from segspec.ops import Shape
from segspec.ops.attributes import whole
from segspec.spec import models
from segspec.spec.load import Definition
from segspec.spec.names import IMPORTED, PYTHON, class_name, objection

MAX_NESTING = 30


def elaborate(
    definition: Definition,
    settings: Mapping[str, Any] | None = None,
    preset: str = "",
    elaborator: Elaborator | None = None,
) -> Graph:
    """The graph of a spec at its defaults, a preset's values and ``settings``, each over the one before.

    An ``elaborator`` that is given for several graphs elaborates once what they share. Raises :class:`SpecError`
    with every problem found.
    """
    found = list(definition.file.findings())
    try:
        values = root_values(definition, settings or {}, preset)
        root, modules = named((elaborator or Elaborator()).root(definition, values))
        graph = Graph(root, modules, values, dict(settings or {}), preset)
        found += [*misfits(graph), *mixed_up(graph), *objections(graph), *sized(graph)]
    except SpecError as error:
        raise SpecError([*found, *error.problems]) from None
    except (ArithmeticError, RecursionError):
        message = "a size or a channel count has no value at these parameters, or too large a one"
        raise fail("expression", message, definition.place()) from None
    if found:
        raise SpecError(found)
    return graph


class Elaborator:
    """Elaborates networks, each class of their blocks once."""

    def __init__(self) -> None:
        self.limits = Limits()
        # What is known of a block at given bindings, by what its callers' forms decided on the way:
        # its module, or the parameters that must be bound first.
        self.known: dict[Any, list[tuple[tuple[Decision, ...], Module | frozenset[str]]]] = {}

    def root(self, definition: Definition, values: dict[str, Any]) -> Module:
        """The network's own module."""
        self.limits = Limits()
        shapes: list[Shape | None] = [None for _ in definition.block.inputs]
        return self.module(definition, dict(values), shapes, None)[0]

    def module(
        self,
        definition: Definition,
        given: dict[str, Any],
        inputs: list[Shape | None],
        caller: Frame | None,
    ) -> tuple[Module, dict[Symbol, Number]]:
        """The class of a block as called with ``given`` on ``inputs``, and its symbols in the caller's terms."""
        if caller and len(caller.callers()) >= MAX_NESTING:
            message = f"blocks stand more than {MAX_NESTING} deep in one another"
            raise fail("limit", message, definition.place(key=True))
        bound = {
            name: given[name]
            for name, parameter in definition.block.params.items()
            if parameter.type in ("str", "list")
        }
        while True:
            key = (definition, _frozen(bound), tuple(len(shape or ()) for shape in inputs), _batches(inputs))
            frame = self._frame(definition, given, bound, caller)
            # A network's own module has its parameters' values as defaults: only what must be bound is of use again.
            held = self.known.setdefault(key if caller else (key, *frame.actual), [])
            try:
                self._prepare(frame, inputs)
                known = next((outcome for decisions, outcome in held if frame.agrees(decisions)), None)
                if isinstance(known, frozenset):
                    raise NeedsValue(frame, [symbol for symbol in frame.actual if symbol.name in known])
                if known is None:
                    known = self._elaborate(frame, key)
                    if caller:
                        held.append((tuple(dict.fromkeys(frame.decisions)), known))
                if ones := unseen_ones(known.requirements, frame):
                    raise NeedsValue(frame, ones)
                return known, frame.actual
            except NeedsValue as needed:
                if needed.frame is not frame:
                    raise
                if caller or needed.by_form:
                    names = frozenset(item.name for item in needed.symbols)
                    held.append((tuple(dict.fromkeys(frame.decisions)), names))
                for symbol in needed.symbols:
                    value = frame.actual[symbol]
                    if isinstance(value, Sym):
                        if any(part.size for part in symbols_of(value)) or caller is None:
                            raise fail(
                                "expression",
                                f"'{symbol.name}' cannot depend on the image's size",
                                definition.place(),
                            ) from None
                        raise NeedsValue(caller, symbols_of(value)) from None
                    assert symbol.name not in bound, f"{symbol.name} is bound, and asked for again"
                    bound[symbol.name] = value

    def _frame(
        self,
        definition: Definition,
        given: dict[str, Any],
        bound: dict[str, Any],
        caller: Frame | None,
    ) -> Frame:
        """A fresh frame: symbols for what is not bound, and what they are in the caller's terms."""
        frame = Frame(definition, {}, {N: number(N)}, caller, bound, self.limits)
        block = definition.block
        for name, parameter in block.params.items():
            if name in bound:
                frame.names[name] = bound[name]
            else:
                value = given[name]
                symbol = parameter_symbol(name, parameter, None if caller else value)
                if bounds(value)[1] < symbol.low:
                    place = definition.place("params", name)
                    message = f"'{name}' is at least {symbol.low:g}, not {show(value)}"
                    raise fail("argument", message, place, remedy="give it another value, or the parameter a minimum:")
                frame.names[name] = number(symbol)
                frame.parameters[name] = symbol
                frame.actual[symbol] = value
        return frame

    def _prepare(self, frame: Frame, inputs: list[Shape | None]) -> None:
        """Give the frame its inputs and its ``let`` names; the first thing that may need a parameter's value."""
        definition, block = frame.definition, frame.definition.block
        names = self._input_names(frame)
        shapes = [inputs[index] if index < len(inputs) else None for index in range(len(names))]
        channels: dict[str, Number] = {}
        for index, (name, shape) in enumerate(zip(names, shapes, strict=True)):
            if self._stated(frame, name, "channels") is not None:
                continue
            implicit = "in_channels" if index == 0 else f"{name}_channels"
            if implicit in frame.bound:
                channels[name] = frame.names[implicit] = frame.bound[implicit]
                continue
            symbol = Symbol(implicit)
            frame.actual[symbol] = shape[1] if shape and len(shape) > 1 else 1
            channels[name] = frame.names[implicit] = number(symbol)
        for name, value in block.let.items():
            place = definition.place("let", name)
            if name in frame.names:
                what = "a parameter" if name in block.params else "the channels of an input"
                hides = f"'{name}' is {what} already"
                raise fail("duplicate", hides, definition.place("let", name, key=True), remedy="rename it")
            frame.names[name] = frame.evaluate(value, place, frame.names)
        for index, (name, shape) in enumerate(zip(names, shapes, strict=True)):
            declared = self._stated(frame, name, "channels")
            if declared is not None:
                channels[name] = self._size(frame, name, "channels", declared)
            # A network's own inputs all have one size; those of a block each have their own.
            suffix = "" if index == 0 or frame.caller is None else f"_{name}"
            first = _batches(inputs)[index] if index < len(inputs) else number(N)
            axes = self._input_shape(frame, shape, first, channels[name], suffix)
            length = self._stated(frame, name, "length")
            if length is not None:
                if len(axes) != 3:
                    found = f"'{name}' has a length, so it is (N, C, L), and {len(axes)} axes are given"
                    raise fail("inputs", found, definition.place("inputs", name, "length"))
                axes = (*axes[:2], self._size(frame, name, "length", length))
            frame.inputs[name] = axes
        if len(names) == 1:
            frame.previous = names[0]

    def _input_names(self, frame: Frame) -> list[str]:
        names: list[str] = []
        for item in frame.definition.block.inputs:
            place = frame.definition.place(*item.path, key=True)
            for reference in frame.resolve(item.name, place, frame.names):
                reason = objection(str(reference), IMPORTED)
                if reason or str(reference) in names:
                    raise fail(
                        "name",
                        reason or f"the input '{reference}' is given twice",
                        place,
                        remedy="choose another name",
                    )
                names.append(str(reference))
        if not names:
            raise fail("schema", "a block needs an input", frame.definition.place("inputs"))
        return names

    def _size(self, frame: Frame, name: str, what: str, value: Value) -> Number:
        place = frame.definition.place("inputs", name, what)
        try:
            return whole(1)(frame.evaluate(value, place, frame.names))
        except ValueError as error:
            raise fail("attribute", f"{what}: {error}", place) from None

    def _stated(self, frame: Frame, name: str, what: str) -> Value | None:
        return next(
            (getattr(item, what) for item in frame.definition.block.inputs if item.name.text == name),
            None,
        )

    def _input_shape(self, frame: Frame, shape: Shape | None, batch: Number, channels: Number, suffix: str) -> Shape:
        batch = next((frame.bound[symbol.name] for symbol in symbols_of(batch) if symbol.name in frame.bound), batch)
        axes: list[Number] = [batch, channels]
        rank = 4 if shape is None else len(shape)
        for index, letter in enumerate({3: "L", 4: "HW"}.get(rank, "ABCDEF"[: max(rank - 2, 0)])):
            symbol = Symbol(letter + suffix, size=True)
            if symbol.name in frame.bound:
                axes.append(frame.bound[symbol.name])
                continue
            axes.append(number(symbol))
            frame.actual[symbol] = shape[index + 2] if shape else number(symbol)
        if shape:
            frame.actual |= dict.fromkeys(symbols_of(batch), shape[0])
        return tuple(axes)

    def _elaborate(self, frame: Frame, key: Any) -> Module:
        definition = frame.definition
        earlier = frame.caller.callers() if frame.caller else []
        if definition in earlier:
            raise fail(
                "cycle",
                f"the block '{definition.name}' uses itself",
                definition.place(key=True),
                remedy="a block can use only others",
            )
        self._body(frame, definition.block.nodes, ("nodes",), {})
        outputs = self._outputs(frame)
        if not frame.problems:
            self._unused(frame, outputs)
        if frame.problems:
            raise SpecError(frame.problems)
        kept = [output for output, when in outputs if frame.caller or when != "used"]
        if frame.caller:
            kept = [replace(output, training=False) for output in kept]
        elif all(output.training for output in kept):
            raise fail(
                "schema",
                "the network returns nothing outside training",
                definition.place("outputs", key=True),
            )
        module = restrict(self._whole(frame, [output for output, _ in outputs], key), kept)
        if frame.caller is None:
            settle(frame, module)
        return module

    def _whole(self, frame: Frame, outputs: list[ModuleOutput], key: Any) -> Module:
        """The module with every node that the block has, in whatever outputs it is needed."""
        definition = frame.definition
        arguments = []
        for symbol in frame.actual:
            if not symbol.size and symbol.name not in definition.block.params:
                name = next(name for name, shape in frame.inputs.items() if symbol in symbols_of(shape[1]))
                arguments.append(Argument(symbol.name, symbol, "int", doc=f"channels of {name}"))
        for name, parameter in definition.block.params.items():
            if name in frame.parameters:
                symbol = frame.parameters[name]
                default = frame.actual[symbol] if frame.caller is None else parameter.default
                required = frame.caller is not None and (parameter.required or frame.contradicts(symbol, default))
                default = None if required else default
                arguments.append(Argument(name, symbol, parameter.type, default, required, parameter.doc))
        return Module(
            self._class_name(frame),
            definition,
            tuple(sorted(arguments, key=lambda argument: not argument.required)),
            tuple(ModuleInput(name, shape, _input_doc(definition, name)) for name, shape in frame.inputs.items()),
            tuple(node for node in frame.nodes.values() if node is not None),
            tuple(outputs),
            tuple(dict.fromkeys(frame.requirements)),
            (),
            (*frame.bound.items(), *((str(item), item.answer) for item in dict.fromkeys(frame.decisions))),
            0,
            (key, tuple(dict.fromkeys(frame.decisions))),
        )

    def _class_name(self, frame: Frame) -> str:
        definition = frame.definition
        template = definition.block.class_name
        if template is None:
            return class_name(definition.name)
        place = definition.place("class_name")
        name = frame.fill(template, place, frame.names)
        if reason := objection(name, PYTHON):
            raise fail("name", reason, place, remedy="choose another class_name")
        return name

    def _body(self, frame: Frame, body: list[Any], path: tuple[str | int, ...], names: dict[str, Any]) -> None:
        for statement in body:
            here = (*path, statement.key)
            try:
                self._statement(frame, statement, here, names)
            except Skipped:
                pass
            except SpecError as error:
                frame.note(error)
                # Which nodes a loop or a condition would have made, nobody knows.
                frame.gaps = (
                    frame.gaps or not isinstance(statement, models.NodeStatement) or statement.name.names != set()
                )

    def _statement(self, frame: Frame, statement: Any, path: tuple[str | int, ...], names: dict[str, Any]) -> None:
        key = frame.definition.place(*path, key=True)
        if isinstance(statement, models.LoopStatement):
            for variables in frame.loop(statement.loop, key, {**frame.names, **names}):
                self._body(frame, statement.body, path, {**names, **variables})
            return
        if isinstance(statement, models.ConditionStatement):
            if frame.test(statement.test, key, {**frame.names, **names}):
                self._body(frame, statement.body, path, names)
            return
        name = frame.fill(statement.name, key, {**frame.names, **names})
        if reason := objection(name, IMPORTED):
            raise fail("name", reason, key, remedy="choose another name")
        if name in frame.nodes or name in frame.inputs:
            what = "an input" if name in frame.inputs else "a node"
            raise fail(
                "duplicate",
                f"there is {what} '{name}' already",
                key,
                node=name,
                remedy="rename one of them",
            )
        frame.nodes[name] = None
        previous, frame.previous = frame.previous, name
        context = Site(self, frame, name, path, {**frame.names, **names}, previous)
        try:
            frame.nodes[name] = context.node(statement.node)
        except ArithmeticError:
            message = "a size or a channel count has no value here, or too large a one"
            raise fail("expression", message, key, node=name) from None
        frame.requirements += context.requirements

    def _outputs(self, frame: Frame) -> list[tuple[ModuleOutput, str]]:
        definition = frame.definition
        declared = definition.block.outputs
        found: list[tuple[ModuleOutput, str]] = []
        if not declared and frame.problems:
            return []
        if not declared:
            reader = Reader(frame, "", ("outputs",), frame.names, "")
            if frame.previous in frame.inputs or not frame.nodes:
                raise fail("schema", "the block has no nodes", definition.place(key=True))
            tensor, shape = reader.tensor(Reference(frame.previous), definition.place(key=True))
            return [(ModuleOutput(frame.previous, tensor, shape), "always")]
        for output in declared:
            name = output.name.text if output.name else ""
            place = definition.place(*output.path)
            reader = Reader(frame, "", ("outputs",), frame.names, "")
            try:
                around = definition.place(*output.path[:-1], key=True)
                if not all(frame.test(test, around, frame.names) for test in output.tests):
                    continue
                references = frame.resolve(output.source, place, frame.names)
                if name and len(references) != 1:
                    several = f"the output '{name}' is {len(references)} values"
                    raise fail("schema", several, place, remedy="an output is one value")
                for reference in references:
                    tensor, shape = reader.tensor(reference, place)
                    title = name or reference.output or reference.node
                    if objection(title) or any(title == other.name for other, _ in found):
                        raise fail(
                            "name",
                            objection(title) or f"the output '{title}' is given twice",
                            definition.place(*output.path, key=True),
                            remedy="choose another name" if name else "name the outputs: {NAME: NODE}",
                        )
                    item = ModuleOutput(
                        title,
                        tensor,
                        shape,
                        output.when == "training",
                        output.loss_weight,
                        output.doc,
                    )
                    found.append((item, output.when))
            except SpecError as error:
                frame.note(error)
            except Skipped:
                continue
        if not found and not frame.problems:
            message = "no output is left: the conditions of all are false"
            frame.problems.append(Problem("schema", message, definition.place("outputs", key=True)))
        return found

    def _unused(self, frame: Frame, outputs: list[tuple[ModuleOutput, str]]) -> None:
        nodes = {name: node for name, node in frame.nodes.items() if node is not None}
        needed = reachable(nodes, [output.tensor for output, _ in outputs])
        for name, node in frame.nodes.items():
            if name not in needed and node is not None:
                frame.problems.append(
                    Problem(
                        "unused",
                        f"nothing uses the node '{name}'",
                        node.place,
                        name,
                        "read it, make it an output, or remove it",
                    )
                )
        for name in frame.inputs:
            if name not in needed and not frame.problems:
                place = frame.definition.place("inputs", name, key=True)
                frame.problems.append(
                    Problem(
                        "unused",
                        f"nothing uses the input '{name}'",
                        place,
                        "",
                        "read it or remove it",
                    )
                )


def _input_doc(definition: Definition, name: str) -> str:
    return next((item.doc for item in definition.block.inputs if item.name.text == name), "")


def _batches(inputs: list[Shape | None]) -> tuple[Number, ...]:
    """The first axis of each input in the block's terms.

    It is the first input's batch, or, for a learned tensor among maps, a symbol or a number of its own.
    """
    found = [shape[0] if shape else None for shape in inputs]
    axes: list[Number] = []
    for length in found:
        first = found.index(length)
        own = number(Symbol(f"N{first}", size=True)) if first else number(N)
        axes.append(length if first and isinstance(length, int) else own)
    return tuple(axes)


def _frozen(value: Any) -> Any:
    if isinstance(value, dict):
        return tuple((key, _frozen(item)) for key, item in value.items())
    if isinstance(value, list):
        return tuple(map(_frozen, value))
    return (type(value).__name__, value)
