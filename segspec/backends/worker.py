"""What every backend's process does: read a job, run its modules pass by pass, record what they compute.

A job is a folder with ``job.json``: modules, each with its source, its weights, and the passes asked of it. What a
pass computes goes to the module's data file, one array after another; when it has ended, a line of JSON in the file
of results says where each lies, or what failed. Only arrays and plain data cross the border. Events, a line of JSON
each, go to standard output, so that whoever waits knows which pass of which module runs.
"""

from __future__ import annotations

import gc
import hashlib
import importlib.util
import json
import math
import os
import platform
import signal
import sys
import threading
import time
import traceback
from collections import ChainMap, Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol, TextIO

import numpy as np
from arrays import Reading, Writing, norm
from probe import ENTERED, NODE, instrument

MISSING = 3
"""Exit status where the framework cannot be imported."""
MOST_HALVINGS = 100
"""How often a loss is halved at most: settings may be kept in float32, where what is smaller is zero."""


class Framework(Protocol):
    """What the common part asks of a framework; tensors, layers and networks are its own."""

    version: str

    def build(self, network: type, dtype: str) -> Any:
        """An instance with its default arguments, its parameters of this dtype; dropout keeps what :func:`mask` has."""

    def seed(self, number: int) -> None:
        """Start anew the random numbers from which parameters are drawn."""

    def undrawn(self) -> Any:
        """A context in which layers are made without drawing their parameters, which are given values later."""

    def state(self, network: Any) -> dict[str, Any]:
        """Every parameter and statistic, by its key, each itself and no copy."""

    def layers(self, network: Any) -> Iterable[tuple[str, Any]]:
        """Every layer with its path, the network itself first."""

    def elements(self, layer: Any) -> Iterable[Any]:
        """The elements of a sequence; nothing of another layer."""

    def watch(self, layer: Any, before: Callable[[Any], None], after: Callable[[Any], Any]) -> Callable[[], None]:
        """Have a layer call ``before`` with its first input and return what ``after`` makes of its output.

        What is returned ends that.
        """

    def tensor(self, array: np.ndarray, like: Any = None, *, gradient: bool = False) -> Any:
        """An array as a tensor (of another's dtype), one whose gradient is wanted if so."""

    def array(self, tensor: Any) -> np.ndarray:
        """A tensor's values."""

    def put(self, tensor: Any, array: np.ndarray) -> None:
        """Overwrite a tensor's values."""

    def same_value(self, tensor: Any, array: np.ndarray) -> Any:
        """A tensor with these values, whose gradient is the given tensor's."""

    def has_gradient(self, tensor: Any) -> bool:
        """Whether anything flows back through a tensor."""

    def keep_gradient(self, tensor: Any) -> None:
        """Have a computed tensor keep its gradient."""

    def gradient(self, tensor: Any) -> np.ndarray | None:
        """A tensor's gradient after ``backward``."""

    def mode(self, network: Any, *, train: bool) -> None:
        """Switch to train or eval mode."""

    def parameters(self, network: Any) -> dict[str, Any]:
        """The trainable tensors by key, without the gradients of an earlier pass."""

    def gradients(self, wanted: bool) -> Any:
        """A context in which gradients are, or are not, computed."""

    def optimizer(self, name: str, network: Any, settings: dict[str, float]) -> Any:
        """The framework's own optimiser: ``sgd`` or ``adam``."""

    def step(self, optimizer: Any) -> None:
        """One step of an optimiser, and its gradients cleared."""


# --- what every backend draws alike ------------------------------------------------------------------


def mask(path: str, shape: tuple[int, ...], p: float) -> np.ndarray:
    """Which elements dropout keeps: the same in every backend, for a module's path and a rate."""
    keep: np.ndarray = _generator(f"dropout {path}").random(shape) >= p
    return keep


def cotangent(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """What an output is multiplied with before the sum whose gradient is taken; in training, what it should be."""
    return _generator(f"cotangent {name}").standard_normal(shape)


def _generator(name: str) -> np.random.Generator:
    return np.random.default_rng(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big"))


# --- one pass ----------------------------------------------------------------------------------------


class Recorder:
    """Records every node of one pass, and may have nodes return what another backend recorded for them.

    ``given`` are the other's arrays. In a replay every node returns the other's value once its own is recorded, and
    so computes from the other's inputs alone, or from so many ``times`` these; otherwise only nodes in ``coarse`` do,
    those which a backend is known to compute coarsely, so that what follows is not hidden behind them.
    """

    def __init__(
        self,
        framework: Framework,
        write: Writing,
        paths: dict[int, str],
        given: Reading | None,
        coarse: Iterable[str] | None,
        times: float = 1,
        *,
        gradient: bool,
    ) -> None:
        self.framework = framework
        self.write = write
        self.paths = paths
        self.given = given
        self.coarse = None if coarse is None else set(coarse)
        self.times = times
        self.gradient = gradient
        self.calls: Counter[str] = Counter()
        self.kept: dict[str, Any] = {}
        self.replaced: dict[int, Any] = {}
        self.products: list[tuple[Any, np.ndarray]] = []

    def entered(self, layer: Any, *inputs: Any) -> tuple[Any, ...]:
        """Where a ``forward`` stands, and its inputs; in a replay those that the other backend's had."""
        path = self.paths[id(layer)]
        count = self.calls[path]
        self.calls[path] += 1
        place = (f"{path}." if path else "", f"#{count}" if count else "")
        if not path:
            return place, *inputs
        return place, *(
            self._argument(f"argument {path}{place[1]}:{index}", tensor) for index, tensor in enumerate(inputs)
        )

    def _argument(self, name: str, tensor: Any) -> Any:
        self.write(name, self.framework.array(tensor), tensor)
        return self._given(name, tensor) if self._replays(name) else tensor

    def node(self, place: tuple[str, str], name: str, value: Any) -> Any:
        """Record what a node computed, and return what the nodes after it shall read."""
        return self.seen(f"{place[0]}{name}{place[1]}", value)

    def element(self, path: str, value: Any) -> Any:
        """Record what an element of a sequence computed."""
        count = self.calls[f"element {path}"]
        self.calls[f"element {path}"] += 1
        return self.seen(f"{path}#{count}" if count else path, value)

    def seen(self, key: str, value: Any) -> Any:
        """Record a node's tensor or tensors."""
        if isinstance(value, tuple | list):
            return type(value)(self._tensor(key, index, tensor) for index, tensor in enumerate(value))
        return self._tensor(key, 0, value)

    def _tensor(self, key: str, index: int, tensor: Any) -> Any:
        name = f"node {key}:{index}"
        first = not self.write.has(tensor)  # what a block returns, a node inside it has computed
        self.write(name, self.framework.array(tensor), tensor)
        if self._replays(name):
            return self._given(name, tensor)
        if key in (self.coarse or ()) and self._fits(tensor, name):
            assert self.given is not None
            tensor = self.framework.same_value(tensor, self.given[name])
        if self.gradient and first and self.framework.has_gradient(tensor):
            self.framework.keep_gradient(tensor)
            self.kept[name] = tensor
        return tensor

    def _given(self, name: str, tensor: Any) -> Any:
        """The other backend's tensor of this name; one and the same for all names of a tensor."""
        assert self.given is not None
        place = self.given.index[name][2]
        if place not in self.replaced:
            values = self.given[name]
            values = values * self.times if values.dtype.kind == "f" else values
            made = self.framework.tensor(values, tensor, gradient=self.gradient)
            self.replaced[place] = made
            if f"gradient {name}" in self.given:
                self.kept[name] = made
                if self._fits(tensor, f"gradient {name}"):
                    self.products.append((tensor, self.given[f"gradient {name}"]))
        return self.replaced[place]

    def _replays(self, name: str) -> bool:
        return self.given is not None and self.coarse is None and name in self.given

    def _fits(self, tensor: Any, name: str) -> bool:
        """Whether the other backend has an array of this name, and of a tensor's shape."""
        return self.given is not None and name in self.given and self.given.shape(name) == tuple(tensor.shape)

    def statistic(self, layer: Any, path: str, names: dict[str, str], when: str) -> None:
        """Record a layer's statistics before or after one of its calls; in a replay they start as the other's."""
        if when == "before":
            self.calls[f"statistic {path}"] += 1
        count = self.calls[f"statistic {path}"] - 1
        for name, attribute in names.items():
            key = f"{when} {name}#{count}" if count else f"{when} {name}"
            tensor = getattr(layer, attribute)
            if when == "before" and self._replays(key):
                assert self.given is not None
                self.framework.put(tensor, self.given[key])
            self.write(key, self.framework.array(tensor))

    def backward(self, total: Any) -> None:
        """Compute the gradients of ``total``; in a replay, of what each node computed times the other's gradient."""
        if self.given is not None and self.coarse is None:
            # What the network returned are the other's values too, so its own sum has the outputs' gradients.
            total = sum(((node * self.framework.tensor(given, node)).sum() for node, given in self.products), total)
        total.backward()
        for name, tensor in self.kept.items():
            gradient = self.framework.gradient(tensor)
            if gradient is not None:
                self.write(f"gradient {name}", gradient)


class Disturber(Recorder):
    """Records no node, and disturbs what some return: by noise of a size that is given by key, relative to theirs."""

    def __init__(self, framework: Framework, write: Writing, paths: dict[int, str], noise: dict[str, float]) -> None:
        super().__init__(framework, write, paths, None, None, gradient=False)
        self.noise = noise

    def _argument(self, name: str, tensor: Any) -> Any:
        return tensor

    def _tensor(self, key: str, index: int, tensor: Any) -> Any:
        if key not in self.noise:
            return tensor
        drawn = _generator(f"noise {key}:{index}").standard_normal(tuple(tensor.shape))
        return tensor * self.framework.tensor(1 + self.noise[key] * drawn, tensor)

    def statistic(self, layer: Any, path: str, names: dict[str, str], when: str) -> None:
        """Nothing: outputs alone are of interest."""


class Session:
    """One module: its weights, and its network in the dtype of the pass that runs."""

    def __init__(self, framework: Framework, module: dict[str, Any], network: type) -> None:
        self.framework = framework
        self.network_class = network
        self.state: list[dict[str, Any]] = module["state"]
        # Read where they are put; what a pass finds for statistics lies over them.
        self.weights: ChainMap[str, np.ndarray] = ChainMap({}, Reading(**module["weights"]))
        self.statistics: dict[str, dict[str, str]] = {}
        for entry in self.state:
            if entry["statistic"]:
                path, _, attribute = entry["key"].rpartition(".")
                self.statistics.setdefault(path, {})[entry["name"]] = attribute
        self.network: Any = None
        self.dtype = ""
        self.trained = False
        self.done: dict[str, dict[str, Any]] = {}

    def run(self, asked: dict[str, Any], write: Writing) -> None:
        """One pass, on a network of its dtype that has the weights; that of starts, on networks of its own."""
        if asked["do"] == "starts":
            self.network, self.dtype = None, ""
            self.starts(asked, write)
            return
        if asked["dtype"] != self.dtype:
            self.network, self.dtype = None, ""  # the old one goes before the new one comes
            self.network, self.trained = self._built(asked["dtype"]), True
            self.layers = dict(self.framework.layers(self.network))
            self.paths = {id(layer): path for path, layer in self.layers.items()}
            self.tensors = self.framework.state(self.network)
            if problem := misfit(self.tensors, {entry["key"]: self._weight(entry).shape for entry in self.state}):
                raise ValueError(f"the weights do not fit the module: {problem}")
            self.dtype = asked["dtype"]  # if that failed, the next pass fails for the same reason
        for entry in self.state:
            if self.trained or entry["statistic"]:
                self._reset(entry, write)
        self.trained = False
        getattr(self, asked["do"])(asked, write)

    def _built(self, dtype: str) -> Any:
        """A network that is given weights: what it would draw, no layer need fill in."""
        names = vars(sys.modules[self.network_class.__module__])
        kept = names.get("init_weights")
        if kept is not None:
            names["init_weights"] = _nothing
        try:
            with self.framework.undrawn():
                return self.framework.build(self.network_class, dtype)
        finally:
            if kept is not None:
                names["init_weights"] = kept

    def _weight(self, entry: dict[str, Any]) -> np.ndarray:
        return _laid(self.weights[entry["name"]], entry)

    def _reset(self, entry: dict[str, Any], write: Writing) -> None:
        began = time.perf_counter()
        weight = self._weight(entry).astype(self.dtype)
        write.seconds += time.perf_counter() - began  # what reading takes is not the framework's
        self.framework.put(self.tensors[entry["key"]], weight)

    # --- what a pass may do --------------------------------------------------------------------------

    def starts(self, asked: dict[str, Any], write: Writing) -> None:
        """Record what every tensor starts with, one element of so many, in networks built one after another."""
        self.framework.seed(asked["seed"])
        found: dict[str, list[np.ndarray]] = {}
        for _ in range(asked["builds"]):
            tensors = self.framework.state(self.framework.build(self.network_class, asked["dtype"]))
            for entry in self.state:
                if entry["key"] in tensors:
                    values = self.framework.array(tensors[entry["key"]]).ravel()[:: asked["steps"][entry["name"]]]
                    found.setdefault(entry["name"], []).append(values.copy())  # the network itself goes
        for name, drawn in found.items():
            write(name, np.stack(drawn), whole=True)

    def calibrate(self, asked: dict[str, Any], write: Writing) -> None:
        """Set each normalisation's statistics to what it sees, spread by what they were, and record them.

        So activations stay near one however many residual sums there are. What is seen is taken to 8 binary digits:
        whatever its rounding, every backend finds the same.
        """
        drawn = {
            entry["name"]: self.weights[entry["name"]] / entry["scale"] for entry in self.state if entry["statistic"]
        }

        def measure(layer: Any, names: dict[str, str]) -> Callable[[Any], None]:
            def before(x: Any) -> None:
                values = self.framework.array(x)
                axes = tuple(axis for axis in range(values.ndim) if axis != 1)
                mean, var = _coarse(values.mean(axes)), _coarse(values.var(axes))
                # A channel that hardly varies would show the rounding of the normalisation's epsilon alone.
                var = np.maximum(var, max(var.mean() / 8, 0.25))
                for name, attribute in names.items():
                    spread = drawn[name].astype("float64")
                    found = mean + np.sqrt(var) * spread if name.endswith("mean") else var * spread
                    self.weights[name] = found.astype("float32")
                    self.framework.put(getattr(layer, attribute), self.weights[name].astype(self.dtype))

            return before

        ends = [
            self.framework.watch(self.layers[path], measure(self.layers[path], names), lambda value: value)
            for path, names in self.statistics.items()
        ]
        with _Watching(None, ends):
            self._call(asked, train=False)
        for names in self.statistics.values():
            for name in names:
                write(f"statistic {name}", self.weights[name], whole=True)

    def keep(self, asked: dict[str, Any], write: Writing) -> None:
        """Record the statistics that were given."""
        for names in self.statistics.values():
            for name in names:
                write(f"statistic {name}", self.weights[name])

    def adopt(self, asked: dict[str, Any], write: Writing) -> None:
        """Take over the statistics that another backend has found."""
        given = Reading(**asked["given"])
        self.weights.update({name.removeprefix("statistic "): given[name] for name in given})

    def forward(self, asked: dict[str, Any], write: Writing) -> None:
        """Run the network, record every node, and the gradients if asked for."""
        train, gradient, framework = asked["mode"] == "train", asked["gradients"], self.framework
        held = self.done[asked["own"]] if "own" in asked else asked["given"]
        given = Reading(**held) if held else None
        recorder = Recorder(framework, write, self.paths, given, asked["coarse"], asked["times"], gradient=gradient)
        if asked["times"] != 1:
            self._vary_little()
        with self._watching(recorder, train=train):
            inputs, outputs = self._call(asked, train=train, gradient=gradient)
        for index, output in enumerate(outputs):
            write(f"output {index}", framework.array(output), output)
        weighed = [
            (output * framework.tensor(cotangent(str(index), tuple(output.shape)), output)).sum()
            for index, output in enumerate(outputs if gradient else ())
            if self._learns(output)
        ]
        if weighed:
            parameters = framework.parameters(self.network)
            recorder.backward(sum(weighed[1:], weighed[0]))
            for entry in self.state:
                if entry["trainable"]:
                    self._gradient(entry["name"], parameters[entry["key"]], write, entry)
            for name, tensor in inputs.items():
                self._gradient(f"input {name}", tensor, write)
        if train:
            self._record("statistic", write, "statistic")

    def disturbed(self, asked: dict[str, Any], write: Writing) -> None:
        """Run the network, some of its nodes disturbed, and record the outputs alone."""
        train = asked["mode"] == "train"
        with self._watching(Disturber(self.framework, write, self.paths, asked["noise"]), train=train):
            _, outputs = self._call(asked, train=train)
        for index, output in enumerate(outputs):
            write(f"output {index}", self.framework.array(output), output)

    def _vary_little(self) -> None:
        """Give normalisations variances of one, beside which a wrong epsilon shows however large those found are."""
        for path, names in self.statistics.items():
            for name, attribute in names.items():
                if not name.endswith("mean"):
                    ones = np.ones_like(self.weights[name], self.dtype)
                    self.framework.put(getattr(self.layers[path], attribute), ones)

    def training(self, asked: dict[str, Any], write: Writing) -> None:
        """Steps of an optimiser; after each its loss, the parameters and the statistics, which then start anew.

        The loss is the weighted sum of the outputs' mean squared distances from noise; no step where there is none of
        which it could be made. Statistics start anew so that
        a backend's declared relation between its update and the canonical one describes every step.
        """
        framework, self.trained = self.framework, True
        parameters, optimizer = framework.parameters(self.network), None
        for step, inputs in enumerate(asked["batches"]):
            _, outputs = self._call({**asked, "inputs": inputs}, train=True, gradient=True)
            losses = [
                ((output - framework.tensor(cotangent(f"{step} {index}", tuple(output.shape)), output)) ** 2).mean()
                * weight
                for index, (output, weight) in enumerate(zip(outputs, asked["loss_weights"], strict=True))
                if self._learns(output)
            ]
            if not losses:
                return
            loss = sum(losses[1:], losses[0])
            loss.backward()
            optimizer = optimizer or framework.optimizer(
                asked["optimizer"], self.network, self._tempered(asked, parameters)
            )
            framework.step(optimizer)
            write(f"step {step} loss", framework.array(loss))
            self._record(f"step {step} parameter", write, "trainable")
            self._record(f"step {step} statistic", write, "statistic")
            for entry in self.state:
                if entry["statistic"]:
                    self._reset(entry, write)

    def _tempered(self, asked: dict[str, Any], parameters: dict[str, Any]) -> dict[str, float]:
        """An optimiser's settings for the gradients that there are: as if of a loss scaled by a power of two.

        The gradients of deep networks with any weights may be millions of times these. Steps of such a length lead
        anywhere, and what leads there amplifies every rounding; so the first changes no tensor by more than its rate.
        """
        settings: dict[str, float] = asked["settings"]
        if "weight_decay" not in settings:  # the step is as long however large the gradients
            return settings
        ratios = [0.0]
        for tensor in parameters.values():
            gradient, length = self.framework.gradient(tensor), norm(self.framework.array(tensor).ravel())
            if gradient is not None and length:
                ratios.append(norm(gradient.ravel()) / length)
        _, exponent = math.frexp(max(ratios))
        scale = 2.0 ** -min(max(exponent, 0), MOST_HALVINGS)
        return {**settings, "lr": settings["lr"] * scale, "weight_decay": settings["weight_decay"] / scale}

    # --- what they share -----------------------------------------------------------------------------

    def _call(self, asked: dict[str, Any], *, train: bool, gradient: bool = False) -> tuple[dict[str, Any], list[Any]]:
        """Run the network; its inputs as tensors, and its outputs."""
        inputs = {
            name: self.framework.tensor(array.astype(self.dtype), gradient=gradient)
            for name, array in Reading(**asked["inputs"]).items()
        }
        self.framework.mode(self.network, train=train)
        with self.framework.gradients(gradient):
            returned = self.network(*inputs.values())
        return inputs, list(returned) if isinstance(returned, tuple | list) else [returned]

    def _learns(self, output: Any) -> bool:
        """Whether a loss can be made of an output: not so of whole numbers, as indices are, nor of constants."""
        return self.framework.array(output).dtype.kind == "f" and self.framework.has_gradient(output)

    def _record(self, title: str, write: Writing, kind: str) -> None:
        for entry in self.state:
            if entry[kind]:
                write(f"{title} {entry['name']}", _laid(self.framework.array(self.tensors[entry["key"]]), entry))

    def _gradient(self, name: str, tensor: Any, write: Writing, entry: dict[str, Any] | None = None) -> None:
        found = self.framework.gradient(tensor)
        if found is not None:
            write(f"gradient {name}", _laid(found, entry) if entry else found, whole=False)

    def _watching(self, recorder: Recorder, *, train: bool) -> _Watching:
        """Have elements of sequences, and in train mode layers with statistics, tell the recorder what they do."""

        def element(path: str) -> Callable[[Any], Any]:
            return lambda value: recorder.element(path, value)

        def statistic(path: str, when: str) -> Callable[[Any], Any]:
            def tell(value: Any) -> Any:
                recorder.statistic(self.layers[path], path, self.statistics[path], when)
                return value

            return tell

        watch = self.framework.watch
        elements = [each for layer in self.layers.values() for each in self.framework.elements(layer)]
        # A sequence in a sequence returns what its own last element does.
        elements = [each for each in elements if not list(self.framework.elements(each))]
        ends = [watch(each, _nothing, element(self.paths[id(each)])) for each in elements]
        for path in self.statistics if train else ():
            ends.append(watch(self.layers[path], statistic(path, "before"), statistic(path, "after")))
        return _Watching(recorder, ends)


class _Watching:
    """While it lasts, the marks of the generated module go to one recorder."""

    current: Recorder | None = None

    def __init__(self, recorder: Recorder | None, ends: list[Callable[[], None]]) -> None:
        self.recorder = recorder
        self.ends = ends

    def __enter__(self) -> None:
        _Watching.current = self.recorder

    def __exit__(self, *_: object) -> None:
        _Watching.current = None
        for end in self.ends:
            end()


def _entered(layer: Any, *inputs: Any) -> tuple[Any, ...]:
    return _Watching.current.entered(layer, *inputs) if _Watching.current else (None, *inputs)


def _node(place: Any, name: str, value: Any) -> Any:
    return _Watching.current.node(place, name, value) if _Watching.current else value


def _nothing(_: Any) -> None:
    """What is done before a layer of which only the output matters, and to one that is given its weights."""


def _laid(array: np.ndarray, entry: dict[str, Any]) -> np.ndarray:
    """An array between its canonical layout and the backend's, which are one or each other's transpose."""
    return array.T if entry["transposed"] else array


def _coarse(values: np.ndarray) -> np.ndarray:
    """The values to 8 binary digits."""
    fraction, exponent = np.frexp(values.astype("float64"))
    rounded: np.ndarray = np.ldexp(np.round(fraction * 256) / 256, exponent)
    return rounded


# --- the job -----------------------------------------------------------------------------------------


def main(framework: Framework) -> None:
    """Run the job in the folder that the command line names, and end the process.

    It ends at once: what a framework does at its end takes half a second, and may crash.
    """
    events = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what else is printed, by a framework for one, is no event
    threading.Thread(target=_follow, args=[os.dup(0)], daemon=True).start()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    folder = Path(sys.argv[1])
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    tell(events, version=framework.version, python=platform.python_version(), numpy=np.__version__)
    gc.freeze()  # what a framework is made of is no garbage, and much to look through
    for module in job["modules"]:
        _module(framework, folder, module, events)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _follow(parent: int) -> None:
    """End this process, and all that it started, when the one that waits for it has ended, however that was."""
    os.read(parent, 1)
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def tell(events: TextIO, **event: Any) -> None:
    """Write one event."""
    events.write(json.dumps(event) + "\n")


def _module(framework: Framework, folder: Path, module: dict[str, Any], events: TextIO) -> None:
    """Run the passes of a module; each leaves a line behind, so that a pass that ends the process ends none before."""
    name = module["name"]
    tell(events, module=name, run="")
    with open(folder / f"{name}.bin", "ab") as file, open(folder / f"{name}.jsonl", "a", encoding="utf-8") as results:

        def keep(run: str, **result: Any) -> None:
            file.flush()
            results.write(json.dumps([run, result]) + "\n")
            results.flush()

        try:
            session = Session(framework, module, _import(folder / module["source"], module["marks"]))
        except (Exception, SystemExit):
            keep("", failure=traceback.format_exc(limit=-6))
            return
        for asked in module["passes"]:
            tell(events, module=name, run=asked["id"])
            write = Writing(file, whole=asked.get("whole", False))
            began = time.perf_counter()
            result: dict[str, Any] = {}
            try:
                session.run(asked, write)
                file.flush()
                session.done[asked["id"]] = {"file": file.name, "index": write.index}
                result["index"] = write.index
            except (Exception, SystemExit):
                result["failure"] = traceback.format_exc(limit=-6)
            # What the framework took, without what reading weights and keeping arrays did.
            keep(asked["id"], **result, seconds=time.perf_counter() - began - write.seconds)


def _import(path: Path, marks: dict[str, str]) -> type:
    """The network's class of a generated module: the first name that it exports."""
    specification = importlib.util.spec_from_loader(path.stem, loader=None, origin=str(path))
    assert specification is not None
    module = importlib.util.module_from_spec(specification)
    module.__dict__.update({"__file__": str(path), ENTERED: _entered, NODE: _node})
    sys.modules[path.stem] = module
    exec(instrument(path.read_text(encoding="utf-8"), marks, str(path)), module.__dict__)
    network: type = getattr(module, module.__all__[0])
    return network


def misfit(own: dict[str, Any], given: dict[str, tuple[int, ...]]) -> str:
    """How a network's state and the arrays meant for it, whose shapes are given, differ; empty if they do not."""
    missing = sorted(set(own) - set(given))
    unexpected = sorted(set(given) - set(own))
    wrong = [
        f"{key}: {given[key]} for {tuple(own[key].shape)}"
        for key in own
        if key in given and tuple(own[key].shape) != given[key]
    ]
    parts = [("missing", missing), ("unexpected", unexpected), ("of another shape", wrong)]
    return "; ".join(f"{title}: {', '.join(names[:5])}" for title, names in parts if names)
