"""The hooks for pre-commit, run by pre-commit in a repository that is thrown away."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]

pytest.importorskip("pre_commit")

HOOKS = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))


@pytest.fixture
def commit(repository, tools):
    """Stage everything and commit it; the hooks are the file's own, run in the environment at hand."""
    hooks = [{**hook, "language": "system"} for hook in HOOKS]
    config = {"repos": [{"repo": "local", "hooks": hooks}]}
    (repository / ".pre-commit-config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    run = {"cwd": repository, "env": tools, "capture_output": True, "text": True}
    subprocess.run(["python", "-m", "pre_commit", "install"], check=True, **run)

    def start():
        subprocess.run(["git", "add", "-A"], check=True, **run)
        done = subprocess.run(["git", "commit", "-m", "A change"], check=False, **run)
        return done.returncode, done.stdout + done.stderr

    return start


def test_what_is_in_order_is_committed(commit):
    status, text = commit()
    assert status == 0, text
    assert text.count("Passed") == 2, text


def test_a_mistake_in_a_spec_stops_the_commit(commit, repository):
    path = repository / "specs/blocks/conv.yaml"
    path.write_text(path.read_text().replace("op: conv2d", "op: conv3d", 1))
    status, text = commit()
    assert status == 1
    assert "did you mean 'conv2d'?" in text
    assert "specs/blocks/conv.yaml:" in text


@pytest.mark.parametrize("edited", ["specs/small.yaml", "generated/torch/small_wide.py"])
def test_generated_code_that_has_drifted_stops_the_commit(commit, repository, edited):
    """Also where only a preset's has, and whichever of the two was edited."""
    path = repository / edited
    path.write_text(
        path.read_text().replace("kernel_size: 3", "kernel_size: 5").replace("kernel_size=3", "kernel_size=5")
    )
    status, text = commit()
    assert status == 1
    assert "+++ generated/torch/small_wide.py" in text


def test_other_files_run_no_hook(commit, repository):
    assert commit()[0] == 0
    (repository / "notes.txt").write_text("a note\n")
    status, text = commit()
    assert status == 0
    assert text.count("Skipped") == 2
