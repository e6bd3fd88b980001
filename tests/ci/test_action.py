"""The GitHub Action, its steps run as the runner would, in a repository that is thrown away."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]

ACTION = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
EXPRESSION = re.compile(r"\$\{\{\s*(.*?)\s*\}\}")
COMPARISON = re.compile(r"(\S+) (==|!=) '(.*)'")


class Runner:
    """As much of a runner as the action needs: contexts' names, comparisons with a text, outputs of steps."""

    def __init__(self, folder, environment, temporary):
        self.folder = folder
        self.environment = environment
        self.output = temporary / "output"
        self.contexts = {"github.action_path": str(ROOT), "runner.temp": str(temporary)}

    def value(self, text):
        return EXPRESSION.sub(lambda found: self.contexts[found[1]], text)

    def holds(self, condition):
        name, sign, text = COMPARISON.fullmatch(EXPRESSION.fullmatch(condition)[1]).groups()
        return (self.contexts[name] == text) is (sign == "==")

    def run(self, **inputs):
        """The names of the steps that ran, the status of the last, and what they printed."""
        assert set(inputs) <= set(ACTION["inputs"])
        given = {name: held["default"] for name, held in ACTION["inputs"].items()} | inputs
        self.contexts |= {f"inputs.{name}": value for name, value in given.items()}
        ran, text = [], ""
        for step in ACTION["runs"]["steps"]:
            if "if" in step and not self.holds(step["if"]):
                continue
            own = {name: self.value(value) for name, value in step["env"].items()}
            done = subprocess.run(
                ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
                cwd=self.folder,
                env={**self.environment, "GITHUB_OUTPUT": str(self.output), **own},
                capture_output=True,
                text=True,
                check=False,
            )
            ran.append(step["name"])
            text += done.stdout + done.stderr
            if done.returncode:
                return ran, done.returncode, text
            if "id" in step:
                lines = self.output.read_text(encoding="utf-8").splitlines()
                held = dict(line.split("=", 1) for line in lines)
                self.contexts |= {f"steps.{step['id']}.outputs.{name}": value for name, value in held.items()}
        return ran, 0, text


@pytest.fixture
def runner(repository, tools, tmp_path):
    return Runner(repository, tools, tmp_path)


NOTHING = {"python": sys.executable, "verify": "false"}


def test_what_it_says_of_itself():
    assert ACTION["runs"]["using"] == "composite"
    for name, held in {**ACTION["inputs"], **ACTION["outputs"]}.items():
        assert held["description"].endswith("."), name
    for name, held in ACTION["inputs"].items():
        assert isinstance(held["default"], str), name
    used = set(re.findall(r"inputs\.(\w+)", (ROOT / "action.yml").read_text(encoding="utf-8")))
    assert used == set(ACTION["inputs"])
    for step in ACTION["runs"]["steps"]:
        assert step["shell"] == "bash"
        assert "${{" not in step["run"], "an input in a script can become code"


def test_a_repository_in_order(runner):
    ran, status, text = runner.run(**NOTHING)
    assert (ran, status) == (["Install segspec", "Check the specs", "Check what is generated"], 0), text


def test_one_backend_without_generated_code(runner):
    assert runner.run(**NOTHING, generated="")[:2] == (["Install segspec", "Check the specs"], 0)
    (runner.folder / "generated/paddle/small.py").unlink()
    assert runner.run(**NOTHING, backends="torch")[1] == 0
    assert runner.run(**NOTHING, backends="torch paddle")[1] == 1


def test_generated_code_that_has_drifted(runner):
    path = runner.folder / "generated/torch/small.py"
    path.write_text(path.read_text().replace("padding=1", "padding=2"))
    ran, status, text = runner.run(**NOTHING)
    assert (ran[-1], status) == ("Check what is generated", 1)
    assert "+++ generated/torch/small.py" in text


@pytest.mark.parametrize("specs", ["specs/none", "$(touch made)", "specs; touch made", '"; touch made; "'])
def test_specs_that_are_none(runner, specs):
    ran, status, text = runner.run(**NOTHING, specs=specs)
    assert (ran[-1], status) == ("Check the specs", 2)
    assert "Traceback" not in text
    assert not (runner.folder / "made").exists()


@pytest.mark.torch
@pytest.mark.paddle
def test_it_verifies(runner):
    (runner.folder / "specs/other.yaml").unlink()
    one = {"python": sys.executable, "sizes": "8x8"}
    ran, status, text = runner.run(**one)
    assert (ran[-1], status) == ("Verify", 0), text
    assert "comparisons agree" in text
    # One backend has nothing that it could be held against.
    assert runner.run(**one, backends="torch")[1] == 2


@pytest.mark.slow
def test_it_installs_segspec(runner):
    """Without frameworks, which only verifying needs."""
    runner.environment.pop("PYTHONPATH")
    ran, status, text = runner.run(extras="", verify="false")
    if "No matching distribution found for hatchling" in text:
        pytest.skip("no package index can be reached")
    assert (ran[-1], status) == ("Check what is generated", 0), text
    assert runner.contexts["steps.environment.outputs.python"] == f"{runner.contexts['runner.temp']}/segspec/bin/python"
