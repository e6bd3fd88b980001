"""Small networks for the tests of parity, and what is recorded of them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from segspec.graph.elaborate import elaborate
from segspec.graph.model import Graph
from segspec.parity.plan import Size
from segspec.parity.recording import Plan, Recording, Task, record
from segspec.parity.verify import Report, report
from segspec.render import backends, render
from segspec.spec.load import load

os.environ.setdefault("OMP_NUM_THREADS", "1")  # on maps as small as these, threads only wait for each other


def network(body: str, *, name: str = "example") -> Graph:
    """A network from its spec without the head; its input is ``x`` with four channels if it says nothing else."""
    inputs = "" if "\ninputs:" in f"\n{body}" else "inputs: {x: {channels: 4}}\n"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.yaml"
        path.write_text(f"segspec: 1\nname: {name}\ntitle: An example\n{inputs}{body}", encoding="utf-8")
        return elaborate(load(str(path)))


def plan(*sizes: Size, batch: int = 3, steps: int = 0) -> Plan:
    """What is recorded where nothing is said."""
    return Plan(sizes or ((8, 16),), batch, steps, (sizes or ((8, 16),))[0])


def reports(
    folder: Path,
    graphs: Mapping[str, Graph],
    changes: Mapping[str, tuple[str, Mapping[str, str]]] | None = None,
    *,
    plans: Mapping[str, Plan] | None = None,
) -> dict[str, Report]:
    """A report of every network as it is, and of every change: what becomes of which text in Paddle's source of one.

    One process a backend runs all of them.
    """
    made: list[Recording] = []
    chosen: dict[str, tuple[str, Mapping[str, str]]] = {**{name: (name, {}) for name in graphs}, **(changes or {})}
    for backend in backends().values():
        tasks = []
        for name, replacements in chosen.values():
            source = render(graphs[name], backend)
            for old, new in replacements.items() if backend.name == "paddle" else ():
                assert old in source, source
                source = source.replace(old, new)
            tasks.append(Task(graphs[name], backend, (plans or {}).get(name) or plan(), source))
        found = record(tasks, folder, made)
        made = made or found
    return {title: report(*pair) for title, pair in zip(chosen, zip(made, found, strict=True), strict=True)}
