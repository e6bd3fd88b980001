"""A backend's process may crash, hang or print what it likes: that is a result, and the others have theirs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest
from small import network

from segspec.backends.arrays import Reading
from segspec.cli import main
from segspec.errors import SpecError
from segspec.graph.model import Graph
from segspec.parity.process import RESTARTS
from segspec.parity.recording import Plan, Recording, Task, record
from segspec.render import Backend, render
from segspec.render.backend import backend

ROOT = Path(__file__).resolve().parents[2]
FRAMEWORKS = [pytest.param(name, marks=getattr(pytest.mark, name)) for name in ("torch", "paddle")]
PLAN = Plan(((8, 8),), 2, 0, (8, 8), dtypes=("float64",))
SPEC = "nodes:\n  conv: {op: conv2d, out_channels: 2, kernel_size: 1}\noutputs: [conv]\n"


@pytest.fixture(scope="module")
def graph() -> Graph:
    return network(SPEC)


def _task(graph: Graph, held: Backend, statement: str = "", *, head: str = "") -> Task:
    """The module with a statement before its ``forward``'s own, and one at its head."""
    source = render(graph, held)
    first = "        return self.conv(x)"
    assert source.count(first) == 1
    lines = "".join(f"        {line}\n" for line in statement.splitlines())
    return Task(graph, held, PLAN, f"{source.replace(first, lines + first)}\n{head}\n")


def _fine(recording: Recording) -> bool:
    return recording.failures() == {} and recording.arrays("8x8 train float64") is not None


ENDS = {
    "SIGSEGV": "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)",
    "exit status 3": "import os\nos._exit(3)",
    "exit status 0": "import os\nos._exit(0)",
    "last words": "import os, sys\nsys.stderr.write('last words')\nsys.stderr.flush()\nos._exit(1)",
}


@pytest.mark.parametrize(
    ("name", "ends"),
    [
        pytest.param("torch", list(ENDS), marks=pytest.mark.torch),
        pytest.param("paddle", ["SIGSEGV", "exit status 3"], marks=pytest.mark.paddle),
    ],
)
def test_a_crash_ends_its_own_module_alone(graph: Graph, tmp_path: Path, name: str, ends: list[str]) -> None:
    """Every way to end, in one job: before each and behind it a module that has its results."""
    held = backend(name)
    tasks = [_task(graph, held)]
    for end in ends:
        tasks += [_task(graph, held, ENDS[end]), _task(graph, held)]
    found = record(tasks, tmp_path)
    assert [_fine(item) for item in found] == [True, *[False, True] * len(ends)]
    for said, item in zip(ends, found[1::2], strict=True):
        ((where, why),) = item.failures().items()
        assert where == ""
        assert said in why
        assert "in: calibrate" in why
        assert item.scenes, "what is known without running is still there"


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_crash_is_the_result_of_its_pass_alone(graph: Graph, tmp_path: Path, name: str) -> None:
    """What ran before it has its results, what comes after it is run, on the same statistics."""
    held = backend(name)
    plan = Plan(((8, 8), (6, 8)), 2, 1, (8, 8))
    small = "if self.training and x.shape[2] == 6 and '64' in str(x.dtype):\n    "
    crash = f"{small}import os\n    os.write(2, b'last words')\n    os.abort()"
    task, crashing = (replace(_task(graph, held, statement), plan=plan) for statement in ("", crash))
    whole, found = record([task], tmp_path / "whole")[0], record([crashing], tmp_path / "job")[0]
    ((where, why),) = found.failures().items()
    assert where == "6x8 train float64"
    assert "SIGABRT in: 6x8 train float64" in why
    assert "last words" in why
    assert set(whole.passes) == set(found.passes)
    for asked, held_by in whole.passes.items():
        other = found.arrays(asked)
        if asked != where:
            assert isinstance(held_by, Reading)
            assert other is not None
            assert set(held_by) == set(other), asked
            for entry in held_by:
                one, two = held_by.digest(entry), other.digest(entry)
                assert one is not None
                assert two is not None
                assert (one.values == two.values).all(), (asked, entry)


@pytest.mark.torch
def test_a_network_that_always_crashes_is_given_up(graph: Graph, tmp_path: Path) -> None:
    """And so ends: each time a process is begun anew, which takes seconds."""
    crash = "import os\nif self.training: os._exit(3)"
    plan = Plan(((8, 8), (6, 8), (4, 8)), 2, 1, (8, 8))
    asked = [replace(_task(graph, backend("torch"), statement), plan=plan) for statement in (crash, "")]
    found, after = record(asked, tmp_path)
    said = [why.splitlines()[-1] for why in found.failures().values()]
    ended = [text for text in said if "exit status 3" in text]
    assert len(ended) == RESTARTS
    assert set(said) - set(ended) == {f"it was not run, since {RESTARTS} others had ended their process"}
    assert found.arrays("8x8 eval float64") is not None
    assert after.failures() == {}


def _alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.mark.torch
def test_what_takes_too_long_is_stopped_with_all_that_it_started(graph: Graph, tmp_path: Path) -> None:
    held, note = backend("torch"), tmp_path / "child"
    hangs = (
        "import subprocess, time\n"
        "held = subprocess.Popen(['sleep', '600'])\n"
        f"open({str(note)!r}, 'w').write(str(held.pid))\n"
        "time.sleep(600)"
    )
    began = time.monotonic()
    # Importing the framework counts as a pass too, on a machine that does something else besides.
    before, stopped, after = record(
        [_task(graph, held), _task(graph, held, hangs), _task(graph, held)], tmp_path / "job", timeout=30
    )
    assert time.monotonic() - began < 150
    assert "30 seconds" in stopped.failures()[""]
    assert "calibrate" in stopped.failures()[""]
    assert _fine(before)
    assert _fine(after)
    assert _ends(int(note.read_text()))


def _ends(process: int) -> bool:
    """Whether a process is gone, or soon will be."""
    for _ in range(100):
        if not _alive(process):
            return True
        time.sleep(0.1)
    return False


def _begun(note: Path) -> int:
    """The process that a file names, once it does."""
    for _ in range(1200):
        if note.exists() and note.read_text().endswith("\n"):
            return int(note.read_text())
        time.sleep(0.1)
    raise AssertionError("it did not begin")


@pytest.mark.torch
def test_whoever_is_killed_leaves_no_process_behind(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(f"segspec: 1\nname: tiny\ninputs: {{x: {{channels: 4}}}}\n{SPEC}")
    note = tmp_path / "note"
    hangs = f"open({str(note)!r}, 'w').write(f'{{os.getpid()}}\\n'); time.sleep(600)"
    (tmp_path / "run.py").write_text(
        "from segspec.parity import recording\n"
        "real = recording.render\n"
        f"recording.render = lambda *of: real(*of) + {f'import os, time; {hangs}'!r}\n"
        "from segspec.cli import main\n"
        "main(['record', 'tiny.yaml', '--backend=torch', '--size=8x8', '-o', 'a.safetensors'])\n"
    )
    caller = subprocess.Popen([sys.executable, "run.py"], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)})
    try:
        held = _begun(note)
        assert _alive(held)
    finally:
        caller.kill()
        caller.wait()
    assert _ends(held)


@contextmanager
def _verifying(folder: Path, **handlers: signal.Handlers) -> Iterator[tuple[subprocess.Popen[bytes], int, Path]]:
    """A verification that never ends, its backend's process, and the folder of its files; signals are so handled."""
    (folder / "tiny.yaml").write_text(f"segspec: 1\nname: tiny\ninputs: {{x: {{channels: 4}}}}\n{SPEC}")
    script, note, temporary = folder / "python", folder / "note", folder / "temporary"
    temporary.mkdir()
    script.write_text(f"#!/bin/sh\necho $$ > {note}\nsleep 600\n")
    script.chmod(0o755)
    pythons = [f"--python={name}={script}" for name in ("torch", "paddle")]
    caller = subprocess.Popen(
        [sys.executable, "-m", "segspec", "verify", "tiny.yaml", *pythons],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(temporary)},
        stderr=subprocess.PIPE,
        # Whoever runs these tests in the background has some of them ignored.
        preexec_fn=lambda: [signal.signal(getattr(signal, name), how) for name, how in handlers.items()],
    )
    try:
        yield caller, _begun(note), temporary
    finally:
        caller.kill()
        caller.communicate()


@pytest.mark.parametrize("end", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_whoever_is_ended_clears_everything_away(tmp_path: Path, end: str) -> None:
    with _verifying(tmp_path, **{end: signal.SIG_DFL}) as (caller, held, temporary):
        assert list(temporary.iterdir())
        caller.send_signal(getattr(signal, end))
        _, said = caller.communicate(timeout=60)
        assert caller.returncode == 130
        assert said == b""
        assert _ends(held)
        assert not list(temporary.iterdir())


def test_whoever_is_to_survive_the_terminal_does(tmp_path: Path) -> None:
    """As ``nohup`` has it."""
    with _verifying(tmp_path, SIGHUP=signal.SIG_IGN, SIGTERM=signal.SIG_DFL) as (caller, held, _):
        caller.send_signal(signal.SIGHUP)
        with pytest.raises(subprocess.TimeoutExpired):
            caller.wait(1)
        assert _alive(held)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_what_is_printed_is_no_event_and_what_is_read_is_nothing(graph: Graph, tmp_path: Path, name: str) -> None:
    prints = (
        "import os, sys\n"
        "assert sys.stdin.read() == ''\n"
        "for stream in (sys.stdout, sys.stderr):\n"
        '    stream.write(\'{"module": "m0"}\\n\' * 20_000)\n'
        "    stream.flush()\n"
        "os.write(1, b'x' * 300_000)\n"
        "os.write(2, b'\\xff\\n' * 300_000)\n"
        "os.system('echo {}')"
    )
    noisy, quiet = record([_task(graph, backend(name), prints), _task(graph, backend(name))], tmp_path)
    assert _fine(noisy)
    assert _fine(quiet)


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_an_exception_ends_its_own_pass_alone(graph: Graph, tmp_path: Path, name: str) -> None:
    held = backend(name)
    one_mode, at_import, on_exit = record(
        [
            _task(graph, held, "if self.training: raise ZeroDivisionError('only in training')"),
            _task(graph, held, head="raise RuntimeError('no module')"),
            _task(graph, held, "import sys\nif self.training: sys.exit('leaves')"),
        ],
        tmp_path,
    )
    assert set(one_mode.failures()) == {"8x8 train float64"}
    assert "only in training" in one_mode.failures()["8x8 train float64"]
    assert "module.py" in one_mode.failures()["8x8 train float64"], "a traceback that leads to the line"
    assert one_mode.arrays("8x8 eval float64") is not None
    assert set(at_import.failures()) == {""}
    assert "no module" in at_import.failures()[""]
    assert set(on_exit.failures()) == {"8x8 train float64"}
    assert "leaves" in on_exit.failures()["8x8 train float64"]
    assert on_exit.arrays("8x8 eval float64") is not None


@pytest.mark.torch
def test_a_source_that_is_no_python_is_a_failure_with_its_line(graph: Graph, tmp_path: Path) -> None:
    """Also where it is held to the marks, before any process runs."""
    (found,) = record([Task(graph, backend("torch"), PLAN, "class Example:\n    def forward(self:\n")], tmp_path)
    assert "SyntaxError" in found.failures()[""]
    assert "line 2" in found.failures()[""]


# --- interpreters ------------------------------------------------------------------------------------


def _refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["verify", "unet", "--set=width=4", "--size=32x32", "--steps=0", "--no-starts", *arguments]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "Traceback" not in shown.err
    return shown.err


@pytest.mark.torch
@pytest.mark.paddle
@pytest.mark.parametrize(
    "kind", ["absent", "a folder", "not executable", "no program", "no framework", "another program"]
)
def test_an_interpreter_that_cannot_be_used_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    path = tmp_path / "python"
    if kind == "a folder":
        path.mkdir()
    elif kind != "absent":
        # -S: without any site-packages, so without a framework and NumPy.
        texts = {
            "no framework": f'#!/bin/sh\nexec {sys.executable} -S "$@"\n',
            "another program": "#!/bin/sh\necho 1; echo hello; exit 1\n",
        }
        path.write_text(texts.get(kind, "neither a script nor a program\n"))
        path.chmod(0o644 if kind == "not executable" else 0o755)
    shown = _refused([f"--python=torch={path}"], capsys)
    assert str(path) in shown
    assert "PyTorch" in shown
    assert "give the path" in shown
    if kind == "no framework":
        assert "numpy" in shown


@pytest.mark.parametrize("argument", ["jax=/usr/bin/python3", "torch", "torch=", "=x"])
def test_an_interpreter_of_nobody_is_refused(capsys: pytest.CaptureFixture[str], argument: str) -> None:
    assert main(["verify", "unet", f"--python={argument}"]) == 2
    assert "Traceback" not in capsys.readouterr().err


def _needed(name: str) -> Iterator[metadata.Distribution]:
    """A distribution and what it needs, as far as it is installed."""
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        wanted = waiting.pop().lower()
        if wanted in seen:
            continue
        seen.add(wanted)
        try:
            held = metadata.distribution(wanted)
        except metadata.PackageNotFoundError:
            continue
        yield held
        for requirement in held.requires or ():
            if "extra ==" not in requirement:
                waiting.append(
                    requirement.replace("(", " ")
                    .split(";")[0]
                    .split("[")[0]
                    .split("<")[0]
                    .split(">")[0]
                    .split("=")[0]
                    .split("!")[0]
                    .split("~")[0]
                    .strip()
                )


def _alone(name: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter that has one framework and what that needs, and neither segspec nor the other."""
    folder = tmp_path_factory.mktemp("environment")
    command = [sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")]
    subprocess.run(command, check=True, capture_output=True)
    packages = next((folder / "venv").glob("lib/python*/site-packages"))
    for wanted in ("torch" if name == "torch" else "paddlepaddle", "numpy"):
        for held in _needed(wanted):
            for top in {file.parts[0] for file in held.files or () if ".." not in file.parts}:
                source, target = Path(str(held.locate_file(top))), packages / top
                if source.exists() and not target.exists() and top != "__pycache__":
                    target.symlink_to(source)
    return folder / "venv" / "bin" / "python"


@pytest.mark.torch
@pytest.mark.paddle
@pytest.mark.parametrize(("own", "other"), [("torch", "paddle"), ("paddle", "torch")])
def test_a_backend_runs_in_an_environment_of_its_own(
    own: str,
    other: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    alone = _alone(own, tmp_path_factory)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.chdir(tmp_path)
    for name, there in ((own, True), ("numpy", True), (other, False), ("segspec", False)):
        command = [str(alone), "-c", f"import importlib.util as u; print(u.find_spec({name!r}) is not None)"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == str(there), name
    with pytest.raises(SpecError, match=rf"segspec\[{other}\]"):
        record([_task(network(SPEC), backend(other))], tmp_path, python=str(alone))
    arguments = ["verify", "unet", "--set=width=4", "--size=32x32", "--steps=1", f"--python={own}={alone}"]
    assert main(arguments) == 0
    assert "agree" in capsys.readouterr().out
