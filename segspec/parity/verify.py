"""Hold the renderings of networks together: each backend runs in its own process, and their recordings are compared."""

from __future__ import annotations

import itertools
import json
import shlex
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from threading import Event

from segspec.backends.arrays import release
from segspec.errors import SpecError, fail
from segspec.graph.model import Graph
from segspec.graph.sizes import size_problem
from segspec.parity.compare import Comparison, compare
from segspec.parity.findings import Finding, faults, first_difference
from segspec.parity.job import Job, job
from segspec.parity.process import Doing, Tell, interrupt, quiet, require
from segspec.parity.recording import Plan, Recording, Task, record
from segspec.parity.settings import BATCH, STEPS, Settings
from segspec.parity.sizes import default_sizes, training_size
from segspec.parity.starts import starts
from segspec.render import Backend
from segspec.render.backend import size_refusal
from segspec.spec import document

GROUP = 8
"""How many networks share a process of each backend: the recordings of one can take a gigabyte of the disk."""


@dataclass(frozen=True)
class Report:
    """All that is said of one network in two backends; plain data, which may travel.

    ``failures`` are passes that could not be run: backend, pass (none, if nothing could), and why. ``first`` is the
    first node that differs end to end, ``faults`` are all that differ when each is judged by itself. ``nodes`` are the
    graph's, in order, by path with what each is. ``times`` are the seconds that the frameworks themselves ran, pass by
    pass; ``finished`` is when it was made, in UTC; ``command`` makes it again.
    """

    spec: str
    preset: str
    backends: tuple[str, str]
    comparisons: tuple[Comparison, ...]
    failures: tuple[tuple[str, str, str], ...]
    first: Finding | None
    faults: tuple[Finding, ...]
    nodes: tuple[tuple[str, str], ...]
    environment: Mapping[str, Mapping[str, str]]
    times: Mapping[str, float]
    digest: str = ""
    command: str = ""
    finished: str = ""

    @property
    def seconds(self) -> float:
        """How long the frameworks themselves ran."""
        return sum(self.times.values())

    @property
    def ok(self) -> bool:
        """Whether everything ran and agreed."""
        return bool(self.comparisons) and not self.failures and all(item.ok for item in self.comparisons)


def plan_for(graph: Graph, backends: Sequence[Backend], settings: Settings) -> Plan:
    """The sizes at which a graph is verified; raises :class:`SpecError` for those that it cannot take."""
    chosen, batch = list(backends), settings.batch or BATCH
    for size in settings.sizes:
        problem = size_problem(graph, *size, batch, training=True) or size_refusal(graph, chosen, *size, batch)
        if problem:
            raise SpecError(problem)
    sizes = settings.sizes or tuple(
        itertools.islice(default_sizes(graph, chosen, batch), 1 if settings.small else None)
    )
    training = training_size(graph, chosen, batch) if settings.steps else None
    if not sizes:
        message = f"no size was found at which {graph.name} can be verified with batch {batch}"
        raise fail("size", message, graph.definition.place())
    varied = settings.batch is None
    return Plan(sizes, batch, settings.steps, training or sizes[0], starts=settings.starts, varied=varied)


def verify(
    graphs: Sequence[Graph],
    backends: Sequence[Backend],
    settings: Settings | None = None,
    *,
    tell: Tell | None = None,
    executor: Executor | None = None,
) -> Iterator[Report]:
    """A report for every graph and every backend but the first, which the others are held against.

    An ``executor`` runs each network as a task of its own, where it likes; what becomes of one is no concern of the
    others. Without one a few networks after another share a process of each backend here. Raises :class:`SpecError`
    where a framework is missing, or a size is one that the network or a backend cannot take.
    """
    asked = settings or Settings()
    if executor is None:
        require([held for held in backends if held.name not in asked.python])
    plans = [plan_for(graph, backends, asked) for graph in graphs]
    if executor is not None:
        yield from _elsewhere(graphs, plans, backends, asked, executor, tell or quiet)
        return
    stop = Event()
    size = max(min(GROUP, -(-len(graphs) // asked.jobs)), 1)  # as many groups as jobs, if there are so few

    def group(start: int) -> list[Report]:
        def counted(doing: Doing) -> None:
            if stop.is_set():
                raise _Stopped
            (tell or quiet)(replace(doing, done=start + doing.done, total=len(graphs)))

        held = slice(start, start + size)
        return list(_here(graphs[held], plans[held], backends, asked, counted))

    with ThreadPoolExecutor(asked.jobs) as pool:
        futures = [pool.submit(group, start) for start in range(0, len(graphs), size)]
        try:
            for future in futures:
                yield from future.result()
        except KeyboardInterrupt:
            stop.set()
            interrupt()
            raise
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)


class _Stopped(Exception):
    """Whoever wanted the reports is gone."""


def _here(
    graphs: Sequence[Graph], plans: Sequence[Plan], backends: Sequence[Backend], asked: Settings, tell: Tell
) -> Iterator[Report]:
    with tempfile.TemporaryDirectory(prefix="segspec-") as name:
        first: list[Recording] = []
        for backend in backends:
            found = record(
                [Task(graph, backend, plan) for graph, plan in zip(graphs, plans, strict=True)],
                Path(name),
                first,
                python=asked.python.get(backend.name, ""),
                timeout=asked.timeout,
                tell=tell,
            )
            for graph, one, other in zip(graphs, first, found, strict=False):
                yield report(one, other, graph)
            first = first or found
    release()


def _elsewhere(
    graphs: Sequence[Graph],
    plans: Sequence[Plan],
    backends: Sequence[Backend],
    asked: Settings,
    executor: Executor,
    tell: Tell,
) -> Iterator[Report]:
    futures: list[Future[list[Report]]] = []
    try:
        for graph, plan in zip(graphs, plans, strict=True):
            futures.append(_submitted(executor, job(graph, backends, replace(asked, sizes=plan.sizes))))
        for index, (graph, future) in enumerate(zip(graphs, futures, strict=True), 1):
            try:
                found = future.result()
            except SpecError:
                raise
            except Exception as error:  # whatever an executor raises for a task that it lost
                found = _lost(graph, backends, error)
            yield from found
            tell(Doing("", graph.name, "", index, len(graphs)))
    except KeyboardInterrupt:
        interrupt()  # an executor of threads would wait for them
        raise
    finally:
        for future in futures:
            future.cancel()


def _submitted(executor: Executor, asked: Job) -> Future[list[Report]]:
    """The future of a job; of one that the executor does not take, its error."""
    try:
        return executor.submit(perform, asked)
    except Exception as error:  # a pool that is broken, or shut down
        failed: Future[list[Report]] = Future()
        failed.set_exception(error)
        return failed


def perform(asked: Job) -> list[Report]:
    """Verify one network: the task that executors run."""
    return list(verify([asked.network.graph()], asked.chosen(), asked.asked))


def _lost(graph: Graph, backends: Sequence[Backend], error: Exception) -> list[Report]:
    """The reports of a network whose task did not return."""
    failures = (("its task", "", f"{type(error).__name__}: {error}".rstrip(": ")),)
    pairs = [(backends[0].name, other.name) for other in backends[1:]]
    return [
        Report(graph.name, graph.preset, pair, (), failures, None, (), (), {}, {}, finished=_now()) for pair in pairs
    ]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def report(first: Recording, second: Recording, graph: Graph | None = None) -> Report:
    """Everything that can be said of two recordings of one network; how it starts only with its graph."""
    pair = (first, second)
    comparisons = [*(_starts(graph, pair) if graph else ()), *compare(first, second)]
    failures = [(held.backend, name, why) for held in pair for name, why in held.failures().items()]
    parts = {name: held.parts for name, held in first.scenes.items()}
    lines = {held.backend: held.about["lines"] for held in pair}
    longest = max(parts.values(), key=len)
    return Report(
        first.about["spec"],
        first.network.preset,
        (first.about["backend"], second.about["backend"]),
        tuple(comparisons),
        tuple(failures),
        first_difference(comparisons, parts, lines),
        tuple(faults(comparisons, parts, lines)),
        tuple((part.path, part.what) for part in longest),
        {held.backend: held.environment for held in pair},
        {
            name: sum(held.times.get(name, 0.0) for held in pair)
            for name in dict.fromkeys([*first.times, *second.times])
        },
        first.network.digest,
        command(first, second),
        _now(),
    )


def _starts(graph: Graph, pair: Sequence[Recording]) -> Iterator[Comparison]:
    """How both backends' parameters start, held to what is declared and to one another."""
    drawn = {held.about["backend"]: held.arrays("starts") for held in pair}
    found = {name: dict(values) for name, values in drawn.items() if values is not None}
    if len(found) < len(drawn):
        return
    for row in starts(graph, found):
        which = " and ".join(held.backend for held in pair if held.about["backend"] in row.backends)
        note = "" if row.ok else row.note
        yield Comparison(
            row.check, "", "start", "float32", row.tensor, which, row.shape, row.error, row.limit, row.ok, note
        )


def command(first: Recording, second: Recording) -> str:
    """What holds the same two renderings of the same network together again, at the same sizes."""
    about, plan, network = first.about, first.plan, first.network
    words = ["segspec", "verify", about["asked"]]
    words += ["--preset", network.preset] if network.preset else []
    for key, value in network.settings.items():
        word = isinstance(value, str) and value.isidentifier() and document.parse(value, "").data == value
        words += ["--set", f"{key}={value if word else json.dumps(value, ensure_ascii=False)}"]
    for held in (first, second):
        words += ["--backend", held.about["backend"]]
    for height, width in plan.sizes:
        words += ["--size", f"{height}x{width}"]
    words += [] if plan.varied and plan.batch == BATCH else ["--batch", str(plan.batch)]
    words += ["--steps", str(plan.steps)] if plan.steps != STEPS else []
    words += [] if plan.starts else ["--no-starts"]
    words += ["--exact-running-stats"] if first.about["exact_running_stats"] else []
    return shlex.join(words)
