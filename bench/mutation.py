"""Every single change of some kinds that somebody might make to a generated module by mistake.

A mutant is the module's own text with one expression replaced, and no other character. Channel counts are left alone:
a module with others cannot take the weights. So is how parameters start, which is compared by other means. No mutant
is what is the module itself: the same expression in another spelling, an argument left out that is the default
anyway, and constructors that build the very same layers, as where every call gives what a default is for.
"""

from __future__ import annotations

import ast
import copy
import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from building import Made, built, layers, plain

from segspec.backends import probe

CONTEXT = 24
"""Characters that are shown before and behind what differs."""
Named = ast.FunctionDef | ast.ClassDef

Place = tuple[str, str]
"""A class and its node, empty if any of its nodes; of what a class returns, the class and ``return``."""


@dataclass(frozen=True)
class Mutant:
    """One fault: its kind, where it is in words, what became what, the broken text, and the nodes where it is."""

    kind: str
    where: str
    old: str
    new: str
    source: str
    places: frozenset[Place]

    def __str__(self) -> str:
        return f"{self.kind}: {self.where}: {self.old} → {self.new}"


def mutants(source: str, marks: Mapping[str, str]) -> list[Mutant]:
    """Every mutant of a module, without those that are the module itself: see above."""
    tree = ast.parse(source)
    whole = built(tree)
    made = plain(whole)
    changes = list(_Changes(source, tree, layers(whole)).all())
    making = {
        id(part)
        for item in ast.walk(tree)
        if isinstance(item, ast.FunctionDef) and item.name == "__init__"
        for part in ast.walk(item)
    }
    places = _places(tree, marks)
    holders = {id(part): item.name for item in tree.body if isinstance(item, Named) for part in ast.walk(item)}
    text = source.encode()
    starts = list(itertools.accumulate(map(len, text.splitlines(keepends=True)), initial=0))
    found: dict[str, Mutant] = {}
    names: Counter[str] = Counter()
    for kind, node, new in changes:
        start = starts[node.lineno - 1] + node.col_offset
        end = starts[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0)
        broken = (text[:start] + new.encode() + text[end:]).decode()
        old = " ".join(text[start:end].decode().split())
        if broken in found or _same(node, new) or (id(node) in making and plain(built(ast.parse(broken))) == made):
            continue
        nodes = {name for holder, name in places[id(node)] if name and holder == holders[id(node)]}
        mutant = Mutant(kind, ".".join([holders[id(node)], *nodes]), *_short(old, new), broken, places[id(node)])
        names[str(mutant)] += 1
        again = names[str(mutant)]
        found[broken] = replace(mutant, where=f"{mutant.where} ({again})") if again > 1 else mutant
    return list(found.values())


def _same(node: ast.expr, text: str) -> bool:
    """Whether a text is an expression in another spelling."""
    inside = f"[{text}]" if isinstance(node, ast.Tuple) else f"({text})"  # of an index, a tuple may hold slices
    own = f"[{ast.unparse(node).strip('()')}]" if isinstance(node, ast.Tuple) else f"({ast.unparse(node)})"
    return ast.dump(_expression(f"_{inside}")) == ast.dump(_expression(f"_{own}"))


def _short(old: str, new: str) -> tuple[str, str]:
    """Two texts without most of what they begin and end with alike."""
    start = _alike(old, new)
    end = min(_alike(old[::-1], new[::-1]), min(len(old), len(new)) - start)
    start, end = max(start - CONTEXT, 0), max(end - CONTEXT, 0)
    one, other = ("…" * bool(start) + text[start : len(text) - end] + "…" * bool(end) for text in (old, new))
    return one, other


def _alike(one: str, other: str) -> int:
    """With how many equal characters two texts begin."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


# --- where a change lies -----------------------------------------------------------------------------


def _places(tree: ast.Module, marks: Mapping[str, str]) -> dict[int, frozenset[Place]]:
    """The nodes of the network that an expression of the module is part of, by the expression's identity."""
    found: dict[int, frozenset[Place]] = {}
    named = [item for item in tree.body if isinstance(item, Named)]
    callers: dict[str, set[Place]] = {item.name: set() for item in named}

    def note(part: ast.AST, place: Place) -> None:
        if isinstance(part, ast.Call) and isinstance(part.func, ast.Name) and part.func.id == probe.NODE:
            place = (place[0], ast.literal_eval(part.args[1]))
        if isinstance(part, ast.Return):
            place = (place[0], "return")
        if isinstance(part, ast.Assign) and isinstance(part.targets[0], ast.Attribute):
            place = (place[0], part.targets[0].attr)
        if isinstance(part, ast.Name) and part.id in callers:
            callers[part.id].add(place)
        found[id(part)] = frozenset([place])
        for inner in ast.iter_child_nodes(part):
            note(inner, place)

    for name, forward in probe.forwards(tree).items():
        if name in marks:
            (marked,) = ast.parse(marks[name]).body
            probe.lay(marked, forward)
    for item in named:
        note(item, (item.name, ""))
    # A helper, be it a function or a layer, is part of the nodes that call it.
    for item in named:
        if item.name not in marks:
            found.update(dict.fromkeys(map(id, ast.walk(item)), frozenset(callers[item.name])))
    return found


# --- what may be changed -----------------------------------------------------------------------------

CONVOLUTIONS = {"conv1d", "conv2d", "convtranspose2d", "conv2dtranspose", "paddedconv2d"}
NORMALISATIONS = {"batchnorm1d", "batchnorm2d"}
POOLINGS = {"maxpool2d", "avgpool2d"}
ADAPTIVE = {"adaptiveavgpool2d", "adaptivemaxpool2d"}
DROPOUTS = {"dropout", "dropout2d"}
COMMUTATIVE = {"maximum", "minimum"}
ACTIVATIONS = {
    "relu": ["F.relu6", "F.silu"],
    "relu6": ["F.relu"],
    "leakyrelu": ["F.relu"],
    "sigmoid": ["F.tanh"],
    "softmax": [],
    "gelu": ["F.silu"],
    "silu": ["F.gelu"],
}
LAYERS = {"relu": ["nn.ReLU6()"], "relu6": ["nn.ReLU()"], "leakyrelu": ["nn.ReLU()"]}
OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
}

Values = Callable[[ast.expr], list[ast.expr]]


def _expression(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body


def _each(values: Values) -> Values:
    """Of a tuple or a list, one element after another."""

    def all_of(held: ast.expr) -> list[ast.expr]:
        if not isinstance(held, ast.Tuple | ast.List):
            return values(held)
        found: list[ast.expr] = []
        for index, element in enumerate(held.elts):
            for value in values(element):
                made = copy.deepcopy(held)
                made.elts[index] = value
                found.append(made)
        return found

    return all_of


def _moved(*steps: int, least: int | None = None) -> Values:
    """A whole number, or an expression of one, with something added."""

    def values(held: ast.expr) -> list[ast.expr]:
        number = _number(held)
        if number is None:
            return [_expression(f"{ast.unparse(held)} {step:+d}") for step in steps]
        return [_expression(str(number + step)) for step in steps if least is None or number + step >= least]

    return _each(values)


def _scaled(*factors: float) -> Values:
    return lambda held: [_expression(f"{ast.unparse(held)} * {factor}") for factor in factors]


def _stride(held: ast.expr) -> list[ast.expr]:
    number = _number(held)
    return [_expression(f"3 - {ast.unparse(held)}" if number is None else "2" if number == 1 else "1")]


def _flipped(held: ast.expr) -> list[ast.expr]:
    if isinstance(held, ast.Constant) and isinstance(held.value, bool):
        return [ast.Constant(not held.value)]
    return [_expression(f"not {ast.unparse(held)}")]


def _complement(held: ast.expr) -> list[ast.expr]:
    return [_expression(f"1 - {ast.unparse(held)}"), *_scaled(1.001)(held)]


def _other(*words: str | bool) -> Values:
    """Every other value that the argument takes; a framework takes all but those of another type."""

    def values(held: ast.expr) -> list[ast.expr]:
        own = held.value if isinstance(held, ast.Constant) else None
        alike = [word for word in words if type(word) is type(own) and word != own]
        return [ast.Constant(word) for word in alike]

    return values


def _number(held: ast.expr) -> int | None:
    """A whole number that stands in the text."""
    sign = 1
    if isinstance(held, ast.UnaryOp) and isinstance(held.op, ast.USub):
        sign, held = -1, held.operand
    whole = isinstance(held, ast.Constant) and type(held.value) is int
    return sign * held.value if whole else None  # type: ignore[attr-defined]


def _swaps(parts: Sequence[ast.expr]) -> Iterator[list[ast.expr]]:
    """Each two neighbours the other way round; of more than two also all in reverse."""
    for index in range(len(parts) - 1):
        made = list(parts)
        made[index : index + 2] = reversed(made[index : index + 2])
        yield made
    if len(parts) > 2:
        yield list(reversed(parts))


KEYWORDS: dict[str, tuple[str, Values]] = {
    "eps": ("epsilon", _scaled(1.01)),
    "epsilon": ("epsilon", _scaled(1.01)),
    "momentum": ("momentum", _complement),
    "stride": ("stride", _each(_stride)),
    "padding": ("padding", _moved(-1, 1, least=0)),
    "output_padding": ("padding", _moved(-1, 1, least=0)),
    "dilation": ("dilation", _moved(-1, 1, least=1)),
    "kernel_size": ("kernel size", _moved(-1, 1, least=1)),
    "groups": ("groups", lambda held: [ast.Constant(1)]),
    "negative_slope": ("slope", _scaled(1.01)),
    "align_corners": ("align_corners", _flipped),
    "ceil_mode": ("ceil_mode", _flipped),
    "count_include_pad": ("count-padding", _flipped),
    "exclusive": ("count-padding", _flipped),
    "bias": ("bias", _flipped),
    "bias_attr": ("bias", _flipped),
    "approximate": ("activation", _other("tanh", "none", True, False)),
    "keepdim": ("axis", _flipped),
    "dim": ("axis", _moved(1)),
    "axis": ("axis", _moved(1)),
    "start_dim": ("axis", _moved(1)),
    "start_axis": ("axis", _moved(1)),
    "mode": ("mode", _other("bilinear", "nearest", "bicubic", "reflect", "replicate")),
    "value": ("constant", _scaled(1.01)),
    "scale_factor": ("size", _moved(1)),
    "output_size": ("size", _moved(-1, 1, least=1)),
    "dropout": ("dropout", _scaled(0.5)),
    "p": ("constant", _moved(1)),
}
"""What an argument may become, by its name."""
POSITIONAL: dict[str, tuple[str, Values]] = {
    "offset": ("crop", _moved(-1, 1)),
    "sides": ("padding", _moved(-1, 1)),
}
"""The same for arguments whose names calls leave out, where they are not above."""

Added = dict[str, list[tuple[str, str]]]
CONVOLUTION = [("stride", "stride=2"), ("padding", "padding=1"), ("dilation", "dilation=2")]
POOLING = [("stride", "stride=1"), ("padding", "padding=1"), ("ceil_mode", "ceil_mode=True")]
SLOPE = [("slope", "negative_slope=0.0101")]
BOTH: Added = {
    **dict.fromkeys(CONVOLUTIONS, CONVOLUTION),
    **dict.fromkeys(POOLINGS, POOLING),
    "leakyrelu": SLOPE,
}
"""Arguments that may be given where a call leaves them out, by what is called."""
NORMALISATION = {
    "torch": [("epsilon", "eps=1.01e-5"), ("momentum", "momentum=0.9"), ("momentum", "momentum=0.1001")],
    "paddle": [("epsilon", "epsilon=1.01e-5"), ("momentum", "momentum=0.1"), ("momentum", "momentum=0.9001")],
}
COUNTING = {"torch": "count_include_pad=False", "paddle": "exclusive=False"}

Change = tuple[str, ast.expr, str]


class _Changes:
    """The changes of one module: a kind, the expression that is replaced, and the text that replaces it."""

    def __init__(self, source: str, tree: ast.Module, made: Mapping[Place, Sequence[Made]]) -> None:
        self.tree = tree
        self.made = made
        self.lines = source.splitlines()
        self.backend = "paddle" if any(line.startswith("import paddle") for line in self.lines) else "torch"
        self.bias = "bias_attr" if self.backend == "paddle" else "bias"

    def all(self) -> Iterator[Change]:
        for item in self.tree.body:
            if isinstance(item, ast.FunctionDef) and item.name != "init_weights":
                yield from self._helper(item)
            if isinstance(item, ast.ClassDef):
                for function in item.body:
                    if isinstance(function, ast.FunctionDef):
                        yield from self._function(item, function)

    def _helper(self, function: ast.FunctionDef) -> Iterator[Change]:
        kind = "crop" if function.name in ("pad_to", "centre_crop", "crop") else "helper"
        for statement in function.body[1:]:
            yield from self._arithmetic(statement, kind)
            for part in ast.walk(statement):
                if isinstance(part, ast.Tuple | ast.List) and isinstance(part.ctx, ast.Load):
                    for made in _swaps(part.elts):
                        yield kind, part, ast.unparse(type(part)(made, ast.Load())).strip("()")

    def _function(self, holder: ast.ClassDef, function: ast.FunctionDef) -> Iterator[Change]:
        arguments = function.args
        for argument, value in zip(
            arguments.args[len(arguments.args) - len(arguments.defaults) :], arguments.defaults, strict=True
        ):
            if argument.arg in KEYWORDS and argument.arg != "kernel_size":
                kind, values = KEYWORDS[argument.arg]
                yield from ((kind, value, ast.unparse(made)) for made in values(value))
        for part in [part for statement in function.body for part in ast.walk(statement)]:
            if isinstance(part, ast.Call):
                yield from self._call(part, forward=function.name == "forward")
        if function.name == "forward":
            yield from self._forward(holder, function)

    # --- calls ---------------------------------------------------------------------------------------

    def _call(self, call: ast.Call, *, forward: bool) -> Iterator[Change]:
        called = _called(call)
        for keyword in call.keywords:
            # A kernel of another size cannot take the weights; the blocks' own arguments reach the layers they hold.
            known = keyword.arg in KEYWORDS and not (keyword.arg == "kernel_size" and called in CONVOLUTIONS)
            if known:
                kind, values = KEYWORDS[str(keyword.arg)]
                yield from ((kind, keyword.value, ast.unparse(made)) for made in values(keyword.value))
                if not _default(keyword):
                    yield kind, call, ast.unparse(_without(call, keyword))
        given = {keyword.arg for keyword in call.keywords}
        added = [*BOTH.get(called, ())]
        if called in NORMALISATIONS:
            added += NORMALISATION[self.backend]
        if called == "avgpool2d":
            added.append(("count-padding", COUNTING[self.backend]))
        for kind, text in added:
            if text.partition("=")[0] not in given and not (kind == "ceil_mode" and _steps_of_one(call)):
                yield kind, call, ast.unparse(_with(call, text))
        if called in CONVOLUTIONS | {"linear"} and self.bias not in given and "weight" not in given:
            yield "bias", call, ast.unparse(_with(call, f"{self.bias}=False"))
        yield from self._positional(call, called, forward=forward)
        if called in DROPOUTS:
            yield "dropout", call, "nn.Identity()"
            function = ast.unparse(call.func)
            other = (
                function[:-2]
                if called == "dropout2d"
                else f"{function}2d"
                if self.backend == "torch"
                else f"{function}2D"
            )
            yield "dropout", call, f"{other}({', '.join(map(ast.unparse, call.args))})"
        if called in ACTIVATIONS and forward and call.args:
            yield "missing activation", call, ast.unparse(call.args[0])
            for function in ACTIVATIONS[called]:
                yield "activation", call, f"{function}({ast.unparse(call.args[0])})"
        elif called in LAYERS and not call.args:
            yield "missing activation", call, "nn.Identity()"
            yield from (("activation", call, made) for made in LAYERS[called])
        if called == "sequential":
            for parts in _swaps(call.args):
                yield "layer order", call, f"nn.Sequential({', '.join(map(ast.unparse, parts))})"

    def _positional(self, call: ast.Call, called: str, *, forward: bool) -> Iterator[Change]:
        first = int(ast.unparse(call.func).startswith("F."))  # where attributes begin
        rules: dict[str, tuple[int, str]] = {
            **dict.fromkeys(POOLINGS, (first, "kernel_size")),
            **dict.fromkeys(ADAPTIVE, (first, "output_size")),
            **dict.fromkeys(DROPOUTS, (first, "dropout")),
            "maxunpool2d": (2, "kernel_size"),
            "leakyrelu": (first, "negative_slope"),
            "crop": (2, "offset"),
            "pad": (1, "sides"),
        }
        if called in rules and len(call.args) > rules[called][0]:
            index, name = rules[called]
            kind, values = {**KEYWORDS, **POSITIONAL}[name]
            yield from ((kind, call.args[index], ast.unparse(made)) for made in values(call.args[index]))
        for argument in call.args:
            if isinstance(argument, ast.List | ast.Tuple) and forward:
                kind = "concat order" if called in ("cat", "concat", "stack") else "axis order"
                for parts in _swaps(argument.elts):
                    yield kind, argument, ast.unparse(type(argument)(parts, ast.Load()))
        tensors = [argument for argument in call.args if not isinstance(argument, ast.Constant | ast.Tuple | ast.List)]
        if forward and len(tensors) > 1 and len(tensors) == len(call.args) and called not in COMMUTATIVE:
            for parts in _swaps(tensors):
                made = copy.deepcopy(call)
                made.args = parts
                yield "swapped inputs", call, ast.unparse(made)
        if called == "einsum" and isinstance(call.args[0], ast.Constant):
            yield from (("einsum", call.args[0], repr(text)) for text in _equations(str(call.args[0].value)))
            if len(call.args) == 3:
                yield (
                    "swapped inputs",
                    call,
                    f"{ast.unparse(call.func)}({', '.join(ast.unparse(call.args[i]) for i in (0, 2, 1))})",
                )

    # --- forward -------------------------------------------------------------------------------------

    def _forward(self, holder: ast.ClassDef, function: ast.FunctionDef) -> Iterator[Change]:
        yield from self._skips(function)
        yield from self._layers(holder, function)
        yield from self._weights(holder, function)
        for statement in ast.walk(function):
            if isinstance(statement, ast.If) and "training" in ast.unparse(statement.test):
                yield "training", statement.test, f"not ({ast.unparse(statement.test)})"
            if isinstance(statement, ast.Return) and isinstance(statement.value, ast.Tuple):
                for parts in _swaps(statement.value.elts):
                    yield "outputs", statement.value, ", ".join(map(ast.unparse, parts))
            if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Tuple):
                for parts in _swaps(statement.targets[0].elts):
                    yield "outputs", statement.targets[0], ", ".join(map(ast.unparse, parts))
        for statement in function.body:
            yield from self._arithmetic(statement, "constant")

    def _arithmetic(self, statement: ast.stmt, kind: str) -> Iterator[Change]:
        """Numbers that are not some argument with a kind of its own, and operators."""
        known = {
            id(part)
            for call in ast.walk(statement)
            if isinstance(call, ast.Call)
            for keyword in call.keywords
            if keyword.arg in KEYWORDS
            for part in ast.walk(keyword.value)
        }
        for part in ast.walk(statement):
            if isinstance(part, ast.Constant) and type(part.value) in (int, float) and id(part) not in known:
                values = (_moved(-1, 1) if kind == "crop" else _moved(1)) if type(part.value) is int else _scaled(1.01)
                yield from ((kind, part, f"({ast.unparse(made)})") for made in values(part))
            if isinstance(part, ast.BinOp):
                own = kind if kind != "constant" else "operator"
                if type(part.op) in OPERATORS:
                    made = ast.BinOp(part.left, OPERATORS[type(part.op)](), part.right)
                    yield own, part, f"({ast.unparse(made)})"
                if not isinstance(part.op, ast.Add | ast.Mult):
                    own = kind if kind != "constant" else "swapped inputs"
                    yield own, part, f"({ast.unparse(ast.BinOp(part.right, part.op, part.left))})"

    def _skips(self, function: ast.FunctionDef) -> Iterator[Change]:
        """Where a tensor is read, others that are known by then: of the same shape if there are, and the last few."""
        known = [argument.arg for argument in function.args.args if argument.arg != "self"]
        shapes: dict[str, str] = {}
        for statement in _statements(function.body):
            read = statement.test if isinstance(statement, ast.If) else statement
            for part in ast.walk(read):
                if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load) and part.id in known:
                    others = [name for name in reversed(known) if name != part.id]
                    others.sort(key=lambda name: shapes.get(name) != shapes.get(part.id, "?"))
                    yield from (("wrong skip", part, name) for name in others[:1])
            if isinstance(statement, ast.Assign):
                names = [part.id for part in ast.walk(statement.targets[0]) if isinstance(part, ast.Name)]
                above, own = self.lines[statement.lineno - 2], self.lines[(statement.end_lineno or 0) - 1]
                comment = re.search(r"# (.*)", own) or re.match(r" *# (.*)", above)
                shapes.update(dict.fromkeys(names, comment.group(1) if comment else ""))
                known += [name for name in names if name not in known]

    def _layers(self, holder: ast.ClassDef, function: ast.FunctionDef) -> Iterator[Change]:
        """A layer left out, and another of the same making in its place."""
        made = {
            part.targets[0].attr: part.value
            for part in ast.walk(holder)
            if isinstance(part, ast.Assign) and isinstance(part.targets[0], ast.Attribute)
        }
        for call in ast.walk(function):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr in made:
                own = call.func.attr
                value = made[own]
                if len(call.args) == 1:
                    dropout = isinstance(value, ast.Call) and _called(value) in DROPOUTS
                    yield "dropout" if dropout else "missing layer", call, ast.unparse(call.args[0])
                for name, other in made.items():
                    if name != own and ast.unparse(other) == ast.unparse(value):
                        yield "wrong layer", call.func, f"self.{name}"

    def _weights(self, holder: ast.ClassDef, function: ast.FunctionDef) -> Iterator[Change]:
        """A bias that is there and not added, and a weight of which two axes change places: both take the weights."""
        for call in ast.walk(function):
            if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and len(call.args) == 1):
                continue
            name = call.func.attr
            for made in self.made.get((holder.name, name), [])[:1]:
                kind, own, given = _plainly(made.name), ast.unparse(call.func), ast.unparse(call.args[0])
                if kind not in CONVOLUTIONS | {"linear"}:
                    continue
                if made.given.get(self.bias, True):
                    ones = {"linear": [], "conv1d": [1]}.get(kind, [1, 1])
                    bias = f"{own}.bias.reshape({[1, -1, *ones]})" if ones else f"{own}.bias"
                    yield "missing bias", call, f"({own}({given}) - {bias})"
                # Not where other nodes stand inside the call, whose marks another call would lose.
                if not isinstance(call.args[0], ast.Name):
                    continue
                if kind == "linear" and made.args[0] == made.args[1]:
                    bias = f", {own}.bias" if made.given.get(self.bias, True) else ""
                    yield "transposed weight", call, f"F.linear({given}, {own}.weight.T{bias})"
                if kind not in ("linear", "conv1d") and not all(
                    item.pointwise for item in self.made[holder.name, name]
                ):
                    # As a kernel with rows for columns: the maps before and behind are turned instead.
                    turned = "transpose([0, 1, 3, 2])" if self.backend == "paddle" else "transpose(2, 3)"
                    yield "transposed weight", call, f"{own}({given}.{turned}).{turned}"


def _called(call: ast.Call) -> str:
    """What is called, in one spelling for classes and functions of both frameworks."""
    function = call.func
    return _plainly(ast.unparse(function)) if isinstance(function, ast.Attribute | ast.Name) else ""


def _plainly(name: str) -> str:
    """The last part of a dotted name, in one spelling."""
    return name.rpartition(".")[2].lower().replace("_", "")


def _with(call: ast.Call, text: str) -> ast.Call:
    """A call with one more argument."""
    name, _, value = text.partition("=")
    return ast.Call(call.func, call.args, [*call.keywords, ast.keyword(name, _expression(value))])


def _default(keyword: ast.keyword) -> bool:
    """Whether resizing takes an argument for this anyway; what other defaults are, calls leave out."""
    return ast.unparse(keyword) in ("align_corners=False", "mode='nearest'")


def _steps_of_one(call: ast.Call) -> bool:
    """Whether a pooling's windows lie one element apart, so that their number needs no rounding."""
    return any(keyword.arg == "stride" and ast.unparse(keyword.value) in ("1", "(1, 1)") for keyword in call.keywords)


def _without(call: ast.Call, left_out: ast.keyword) -> ast.Call:
    return ast.Call(call.func, call.args, [keyword for keyword in call.keywords if keyword is not left_out])


def _equations(text: str) -> Iterator[str]:
    """An einsum's equation with two neighbouring letters of one operand the other way round."""
    for index, (one, other) in enumerate(itertools.pairwise(text)):
        if one.isalpha() and other.isalpha():
            yield text[:index] + other + one + text[index + 2 :]


def _statements(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    for statement in body:
        yield statement
        if isinstance(statement, ast.If):
            yield from _statements(statement.body)
