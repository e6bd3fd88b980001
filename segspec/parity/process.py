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


@dataclass(frozen=True)
class Doing:
    """What a backend's process is at: a pass of a network (none while it is built); how many networks it has done."""

    backend: str
    network: str
    run: str
    done: int
    total: int


Tell = Callable[[Doing], None]


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
    """Run modules in a process of their backend; a crash or a time-out ends one module, not the others.

    ``python`` is the interpreter, by default this one; it needs the framework and NumPy alone. Raises
    :class:`SpecError` where it cannot be started or has no framework.
    """
    outcome = Outcome()
    titles = {module["name"]: module["title"] for module in modules}
    waiting = list(modules)
    while waiting:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "job.json").write_text(json.dumps({"modules": waiting}), encoding="utf-8")
        began = time.perf_counter()
        ended = _watch(backend, folder, python, timeout, tell or quiet, outcome, titles)
        outcome.seconds += time.perf_counter() - began
        left = []
        for module in waiting:
            result = folder / f"{module['name']}.json"
            if result.exists():
                outcome.modules[module["name"]] = json.loads(result.read_text(encoding="utf-8"))
            else:
                left.append(module)
        if left:
            # It ended in the first of them.
            outcome.modules[left[0]["name"]] = {"": {"failure": ended}}
        waiting = left[1:]
    return outcome


def quiet(_: Doing) -> None:
    """What is told of the progress where nobody wants to know."""


def _watch(
    backend: Backend,
    folder: Path,
    python: str,
    timeout: float,
    tell: Tell,
    outcome: Outcome,
    titles: Mapping[str, str],
) -> str:
    """Run the job; how its process ended."""
    command = [python or sys.executable, "-W", "ignore", str(BACKENDS / f"on_{backend.name}.py"), str(folder)]
    with tempfile.TemporaryFile() as errors:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
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
        doing = starting = "importing the framework"
        late = False
        try:
            for event in _events(process, timeout):
                if event is None:
                    late = True
                    break
                if "version" in event:
                    outcome.environment = {name: str(value) for name, value in event.items()}
                    doing = ""
                elif "run" in event:
                    doing = event["run"] or "building the network"
                    name = event["module"]
                    tell(Doing(backend.title, titles[name], event["run"], list(titles).index(name), len(titles)))
            if not late:
                _wait(process)
        finally:
            _kill(process)
            process.stdout.close()  # type: ignore[union-attr]
        if late:
            return f"it was stopped after {timeout:g} seconds in: {doing}"
        errors.seek(0, os.SEEK_END)
        errors.seek(max(errors.tell() - 2_000, 0))
        said = errors.read().decode("utf-8", "replace").strip()
        if process.returncode < 0:
            name = signal.Signals(-process.returncode).name
            return f"the process was ended by {name} in: {doing}"
        if doing == starting:
            _refuse(backend, python, process.returncode, said)
        return f"the process ended with exit status {process.returncode} in: {doing}\n{said}".strip()


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
    """The process's environment: no Python writes compiled files beside the scripts, which may not be its own."""
    return {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}


def _events(process: subprocess.Popen[bytes], timeout: float) -> Any:
    """The events of a process until it ends; None where none came in time."""
    assert process.stdout is not None
    os.set_blocking(process.stdout.fileno(), False)
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            if not selector.select(timeout):
                yield None
                return
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
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
