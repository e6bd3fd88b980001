"""``segspec weights``: its commands, thin like the others."""

from __future__ import annotations

import argparse
import gc
import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segspec.cli.options import (
    DIFFERENT,
    FINE,
    add_bindings,
    add_json,
    add_names,
    add_python,
    definitions_of,
    graphs_of,
    interpreters,
    settings_of,
)
from segspec.errors import fail

if TYPE_CHECKING:
    from segspec.render.backend import Backend
    from segspec.weights.fit import Fitted
    from segspec.weights.tensors import Checkpoint

TEXT = "Carry weights between frameworks, and see what is in their files."

SHOWN_FROM = 2**26
"""From how many bytes on a terminal is shown how much is written."""


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the commands below ``segspec weights``."""
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        made: argparse.ArgumentParser = commands.add_parser(
            name, help=text, description=text[0].upper() + text[1:] + "."
        )
        made.set_defaults(command=run)
        return made

    convert = command("convert", _convert, "convert a network's weights to another framework's file")
    add_names(convert, many=False)
    convert.add_argument("source", type=Path, metavar="SOURCE", help="the file to read; its format is recognised")
    convert.add_argument("target", type=Path, metavar="TARGET", help="the file to write; its suffix says the format")
    convert.add_argument(
        "--from", default="", metavar="F", dest="named_by", help="whose names and layouts SOURCE has (default: its own)"
    )
    convert.add_argument(
        "--checkpoint",
        default="",
        metavar="C",
        dest="published",
        help="which of the spec's published checkpoints SOURCE is",
    )
    convert.add_argument("--to", default="", metavar="F", dest="kind", help="the format of TARGET")
    _allow(convert)
    convert.add_argument(
        "--verify", action="store_true", help="then run both files on the same images; exit 1 if they differ"
    )
    add_python(convert)
    add_bindings(convert)

    inspect = command("inspect", _inspect, "list the tensors of a file, with their shapes, types and statistics")
    inspect.add_argument("file", type=Path, metavar="FILE")
    add_json(inspect)

    diff = command("diff", _diff, "compare two files, tensor by tensor; exit 1 if they differ")
    diff.add_argument("first", type=Path, metavar="A")
    diff.add_argument("second", type=Path, metavar="B")
    diff.add_argument(
        "--spec",
        default="",
        metavar="NAME",
        dest="name",
        help="compare by this network's nodes, whosever names A and B have",
    )
    _allow(diff)
    add_bindings(diff)
    add_json(diff)

    init = command("init", _init, "draw a network's start, the same in every framework")
    add_names(init, many=False)
    init.add_argument("--seed", type=_seed, default=0, metavar="N", help="a whole number (default: 0)")
    init.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FILE", help="the file to write; its suffix says the format"
    )
    init.add_argument("--to", default="", metavar="F", dest="kind", help="the format of FILE")
    add_bindings(init)


def _seed(text: str) -> int:
    if not text.isdecimal() or len(text) > 20:
        raise argparse.ArgumentTypeError(f"'{text[:40]}' is not a whole number from 0")
    return int(text)


def _allow(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="PATTERN",
        dest="allowed",
        help="tensors that may be missing, unexpected or of another shape, such as 'head.*'; may be repeated",
    )


def _fitted(options: argparse.Namespace, checkpoint: Checkpoint, named_by: str = "", published: str = "") -> Fitted:
    from segspec.weights import formats
    from segspec.weights.convert import fitted

    ((definition, (preset, *_)),) = definitions_of(options)
    kind = formats.format_of(named_by) if named_by else ""
    settings, allowed = settings_of(options), options.allowed
    found = fitted(definition, settings, preset, checkpoint, named_by=kind, published=published, allowed=allowed)
    _note(found.notes)
    return found


def _note(notes: Sequence[str], kind: str = "note") -> None:
    for note in notes:
        print(f"{kind}: {''.join(char if char.isprintable() else ' ' for char in note)}", file=sys.stderr)


def _convert(options: argparse.Namespace) -> int:
    from segspec.weights import formats
    from segspec.weights.convert import recast, strange_numbers, write

    gc.enable()
    kind = formats.format_of(options.kind, options.target)
    checkpoint = formats.read(options.source)
    found = _fitted(options, checkpoint, options.named_by, options.published)
    if strange := strange_numbers(checkpoint, found.keys, kind):
        _note([strange], "warning")
    if note := recast(found, kind):
        _note([note])
    chosen = None
    if options.verify:
        from segspec.parity import files

        python = interpreters(options.python)
        own = formats.format_of(options.named_by) if options.named_by else checkpoint.format
        chosen = files.sides(found.graph, [own, kind], python)
    with _progress(options.target.name, found) as advance:
        write(found, options.target, kind, advance, checkpoint.release)
    print(options.target)
    return _verified(options, found, kind, chosen) if chosen else FINE


def _verified(options: argparse.Namespace, found: Fitted, kind: str, chosen: tuple[Backend, Backend]) -> int:
    """Run what was read and what was written, and print how they compare."""
    from segspec.parity import files, terminal
    from segspec.weights import formats
    from segspec.weights.fit import Fit

    written = Fit(found.graph, formats.read(options.target), formats.backend_of(kind), found.left).fitted()
    sides = [files.Side(held, backend) for held, backend in zip((found, written), chosen, strict=True)]
    with terminal.progress(len(sides)) as tell:
        result = files.verify(sides[0], sides[1], python=interpreters(options.python), tell=tell)
    terminal.show([result])
    return FINE if result.ok else DIFFERENT


@contextmanager
def _progress(title: str, found: Fitted) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal's standard error, where there is much to write."""
    total = sum(tensor.nbytes for tensor in found.tensors.values())
    if total < SHOWN_FROM or not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(title, total=total)
        yield lambda done: shown.update(task, completed=done)


def _inspect(options: argparse.Namespace) -> int:
    from segspec.draw.table import table
    from segspec.weights import formats
    from segspec.weights.inspect import statistics

    gc.enable()
    checkpoint = formats.read(options.file)
    found = []
    for tensor in checkpoint.tensors.values():
        found.append(statistics(tensor))
        checkpoint.release()
    if options.json:
        held = {
            "format": formats.title(checkpoint.format),
            "metadata": dict(checkpoint.metadata),
            "notes": list(checkpoint.notes),
            "tensors": [vars(item) for item in found],
        }
        print(json.dumps(held, indent=2))
        return FINE
    _note(checkpoint.notes)
    rows = [
        [
            _printable(item.key),
            item.dtype,
            "×".join(map(str, item.shape)) or "–",
            *(
                "–" if value is None else f"{value:.4g}"
                for value in (item.least, item.greatest, item.mean, item.deviation)
            ),
            f"{item.nonfinite:,} not finite" if item.nonfinite else "",
        ]
        for item in found
    ]
    print(table(["tensor", "type", "shape", "least", "greatest", "mean", "deviation", ""], rows, right="   rrrr"))
    elements = sum(math.prod(item.shape) for item in found)
    print(f"{formats.title(checkpoint.format)}: {len(found):,} tensors, {elements:,} elements")
    for key, value in checkpoint.metadata.items():
        print(_printable(f"{key}: {value}"))
    return FINE


def _diff(options: argparse.Namespace) -> int:
    from segspec.draw.table import table
    from segspec.weights import formats
    from segspec.weights.inspect import differences

    gc.enable()
    checkpoints = [formats.read(path) for path in (options.first, options.second)]
    if options.name:
        sides = [_fitted(options, checkpoint).tensors for checkpoint in checkpoints]
    elif options.settings or options.preset or options.allowed:
        raise fail("usage", "--set, --preset and --allow are of a network", remedy="name it with --spec")
    else:
        sides = [dict(checkpoint.tensors) for checkpoint in checkpoints]
    found = []
    for item in differences(*sides):
        found.append(item)
        for checkpoint in checkpoints:
            checkpoint.release()
    if options.json:
        print(json.dumps({"equal": not found, "differences": [_plain(vars(item)) for item in found]}, indent=2))
    elif found:
        rows = [
            [
                _printable(item.key),
                item.what,
                *("" if value is None else f"{value:.3g}" for value in (item.absolute, item.relative)),
            ]
            for item in found
        ]
        print(table(["tensor", "", "absolute", "relative"], rows, right="  rr"))
    return DIFFERENT if found else FINE


def _init(options: argparse.Namespace) -> int:
    from segspec.weights import formats
    from segspec.weights.convert import fresh, write

    gc.enable()
    kind = formats.format_of(options.kind, options.output)
    (graph,) = graphs_of(options)
    found = fresh(graph, options.seed)
    with _progress(options.output.name, found) as advance:
        write(found, options.output, kind, advance)
    print(options.output)
    return FINE


def _plain(held: dict[str, Any]) -> dict[str, Any]:
    """JSON knows no infinity."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in held.items()
    }


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text)
