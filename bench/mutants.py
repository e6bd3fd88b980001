"""Whether verify catches every fault: single changes of each kind to the generated code of networks of every construct.

``python bench/mutants.py`` tries some mutants of each kind, ``--all`` every one, and prints the table that
``bench/README.md`` shows. A mutant of one backend's module is held against the other backend's whole one, at first in a
part of what verify does (float64, one of its sizes, no steps of an optimiser); what survives that is held to all of it.
What then still survives must stand, with the reason, in ``bench/survivors.yaml``: exit status 1 where one does not,
or where what stands there is caught.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import yaml
from mutation import Mutant, Place, mutants

from segspec.graph.elaborate import elaborate
from segspec.graph.model import Graph
from segspec.parity.recording import Plan, Recording, Task, record
from segspec.parity.scene import Part
from segspec.parity.settings import Settings
from segspec.parity.verify import Report, plan_for, report
from segspec.render import marks, render
from segspec.render.backend import backends
from segspec.spec.load import load
from segspec.weights.state import entries

ROOT = Path(__file__).resolve().parents[1]
SURVIVORS = ROOT / "bench" / "survivors.yaml"

OWN = ("layers", "dense", "pools", "sizes", "graphs", "residual", "branches", "nested", "scores", "indices")
NETWORKS: dict[str, dict[str, int]] = {
    **{f"tests/cases/networks/{name}.yaml": {} for name in OWN},
    "unet": {"width": 4, "num_classes": 2},
    "dense_crf": {"window": 3, "iterations": 2, "num_classes": 3},
}
CHUNK = 100
"""Mutants that one process runs."""
TIMEOUT = 120.0


@dataclass(frozen=True)
class Trial:
    """One mutant of one network's module for one backend; of a weight's layout, of what is known of the backend."""

    network: str
    backend: str
    mutant: Mutant

    @property
    def key(self) -> str:
        """What the mutant is called in the list of survivors."""
        return f"{Path(self.network).stem} {self.backend} {self.mutant}"


@dataclass(frozen=True)
class Outcome:
    """What verify says of a mutant: ``caught`` by a check, ``crashed``, or ``survived``; which nodes it names.

    ``right`` says whether all that it names is where the fault is, ``first`` whether the first is.
    """

    trial: Trial
    how: str
    check: str = ""
    named: tuple[str, ...] = ()
    right: bool = False
    first: bool = False


@cache
def graph_of(network: str) -> Graph:
    """The network's graph."""
    return elaborate(load(str(ROOT / network) if network.endswith(".yaml") else network), NETWORKS[network], "")


def trials(network: str) -> Iterator[Trial]:
    """Every mutant of both backends' modules."""
    graph = graph_of(network)
    for name, held in backends().items():
        for mutant in mutants(render(graph, held), marks(graph, held)):
            yield Trial(network, name, mutant)
        if any(entry.op == "linear" for entry in entries(graph)):
            yield Trial(network, name, Mutant("transposed weight", name, "transposed", "not", "", frozenset()))


def mutated(trial: Trial, plan: Plan) -> Task:
    """What is to be recorded of a mutant."""
    held = backends()[trial.backend]
    if not trial.mutant.source:  # a weight's layout, as the backend declares it
        facts = held.facts("linear")
        turned = facts.model_copy(update={"transposed": [] if facts.transposed else ["weight"]})
        held = held.model_copy(update={"ops": {**held.ops, "linear": turned}})
    return Task(graph_of(trial.network), held, plan, trial.mutant.source)


def judge(chunk: Sequence[Trial], *, thorough: bool) -> list[Outcome]:
    """Hold mutants of one backend's modules against the other's whole ones, all in one process a backend."""
    both = list(backends().values())
    (broken,) = (held for held in both if held.name == chunk[0].backend)
    (whole,) = (held for held in both if held is not broken)
    graphs = {trial.network: graph_of(trial.network) for trial in chunk}
    plans = {network: plan_of(graph, thorough=thorough) for network, graph in graphs.items()}
    with tempfile.TemporaryDirectory(prefix="mutants-") as name:
        tasks = [Task(graph, whole, plans[network]) for network, graph in graphs.items()]
        firsts = dict(zip(graphs, record(tasks, Path(name), timeout=TIMEOUT), strict=True))
        tasks = [Task(graph, broken, plans[network]) for network, graph in graphs.items()]
        tasks += [mutated(trial, plans[trial.network]) for trial in chunk]
        networks = [*graphs, *(trial.network for trial in chunk)]
        found = record(tasks, Path(name), [firsts[network] for network in networks], timeout=TIMEOUT)
        said = [
            report(firsts[network], second, graphs[network] if thorough else None)
            for network, second in zip(networks, found, strict=True)
        ]
        for network, unbroken in zip(graphs, said, strict=False):
            if not unbroken.ok:
                raise RuntimeError(f"{network} differs between the backends as it is: mutants of it show nothing")
        judged = zip(chunk, said[len(graphs) :], strict=True)
        return [outcome(trial, firsts[trial.network], item) for trial, item in judged]


def plan_of(graph: Graph, *, thorough: bool) -> Plan:
    """What is recorded of a network: all that verify does, or a part of it."""
    plan = plan_for(graph, list(backends().values()), Settings())
    if thorough:
        return plan
    return Plan(plan.sizes[-1:], plan.batch, 0, plan.sizes[-1], dtypes=("float64",))


def outcome(trial: Trial, whole: Recording, said: Report) -> Outcome:
    """What a report says of a mutant."""
    if said.ok:
        return Outcome(trial, "survived")
    wrong = [item for item in said.comparisons if not item.ok]
    found = [*said.faults] or [item for item in [said.first] if item]
    named = tuple(item.path for item in found) or tuple(dict.fromkeys(item.subject for item in wrong))
    if not named:
        return Outcome(trial, "crashed", "it does not run")
    check = found[0].comparison.check if found else wrong[0].check
    parts = {part.path: part for scene in whole.scenes.values() for part in scene.parts}
    at = [_at(path, trial.mutant, parts) for path in named]
    return Outcome(trial, "caught", check, named, all(at), at[0])


def _at(path: str, mutant: Mutant, parts: dict[str, Part]) -> bool:
    """Whether what verify names is where the fault is: a node, what a block there holds, an output."""
    if not mutant.source:
        return path in parts and parts[path].what == "linear"
    classes = {part.what for part in parts.values()}
    return any(_names(path, place, parts, root=place[0] not in classes) for place in mutant.places)


def _names(path: str, place: Place, parts: dict[str, Part], *, root: bool) -> bool:
    holder, node = place
    if root and node == "return":
        return path.startswith("output ")
    for part in parts.values():
        of_class = part.module == holder and node in ("", part.node)
        if of_class and (path == part.path or path.startswith(f"{part.path}.")):
            return True
        if part.what == holder and node in ("", "return") and path == part.path:
            return True
    return False


# --- all of them -------------------------------------------------------------------------------------


def run(wanted: Sequence[Trial], jobs: int) -> list[Outcome]:
    """Judge mutants in two rounds, the second of those that survive the first."""
    done: list[Outcome] = []
    left = list(wanted)
    with ProcessPoolExecutor(jobs) as pool:
        for thorough in (False, True):
            groups: dict[str, list[Trial]] = defaultdict(list)
            for trial in sorted(left, key=lambda trial: trial.network):
                groups[trial.backend].append(trial)
            size = CHUNK // 8 if thorough else CHUNK
            chunks = [held[start : start + size] for held in groups.values() for start in range(0, len(held), size)]
            left = []
            for item in itertools.chain.from_iterable(pool.map(partial(judge, thorough=thorough), chunks)):
                if item.how == "survived" and not thorough:
                    left.append(item.trial)
                else:
                    done.append(item)
    return done


def sample(held: Sequence[Trial], count: int, seed: int) -> list[Trial]:
    """Some mutants of each kind, whatever network and backend they are of."""
    drawn = random.Random(seed)
    kinds: dict[str, list[Trial]] = defaultdict(list)
    for trial in held:
        kinds[trial.mutant.kind].append(trial)
    return [trial for kind in sorted(kinds) for trial in drawn.sample(kinds[kind], min(count, len(kinds[kind])))]


def explained() -> dict[str, str]:
    """Why each mutant that survives does so, by its key."""
    reasons = yaml.safe_load(SURVIVORS.read_text(encoding="utf-8"))
    return {key: item["reason"] for item in reasons for key in item["mutants"]}


def table(found: Sequence[Outcome]) -> str:
    """By kind: how many there are, what became of them, and how often the first node that is named is the right one."""
    rows = ["| kind | mutants | caught | do not run | survive | named rightly |", "|---|--:|--:|--:|--:|--:|"]
    kinds = sorted({item.trial.mutant.kind for item in found})
    for kind in [*kinds, ""]:
        held = [item for item in found if kind in ("", item.trial.mutant.kind)]
        how = Counter(item.how for item in held)
        right = sum(item.first for item in held if item.how == "caught")
        share = f"{right / how['caught']:.0%}" if how["caught"] else ""
        cells = [kind or "all", len(held), how["caught"], how["crashed"], how["survived"], share]
        rows.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(rows)


def main() -> int:
    """Judge, and print what is found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--all", action="store_true", help="every mutant")
    parser.add_argument("--sample", type=int, default=4, metavar="N", help="so many of each kind (4)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", metavar="TEXT", help="of those with this in their names")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    began = time.perf_counter()
    held = [trial for network in NETWORKS for trial in trials(network) if options.only in trial.key]
    found = run(held if options.all else sample(held, options.sample, options.seed), options.jobs)
    reasons = explained()
    survive = [item.trial.key for item in found if item.how == "survived"]
    unexplained = [key for key in survive if key not in reasons]
    caught = [item.trial.key for item in found if item.how != "survived" and item.trial.key in reasons]
    print(f"{len(found)} of {len(held)} mutants in {time.perf_counter() - began:.0f} s\n\n{table(found)}\n")
    for why, keys in ("survives, and nothing says why", unexplained), ("is caught, yet said to survive", caught):
        for key in keys:
            print(f"{why}: {key}")
    return int(bool(unexplained or caught))


if __name__ == "__main__":
    sys.exit(main())
