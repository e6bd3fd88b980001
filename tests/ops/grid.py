"""From an op's declared examples to networks: one tiny spec for each example and form of writing it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from segspec.graph.elaborate import elaborate
from segspec.graph.model import Graph
from segspec.ops import OPS
from segspec.ops.attributes import kind_of
from segspec.spec.load import load

USUAL = (2, 4, 9, 12)

FORMS = ("node", "layer", "parameters")
"""An op as a node of its own, as an element of a sequence, with its numbers as the network's parameters."""

NO_LAYER = {
    "concat": "several inputs",
    "add": "several inputs",
    "sub": "several inputs",
    "mul": "several inputs",
    "div": "several inputs",
    "maximum": "several inputs",
    "einsum": "several inputs",
    "max_unpool2d": "several inputs",
    "max_pool2d with indices": "several outputs",
    "parameter": "no input",
    "buffer": "no input",
    **dict.fromkeys(
        ("exp", "square", "reciprocal", "affine", "sum", "mean", "amax", "normalize", "rearrange", "coordinates"),
        "no framework has a layer of it",
    ),
    "pad_to": "the size of another node",
    "resize to a node's size": "the size of another node",
    "resize by a fraction": "a size computed from the input's",
    "crop": "no framework has a layer that crops",
}
"""What cannot stand in a sequence, in any backend, and why."""


@dataclass(frozen=True)
class Case:
    """One op at one example, in one form."""

    op: str
    index: int
    form: str
    inputs: int = 1

    @property
    def id(self) -> str:
        written = ",".join(f"{name}={value}" for name, value in self.example.items())
        more = f"×{self.inputs}" if self.inputs > 2 else ""
        return f"{self.op}{more}-{written}-{self.form}".replace(" ", "")

    @property
    def example(self) -> Mapping[str, Any]:
        return OPS[self.op].examples[self.index]

    @property
    def attributes(self) -> dict[str, Any]:
        return {name: value for name, value in self.example.items() if name not in ("shape", "other")}

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """The shapes of the op's inputs."""
        first = tuple(self.example.get("shape", USUAL))
        other = self.example.get("other")
        return [first] if other is None else [first, tuple(other)]

    @property
    def size(self) -> tuple[int, int]:
        """The image's size: the least that holds every input's map."""
        maps = [(1, *shape[2:])[-2:] if len(shape) > 2 else (1, 1) for shape in self.shapes]
        return max(height for height, _ in maps), max(width for _, width in maps)

    @property
    def batch(self) -> int:
        return self.shapes[0][0]

    def spec(self) -> dict[str, Any]:
        """The network: its inputs brought to the example's shapes, then the op."""
        inputs: dict[str, Any] = {}
        nodes: dict[str, Any] = {}
        params: dict[str, Any] = {}
        read = []
        for name, shape in zip(("left", "right"), self.shapes, strict=False):
            inputs[name] = {"channels": shape[1]}
            read.append(_shaped(nodes, name, shape, self.size))
        attributes = self.attributes
        if self.op == "max_unpool2d":
            window = {name: value for name, value in attributes.items() if name != "like"}
            nodes["pool"] = {"op": "max_pool2d", "from": read, **window, "return_indices": True}
            read = ["pool", "pool.indices"]
        elif "like" in attributes:
            attributes["like"] = read.pop()
        elif len(read) > 1:
            read = [read[index % 2] for index in range(self.inputs)]
        if self.form == "parameters":
            attributes |= {name: _lifted(params, name, attributes[name]) for name in _liftable(self.op, self.example)}
        node: dict[str, Any] = {"op": self.op, **attributes}
        if self.form == "layer":
            node = {"sequence": [node]}
        if OPS[self.op].inputs[1]:
            nodes["result"] = {**node, "from": read}
        else:
            nodes["result"] = node
            nodes["used"] = {"op": "mul", "from": [*read, "result"]}
        if self.op == "coordinates":  # which depend on no value
            nodes["used"] = {"op": "concat", "from": [*read, "result"]}
        return {
            "segspec": 1,
            "name": "example",
            "title": "An example",
            "params": params,
            "inputs": inputs,
            "nodes": nodes,
            "outputs": [list(nodes)[-1]],
        }

    def write(self, folder: Path) -> Path:
        """The spec as a file."""
        path = folder / "example.yaml"
        path.write_text(yaml.safe_dump(self.spec(), sort_keys=False), encoding="utf-8")
        return path

    def graph(self, folder: Path) -> Graph:
        """The spec, loaded and elaborated."""
        return elaborate(load(self.write(folder)))


def _shaped(nodes: dict[str, Any], name: str, shape: tuple[int, ...], size: tuple[int, int]) -> str:
    """Add what brings an input of the image's size to a shape; the name under which it is found."""
    wanted = (1, *shape[2:])[-2:] if len(shape) > 2 else (1, 1)
    if wanted != size:
        # Sides keep the size symbolic; an axis of one is known to be one, since it is repeated.
        cut = {"size": list(wanted), "offset": [0, 0]}
        if len(shape) == 4 and 1 not in wanted:
            cut = {"sides": [0, size[0] - wanted[0], 0, size[1] - wanted[1]]}
        nodes[f"{name}_part"] = {"op": "crop", "from": name, **cut}
        name = f"{name}_part"
    elif len(shape) < 4:
        nodes[f"{name}_part"] = {"op": "crop", "from": name, "size": list(wanted), "offset": [0, 0]}
        name = f"{name}_part"
    if len(shape) < 4:
        nodes[f"{name}_flat"] = {"op": "flatten", "from": name, "start_dim": len(shape) - 1}
        name = f"{name}_flat"
    return name


def _lifted(params: dict[str, Any], name: str, value: Any) -> Any:
    """The value with every number in it replaced by a parameter of the network."""
    if isinstance(value, list):
        return [_lifted(params, f"{name}_{index}", item) for index, item in enumerate(value)]
    if isinstance(value, str):
        return value
    params[name] = value
    return name


def cases() -> Iterator[Case]:
    """The whole grid, by op, example and form."""
    for name, op in OPS.items():
        for index, example in enumerate(op.examples):
            pair = "other" in example and "like" not in example
            counts = (2, 3) if op.inputs[0] == 2 < op.inputs[1] else (2,) if pair else (1,)
            for count in counts:
                yield Case(name, index, "node", count)
            if layer(name, example):
                yield Case(name, index, "layer", 1)
            if _liftable(name, example):
                yield Case(name, index, "parameters", counts[0])


def layer(op: str, example: Mapping[str, Any]) -> bool:
    """Whether an example can stand in a sequence."""
    if op == "resize":
        return "like" not in example and float(example.get("scale", 1)).is_integer()
    if op == "max_pool2d":
        return "return_indices" not in example
    return op not in NO_LAYER


def _liftable(op: str, example: Mapping[str, Any]) -> list[str]:
    """The attributes that can be the network's value parameters."""
    return [
        name
        for name, value in example.items()
        if name not in ("shape", "other")
        and not kind_of(OPS[op], name).known
        and not kind_of(OPS[op], name).word
        and not isinstance(value, dict)
        and not (op == "resize" and name == "scale" and isinstance(value, float))
    ]


__all__ = ["FORMS", "NO_LAYER", "USUAL", "Case", "cases", "layer"]
