"""``python tests/fuzz/fuzz.py N``: examine N drawn specs, 250 in a process, and keep every failure, minimised.

Prints what was found and what the specs came to; exits with 1 if something was found. Each spec has a seed of its
own, from ``--seed`` on, so that it can be drawn again. A failure lies in the folder ``--keep``, in the form of
``cases/``, where it belongs once its cause is mended: ``found`` says what was wrong.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from concrete import Misfit, network
from drawing import Case, cases
from examine import Discarded, examine
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from smaller import smallest

PIECE = 250
"""How many specs one process examines."""

PATIENCE = 900
"""Seconds that a process may take."""


def main() -> int:
    parser = argparse.ArgumentParser(description="Examine random specs.")
    parser.add_argument("number", type=int, nargs="?", default=PIECE, help="how many specs")
    parser.add_argument("--seed", type=int, default=0, help="the first spec's seed")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-found"), help="where minimised failures are kept")
    parser.add_argument("--piece", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.piece:
        health, failed = sample(given.seed, given.number, lambda case: case.keep(given.keep / f"running-{given.seed}"))
        found = [f"{type(error).__name__}: {error}"[:600] for _, error in failed]
        for index, ((case, _), title) in enumerate(zip(failed, found, strict=True)):
            case.keep(given.keep / f"{title.partition(':')[0]}-{given.seed}-{index}", found=title)
        print(json.dumps({"health": health, "found": found}))
        return 0
    return _pieces(given.number, given.seed, given.keep)


def _pieces(number: int, first: int, keep: Path) -> int:
    started, total, failures = time.monotonic(), Counter[str](), 0
    for seed in range(first, first + number, PIECE):
        command = [sys.executable, "-W", "ignore", __file__, "--piece", str(min(PIECE, first + number - seed))]
        options = ["--seed", str(seed), "--keep", str(keep)]
        try:
            done = subprocess.run([*command, *options], capture_output=True, text=True, check=False, timeout=PATIENCE)
            # A crash may print something too.
            last = [] if done.returncode else done.stdout.splitlines()[-1:]
            error = f"ended with {done.returncode}: {done.stderr[-2_000:]}"
        except subprocess.TimeoutExpired:
            last, error = [], f"killed after {PATIENCE} s"
        # A framework that crashes leaves the case behind that was running.
        held = json.loads(last[0]) if last else {"health": {}, "found": [f"{error}; see {keep}/running-{seed}"]}
        total.update(held["health"])
        failures += len(held["found"])
        for title in held["found"]:
            print(f"seeds {seed} on: {title}", flush=True)
    print(f"{time.monotonic() - started:.0f} s, {number} seeds from {first} on, {failures} failures")
    for name, times in sorted(total.items(), key=lambda item: -item[1]):
        print(f"{times:7} {name}")
    return 1 if failures else 0


def sample(
    seed: int, number: int, starts: Callable[[Case], None] = lambda case: None
) -> tuple[Counter[str], list[tuple[Case, Exception]]]:
    """What so many specs came to, from this seed on, and each that failed, minimised, with how it failed."""
    health, failed = Counter[str](), []
    for index in range(number):
        case = one(seed + index)
        starts(case)
        health["specs"] += 1
        try:
            examine(case, health)
        except Discarded as reason:
            health["discarded"] += 1
            health[f"discarded: {re.sub('[0-9]+', '#', str(reason))[:100]}"] += 1
        except Exception as error:
            failed.append(_minimised(case, error, starts))
    return health, failed


def _minimised(case: Case, error: Exception, starts: Callable[[Case], None]) -> tuple[Case, Exception]:
    """The smallest case found that fails in the same way, and how."""
    errors = {repr(case): error}

    def fails(smaller: Case) -> bool:
        starts(smaller)
        try:
            if type(error).__name__.startswith("Refused"):
                network(smaller.spec, smaller.sizes[0])
            examine(smaller, Counter())
        except (Discarded, Misfit):
            return False
        except Exception as other:
            errors[repr(smaller)] = other
            return _likeness(other) == _likeness(error)
        return False

    found = smallest(case, fails)
    return found, errors[repr(found)]


def _likeness(error: Exception) -> tuple[str, str]:
    """What failures of one cause have in common: their kind, and of a refusal its words without names and numbers."""
    name = type(error).__name__
    words = re.sub(r"'[^']*'|[-+.\w]*\d[-+.\w]*", "#", str(error)) if name.startswith(("Refused", "Failed")) else ""
    return name, words


def one(seed: int) -> Case:
    """The case that is drawn with a seed.

    Hypothesis begins each run with the least of all cases, which is passed over; many cases of one run would be
    variations of one another.
    """
    seen: list[Case] = []

    @seeded(seed)
    @settings(
        max_examples=2,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(cases())
    def run(case: Case) -> None:
        seen.append(case)

    run()
    return seen[-1]


if __name__ == "__main__":
    sys.exit(main())
