"""``segspec record`` and ``segspec compare``: what verify does, in two places and at two times."""

from __future__ import annotations

import argparse
import gc
from dataclasses import replace
from pathlib import Path

from segspec.cli.options import DIFFERENT, FINE, add_bindings, add_json, add_names, add_runs, graphs_of, verification_of
from segspec.errors import SpecError, fail


def add_record(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``segspec record``."""
    add_names(parser, many=False)
    add_bindings(parser)
    parser.add_argument("--backend", required=True, metavar="B", help="the backend that is run")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the recording, .safetensors")
    parser.add_argument(
        "--on",
        type=Path,
        metavar="FILE",
        help="another backend's recording: the same sizes, and every node replayed on what that one's computed",
    )
    parser.add_argument(
        "--exact-running-stats", action="store_true", help="run layers that update running statistics by PyTorch's rule"
    )
    add_runs(parser)


def add_compare(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``segspec compare``."""
    parser.add_argument("first", type=Path, metavar="A", help="a recording of one backend")
    parser.add_argument("second", type=Path, metavar="B", help="one of another, best made with --on A")
    add_json(parser)


def record(options: argparse.Namespace) -> int:
    """Run one network in one backend, and keep what every node computes."""
    import tempfile

    from segspec import files
    from segspec.parity import storage, terminal
    from segspec.parity.process import TIMEOUT, require
    from segspec.parity.recording import Task, record
    from segspec.parity.settings import Settings
    from segspec.parity.verify import plan_for
    from segspec.render.backend import backend, backends
    from segspec.render.check import refusals

    gc.enable()
    held = backend(options.backend)
    if options.exact_running_stats:
        held = held.with_exact_running_stats()
    (graph,) = graphs_of(options)
    if found := refusals(graph, [held]):
        raise SpecError(found)
    settings = verification_of(options)
    files.require_writable([options.output])
    given = storage.load(options.on) if options.on else None
    if given and replace(settings, python={}, timeout=TIMEOUT) != Settings():
        message = f"what is run is that of {options.on}: --on takes no --size, --small, --batch, --steps or --no-starts"
        raise fail("usage", message, remedy="leave them out")
    # Sizes that suit all backends: the other recordings are of them.
    plan = given.plan if given else plan_for(graph, list(backends().values()), settings)
    task = Task(graph, held, plan)
    if given and (reason := given.misfit(task)):
        raise fail("recording", f"{options.on} is of another network than {graph.name}: {reason}")
    python = settings.python.get(held.name, "")
    if not python:
        require([held])
    with tempfile.TemporaryDirectory(prefix="segspec-") as name:
        others = [given] if given else []
        with terminal.progress(1) as tell:
            (made,) = record([task], Path(name), others, python=python, timeout=settings.timeout, tell=tell)
        storage.save(made, options.output)
    print(options.output)
    failures = made.failures()
    for asked, why in failures.items():
        print(f"{graph.name}: {held.title} failed in {asked or 'all passes'}\n{why}")
    return DIFFERENT if failures else FINE


def compare(options: argparse.Namespace) -> int:
    """Hold two recordings together."""
    from segspec.parity import report, storage, terminal
    from segspec.parity import verify as parity

    first, second = storage.load(options.first), storage.load(options.second)
    if reason := first.differs_from(second):
        raise fail("recording", f"{options.first} and {options.second} are no recordings of one thing: {reason}")
    # How parameters start is held to what the network declares.
    graph = first.network.graph() if first.plan.starts else None
    found = [parity.report(first, second, graph)]
    if options.json:
        print(report.as_json(found))
    else:
        terminal.show(found)
    return FINE if all(item.ok for item in found) else DIFFERENT
