"""The commands: parse, call, print. Everything they need is imported when they run."""

from __future__ import annotations

import argparse
import gc
import io
import json
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from segspec import __version__, cli_recordings, cli_weights
from segspec.errors import Problem, SpecError, fail, shown, suggest

if TYPE_CHECKING:
    from segspec.graph.model import Graph
    from segspec.parity.settings import Settings
    from segspec.render.backend import Backend
    from segspec.render.check import Checked
    from segspec.spec.load import Definition

FINE, DIFFERENT, WRONG = 0, 1, 2
"""Exit statuses: all is well; a check found a difference; the input is wrong."""


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

    listed = add("list", _list, "list the networks of the zoo")
    _json(listed)

    check = add("check", _check, "check specs, without any framework")
    _names(check, many=True)
    _bindings(check)
    _json(check)

    generate = add("generate", _generate, "write the modules of networks")
    _names(generate, many=True)
    _bindings(generate)
    _backends(generate)
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

    verify = add("verify", _verify, "run the modules of several backends and hold them together")
    _names(verify, many=True)
    _bindings(verify)
    _backends(verify)
    _runs(verify)
    verify.add_argument(
        "--jobs",
        type=_positive,
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
    _json(verify)

    record = add("record", cli_recordings.record, "run one backend and keep what every node computes in a file")
    cli_recordings.add_record(record)

    compare = add("compare", cli_recordings.compare, "hold two recordings of one network together")
    cli_recordings.add_compare(compare)

    show = add("show", _show, "show a network's nodes, shapes, parameters and costs")
    _names(show, many=False, required=False)
    _bindings(show)
    show.add_argument(
        "--size",
        type=image_size,
        default=None,
        metavar="HxW",
        help="the image size for the costs (default: 512x512, or the nearest allowed)",
    )
    show.add_argument(
        "--depth",
        type=_positive,
        default=1,
        metavar="N",
        help="how many levels of blocks to open (default: 1)",
    )
    show.add_argument(
        "--divergences",
        action="store_true",
        help="show which statistics a framework's training updates otherwise, and how; without NAME, of every op",
    )
    _json(show)

    weights = commands.add_parser("weights", help="convert, inspect and compare weights", description=cli_weights.TEXT)
    cli_weights.add(weights)
    return parser


def _names(parser: argparse.ArgumentParser, *, many: bool, required: bool = True) -> None:
    if not many:
        needed = None if required else "?"
        parser.add_argument("name", nargs=needed, metavar="NAME", help="a network of the zoo, or a path to a spec")
        return
    parser.add_argument("names", nargs="*", metavar="NAME", help="a network of the zoo, or a path to a spec")
    parser.add_argument(
        "--all", action="store_true", help="every network of the zoo, or of the folders named, at every preset"
    )


def _runs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--size",
        action="append",
        default=[],
        type=image_size,
        metavar="HxW",
        help="an image size; may be repeated (default: chosen to suit the network)",
    )
    parser.add_argument("--small", action="store_true", help="at the first of the sizes that suit each network")
    parser.add_argument(
        "--batch",
        type=_positive,
        default=None,
        metavar="N",
        help="images at a time (default: 3, one more at the last of several sizes)",
    )
    parser.add_argument(
        "--steps",
        type=_count,
        default=2,
        metavar="N",
        help="steps of each optimiser (default: 2; 0 leaves training out)",
    )
    parser.add_argument("--no-starts", action="store_true", help="leave out how parameters start")
    _python(parser)
    parser.add_argument(
        "--timeout",
        type=_positive,
        default=900,
        metavar="SECONDS",
        help="how long one pass of one network may take (default: 900)",
    )


def _bindings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="settings",
        help="a parameter's value; may be repeated; with --all, of the networks that have it",
    )
    parser.add_argument("--preset", default="", metavar="P", help="a preset of the spec")


def _backends(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--backend",
        action="append",
        default=[],
        metavar="B",
        dest="backends",
        help="a backend; may be repeated (default: all)",
    )
    parser.add_argument(
        "--exact-running-stats",
        action="store_true",
        help="where a framework's layer updates running statistics otherwise, write one that follows PyTorch's rule",
    )


def _python(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--python",
        action="append",
        default=[],
        metavar="BACKEND=PATH",
        help="the interpreter that runs a backend; it needs the framework and NumPy alone; may be repeated",
    )


def _json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")


def image_size(text: str) -> tuple[int, int]:
    """A size as a command line gives it; raises :class:`argparse.ArgumentTypeError`."""
    height, _, width = text.lower().partition("x")
    if not (height.isdigit() and width.isdigit() and 0 < int(height) < 100_000 and 0 < int(width) < 100_000):
        raise argparse.ArgumentTypeError(f"'{text}' is not HxW, such as 123x97")
    return int(height), int(width)


def _positive(text: str) -> int:
    if not text.isdigit() or not 0 < int(text) < 100_000:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number above 0")
    return int(text)


def _count(text: str) -> int:
    return 0 if text == "0" else _positive(text)


# --- what the commands share -------------------------------------------------------------------------


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    from segspec.spec import document

    values: dict[str, Any] = {}
    for item in options.settings:
        key, sign, text = item.partition("=")
        if not sign or not key.strip():
            raise fail("usage", f"--set {item} is not KEY=VALUE", remedy="write --set width=24")
        values[key.strip()] = document.parse(text, f"--set {item}").data
    return values


def _settings_of_each(options: argparse.Namespace, definitions: Sequence[Definition]) -> list[dict[str, Any]]:
    """The settings of each network: all that are asked for; of --all those that are parameters of its own."""
    settings = _settings(options)
    if not ("all" in options and options.all):
        return [settings] * len(definitions)
    known = {key for definition in definitions for key in definition.block.params}
    for key in settings:
        if key not in known:
            raise fail("usage", f"no network has a parameter {shown(key)}", remedy=suggest(key, known))
    return [{key: settings[key] for key in settings if key in held.block.params} for held in definitions]


def _definitions(options: argparse.Namespace) -> list[tuple[Definition, list[str]]]:
    """The specs asked for, each with the presets asked for; problems of all of them together."""
    from segspec.spec.load import Loader
    from segspec.spec.models import Spec

    loader = Loader()
    found: list[tuple[Definition, list[str]]] = []
    problems: list[Problem] = []
    every = "all" in options and options.all
    for name in [options.name] if "name" in options else _asked(options):
        try:
            definition = loader.load(name)
        except SpecError as error:
            problems += error.problems
            continue
        assert isinstance(definition.block, Spec)
        found.append((definition, ["", *definition.block.presets] if every else [options.preset]))
    if problems:
        raise SpecError(problems)
    return found


def _asked(options: argparse.Namespace) -> list[str]:
    """The names of what is asked for; folders stand for the networks in them."""
    from segspec.spec.folder import networks_below
    from segspec.spec.zoo import networks

    if not options.all:
        if not options.names:
            raise fail("usage", "name a network, or give --all", remedy="segspec list shows the zoo's")
        return list(options.names)
    if options.preset or not all(map(Path.is_dir, map(Path, options.names))):
        remedy = "name folders of specs, or nothing for the zoo"
        raise fail("usage", "--all takes no NAME and no --preset", remedy=remedy)
    if not options.names:
        return list(networks())
    found: list[str] = []
    for name in options.names:
        held = list(map(str, networks_below(Path(name))))
        if not held:
            raise fail("unknown-spec", f"there is no spec of a network below {shown(name)}")
        found += held
    return found


def _graphs(options: argparse.Namespace) -> Iterator[Graph]:
    from segspec.graph.elaborate import Elaborator, elaborate

    elaborator, found = Elaborator(), _definitions(options)
    each = _settings_of_each(options, [definition for definition, _ in found])
    for (definition, presets), settings in zip(found, each, strict=True):
        for preset in presets:
            yield elaborate(definition, settings, preset, elaborator)


def _chosen(options: argparse.Namespace) -> list[Backend]:
    from segspec.render.backend import backend, backends

    chosen = [backend(name) for name in dict.fromkeys(options.backends)] or list(backends().values())
    return [item.with_exact_running_stats() for item in chosen] if options.exact_running_stats else chosen


# --- the commands ------------------------------------------------------------------------------------


def _list(options: argparse.Namespace) -> int:
    from segspec.draw.table import table
    from segspec.spec.load import Loader
    from segspec.spec.models import Spec
    from segspec.spec.zoo import networks

    loader = Loader()
    blocks = {name: loader.load(name).block for name in networks()}
    found = [(name, block) for name, block in blocks.items() if isinstance(block, Spec)]
    if options.json:
        held = [
            {"name": name, "title": block.title, "parameters": block.expect.parameters, "presets": list(block.presets)}
            for name, block in found
        ]
        print(json.dumps(held, indent=2))
    else:
        rows = [
            [
                name,
                block.title,
                f"{block.expect.parameters:,}" if block.expect.parameters else "",
                ", ".join(block.presets),
            ]
            for name, block in found
        ]
        print(table(["name", "network", "parameters", "presets"], rows, right="  r "))
    return FINE


def _check(options: argparse.Namespace) -> int:
    from segspec.graph.elaborate import Elaborator
    from segspec.render.check import check
    from segspec.spread import spread

    elaborator, definitions = Elaborator(), _definitions(options)
    each = _settings_of_each(options, [definition for definition, _ in definitions])

    def checked(asked: tuple[tuple[Definition, list[str]], dict[str, Any]]) -> tuple[list[Checked], list[Problem]]:
        (definition, presets), settings = asked
        if not options.preset and not settings:
            presets = ["", *definition.block.presets]  # type: ignore[attr-defined]
        results: list[Checked] = []
        problems: list[Problem] = []
        for preset in presets:
            try:
                results.append(check(definition, settings, preset, elaborator))
            except SpecError as error:
                problems += error.problems
        return results, problems

    found = spread(checked, list(zip(definitions, each, strict=True)))
    results = [result for held, _ in found for result in held]
    problems = [problem for _, held in found for problem in held]
    if problems:
        raise SpecError(problems)
    if options.json:
        print(json.dumps({"ok": True, "results": [vars(result) for result in results]}, indent=2))
    else:
        for result in results:
            print(f"{result.name}: {result.parameters:,} parameters, {result.sizes}")
    return FINE


def _generate(options: argparse.Namespace) -> int:
    from segspec import files
    from segspec.render import render_all
    from segspec.render.check import refusals

    if options.check and options.stdout:
        raise fail("usage", "--check and --stdout do not go together")
    chosen = _chosen(options)
    graphs = list(_graphs(options))
    found: list[Problem] = [problem for graph in graphs for problem in refusals(graph, chosen)]
    if found:
        raise SpecError(found)
    wanted = [(graph, backend) for graph in graphs for backend in chosen]
    sources = render_all(wanted)
    if options.stdout:
        print("\n\n".join(sources), end="")
        return FINE
    paths = [options.output / backend.name / f"{graph.name}.py" for graph, backend in wanted]
    if twice := next((path for path in paths if paths.count(path) > 1), None):
        raise fail("usage", f"two networks would be written to {twice}", remedy="generate them into two folders")
    made = dict(zip(paths, sources, strict=True))
    if options.check:
        stale = files.differences(made)
        print(stale, end="")
        return DIFFERENT if stale else FINE
    for path in files.write(made):
        print(path)
    return FINE


def _verify(options: argparse.Namespace) -> int:
    from segspec import files
    from segspec.parity import report, terminal
    from segspec.parity.executors import executor
    from segspec.parity.junit import as_junit
    from segspec.parity.page import as_html
    from segspec.parity.verify import verify
    from segspec.render.check import refusals

    gc.enable()  # a run's arrays are not kept
    chosen = _chosen(options)
    if len(chosen) < 2:
        raise fail(
            "usage",
            "verify holds backends against one another: it needs two",
            remedy="give --backend twice, or leave it out",
        )
    graphs = list(_graphs(options))
    found = [problem for graph in graphs for problem in refusals(graph, chosen)]
    if found:
        raise SpecError(found)
    settings = _settings_of(options)
    wanted = [(path, made) for path, made in ((options.junit, as_junit), (options.html, as_html)) if path]
    if len({path.resolve() for path, _ in wanted}) < len(wanted):
        raise fail("usage", "--junit and --html name the same file")
    files.require_writable(path for path, _ in wanted)
    with executor(options.executor, options.scheduler) as held, terminal.progress(len(chosen)) as tell:
        reports = list(verify(graphs, chosen, settings, tell=tell, executor=held))
    try:
        if options.json:
            print(report.as_json(reports))
        else:
            terminal.show(reports)
    finally:
        files.write({path: made(reports) for path, made in wanted})
    return FINE if reports and all(item.ok for item in reports) else DIFFERENT


def _settings_of(options: argparse.Namespace) -> Settings:
    from segspec.parity.settings import Settings

    return Settings(
        sizes=tuple(options.size),
        batch=options.batch,
        steps=options.steps,
        starts=not options.no_starts,
        small=options.small,
        python=interpreters(options.python),
        timeout=options.timeout,
        jobs=getattr(options, "jobs", 1),
    )


def interpreters(items: Sequence[str], option: str = "--python") -> dict[str, str]:
    """Backends' interpreters as an option gives them; raises :class:`SpecError`."""
    from segspec.render.backend import backend

    found = {}
    for item in items:
        name, sign, path = item.partition("=")
        if not sign or not path:
            raise fail("usage", f"{option} {item} is not BACKEND=PATH", remedy=f"write {option} torch=/path/to/python")
        found[backend(name).name] = path
    return found


def _show(options: argparse.Namespace) -> int:
    from segspec.draw.summary import as_dict, summary
    from segspec.graph.sizes import nearest_size, size_problem

    if options.name is None:
        if not options.divergences or options.settings or options.preset or options.size:
            raise fail("usage", "name a network", remedy="segspec list shows the zoo's")
        return _divergences(None, options)
    (graph,) = _graphs(options)
    size = options.size or nearest_size(graph, 512)
    height, width = size
    problem = size_problem(graph, height, width, 1, training=False)
    if problem:
        raise SpecError(problem)
    if options.divergences:
        return _divergences(graph, options)
    if options.json:
        print(json.dumps(as_dict(graph, size, options.depth), indent=2))
    else:
        print(summary(graph, size, options.depth))
    return FINE


def _divergences(graph: Graph | None, options: argparse.Namespace) -> int:
    from segspec.draw import divergences
    from segspec.render.backend import backends

    held = list(backends().values())
    lines = divergences.of_network(graph, held, options.size) if graph else divergences.declared(held)
    if options.json:
        print(json.dumps({"divergences": [line.as_dict() for line in lines]}, indent=2))
    else:
        print(divergences.as_text(lines, graph.name if graph else ""))
    return FINE
