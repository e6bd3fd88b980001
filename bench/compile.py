"""How long generating and checking the whole zoo takes, each run a process of its own, as a user waits for it.

``python bench/compile.py [RUNS]`` prints the table that ``bench/README.md`` shows.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def seconds(arguments: list[str]) -> tuple[float, float]:
    """What one run of the command takes, by the clock and of the processors."""
    before, start = os.times(), time.perf_counter()
    subprocess.run([sys.executable, "-m", "segspec", *arguments], check=True, stdout=subprocess.DEVNULL)
    taken, after = time.perf_counter() - start, os.times()
    used = after.children_user - before.children_user + after.children_system - before.children_system
    return taken, used


def main() -> None:
    """Measure and print."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    with tempfile.TemporaryDirectory() as folder:
        seconds(["generate", "--all", "-o", folder])  # the first reads from the disk
        files = list(Path(folder).glob("*/*.py"))
        lines = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in files)
        commands = {
            "`segspec --version`": ["--version"],
            "`segspec check unet`": ["check", "unet"],
            "`segspec generate unet`": ["generate", "unet", "-o", folder],
            "`segspec check --all`": ["check", "--all"],
            "`segspec generate --all`": ["generate", "--all", "-o", folder],
        }
        print(f"{len(files)} files, {lines:,} lines; {os.cpu_count()} cores, median of {runs} runs\n")
        print("| command | seconds | processor seconds |\n|---|--:|--:|")
        for name, arguments in commands.items():
            taken, used = map(statistics.median, zip(*(seconds(arguments) for _ in range(runs)), strict=True))
            print(f"| {name} | {taken:.2f} | {used:.2f} |", flush=True)


if __name__ == "__main__":
    main()
