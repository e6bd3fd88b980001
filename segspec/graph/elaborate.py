"""Elaboration: parameters bound, loops unrolled, blocks specialised, shapes inferred.

A block is elaborated with its parameters as symbols. Where something needs a parameter's *value* (a
loop's length, a list's index, a class's name) the block is begun again with that parameter bound to what
the caller gives, and is a class of its own for that value: this is how structural parameters are told
from value parameters. A *comparison* of symbols is first decided from their forms, in the block's terms,
then in the caller's, up to the network's own; only where no form decides it are parameters bound.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

from segspec.algebra.expressions import (
    Budget,
    ExpressionError,
    Reference,
    References,
    Scope,
    Template,
    UnknownName,
    Value,
    iterate,
    truth,
    unpack,
)
from segspec.algebra.symbols import (
    Number,
    Sym,
    Symbol,
    Undecided,
    compare,
    number,
    show,
    substitute,
    symbols_of,
)
from segspec.errors import Place, Problem, SpecError, fail, suggest
from segspec.graph.model import (
    ApplyCall,
    Argument,
    BlockCall,
    Call,
    Graph,
    Module,
    ModuleInput,
    ModuleOutput,
    Node,
    OpCall,
    Requirement,
    SequenceCall,
    Tensor,
)
from segspec.ops import OPS, Shape
from segspec.ops.attributes import kind_of, whole
from segspec.spec import models
from segspec.spec.load import Definition, statements
from segspec.spec.names import class_name, objection

MAX_NODES = 20_000
MAX_INSTANCES = 200_000
N = Symbol("N", size=True)


def elaborate(
    definition: Definition, settings: Mapping[str, Any] | None = None, preset: str = ""
) -> Graph:
    """The graph of a spec at its defaults, a preset's values and ``settings``, each over the one before.

    Raises :class:`SpecError` with every problem found.
    """
    values = _root_values(definition, settings or {}, preset)
    try:
        root = _Elaborator().root(definition, values)
    except RecursionError:
        raise fail("limit", "the blocks are nested too deeply", definition.place()) from None
    root, modules = _named(root)
    return Graph(root, modules, values, dict(settings or {}), preset)


def _root_values(
    definition: Definition, settings: Mapping[str, Any], preset: str
) -> dict[str, Any]:
    block = definition.block
    assert isinstance(block, models.Spec)
    if preset and preset not in block.presets:
        remedy = suggest(preset, block.presets, what="presets")
        raise fail(
            "unknown-preset", f"'{definition.name}' has no preset '{preset[:80]}'", remedy=remedy
        )
    values: dict[str, Any] = {}
    problems: list[Problem] = []
    chosen = block.presets.get(preset, {})
    for key in settings:
        if key not in block.params:
            remedy = suggest(key, block.params, what="parameters")
            problems.append(
                Problem(
                    "unknown-parameter",
                    f"'{definition.name}' has no parameter '{key[:80]}'",
                    None,
                    "",
                    remedy,
                )
            )
    for name, parameter in block.params.items():
        place = definition.place("params", name)
        value = parameter.default
        if name in chosen:
            value, place = chosen[name], definition.place("presets", preset, name)
        if name in settings:
            value = settings[name]
        if value is None:
            problems.append(
                Problem(
                    "argument",
                    f"the parameter '{name}' has no value",
                    place,
                    "",
                    "give it a default",
                )
            )
            continue
        try:
            values[name] = _typed(name, value, parameter)
        except ValueError as error:
            problems.append(
                Problem(
                    "choice" if parameter.choices else "argument",
                    str(error),
                    place,
                    "",
                    _choices(parameter),
                )
            )
    if problems:
        raise SpecError(problems)
    return values


def _choices(parameter: models.Parameter) -> str:
    if parameter.choices:
        return "choices: " + ", ".join(map(str, parameter.choices))
    return f"it is {_article(parameter.type)}"


def _article(kind: str) -> str:
    return {
        "int": "a whole number",
        "float": "a number",
        "bool": "true or false",
        "str": "a word",
        "list": "a list",
    }[kind]


def _typed(name: str, value: Any, parameter: models.Parameter) -> Any:
    """The value as the parameter's type has it; ``ValueError`` if it cannot be."""
    kind = parameter.type
    if kind == "int":
        try:
            value = whole(None)(value)
        except ValueError:
            raise ValueError(f"'{name}' is a whole number, not {show(value)}") from None
    elif (
        kind == "float"
        and isinstance(value, int | float | Fraction | Sym)
        and not isinstance(value, bool)
    ):
        value = float(value) if isinstance(value, Fraction) else value
    elif not isinstance(
        value, {"float": float, "bool": bool | Sym, "str": str, "list": list}[kind]
    ):  # type: ignore[arg-type]
        raise ValueError(f"'{name}' is {_article(kind)}, not {show(value)}")
    if (
        parameter.choices is not None
        and not isinstance(value, Sym)
        and value not in parameter.choices
    ):
        raise ValueError(f"'{name}' cannot be {show(value)}")
    if parameter.minimum is not None and not isinstance(value, Sym) and value < parameter.minimum:
        raise ValueError(f"'{name}' is at least {parameter.minimum}, not {show(value)}")
    return value


class _NeedsValue(Exception):
    """A frame's symbols must have values before its block can be elaborated."""

    def __init__(self, frame: _Frame, symbols: Iterable[Symbol]) -> None:
        super().__init__()
        self.frame = frame
        self.symbols = frozenset(symbols)


class _Skipped(Exception):
    """A node reads one that has a problem of its own, which is reported already."""


@dataclass
class _Frame:
    """One attempt at one block: its names, and how it was called."""

    definition: Definition
    names: dict[str, Any]
    actual: dict[Symbol, Any]
    caller: _Frame | None
    bound: dict[str, Any]
    decisions: list[tuple[str, bool]] = field(default_factory=list)
    nodes: dict[str, Node | None] = field(default_factory=dict)
    inputs: dict[str, Shape] = field(default_factory=dict)
    requirements: list[Requirement] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    previous: str = ""

    def decide(self, operator: str, left: Number, right: Number) -> bool:
        """Decide a comparison from the forms: here, else in the caller's terms."""
        try:
            return compare(operator, left, right)
        except Undecided as undecided:
            if any(symbol.size for symbol in undecided.symbols):
                raise ExpressionError("a condition cannot depend on the image's size") from None
            if self.caller is None:
                raise _NeedsValue(self, undecided.symbols) from None
        answer = self.caller.decide(
            operator, substitute(left, self.actual), substitute(right, self.actual)
        )
        self.decisions.append((f"{show(left)} {operator} {show(right)}", answer))
        return answer

    def shape_of(self, reference: str) -> Shape:
        """The shape of an input or of a node's one output."""
        if reference in self.inputs:
            return self.inputs[reference]
        node = self.nodes.get(reference)
        if node is None:
            raise _Skipped
        return node.call.outputs[0]

    def stack(self) -> list[Definition]:
        return [self.definition, *(self.caller.stack() if self.caller else [])]


class _Elaborator:
    def __init__(self) -> None:
        self.budget = Budget()
        self.nodes_left = MAX_NODES
        # What is known of a block at given bindings: its module, or the parameters that it needs first.
        self.known: dict[Any, Module | frozenset[str]] = {}

    def root(self, definition: Definition, values: dict[str, Any]) -> Module:
        """The network's own module."""
        shapes: list[Shape | None] = [None for _ in definition.block.inputs]
        return self.module(definition, dict(values), shapes, None)[0]

    def module(
        self,
        definition: Definition,
        given: dict[str, Any],
        inputs: list[Shape | None],
        caller: _Frame | None,
    ) -> tuple[Module, dict[Symbol, Number]]:
        """The class of a block as called with ``given`` on ``inputs``, and its symbols in the caller's terms."""
        bound = {
            name: given[name]
            for name, parameter in definition.block.params.items()
            if parameter.type in ("str", "list")
        }
        while True:
            key = (definition, _frozen(bound), tuple(len(shape or ()) for shape in inputs))
            frame = self._frame(definition, given, bound, caller)
            known = self.known.get(key)
            try:
                self._prepare(frame, inputs)
                if isinstance(known, frozenset):
                    raise _NeedsValue(
                        frame, [symbol for symbol in frame.actual if symbol.name in known]
                    )
                if known is None:
                    known = self._elaborate(frame, key)
                    if not frame.decisions:
                        self.known[key] = known
                return known, frame.actual
            except _NeedsValue as needed:
                if needed.frame is not frame:
                    raise
                self.known[key] = frozenset(symbol.name for symbol in needed.symbols)
                for symbol in needed.symbols:
                    value = frame.actual[symbol]
                    if isinstance(value, Sym):
                        if any(part.size for part in symbols_of(value)) or caller is None:
                            raise fail(
                                "expression",
                                f"'{symbol.name}' cannot depend on the image's size",
                                definition.place(),
                            ) from None
                        raise _NeedsValue(caller, symbols_of(value)) from None
                    bound[symbol.name] = value

    def _frame(
        self,
        definition: Definition,
        given: dict[str, Any],
        bound: dict[str, Any],
        caller: _Frame | None,
    ) -> _Frame:
        """A fresh frame: symbols for what is not bound, and what they are in the caller's terms."""
        frame = _Frame(definition, {}, {N: number(N)}, caller, bound)
        block = definition.block
        for name, parameter in block.params.items():
            if name in bound:
                frame.names[name] = bound[name]
            else:
                symbol = _parameter_symbol(name, parameter)
                frame.names[name] = number(symbol)
                frame.actual[symbol] = given[name]
        return frame

    def _prepare(self, frame: _Frame, inputs: list[Shape | None]) -> None:
        """Give the frame its inputs and its ``let`` names; the first thing that may need a parameter's value."""
        definition, block = frame.definition, frame.definition.block
        names = self._input_names(frame)
        shapes = [inputs[index] if index < len(inputs) else None for index in range(len(names))]
        channels: dict[str, Number] = {}
        for index, (name, shape) in enumerate(zip(names, shapes, strict=True)):
            if self._declared_channels(frame, name) is not None:
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
                raise fail("duplicate", f"'{name}' is defined already", place, remedy="rename it")
            frame.names[name] = self._evaluate(frame, value, place, frame.names)
        for index, (name, shape) in enumerate(zip(names, shapes, strict=True)):
            declared = self._declared_channels(frame, name)
            if declared is not None:
                place = definition.place("inputs", name, "channels")
                channels[name] = self._evaluate(frame, declared, place, frame.names)
            # A network's own inputs all have one size; those of a block each have their own.
            suffix = "" if index == 0 or frame.caller is None else f"_{name}"
            frame.inputs[name] = self._input_shape(frame, shape, channels[name], suffix)
        if len(names) == 1:
            frame.previous = names[0]

    def _input_names(self, frame: _Frame) -> list[str]:
        names: list[str] = []
        for index, item in enumerate(frame.definition.block.inputs):
            place = frame.definition.place("inputs", index)
            if item.channels is not None or item.name.text.isidentifier():
                place = frame.definition.place("inputs", item.name.text, key=True)
            for reference in self._resolve(frame, item.name, place, frame.names):
                reason = objection(str(reference))
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

    def _declared_channels(self, frame: _Frame, name: str) -> Value | None:
        return next(
            (item.channels for item in frame.definition.block.inputs if item.name.text == name),
            None,
        )

    def _input_shape(
        self, frame: _Frame, shape: Shape | None, channels: Number, suffix: str
    ) -> Shape:
        axes: list[Number] = [number(N), channels]
        rank = 4 if shape is None else len(shape)
        for index, letter in enumerate({3: "L", 4: "HW"}.get(rank, "ABCDEF"[: max(rank - 2, 0)])):
            symbol = Symbol(letter + suffix, size=True)
            axes.append(number(symbol))
            frame.actual[symbol] = shape[index + 2] if shape else number(symbol)
        if shape:
            frame.actual[N] = shape[0]
        return tuple(axes)

    # --- one block -------------------------------------------------------------------------------

    def _elaborate(self, frame: _Frame, key: Any) -> Module:
        definition = frame.definition
        earlier = frame.caller.stack() if frame.caller else []
        if definition in earlier:
            raise fail(
                "cycle",
                f"the block '{definition.name}' uses itself",
                definition.place(key=True),
                remedy="a block can use only others",
            )
        self._body(frame, definition.block.nodes, ("nodes",), {})
        outputs = self._outputs(frame) if not frame.problems else []
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
            _settle(frame, module)
        return module

    def _whole(self, frame: _Frame, outputs: list[ModuleOutput], key: Any) -> Module:
        """The module with every node that the block has, in whatever outputs it is needed."""
        definition = frame.definition
        arguments = []
        for symbol in frame.actual:
            if not symbol.size and symbol.name not in definition.block.params:
                name = next(
                    name for name, shape in frame.inputs.items() if symbol in symbols_of(shape[1])
                )
                arguments.append(Argument(symbol.name, symbol, "int", doc=f"channels of {name}"))
        for name, parameter in definition.block.params.items():
            if name not in frame.bound:
                symbol = _parameter_symbol(name, parameter)
                default = frame.actual[symbol] if frame.caller is None else parameter.default
                required = parameter.required and frame.caller is not None
                arguments.append(
                    Argument(name, symbol, parameter.type, default, required, parameter.doc)
                )
        return Module(
            self._class_name(frame),
            definition,
            tuple(sorted(arguments, key=lambda argument: not argument.required)),
            tuple(
                ModuleInput(name, shape, _input_doc(definition, name))
                for name, shape in frame.inputs.items()
            ),
            tuple(node for node in frame.nodes.values() if node is not None),
            tuple(outputs),
            tuple(dict.fromkeys(frame.requirements)),
            tuple({**frame.bound, **dict(frame.decisions)}.items()),
            0,
            (key, tuple(dict.fromkeys(frame.decisions))),
        )

    def _class_name(self, frame: _Frame) -> str:
        definition = frame.definition
        template = definition.block.class_name
        if template is None:
            return class_name(definition.name)
        place = definition.place("class_name")
        name = self._fill(frame, template, place, frame.names)
        if reason := objection(name):
            raise fail("name", reason, place, remedy="choose another class_name")
        return name

    # --- statements ------------------------------------------------------------------------------

    def _body(
        self, frame: _Frame, body: list[Any], path: tuple[str | int, ...], names: dict[str, Any]
    ) -> None:
        for statement in body:
            here = (*path, statement.key)
            try:
                self._statement(frame, statement, here, names)
            except _Skipped:
                pass
            except SpecError as error:
                frame.problems += error.problems

    def _statement(
        self, frame: _Frame, statement: Any, path: tuple[str | int, ...], names: dict[str, Any]
    ) -> None:
        key = frame.definition.place(*path, key=True)
        if isinstance(statement, models.LoopStatement):
            scope = self._scope(frame, {**frame.names, **names})
            for item in self._guard(frame, key, lambda: iterate(statement.items.evaluate(scope))):
                inner = self._guard(frame, key, lambda item=item: unpack(statement.target, item))
                self._guard(frame, key, self.budget.spend)
                self._body(frame, statement.body, path, {**names, **inner})
            return
        if isinstance(statement, models.ConditionStatement):
            scope = self._scope(frame, {**frame.names, **names})
            if self._guard(frame, key, lambda: truth(statement.test.evaluate(scope), scope)):
                self._body(frame, statement.body, path, names)
            return
        name = self._fill(frame, statement.name, key, {**frame.names, **names})
        self.nodes_left -= 1
        if self.nodes_left < 0:
            raise fail("limit", f"the spec makes more than {MAX_NODES:,} nodes", key, node=name)
        if reason := objection(name):
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
        context = _Site(self, frame, name, path, {**frame.names, **names}, previous)
        node = context.node(statement.node)
        frame.nodes[name] = node
        frame.requirements += context.requirements

    # --- what remains ----------------------------------------------------------------------------

    def _outputs(self, frame: _Frame) -> list[tuple[ModuleOutput, str]]:
        definition = frame.definition
        declared = definition.block.outputs
        found: list[tuple[ModuleOutput, str]] = []
        if not declared:
            site = _Site(self, frame, "", ("outputs",), frame.names, "")
            if frame.previous in frame.inputs or not frame.nodes:
                raise fail("schema", "the block has no nodes", definition.place(key=True))
            tensor, shape = site.tensor(Reference(frame.previous), definition.place(key=True))
            return [(ModuleOutput(frame.previous, tensor, shape), "always")]
        for output in declared:
            name = output.name.text if output.name else ""
            place = definition.place(*output.path)
            scope = self._scope(frame, frame.names)
            if not all(
                self._guard(frame, place, lambda test=test: truth(test.evaluate(scope), scope))
                for test in output.tests
            ):
                continue
            site = _Site(self, frame, "", ("outputs",), frame.names, "")
            try:
                references = self._resolve(frame, output.source, place, frame.names)
                for reference in references:
                    tensor, shape = site.tensor(reference, place)
                    title = name or reference.output or reference.node
                    if objection(title) or any(title == other.name for other, _ in found):
                        raise fail(
                            "name",
                            objection(title) or f"the output '{title}' is given twice",
                            place,
                            remedy="name the outputs: {NAME: NODE}",
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
                if name and len(references) != 1:
                    raise fail(
                        "schema",
                        f"the output '{name}' is {len(references)} values",
                        place,
                        remedy="an output is one value",
                    )
            except SpecError as error:
                frame.problems += error.problems
            except _Skipped:
                continue
        return found

    def _unused(self, frame: _Frame, outputs: list[tuple[ModuleOutput, str]]) -> None:
        nodes = {name: node for name, node in frame.nodes.items() if node is not None}
        needed = _reachable(nodes, [output.tensor for output, _ in outputs])
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

    # --- evaluation ------------------------------------------------------------------------------

    def _scope(self, frame: _Frame, names: Mapping[str, Any]) -> Scope:
        def channels(name: str) -> Number:
            if name not in frame.inputs and name not in frame.nodes:
                raise UnknownName(name, [*frame.inputs, *frame.nodes])
            return frame.shape_of(name)[1]

        return Scope(names, self.budget, frame.decide, channels)

    def _guard(self, frame: _Frame, place: Place, run: Callable[[], Any], node: str = "") -> Any:
        """Run an evaluation and give what can go wrong in it its place."""
        try:
            return run()
        except UnknownName as error:
            remedy = suggest(error.name, error.known, what="names here")
            raise fail(error.code, str(error), place, node=node, remedy=remedy) from None
        except ExpressionError as error:
            raise fail(error.code, str(error), place, node=node, remedy=error.remedy) from None
        except Undecided as undecided:
            if any(symbol.size for symbol in undecided.symbols):
                raise fail(
                    "expression", "this cannot depend on the image's size", place, node=node
                ) from None
            raise _NeedsValue(frame, undecided.symbols) from None

    def _evaluate(
        self, frame: _Frame, value: Value, place: Place, names: Mapping[str, Any], node: str = ""
    ) -> Any:
        return self._guard(frame, place, lambda: value.evaluate(self._scope(frame, names)), node)

    def _fill(
        self, frame: _Frame, template: Template, place: Place, names: Mapping[str, Any]
    ) -> str:
        return str(self._guard(frame, place, lambda: template.fill(self._scope(frame, names))))

    def _resolve(
        self, frame: _Frame, references: References, place: Place, names: Mapping[str, Any]
    ) -> list[Reference]:
        found: list[Reference] = self._guard(
            frame, place, lambda: references.resolve(self._scope(frame, names))
        )
        return found


class _Site:
    """One node being elaborated: its place, its names, what it requires."""

    def __init__(
        self,
        elaborator: _Elaborator,
        frame: _Frame,
        name: str,
        path: tuple[str | int, ...],
        names: Mapping[str, Any],
        previous: str,
    ) -> None:
        self.elaborator = elaborator
        self.frame = frame
        self.name = name
        self.path = path
        self.names = names
        self.previous = previous
        self.requirements: list[Requirement] = []

    def place(self, *more: str | int, key: bool = False) -> Place:
        return self.frame.definition.place(*self.path, *more, key=key)

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
        return Node(self.name, call, tuple(sources), self.place(key=True))

    # --- inputs ----------------------------------------------------------------------------------

    def _sources(self, written: models.Node) -> tuple[list[Tensor], list[Shape]]:
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
                resolved = self.elaborator._resolve(self.frame, references, place, self.names)
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
            raise fail(
                "unknown-node", "'_' is the node before, and there is none", place, node=self.name
            )
        return Reference(self.previous, reference.output, reference.upto)

    def tensor(self, reference: Reference, place: Place) -> tuple[Tensor, Shape]:
        """What a reference means, and its shape."""
        frame, name = self.frame, reference.node
        if name in frame.inputs:
            if reference.output or reference.upto is not None:
                raise fail(
                    "unknown-node", f"the input '{name}' has no parts", place, node=self.name
                )
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
            later = {
                item.key
                for item in statements(frame.definition.block.nodes)
                if isinstance(item, models.NodeStatement)
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
                remedy=suggest(
                    name, [item for item in known if item != self.name], what="nodes above"
                ),
            )
        node = frame.nodes[name]
        if node is None:
            raise _Skipped
        if reference.upto is not None:
            if not isinstance(node.call, SequenceCall) or reference.upto > len(node.call.elements):
                raise fail(
                    "unknown-node",
                    f"'{name}' has no element {reference.upto - 1}",
                    place,
                    node=self.name,
                    remedy="a tap names an element of a sequence, counted from 0",
                )
            return Tensor(name, 0, reference.upto), node.call.elements[reference.upto - 1].outputs[
                0
            ]
        index = self._output_index(node, reference, place)
        return Tensor(name, index), node.call.outputs[index]

    def _output_index(self, node: Node, reference: Reference, place: Place) -> int:
        call = node.call.call if isinstance(node.call, ApplyCall) else node.call
        if not isinstance(call, BlockCall):
            if reference.output:
                raise fail(
                    "unknown-node",
                    f"'{node.name}' has no outputs of their own names",
                    place,
                    node=self.name,
                    remedy=f"write '{node.name}'",
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
        default = _default_outputs(call.module)
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

    # --- calls -----------------------------------------------------------------------------------

    def _call(
        self, written: models.Node, shapes: list[Shape], path: tuple[str | int, ...], where: str
    ) -> tuple[Call, list[Tensor]]:
        """One call of a node or of a sequence's element, and what it reads beyond ``from``."""
        if isinstance(written, models.OpNode):
            return self._op(written, shapes, path, where)
        if isinstance(written, models.BlockNode):
            return self._block(written, shapes, path, where), []
        if isinstance(written, models.SequenceNode):
            elements: list[Call] = []
            self._fill_sequence(written.sequence, shapes, (*path, "sequence"), where, elements)
            if not elements:
                raise fail(
                    "attribute", "the sequence is empty", self.place(*path, "sequence"), node=where
                )
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
                here = (*here, entry.key)
                place, outer = self.place(*here, key=True), self.names
                scope = self.elaborator._scope(self.frame, outer)
                for item in self.elaborator._guard(
                    self.frame, place, lambda: iterate(entry.items.evaluate(scope))
                ):
                    self.names = {
                        **outer,
                        **self.elaborator._guard(
                            self.frame, place, lambda: unpack(entry.target, item)
                        ),
                    }
                    self._fill_sequence(entry.body, shapes, here, where, elements)
                self.names = outer
                continue
            if isinstance(entry, models.ConditionElements):
                here = (*here, entry.key)
                scope = self.elaborator._scope(self.frame, self.names)
                if self.elaborator._guard(
                    self.frame,
                    self.place(*here, key=True),
                    lambda: truth(entry.test.evaluate(scope), scope),
                ):
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
        times = self.elaborator._evaluate(self.frame, written.repeat, place, self.names, self.name)
        if isinstance(times, Sym):
            raise _NeedsValue(self.frame, symbols_of(times))
        if isinstance(times, bool) or not isinstance(times, int) or times < 0:
            raise fail(
                "attribute", f"repeat is a whole number, not {show(times)}", place, node=self.name
            )
        elements: list[Call] = []
        for index in range(times):
            self.elaborator.nodes_left -= 1
            if self.elaborator.nodes_left < 0:
                raise fail(
                    "limit", f"the spec makes more than {MAX_NODES:,} nodes", place, node=self.name
                )
            call, extra = self._call(written, shapes, path, f"{where}.{start + index}")
            if extra:
                raise fail(
                    "inputs", "a repeated node reads the one before alone", place, node=where
                )
            elements.append(call)
            shapes = [self._single(call, path, where)]
        return elements

    def _single(self, call: Call, path: tuple[str | int, ...], where: str) -> Shape:
        if isinstance(call, BlockCall):
            default = _default_outputs(call.module)
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
                reference = self.elaborator._resolve(self.frame, raw, place, self.names)
                if len(reference) != 1:
                    raise fail("inputs", f"{name} is one node", place, node=where)
                tensor, shape = self.tensor(self._earlier(reference[0], place), place)
                extra.append(tensor)
                shapes = [*shapes, shape]
                values[name] = str(reference[0])
                continue
            if isinstance(raw, Template):
                given: Any = self.elaborator._fill(self.frame, raw, place, self.names)
            else:
                given = self.elaborator._evaluate(self.frame, raw, place, self.names, where)
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
        least, most = declared.inputs
        count = len(shapes) - len(extra)
        if not least <= count <= most:
            wanted = str(least) if least == most else f"{least} or more"
            raise fail(
                "inputs",
                f"{written.op} takes {wanted} input{'s' if wanted != '1' else ''}, found {count}",
                self.place(*path, "from") if written.source else place,
                node=where,
            )
        output = op.shape(tuple(shapes), _Require(self, place, where))
        slots = {slot.name for slot in op.slots(tuple(shapes))}
        for name in written.init:
            if name not in slots:
                raise fail(
                    "attribute",
                    f"{written.op} has no parameter '{name}'",
                    self.place(*path, "init", name, key=True),
                    node=where,
                    remedy=suggest(name, slots, what="its parameters"),
                )
        return OpCall(op, tuple(shapes), (output,), tuple(written.init.items())), extra

    def _block(
        self,
        written: models.BlockNode,
        shapes: list[Shape],
        path: tuple[str | int, ...],
        where: str,
    ) -> BlockCall:
        elaborator, frame = self.elaborator, self.frame
        place = self.place(*path, "block")
        name = elaborator._fill(frame, written.block, place, self.names)
        definition = frame.definition.find(name) if name else None
        if definition is None:
            known = [key for key in frame.definition.file.definitions if key]
            raise fail(
                "unknown-block",
                f"there is no block '{name}'",
                place,
                node=where,
                remedy=suggest(name, known, what="blocks here")
                + "; import what stands in another file",
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
            module, values = elaborator.module(definition, given, list(shapes), frame)
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
            # Where the block states its input's channels, what it gets must be that.
            _Require(self, self.place(*path, key=True), where).equal(
                shape[1],
                substitute(item.shape[1], values),
                f"{name} is given {show(shape[1])} channels as '{item.name}'",
            )
        require = _Require(self, place, where)
        for requirement in module.requirements:
            require.add(requirement.under(values).within(where))
        outputs = tuple(
            tuple(substitute(size, values) for size in output.shape) for output in module.outputs
        )
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
            text = item.channels.raw if item.channels else None
            if isinstance(text, str) and text in params and text not in raw and index < len(shapes):
                given[text] = shapes[index][1]
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
                        remedy=f"add {key}: {_article(parameter.type)}",
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
                    return Template(value).fill(self.elaborator._scope(self.frame, self.names))
                return Value(value).evaluate(self.elaborator._scope(self.frame, self.names))

            value = self.elaborator._guard(self.frame, place, read, where)
            try:
                given[key] = _typed(key, value, parameter)
            except ValueError as error:
                raise fail(
                    "argument", str(error), place, node=where, remedy=_choices(parameter)
                ) from None
        return given

    def _apply(self, written: models.ApplyNode, shapes: list[Shape]) -> ApplyCall:
        place = self.place("apply")
        name = self.elaborator._fill(self.frame, written.apply, place, self.names)
        node = self.frame.nodes.get(name)
        if node is None:
            if name in self.frame.nodes and name != self.name:
                raise _Skipped
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
        require = _Require(self, place, self.name)
        if isinstance(call, OpCall):
            if len(shapes) != len(call.inputs):
                raise fail(
                    "inputs",
                    f"the applied node takes {len(call.inputs)} inputs, found {len(shapes)}",
                    place,
                    node=self.name,
                )
            before, after = call.op.slots(call.inputs), call.op.slots(tuple(shapes))
            for old, new in zip(before, after, strict=True):
                for left, right in zip(old.shape, new.shape, strict=True):
                    require.equal(
                        left,
                        right,
                        f"the shared {old.name} has another shape for this input: {show(right)} for {show(left)}",
                    )
            return replace(
                call, inputs=tuple(shapes), outputs=(call.op.shape(tuple(shapes), require),)
            )
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
                f"the applied node takes {len(call.module.inputs)} inputs, found {len(shapes)}",
                place,
                node=self.name,
            )
        values = dict(call.values)
        for item, shape in zip(call.module.inputs, shapes, strict=True):
            require.equal(
                substitute(item.shape[1], values),
                shape[1],
                f"the shared block takes other channels as '{item.name}'",
            )
            require.equal(
                len(item.shape), len(shape), "the shared block takes inputs of another rank"
            )
            for axis, size in zip(item.shape, shape, strict=False):
                if isinstance(axis, Sym) and (symbol := next(iter(symbols_of(axis)))).size:
                    values[symbol] = size
        for requirement in call.module.requirements:
            require.add(requirement.under(values).within(self.name))
        outputs = tuple(
            tuple(substitute(size, values) for size in output.shape)
            for output in call.module.outputs
        )
        return BlockCall(call.module, values, outputs)


class _Require:
    """Collects what must hold at one node; what cannot hold is a problem at once."""

    def __init__(self, site: _Site, place: Place, where: str) -> None:
        self.site = site
        self.where_place = place
        self.node = where

    def equal(self, left: Number, right: Number, message: str, remedy: str = "") -> None:
        self.add(Requirement("==", left, right, message, remedy, self.where_place, self.node))

    def at_least(
        self, value: Number, minimum: int, message: str, remedy: str = "", *, training: bool = False
    ) -> None:
        self.add(
            Requirement(
                ">=", value, minimum, message, remedy, self.where_place, self.node, training
            )
        )

    def add(self, requirement: Requirement) -> None:
        """Keep a requirement that is open; raise for one that cannot hold."""
        try:
            if not requirement.holds():
                raise SpecError(requirement.problem())
        except Undecided:
            self.site.requirements.append(requirement)


def _settle(frame: _Frame, module: Module) -> None:
    """Hold the network's own parameters to what its forms left open and no image size can decide."""
    problems = []
    for requirement in module.requirements:
        symbols = symbols_of(requirement.left) | symbols_of(requirement.right)
        if any(symbol.size for symbol in symbols):
            continue
        if requirement.under(frame.actual).holds():
            raise _NeedsValue(frame, symbols)
        problems.append(requirement.problem())
    if problems:
        raise SpecError(problems)


def _parameter_symbol(name: str, parameter: models.Parameter) -> Symbol:
    if parameter.type == "bool":
        return Symbol(name, 0, 1)
    if parameter.type == "float":
        return Symbol(
            name, -math.inf if parameter.minimum is None else parameter.minimum, whole=False
        )
    default = parameter.default if isinstance(parameter.default, int) else 1
    low = 1 if default >= 1 else 0 if default == 0 else -math.inf
    return Symbol(name, low if parameter.minimum is None else parameter.minimum)


def _input_doc(definition: Definition, name: str) -> str:
    return next((item.doc for item in definition.block.inputs if item.name.text == name), "")


def _default_outputs(module: Module) -> list[str]:
    """The outputs that a reference without a name can mean."""
    declared = module.definition.block.outputs
    if not declared:
        return [output.name for output in module.outputs]
    always = [output for output in declared if output.when == "always"]
    if len(always) == len(declared):
        return [output.name for output in module.outputs]
    names = {
        output.name.text if output.name else output.source.text.split(".")[-1] for output in always
    }
    return [output.name for output in module.outputs if output.name in names]


def restrict(module: Module, outputs: Iterable[ModuleOutput]) -> Module:
    """The class that holds only what these of its outputs need: nodes, arguments, requirements.

    Blocks inside are restricted in turn to what is read of them.
    """
    kept = tuple(outputs)
    held = {node.name: node for node in module.nodes}
    always = _reachable(held, [output.tensor for output in kept if not output.training])
    needed = _reachable(held, [output.tensor for output in kept])
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
        cut.append(replace(node, call=call, training=node.name not in always))
        for tensor in read:
            moved[replace(tensor, node=node.name)] = Tensor(
                node.name, order.index(tensor.output), tensor.upto
            )
    cut = [
        replace(node, sources=tuple(moved.get(source, source) for source in node.sources))
        for node in cut
    ]
    kept = tuple(replace(output, tensor=moved.get(output.tensor, output.tensor)) for output in kept)
    seen: set[Symbol] = set()
    instances = 1
    for node in cut:
        for _, call in _calls(node.call):
            seen |= _constructor_symbols(call)
            instances += call.module.instances if isinstance(call, BlockCall) else 1
    if instances > MAX_INSTANCES:
        raise fail(
            "limit",
            f"the network has more than {MAX_INSTANCES:,} nodes",
            module.definition.place(key=True),
        )
    return replace(
        module,
        arguments=tuple(argument for argument in module.arguments if argument.symbol in seen),
        nodes=tuple(cut),
        outputs=kept,
        requirements=tuple(
            item for item in module.requirements if item.node.split(".")[0] in needed
        ),
        instances=instances,
        key=(module.key, tuple(output.name for output in kept)),
    )


def _cut(call: Call, read: list[Tensor]) -> tuple[Call, list[int]]:
    """A call restricted to the outputs that are read, and which of the old outputs the new ones are."""
    indices = sorted({tensor.output for tensor in read}) or [0]
    if isinstance(call, BlockCall) and len(indices) < len(call.module.outputs):
        module = restrict(call.module, [call.module.outputs[index] for index in indices])
        return BlockCall(
            module, call.values, tuple(call.outputs[index] for index in indices)
        ), indices
    if isinstance(call, SequenceCall):
        taps = [tensor.upto for tensor in read]
        elements = (
            call.elements
            if None in taps or not taps
            else call.elements[: max(tap for tap in taps if tap)]
        )
        return SequenceCall(tuple(_default_cut(element) for element in elements)), [0]
    if isinstance(call, ApplyCall):
        inner, order = _cut(call.call, read)
        return ApplyCall(call.target, inner), order
    return call, list(range(len(call.outputs)))


def _default_cut(call: Call) -> Call:
    """An element of a sequence, which returns its block's one default output."""
    if isinstance(call, BlockCall):
        names = [output.name for output in call.module.outputs]
        return _cut(call, [Tensor("", names.index(_default_outputs(call.module)[0]))])[0]
    return _cut(call, [])[0]


def _reachable(nodes: Mapping[str, Node], tensors: Iterable[Tensor]) -> set[str]:
    found: set[str] = set()
    waiting = [tensor.node for tensor in tensors]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        if (node := nodes.get(name)) is not None:
            waiting += [source.node for source in node.sources]
            if isinstance(node.call, ApplyCall):
                waiting.append(node.call.target)
    return found


def _calls(call: Call) -> Iterable[tuple[str, Call]]:
    if isinstance(call, SequenceCall):
        for index, element in enumerate(call.elements):
            for path, inner in _calls(element):
                yield f"{index}.{path}", inner
    else:
        yield "", call


def _constructor_symbols(call: Call) -> set[Symbol]:
    """The symbols that the code of a call names: attributes, weights' sizes, a block's arguments."""
    if isinstance(call, OpCall):
        shapes = [slot.shape for slot in call.op.slots(call.inputs)]
        held = [*call.op.attributes().values(), *call.op.derived(call.inputs).values(), *shapes]
        return {symbol for symbol in symbols_of(held) if not symbol.size}
    if isinstance(call, BlockCall):
        values = [call.argument(argument.name) for argument in call.module.arguments]
        return {symbol for symbol in symbols_of(values) if not symbol.size}
    return set()


def _frozen(value: Any) -> Any:
    if isinstance(value, dict):
        return tuple((key, _frozen(item)) for key, item in value.items())
    if isinstance(value, list):
        return tuple(map(_frozen, value))
    return (type(value).__name__, value)


def _named(root: Module) -> tuple[Module, tuple[Module, ...]]:
    """The same modules with a class name each of their own, in the order in which code must define them."""
    renamed: dict[Any, Module] = {}
    taken: dict[str, Any] = {root.name: root.key}

    def name(module: Module) -> str:
        wanted = module.name
        if taken.setdefault(wanted, module.key) == module.key:
            return wanted
        suffixes = [_suffix(key, value) for key, value in module.choices]
        candidates = [
            wanted + "".join(suffixes),
            *(f"{wanted}{count}" for count in range(2, 10_000)),
        ]
        return next(
            other for other in candidates if taken.setdefault(other, module.key) == module.key
        )

    def call(old: Call) -> Call:
        if isinstance(old, BlockCall):
            return replace(old, module=visit(old.module))
        if isinstance(old, SequenceCall):
            return SequenceCall(tuple(call(element) for element in old.elements))
        if isinstance(old, ApplyCall):
            return ApplyCall(old.target, call(old.call))
        return old

    def visit(module: Module) -> Module:
        if module.key not in renamed:
            nodes = tuple(replace(node, call=call(node.call)) for node in module.nodes)
            made = replace(
                module, name=module.name if module is root else name(module), nodes=nodes
            )
            renamed[module.key] = made
        return renamed[module.key]

    made = visit(root)
    return made, tuple(renamed.values())


def _suffix(key: str, value: Any) -> str:
    if isinstance(value, bool):
        return class_name(key) if value and key.isidentifier() else ""
    return str(value) if isinstance(value, int | str) and str(value).isalnum() else ""
