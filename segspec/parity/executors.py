"""The executors that a command line can name: Dask's, or whatever a function of somebody's returns."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from segspec.errors import fail

PATIENCE = 15
"""Seconds that a scheduler has to answer, and to have a worker."""


@contextmanager
def executor(name: str, scheduler: str = "") -> Iterator[Executor | None]:
    """The executor that ``name`` means, until it is no longer needed: ``dask``, MODULE:FACTORY, or (empty) none.

    Raises :class:`SpecError` where it cannot be had.
    """
    if (name == "dask") is not bool(scheduler):
        message = "--executor dask and --scheduler ADDRESS go together"
        raise fail("usage", message, remedy="write --executor dask --scheduler tcp://HOST:8786")
    if not name:
        yield None
    elif name == "dask":
        with _dask(scheduler) as held:
            yield held
    else:
        with _made(name) as held:
            yield held


@contextmanager
def _dask(scheduler: str) -> Iterator[Executor]:
    try:
        distributed: Any = importlib.import_module("distributed")
    except ImportError:
        raise fail("executor", "Dask is not installed", remedy="pip install 'segspec[dask]'") from None
    try:
        client = distributed.Client(scheduler, timeout=PATIENCE, set_as_default=False)
    except (OSError, ValueError) as error:
        remedy = "start one: dask scheduler"
        raise fail("executor", f"no scheduler answers at {scheduler}: {error}", remedy=remedy) from None
    with client:
        try:
            client.wait_for_workers(1, timeout=PATIENCE)
        except TimeoutError:
            message = f"the scheduler at {scheduler} has no worker"
            raise fail("executor", message, remedy=f"start one: dask worker {scheduler}") from None
        yield client.get_executor(pure=False)


def _made(name: str) -> Executor:
    module, colon, factory = name.partition(":")
    if not (module and colon and factory):
        message = f"--executor {name} is neither 'dask' nor MODULE:FACTORY"
        raise fail("usage", message, remedy="name a function that returns a concurrent.futures.Executor")
    sys.path.append(str(Path.cwd()))  # as `python -m segspec` finds modules, so does `segspec`
    try:
        made = getattr(importlib.import_module(module), factory)()
    except Exception as error:  # the module is the user's own, and may fail in any way
        raise fail("executor", f"--executor {name} failed: {type(error).__name__}: {error}") from None
    if not isinstance(made, Executor):
        message = f"--executor {name} returned {type(made).__name__}, which is no concurrent.futures.Executor"
        raise fail("executor", message)
    return made
