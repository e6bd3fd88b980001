"""Random specs, drawn node by node from what the ops declare: attributes by their kinds, inputs that their rules take.

Nothing here names an op. What a node is and what it reads are drawn, tried with :mod:`concrete` at the sizes of the
case, and drawn again where they do not fit, so that most specs are valid.
"""

from __future__ import annotations

import dataclasses
import math
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import yaml
from concrete import Body, Made, Misfit, Ran, Require, Value, evaluated, network, opened, opened_network, shaped
from hypothesis import strategies as st
from kinds import drawn, is_pattern, pattern
from pydantic import TypeAdapter

from segspec.algebra.symbols import Symbol, number
from segspec.errors import Place, SpecError
from segspec.graph.elaborate import elaborate
from segspec.graph.instances import Instance
from segspec.graph.model import Node, OpCall
from segspec.ops import OPS, Op
from segspec.ops.attributes import Kind, kind_of
from segspec.ops.initializers import AnyInitializer, Initializer
from segspec.render.backend import backends, refusals
from segspec.render.source import _Renderer as Renderer
from segspec.spec.load import load

T = TypeVar("T")
Size: TypeAlias = tuple[int, int, int]
Written: TypeAlias = dict[str, Any]

ATTEMPTS = 5
NODES = 9
"""How many statements a network has at most; a block has half as many."""

DEPTH = 2
"""How deep blocks stand in one another."""

STARTS: tuple[Any, ...] = (
    *("zeros", "ones", "kaiming_normal", "kaiming_uniform", "xavier_normal", "xavier_uniform", "fan_in_uniform"),
    *({"constant": {"value": 0.5}}, {"normal": {"std": 0.1}}, {"uniform": {"low": -0.5, "high": 0.25}}),
    *({"kaiming_normal": {"mode": "fan_out"}}, {"normal": {"mean": 1, "std": 0.02}}, "bilinear"),
)
"""Every initialiser."""

INITIAL: TypeAdapter[Initializer] = TypeAdapter(AnyInitializer)

EDGES = (8, 9, 5, 7, 6, 13, 16, 3, 4, 11, 12, 17, 2, 1)
BATCHES = (3, 2, 4, 1)


@dataclass(frozen=True)
class Case:
    """A spec and the sizes (height, width, batch) at which it is compared; the first is sure to fit."""

    spec: Mapping[str, Any]
    sizes: tuple[Size, ...]

    @property
    def text(self) -> str:
        """The spec as users write it."""
        return yaml.safe_dump(dict(self.spec), sort_keys=False, default_flow_style=None, width=110)

    def __repr__(self) -> str:
        return f"{self.text}at {', '.join('x'.join(map(str, size)) for size in self.sizes)}\n"

    def keep(self, folder: Path, **said: Any) -> None:
        """Write the case as a folder of ``tests/fuzz/cases``, with what is said of it."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "spec.yaml").write_text(self.text, encoding="utf-8")
        held = {"sizes": [list(size) for size in self.sizes], **said}
        text = yaml.safe_dump(held, sort_keys=False, default_flow_style=None, width=110)
        (folder / "expected.yaml").write_text(text, encoding="utf-8")


def kept(folder: Path) -> tuple[Case, dict[str, Any]]:
    """A case that was kept, and what is said of it."""
    spec, said = (
        yaml.safe_load((folder / name).read_text(encoding="utf-8")) for name in ("spec.yaml", "expected.yaml")
    )
    return Case(spec, tuple(tuple(size) for size in said.pop("sizes"))), said


@st.composite
def cases(draw: Callable[[st.SearchStrategy[Any]], Any]) -> Case:
    """A network of a few nodes that fits its first size, mostly its second, and perhaps the others."""
    return Drawing(draw).case()


@dataclass
class Scope:
    """A block being written: its body at each size, and its parts as they are to stand in the spec."""

    bodies: list[Body]
    depth: int = 0
    params: Written = field(default_factory=dict)
    let: Written = field(default_factory=dict)
    nodes: Written = field(default_factory=dict)
    references: list[str] = field(default_factory=list)

    @property
    def body(self) -> Body:
        """The body at the first size."""
        return self.bodies[0]

    def grown(self, nodes: Mapping[str, Any]) -> list[Body] | None:
        """The bodies with these statements; None where they do not fit at some size, or could never be trained."""
        if any(
            key in self.nodes for key in nodes
        ):  # a loop or a condition may be written twice, and not in one mapping
            return None
        try:
            bodies = [body.plus(nodes) for body in self.bodies]
        except Misfit:
            return None
        if any(refused(ran) for body in bodies for ran in body.ops[len(self.body.ops) :]):
            return None
        if all(len(body.untrainable) > len(old.untrainable) for body, old in zip(bodies, self.bodies, strict=True)):
            return None
        states = [[slot.shape for made in body.nodes.values() for slot in made.slots] for body in bodies]
        return bodies if all(state == states[0] for state in states) else None  # weights have one size

    @property
    def chains(self) -> bool:
        """Whether the node before is one tensor of values, which the next may read without saying so."""
        try:
            return bool(self.body.previous) and not self.value("_").whole
        except Misfit:
            return False

    def value(self, reference: str) -> Value:
        """What a reference means at the first size."""
        return self.body.read(reference, self.body.names, count=False)

    def everywhere(self, reference: str) -> tuple[Value, ...]:
        """What a reference means at each size."""
        return tuple(body.read(reference, body.names, count=False) for body in self.bodies)

    def name(self, name: str, value: Any) -> None:
        """Let expressions use a name."""
        for body in self.bodies:
            body.names[name] = value

    def unread(self) -> list[str]:
        """The inputs and nodes that nothing reads yet."""
        return [name for name in (*self.body.inputs, *self.body.nodes) if name not in self.body.used]

    def numbers(self) -> dict[str, Any]:
        """What expressions may use: names that mean the same at every size."""
        first, *others = (body.names for body in self.bodies)
        if not others:  # an input's channels may follow from the image's size
            first = {name: value for name, value in first.items() if name in self.params or name in self.let}
        return {name: value for name, value in first.items() if all(other.get(name) == value for other in others)}

    def part(self) -> Written:
        """The parameters, names and nodes as they stand in the spec, without what nothing uses."""
        let, params = dict(self.let), dict(self.params)
        for held in (let, params):
            for name in reversed(list(held)):
                others = {key: text for key, text in let.items() if key != name}
                if name not in words([self.nodes, others]):
                    del held[name]
        return {key: value for key, value in {"params": params, "let": let, "nodes": self.nodes}.items() if value}


def words(written: Any) -> set[str]:
    """Every word of a part of a spec."""
    return set(re.findall(r"\w+", yaml.safe_dump(written)))


class Drawing:
    """One case being drawn."""

    def __init__(self, draw: Callable[[st.SearchStrategy[Any]], Any]) -> None:
        self.draw = draw
        self.blocks: Written = {}
        self.count = 0

    def one(self, items: Sequence[T]) -> T:
        return self.draw(st.sampled_from(items))

    def chance(self, percent: int) -> bool:
        """True in so many of a hundred cases; shrinks to False."""
        return bool(self.draw(st.integers(0, 99)) >= 100 - percent)

    def whole(self, low: int, high: int) -> int:
        return int(self.draw(st.integers(low, high)))

    def fresh(self, prefix: str) -> str:
        self.count += 1
        return f"{prefix}{self.count}"

    # --- networks and blocks ---------------------------------------------------------------------

    def case(self) -> Case:
        """The network, and the sizes."""
        sizes = [self.size()]
        if not self.chance(10):  # what fits two sizes that have nothing in common fits them by no coincidence
            sizes.append(
                tuple(
                    self.one([item for item in held if item not in sizes[0]]) for held in (EDGES, EDGES[::-1], BATCHES)
                )
            )
        names = ["image", *(["other"] if self.chance(25) else []), *(["third"] if self.chance(5) else [])]
        inputs: Written = {name: {"channels": self.one((3, 1, 2, 4, 6))} for name in names}
        params: Written = {}
        if self.chance(20):
            params["in_channels"] = inputs["image"]["channels"]
            inputs["image"] = {"channels": "in_channels"}
        head = {"segspec": 1, "name": "fuzzed", "inputs": inputs}
        scope = Scope([opened_network({**head, "params": params}, size, self.blocks) for size in sizes])
        self.fill(scope, self.whole(1, NODES))
        outputs = self.returned(scope)
        for name in list(outputs)[1:]:
            if self.chance(25):
                outputs[name] = {"from": outputs[name], "when": "training", "loss_weight": 0.4}
        part = scope.part()
        part["params"] = {**params, **part.get("params", {})}
        spec = {
            **head,
            **part,
            "blocks": self.used_blocks(scope.nodes),
            "outputs": outputs,
        }
        spec = {key: value for key, value in spec.items() if value}
        body, _ = network(spec, sizes[0])
        if body.complete:  # else some classes are cut, and have fewer
            spec["expect"] = {"parameters": body.parameters}
        return Case(spec, (*sizes, self.size(), self.size()))

    def size(self) -> Size:
        batch = self.one(BATCHES)
        return (1, 1, batch) if self.chance(7) else (self.one(EDGES), self.one(EDGES), batch)

    def fill(self, scope: Scope, statements: int) -> None:
        """Write statements, and let every input be read."""
        scope.references += scope.body.inputs
        for _ in range(statements):
            self.statement(scope)
        for name in list(scope.body.inputs):
            if name not in scope.body.used:
                self.offer(scope, {self.fresh("n"): {"op": "relu", "from": name}})

    def returned(self, scope: Scope) -> Written:
        """The outputs: every node that nothing reads, perhaps another."""
        wanted = []
        for name in scope.unread():
            ways = [item for item in scope.references if re.match(rf"{name}(\.\w+)?( if |$)", item)]
            wanted.append(self.one(ways))
        if self.chance(20):
            wanted.append(self.one(scope.references))
        return {f"out{index}": reference for index, reference in enumerate(dict.fromkeys(wanted))}

    def used_blocks(self, nodes: Mapping[str, Any]) -> Written:
        """The blocks that nodes use, directly or not."""
        found: Written = {}
        waiting = [nodes]
        while waiting:
            text = yaml.safe_dump(waiting.pop())
            for name in re.findall(r"block: (\w+)", text):
                if name not in found:
                    found[name] = self.blocks[name]
                    waiting.append(self.blocks[name]["nodes"])
        return {name: block for name, block in self.blocks.items() if name in found}

    def new_block(self, scope: Scope) -> tuple[str, list[str], Written]:
        """A block drawn for what it is first called with: its name, what it reads, its arguments."""
        read = [self.source(scope) for _ in range(self.whole(1, 2))]
        read = [item if len(scope.value(item).shape) > 1 else next(iter(scope.body.inputs)) for item in read]
        names = ["x", "skip"][: len(read)]
        inputs: Any = names
        params: Written = {}
        stated = self.chance(20) and all(len(scope.value(item).shape) > 1 for item in read)
        if stated:
            params = {"width": "int"}
            inputs = {name: {"channels": "width"} if index == 0 else {} for index, name in enumerate(names)}
        block: Written = {"inputs": inputs, "params": params}
        values = [[body.read(item, body.names, count=False) for item in read] for body in scope.bodies]
        inner = Scope([opened(self.blocks, block, {}, held) for held in values], scope.depth + 1)
        self.fill(inner, self.whole(1, NODES // 2))
        outputs = self.returned(inner)
        arguments = dict(inner.params)
        part = inner.part()
        arguments = {name: value for name, value in arguments.items() if name in part.get("params", {})}
        declared = {name: self.parameter(value) for name, value in arguments.items()}
        part["params"] = {**params, **declared}
        if inputs == ["x"]:
            inputs = None  # what a block reads that does not say
        last = inner.body.previous
        if list(outputs.values()) == [last] and self.chance(50):
            outputs = {}
        elif len(outputs) > 1 and self.chance(30):
            first = next(iter(outputs))
            outputs = {name: ref if name == first else {"from": ref, "when": "used"} for name, ref in outputs.items()}
        name = self.fresh("Block")
        self.blocks[name] = {
            key: value for key, value in {"inputs": inputs, **part, "outputs": outputs}.items() if value
        }
        given = {key: value for key, value in arguments.items() if isinstance(declared[key], str) or self.chance(50)}
        return name, read, {key: self.expressed(scope, value) for key, value in given.items()}

    def parameter(self, value: Any) -> Any:
        """How a block declares a parameter: its type, or a default, which says that a whole number may be negative."""
        return value if (type(value) is int and value < 0) or self.chance(40) else type(value).__name__

    def block(self, scope: Scope) -> None:
        """A call of a block, of a new one mostly."""
        if not self.blocks or self.chance(60):
            if scope.depth < DEPTH:
                name, read, given = self.new_block(scope)
                self.called(scope, name, read, given)
            return
        for _ in range(ATTEMPTS):
            name = self.one(list(self.blocks))
            read = [self.source(scope) for _ in self.blocks[name].get("inputs", ["x"])]
            if self.called(scope, name, read, self.arguments(scope, name)):
                return

    def called(self, scope: Scope, name: str, read: list[str], given: Written) -> bool:
        written = {"block": name, "from": read if len(read) > 1 else read[0], **given}
        if len(read) == 1 and self.chance(10):
            written["repeat"] = self.one((2, 1, 3))
        return self.offer(scope, {self.fresh("n"): written})

    def arguments(self, scope: Scope, name: str) -> Written:
        """Values for a block's parameters; those that have a default may keep it."""
        given: Written = {}
        for key, default in self.blocks[name].get("params", {}).items():
            if key == "width" or (not isinstance(default, str) and self.chance(50)):
                continue
            kind = default if isinstance(default, str) else type(default).__name__
            value = {"int": self.one((4, 2, 1, 3, 6)), "float": self.one((0.5, 0.1, 1.0)), "bool": self.chance(50)}[
                kind
            ]
            given[key] = self.expressed(scope, value)
        return given

    # --- statements ------------------------------------------------------------------------------

    def statement(self, scope: Scope) -> None:
        """One node, loop or condition; nothing where no attempt fits."""
        ways = [self.op_node] * 7 + [self.block, self.sequence] * 2 + [self.loop, self.condition, self.again]
        self.one(ways)(scope)

    def offer(self, scope: Scope, nodes: Mapping[str, Any], condition: str = "") -> bool:
        """Add statements, and what their nodes return to what others may read."""
        grown = scope.grown(nodes)
        if grown is None:
            return False
        before = scope.body
        scope.bodies = grown
        scope.nodes |= nodes
        for name, made in scope.body.nodes.items():
            if name not in before.nodes:
                parts = list(references(name, made))
                scope.references += (
                    [f"{item} if {condition} else {before.previous}" for item in parts] if condition else parts
                )
        return True

    def op_node(self, scope: Scope) -> None:
        """A node of one op."""
        name = self.one(list(OPS))
        self.brought(scope, OPS[name])
        for _ in range(ATTEMPTS):
            written = self.op(scope, name)
            if not written:
                continue
            if self.chance(10) and self.repeats(scope, written):
                written["repeat"] = self.expressed(scope, self.one((2, 1, 3)))
            if self.chance(25):
                written |= self.begun(scope, written)
            if self.offer(scope, {self.fresh("n"): written}):
                return

    def begun(self, scope: Scope, written: Written) -> Written:
        """How each weight of an op's starts, said for some of them."""
        try:
            slots = scope.body.plus({"trial": written}).nodes["trial"].slots
        except Misfit:
            return {}
        axes = {slot.name: len(slot.shape) for slot in slots if slot.trainable}
        weight = axes.get("weight", max(axes.values(), default=0))
        said: Written = {}
        for name in axes:
            start = self.one(STARTS)
            if self.chance(70) and not INITIAL.validate_python(start).objection(axes[name], weight):
                said[name] = start
        return {"init": said} if said else {}

    def brought(self, scope: Scope, declared: type[Op]) -> None:
        """Bring a map to as few axes as an example of the op has, where nothing has so few yet."""
        rank = len(self.one(declared.examples).get("shape", "NCHW"))
        maps = self.maps(scope)
        if rank < 4 and maps and not any(len(scope.value(item).shape) == rank for item in scope.references):
            way = {"op": "flatten", "start_dim": 2} if rank == 3 else {"op": "mean", "dim": [2, 3]}
            self.offer(scope, {self.fresh("n"): {**way, "from": self.one(maps)}})

    def repeats(self, scope: Scope, written: Written) -> bool:
        """Whether an op can be repeated: it reads one node, and is a layer in every backend."""
        source = written.get("from", "_")
        element = {key: value for key, value in written.items() if key != "from"}
        if not isinstance(source, str) or not OPS[written["op"]].inputs[1]:
            return False
        return is_layer(scope, element, scope.value(source))

    def again(self, scope: Scope) -> None:
        """Another node's module, on other inputs."""
        made = {name: item for name, item in scope.body.nodes.items() if item.read}
        if not made:
            return
        for _ in range(ATTEMPTS):
            name = self.one(list(made))
            read = [self.like(scope, value) for value in made[name].read]
            if self.offer(scope, {self.fresh("n"): {"apply": name, "from": read if len(read) > 1 else read[0]}}):
                return

    def like(self, scope: Scope, value: Value) -> str:
        """A reference to what has as many channels as a value; any where there is none."""
        found = [item for item in reversed(scope.references) if scope.value(item).shape[1:2] == value.shape[1:2]]
        return self.one(found or scope.references)

    def loop(self, scope: Scope) -> None:
        """``for i in range(…)``: a few ops, each reading the one before."""
        start, turns, mark = self.whole(0, 2), self.whole(1, 3), self.fresh("n")
        for _ in range(ATTEMPTS):
            body = {
                f"{mark}{letter}{{i}}": self.op(scope, chained=True, names={"i": start})
                for letter in "ab"[: self.whole(1, 2)]
            }
            counted = self.one([f"range({start}, {start + turns})", str(list(range(start, start + turns)))])
            if all(body.values()) and self.offer(scope, {f"for i in {counted}": body}):
                spread = f"{mark}a{{i}} for i in {counted}"
                if turns > 1 and self.chance(50):
                    self.spread(scope, spread)
                return

    def spread(self, scope: Scope, text: str) -> None:
        """An op of many inputs that reads all that a loop made."""
        name = self.one([name for name, op in OPS.items() if op.inputs[1] > 2 and not is_patterned(op)])
        value = scope.value(scope.references[-1])
        written = {"op": name, "from": [text], **self.attributes(scope, OPS[name], [value])}
        self.offer(scope, {self.fresh("n"): written})

    def condition(self, scope: Scope) -> None:
        """``if …``: an op that is there in some calls of the block."""
        if not scope.chains:
            return
        numbers = {name: value for name, value in scope.numbers().items() if type(value) is int}
        flag = self.fresh("flag")
        test = flag
        if numbers and self.chance(50):
            name = self.one(list(numbers))
            test = self.one(
                [f"{name} != {numbers[name] + 1}", f"{name} == {numbers[name]}", f"{name} < {numbers[name] + 1}"]
            )
        else:
            scope.params[flag] = True
            scope.name(flag, True)
        for _ in range(ATTEMPTS):
            written = self.op(scope, chained=True)
            if written and self.offer(scope, {f"if {test}": {self.fresh("n"): written}}, test):
                return

    # --- ops -------------------------------------------------------------------------------------

    def op(
        self, scope: Scope, name: str = "", *, chained: bool = False, names: Mapping[str, int] | None = None
    ) -> Written:
        """An op and what it reads, with attributes for that; ``chained`` to the node before."""
        name = name or self.one(list(OPS))
        declared = OPS[name]
        if any(declared.whole_inputs):
            return {} if chained else self.undone(scope, name)
        if not declared.inputs[1]:
            return {} if chained else {"op": name, **self.attributes(scope, declared, [], names)}
        if chained and not scope.chains:
            return {}
        read = ["_" if chained else self.source(scope)]
        if is_patterned(declared):
            if not chained and self.chance(30):
                read = [self.one(self.joined(scope) or read)]
            read += [self.source(scope) for _ in range(self.whole(0, min(declared.inputs[1] - 1, 2)))]
            written = {"op": name, **self.patterned(scope, declared, read)}
        else:
            written = {"op": name, **self.attributes(scope, declared, [scope.value(read[0])], names)}
            if not chained:
                fitting = self.fitting(scope, declared, written, [])
                if not fitting:
                    return {}
                read = read if read[0] in fitting else [self.one(fitting)]
            least, most = declared.inputs
            for _ in range(least - 1 + (self.chance(30) if most > least else 0)):
                fitting = self.fitting(scope, declared, written, read)
                if not fitting:
                    return {}
                read.append(self.one([item for item in fitting if item not in read] or fitting))
        if len(read) > 1:
            written["from"] = read
        elif not chained and (read[0] != scope.body.previous or self.chance(30)):
            written["from"] = read[0]
        return written

    def source(self, scope: Scope) -> str:
        """A reference, mostly to what nothing reads yet; never to indices."""
        values = [item for item in reversed(scope.references) if not scope.value(item).whole]
        unread = set(scope.unread())
        fresh = [item for item in values if re.split(r"[.\[ ]", item)[0] in unread]
        return self.one(fresh if fresh and not self.chance(35) else values)

    def joined(self, scope: Scope) -> list[str]:
        """What has an axis as long as a map in reach has pixels."""
        pixels = {math.prod(scope.value(item).shape[2:]) for item in self.maps(scope)} - {1}
        values = {item: scope.value(item) for item in scope.references}
        return [
            item
            for item, value in values.items()
            if len(value.shape) < 4 and pixels & {*value.shape} and not value.whole
        ]

    def fitting(self, scope: Scope, declared: type[Op], written: Written, read: list[str]) -> list[str]:
        """What the op can read beside what it reads already: its rule takes it at every size, its weights have one."""
        try:
            op = declared(**{key: self.plain(scope, declared, key, raw) for key, raw in written.items() if key != "op"})
            op.validate()
        except (ValueError, TypeError):
            return []
        likes = [written[key] for key in written if key != "op" and kind_of(declared, key).reference]
        found = []
        for item in reversed(scope.references):
            # Ops of several inputs are asked with this one as often as they need it.
            wanted = [*read, *[item] * max(op.takes[0] - len(read), 1), *likes]
            values = [tuple(body.read(name, body.names, count=False) for name in wanted) for body in scope.bodies]
            try:
                slots = []
                for held in values:
                    shapes = tuple(value.shape for value in held)
                    require = Require()
                    shaped(op, shapes, require)
                    if require.misfits:
                        raise Misfit(require.misfits[0])
                    slots.append([slot.shape for slot in op.slots(shapes)])
            except (Misfit, IndexError):
                continue
            if all(other == slots[0] for other in slots) and not any(value.whole for value in values[0]):
                found.append(item)
        return found

    @staticmethod
    def plain(scope: Scope, declared: type[Op], name: str, raw: Any) -> Any:
        kind = kind_of(declared, name)
        return raw if kind.word or kind.reference else kind.read(evaluated(raw, {**scope.body.names, "i": 1}))

    def attributes(
        self,
        scope: Scope,
        declared: type[Op],
        values: Sequence[Value],
        names: Mapping[str, int] | None = None,
        *,
        layer: bool = False,
    ) -> Written:
        """Attributes: those of an example, each kept, left out or drawn anew."""
        shape = values[0].shape if values else self.any_shape(scope)
        example = self.one(({}, *declared.examples))
        written: Written = {}
        seen: list[int] = []
        for item in dataclasses.fields(declared):  # type: ignore[arg-type]
            kind = kind_of(declared, item.name)
            required = item.default is dataclasses.MISSING
            given = item.name in example
            if not required and self.chance(25 if given else 65):
                continue
            if kind.reference:
                if (required or given) and (maps := self.maps(scope)):
                    written[item.name] = self.one(maps)
            elif given and self.chance(50):
                written[item.name] = example[item.name]
            else:
                value = drawn(self.draw, kind, shape, seen)
                written[item.name] = value if kind.known or kind.word else self.expressed(scope, value, names, kind)
        return written

    def any_shape(self, scope: Scope) -> tuple[int, ...]:
        """The shape of something in reach."""
        return scope.value(self.source(scope)).shape

    def maps(self, scope: Scope) -> list[str]:
        found = [item for item in reversed(scope.references) if len(scope.value(item).shape) == 4]
        return [item for item in found if not scope.value(item).whole]

    def patterned(self, scope: Scope, declared: type[Op], read: list[str]) -> Written:
        """A pattern for what is read, and what else it asks for."""
        kinds = {item.name: kind_of(declared, item.name) for item in dataclasses.fields(declared)}  # type: ignore[arg-type]
        shapes = [scope.value(item).shape for item in read]
        maps = self.maps(scope)
        text, lengths, like = pattern(
            self.draw,
            shapes,
            splits=any(kind.named for kind in kinds.values()),
            maps=[scope.value(item).shape for item in maps],
        )
        written: Written = {}
        for name, kind in kinds.items():
            if is_pattern(kind):
                written[name] = text
            elif kind.named:
                written |= (
                    {name: {key: self.expressed(scope, size) for key, size in lengths.items()}} if lengths else {}
                )
            elif kind.reference:
                written |= {name: next(item for item in maps if scope.value(item).shape == like)} if like else {}
            elif self.chance(30):
                written[name] = drawn(self.draw, kind, shapes[0], [])
        return written

    def undone(self, scope: Scope, name: str) -> Written:
        """An op that reads indices: those of a node that made some, with that node's own attributes."""
        declared, held = OPS[name], scope.body.nodes
        makers = [item for item, made in held.items() if any(value.whole for value in made.outputs.values())]
        makers = [item for item in makers if "op" in held[item].written]
        if not makers:
            self.indexed(scope)
            return {}
        if len(scope.bodies) < 2:  # what is as large as the map may be so at this size alone
            return {}
        maker = self.one(makers)
        made = held[maker]
        indices = next(output for output, value in made.outputs.items() if value.whole)
        kinds = {item.name: kind_of(declared, item.name) for item in dataclasses.fields(declared)}  # type: ignore[arg-type]
        written = {key: value for key, value in made.written.items() if key in kinds}
        pooled = tuple(body.nodes[maker].value for body in scope.bodies)
        before = tuple(body.nodes[maker].read[0] for body in scope.bodies)
        values = [item for item in reversed(scope.references) if scope.everywhere(item) == pooled]
        likes = [item for item in scope.references if scope.everywhere(item) == before]
        if not likes:
            return {}
        written |= {key: self.one(likes) for key, kind in kinds.items() if kind.reference}
        return {"op": name, **written, "from": [self.one(values), f"{maker}.{indices}"]}

    def indexed(self, scope: Scope) -> None:
        """A node of an op that makes indices, as one of its examples does."""
        ways = []
        for name, declared in OPS.items():
            fields = {item.name for item in dataclasses.fields(declared)}  # type: ignore[arg-type]
            for example in declared.examples:
                given = {key: value for key, value in example.items() if key in fields}
                try:
                    if any(declared(**given).whole_outputs):
                        ways.append({"op": name, **given})
                except TypeError:  # what an example says is read before an op has it
                    continue
        if maps := self.maps(scope):
            self.offer(scope, {self.fresh("n"): {**self.one(ways), "from": self.one(maps)}})

    def expressed(
        self, scope: Scope, value: Any, names: Mapping[str, int] | None = None, kind: Kind | None = None
    ) -> Any:
        """A value as it is, or each of its numbers as an expression."""
        if isinstance(value, list):
            return [self.expressed(scope, item, names, kind) for item in value]
        if not self.chance(20) or (kind and isinstance(value, float) and not takes_fractions(kind)):
            return value
        known = {key: held for key, held in {**scope.numbers(), **(names or {})}.items() if type(held) is type(value)}
        ways = [key for key, held in known.items() if held == value]
        if type(value) is int:
            for key, held in known.items():
                ways += [f"{value // held} * {key}"] if held > 0 and value and value % held == 0 else []
                ways += [f"{key} + {value - held}"] if value > held else []
                ways += [f"{key} - {held - value}"] if value < held else []
                ways += [f"{key} // {held // value}"] if held > 0 and value > 0 and held % value == 0 else []
        if not ways or self.chance(30):
            name = self.fresh("p")
            scope.params[name] = value
            scope.name(name, value)
            return name
        text = self.one(ways)
        if self.chance(15) and not (names and "i" in text.split()):
            name = self.fresh("l")
            scope.let[name] = text
            scope.name(name, value)
            return name
        return text

    # --- sequences -------------------------------------------------------------------------------

    def sequence(self, scope: Scope) -> None:
        """Ops and blocks one after another."""
        source, elements = self.source(scope), []
        for _ in range(self.whole(1, 4)):
            for _ in range(ATTEMPTS):
                element = self.element(scope, source, elements)
                if element and scope.grown({"trial": {"sequence": [*elements, element], "from": source}}):
                    elements.append(element)
                    break
        if elements:
            self.offer(scope, {self.fresh("n"): {"sequence": elements, "from": source}})

    def element(self, scope: Scope, source: str, elements: list[Any]) -> Written:
        """An element for what those before it return; nothing where the op drawn cannot be one."""
        grown = scope.body.plus({"trial": {"sequence": elements, "from": source}}) if elements else scope.body
        value = grown.nodes["trial"].value if elements else scope.value(source)
        if self.blocks and self.chance(10):
            name = self.one(list(self.blocks))
            return {"block": name, **self.arguments(scope, name)}
        single = [name for name, declared in OPS.items() if declared.inputs[0] <= 1 <= declared.inputs[1]]
        name = self.one([name for name in single if not is_patterned(OPS[name])])
        element = {"op": name, **self.attributes(scope, OPS[name], [value])}
        if not is_layer(scope, element, value):
            return {}
        if self.chance(10):
            element["repeat"] = 2
        return {"for i in range(2)": [element]} if self.chance(10) else element


def refused(ran: Ran) -> bool:
    """Whether a backend cannot compute an op, at any size or at this one."""
    call = OpCall(ran.op, ran.inputs, ran.outputs)
    instance = Instance("any", "any", call, {}, Node("any", call, (), Place("any.yaml")))
    return any(refusals(instance, held, learned=ran.learned) for held in backends().values())


def takes_fractions(kind: Kind) -> bool:
    """Whether a parameter that is no whole number may stand for an attribute."""
    try:
        kind.read(number(Symbol("any", 0, 1, whole=False)))
    except ValueError:
        return False
    return True


def is_patterned(declared: type[Op]) -> bool:
    """Whether an op has a pattern, which is drawn together with what it reads."""
    return any(is_pattern(kind_of(declared, item.name)) for item in dataclasses.fields(declared))  # type: ignore[arg-type]


def references(name: str, made: Made) -> Iterator[str]:
    """The references that a node allows."""
    yield from (f"{name}[{index}]" for index in range(len(made.steps)))
    yield from (f"{name}.{output}" for output in made.outputs if output)
    if made.default in made.outputs:
        yield name


def is_layer(scope: Scope, element: Written, value: Value) -> bool:
    """Whether every backend has a layer of it, so that it can stand in a sequence."""
    declared = OPS[element["op"]]
    try:
        op = declared(**{key: Drawing.plain(scope, declared, key, raw) for key, raw in element.items() if key != "op"})
        op.validate()
        outputs = shaped(op, (value.shape,), require := Require())
    except (Misfit, ValueError, TypeError, IndexError):
        return False
    if require.misfits:
        return False
    if any(kind_of(declared, key).reference for key in element if key != "op"):
        return False
    renderers = _renderers()
    try:
        for renderer in renderers:
            renderer.constructor(OpCall(op, (value.shape,), outputs), renderer.graph.root)
    except SpecError:
        return False
    return True


@lru_cache(maxsize=1)
def _renderers() -> list[Renderer]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "any.yaml"
        text = "segspec: 1\nname: any\ninputs: {x: {channels: 1}}\nnodes: {a: {op: relu}}\noutputs: [a]\n"
        path.write_text(text, encoding="utf-8")
        graph = elaborate(load(path))
    return [Renderer(graph, backend) for backend in backends().values()]
