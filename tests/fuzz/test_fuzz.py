"""The fuzzer's own tests, in a process of their own: it holds both frameworks, set up as no other test expects them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.torch
@pytest.mark.paddle
def test_random_specs_agree_and_what_was_found_stays_mended() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(Path(__file__).parent / "kept.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-5_000:]
    assert " passed" in done.stdout
