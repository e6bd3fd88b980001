"""What several commands share: their options, what these come to, and exit statuses."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segspec.errors import Problem, SpecError, fail, shown, suggest

if TYPE_CHECKING:
    from segspec.graph.model import Graph
    from segspec.parity.settings import Settings
    from segspec.render.backend import Backend
    from segspec.spec.load import Definition

FINE, DIFFERENT, WRONG = 0, 1, 2
"""Exit statuses: all is well; a check found a difference; the input is wrong."""


# --- options -----------------------------------------------------------------------------------------


def add_names(parser: argparse.ArgumentParser, *, many: bool, required: bool = True) -> None:
    """The networks that a command is about."""
    if not many:
        needed = None if required else "?"
        parser.add_argument("name", nargs=needed, metavar="NAME", help="a network of the zoo, or a path to a spec")
        return
    parser.add_argument("names", nargs="*", metavar="NAME", help="a network of the zoo, or a path to a spec")
    parser.add_argument(
        "--all", action="store_true", help="every network of the zoo, or of the folders named, at every preset"
    )


def add_runs(parser: argparse.ArgumentParser) -> None:
    """How networks are run."""
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
        type=positive,
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
    add_python(parser)
    parser.add_argument(
        "--timeout",
        type=positive,
        default=900,
        metavar="SECONDS",
        help="how long one pass of one network may take (default: 900)",
    )


def add_bindings(parser: argparse.ArgumentParser) -> None:
    """The values of parameters."""
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="settings",
        help="a parameter's value; may be repeated; with --all, of the networks that have it",
    )
    parser.add_argument("--preset", default="", metavar="P", help="a preset of the spec")


def add_backends(parser: argparse.ArgumentParser) -> None:
    """The backends, and how they are generated for."""
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


def add_python(parser: argparse.ArgumentParser) -> None:
    """Backends' interpreters."""
    parser.add_argument(
        "--python",
        action="append",
        default=[],
        metavar="BACKEND=PATH",
        help="the interpreter that runs a backend; it needs the framework and NumPy alone; may be repeated",
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """Whether a program reads what is printed."""
    parser.add_argument("--json", action="store_true", help="print JSON")


def image_size(text: str) -> tuple[int, int]:
    """A size as a command line gives it; raises :class:`argparse.ArgumentTypeError`."""
    height, _, width = text.lower().partition("x")
    if not (height.isdigit() and width.isdigit() and 0 < int(height) < 100_000 and 0 < int(width) < 100_000):
        raise argparse.ArgumentTypeError(f"'{text}' is not HxW, such as 123x97")
    return int(height), int(width)


def positive(text: str) -> int:
    """A whole number above 0; raises :class:`argparse.ArgumentTypeError`."""
    if not text.isdigit() or not 0 < int(text) < 100_000:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number above 0")
    return int(text)


def _count(text: str) -> int:
    return 0 if text == "0" else positive(text)


# --- what they come to --------------------------------------------------------------------------------


def settings_of(options: argparse.Namespace) -> dict[str, Any]:
    """The parameters that are set, by name; raises :class:`SpecError`."""
    from segspec.spec import document

    values: dict[str, Any] = {}
    for item in options.settings:
        key, sign, text = item.partition("=")
        if not sign or not key.strip():
            raise fail("usage", f"--set {item} is not KEY=VALUE", remedy="write --set width=24")
        values[key.strip()] = document.parse(text, f"--set {item}").data
    return values


def settings_of_each(options: argparse.Namespace, definitions: Sequence[Definition]) -> list[dict[str, Any]]:
    """The settings of each network: all that are asked for; of --all those that are parameters of its own."""
    settings = settings_of(options)
    if not ("all" in options and options.all):
        return [settings] * len(definitions)
    known = {key for definition in definitions for key in definition.block.params}
    for key in settings:
        if key not in known:
            raise fail("usage", f"no network has a parameter {shown(key)}", remedy=suggest(key, known))
    return [{key: settings[key] for key in settings if key in held.block.params} for held in definitions]


def definitions_of(options: argparse.Namespace) -> list[tuple[Definition, list[str]]]:
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


def graphs_of(options: argparse.Namespace) -> Iterator[Graph]:
    """The graphs of the networks asked for, each at the presets asked for; raises :class:`SpecError`."""
    from segspec.graph.elaborate import Elaborator, elaborate

    elaborator, found = Elaborator(), definitions_of(options)
    each = settings_of_each(options, [definition for definition, _ in found])
    for (definition, presets), settings in zip(found, each, strict=True):
        for preset in presets:
            yield elaborate(definition, settings, preset, elaborator)


def backends_of(options: argparse.Namespace) -> list[Backend]:
    """The backends asked for, all if none is."""
    from segspec.render.backend import backend, backends

    chosen = [backend(name) for name in dict.fromkeys(options.backends)] or list(backends().values())
    return [item.with_exact_running_stats() for item in chosen] if options.exact_running_stats else chosen


def verification_of(options: argparse.Namespace) -> Settings:
    """How the networks are to be verified."""
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
