"""All that can be said of a spec without a framework: its graph, its sizes, its figures, every backend's facts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from segspec.errors import Problem, SpecError
from segspec.graph.elaborate import Elaborator, elaborate
from segspec.graph.instances import parameters
from segspec.graph.model import Graph, OpCall, SequenceCall, elements_of
from segspec.graph.sizes import conflict, size_rule
from segspec.render.backend import Backend, backends, problems
from segspec.render.source import _Renderer as Renderer
from segspec.spec.load import Definition
from segspec.spec.models import Spec


@dataclass(frozen=True)
class Checked:
    """A network that is in order: its name, its trainable elements, the sizes it takes."""

    name: str
    parameters: int
    sizes: str


def check(
    definition: Definition, settings: Mapping[str, Any], preset: str, elaborator: Elaborator | None = None
) -> Checked:
    """Check a spec at one preset; raises :class:`SpecError` with every problem found."""
    graph = elaborate(definition, settings, preset, elaborator)
    found = refusals(graph, list(backends().values()))
    count = parameters(graph)
    expected = _expected(definition, preset) if not settings else None
    if expected is not None and expected != count:
        path = ("expect", "presets", preset, "parameters") if preset else ("expect", "parameters")
        message = f"{graph.name} has {count:,} parameters, and the spec expects {expected:,}"
        found.append(Problem("expectation", message, definition.place(*path), "", "mend the spec, or the figure"))
    if found:
        raise SpecError(found)
    return Checked(graph.name, count, str(size_rule(graph)))


def refusals(graph: Graph, chosen: list[Backend]) -> list[Problem]:
    """What keeps a graph from being generated for these backends."""
    found = [*problems(graph, chosen), *_layerless(graph, chosen)]
    if requirement := conflict(graph):
        problem = requirement.problem()
        found.append(replace(problem, code="size", message=f"no image size suits {graph.name}: {problem.message}"))
    return found


def _layerless(graph: Graph, chosen: list[Backend]) -> Iterator[Problem]:
    """Elements of sequences that a backend has no layer for, once in each class."""
    for backend in chosen:
        renderer = Renderer(graph, backend)
        for module in graph.modules:
            for node in module.nodes:
                if isinstance(node.call, SequenceCall):
                    for path, call in elements_of(node.call):
                        if isinstance(call, OpCall):
                            for problem in _refused(renderer, call, graph):
                                yield replace(problem, place=node.place, node=f"{node.name}.{path}")


def _refused(renderer: Renderer, call: OpCall, graph: Graph) -> list[Problem]:
    try:
        renderer.constructor(call, graph.root)
    except SpecError as error:
        return list(error.problems)
    return []


def _expected(definition: Definition, preset: str) -> int | None:
    assert isinstance(definition.block, Spec)
    expect = definition.block.expect
    if not preset:
        return expect.parameters
    return expect.presets[preset].parameters if preset in expect.presets else None
