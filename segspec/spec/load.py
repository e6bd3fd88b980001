"""From a file to a :class:`Definition`: the models, checked for what needs no elaboration.

All problems of a file are collected before any is reported. A file's imports are found beside it, then
in the zoo.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from segspec.algebra.expressions import ExpressionError, References, Template, Value
from segspec.errors import Place, Problem, SpecError, fail, shown, shown_path, suggest
from segspec.ops import OPS
from segspec.ops.attributes import kind_of
from segspec.spec import document, zoo
from segspec.spec.checkpoints import DEFAULTS, AnyRule, Rename, RuleCondition, RuleLoop
from segspec.spec.models import (
    ApplyNode,
    Block,
    BlockNode,
    ConditionElements,
    ConditionStatement,
    ElementStatement,
    LoopElements,
    LoopStatement,
    NodeStatement,
    OpNode,
    SequenceNode,
    Spec,
)
from segspec.spec.models import Node as AnyNode
from segspec.spec.names import PYTHON, objection
from segspec.spec.problems import problems_of

MAX_FILES = 100
NODE_KEYS = {"op", "block", "sequence", "apply", "repeat", "doc"}


@dataclass(eq=False)
class File:
    """One spec file, read and validated."""

    path: Path
    name: str
    document: document.Document
    spec: Spec
    definitions: dict[str, Definition] = field(default_factory=dict)
    imports: list[File] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    """What is wrong with the file and yet lets its blocks be elaborated."""

    def digest(self) -> str:
        """A digest of this file's text and of all that it imports, the same on every system."""
        texts = {file.name: file.document.text for file in self.closure()}
        joined = "\0".join(f"{name}\0{text}" for name, text in sorted(texts.items()))
        return hashlib.sha256(joined.encode()).hexdigest()

    def findings(self) -> Iterator[Problem]:
        """The problems of this file and of all that it imports."""
        for file in self.closure():
            yield from file.problems

    def closure(self) -> list[File]:
        """This file and every file it imports, directly or not, each once."""
        found = {id(self): self}
        for other in self.imports:
            found |= {id(file): file for file in other.closure()}
        return list(found.values())


@dataclass(eq=False)
class Definition:
    """A block with the file it stands in: what a ``block:`` names, and what a spec itself is."""

    name: str
    block: Block
    file: File
    path: document.Path = ()

    def place(self, *path: str | int, key: bool = False) -> Place:
        """Where a part of the block stands."""
        return self.file.document.place((*self.path, *path), key=key)

    def find(self, name: str) -> Definition | None:
        """The block that ``name`` means here."""
        return self.file.definitions.get(name)


def load(name: str | Path) -> Definition:
    """Read a spec by its name in the zoo or its path, and every file that it imports.

    Raises :class:`SpecError` where a file cannot be read as a spec; what else is found stays with the file.
    """
    return Loader().load(name)


class Loader:
    """Loads specs, each file that they share once."""

    def __init__(self) -> None:
        self.files: dict[Path, File] = {}
        self.open: list[Path] = []
        self.before = 0

    def load(self, name: str | Path) -> Definition:
        """As :func:`load`."""
        held = dict(self.files)
        self.open, self.before = [], len(held)
        try:
            path = name if isinstance(name, Path) else zoo.find(name)
            file = self._file(path, path.name if isinstance(name, Path) else name)
        except SpecError:
            self.files = held  # a file with a problem is not loaded: the next to need it finds the problem again
            raise
        if not file.spec.nodes:
            what = "defines blocks but no network" if file.spec.blocks else "defines no network"
            place, remedy = Place(file.document.name), "give it nodes: and outputs:"
            raise SpecError([Problem("schema", f"the file {what}", place, "", remedy), *file.findings()])
        return file.definitions[""]

    def _file(self, path: Path, asked: str) -> File:
        key = path.resolve()
        if key in self.files:
            return self.files[key]
        if len(self.files) - self.before >= MAX_FILES:
            raise fail("limit", f"the spec imports more than {MAX_FILES} files")
        name = shown_path(path) if zoo.SPECS not in key.parents else zoo.shown_name(path)
        read = document.read(path, name)
        file = File(path, zoo.shown_name(path), read, _validate(read))
        self.files[key] = file
        self.open.append(key)
        problems: list[Problem] = []
        file.definitions[""] = Definition(file.spec.name or path.stem, file.spec, file)
        for block_name, block in file.spec.blocks.items():
            file.definitions[block_name] = Definition(block_name, block, file, ("blocks", block_name))
        for wanted, names in file.spec.imports.items():
            try:
                self._import(file, wanted, names)
            except SpecError as error:
                problems += error.problems
        self.open.pop()
        file.problems = _check(file)
        if problems:
            raise SpecError([*problems, *file.problems])
        return file

    def _import(self, file: File, wanted: str, names: list[str]) -> None:
        place = file.document.place(("import", wanted), key=True)
        if not wanted.isprintable() or Path(wanted).is_absolute() or ".." in Path(wanted).parts or "\\" in wanted:
            raise fail(
                "import",
                f"{shown(wanted)} is no import",
                place,
                remedy="name a file below this one's folder, or below the zoo's",
            )
        candidates = [file.path.parent / wanted, zoo.SPECS / wanted]
        found = next((path for path in candidates if path.is_file()), None)
        if found is None:
            known = [
                path.relative_to(root).as_posix()
                for root in (file.path.parent, zoo.SPECS)
                for path in islice(_specs(root), MAX_FILES)
                if path.resolve() != file.path.resolve()
            ]
            raise fail(
                "import",
                f"there is no '{wanted}' beside this file or in the zoo",
                place,
                remedy=suggest(wanted, known),
            )
        if found.resolve() in self.open:
            raise fail(
                "cycle",
                f"'{wanted}' imports this file in turn",
                place,
                remedy="move what both need to a third file",
            )
        other = self._file(found, wanted)
        file.imports.append(other)
        exported = {key: definition for key, definition in other.definitions.items() if definition.file is other}
        network = exported.pop("")
        if other.spec.nodes:
            exported[network.name] = network
        for index, name in enumerate(names):
            at = file.document.place(("import", wanted, index))
            if name not in exported:
                raise fail(
                    "import",
                    f"'{wanted}' has no block '{name}'",
                    at,
                    remedy=suggest(name, exported, what="its blocks"),
                )
            if name in file.definitions:
                raise fail(
                    "duplicate",
                    f"a block '{name}' is here already",
                    at,
                    remedy="rename one of them",
                )
            file.definitions[name] = exported[name]


def _specs(root: Path) -> Iterator[Path]:
    yield from root.glob("*.yaml")
    yield from root.glob("*/*.yaml")


def _validate(read: document.Document) -> Spec:
    if not isinstance(read.data, dict):
        raise fail(
            "schema",
            "a spec is a mapping",
            Place(read.name),
            remedy="start with 'segspec: 1' and 'name: …'",
        )
    try:
        return Spec.model_validate(read.data)
    except ValidationError as error:
        raise SpecError(problems_of(error, read)) from None


def _check(file: File) -> list[Problem]:
    """What can be seen without elaborating: names, and what nothing uses."""
    problems: list[Problem] = []
    spec = file.spec
    used_blocks: set[str] = set()
    local = [definition for key, definition in file.definitions.items() if definition.file is file]
    for definition in local:
        if definition.block.nodes:
            problems += _check_block(definition)
        used_blocks |= _blocks_of(definition.block)
    if spec.nodes:
        if not spec.name:
            problems.append(
                Problem(
                    "schema",
                    "'name' is missing",
                    Place(file.document.name),
                    remedy=f"add name: {file.path.stem}",
                )
            )
        if not spec.outputs:
            problems.append(
                Problem(
                    "schema",
                    "'outputs' is missing",
                    Place(file.document.name),
                    remedy="add outputs: [NODE]",
                )
            )
        for item in spec.inputs:
            if item.channels is None:
                problems.append(
                    Problem(
                        "schema",
                        f"the input '{item.name.text}' has no channels",
                        file.document.place(item.path, key=True),
                        remedy="write inputs: {image: {channels: in_channels}}, with in_channels among the params",
                    )
                )
    if "" not in used_blocks:  # a template may name any block
        unused: list[tuple[str, document.Path]] = [
            (name, ("blocks", name)) for name in spec.blocks if spec.nodes and name not in used_blocks
        ]
        unused += [
            (name, ("import", wanted, index))
            for wanted, names in spec.imports.items()
            for index, name in enumerate(names)
            if name not in used_blocks and name in file.definitions
        ]
        for name, path in unused:
            place = file.document.place(path, key=path[0] == "blocks")
            problems.append(
                Problem(
                    "unused",
                    f"nothing uses the block '{name}'",
                    place,
                    remedy="use it or remove it",
                )
            )
    for preset, values in spec.presets.items():
        for key in values:
            if key not in spec.params:
                place = file.document.place(("presets", preset, key), key=True)
                problems.append(
                    Problem(
                        "unknown-parameter",
                        f"the preset '{preset}' sets '{key}', which is no parameter",
                        place,
                        remedy=suggest(key, spec.params, what="parameters"),
                    )
                )
    problems += _check_init(file)
    problems += _check_checkpoints(file)
    for preset in spec.expect.presets:
        if preset not in spec.presets:
            place = file.document.place(("expect", "presets", preset), key=True)
            problems.append(
                Problem(
                    "unknown-preset",
                    f"there is no preset '{preset}'",
                    place,
                    remedy=suggest(preset, spec.presets, what="presets"),
                )
            )
    return problems


def _check_init(file: File) -> Iterator[Problem]:
    """Whether the ops that ``init`` names have the parameters that it names."""
    for name, slots in file.spec.init.items():
        place = file.document.place(("init", name), key=True)
        if name not in OPS:
            yield Problem("unknown-op", f"no op is called {shown(name)}", place, remedy=suggest(name, OPS, what="ops"))
            continue
        known = _trainable(name)
        for slot, init in slots.items():
            if slot not in known:
                place = file.document.place(("init", name, slot), key=True)
                near = suggest(slot, known, what="its parameters") if known else ""
                yield Problem("attribute", f"{name} has no parameter {shown(slot)}", place, remedy=near)
            elif objection := init.objection(known[slot], known.get("weight", known[slot])):
                yield Problem("attribute", f"{slot}: {objection}", file.document.place(("init", name, slot)))


def _check_checkpoints(file: File) -> Iterator[Problem]:
    """Whether checkpoints are of presets and backends that there are, and read only what is defined."""
    spec = file.spec
    for name, given in spec.checkpoints.items():
        at: document.Path = ("checkpoints", name)

        def place(*path: str | int, key: bool = False, at: document.Path = at) -> Place:
            return file.document.place((*at, *path), key=key)

        if not spec.nodes:
            remedy = "write it in the spec of a network"
            yield Problem("schema", "a file without a network has no checkpoints", place(key=True), remedy=remedy)
            continue
        if given.backend not in zoo.backends():
            remedy = suggest(given.backend, zoo.backends(), what="backends")
            message = f"there is no backend {shown(given.backend)}"
            yield Problem("unknown-backend", message, place("backend"), remedy=remedy)
        for index, preset in enumerate(given.presets):
            if preset != DEFAULTS and preset not in spec.presets:
                remedy = suggest(preset, [DEFAULTS, *spec.presets], what="presets")
                message = f"there is no preset {shown(preset)}"
                yield Problem("unknown-preset", message, place("presets", index), remedy=remedy)
        if "classes" in given.model_fields_set and given.classes not in spec.params:
            remedy = suggest(given.classes, spec.params, what="parameters")
            message = f"no parameter is called '{given.classes}'"
            yield Problem("unknown-parameter", message, place("classes"), remedy=remedy)
        known = {*spec.params, *spec.let, *given.let}
        read: set[str] = set()
        for entry, value in given.let.items():
            read |= value.names
            if entry in spec.params or entry in spec.let:
                message = f"'{entry}' has a meaning in the spec already"
                yield Problem("duplicate", message, place("let", entry, key=True), remedy="rename it")
            if unknown := value.names - known:
                yield _unknown_name(unknown, known, place("let", entry))
        for rule, path, inside in _rules(given.rules, ("rules",), frozenset(known)):
            names, at_hand = _names_of_rule(rule, inside)
            read |= names
            if unknown := names - at_hand:
                yield _unknown_name(unknown, at_hand, place(*path, key=True))
            for hidden in sorted(rule.loop.variables & inside) if isinstance(rule, RuleLoop) else ():
                message = f"the loop's '{hidden}' hides another '{hidden}'"
                yield Problem("duplicate", message, place(*path, key=True), remedy="rename the loop's")
        for index, pattern in enumerate(given.ignore):
            read |= pattern.read(known)
            if unknown := pattern.read(known) - known:
                yield _unknown_name(unknown, known, place("ignore", index))
        for part in ("lacks", "zeros", "bgr"):
            for index, word in enumerate(getattr(given, part)):
                read |= word.names
                if unknown := word.names - known:
                    yield _unknown_name(unknown, known, place(part, index))
        for entry in given.let:
            if entry not in read:
                message = f"nothing uses the name '{entry}'"
                yield Problem("unused", message, place("let", entry, key=True), remedy="use it or remove it")


def _unknown_name(unknown: Iterable[str], known: Iterable[str], place: Place) -> Problem:
    first = min(unknown)
    remedy = suggest(first, known, what="names here")
    return Problem("unknown-name", f"nothing here is called '{first}'", place, remedy=remedy)


def _rules(
    rules: Iterable[AnyRule], path: document.Path, known: frozenset[str]
) -> Iterator[tuple[AnyRule, document.Path, frozenset[str]]]:
    """Every rule, those inside loops and conditions included, with its path and the names defined around it."""
    for rule in rules:
        here = (*path, rule.key)
        yield rule, here, known
        if isinstance(rule, RuleLoop):
            yield from _rules(rule.body, here, known | rule.loop.variables)
        elif isinstance(rule, RuleCondition):
            yield from _rules(rule.body, here, known)


def _names_of_rule(rule: AnyRule, known: frozenset[str]) -> tuple[frozenset[str], frozenset[str]]:
    """The names that a rule reads, and those that it may: what is defined around it, and its slots."""
    if isinstance(rule, RuleLoop):
        return rule.loop.items.names, known
    if isinstance(rule, RuleCondition):
        return rule.test.names, known
    own = rule.own if isinstance(rule, Rename) else rule.within.node
    return rule.foreign.read(known) | own.names, known | rule.foreign.slots(known)


def _trainable(name: str) -> dict[str, int]:
    """The trainable parameters that an op can have, those of its examples, with the number of their axes."""
    op = OPS[name]
    found: dict[str, int] = {}
    for example in op.examples:
        shape = tuple(example.get("shape", (2, 4, 9, 12)))
        given = {key: value for key, value in example.items() if key not in ("shape", "other")}
        made = op(**{key: kind_of(op, key).read(value) for key, value in given.items()})
        found |= {slot.name: len(slot.shape) for slot in made.slots((shape, shape)) if slot.trainable}
    return found


def _check_block(definition: Definition) -> list[Problem]:
    block, problems = definition.block, []
    read = _names_of(block)
    for kind, names in (("params", block.params), ("let", block.let)):
        for name in names:
            place = definition.place(kind, name, key=True)
            if kind == "params" and name in NODE_KEYS:
                message = f"'{name}' is a key of every node, so no node could set this parameter"
                problems.append(Problem("name", message, place, remedy="choose another name"))
            if kind == "params" and (reason := objection(name, PYTHON)):
                problems.append(
                    Problem(
                        "name",
                        reason,
                        place,
                        remedy="choose another name",
                    )
                )
            if name not in read:
                what = "the parameter" if kind == "params" else "the name"
                problems.append(
                    Problem(
                        "unused",
                        f"nothing uses {what} '{name}'",
                        place,
                        ".".join(map(str, definition.path[1:])),
                        "use it or remove it",
                    )
                )
    for name in block.let:
        if name in block.params:
            place = definition.place("let", name, key=True)
            problems.append(Problem("duplicate", f"'{name}' is a parameter already", place, remedy="rename it"))
    for statement, path, outer in _loops(block.nodes, ("nodes",), frozenset(block.params) | frozenset(block.let)):
        for name in sorted(statement.loop.variables & outer):
            place, message = definition.place(*path, key=True), f"the loop's '{name}' hides another '{name}'"
            problems.append(Problem("duplicate", message, place, remedy="rename the loop's"))
    return problems


def _loops(
    body: Iterable[Any], path: document.Path, names: frozenset[str]
) -> Iterator[tuple[LoopStatement, document.Path, frozenset[str]]]:
    """Every loop around nodes, with its path and the names that are defined around it."""
    for statement in body:
        here = (*path, statement.key)
        if isinstance(statement, LoopStatement):
            yield statement, here, names
            yield from _loops(statement.body, here, names | statement.loop.variables)
        elif isinstance(statement, ConditionStatement):
            yield from _loops(statement.body, here, names)


def statements(body: Iterable[Any]) -> Iterator[Any]:
    """Every statement of a body, those inside loops and conditions included."""
    for statement in body:
        yield statement
        if isinstance(statement, LoopStatement | ConditionStatement):
            yield from statements(statement.body)


def _nodes(body: Iterable[Any]) -> Iterator[Any]:
    for statement in statements(body):
        if isinstance(statement, NodeStatement):
            yield from _with_elements(statement.node)


def _with_elements(node: Any) -> Iterator[Any]:
    yield node
    if isinstance(node, SequenceNode):
        for element in elements(node.sequence):
            if isinstance(element, ElementStatement):
                yield from _with_elements(element.node)


def elements(sequence: Iterable[Any]) -> Iterator[Any]:
    """Every entry of a sequence, those inside loops and conditions included."""
    for element in sequence:
        yield element
        if isinstance(element, LoopElements | ConditionElements):
            yield from elements(element.body)


def _blocks_of(block: Block) -> set[str]:
    """The blocks that a block's nodes name; a template stands as the empty name."""
    found = set()
    for node in _nodes(block.nodes):
        if isinstance(node, BlockNode):
            found.add("" if node.block.names else node.block.text)
    return found


def _names_of(block: Block) -> set[str]:
    """Every name that any expression of the block reads."""
    found: set[str] = set()

    def read(*items: Any) -> None:
        for item in items:
            if isinstance(item, Value | Template | References):
                found.update(item.names)
            elif isinstance(item, list):
                read(*item)

    read(block.class_name, *block.let.values())
    for given in block.inputs:
        read(given.name, given.channels, given.length)
    for output in block.outputs:
        read(output.name, output.source)
        for test in output.tests:
            found.update(test.names)
    for statement in statements(block.nodes):
        if isinstance(statement, NodeStatement):
            read(statement.name)
            for node in _with_elements(statement.node):
                _read_node(node, read)
                for element in elements(node.sequence) if isinstance(node, SequenceNode) else ():
                    _read_control(element, found)
        _read_control(statement, found)
    return found


def _read_control(statement: Any, found: set[str]) -> None:
    if isinstance(statement, LoopStatement | LoopElements):
        found.update(statement.loop.items.names)
    elif isinstance(statement, ConditionStatement | ConditionElements):
        found.update(statement.test.names)


def _read_node(node: AnyNode, read: Any) -> None:
    read(node.source, node.repeat)
    if isinstance(node, OpNode):
        read(*node.written().values())
    elif isinstance(node, BlockNode):
        read(node.block)
        for raw in (node.model_extra or {}).values():
            for kind in (Value, Template):
                try:
                    read(kind(raw) if kind is Value or isinstance(raw, str) else None)
                except ExpressionError:
                    continue  # reported with its place when the block's parameter types are known
    elif isinstance(node, ApplyNode):
        read(node.apply)
