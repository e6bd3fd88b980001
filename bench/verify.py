"""What verifying the whole zoo takes: time, what of it is segspec's own, and memory.

``python bench/verify.py [--jobs N] [NAME …]`` verifies the networks (every one at every preset if none is named) at one
small size each, and prints the table that ``bench/README.md`` shows. The frameworks' share is what importing them
takes, in as many processes as are begun, and what building and running the networks took, which the reports say; all
else of the processors' time is segspec's own: elaborating, rendering, recording every node, comparing. Memory is
sampled: what all processes hold together (shared pages divided among those that share them), and the greatest resident
size of one. For Linux.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from segspec.parity.verify import GROUP
from segspec.render.backend import backends

PROC = Path("/proc")
COMMAND = [sys.executable, "-m", "segspec", "verify", "--small", "--json"]


class Watch(threading.Thread):
    """Samples the memory of a process and of all below it, until it ends."""

    def __init__(self, root: int) -> None:
        super().__init__(daemon=True)
        self.root = root
        self.together = 0
        self.largest = 0
        self.ended = threading.Event()

    def run(self) -> None:
        """Sample twice a second: counting pages takes longer the more there are."""
        while not self.ended.wait(0.5):
            held = [memory(process) for process in tree(self.root)]
            self.together = max(self.together, sum(shared for shared, _ in held))
            self.largest = max([self.largest, *(resident for _, resident in held)])


def tree(root: int) -> Iterator[int]:
    """A process, and those that its threads began, and theirs."""
    yield root
    for thread in PROC.glob(f"{root}/task/*/children"):
        with suppress(OSError):  # it has ended
            for process in thread.read_text().split():
                yield from tree(int(process))


def memory(process: int) -> tuple[int, int]:
    """Its proportional and its greatest resident size, in bytes; nothing of one that has ended."""
    try:
        rolled = (PROC / f"{process}/smaps_rollup").read_text()
        status = (PROC / f"{process}/status").read_text()
        return _kilobytes(rolled, "Pss:"), _kilobytes(status, "VmHWM:")
    except (OSError, LookupError):
        return 0, 0


def _kilobytes(text: str, field: str) -> int:
    (line,) = [line for line in text.splitlines() if line.startswith(field)] or [""]
    if not line:
        raise LookupError(field)
    return int(line.split()[1]) * 1024


def importing(module: str) -> float:
    """The seconds that a process takes to import a framework and end."""
    taken = []
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", f"import {module}"], check=True, stderr=subprocess.DEVNULL)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def main() -> int:
    """Measure and print; exit status 1 where a network differs."""
    names = sys.argv[1:] or ["--all"]
    imports = sum(importing(held.module) for held in backends().values())
    before, start = os.times(), time.perf_counter()
    process = subprocess.Popen([*COMMAND, *names], stdout=subprocess.PIPE)
    watch = Watch(process.pid)
    watch.start()
    printed, _ = process.communicate()
    taken, after = time.perf_counter() - start, os.times()
    used = after.children_user - before.children_user + after.children_system - before.children_system
    watch.ended.set()
    found = json.loads(printed)
    reports = found["reports"]
    running = sum(sum(report["times"].values()) for report in reports)
    imported = imports * math.ceil(len(reports) / GROUP)
    own = used - running - imported
    comparisons = len(found["results"])
    print(f"{len(reports)} networks, {comparisons:,} comparisons, all agree: {found['ok']}; {os.cpu_count()} cores\n")
    print("| | |\n|---|--:|")
    print(f"| the whole | {taken:.0f} s |")
    print(f"| processor time of all processes | {used:.0f} s |")
    print(f"| building and running networks | {running:.0f} s |")
    print(f"| importing frameworks | {imported:.0f} s |")
    print(f"| segspec's own | {own:.0f} s, {own / used:.0%} |")
    print(f"| memory of all processes together, at most | {watch.together / 1e6:,.0f} MB |")
    print(f"| memory of the largest process | {watch.largest / 1e6:,.0f} MB |")
    for report in reports:
        if not report["ok"]:
            wrong = report["faults"] or report["failures"]
            print(f"\n{report['spec']} differs: {report['command']}\n{json.dumps(wrong)[:2000]}")
    return int(not found["ok"])


if __name__ == "__main__":
    sys.exit(main())
