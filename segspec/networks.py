"""Networks for those who have segspec installed: rendered to memory, imported, with weights from any of the files.

A backend's framework is imported here in the caller's own process, and only when a network is asked for.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import linecache
import sys
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any
from weakref import WeakKeyDictionary

from segspec.errors import SpecError, fail
from segspec.graph.elaborate import elaborate
from segspec.graph.model import Graph
from segspec.render import Backend, render
from segspec.render.backend import backend as backend_of
from segspec.render.check import refusals
from segspec.spec.load import Loader
from segspec.weights import formats
from segspec.weights.convert import complete, fitted, strange_numbers, write
from segspec.weights.fit import Fit

_MADE: WeakKeyDictionary[Any, tuple[Graph, Backend]] = WeakKeyDictionary()
"""What each network is of."""


def load(
    name: str,
    /,
    backend: str,
    weights: str | Path | None = None,
    *,
    preset: str = "",
    allow: Sequence[str] = (),
    seed: int = 0,
    **parameters: Any,
) -> Any:
    """A network in a framework: an instance of the class that ``segspec generate`` would write.

    ``name`` is one of the zoo or a path to a spec, ``parameters`` are the spec's. ``weights`` may be a file of any
    framework, and must fit but for what the patterns in ``allow`` match: that starts as the spec says, drawn with
    ``seed``; where not all of its numbers are finite, a warning names the tensors. Without ``weights`` the network
    starts as its framework draws it. Raises :class:`~segspec.errors.SpecError` where the spec, the file or the
    framework will not do.
    """
    held = backend_of(backend)
    definition = Loader().load(name)
    if weights is None:
        graph = elaborate(definition, parameters, preset)
    else:
        checkpoint = formats.read(Path(weights))
        found = fitted(definition, parameters, preset, checkpoint, allowed=allow)
        graph = found.graph  # a published checkpoint may be of a preset
    if problems := refusals(graph, [held]):
        raise SpecError(problems)
    framework = _framework(held)
    module = _imported(graph, held)
    network = getattr(module, module.__all__[0])()
    _MADE[network] = graph, held
    if weights is not None:
        if strange := strange_numbers(checkpoint, found.keys, held.checkpoints.format):
            warnings.warn(f"{weights}: {strange}", stacklevel=2)
        with tempfile.TemporaryDirectory(prefix="segspec-") as folder:
            path = Path(folder) / f"weights{held.checkpoints.suffixes[0]}"
            write(complete(found, seed), path, held.checkpoints.format, release=checkpoint.release)
            _run(held.checkpoints.load, held, framework, network, path)
    return network


def save(network: Any, path: str | Path) -> None:
    """Write the weights of a network that :func:`load` returned, in the format that the path's suffix says."""
    if network not in _MADE:
        raise TypeError("the network is none that segspec.load returned")
    graph, held = _MADE[network]
    kind = formats.format_of("", Path(path))
    with tempfile.TemporaryDirectory(prefix="segspec-") as folder:
        own = Path(folder) / f"weights{held.checkpoints.suffixes[0]}"
        _run(held.checkpoints.save, held, _framework(held), network, own)
        checkpoint = formats.read(own)
        write(Fit(graph, checkpoint, held).fitted(), Path(path), kind)


def _run(line: str, held: Backend, framework: ModuleType, network: Any, path: Path) -> None:
    """Run a backend's own line, as its users would."""
    names = {held.module: framework, "net": network, "file": str(path)}
    exec(line.replace('"{file}"', "file"), names)  # as much ours as the source that the templates make


def _framework(held: Backend) -> ModuleType:
    if importlib.util.find_spec(held.module) is None:
        remedy = f"pip install 'segspec[{held.extra}]'"
        raise fail("missing-framework", f"{held.title} is not installed", remedy=remedy)
    return importlib.import_module(held.module)


def _imported(graph: Graph, held: Backend) -> ModuleType:
    """The generated module, from memory; the same source is the same module."""
    source = render(graph, held)
    digest = hashlib.sha256(source.encode()).hexdigest()[:16]
    name = f"segspec_{held.name}_{graph.name}_{digest}"
    if name not in sys.modules:
        file = f"<{name}>"
        # What compiles or exports networks asks for their source.
        linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
        module = ModuleType(name)
        module.__file__ = file
        exec(compile(source, file, "exec"), vars(module))
        sys.modules[name] = module
    return sys.modules[name]
