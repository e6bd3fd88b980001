"""One drawn spec through all that segspec does with it, held against a second reading and against two frameworks."""

from __future__ import annotations

import math
import re
import subprocess
import tempfile
from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from concrete import Misfit, TooLarge, network
from drawing import Case, Size, words

from segspec.algebra.symbols import whole
from segspec.errors import Problem, SpecError
from segspec.graph.elaborate import elaborate
from segspec.graph.instances import at_size, parameters, resolve
from segspec.graph.model import Graph
from segspec.graph.sizes import size_problem
from segspec.render import backends, render_all
from segspec.render.backend import floors, size_refusal
from segspec.render.check import check
from segspec.render.source import _ruff
from segspec.render.text import WIDTH
from segspec.spec.load import load
from segspec.weights import seeded

if TYPE_CHECKING:
    from frameworks import Network, Result

ROOT = Path(__file__).resolve().parents[2]
LIMIT, GRADIENT_LIMIT = 1e-10, 1e-8
"""The relative L2 error that an output, and a gradient, may have in float64."""

ROUNDING = 2.0**-44
"""How much noise counts as rounding, where a difference is beyond the limit: 256 units in the last place."""

SAMPLES = 3
SHARED = "the shared block takes"
"""What is refused where a block is applied to other inputs than it was inferred for, though it might fit them."""

DOCUMENTED = {
    "refused": ("",),  # what a backend cannot compute
    "size": ("no image size suits",),
    "expression": ("cannot depend on the image's size",),
    "attribute": ("with padding, say count_include_pad", "padding takes no value"),  # a parameter's, which is 0 here
    "shape": ("would depend on the image's size", SHARED),
    "limit": ("which image sizes suit the network follows no pattern",),
}
"""The errors that a spec may meet that fits at some size: their codes, and what their messages hold."""


class Finding(AssertionError):
    """What is wrong with segspec, or with a framework."""


class Discarded(Exception):
    """The spec cannot be compared, for a reason that is documented."""


BROADCAST = re.compile(r"the inputs differ in (?!channels)|the inputs differ in channels: .*\b[NHW]")
"""What a size is refused for where two axes differ; by what is refused, one of them may be 1 by chance."""


@lru_cache
def kind(name: str) -> type[Finding]:
    """A class of findings of its own for each kind, so that shrinking keeps to the kind."""
    return type(name, (Finding,), {})


def examine(case: Case, health: Counter[str]) -> None:
    """Raise a :class:`Finding` for what is wrong; :class:`Discarded` where nothing can be said."""
    with tempfile.TemporaryDirectory(prefix="segspec-fuzz-") as name:
        folder = Path(name)
        graph = _graph(case, folder)
        _verdicts(case, graph, health)
        paths = _written(graph, folder)
        if not any(_usable(graph, size, train=False) for size in case.sizes[:2]):
            raise Discarded("no size that the backends can compute")
        from frameworks import Network  # after all that needs none

        networks = {name: Network(name, path, graph) for name, path in paths.items()}
        for name, held in networks.items():
            if held.parameters != parameters(graph):
                raise kind("ParameterCount")(
                    f"{name} has {held.parameters} parameters, {parameters(graph)} are counted"
                )
        for size in case.sizes[:2]:
            for train in (False, True):
                if _usable(graph, size, train=train):
                    _compared(graph, size, train, networks, health)


def _graph(case: Case, folder: Path) -> Graph:
    """The spec, checked."""
    path = folder / "fuzzed.yaml"
    path.write_text(case.text, encoding="utf-8")
    try:
        definition = load(path)
        check(definition, {}, "")
        return elaborate(definition)
    except SpecError as error:
        other = [item for item in error.problems if not _documented(item, case)]
        first = (other or error.problems)[0]
        message = f"{first.code}: {first.message}"
        raise (kind(f"Refused_{first.code}")(message) if other else Discarded(message)) from None


def _documented(problem: Problem, case: Case) -> bool:
    """Whether a spec may be refused so that fits its first size."""
    if any(part in problem.message for part in DOCUMENTED.get(problem.code, ())):
        return True
    return bool(BROADCAST.search(problem.message)) and network(case.spec, case.sizes[0])[0].repeats


def _one_by_chance(graph: Graph, size: Size) -> bool:
    """Whether a size is refused since two axes differ of which one is 1, though not at every size."""
    height, width, batch = size
    found = [item.under(at_size(graph, height, width, batch)) for item in graph.root.requirements if not item.training]
    broken = next(item for item in found if not item.holds())
    return "differ in" in broken.message and 1 in (broken.left, broken.right)


def _verdicts(case: Case, graph: Graph, health: Counter[str]) -> None:
    """At every size: what elaboration says of it, and which shapes it infers, is what the second reading says.

    A class that is applied again computes all that any call of it needs, so that it may ask for more than the outputs
    depend on, and for no more than all nodes do.
    """
    applied = "apply" in words(case.spec)
    for size in case.sizes:
        height, width, batch = size
        problem = size_problem(graph, height, width, batch, training=False)
        try:
            body, outputs = network(case.spec, size)
        except TooLarge:
            continue
        except Misfit as misfit:
            if not problem:
                raise kind("SizeAllowed")(f"{size} is allowed, and does not fit: {misfit}") from None
            health["sizes refused by both"] += 1
            continue
        if problem and applied and not _fits_wholly(case, size):
            health["sizes refused for what an applied block computes besides"] += 1
            continue
        if problem and SHARED in problem.message:
            health["sizes refused for an applied block"] += 1
            continue
        if problem and body.repeats and _one_by_chance(graph, size):
            health["sizes refused since an axis is 1 by chance"] += 1
            continue
        if problem:
            raise kind("SizeRefused")(f"{size} is refused, and fits: {problem.message}")
        training = size_problem(graph, height, width, batch, training=True)
        untrainable = sorted({item for value in outputs.values() for item in value.untrainable})
        if bool(training) is not bool(untrainable) and not (training and applied and body.untrainable):
            raise kind("TrainingVerdict")(f"{size} in train mode: {training}, {untrainable}")
        read = {name: value.shape for name, value in outputs.items()}
        values = at_size(graph, height, width, batch)
        inferred = {output.name: tuple(map(whole, resolve(output.shape, values))) for output in graph.root.outputs}
        if inferred != read:
            raise kind("Shapes")(f"at {size}: inferred {inferred}, read {read}")
        health["sizes allowed by both"] += 1


def _fits_wholly(case: Case, size: Size) -> bool:
    """Whether all nodes fit at a size, those included that no output depends on."""
    try:
        network(case.spec, size, lenient=False)
    except Misfit:
        return False
    return True


def _written(graph: Graph, folder: Path) -> dict[str, Path]:
    """The generated modules, which ruff has nothing to say about."""
    paths = {}
    sources = render_all([(graph, backend) for backend in backends().values()])
    for name, source in zip(backends(), sources, strict=True):
        paths[name] = folder / name / "fuzzed.py"
        paths[name].parent.mkdir()
        paths[name].write_text(source, encoding="utf-8")
    lint = ["check", "--config", str(ROOT / "pyproject.toml"), "--no-cache"]
    layout = ["format", "--check", "--isolated", "--no-cache", f"--line-length={WIDTH}"]
    for command in (lint, layout):
        done = subprocess.run([_ruff(), *command, str(folder)], capture_output=True, text=True, check=False)
        if done.returncode:
            raise kind(f"Ruff_{command[0]}")(done.stdout + done.stderr)
    return paths


def _usable(graph: Graph, size: Size, *, train: bool) -> bool:
    """Whether the network, and every backend, can take the size."""
    return not size_problem(graph, *size, training=train) and not size_refusal(graph, list(backends().values()), *size)


def _reloaded(inputs: list[np.ndarray], results: dict[str, Result], networks: dict[str, Network]) -> None:
    """A module that is imported again, with the state of the first, computes the same to the bit."""
    for name, held in networks.items():
        for first, second in zip(results[name].outputs, held.reloaded(inputs), strict=True):
            if not np.array_equal(first, second):
                raise kind(f"Reload_{name}")(f"{name} computes something else when imported again")


def _compared(graph: Graph, size: Size, train: bool, networks: dict[str, Network], health: Counter[str]) -> None:
    """Shapes, outputs and gradients of both frameworks at one size in one mode."""
    height, width, batch = size
    values = at_size(graph, height, width, batch)
    inputs = [
        seeded.image(item.name, tuple(map(whole, resolve(item.shape, values)))).astype("float64")
        for item in graph.root.inputs
    ]
    where = f"at {height}x{width}x{batch} in {'train' if train else 'eval'} mode"
    from frameworks import Noise

    results: dict[str, Result] = {}
    for name, held in networks.items():  # PyTorch's first
        try:
            results[name] = held.run(inputs, train=train)
        except Exception as error:
            raise kind(f"Failed_{name}")(f"{name} fails {where}: {type(error).__name__}: {error}") from error
        if not all(np.isfinite(array).all() for array in _flat(results[name])):
            watching = Noise(0, 0.0)
            if name != "torch":
                networks["torch"].run(inputs, train=train, noise=watching)
            if name != "torch" and not (watching.infinite or _nothing_but_rounding(results, inputs, train, networks)):
                raise kind("Infinite")(f"{name} alone is infinite {where}")
            # There is nothing to compare, and what is not a number crashes PaddlePaddle's max pooling.
            health["runs that are not finite"] += 1
            return
    wanted = [output for output in graph.root.outputs if train or not output.training]
    shapes = [tuple(map(whole, resolve(output.shape, values))) for output in wanted]
    for name, result in results.items():
        if [output.shape for output in result.outputs] != shapes:
            raise kind(f"Shape_{name}")(
                f"{name} {where}: inferred {shapes}, found {[item.shape for item in result.outputs]}"
            )
    if not train:
        _reloaded(inputs, results, networks)
    left, right = results["torch"], results["paddle"]
    pairs = [
        (f"output {item.name}", a, b, LIMIT) for item, a, b in zip(wanted, left.outputs, right.outputs, strict=True)
    ]
    pairs += [
        (f"gradient of {key}", value, right.gradients[key], GRADIENT_LIMIT) for key, value in left.gradients.items()
    ]
    health["runs compared"] += 1
    coarse = [index for index, (_, a, b, limit) in enumerate(pairs) if _error(a, b) > limit]
    if not coarse:
        return
    # What cancels in a gradient is of the size of the outputs over that of what it is the gradient of.
    size_of = {f"input {index}": array for index, array in enumerate(inputs)} | networks["torch"].weights
    outputs = math.hypot(*(float(np.linalg.norm(array)) for array in left.outputs))
    allowed: list[float] = []
    for gradients in (False, True):
        coarse_ops = floors(graph, list(backends().values()), *size, training=train, gradients=gradients)
        declared = sum(item.limit for item in coarse_ops)
        scale = max(ROUNDING, 4 * declared)
        moved = _responses(networks["torch"], inputs, train, scale)
        if not gradients:
            allowed = moved[: len(left.outputs)]
            continue
        for key, response in zip(left.gradients, moved[len(left.outputs) :], strict=True):
            allowed.append(max(response, scale * outputs / (float(np.linalg.norm(size_of[key])) or 1)))
    for index in coarse:
        what, a, b, limit = pairs[index]
        apart = float(np.linalg.norm(a.astype("float64") - b.astype("float64")))
        bound = max(limit * float(np.linalg.norm(a)), allowed[index])
        if not apart <= bound:
            raise kind(f"Differs_{'output' if limit == LIMIT else 'gradient'}_{'train' if train else 'eval'}")(
                f"{what} {where}: {_error(a, b):.1e} apart, {bound / (float(np.linalg.norm(a)) or 1):.1e} allowed,"
                f" declared floors {declared:.1e}"
            )
    health["runs held to their conditioning" if not declared else "runs held to declared floors"] += 1


def _nothing_but_rounding(
    results: dict[str, Result], inputs: list[np.ndarray], train: bool, networks: dict[str, Network]
) -> bool:
    """Whether PyTorch has numbers for what is infinite in PaddlePaddle only since a difference of equals is not quite
    zero there: disturbed by a rounding, they move as far as they are from zero, or a good part of that.
    """
    moved = _responses(networks["torch"], inputs, train, ROUNDING)
    return all(
        np.isfinite(other).all() or not response < np.linalg.norm(one) / 8
        for one, other, response in zip(_flat(results["torch"]), _flat(results["paddle"]), moved, strict=True)
    )


def _responses(held: Network, inputs: list[np.ndarray], train: bool, scale: float) -> list[float]:
    """How far each output and gradient moves, at most, where every result is disturbed by noise of this scale.

    One more sample has noise in the backward pass only: where a value is just where a function has a corner, noise
    before would move it away.
    """
    from frameworks import Noise

    exact = _flat(held.run(inputs, train=train))
    moved = []
    for sample in range(SAMPLES + 1):
        other = _flat(held.run(inputs, train=train, noise=Noise(sample, scale, forward=sample < SAMPLES)))
        moved.append([float(np.linalg.norm(a - b)) for a, b in zip(exact, other, strict=True)])
    return [max(column) for column in zip(*moved, strict=True)]


def _flat(result: Result) -> list[np.ndarray]:
    return [*(item.astype("float64") for item in result.outputs), *result.gradients.values()]


def _error(reference: np.ndarray, other: np.ndarray) -> float:
    """The relative L2 error; any difference from zeros is infinite."""
    if not np.isfinite(other).all():
        return math.inf
    norm, apart = float(np.linalg.norm(reference)), float(np.linalg.norm(reference.astype("float64") - other))
    return apart / norm if norm else (0.0 if apart == 0 else math.inf)
