"""What a verification shows on a terminal, and what it does not show elsewhere."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout

import pytest
from made_up import HOSTILE, differing, hostile

from segspec.parity import terminal
from segspec.parity.process import Doing
from segspec.parity.report import as_text, rows


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """``screen(function, …)``: what a function writes to a terminal of 120 columns."""
    for name, value in (("COLUMNS", "120"), ("LINES", "40"), ("TERM", "xterm-256color")):
        monkeypatch.setenv(name, value)
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)

    def draw(function: Callable[..., None], *arguments: object) -> str:
        made = Terminal()
        with redirect_stdout(made), redirect_stderr(made):
            function(*arguments)
        return made.getvalue()

    return draw


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def work(backends: int = 2) -> None:
    with terminal.progress(backends) as tell:
        tell(Doing("One", "unet", "", 0, 3))
        tell(Doing("Other", "[bold]fcn", "32x48 eval float64", 1, 3))


def test_in_a_pipe_the_table_is_plain_text(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    terminal.show([differing()])
    assert capsys.readouterr().out == as_text([differing()]) + "\n"


def test_no_progress_but_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    work()
    assert capsys.readouterr() == ("", "")


def test_progress_says_which_pass_runs(screen):
    shown = plain(screen(work))
    assert "1/3 networks" in shown
    assert "[bold]fcn: Other, 32x48 eval float64" in shown
    assert "0:00:0" in shown


@pytest.mark.parametrize("group", [1, 2, 3, 6])
def test_the_bar_goes_from_left_to_right(monkeypatch, group):
    """However many networks go to a process at a time."""
    shown: list[tuple[float, float]] = []

    def update(_: object, __: object, *, completed: float, total: float, **___: object) -> None:
        shown.append((completed, total))

    monkeypatch.setattr(terminal.Progress, "update", update)
    with terminal.progress(2) as tell:
        for start in range(0, 6, group):
            for backend in ("One", "Other"):
                for done in range(start, start + group):
                    for share in (0, 0.5, 0.75):
                        tell(Doing(backend, "unet", "a pass", done, 6, share))
    assert {total for _, total in shown} == {12}
    assert [done for done, _ in shown] == sorted(done for done, _ in shown)
    assert shown[0][0] == 0
    assert shown[-1][0] == 12 - 2 * 0.25
    shown.clear()
    with terminal.progress(2) as tell:
        for done in (1, 2, 3):
            tell(Doing("", "unet", "", done, 3))
    assert shown == [(1, 3), (2, 3), (3, 3)]


def test_progress_is_wiped_away(screen):
    assert screen(work).endswith("\x1b[2K")


def test_a_terminal_has_colour_and_every_cell(screen):
    text = screen(terminal.show, [differing()])
    assert re.search("\x1b\\[1;31m *2 DIFFER", text)
    assert re.search("\x1b\\[32m *ok", text)
    for part in ("made_up", "pool", "2.5e-01", "x = pool(x, ceil=True)", "13 of 19 comparisons agree"):
        assert part in plain(text)


def test_no_colour_is_honoured(screen, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    assert not re.search("\x1b\\[[0-9;]*3[0-9]m", screen(terminal.show, [differing()]))


@pytest.mark.parametrize("columns", [60, 80, 120])
@pytest.mark.parametrize("specs", [["made_up"], ["made_up", "another_with_a_name_that_is_rather_long"]])
def test_on_narrow_terminals_names_are_cut_and_numbers_are_not(screen, monkeypatch, columns, specs):
    """A row is a line, and each has its error, its limit and its verdict."""
    monkeypatch.setenv("COLUMNS", str(columns))
    reports = [differing(spec=spec) for spec in specs]
    shown = plain(screen(terminal.show, reports)).splitlines()
    assert max(map(len, shown)) <= columns
    table = [line.split() for line in shown if re.search(r"[0-9]e[-+]\d\d  ", line)]
    for words, row in zip(table, rows(reports), strict=True):
        assert " ".join(words).endswith(" ".join(row[7:]).strip())


def test_strangers_texts_move_no_cursor(screen):
    text = screen(terminal.show, [hostile()])
    assert "\x00" not in text
    assert HOSTILE[HOSTILE.index("\x1b") :][:5] not in text
