"""``python tests/fuzz/fuzz.py N``: examine N drawn specs, in pieces of a process each, and keep every failure found.

Prints what the specs came to, and exits with 1 if something was found. Each piece has its seed, from ``--seed`` on,
and ``--only SEED`` repeats one. What a piece found lies minimised in the folder ``--keep``.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from itertools import count
from pathlib import Path

PIECE = 100
"""How many specs one process examines."""

TRIES = 150
"""How many smaller specs are tried where one fails."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("number", type=int, nargs="?", default=PIECE, help="how many specs")
    parser.add_argument("--seed", type=int, default=0, help="the first piece's seed")
    parser.add_argument("--only", type=int, metavar="SEED", help=argparse.SUPPRESS)
    parser.add_argument("--keep", type=Path, default=Path("fuzz-found"), help="where minimised failures are kept")
    arguments = parser.parse_args()
    if arguments.only is not None:
        return piece(arguments.only, arguments.number, arguments.keep)
    started, total, found = time.monotonic(), Counter[str](), 0
    seed = arguments.seed
    while total["specs"] < arguments.number:
        wanted = min(PIECE, arguments.number - total["specs"])
        command = [sys.executable, "-W", "ignore", __file__, str(wanted), "--only", str(seed), "--keep", str(arguments.keep)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        lines = done.stdout.splitlines()
        held = json.loads(lines[-1]) if lines and lines[-1].startswith("{") else None
        if held is None:
            found += 1
            print(f"seed {seed}: the process ended with {done.returncode}: {done.stderr[-2000:]}", flush=True)
            total["specs"] += wanted
        else:
            total += Counter(held["health"])
            total["specs"] += not total["specs"]
            for item in held["found"]:
                found += 1
                print(f"seed {seed}: {item}", flush=True)
        seed += 1
    print(f"{time.monotonic() - started:.0f} s, seeds {arguments.seed} to {seed - 1}")
    for name, count in sorted(total.items(), key=lambda item: -item[1]):
        print(f"{count:7} {name}")
    return 1 if found else 0


def piece(seed: int, number: int, keep: Path) -> int:
    """Examine so many specs in this process; the last line printed is what came of it, as JSON."""
    from drawing import Case, cases
    from examine import Discarded, Finding, examine
    from hypothesis import HealthCheck, Phase, given, reject, settings
    from hypothesis import seed as seeded

    health, failing, tries = Counter[str](), [], count()
    keep.mkdir(parents=True, exist_ok=True)
    current = keep / f"running-{seed}.yaml"

    @seeded(seed)
    @settings(
        max_examples=number,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
        print_blob=False,
    )
    @given(cases())
    def run(case: Case) -> None:
        if len(failing) and next(tries) > TRIES:  # small enough
            error = next((error for held, error in failing if held == case), None)
            if error:
                raise error
            return
        current.write_text(repr(case), encoding="utf-8")  # what is left if the process dies
        counted = Counter[str]() if failing else health  # shrinking examines many that are much alike
        try:
            examine(case, counted)
        except Discarded as reason:
            counted["discarded"] += 1
            counted[f"discarded: {re.sub('[0-9]+', '#', str(reason))[:100]}"] += 1
            reject()
        except Exception as error:
            failing.append((case, error))
            raise
        counted["specs"] += 1

    found = []
    try:
        run()
    except Exception:
        case, error = failing[-1]
        title = f"{type(error).__name__}: {error}" if isinstance(error, Finding) else f"crash: {type(error).__name__}: {error}"
        (keep / f"{type(error).__name__}-{seed}.yaml").write_text(f"{case!r}# {title[:2000]}\n".replace("\n# at", "\n# at"), encoding="utf-8")
        found.append(title[:600])
    current.unlink(missing_ok=True)
    print(json.dumps({"health": health, "found": found}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
