"""The expression language: a safe subset of Python, parsed with ``ast`` and walked here.

Nothing is ever executed. What an expression may cost is bounded before it is paid: its length and depth,
the steps of all evaluations (:class:`Budget`), how much a list holds, the size of a whole number.

Three kinds of text occur in a spec: an :class:`Expression` (``2 * width``), a :class:`Template`, a word
with expressions in braces (``enc{i-1}``), and :class:`References`, what ``from`` holds
(``atrous{r} for r in rates``).
"""

from __future__ import annotations

import ast
import builtins
import math
import operator
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from typing import Any

from segspec.algebra.symbols import (
    Number,
    Sym,
    TooLarge,
    Undecided,
    compare,
    concrete,
    make_divisible,
    maximum,
    minimum,
    power,
    whole,
)
from segspec.errors import shown

MAX_LENGTH = 2_000
MAX_DEPTH = 50
MAX_ITEMS = 10_000
MAX_MAGNITUDE = 2**63
MAX_STEPS = 500_000


class ExpressionError(ValueError):
    """The expression is not in the language, or has no value; ``remedy`` says what to do."""

    def __init__(self, message: str, remedy: str = "", *, code: str = "expression") -> None:
        super().__init__(message)
        self.remedy = remedy
        self.code = code


@dataclass
class Budget:
    """What all evaluations for one spec may cost together, in steps."""

    left: int = MAX_STEPS

    def spend(self, steps: int = 1) -> None:
        self.left -= steps
        if self.left < 0:
            raise ExpressionError(
                f"the spec's expressions take more than {MAX_STEPS:,} steps",
                "make its loops smaller",
                code="limit",
            )


@dataclass(frozen=True)
class Scope:
    """Where an expression is evaluated: what its names mean, and who decides undecided comparisons.

    ``decide`` gets a comparison that the forms at hand leave open and answers it, or raises
    :class:`~segspec.algebra.symbols.Undecided`; ``channels`` answers ``channels(node)``.
    """

    names: Mapping[str, Any]
    budget: Budget = field(default_factory=Budget)
    decide: Callable[[str, Number, Number], bool] = compare
    channels: Callable[[str], Number] | None = None
    functions: Mapping[str, Callable[..., Any]] = field(default_factory=lambda: FUNCTIONS)

    def bind(self, names: Mapping[str, Any]) -> Scope:
        """The same scope with more names."""
        return replace(self, names={**self.names, **names})


class Expression:
    """One parsed expression; ``channels(enc{i})`` may count the node whose channels it asks for."""

    _COUNTED = re.compile(r"(?<=channels\()[A-Za-z_]\w*(?=\{)")

    def __init__(self, text: str) -> None:
        self.text = text
        plain, self._templates = _templated(text, self._COUNTED)
        self._body = _parse(plain, text)

    @cached_property
    def names(self) -> frozenset[str]:
        """Every name that the expression reads from outside itself."""
        inside = frozenset().union(*(template.names for template in self._templates.values()))
        return _names(self._body) | (inside - _bound(self._body))

    def evaluate(self, scope: Scope) -> Any:
        """The value: a number (perhaps symbolic), a bool, a string, a list or a dict.

        Raises :class:`ExpressionError` for what has no value and
        :class:`~segspec.algebra.symbols.Undecided` where a symbol's value is needed.
        """
        return _Evaluator(scope, self.text, self._templates).run(self._body)

    def __repr__(self) -> str:
        return f"Expression({self.text!r})"


class Value:
    """What stands where a value is expected: a literal, or expression text, or lists and dicts of these."""

    def __init__(self, raw: Any) -> None:
        self.raw = raw
        self._parts: Any = raw
        if isinstance(raw, str):
            self._parts = Expression(raw)
        elif isinstance(raw, list):
            self._parts = [Value(item) for item in raw]
        elif isinstance(raw, dict):
            self._parts = {key: Value(item) for key, item in raw.items()}

    @cached_property
    def names(self) -> frozenset[str]:
        """Every name that its expressions read."""
        parts = self._parts
        if isinstance(parts, Expression):
            return parts.names
        items = parts.values() if isinstance(parts, dict) else parts if isinstance(parts, list) else ()
        return frozenset().union(*(item.names for item in items))

    def evaluate(self, scope: Scope) -> Any:
        """The value, as :meth:`Expression.evaluate` gives it."""
        parts = self._parts
        if isinstance(parts, Expression):
            return parts.evaluate(scope)
        try:
            if isinstance(parts, list):
                return _held([item.evaluate(scope) for item in parts], scope.budget)
            if isinstance(parts, dict):
                return _held({key: item.evaluate(scope) for key, item in parts.items()}, scope.budget)
        except TooLarge as error:
            raise ExpressionError(str(error)) from None
        return parts


class Template:
    """A word with expressions in braces, such as ``pool{i}`` or ``RSU{height}``."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._parts: list[str | Expression] = []
        position = 0
        for start, end in _braces(text):
            self._parts += [text[position:start], Expression(text[start + 1 : end - 1])]
            position = end
        self._parts.append(text[position:])

    @cached_property
    def names(self) -> frozenset[str]:
        """Every name that the expressions in braces read."""
        parts = [part.names for part in self._parts if isinstance(part, Expression)]
        return frozenset().union(*parts)

    def fill(self, scope: Scope) -> str:
        """The word, with every brace replaced by its value's text."""
        return "".join(part if isinstance(part, str) else _word(part, part.evaluate(scope)) for part in self._parts)


class Pattern(Template):
    """A template that is read as well: ``layer{s}.conv{i + 1}`` with numbers for slots.

    A brace that holds nothing but a name which nothing defines is a slot: it stands for a whole number.
    """

    def slots(self, known: Iterable[str]) -> frozenset[str]:
        """The names of its slots, given what is defined."""
        return frozenset(part.text for part in self._expressions() if _is_slot(part, known))

    def read(self, known: Iterable[str]) -> frozenset[str]:
        """The names that it reads, given what is defined: those of its slots are not among them."""
        held = [part.names for part in self._expressions() if not _is_slot(part, known)]
        return frozenset().union(*held)

    def fill(self, scope: Scope) -> str:
        """The word, with its slots as they are and every other brace replaced by its value's text."""
        return "".join(part if isinstance(part, str) else f"{{{part.text}}}" for part in self._filled(scope))

    def regex(self, scope: Scope) -> str:
        """A regular expression for what it matches, with a group for each slot."""
        found: set[str] = set()
        text = ""
        for part in self._filled(scope):
            if isinstance(part, str):
                text += re.escape(part)
            else:
                text += f"(?P={part.text})" if part.text in found else f"(?P<{part.text}>[0-9]{{1,9}})"
                found.add(part.text)
        return text

    def _filled(self, scope: Scope) -> Iterator[str | Expression]:
        """Its text, and its slots as expressions."""
        for part in self._parts:
            if isinstance(part, str) or _is_slot(part, scope.names):
                yield part
            else:
                yield _word(part, part.evaluate(scope))

    def _expressions(self) -> list[Expression]:
        return [part for part in self._parts if isinstance(part, Expression)]


def _is_slot(part: Expression, known: Iterable[str]) -> bool:
    return part.text in part.names and part.text not in known


@dataclass(frozen=True)
class Reference:
    """What a node reads: a node or an input, perhaps one output of it, perhaps the first ``upto`` elements."""

    node: str
    output: str = ""
    upto: int | None = None

    def __str__(self) -> str:
        tap = "" if self.upto is None else f"[{self.upto - 1}]"
        return self.node + (f".{self.output}" if self.output else "") + tap


class References:
    """One entry of ``from``: a reference, a conditional one, or a spread of many.

    ``enc{i}``, ``backbone.low``, ``backbone.pool{i}``, ``features[3]``, ``downsample if project else x``,
    ``"atrous{r} for r in rates"``.
    """

    _WORD = re.compile(r"(?<![\w}])[A-Za-z_]\w*(?=\{)")

    def __init__(self, text: str) -> None:
        self.text = text
        plain, self._templates = _templated(text, self._WORD)
        spread = re.search(r"\bfor\b", plain)
        try:
            self._body = _parse(f"({plain})" if spread else plain, text, _ALLOWED | {ast.Attribute})
        except NotExpression:
            raise self._objection() from None

    @cached_property
    def names(self) -> frozenset[str]:
        """Every name that its conditions, spreads and braces read (not the nodes it refers to)."""
        found: set[str] = set()
        bound: set[str] = set()
        body = self._body
        if isinstance(body, ast.GeneratorExp):
            for generator in body.generators:
                found |= _names(generator.iter)
                for condition in generator.ifs:
                    found |= _names(condition)
                bound |= {name.id for name in ast.walk(generator.target) if isinstance(name, ast.Name)}
            body = body.elt
        for node in ast.walk(body):
            if isinstance(node, ast.IfExp):
                found |= _names(node.test)
            elif isinstance(node, ast.Subscript):
                found |= _names(node.slice)
        for template in self._templates.values():
            found |= template.names
        return frozenset(found - bound)

    def resolve(self, scope: Scope) -> list[Reference]:
        """The references, in order."""
        if isinstance(self._body, ast.GeneratorExp):
            evaluator = _Evaluator(scope, self.text)
            scopes = evaluator.loop(self._body.generators, scope)
            return [self._one(self._body.elt, inner) for inner in scopes]
        return [self._one(self._body, scope)]

    def _one(self, body: ast.expr, scope: Scope) -> Reference:
        if isinstance(body, ast.IfExp):
            test = _Evaluator(scope, self.text).truth(body.test)
            return self._one(body.body if test else body.orelse, scope)
        if isinstance(body, ast.Subscript):
            base = self._one(body.value, scope)
            index = _Evaluator(scope, self.text).run(body.slice)
            if not isinstance(index, int) or index < 0 or base.upto is not None:
                raise ExpressionError(f"{shown(self.text)} is no tap", "write features[3] for what element 3 returns")
            return Reference(base.node, base.output, index + 1)
        if isinstance(body, ast.Attribute):
            base = self._one(body.value, scope)
            if not base.output:
                return Reference(base.node, self._filled(body.attr, scope))
        if isinstance(body, ast.Name):
            return Reference(self._filled(body.id, scope))
        raise self._objection()

    def _filled(self, name: str, scope: Scope) -> str:
        """A node's or an output's name, its braces filled."""
        template = self._templates.get(name)
        return template.fill(scope) if template else name

    def _objection(self) -> ExpressionError:
        return ExpressionError(
            f"{shown(self.text)} refers to no node",
            "write a node's name, block.output, sequence[3], 'a if condition else b', or 'name{i} for i in items'",
        )


class NotExpression(ExpressionError):
    """The text is not even Python."""


def _parse(text: str, written: str, allowed: Set[type[ast.AST]] | None = None) -> ast.expr:
    if len(text) > MAX_LENGTH:
        raise ExpressionError(f"the expression has more than {MAX_LENGTH} characters", "name its parts in let:")
    try:
        with warnings.catch_warnings(action="ignore"):
            body = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise NotExpression(f"{shown(written)} is not an expression", "it must read as Python does") from None
    level: list[ast.AST] = [body]
    for _ in range(MAX_DEPTH):
        for node in level:
            _permit(node, written, _ALLOWED if allowed is None else allowed)
        level = [inner for node in level for inner in ast.iter_child_nodes(node)]
        if not level:
            return body
    raise ExpressionError(f"{shown(written)} is nested more than {MAX_DEPTH} deep", "name its parts in let:")


def _permit(node: ast.AST, written: str, allowed: Set[type[ast.AST]]) -> None:
    """Refuse what the language leaves out."""
    kind = type(node)
    if kind not in allowed or (isinstance(node, ast.comprehension) and node.is_async):
        raise ExpressionError(
            f"{shown(written)} uses {_KINDS.get(kind, kind.__name__)}, which the language leaves out",
            "use arithmetic, comparison, conditionals, lists, dicts, indexing, comprehensions and "
            + ", ".join(sorted(FUNCTIONS)),
        )
    if isinstance(node, ast.Constant) and not isinstance(node.value, int | float | str | None):
        raise ExpressionError(f"{shown(written)} has a constant that is no number and no text")
    if isinstance(node, ast.Call) and not (isinstance(node.func, ast.Name) and not node.keywords):
        raise ExpressionError(
            f"{shown(written)} calls what is not a function of the language",
            "functions: " + ", ".join(sorted(FUNCTIONS)),
        )


def _templated(text: str, word: re.Pattern[str]) -> tuple[str, dict[str, Template]]:
    """The text with a plain name for each name that holds braces, and what these stand for."""
    templates: dict[str, Template] = {}
    plain, position = "", 0
    while found := word.search(text, position):
        end = found.end()
        while end < len(text) and (text[end] == "{" or text[end].isalnum() or text[end] == "_"):
            end = _closing(text, end) if text[end] == "{" else end + 1
        name = f"_template_{len(templates)}_"
        templates[name] = Template(text[found.start() : end])
        plain += text[position : found.start()] + name
        position = end
    return plain + text[position:], templates


def _bound(body: ast.expr) -> frozenset[str]:
    """The variables of its comprehensions."""
    return frozenset(
        name.id
        for node in ast.walk(body)
        if isinstance(node, ast.comprehension)
        for name in ast.walk(node.target)
        if isinstance(name, ast.Name)
    )


def _names(body: ast.expr) -> frozenset[str]:
    inner = _bound(body)
    calls = {id(node.func) for node in ast.walk(body) if isinstance(node, ast.Call)}
    nodes = {
        id(node.args[0])
        for node in ast.walk(body)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "channels" and node.args
    }
    return frozenset(
        node.id
        for node in ast.walk(body)
        if isinstance(node, ast.Name) and id(node) not in calls | nodes and node.id not in inner
    )


class _Evaluator:
    """Walks one expression in one scope."""

    def __init__(self, scope: Scope, text: str, templates: Mapping[str, Template] | None = None) -> None:
        self.scope = scope
        self.text = text
        self.templates = templates or {}

    def within(self, scope: Scope) -> _Evaluator:
        """The same expression with more names."""
        return _Evaluator(scope, self.text, self.templates)

    def run(self, node: ast.expr) -> Any:
        self.scope.budget.spend()
        try:
            return _held(getattr(self, f"_{type(node).__name__.lower()}")(node), self.scope.budget)
        except ZeroDivisionError:
            raise ExpressionError(f"{shown(self.text)} divides by zero") from None
        except TooLarge as error:
            raise ExpressionError(f"{shown(self.text)}: {error}") from None
        except (OverflowError, MemoryError, RecursionError):
            raise ExpressionError(f"{shown(self.text)} has too large a value") from None
        except ExpressionError:
            raise
        except (_Mismatch, ValueError) as error:
            raise ExpressionError(f"{shown(self.text)}: {error}") from None
        except TypeError:
            raise ExpressionError(f"{shown(self.text)} gives a function what it does not take") from None

    def truth(self, node: ast.expr) -> bool:
        return _truth(self.run(node), self.scope)

    def loop(self, generators: list[ast.comprehension], scope: Scope) -> Iterator[Scope]:
        if not generators:
            yield scope
            return
        first, *rest = generators
        for item in iterate(self.within(scope).run(first.iter)):
            scope.budget.spend()
            inner = scope.bind(unpack(first.target, item))
            if all(self.within(inner).truth(condition) for condition in first.ifs):
                yield from self.loop(rest, inner)

    def _constant(self, node: ast.Constant) -> Any:
        return node.value

    def _name(self, node: ast.Name) -> Any:
        if node.id in self.scope.names:
            return self.scope.names[node.id]
        raise UnknownName(node.id, self.scope.names)

    def _binop(self, node: ast.BinOp) -> Any:
        left, right = self.run(node.left), self.run(node.right)
        if isinstance(left, list) or isinstance(right, list):
            return self._list_arithmetic(node.op, left, right)
        if not (_is_number(left) and _is_number(right)):
            raise _mismatch(_SIGNS[type(node.op)], left, right)
        self.scope.budget.spend(_terms(left) * _terms(right))
        if isinstance(node.op, ast.Pow):
            return power(left, right)
        divides = isinstance(node.op, ast.Div | ast.FloorDiv | ast.Mod)
        if divides and isinstance(right, Sym) and self.scope.decide("==", right, 0):
            raise ZeroDivisionError
        return _OPERATORS[type(node.op)](left, right)

    def _list_arithmetic(self, op: ast.operator, left: Any, right: Any) -> list[Any]:
        if isinstance(op, ast.Add) and isinstance(left, list) and isinstance(right, list):
            return left + right
        items, times = (left, right) if isinstance(left, list) else (right, left)
        if isinstance(op, ast.Mult) and _is_number(times):
            count = concrete(times)
            if isinstance(count, int):
                if len(items) * count > MAX_ITEMS:
                    raise _too_long()
                return items * count
        raise _mismatch(_SIGNS[type(op)], left, right)

    def _unaryop(self, node: ast.UnaryOp) -> Any:
        if isinstance(node.op, ast.Not):
            return not self.truth(node.operand)
        value = self.run(node.operand)
        if not _is_number(value):
            raise _mismatch("-" if isinstance(node.op, ast.USub) else "+", value)
        return -value if isinstance(node.op, ast.USub) else value

    def _boolop(self, node: ast.BoolOp) -> Any:
        wanted = isinstance(node.op, ast.Or)
        *first, last = node.values
        for item in first:
            value = self.run(item)
            if _truth(value, self.scope) is wanted:
                return value
        return self.run(last)

    def _compare(self, node: ast.Compare) -> bool:
        left = self.run(node.left)
        for op, item in zip(node.ops, node.comparators, strict=True):
            right = self.run(item)
            if not self._compare_two(op, left, right):
                return False
            left = right
        return True

    def _compare_two(self, op: ast.cmpop, left: Any, right: Any) -> bool:
        if isinstance(op, ast.In | ast.NotIn):
            found = any(self._equal(left, item) for item in iterate(right))
            return found is isinstance(op, ast.In)
        if isinstance(op, ast.Eq | ast.NotEq):
            return self._equal(left, right) is isinstance(op, ast.Eq)
        if not (_is_number(left) and _is_number(right)):
            raise _mismatch(_COMPARISONS[type(op)], left, right)
        return self.scope.decide(_COMPARISONS[type(op)], left, right)

    def _equal(self, left: Any, right: Any) -> bool:
        self.scope.budget.spend()
        if _is_number(left) and _is_number(right):
            return self.scope.decide("==", left, right)
        if isinstance(left, list) and isinstance(right, list):
            return len(left) == len(right) and all(map(self._equal, left, right))
        return type(left) is type(right) and not isinstance(left, dict) and bool(left == right)

    def _ifexp(self, node: ast.IfExp) -> Any:
        return self.run(node.body if self.truth(node.test) else node.orelse)

    def _list(self, node: ast.List | ast.Tuple) -> list[Any]:
        return [self.run(item) for item in node.elts]

    _tuple = _list

    def _dict(self, node: ast.Dict) -> dict[Any, Any]:
        result: dict[Any, Any] = {}
        for key, value in zip(node.keys, node.values, strict=True):
            name = None if key is None else concrete(self.run(key))
            if not isinstance(name, int | float | str):
                raise _Mismatch("a dict's key is a number or text")
            result[name] = self.run(value)
        return result

    def _subscript(self, node: ast.Subscript) -> Any:
        held = self.run(node.value)
        if isinstance(node.slice, ast.Slice):
            parts = (node.slice.lower, node.slice.upper, node.slice.step)
            bounds: list[Any] = [None if part is None else concrete(self.run(part)) for part in parts]
            if not isinstance(held, list) or not all(isinstance(part, int | None) for part in bounds):
                raise _Mismatch(f"a slice of {_kind(held)} by {', '.join(map(_kind, bounds))}")
            if bounds[2] == 0:
                raise _Mismatch("a slice's step cannot be 0")
            return held[slice(*bounds)]
        index = concrete(self.run(node.slice))
        if isinstance(held, dict):
            if not isinstance(index, int | float | str) or index not in held:
                known = ", ".join(map(shown, held))
                raise ExpressionError(f"{shown(self.text)} has no entry for {shown(index)}", f"there are: {known}")
            return held[index]
        if not isinstance(held, list) or not isinstance(index, int):
            raise _Mismatch(f"an item of {_kind(held)} by {_kind(index)}")
        if not -len(held) <= index < len(held):
            raise ExpressionError(
                f"{shown(self.text)} takes item {index} of a list of {len(held)}",
                "items count from 0",
            )
        return held[index]

    def _listcomp(self, node: ast.ListComp | ast.GeneratorExp) -> list[Any]:
        scopes = self.loop(node.generators, self.scope)
        items: list[Any] = []
        for scope in scopes:
            items.append(self.within(scope).run(node.elt))
            if len(items) > MAX_ITEMS:
                raise _too_long()
        return items

    _generatorexp = _listcomp

    def _call(self, node: ast.Call) -> Any:
        assert isinstance(node.func, ast.Name)
        name = node.func.id
        if name == "channels" and self.scope.channels:
            if len(node.args) == 1 and isinstance(argument := node.args[0], ast.Name):
                template = self.templates.get(argument.id)
                return self.scope.channels(template.fill(self.scope) if template else argument.id)
            raise _Mismatch("channels() takes the name of a node above or of an input")
        if name not in self.scope.functions:
            raise UnknownName(name, self.scope.functions, "there is no function '{}'")
        return self.scope.functions[name](*(self.run(argument) for argument in node.args))


class _Mismatch(TypeError):
    """Values of kinds that do not go together."""


def _mismatch(sign: str, *values: Any) -> _Mismatch:
    return _Mismatch(f"{sign} does not go with {' and '.join(map(_kind, values))}")


def _kind(value: Any) -> str:
    """What sort of value it is, in words."""
    kinds = {bool: "true or false", str: "text", list: "a list", dict: "a dict", type(None): "nothing"}
    return next((words for kind, words in kinds.items() if isinstance(value, kind)), "a number")


class Items(list[Any]):
    """A list that an expression made, and how many values it holds, those of inner lists counted."""

    size = 0


class Entries(dict[Any, Any]):
    """A dict that an expression made, and how many values it holds."""

    size = 0


def size_of(value: Any) -> int:
    """How many values a value holds, or is."""
    if isinstance(value, Items | Entries):
        return value.size
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return sum(map(size_of, inner)) or 1


def _held(value: Any, budget: Budget) -> Any:
    """The value if it is not too large, paid for; a list knows from then on how much it holds."""
    if isinstance(value, list | dict) and not isinstance(value, Items | Entries):
        size = size_of(value)
        budget.spend(len(value))
        value = Items(value) if isinstance(value, list) else Entries(value)
        value.size = size
        if size > MAX_ITEMS:
            raise _too_long()
    if isinstance(value, int) and abs(value) > MAX_MAGNITUDE:
        raise OverflowError
    if isinstance(value, float) and not math.isfinite(value):
        raise OverflowError
    return value


def _too_long() -> TooLarge:
    return TooLarge(f"a list holds at most {MAX_ITEMS:,} values")


def _terms(value: Any) -> int:
    return len(value.terms) if isinstance(value, Sym) else 1


class UnknownName(ExpressionError):
    """A name that nothing defines."""

    def __init__(self, name: str, known: Iterable[str], message: str = "nothing here is called '{}'") -> None:
        super().__init__(message.format(name), code="unknown-name")
        self.name = name
        self.known = tuple(known)


def iterate(value: Any) -> list[Any]:
    """The items of a list; :class:`ExpressionError` for anything else."""
    if isinstance(value, list):
        return value
    if isinstance(value, dict):
        return list(value)
    if isinstance(value, Sym):
        raise Undecided(concrete_symbols(value))
    raise ExpressionError(f"{shown(value)} is not a list", "loop over range(n) or over a list")


def concrete_symbols(value: Sym) -> frozenset[Any]:
    """The symbols whose values are missing to make ``value`` plain."""
    try:
        concrete(value)
    except Undecided as undecided:
        return undecided.symbols
    return frozenset()


def unpack(target: ast.expr, item: Any) -> dict[str, Any]:
    """The names that a loop's target (``i`` or ``i, rate``) gives to one item."""
    if isinstance(target, ast.Name):
        return {target.id: item}
    if isinstance(target, ast.Tuple) and isinstance(item, list) and len(item) == len(target.elts):
        found: dict[str, Any] = {}
        for part, value in zip(target.elts, item, strict=True):
            found |= unpack(part, value)
        return found
    raise ExpressionError("a loop's variables do not match its items", "write 'for i, rate in enumerate(rates)'")


class Loop:
    """The variables and the items of ``for VARIABLES in ITEMS``."""

    def __init__(self, text: str) -> None:
        no_loop = ExpressionError(f"{shown(text)} is no loop", "write 'for NAME in LIST:'")
        try:
            inner = _parse(f"[0 {text}]", text)
        except NotExpression:
            raise no_loop from None
        if not isinstance(inner, ast.ListComp) or len(inner.generators) != 1 or inner.generators[0].ifs:
            raise no_loop
        self.target = inner.generators[0].target
        self.items = Expression(ast.unparse(inner.generators[0].iter))

    @cached_property
    def variables(self) -> frozenset[str]:
        """The names that each turn defines."""
        return frozenset(node.id for node in ast.walk(self.target) if isinstance(node, ast.Name))


def truth(value: Any, scope: Scope) -> bool:
    """Whether a value counts as true; symbols are decided by the scope."""
    return _truth(value, scope)


def _truth(value: Any, scope: Scope) -> bool:
    return scope.decide("!=", value, 0) if isinstance(value, Sym) else bool(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | Fraction | Sym)


def _divided(left: Number, right: Number) -> Number:
    if isinstance(left, int) and isinstance(right, int):
        quotient = Fraction(left, right)
        return quotient.numerator if quotient.denominator == 1 else left / right
    return left / right


def _word(part: Expression, value: Any) -> str:
    if isinstance(value, Sym):
        raise Undecided(concrete_symbols(value))
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ExpressionError(f"{{{part.text}}} is {shown(value)}, which makes no name", "put text or a whole number")
    return str(value)


def _braces(text: str) -> Iterator[tuple[int, int]]:
    position = 0
    while (start := text.find("{", position)) >= 0:
        position = _closing(text, start)
        yield start, position
    if "}" in text[position:]:
        raise ExpressionError(f"{shown(text)} closes a brace that it never opened")


def _closing(text: str, start: int) -> int:
    depth = 0
    for position in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[position], 0)
        if depth == 0:
            return position + 1
    raise ExpressionError(f"{shown(text)} opens a brace that it never closes")


def _range(*args: Number) -> list[int]:
    plain = [concrete(arg) for arg in args]
    if not 1 <= len(plain) <= 3 or not all(isinstance(arg, int) for arg in plain):
        raise _Mismatch(f"range() of {', '.join(map(_kind, plain)) or 'nothing'}, where it takes whole numbers")
    numbers = builtins.range(*plain)  # type: ignore[arg-type]
    if len(numbers) > MAX_ITEMS:
        raise _too_long()
    return list(numbers)


def _ceil(value: Number) -> Number:
    if isinstance(value, Sym):
        return -((-value) // 1)
    return math.ceil(value)


def _sum(items: Any) -> Number:
    total: Number = 0
    for item in iterate(items):
        if not _is_number(item):
            raise _mismatch("sum()", item)
        total = total + item
    return total


def _spread(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args: function(*(iterate(args[0]) if len(args) == 1 else args))


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "range": _range,
    "len": lambda items: len(iterate(items)),
    "min": _spread(minimum),
    "max": _spread(maximum),
    "sum": _sum,
    "any": lambda items: any(concrete(item) for item in iterate(items)),
    "all": lambda items: all(concrete(item) for item in iterate(items)),
    "ceil": _ceil,
    "abs": lambda value: abs(concrete(value)),
    "make_divisible": lambda value, divisor=8: make_divisible(value, whole(divisor)),
    "enumerate": lambda items: [[index, item] for index, item in enumerate(iterate(items))],
    "zip": lambda *lists: [list(items) for items in zip(*map(iterate, lists), strict=True)],
    "reversed": lambda items: iterate(items)[::-1],
}
"""The functions of the language, by name (``channels`` besides, which needs the graph)."""

_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: _divided,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_COMPARISONS: dict[type[ast.cmpop], str] = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">="}
_ALLOWED: Set[type[ast.AST]] = {
    *(
        ast.Constant,
        ast.Name,
        ast.Load,
        ast.Store,
        ast.BinOp,
        ast.UnaryOp,
        ast.BoolOp,
        ast.Compare,
        ast.IfExp,
    ),
    *(
        ast.List,
        ast.Tuple,
        ast.Dict,
        ast.Subscript,
        ast.Slice,
        ast.ListComp,
        ast.GeneratorExp,
        ast.comprehension,
    ),
    *(ast.Call, ast.And, ast.Or, ast.Not, ast.USub, ast.UAdd, ast.Pow),
    *(ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.In, ast.NotIn),
    *_OPERATORS,
}
_ARITHMETIC = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow)
_BITWISE = (ast.BitAnd, ast.BitOr, ast.BitXor, ast.LShift, ast.RShift, ast.MatMult)
_SIGNS: dict[type[ast.operator], str] = dict(
    zip((*_ARITHMETIC, *_BITWISE), ["+", "-", "*", "/", "//", "%", "**", "&", "|", "^", "<<", ">>", "@"], strict=True)
)
_KINDS: dict[type[ast.AST], str] = {
    **{kind: f"'{sign}'" for kind, sign in _SIGNS.items()},
    ast.Invert: "'~'",
    ast.Is: "'is'",
    ast.IsNot: "'is not'",
    ast.NamedExpr: "':='",
    ast.Starred: "'*'",
    ast.Await: "'await'",
    ast.Yield: "'yield'",
    ast.comprehension: "'async'",
    ast.Attribute: "an attribute",
    ast.Lambda: "a lambda",
    ast.JoinedStr: "an f-string",
    ast.Set: "a set",
    ast.SetComp: "a set",
    ast.DictComp: "a dict comprehension",
}
