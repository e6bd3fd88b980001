"""What a generated module returns for inputs of one's own: in a process of its backend, arrays in, arrays out."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from segspec.backends.arrays import Reading
from segspec.errors import fail
from segspec.graph.model import Graph
from segspec.parity.process import execute, require
from segspec.parity.recording import arrays_in, module, weights_in
from segspec.render.backend import backend as backend_of


def outputs(
    graph: Graph,
    backend: str,
    inputs: Mapping[str, np.ndarray],
    dtype: str = "float64",
    mode: str = "eval",
) -> dict[str, np.ndarray]:
    """What the generated module of one backend returns, by output, with the name-seeded weights.

    ``inputs`` maps input names to (N, C, H, W) arrays. Normalisations have the statistics that they see on these
    inputs, a little displaced. Raises :class:`SpecError` if the framework is missing or the module fails.
    """
    held = backend_of(backend)
    require([held])
    with tempfile.TemporaryDirectory(prefix="segspec-") as name:
        folder = Path(name)
        given = arrays_in(folder / "inputs.bin", ((item.name, inputs[item.name]) for item in graph.root.inputs))
        calibrate = {"id": "calibrate", "do": "calibrate", "dtype": "float64", "inputs": given, "needed": True}
        how = {"dtype": dtype, "mode": mode, "gradients": False, "given": None, "coarse": None}
        forward = {"id": "forward", "do": "forward", "inputs": given, **how}
        own = folder / "m0"
        outcome = execute(held, [module(graph, held, own, [calibrate, forward], weights_in(own, graph))], folder)
        passes = outcome.modules["m0"]
        for result in passes.values():
            if "failure" in result:
                raise fail("backend-failed", f"{held.title} failed on {graph.name}:\n{result['failure']}")
        found = Reading(str(folder / "m0.bin"), passes["forward"]["index"])
        named = [output for output in graph.root.outputs if mode == "train" or not output.training]
        return {output.name: np.array(found[f"output {index}"]) for index, output in enumerate(named)}
