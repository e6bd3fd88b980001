"""What tests of the tools for continuous integration share: small specs, in a repository that is thrown away."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

SPEC = """\
segspec: 1
name: {name}
title: A small network
params: {{width: 4}}
presets:
  wide: {{width: 6}}
inputs: {{image: {{channels: 3}}}}
nodes:
  conv: {{op: conv2d, out_channels: width, kernel_size: 3, padding: 1}}
  pool: {{op: max_pool2d, kernel_size: 2}}
  big: {{op: resize, like: conv, mode: bilinear, align_corners: false}}
outputs: [big]
"""


@pytest.fixture
def spec() -> Callable[[Path, str], Path]:
    """``spec(folder, "small")``: writes the spec of a small network with one preset."""

    def write(folder: Path, name: str) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{name}.yaml"
        path.write_text(SPEC.format(name=name), encoding="utf-8")
        return path

    return write


@pytest.fixture
def tools(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which ``segspec`` and ``python`` are this checkout's, and git knows who commits."""
    folder = tmp_path_factory.mktemp("bin")
    for name, command in (("segspec", "-m segspec "), ("python", "")):
        (folder / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {command}"$@"\n', encoding="utf-8")
        (folder / name).chmod(0o755)
    git = {f"GIT_{role}_{what}": "ci@localhost" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    own = {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "GIT_CONFIG_NOSYSTEM": "1"}
    return {**os.environ, **own, **git, "HOME": str(folder), "PRE_COMMIT_HOME": str(folder / "pre-commit")}


@pytest.fixture
def repository(tmp_path: Path, spec: Callable[[Path, str], Path], tools: dict[str, str]) -> Path:
    """A git repository with two specs, the blocks of one of them, and what is generated of both."""
    root = tmp_path / "repository"
    spec(root / "specs", "small")
    path = spec(root / "specs", "other")
    path.write_text(path.read_text().replace("params:", "import: {blocks/conv.yaml: [ConvBnRelu]}\nparams:"))
    path.write_text(path.read_text().replace("  pool:", "  more: {block: ConvBnRelu, out_channels: width}\n  pool:"))
    (root / "specs/blocks").mkdir()
    (root / "specs/blocks/conv.yaml").write_text((ROOT / "specs/blocks/conv.yaml").read_text())
    for command in (["git", "init", "-q"], ["segspec", "generate", "--all", "specs"], ["git", "add", "-A"]):
        subprocess.run(command, cwd=root, env=tools, check=True, capture_output=True)
    subprocess.run(["git", "commit", "-qm", "Specs"], cwd=root, env=tools, check=True, capture_output=True)
    return root
