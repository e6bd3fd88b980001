"""Some mutants of each kind: verify catches all but those of which ``bench/survivors.yaml`` says why it cannot."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.torch
@pytest.mark.paddle
@pytest.mark.slow
def test_mutants_are_caught():
    command = [sys.executable, str(ROOT / "bench" / "mutants.py"), "--sample", "2"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
