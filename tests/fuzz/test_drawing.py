"""Random specs are drawn from all there is: every op, attribute, word and initialiser, and the language's parts."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
from concrete import Misfit, Ran, network
from drawing import Case, Size
from fuzz import one
from kinds import words_of

from segspec.ops import OPS
from segspec.ops.attributes import kind_of
from segspec.ops.initializers import INITIALIZERS

PATIENCE = 1_500
"""How many specs are drawn until all is seen; most of them are not needed."""

PARTS = {
    *("params", "let", "blocks", "several inputs", "several outputs", "when training", "when used", "stated channels"),
    *("for", "if", "block", "block in a block", "sequence", "for in a sequence", "repeat", "apply", "init"),
    *("a tap", "a named output", "a spread", "a conditional", "_", "the node before", "an expression", "a default"),
}
"""The parts of the language that are drawn."""

EDGES = {"one pixel", "an odd side", "one image", "a dilation beyond the map", "a window of the whole map", "no map"}
"""Sizes and attributes at their limits."""


@pytest.mark.slow
def test_all_there_is_is_drawn() -> None:
    missing = {*_vocabulary(), *PARTS, *EDGES}
    for seed in range(PATIENCE):
        case = one(seed)
        missing -= {*_parts(case.spec), *_written(case.spec), *_edges(case)}
        if not missing:
            return
    assert not missing


def _vocabulary() -> Iterator[Any]:
    for name, declared in OPS.items():
        yield name
        for item in dataclasses.fields(declared):  # type: ignore[arg-type]
            yield name, item.name
            yield from ((name, item.name, word) for word in words_of(kind_of(declared, item.name)))
    yield from INITIALIZERS


def _nodes(statements: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """What stands below ``nodes``, and below the loops, conditions and sequences there, by the keys."""
    for key, held in statements.items():
        yield key, held
        if key.startswith(("for ", "if ")):
            yield from _nodes(held)
        else:
            yield from _elements(held.get("sequence", []))


def _elements(elements: list[Any]) -> Iterator[tuple[str, Any]]:
    for element in elements:
        key = next(iter(element))
        yield ("for in a sequence", {}) if key.startswith("for ") else ("", element)
        if key.startswith("for "):
            yield from _elements(element[key])


def _all(spec: Any) -> Iterator[tuple[str, Any]]:
    for part in (spec, *spec.get("blocks", {}).values()):
        yield from _nodes(part["nodes"])


def _written(spec: Any) -> Iterator[Any]:
    """Ops with their attributes as they are written, and initialisers."""
    for _, node in _all(spec):
        if "op" in node:
            name = node["op"]
            yield name
            for key, value in node.items():
                yield name, key
                if isinstance(value, str):
                    yield name, key, value
            for start in node.get("init", {}).values():
                yield from [start] if isinstance(start, str) else start


def _parts(spec: Any) -> Iterator[str]:
    yield from spec.keys() & {"params", "let", "blocks"}
    yield from ["several inputs"] if len(spec["inputs"]) > 1 else []
    yield from ["several outputs"] if len(spec["outputs"]) > 1 else []
    for block in spec.get("blocks", {}).values():
        yield from block.keys() & {"let"}
        yield from ["stated channels"] if isinstance(block.get("inputs"), dict) else []
        yield from ["block in a block"] if any("block" in node for _, node in _nodes(block["nodes"])) else []
        yield from ["a default"] if any(not isinstance(held, str) for held in block.get("params", {}).values()) else []
    for part in (spec, *spec.get("blocks", {}).values()):
        for output in part.get("outputs", {}).values():
            yield from [f"when {output['when']}"] if isinstance(output, dict) and "when" in output else []
    for key, node in _all(spec):
        yield from [key] if key == "for in a sequence" else []
        yield from [key.partition(" ")[0]] if key.startswith(("for ", "if ")) else []
        yield from node.keys() & {"block", "sequence", "repeat", "apply", "init"}
        yield from _sources(node)
        numbers = [value for key, value in node.items() if key in ("out_channels", "out_features", "eps", "scale", "p")]
        yield from ["an expression"] if any(isinstance(value, str) and " " in value for value in numbers) else []


def _sources(node: Any) -> Iterator[str]:
    sources = node.get("from", [])
    yield from ["the node before"] if "op" in node and "from" not in node and OPS[node["op"]].inputs[1] else []
    for source in sources if isinstance(sources, list) else [sources]:
        ways = {" for ": "a spread", " if ": "a conditional", "[": "a tap", ".": "a named output"}
        yield from ["_"] if source == "_" else [way for mark, way in ways.items() if mark in source]


def _edges(case: Case) -> Iterator[str]:
    for size in case.sizes[:2]:
        yield from ["one pixel"] if size[:2] == (1, 1) else []
        yield from ["an odd side"] if size[0] % 2 or size[1] % 2 else []
        yield from ["one image"] if size[2] == 1 else []
        for ran in _ran(case, size):
            yield from ["no map"] if ran.inputs and len(ran.inputs[0]) != 4 else []
            held = ran.op.attributes()
            if "kernel_size" in held and ran.inputs and len(ran.inputs[0]) == 4:
                sides = ran.inputs[0][2:]
                kernel = held["kernel_size"]
                yield from ["a window of the whole map"] if max(sides) > 1 and tuple(kernel) == sides else []
                spaced = zip(held.get("dilation", (1, 1)), kernel, sides, strict=True)
                yield from ["a dilation beyond the map"] if any(d >= s and k > 1 for d, k, s in spaced) else []


def _ran(case: Case, size: Size) -> list[Ran]:
    try:
        return network(case.spec, size)[0].ops
    except Misfit:
        return []
