"""The command line: what it takes, and how it ends. Everything that a command needs is imported when it runs."""

from __future__ import annotations

import argparse
import gc
import io
import json
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from segspec import __version__
from segspec.cli import networks, recordings, weights
from segspec.cli.options import (
    FINE,
    WRONG,
    add_backends,
    add_bindings,
    add_json,
    add_names,
    add_runs,
    image_size,
    positive,
)
from segspec.errors import Problem, SpecError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit status."""
    options = _parser().parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without ⌈ or × is no reason to stop
    if arguments is None:
        for name in {"SIGTERM", "SIGHUP"} & set(dir(signal)):  # as Ctrl-C: what was begun is cleared away
            if signal.getsignal(getattr(signal, name)) is signal.SIG_DFL:  # not under nohup
                signal.signal(getattr(signal, name), signal.default_int_handler)
    collects = gc.isenabled()
    gc.disable()  # graphs are kept to the end: looking for garbage among them takes a quarter of the time
    try:
        command: Callable[[argparse.Namespace], int] = options.command
        return command(options)
    except SpecError as error:
        if getattr(options, "json", False):
            print(_as_json(error.problems))
        print(error, file=sys.stderr)
        return WRONG
    except BrokenPipeError:
        sys.stderr.close()
        return FINE
    except OSError as error:
        print(f"error[output]: {error.strerror or error}", file=sys.stderr)
        return WRONG
    except KeyboardInterrupt:
        return 130
    finally:
        if arguments is None:
            gc.freeze()  # the process ends here, and what it held ends with it
        elif collects:
            gc.enable()


class _Parser(argparse.ArgumentParser):
    """A parser of which a program that asked for JSON gets it, whatever is wrong."""

    given: Sequence[str] = ()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        self.given = sys.argv[1:] if args is None else args
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        if "--json" in self.given:
            print(_as_json([Problem("usage", message)]))
        super().error(message)


def _as_json(problems: Sequence[Problem]) -> str:
    return json.dumps({"ok": False, "problems": [problem.as_dict() for problem in problems]}, indent=2)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="segspec",
        description="One segmentation architecture, written once, generated for several frameworks and proved equal.",
        epilog="Exit status: 0 all is well, 1 a check found a difference, 2 the input is wrong.",
    )
    parser.add_argument("--version", action="version", version=f"segspec {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        made.set_defaults(command=run)
        return made

    listed = add("list", networks.list_, "list the networks of the zoo")
    add_json(listed)

    check = add("check", networks.check, "check specs, without any framework")
    add_names(check, many=True)
    add_bindings(check)
    add_json(check)

    generate = add("generate", networks.generate, "write the modules of networks")
    add_names(generate, many=True)
    add_bindings(generate)
    add_backends(generate)
    generate.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("generated"),
        metavar="DIR",
        help="where BACKEND/NAME.py goes (default: generated)",
    )
    generate.add_argument(
        "--check",
        action="store_true",
        help="write nothing; print what is stale as a diff, and exit 1 if anything is",
    )
    generate.add_argument("--stdout", action="store_true", help="print the source and write nothing")

    verify = add("verify", networks.verify, "run the modules of several backends and hold them together")
    add_names(verify, many=True)
    add_bindings(verify)
    add_backends(verify)
    add_runs(verify)
    verify.add_argument(
        "--jobs",
        type=positive,
        default=1,
        metavar="N",
        help="networks that run at a time, each in processes of its own (default: 1)",
    )
    verify.add_argument("--junit", type=Path, metavar="FILE", help="write the results as JUnit XML, for CI")
    verify.add_argument("--html", type=Path, metavar="FILE", help="write a page that shows every node")
    verify.add_argument(
        "--executor",
        default="",
        metavar="E",
        help="who runs the networks, each as a task: dask, or MODULE:FACTORY of any concurrent.futures executor",
    )
    verify.add_argument("--scheduler", default="", metavar="ADDRESS", help="where Dask's scheduler listens")
    add_json(verify)

    record = add("record", recordings.record, "run one backend and keep what every node computes in a file")
    recordings.add_record(record)

    compare = add("compare", recordings.compare, "hold two recordings of one network together")
    recordings.add_compare(compare)

    show = add("show", networks.show, "show a network's nodes, shapes, parameters and costs")
    add_names(show, many=False, required=False)
    add_bindings(show)
    show.add_argument(
        "--size",
        type=image_size,
        default=None,
        metavar="HxW",
        help="the image size for the costs (default: 512x512, or the nearest allowed)",
    )
    show.add_argument(
        "--depth",
        type=positive,
        default=1,
        metavar="N",
        help="how many levels of blocks to open (default: 1)",
    )
    show.add_argument(
        "--divergences",
        action="store_true",
        help="show which statistics a framework's training updates otherwise, and how; without NAME, of every op",
    )
    add_json(show)

    below = commands.add_parser("weights", help="convert, inspect and compare weights", description=weights.TEXT)
    weights.add(below)
    return parser
