"""Specs with mistakes: each folder of ``cases/errors`` holds one and what ``segspec check`` says of it.

``pytest --update tests/test_errors.py`` writes the messages anew.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from segspec.cli import main

CASES = Path(__file__).parent / "cases" / "errors"
SECONDS = 5
MEMORY = 2**30

SPEC = b"""segspec: 1
name: net
params: {in_channels: 3}
inputs: {image: {channels: in_channels}}
nodes:
  conv: {op: conv2d, out_channels: 4, kernel_size: 1}
outputs: [conv]
"""

MADE: dict[str, Callable[[], bytes]] = {
    "yaml_large": lambda: SPEC + b"# " + b"x" * 5_000_000,
    "yaml_many_values": lambda: SPEC + b"let:\n" + b"".join(b"  a%d: %d\n" % (i, i) for i in range(60_000)),
    "yaml_many_names": lambda: SPEC + b"let:\n" + b"".join(b"  a%d: %d\n" % (i, i) for i in range(10_000)),
    "yaml_many_keys": lambda: SPEC + b"".join(b"a%d: %d\n" % (i, i) for i in range(20_000)),
    "yaml_deep_lists": lambda: b"doc: " + b"[" * 100_000,
    "yaml_deep_mappings": lambda: b"{a: " * 100_000,
    "yaml_deep_indents": lambda: b"".join(b" " * i + b"a:\n" for i in range(1_300)),
    "yaml_deep_dashes": lambda: b"- " * 100_000,
    "yaml_nothing_but_nul": lambda: b"\0" * 1_000,
    "yaml_bytes": lambda: bytes(range(256)) * 100,
    "yaml_long_key": lambda: SPEC + b"k" * 5_000 + b": 3\n",
    "yaml_long_name": lambda: SPEC.replace(b"  conv:", b"  " + b"n" * 300 + b": {op: relu}\n  conv:"),
    "yaml_long_number": lambda: SPEC.replace(b": 4,", b": " + b"9" * 5_000 + b","),
    "expression_digits": lambda: SPEC.replace(b": 4,", b': "1 + ' + b"9" * 1_900 + b'",'),
    "expression_hexadecimal": lambda: SPEC.replace(b": 4,", b': "0x' + b"f" * 1_900 + b' % 7",'),
}
"""Specs too large, or too odd, to lie in a repository."""

ONLY_CHECK = {"expect", "preset_choices"}
"""What keeps a spec from being in order, but not from being generated at its defaults."""

HEAVY = (
    "deep_blocks",
    "exponential_requirements",
    "expressions_steps",
    "let_bomb",
    "let_form_bomb",
    "list_parameter_bomb",
    "many_classes",
    "size_pattern_too_long",
    "ten_million_by_blocks",
    "ten_million_by_repeat",
    "ten_million_empty_loops",
    "ten_million_nodes",
    "yaml_billion_laughs",
    "yaml_deep_lists",
    "yaml_many_keys",
    "yaml_many_values",
)
"""What would take hours and gigabytes if nothing bounded it."""

NAMES = sorted({path.parent.name for path in CASES.glob("*/spec.yaml")} | MADE.keys())


def expected(name: str, found: str, *, update: bool) -> str:
    """The message that a case must get."""
    path = CASES / name / "expected.txt"
    if update:
        path.parent.mkdir(exist_ok=True)
        path.write_text(found, encoding="utf-8")
    return path.read_text(encoding="utf-8")


def folder_of(name: str, elsewhere: Path) -> Path:
    """Where a case's spec lies: in its folder, or, if it is made, elsewhere."""
    if name not in MADE:
        return CASES / name
    (elsewhere / "spec.yaml").write_bytes(MADE[name]())
    return elsewhere


@pytest.mark.parametrize("name", [name for name in NAMES if name not in HEAVY])
def test_message(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], update: bool
) -> None:
    folder = folder_of(name, tmp_path)
    before = sorted(folder.rglob("*"))
    monkeypatch.chdir(folder)
    start = time.process_time()
    status = main(["check", "spec.yaml"])
    taken = time.process_time() - start
    written = capsys.readouterr()
    assert status == 2
    assert written.out == ""
    assert written.err == expected(name, written.err, update=update)
    assert taken < SECONDS
    assert name in ONLY_CHECK or main(["generate", "spec.yaml", "-o", "out"]) == 2
    assert update or sorted(folder.rglob("*")) == before


@pytest.mark.slow
@pytest.mark.parametrize("name", HEAVY)
def test_within_bounds(name: str, tmp_path: Path, update: bool) -> None:
    """In a process of its own, that may take a gigabyte."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))

    done = subprocess.run(
        [sys.executable, "-m", "segspec", "check", "spec.yaml"],
        cwd=folder_of(name, tmp_path),
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=limit,
    )
    assert done.returncode == 2
    assert done.stderr == expected(name, done.stderr, update=update)


def test_the_corpus() -> None:
    assert {path.name for path in CASES.iterdir()} == set(NAMES)
    assert set(HEAVY) | ONLY_CHECK <= set(NAMES)


def test_messages_are_for_their_readers() -> None:
    """Whatever else they say: what is wrong, and nothing of how segspec is made."""
    inside = ("Traceback", "pydantic", "Input should", "validation error", "NoneType", "<class", "ExpressionError")
    for name in NAMES:
        text = (CASES / name / "expected.txt").read_text(encoding="utf-8")
        firsts = [problem.split("\n")[0] for problem in text.split("\n\n")]
        assert all("error[" in first or first.startswith("… and ") for first in firsts), name
        assert not any(word in text for word in inside), name
        assert all(char.isprintable() or char == "\n" for char in text), name
