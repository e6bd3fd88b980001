"""Specs with mistakes: each folder of ``cases/errors`` holds one and the message it must get.

``pytest --update tests/test_errors.py`` writes the messages anew.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from segspec.cli import main

CASES = sorted(path.parent for path in (Path(__file__).parent / "cases" / "errors").glob("*/spec.yaml"))
SECONDS = 10
"""No message takes longer, on a busy machine too."""


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_message(case: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], update: bool) -> None:
    monkeypatch.chdir(case)
    before = sorted(case.rglob("*"))
    start = time.monotonic()
    status = main(["check", "spec.yaml"])
    taken = time.monotonic() - start
    found = capsys.readouterr()
    expected = case / "expected.txt"
    if update:
        expected.write_text(found.err, encoding="utf-8")
    assert status == 2
    assert found.out == ""
    assert found.err == expected.read_text(encoding="utf-8")
    assert taken < SECONDS
    assert update or sorted(case.rglob("*")) == before


def test_messages_say_what_and_where() -> None:
    assert len(CASES) > 100
    for case in CASES:
        text = (case / "expected.txt").read_text(encoding="utf-8")
        assert "error[" in text, case.name
        assert "Traceback" not in text, case.name
        assert "pydantic" not in text.lower(), case.name
