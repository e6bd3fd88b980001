"""The theoretical receptive field and the output stride of every node, exactly, from the graph.

Along one axis, element j of a map depends on the image's pixels from ``low`` to ``high``. Behind a
transposed convolution or a resize the neighbours of j see differently placed windows, so the bounds are
kept for each of the elements after which they repeat. Where paths meet, the union counts (Araujo, Norris,
Sim: Computing Receptive Fields of Convolutional Neural Networks, Distill 2019). Borders do not.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import TypeAlias

from segspec.algebra.symbols import substitute, symbols_of, whole
from segspec.errors import fail
from segspec.graph.instances import Values, at_size, resolve, settled
from segspec.graph.model import ApplyCall, BlockCall, Call, Graph, Module, Node, OpCall, Tensor
from segspec.graph.sizes import nearest_size
from segspec.ops.attributes import kind_of
from segspec.ops.reach import Along, Reach

Span: TypeAlias = "tuple[int, int] | None"
"""The first and the last pixel that an element depends on; None for one that depends on none."""

MAX_PHASES = 4_096
"""Bounds that repeat only after more elements are refused: no network's do."""

REFERENCE_SIZE = 512
"""Padding or cropping to another map's size shifts a map by what it does at the allowed size nearest to this."""


@dataclass(frozen=True)
class Field:
    """Along one axis, what the elements of a map depend on.

    Element j depends on ``spans[j % n]``, moved by j // n times ``n · stride`` pixels, n being their number;
    ``spans`` is None where every element depends on the whole image. ``stride`` is how many pixels one element
    advances, None where the map's size has nothing to do with the image's.
    """

    stride: Fraction | None
    spans: tuple[Span, ...] | None

    @property
    def size(self) -> int | None:
        """How many pixels the field spans, of the elements that see most; None for the whole image."""
        if self.spans is None:
            return None
        return max((high - low + 1 for low, high in filter(None, self.spans)), default=0)

    def span(self, element: int) -> Span:
        """The pixels that one element depends on."""
        assert self.spans is not None
        turn, phase = divmod(element, len(self.spans))
        span = self.spans[phase]
        if span is None or not turn:
            return span
        shift = int((self.stride or 0) * len(self.spans)) * turn
        return span[0] + shift, span[1] + shift

    @property
    def blank(self) -> bool:
        """Whether no element depends on the image: a learned parameter, a constant."""
        return self.spans is not None and not any(self.spans)


PIXELS = Field(Fraction(1), ((0, 0),))
"""The image itself."""

BLANK = Field(None, (None,))
ANYTHING = Field(None, None)

Fields: TypeAlias = tuple[Field, Field]
"""The fields along height and width."""


def through(field: Field, reach: Reach) -> Field:
    """The field of an op's output, from that of its input."""
    if field.blank:
        return BLANK
    stride = None if field.stride is None else field.stride * reach.step
    if reach.reads is None:
        return ANYTHING
    if field.spans is None or stride is None:
        return Field(stride, None)
    held = len(field.spans)
    count = reach.step.denominator * (held // math.gcd(held, reach.step.numerator))
    if count > MAX_PHASES:
        raise fail("limit", f"receptive fields that repeat only after {count:,} elements")
    spans: list[Span] = []
    for element in range(count):
        read = reach.reads(element)
        # Bounds only move on with the elements, but for those that depend on nothing.
        first, last = (_hull(field.span(place) for place in part) for part in (read[:held], read[-held:]))
        spans.append((first[0], last[1]) if first and last else None)
    return Field(stride, tuple(spans))


def union(fields: Sequence[Field]) -> Field:
    """The field of what depends on elements at one place of several maps."""
    seeing = [field for field in fields if not field.blank]
    strides = {field.stride for field in seeing if field.stride is not None}
    if not seeing:
        return fields[0]
    stride = strides.pop() if len(strides) == 1 else None
    if stride is None or any(field.spans is None for field in seeing):
        return Field(stride, None)
    count = math.lcm(*(len(field.spans or ()) for field in seeing))
    return Field(stride, tuple(_hull(field.span(element) for field in seeing) for element in range(count)))


def _hull(spans: Iterable[Span]) -> Span:
    found = [span for span in spans if span is not None]
    return (min(low for low, _ in found), max(high for _, high in found)) if found else None


@lru_cache(maxsize=64)
def receptive_fields(graph: Graph) -> tuple[dict[str, tuple[Fields, ...]], dict[str, Fields]]:
    """The fields of every node's outputs by its path, and of the network's outputs by their names."""
    values = at_size(graph, *nearest_size(graph, REFERENCE_SIZE))
    walk = _Walk()
    outputs = walk.module(graph.root, "", values, [(PIXELS, PIXELS)] * len(graph.root.inputs))
    return walk.found, dict(zip((output.name for output in graph.root.outputs), outputs, strict=True))


class _Walk:
    def __init__(self) -> None:
        self.found: dict[str, tuple[Fields, ...]] = {}

    def module(self, module: Module, prefix: str, values: Values, inputs: list[Fields]) -> list[Fields]:
        """The fields of a module's outputs."""
        held = {Tensor(item.name): fields for item, fields in zip(module.inputs, inputs, strict=True)}
        for node in module.nodes:
            self._node(node, prefix + node.name, values, held)
        return [held[output.tensor] for output in module.outputs]

    def _node(self, node: Node, path: str, values: Values, held: dict[Tensor, Fields]) -> None:
        held |= {
            Tensor(node.name, index, upto): fields
            for upto, results in self._call(node.call, path, values, [held[source] for source in node.sources])
            for index, fields in enumerate(results)
        }

    def _call(
        self, call: Call, path: str, values: Values, read: list[Fields]
    ) -> Iterator[tuple[int | None, list[Fields]]]:
        """The fields of a call's outputs; those of a sequence after each of its elements, and at last."""
        if isinstance(call, ApplyCall):
            yield from self._call(call.call, path, values, read)
            return
        if isinstance(call, OpCall):
            results = [_moved(call, values, read)] * len(call.outputs)
        elif isinstance(call, BlockCall):
            own = {symbol: substitute(value, values) for symbol, value in call.values.items()}
            results = self.module(call.module, f"{path}.", own, read)
        else:
            results = read
            for index, element in enumerate(call.elements):
                *_, (_, results) = self._call(element, f"{path}.{index}", values, results)
                yield index + 1, results
        self.found[path] = tuple(results)
        yield None, results


def _moved(call: OpCall, values: Values, read: list[Fields]) -> Fields:
    """The fields of an op's outputs."""
    op = settled(call.op, values)
    shapes = [resolve(shape, values) for shape in call.inputs]
    named = sum(kind_of(type(op), name).reference for name, value in op.attributes().items() if value is not None)
    along: list[Field] = []
    for axis in (0, 1):
        fields = [item[axis] for item in read]
        sizes = tuple(whole(shape[axis - 2]) if len(shape) >= 4 else 1 for shape in shapes)
        ranks, strides = tuple(map(len, shapes)), tuple(field.stride for field in fields)
        reaches = [op.reach(Along(axis, index, ranks, sizes, strides)) for index in range(len(fields) - named)]
        result = union([through(field, reach) for field, reach in zip(fields, reaches, strict=False)] or [BLANK])
        if result.spans is None and result.stride is None:
            result = Field(_stride(call, axis, fields), None)
        along.append(result)
    return along[0], along[1]


def _stride(call: OpCall, axis: int, fields: list[Field]) -> Fraction | None:
    """The stride of a map that sees the whole image: that of an input of the same size."""
    output = call.outputs[0]
    for shape, field in zip(call.inputs, fields, strict=True):
        sized = len(shape) >= 4 <= len(output) and any(symbol.size for symbol in symbols_of(output[axis - 2]))
        if sized and shape[axis - 2] == output[axis - 2]:
            return field.stride
    return None
