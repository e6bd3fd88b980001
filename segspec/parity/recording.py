"""What one backend computed of one network, pass by pass: made by its process, kept in a file, read from it."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from segspec.algebra.symbols import whole
from segspec.backends import probe
from segspec.backends.arrays import Reading, Writing
from segspec.graph.instances import at_size, resolve
from segspec.graph.model import Graph
from segspec.parity.job import Source, source
from segspec.parity.plan import Size, path_of
from segspec.parity.process import TIMEOUT, Outcome, Tell, execute
from segspec.parity.scene import Scene, scene
from segspec.parity.starts import asked
from segspec.render import Backend, marks, render
from segspec.spec.zoo import asked_name
from segspec.weights import seeded
from segspec.weights.state import Entry, entries, placement

MODES = ("eval", "train")
DTYPES = ("float64", "float32")
OPTIMIZERS = {
    # Numbers that float32 holds exactly: a framework's own optimiser may keep them so.
    "sgd": {"lr": 2**-7, "momentum": 0.875, "weight_decay": 2**-10},
    "adam": {"lr": 2**-10},
}

LARGE, SMALL = 8, 2.0**-64
"""How many times as large values are in two of the replays: there activations saturate, or guards like 1e-12 show."""

Weights = Callable[[Entry], np.ndarray]
"""What gives a network each of its tensors, in canonical layout."""


@dataclass(frozen=True)
class Plan:
    """What is recorded of a network: at which sizes, how many images at a time, after how many steps of an optimiser.

    If ``varied``, the last of several sizes is seen by one image more: there may be as many as channels or classes, and
    then nothing tells one axis from another. Besides, if ``starts``, what it is drawn from at first. Steps of an
    optimiser are taken at a size at which no op is coarse, if there is one: they amplify what is.
    """

    sizes: tuple[Size, ...]
    batch: int
    steps: int
    training_size: Size
    starts: bool = False
    dtypes: tuple[str, ...] = DTYPES
    varied: bool = True

    def images(self, size: Size) -> int:
        """How many images are seen at a size."""
        return self.batch + (self.varied and len(self.sizes) > 1 and size == self.sizes[-1])

    def times(self, size: Size) -> float:
        """How many times what the first backend's nodes had all have in the replay in eval mode."""
        return LARGE if size == self.sizes[-1] else SMALL if size in self.sizes[1:] else 1

    def passes(self) -> Iterator[tuple[str, Size, str, str]]:
        """The id, size, mode and dtype of every forward pass, in the order in which they are run."""
        for dtype in self.dtypes:
            for size in self.sizes:
                for mode in MODES:
                    yield name_of(size, mode, dtype), size, mode, dtype


def name_of(size: Size, mode: str, dtype: str) -> str:
    """What a pass is called."""
    return f"{size[0]}x{size[1]} {mode} {dtype}"


@dataclass
class Recording:
    """What one backend computed. ``passes`` holds the arrays of each, or why there are none."""

    about: dict[str, Any]
    plan: Plan
    scenes: dict[str, Scene]
    passes: dict[str, Reading | str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    times: dict[str, float] = field(default_factory=dict)
    """How long the framework itself ran, in seconds, pass by pass."""
    weights: Mapping[str, Any] | None = None
    """Where its weights lie, if they are those that are seeded, so that another backend can read them there."""

    @property
    def backend(self) -> str:
        """The backend's title."""
        return str(self.about["title"])

    @property
    def network(self) -> Source:
        """What the network is made of."""
        return Source(**self.about["network"])

    def arrays(self, name: str) -> Reading | None:
        """The arrays of a pass, None if it failed or was not asked for."""
        found = self.passes.get(name)
        return found if isinstance(found, Reading) else None

    def failures(self) -> dict[str, str]:
        """Why passes failed; under an empty name why none could be run."""
        return {name: found for name, found in self.passes.items() if isinstance(found, str)}

    def misfit(self, task: Task) -> str:
        """Why a task's recording could not be compared with this one; empty if it could."""
        return self.differs_from(Recording(about(task), task.plan, scenes(task.graph, task.backend, task.plan)))

    def differs_from(self, other: Recording) -> str:
        """In what two recordings are of different things; empty if they are of one."""
        if self.plan != other.plan:
            return "their sizes, batches or steps differ"
        for key, what in (("spec", "names"), ("state", "parameters"), ("outputs", "outputs"), ("inputs", "inputs")):
            if self.about[key] != other.about[key]:
                return f"their {what} differ"
        for name, held in self.scenes.items():
            if name not in other.scenes or held.parts != other.scenes[name].parts:
                return f"their nodes differ at {name}"
        return ""


# --- made by a backend's process ---------------------------------------------------------------------


@dataclass(frozen=True)
class Task:
    """One network to record: its ``source`` is the module's text, where it is not what would be generated.

    Its ``weights`` are seeded by name, unless others are given, whose statistics then stay as they are.
    """

    graph: Graph
    backend: Backend
    plan: Plan
    source: str = ""
    weights: Weights = seeded.weight


def record(
    tasks: Sequence[Task],
    folder: Path,
    given: Sequence[Recording] = (),
    *,
    python: str = "",
    timeout: float = TIMEOUT,
    tell: Tell | None = None,
) -> list[Recording]:
    """Run networks in one process of their backend, their files in a folder; the recordings read them there.

    ``given`` are recordings of another backend: nodes are then replayed on what that one's computed.
    """
    (name,) = {task.backend.name for task in tasks}
    beside = folder / name
    others: Sequence[Recording | None] = given or [None] * len(tasks)
    modules, weights = [], []
    seen: dict[tuple[int, int, Plan], dict[str, Scene]] = {}  # tasks may differ in their source alone
    for index, (task, other) in enumerate(zip(tasks, others, strict=True)):
        own = beside / f"m{index}"
        key = id(task.graph), id(task.backend), task.plan
        seen[key] = seen.get(key) or scenes(task.graph, task.backend, task.plan)
        asked = list(_asked(task, seen[key], own, other))
        seeded_ones = other.weights if other and task.weights is seeded.weight else None
        weights.append(seeded_ones or weights_in(own, task.graph, task.weights))
        modules.append(module(task.graph, task.backend, own, asked, weights[-1], task.source))
    outcome = execute(tasks[0].backend, modules, beside, python=python, timeout=timeout, tell=tell)
    return [
        _collected(task, seen[id(task.graph), id(task.backend), task.plan], beside / f"m{index}", outcome, held)
        for index, (task, held) in enumerate(zip(tasks, weights, strict=True))
    ]


def module(
    graph: Graph,
    backend: Backend,
    folder: Path,
    asked: Sequence[Mapping[str, Any]],
    weights: Mapping[str, Any],
    source: str = "",
) -> dict[str, Any]:
    """What a backend's process is told of one module and the passes asked of it; its files are in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "module.py").write_text(source or render(graph, backend), encoding="utf-8")
    held = entries(graph)
    state = [
        {**placed, "statistic": entry.statistic, "scale": seeded.unit(entry)}
        for placed, entry in zip(placement(graph, backend), held, strict=True)
    ]
    return {
        "name": folder.name,
        "title": graph.name,
        "source": f"{folder.name}/module.py",
        "marks": marks(graph, backend),
        "weights": dict(weights),
        "state": state,
        "passes": list(asked),
    }


def weights_in(folder: Path, graph: Graph, weights: Weights = seeded.weight) -> dict[str, Any]:
    """Write a network's weights into the folder, and say where they are."""
    return arrays_in(folder / "weights.bin", ((entry.name, weights(entry)) for entry in entries(graph)))


def arrays_in(path: Path, arrays: Iterable[tuple[str, np.ndarray]]) -> dict[str, Any]:
    """Write named arrays to a file, and say where they are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        write = Writing(file, whole=True, compared=False)
        for name, array in arrays:
            write(name, array)
    return {"file": str(path.resolve()), "index": write.index}


def scenes(graph: Graph, backend: Backend, plan: Plan) -> dict[str, Scene]:
    """The scene of each size and mode."""
    wanted = {(size, mode) for size in plan.sizes for mode in MODES}
    if plan.steps:
        wanted.add((plan.training_size, "train"))
    return {
        f"{size[0]}x{size[1]} {mode}": scene(graph, backend, size, plan.images(size), train=mode == "train")
        for size, mode in sorted(wanted)
    }


def _asked(task: Task, own: Mapping[str, Scene], folder: Path, given: Recording | None) -> Iterator[dict[str, Any]]:
    """The passes in the order in which they run: all float64 first, so that a network of each dtype is built once."""
    graph, plan = task.graph, task.plan
    if plan.starts and entries(graph):
        yield asked(graph)
    inputs = {size: _inputs(graph, size, plan.images(size), folder) for size in plan.sizes}
    calibrate = {"id": "calibrate", "dtype": "float64", "needed": True}
    if task.weights is not seeded.weight:
        yield {**calibrate, "do": "keep"}
    elif given is None or given.arrays("calibrate") is None:
        yield {**calibrate, "do": "calibrate", "inputs": inputs[plan.sizes[0]]}
    else:
        yield {**calibrate, "do": "adopt", "given": _source(given, "calibrate")}
    forward = list(_forward(plan, inputs, given, own))
    yield from (asked for asked in forward if asked["dtype"] == "float64")
    yield from _training(graph, plan, folder)
    yield from (asked for asked in forward if asked["dtype"] == "float32")


def _forward(
    plan: Plan, inputs: Mapping[Size, Any], given: Recording | None, own: Mapping[str, Scene]
) -> Iterator[dict[str, Any]]:
    for name, size, mode, dtype in plan.passes():
        asked: dict[str, Any] = {
            "id": name,
            "do": "forward",
            "dtype": dtype,
            "mode": mode,
            "inputs": inputs[size],
            "gradients": mode == "train" and (dtype == "float64" or size == plan.sizes[0]),
            "given": None,
            "coarse": None,
            "times": 1,
            # What nodes computed is what another backend replays.
            "whole": given is None and dtype == "float64",
        }
        if dtype == "float32":
            yield asked
            continue
        times = plan.times(size) if mode == "eval" else 1
        coarse = _coarse([own, *([given.scenes] if given else [])], f"{size[0]}x{size[1]} {mode}")
        bare = {key: asked[key] for key in ("dtype", "mode", "inputs")}
        if coarse:
            yield {**bare, "id": f"{name} disturbed", "do": "disturbed", "noise": coarse}
        if given is None or given.arrays(name) is None:
            yield asked
            if times != 1:
                # What the other backend's replay is held against: the first one's, of its own recording.
                yield {**asked, "id": f"{name} beyond", "own": name, "times": times, "whole": False}
            continue
        if coarse:
            yield {**bare, "id": f"{name} as it is", "do": "disturbed", "noise": {}}
        yield {**asked, **({"given": _source(given, name), "coarse": list(coarse)} if coarse else {})}
        yield {**asked, "id": f"{name} replay", "given": _source(given, name), "times": times}


def _coarse(held: Sequence[Mapping[str, Scene]], name: str) -> dict[str, float]:
    """What backends declare of a pass's nodes, by key."""
    found: dict[str, float] = {}
    for declared in (scenes[name] for scenes in held):
        for part in declared.parts:
            if part.path in declared.floors:
                found[part.key] = found.get(part.key, 0.0) + declared.floors[part.path][0]
    return found


def _training(graph: Graph, plan: Plan, folder: Path) -> Iterator[dict[str, Any]]:
    """The steps of each optimiser, where they are least coarse."""
    if not any(entry.trainable for entry in entries(graph)):
        return
    size = plan.training_size
    batches = [_inputs(graph, size, plan.images(size), folder, step) for step in range(plan.steps)]
    weights = [output.loss_weight for output in graph.root.outputs]
    for optimizer, settings in OPTIMIZERS.items():
        yield {
            "id": optimizer,
            "do": "training",
            "dtype": "float64",
            "optimizer": optimizer,
            "settings": settings,
            "batches": batches,
            "loss_weights": weights,
        }


def _source(given: Recording, name: str) -> dict[str, Any]:
    held = given.passes[name]
    assert isinstance(held, Reading)
    return {"file": held.file, "index": dict(held.index)}


def _inputs(graph: Graph, size: Size, batch: int, folder: Path, step: int | None = None) -> dict[str, Any]:
    values = at_size(graph, *size, batch)
    shapes = {item.name: tuple(map(whole, resolve(item.shape, values))) for item in graph.root.inputs}
    suffix = "" if step is None else f" {step}"
    drawn = ((name, seeded.image(f"{name}{suffix}", shape)) for name, shape in shapes.items())
    return arrays_in(folder / f"inputs-{size[0]}x{size[1]}{suffix.replace(' ', '-')}.bin", drawn)


def _collected(
    task: Task, own: dict[str, Scene], folder: Path, outcome: Outcome, weights: Mapping[str, Any]
) -> Recording:
    """The recording of one module that a process has run."""
    made = Recording(about(task), task.plan, own, environment=outcome.environment)
    made.weights = weights if task.weights is seeded.weight else None
    for name, result in outcome.modules[folder.name].items():
        made.times[name] = result.get("seconds", 0.0)
        made.passes[name] = result.get("failure") or Reading(f"{folder}.bin", result["index"])
    return made


def _quoted(written: Sequence[str], numbers: Sequence[int]) -> list[list[Any]]:
    """Lines with their numbers, without the indentation that they share."""
    texts = textwrap.dedent("\n".join(written[number - 1] for number in numbers)).split("\n")
    return [list(pair) for pair in zip(numbers, texts, strict=True)]


def about(task: Task) -> dict[str, Any]:
    """What a recording says of its network and its backend."""
    graph, backend = task.graph, task.backend
    text = task.source or render(graph, backend)
    written = text.splitlines()
    return {
        "spec": graph.name,
        "network": asdict(source(graph)),
        "asked": asked_name(graph.definition.file.path),
        "backend": backend.name,
        "exact_running_stats": backend.exact_running_stats,
        "title": backend.title,
        "state": [
            {
                "name": entry.name,
                "kind": "statistic" if entry.statistic else "trainable" if entry.trainable else "given",
            }
            for entry in entries(graph)
        ],
        "outputs": [
            {
                "name": output.name,
                "training": output.training,
                "path": path_of(graph.root, output.tensor),
                "index": output.tensor.output,
            }
            for output in graph.root.outputs
        ],
        "inputs": [item.name for item in graph.root.inputs],
        "lines": {
            f"{holder}.{node}": _quoted(written, numbers)
            for (holder, node), numbers in probe.lines(text, marks(graph, backend)).items()
        },
    }
