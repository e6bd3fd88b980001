"""pytest's plugin: ``pytest --segspec specs/`` makes a test of every network, preset, pair of backends and size.

Every pytest loads it where segspec is installed, so it imports nothing of segspec before there is a spec to verify.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

if TYPE_CHECKING:
    from segspec.errors import SpecError
    from segspec.graph.model import Graph
    from segspec.parity.verify import Report
    from segspec.render import Backend

Size: TypeAlias = tuple[int, int]
Backends: TypeAlias = "tuple[Backend, ...]"

MARK = "segspec"
USAGE = f"{MARK}(NAME, *, preset='', sizes=(), **parameters): hold a network's renderings together before the test"


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options; all of them begin alike."""
    group = parser.getgroup("segspec", "segspec: the same network in every framework")
    group.addoption("--segspec", action="store_true", help="make tests of specs: YAML files below the given paths")
    group.addoption(
        "--segspec-size",
        action="append",
        default=[],
        type=_size,
        metavar="HxW",
        help="an image size; may be repeated (default: chosen to suit each network)",
    )
    group.addoption(
        "--segspec-python",
        action="append",
        default=[],
        metavar="BACKEND=PATH",
        help="the interpreter that runs a backend; may be repeated",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known, and refuse interpreters that are none."""
    config.addinivalue_line("markers", USAGE)
    if config.getoption("--segspec-python"):
        from segspec.errors import SpecError

        try:
            _verifier(config)
        except SpecError as error:
            raise pytest.UsageError(str(error)) from None


# --- specs as tests ----------------------------------------------------------------------------------


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> SpecFile | None:
    """Networks' specs below the paths that pytest was given; a file of blocks is a part of networks, and none."""
    if file_path.suffix not in (".yaml", ".yml") or not parent.config.getoption("--segspec"):
        return None
    from segspec.spec.folder import is_network, is_spec

    named = parent.session.isinitpath(file_path) and not is_spec(file_path)
    return SpecFile.from_parent(parent, path=file_path) if named or is_network(file_path) else None


class SpecFile(pytest.File):
    """One spec."""

    def collect(self) -> Iterator[SpecItem]:
        """A test of every preset, pair of backends and size; what is wrong with the spec is one that fails."""
        from segspec.errors import SpecError
        from segspec.spec.models import Spec

        verifier = _verifier(self.config)
        try:
            definition = verifier.loader.load(self.path)
        except SpecError as error:
            yield self._item(self.path.stem, error=error)
            return
        assert isinstance(definition.block, Spec)
        for preset in ["", *definition.block.presets]:
            called = f"{definition.name}[{preset or 'default'}"
            try:
                graph = verifier.graph(self.path, preset)
                found = [(pair, verifier.sizes(graph, pair)) for pair in verifier.pairs()]
            except SpecError as error:
                yield self._item(f"{called}]", error=error)
                continue
            for pair, sizes in found:
                for size, objection in sizes:
                    name = "-".join([called, *(backend.name for backend in pair), f"{size[0]}x{size[1]}]"])
                    yield self._item(name, graph=graph, pair=pair, size=size, error=objection)

    def _item(self, name: str, **options: Any) -> SpecItem:
        return SpecItem.from_parent(self, name=name, **options)


class SpecItem(pytest.Item):
    """One network at one size in two backends; or, with an ``error``, what is wrong with it."""

    def __init__(
        self,
        *,
        graph: Graph | None = None,
        pair: Backends = (),
        size: Size = (0, 0),
        error: SpecError | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.graph = graph
        self.pair = pair
        self.size = size
        self.error = error
        self.add_marker(MARK)

    def runtest(self) -> None:
        """Verify all the sizes of the network that are to run, once, and say what came of this one."""
        from segspec.parity.report import at_size

        if self.error or not self.graph:
            pytest.fail(str(self.error), pytrace=False)
        sound = [item for item in self.session.items if isinstance(item, SpecItem) and not item.error]
        sizes = [item.size for item in sound if item.graph is self.graph and item.pair == self.pair]
        (report,) = _verifier(self.config).reports(self.graph, self.pair, sizes)
        _expect_equal(at_size(report, self.size, sizes))

    def reportinfo(self) -> tuple[Path, None, str]:
        """Where it stands: in the spec, at no line of it."""
        return self.path, None, self.name


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give the sizes of one network to one worker, which verifies them together; other tests go one by one."""
    if not config.getoption("--segspec") or config.getoption("dist") != "load":
        return None
    from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

    class BySpec(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            found = re.fullmatch(r"(.+\.ya?ml::.+)-\d+x\d+\]", nodeid)
            return found[1] if found else nodeid

    return BySpec(config, log)


# --- people's own tests ------------------------------------------------------------------------------


@pytest.fixture
def segspec_verify(pytestconfig: pytest.Config) -> Callable[..., list[Report]]:
    """``segspec_verify("unet", width=8)``: a report for each pair of backends; fails the test unless they agree.

    ``preset`` and ``sizes`` (``["64x64"]``, or pairs of numbers) are what they are on the command line, all other
    keywords parameters of the spec. A path is relative to pytest's root directory. With ``check=False`` the reports
    are returned whatever they say.
    """

    def run(name: str, /, **options: Any) -> list[Report]:
        return _verified(pytestconfig, name, **options)

    return run


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    """Verify what the test's markers name before the test itself is run."""
    if isinstance(item, SpecItem):
        return
    for mark in item.iter_markers(MARK):
        if len(mark.args) != 1 or not isinstance(mark.args[0], str | Path):
            pytest.fail(f"@pytest.mark.{USAGE}; NAME is missing", pytrace=False)
        _verified(item.config, str(mark.args[0]), **mark.kwargs)


def _verified(
    config: pytest.Config,
    name: str,
    *,
    preset: str = "",
    sizes: Sequence[str | Size] = (),
    check: bool = True,
    **parameters: Any,
) -> list[Report]:
    from segspec.errors import SpecError

    verifier = _verifier(config)
    path = config.rootpath / name
    with _failing(SpecError, argparse.ArgumentTypeError):
        chosen = _sizes(sizes)
        graph = verifier.graph(str(path) if path.is_file() else name, preset, parameters)
    reports = verifier.reports(graph, verifier.backends(), chosen or config.getoption("--segspec-size"))
    for report in reports if check else []:
        _expect_equal(report)
    return reports


# --- what both need ----------------------------------------------------------------------------------


class _Verifier:
    """What one session keeps: files and classes that networks share, and the reports of the network verified last."""

    def __init__(self, config: pytest.Config) -> None:
        from segspec.cli.options import interpreters
        from segspec.graph.elaborate import Elaborator
        from segspec.parity.settings import Settings
        from segspec.spec.load import Loader

        self.config = config
        self.loader = Loader()
        self.elaborator = Elaborator()
        self.settings = Settings(python=interpreters(config.getoption("--segspec-python"), "--segspec-python"))
        self.last: tuple[Any, list[Report]] = (None, [])

    def backends(self) -> Backends:
        from segspec.render.backend import backends

        return tuple(backends().values())

    def pairs(self) -> list[Backends]:
        """The reference with each of the others."""
        first, *others = self.backends()
        return [(first, other) for other in others]

    def graph(self, name: str | Path, preset: str, parameters: Mapping[str, Any] | None = None) -> Graph:
        """A network that every backend can be given; raises :class:`SpecError` where it cannot."""
        from segspec.errors import SpecError
        from segspec.graph.elaborate import elaborate
        from segspec.render.check import refusals

        graph = elaborate(self.loader.load(name), parameters or {}, preset, self.elaborator)
        if found := refusals(graph, list(self.backends())):
            raise SpecError(found)
        return graph

    def sizes(self, graph: Graph, pair: Backends) -> list[tuple[Size, SpecError | None]]:
        """The sizes asked for, each with what speaks against it, or else those that suit the network."""
        from segspec.errors import SpecError
        from segspec.parity.verify import plan_for

        asked: list[Size] = self.config.getoption("--segspec-size")
        if not asked:
            return [(size, None) for size in plan_for(graph, pair, self.settings).sizes]
        found: list[tuple[Size, SpecError | None]] = []
        for size in dict.fromkeys(asked):
            try:
                plan_for(graph, pair, replace(self.settings, sizes=(size,), steps=0))
                found.append((size, None))
            except SpecError as error:
                found.append((size, error))
        return found

    def reports(self, graph: Graph, backends: Backends, sizes: Sequence[Size]) -> list[Report]:
        """A report for each pair; fails the test where the network cannot be verified."""
        from segspec.errors import SpecError
        from segspec.parity.verify import verify

        place, held = graph.definition.file.path.resolve(), [backend.name for backend in backends]
        key = (place, graph.preset, repr(graph.settings), held, list(sizes))
        if self.last[0] != key:
            with _failing(SpecError):
                found = list(verify([graph], backends, replace(self.settings, sizes=tuple(sizes))))
            self.last = key, found
        return self.last[1]


_VERIFIER = pytest.StashKey[_Verifier]()


def _verifier(config: pytest.Config) -> _Verifier:
    if _VERIFIER not in config.stash:
        config.stash[_VERIFIER] = _Verifier(config)
    return config.stash[_VERIFIER]


@contextmanager
def _failing(*errors: type[Exception]) -> Iterator[None]:
    """Fail the test with an error's message alone."""
    try:
        yield
    except errors as error:
        raise pytest.fail.Exception(str(error), pytrace=False) from None


def _expect_equal(report: Report) -> None:
    """Fail the test, with the report's text, unless everything agrees."""
    if report.ok:
        return
    from segspec.parity.report import as_text, headline

    pytest.fail(f"{headline(report)}\n\n{as_text([report])}\n\n{report.command}", pytrace=False)


def _sizes(given: Any) -> list[Size]:
    """Sizes as a marker or the fixture has them; raises :class:`argparse.ArgumentTypeError`."""
    if not isinstance(given, list | tuple):
        raise argparse.ArgumentTypeError(f"sizes={given!r} is no list of sizes, such as ['123x97']")
    texts = ["x".join(map(str, size)) if isinstance(size, list | tuple) else str(size) for size in given]
    return [_size(text) for text in texts]


def _size(text: str) -> Size:
    from segspec.cli.options import image_size

    return image_size(text)
