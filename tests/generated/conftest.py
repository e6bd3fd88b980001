"""Modules made as users make them: written by the command, then imported from the file it wrote."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from segspec.cli import main
from segspec.render.backend import backends
from segspec.spec import zoo

ROOT = Path(__file__).resolve().parents[2]

# What runs here is small: more threads bring little, and tests that run side by side only wait on them.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def generate(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """``generate("unet", "torch", width=24)``: the file that the command wrote."""
    made: dict[str, Path] = {}

    def run(name: str, backend: str, preset: str = "", **settings: Any) -> Path:
        arguments = ["generate", name, "--backend", backend]
        arguments += ["--preset", preset] if preset else []
        arguments += [f"--set={key}={json.dumps(value)}" for key, value in settings.items()]
        key = " ".join(arguments)
        if key not in made:
            folder = tmp_path_factory.mktemp("generated")
            with redirect_stdout(StringIO()):
                assert main([*arguments, "-o", str(folder)]) == 0
            (made[key],) = folder.glob(f"{backend}/*.py")
        return made[key]

    return run


@pytest.fixture(scope="session")
def module(generate: Callable[..., Path]) -> Callable[..., ModuleType]:
    """``module("unet", "torch", width=24)``: the generated module, imported from its file."""
    held: dict[Path, ModuleType] = {}

    def load(*arguments: Any, **settings: Any) -> ModuleType:
        path = generate(*arguments, **settings)
        if path not in held:
            name = f"{path.parent.name}_{path.stem}_{len(held)}"
            spec = importlib.util.spec_from_file_location(name, path)
            assert spec
            assert spec.loader
            held[path] = sys.modules[name] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(held[path])
        return held[path]

    return load


@pytest.fixture(scope="session")
def network(module: Callable[..., ModuleType]) -> Callable[..., type]:
    """``network("unet", "torch", width=24)``: the class that the generated module exports."""

    def load(*arguments: Any, **settings: Any) -> type:
        found = module(*arguments, **settings)
        held: type = getattr(found, found.__all__[0])
        return held

    return load


@pytest.fixture
def templates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the templates that the test may break, in force while it runs."""
    folder = tmp_path / "templates"
    shutil.copytree(zoo.TEMPLATES, folder)
    monkeypatch.setattr(zoo, "TEMPLATES", folder)
    backends.cache_clear()
    yield folder
    monkeypatch.undo()
    backends.cache_clear()
