"""The commands about networks: call, print."""

from __future__ import annotations

import argparse
import gc
import json
from typing import TYPE_CHECKING, Any

from segspec.cli.options import (
    DIFFERENT,
    FINE,
    backends_of,
    definitions_of,
    graphs_of,
    settings_of_each,
    verification_of,
)
from segspec.errors import Problem, SpecError, fail

if TYPE_CHECKING:
    from segspec.graph.model import Graph
    from segspec.render.check import Checked
    from segspec.spec.load import Definition


def list_(options: argparse.Namespace) -> int:
    """List the zoo."""
    from segspec.draw.table import table
    from segspec.spec.load import Loader
    from segspec.spec.models import Spec
    from segspec.spec.zoo import networks

    loader = Loader()
    blocks = {name: loader.load(name).block for name in networks()}
    found = [(name, block) for name, block in blocks.items() if isinstance(block, Spec)]
    if options.json:
        held = [
            {"name": name, "title": block.title, "parameters": block.expect.parameters, "presets": list(block.presets)}
            for name, block in found
        ]
        print(json.dumps(held, indent=2))
    else:
        rows = [
            [
                name,
                block.title,
                f"{block.expect.parameters:,}" if block.expect.parameters else "",
                ", ".join(block.presets),
            ]
            for name, block in found
        ]
        print(table(["name", "network", "parameters", "presets"], rows, right="  r "))
    return FINE


def check(options: argparse.Namespace) -> int:
    """Check specs: every mistake in all of them."""
    from segspec.graph.elaborate import Elaborator
    from segspec.render.check import check
    from segspec.spread import spread

    elaborator, definitions = Elaborator(), definitions_of(options)
    each = settings_of_each(options, [definition for definition, _ in definitions])

    def checked(asked: tuple[tuple[Definition, list[str]], dict[str, Any]]) -> tuple[list[Checked], list[Problem]]:
        (definition, presets), settings = asked
        if not options.preset and not settings:
            presets = ["", *definition.block.presets]  # type: ignore[attr-defined]
        results: list[Checked] = []
        problems: list[Problem] = []
        for preset in presets:
            try:
                results.append(check(definition, settings, preset, elaborator))
            except SpecError as error:
                problems += error.problems
        return results, problems

    found = spread(checked, list(zip(definitions, each, strict=True)))
    results = [result for held, _ in found for result in held]
    problems = [problem for _, held in found for problem in held]
    if problems:
        raise SpecError(problems)
    if options.json:
        print(json.dumps({"ok": True, "results": [vars(result) for result in results]}, indent=2))
    else:
        for result in results:
            print(f"{result.name}: {result.parameters:,} parameters, {result.sizes}")
    return FINE


def generate(options: argparse.Namespace) -> int:
    """Write the modules of networks, or say which are stale."""
    from segspec import files
    from segspec.render import render_all
    from segspec.render.check import refusals

    if options.check and options.stdout:
        raise fail("usage", "--check and --stdout do not go together")
    chosen = backends_of(options)
    graphs = list(graphs_of(options))
    found: list[Problem] = [problem for graph in graphs for problem in refusals(graph, chosen)]
    if found:
        raise SpecError(found)
    wanted = [(graph, backend) for graph in graphs for backend in chosen]
    sources = render_all(wanted)
    if options.stdout:
        print("\n\n".join(sources), end="")
        return FINE
    paths = [options.output / backend.name / f"{graph.name}.py" for graph, backend in wanted]
    if twice := next((path for path in paths if paths.count(path) > 1), None):
        raise fail("usage", f"two networks would be written to {twice}", remedy="generate them into two folders")
    made = dict(zip(paths, sources, strict=True))
    if options.check:
        stale = files.differences(made)
        print(stale, end="")
        return DIFFERENT if stale else FINE
    for path in files.write(made):
        print(path)
    return FINE


def verify(options: argparse.Namespace) -> int:
    """Hold the modules of several backends together."""
    from segspec import files
    from segspec.parity import report, terminal
    from segspec.parity.executors import executor
    from segspec.parity.junit import as_junit
    from segspec.parity.page import as_html
    from segspec.parity.verify import verify
    from segspec.render.check import refusals

    chosen = backends_of(options)
    if len(chosen) < 2:
        raise fail(
            "usage",
            "verify holds backends against one another: it needs two",
            remedy="give --backend twice, or leave it out",
        )
    graphs = list(graphs_of(options))
    found = [problem for graph in graphs for problem in refusals(graph, chosen)]
    if found:
        raise SpecError(found)
    settings = verification_of(options)
    wanted = [(path, made) for path, made in ((options.junit, as_junit), (options.html, as_html)) if path]
    if len({path.resolve() for path, _ in wanted}) < len(wanted):
        raise fail("usage", "--junit and --html name the same file")
    files.require_writable(path for path, _ in wanted)
    gc.freeze()  # the graphs
    gc.enable()  # a run's arrays are not kept
    with executor(options.executor, options.scheduler) as held, terminal.progress(len(chosen)) as tell:
        reports = list(verify(graphs, chosen, settings, tell=tell, executor=held))
    try:
        if options.json:
            print(report.as_json(reports))
        else:
            terminal.show(reports)
    finally:
        files.write({path: made(reports) for path, made in wanted})
    return FINE if reports and all(item.ok for item in reports) else DIFFERENT


def show(options: argparse.Namespace) -> int:
    """Show what a network is made of, or how statistics diverge."""
    from segspec.draw.summary import as_dict, summary
    from segspec.graph.sizes import nearest_size, size_problem

    if options.name is None:
        if not options.divergences or options.settings or options.preset or options.size:
            raise fail("usage", "name a network", remedy="segspec list shows the zoo's")
        return _divergences(None, options)
    (graph,) = graphs_of(options)
    size = options.size or nearest_size(graph, 512)
    height, width = size
    problem = size_problem(graph, height, width, 1, training=False)
    if problem:
        raise SpecError(problem)
    if options.divergences:
        return _divergences(graph, options)
    if options.json:
        print(json.dumps(as_dict(graph, size, options.depth), indent=2))
    else:
        print(summary(graph, size, options.depth))
    return FINE


def _divergences(graph: Graph | None, options: argparse.Namespace) -> int:
    from segspec.draw import divergences
    from segspec.render.backend import backends

    held = list(backends().values())
    lines = divergences.of_network(graph, held, options.size) if graph else divergences.declared(held)
    if options.json:
        print(json.dumps({"divergences": [line.as_dict() for line in lines]}, indent=2))
    else:
        print(divergences.as_text(lines, graph.name if graph else ""))
    return FINE
