"""The docstrings of generated code: what it is, its arguments, its shapes, its sources."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property, lru_cache

from segspec.algebra.symbols import Number, Sym, Symbol, show, symbols_of
from segspec.graph.instances import instances
from segspec.graph.model import BlockCall, Graph, Module
from segspec.graph.sizes import size_rule
from segspec.ops import Shape
from segspec.render.backend import backends
from segspec.render.text import agreed, docstring, entry, paragraph, size_text, under
from segspec.spec.models import Citation, Spec
from segspec.spec.names import class_name

MAX_SIZE = 26


class Shapes:
    """Shapes as comments write them: in a class's own symbols, as far as all of its instances agree."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.globals = {"F", "nn", "Tensor", "init_weights"}
        self.globals |= {helper for backend in backends().values() for helper in backend.helpers}
        self.globals |= {module.name for module in graph.modules}
        rule = size_rule(graph)
        self.even = rule.height.period if rule.height == rule.width and rule.height.residues == (0,) else 1

        self._texts: dict[tuple[int, tuple[object, ...]], str] = {}

    @cached_property
    def _values(self) -> dict[int, list[Mapping[Symbol, Number]]]:
        """The values that a class's symbols have in each of its instances."""
        found: dict[int, list[Mapping[Symbol, Number]]] = {id(self.graph.root): [self.graph.defaults()]}
        for instance in instances(self.graph):
            if isinstance(instance.call, BlockCall):
                values = {symbol: under(value, instance.values) for symbol, value in instance.call.values.items()}
                held = found.setdefault(id(instance.call.module), [])
                if values not in held:
                    held.append(values)
        return found

    def text(self, module: Module, shape: Shape) -> str:
        """A shape in the module's terms; ``?`` for a size that depends on more than can be said briefly."""
        key = id(module), tuple(size.exact if isinstance(size, Sym) else size for size in shape)
        if key not in self._texts:
            self._texts[key] = self._text(module, shape)
        return self._texts[key]

    def _text(self, module: Module, shape: Shape) -> str:
        even = self.even if module is self.graph.root else 1
        axes = [size_text(size) for size in shape[:2]]
        axes += [size_text(self._size(module, size), even) if size is not None else "?" for size in shape[2:]]
        texts = [axis if len(axis) <= MAX_SIZE else "?" for axis in axes]
        return "(" + ", ".join(texts) + ("," if len(texts) == 1 else "") + ")"

    def _size(self, module: Module, size: Number) -> Number:
        if not isinstance(size, Sym) or all(symbol.size for symbol in symbols_of(size)):
            return size
        form = agreed(under(size, values) for values in self._values.get(id(module), []))
        return size if form is None or len(show(size)) <= MAX_SIZE else form


@lru_cache(maxsize=64)
def shapes_of(graph: Graph) -> Shapes:
    """The shapes of a network, the same for every backend."""
    return Shapes(graph)


def module_doc(graph: Graph) -> str:
    """The docstring of the generated module."""
    block = graph.definition.block
    assert isinstance(block, Spec)
    title = block.title or graph.root.name
    preset = f", preset {graph.preset}" if graph.preset else ""
    return docstring([paragraph(f"{title}{preset}.", 0)], 0)


@lru_cache(maxsize=4_096)
def class_doc(module: Module, shapes: Shapes, *, root: bool, loading: str = "") -> str:
    """The docstring of a generated class; ``loading`` is the line by which the network gets its weights."""
    block = module.definition.block
    summary, *rest = (block.doc or _summary(module)).strip().split("\n\n")
    if root and isinstance(block, Spec) and block.title:
        summary, rest = f"{block.title}.", [block.doc] if block.doc else []
    elif isinstance(block, Spec) and block.title:
        summary, rest = f"{block.title}.", [summary]  # its full story stands in its own module
    citations = [_citation(item) for item in block.references]
    arguments = [entry(item.name, item.doc, 8) for item in module.arguments if item.doc]
    # The first line also holds the opening quotes.
    parts = [paragraph(summary, 7), *(paragraph(part, 4) for part in rest), *citations]
    if arguments:
        parts.append("Args:\n" + "\n".join(_indented(item) for item in arguments))
    parts.append(_shapes_doc(module, shapes, root=root))
    if loading:
        parts.append(f"Weights:\n    {loading}")
    return docstring(parts, 4)


def _summary(module: Module) -> str:
    named = module.definition.block.class_name
    name = module.name if named else class_name(module.definition.name)
    words = "".join(f" {char.lower()}" if char.isupper() else char for char in name).split()
    return " ".join(words).capitalize() + "."


def _citation(item: Citation) -> str:
    who = f"{item.authors}: " if item.authors else ""
    year = f", {item.year}" if item.year else ""
    note = f" ({item.note})" if item.note else ""
    text = paragraph(f"{who}{item.title}{year}{note}", 4)
    return f"{text}\n{paragraph(item.url, 4)}" if item.url else text


def _shapes_doc(module: Module, shapes: Shapes, *, root: bool) -> str:
    inputs = [(item.name, shapes.text(module, item.shape), item.doc) for item in module.inputs]
    outputs = [(item.name, shapes.text(module, item.shape), item) for item in module.outputs]
    if not root:
        given = ", ".join(f"{name} {text}" if len(inputs) > 1 else text for name, text, _ in inputs)
        returned = ", ".join(f"{name} {text}" if len(outputs) > 1 else text for name, text, _ in outputs)
        return paragraph(f"Shape: {given} -> {returned}".replace("?", "…"), 4)
    lines = [entry(name, text + (f", {doc}" if doc else ""), 8) for name, text, doc in inputs]
    for name, text, item in outputs:
        notes = [text.replace("?", "…"), item.doc]
        if item.training:
            notes.append(f"in train mode only, loss weight {item.loss_weight:g}")
        lines.append(entry(name, ", ".join(note for note in notes if note), 8))
    rule = str(size_rule(shapes.graph))
    lines.append(entry("sizes", rule, 8))
    return "Shape:\n" + "\n".join(_indented(line) for line in lines)


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.split("\n"))
