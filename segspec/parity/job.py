"""A network, and what is to be done with it, as plain data that may travel to where segspec is but not the files."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segspec.errors import fail, shown
from segspec.graph.elaborate import elaborate
from segspec.graph.model import Graph
from segspec.parity.settings import Settings
from segspec.render import Backend
from segspec.render.backend import backend
from segspec.spec import zoo
from segspec.spec.load import load


@dataclass(frozen=True)
class Source:
    """What a network is made of.

    ``files`` are the texts of the spec and of what it imports beside it, by path, its own under ``spec``; none of a
    network of the zoo, whose ``spec`` is its place there. ``digest`` is that of all of them, the zoo's included.
    """

    spec: str
    files: Mapping[str, str]
    digest: str
    preset: str
    settings: Mapping[str, Any]

    def graph(self) -> Graph:
        """The network; raises :class:`SpecError` where the zoo of this machine is not the one it comes from."""
        with tempfile.TemporaryDirectory(prefix="segspec-") as name:
            folder = Path(name) if self.files else zoo.SPECS
            for file in (self.spec, *self.files):
                if not (folder / file).resolve().is_relative_to(folder.resolve()):
                    raise fail("recording", f"{shown(file)} is no file of a spec's folder")  # a stranger's
            for file, text in self.files.items():
                path = folder / file
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8", newline="")
            definition = load(folder / self.spec)
        if definition.file.digest() != self.digest:
            message = f"what {self.spec} imports is not the same in the zoo of this segspec as where it comes from"
            raise fail("version", message, remedy="use the same version of segspec in both places")
        return elaborate(definition, self.settings, self.preset)


@dataclass(frozen=True)
class Job:
    """What :func:`~segspec.parity.verify.perform` needs of a network."""

    network: Source
    backends: tuple[str, ...]
    asked: Settings

    def chosen(self) -> list[Backend]:
        """The backends."""
        return [backend(name) for name in self.backends]


def job(graph: Graph, backends: Sequence[Backend], asked: Settings) -> Job:
    """A graph as a job."""
    return Job(source(graph), tuple(held.name for held in backends), asked)


def source(graph: Graph) -> Source:
    """What a graph is made of."""
    file = graph.definition.file
    path = file.path.resolve()
    if zoo.SPECS in path.parents:
        spec, files = path.relative_to(zoo.SPECS).as_posix(), {}
    else:
        beside = [other for other in file.closure() if zoo.SPECS not in other.path.parents]
        spec = file.path.name
        files = {other.path.relative_to(file.path.parent).as_posix(): other.document.text for other in beside}
    return Source(spec, files, file.digest(), graph.preset, dict(graph.settings))
