"""What converting a checkpoint costs beside copying it with safetensors alone, each run a process of its own.

``python bench/weights.py [RUNS]`` prints the table that ``bench/README.md`` shows. The copy is what the library's
own two calls do: load the file, save it again. Memory is a process's greatest resident size less that of an
interpreter that does nothing; pages of the file that are mapped count. Conversions show their progress on a terminal,
and each run begins with nothing left to write to the disk. For Linux.
"""

from __future__ import annotations

import os
import pty
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

NETWORK = "vgg16_bn"
PREPARE = """
import sys
import numpy as np
from safetensors.numpy import save_file
from segspec.graph.elaborate import elaborate
from segspec.spec.load import Loader
from segspec.weights.state import entries
draw = np.random.default_rng(0)
tensors = entries(elaborate(Loader().load(sys.argv[1]), {}, ""))
save_file({entry.name: draw.standard_normal(entry.shape, np.float32) for entry in tensors}, sys.argv[2])
"""
COPY = "import sys; from safetensors.numpy import *; save_file(load_file(sys.argv[1]), sys.argv[2])"
CONVERT = "import sys; from segspec.cli import main; assert main(['weights', 'convert', *sys.argv[1:]]) == 0"
PEAK = "; print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"


def measured(code: str, *arguments: str) -> tuple[float, int]:
    """The seconds and the greatest resident size, in bytes, of one run of Python, its errors on a terminal."""
    os.sync()
    ours, theirs = pty.openpty()
    threading.Thread(target=drain, args=(ours,), daemon=True).start()
    start = time.perf_counter()
    process = subprocess.run(
        [sys.executable, "-c", code + PEAK, *arguments], stdout=subprocess.PIPE, stderr=theirs, check=True
    )
    taken = time.perf_counter() - start
    os.close(theirs)
    return taken, int(process.stdout.split()[-1]) * 1024


def drain(terminal: int) -> None:
    """Read what is shown on a terminal to its end."""
    with suppress(OSError):
        while os.read(terminal, 2**16):
            pass
    os.close(terminal)


def main() -> None:
    """Measure and print."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        portable, torch, paddle = (folder / f"a{suffix}" for suffix in (".safetensors", ".pth", ".pdparams"))
        subprocess.run([sys.executable, "-c", PREPARE, NETWORK, str(portable)], check=True)
        for path in (torch, paddle):
            measured(CONVERT, NETWORK, str(portable), str(path))
        commands = {"copy with safetensors alone": [COPY, str(portable), str(folder / "b.safetensors")]}
        for one in (portable, torch, paddle):
            for other in (portable, torch, paddle):
                target = str(folder / f"b{other.suffix}")
                commands[f"`{one.suffix}` to `{other.suffix}`"] = [CONVERT, NETWORK, str(one), target]
        found: dict[str, list[tuple[float, int]]] = {name: [] for name in commands}
        nothing = min(measured("pass")[1] for _ in range(3))
        for _ in range(runs):  # side by side, so that what else the machine does touches all alike
            for name, arguments in commands.items():
                found[name].append(measured(*arguments))
        size = portable.stat().st_size
        print(f"{NETWORK}: {size / 1e6:.0f} MB; {os.cpu_count()} cores, median of {runs} runs\n")
        print("| | seconds | to the copy | memory / file |\n|---|--:|--:|--:|")
        copy = statistics.median(taken for taken, _ in found["copy with safetensors alone"])
        for name, results in found.items():
            taken, used = (statistics.median(column) for column in zip(*results, strict=True))
            print(f"| {name} | {taken:.2f} | {taken / copy:.2f} | {(used - nothing) / size:.2f} |", flush=True)


if __name__ == "__main__":
    main()
