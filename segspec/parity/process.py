"""Backends' processes: one each, killed and reported when it takes too long, and begun anew after a crash."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segspec.errors import Problem, SpecError, fail
from segspec.render import Backend

BACKENDS = Path(__file__).resolve().parent.parent / "backends"
MISSING = 3
TIMEOUT = 900.0
"""Seconds that one pass of one network may take."""


BEAT = 0.5
"""Seconds after which it is told again what a process is at."""
RESTARTS = 3
"""How many passes of one network may end their process, or take too long, before the rest is not tried."""


@dataclass(frozen=True)
class Doing:
    """What a backend's process is at: a pass of a network (none while it is imported).

    ``done`` is how many networks of ``total`` it has done, ``share`` what it has done of this one's passes.
    """

    backend: str
    network: str
    run: str
    done: int
    total: int
    share: float = 0.0


Tell = Callable[[Doing], None]
"""What is told of the progress; where it raises, the process ends."""


@dataclass
class Outcome:
    """What one process returned: what each module's passes recorded, and which versions it ran."""

    modules: dict[str, dict[str, Any]] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    """What the process itself took: importing the framework, building networks, running them."""


def execute(
    backend: Backend,
    modules: Sequence[Mapping[str, Any]],
    folder: Path,
    *,
    python: str = "",
    timeout: float = TIMEOUT,
    tell: Tell | None = None,
) -> Outcome:
    """Run modules in a process of their backend; a crash or a time-out ends one pass, not the others.

    ``python`` is the interpreter, by default this one; it needs the framework and NumPy alone. Raises
    :class:`SpecError` where it cannot be started or has no framework.
    """
    outcome = Outcome({module["name"]: {} for module in modules})
    ends = dict.fromkeys(outcome.modules, 0)
    for name in outcome.modules:  # the folder may be that of an earlier run
        for kind in ("bin", "jsonl"):
            (folder / f"{name}.{kind}").unlink(missing_ok=True)
    waiting = list(modules)
    while waiting:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "job.json").write_text(json.dumps({"modules": waiting}), encoding="utf-8")
        began = time.perf_counter()
        ended, run = _watch(backend, folder, python, timeout, tell or quiet, outcome, modules)
        outcome.seconds += time.perf_counter() - began
        for module in waiting:
            outcome.modules[module["name"]] |= _results(folder / f"{module['name']}.jsonl")
        waiting = [module for module in waiting if _left(module, outcome)]
        if waiting:  # it ended in the first of them
            first = waiting[0]
            ends[first["name"]] += 1
            _end(first, run, ended, ends[first["name"]], outcome)
            # Passes that the others need are run again: they come to the same.
            left = [asked for asked in first["passes"] if asked.get("needed") or asked in _left(first, outcome)]
            waiting[:1] = [{**first, "passes": left}] if _left(first, outcome) else []
    return outcome


def _results(path: Path) -> dict[str, Any]:
    """What a module's passes have left behind since it was last asked for, by pass."""
    if not path.exists():
        return {}
    *lines, _ = path.read_text(encoding="utf-8").split("\n")  # a process that is killed may not end its last line
    path.unlink()
    return dict(map(json.loads, lines))


def _left(module: Mapping[str, Any], outcome: Outcome) -> list[Mapping[str, Any]]:
    """The passes of a module that have no result."""
    found = outcome.modules[module["name"]]
    return [] if "" in found else [asked for asked in module["passes"] if asked["id"] not in found]


def _end(module: Mapping[str, Any], run: str, why: str, times: int, outcome: Outcome) -> None:
    """Put down that a module's process ended in a pass, and what else of it is not run for that."""
    found = outcome.modules[module["name"]]
    if not run or any(asked.get("needed") for asked in module["passes"] if asked["id"] == run):
        outcome.modules[module["name"]] = {"": {"failure": why}}
        return
    found[run] = {"failure": why}
    if times == RESTARTS:
        for asked in _left(module, outcome):
            found[asked["id"]] = {"failure": f"it was not run, since {times} others had ended their process"}


def quiet(_: Doing) -> None:
    """What is told of the progress where nobody wants to know."""


def _watch(
    backend: Backend,
    folder: Path,
    python: str,
    timeout: float,
    tell: Tell,
    outcome: Outcome,
    modules: Sequence[Mapping[str, Any]],
) -> tuple[str, str]:
    """Run the job; how its process ended, and in which pass."""
    names = [module["name"] for module in modules]
    passes = [[asked["id"] for asked in module["passes"]] for module in modules]
    command = [python or sys.executable, "-W", "ignore", str(BACKENDS / f"on_{backend.name}.py"), str(folder)]
    with tempfile.TemporaryFile() as errors:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,  # nothing comes, but its end where this process is no more
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
                env=_environment(),
            )
        except OSError as error:
            raise fail(
                "interpreter",
                f"{backend.title} cannot be run by {python or sys.executable}: {error.strerror}",
                remedy=f"give the path of an interpreter: --python {backend.name}=/path/to/python",
            ) from None
        _running.add(process)
        starting = True
        late, run, doing = False, "", "importing the framework"
        told: Doing | None = None
        try:
            for event in _events(process, timeout):
                if event is None:
                    late = True
                    break
                if "version" in event:
                    outcome.environment = {name: str(value) for name, value in event.items()}
                    starting = False
                elif "run" in event:
                    run, index = event["run"], names.index(event["module"])
                    doing = run or "importing the module"
                    share = passes[index].index(run) / len(passes[index]) if run else 0.0
                    told = Doing(backend.title, modules[index]["title"], run, index, len(modules), share)
                if told:
                    tell(told)
            if not late:
                _wait(process)
        finally:
            interrupted = process not in _running
            _running.discard(process)
            _kill(process)
            for pipe in (process.stdin, process.stdout):
                pipe.close()  # type: ignore[union-attr]
        if interrupted:
            raise KeyboardInterrupt
        if late:
            return f"it was stopped after {timeout:g} seconds in: {doing}", run
        errors.seek(0, os.SEEK_END)
        errors.seek(max(errors.tell() - 2_000, 0))
        said = errors.read().decode("utf-8", "replace").strip()
        if process.returncode < 0:
            name = signal.Signals(-process.returncode).name
            return f"{said}\nthe process was ended by {name} in: {doing}".strip(), run
        if starting:
            _refuse(backend, python, process.returncode, said)
        return f"{said}\nthe process ended with exit status {process.returncode} in: {doing}".strip(), run


def interrupt() -> None:
    """End the backends' processes that other threads wait for; these are interrupted then."""
    while _running:
        _end_group(_running.pop())


_running: set[subprocess.Popen[bytes]] = set()


def _refuse(backend: Backend, python: str, status: int, said: str) -> None:
    """Raise :class:`SpecError` for an interpreter that got no further than its imports."""
    if status == MISSING:
        raise SpecError(missing(backend, python))
    if python:
        why = said.splitlines()[-1] if said else f"it ended with exit status {status}"
        raise fail(
            "interpreter",
            f"{backend.title} cannot be run by {python}: {why}",
            remedy=f"give the path of a Python that has {backend.title} and NumPy",
        )


def require(backends: Sequence[Backend]) -> None:
    """Raise :class:`SpecError` naming the extra to install where this interpreter lacks a framework."""
    problems = [missing(held) for held in backends if importlib.util.find_spec(held.module) is None]
    if problems:
        raise SpecError(problems)


def missing(backend: Backend, python: str = "") -> Problem:
    """The problem that a framework is missing, with what to install."""
    where = f" for {python}" if python else ""
    message = f"{backend.title} is not installed{where}, so nothing can be verified with it"
    pip = f"{python} -m pip" if python else "pip"
    return Problem("missing-framework", message, remedy=f"{pip} install 'segspec[{backend.extra}]'")


def _environment() -> dict[str, str]:
    """The process's environment.

    Python writes no compiled files beside the scripts, whose folder may not be its own. One thread, unless
    ``OMP_NUM_THREADS`` says otherwise: on small maps more of them wait for each other longer than they work.
    """
    return {"OMP_NUM_THREADS": "1", **os.environ, "PYTHONDONTWRITEBYTECODE": "1"}


def _events(process: subprocess.Popen[bytes], timeout: float) -> Any:
    """The events of a process until it ends, an empty one while there is none; None where none came in time."""
    assert process.stdout is not None
    os.set_blocking(process.stdout.fileno(), False)
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        heard = time.monotonic()
        while True:
            if not selector.select(min(BEAT, timeout)):
                if time.monotonic() - heard >= timeout:
                    yield None
                    return
                yield {}
                continue
            heard = time.monotonic()
            part = process.stdout.read()
            if not part:
                return
            *lines, rest = (rest + part).split(b"\n")
            for line in lines:
                with contextlib.suppress(ValueError):  # another program than Python may say anything
                    event = json.loads(line)
                    if isinstance(event, dict):
                        yield event


def _wait(process: subprocess.Popen[bytes]) -> None:
    """Let a process that closed its events end by itself, for a while."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(10)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a process, if it has not ended, and all that it started."""
    _end_group(process)
    process.wait()


def _end_group(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
