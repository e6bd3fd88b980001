"""Generated source as text: up to date, the same everywhere, as a careful author would leave it."""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from segspec.cli import main
from segspec.graph.elaborate import Elaborator, elaborate
from segspec.render import backends, render_all
from segspec.spec.load import Loader, load
from segspec.spec.zoo import networks

ROOT = Path(__file__).resolve().parents[2]
WIDTH = 100

# What else users ask for: (name, preset, settings).
VARIANTS: list[tuple[str, str, dict[str, Any]]] = [
    ("unet", "", {"width": 24, "num_classes": 3}),
    ("unet_upsample", "", {"in_channels": 4}),
    ("deeplabv3", "torchvision", {"depth": 101, "auxiliary": True}),
    ("deeplabv3", "", {"output_stride": 16, "rates": [6, 12, 18], "dropout": 0.1}),
    ("deeplabv3", "extra_stages", {"multi_grid": [1, 2, 1, 2], "bias": False}),
    ("resnet", "", {"depth": 152, "output_stride": 8}),
]


@dataclass(frozen=True)
class Source:
    """One generated module."""

    name: str
    preset: str
    settings: str
    backend: str
    text: str

    def __str__(self) -> str:
        return " ".join(filter(None, (self.backend, self.name, self.preset, self.settings)))

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @property
    def classes(self) -> list[ast.ClassDef]:
        return [item for item in self.tree.body if isinstance(item, ast.ClassDef)]

    @property
    def blocks(self) -> list[ast.ClassDef]:
        """The classes that are blocks of the spec, and not a framework's layer with a difference."""
        return [item for item in self.classes if ast.unparse(item.bases[0]) in ("nn.Module", "nn.Layer")]

    @property
    def functions(self) -> Iterator[ast.FunctionDef]:
        return (item for item in ast.walk(self.tree) if isinstance(item, ast.FunctionDef))


def _sources() -> list[Source]:
    loader, elaborator = Loader(), Elaborator()
    specs = {name: loader.load(name) for name in networks()}
    wanted = [(name, preset, {}) for name, spec in specs.items() for preset in ("", *spec.block.presets)]  # type: ignore[attr-defined]
    wanted += VARIANTS
    graphs = [elaborate(specs[name], settings, preset, elaborator) for name, preset, settings in wanted]
    texts = render_all([(graph, backend) for graph in graphs for backend in backends().values()])
    named = [(*item, backend) for item in wanted for backend in backends()]
    return [
        Source(name, preset, str(settings or ""), backend, text)
        for (name, preset, settings, backend), text in zip(named, texts, strict=True)
    ]


SOURCES = _sources()
# Presets are mostly like their networks: the quick part leaves them out.
every_source = pytest.mark.parametrize(
    "source", [pytest.param(item, marks=[pytest.mark.slow] if item.preset else [], id=str(item)) for item in SOURCES]
)


def test_there_are_sources_of_every_network_and_backend():
    assert {source.name for source in SOURCES} == set(networks())
    assert {source.backend for source in SOURCES} == set(backends()) == {"torch", "paddle"}


# --- up to date, and the same everywhere ---------------------------------------------------------


def test_what_is_checked_in_is_what_would_be_generated(capsys):
    assert main(["generate", "--all", "--check", "-o", str(ROOT / "generated")]) == 0
    assert capsys.readouterr().out == ""


def test_nothing_else_is_checked_in():
    expected = {
        f"{source.backend}/{'_'.join(filter(None, (source.name, source.preset)))}.py"
        for source in SOURCES
        if not source.settings
    }
    folder = ROOT / "generated"
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*.py")} == expected


@pytest.mark.slow
def test_generation_is_the_same_to_the_byte_wherever_it_runs(tmp_path):
    """Other working directories, other orders of sets, another language and time zone."""
    made = []
    for seed, zone in (("0", "UTC"), ("42", "Asia/Tokyo")):
        folder = tmp_path / f"where {seed}"
        folder.mkdir()
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PYTHONHASHSEED": seed,
            "TZ": zone,
            "LC_ALL": "C",
        }
        command = [sys.executable, "-m", "segspec", "generate", "--all", "-o", "out"]
        subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
        found = sorted((folder / "out").rglob("*"))
        made.append({path.relative_to(folder).as_posix(): path.read_bytes() for path in found if path.is_file()})
    assert made[0] == made[1]
    checked_in = ROOT / "generated"
    assert made[0] == {
        f"out/{path.relative_to(checked_in).as_posix()}": path.read_bytes() for path in checked_in.rglob("*.py")
    }


@every_source
def test_the_header_says_where_it_is_from_and_how_to_renew_it(source, tmp_path, capsys):
    first, second = source.text.splitlines()[:2]
    assert re.fullmatch(r"# Generated by segspec from specs/[\w/]+\.yaml \(sha256 [0-9a-f]{16}\); do not edit\.", first)
    command = shlex.split(second.removeprefix("# To renew it: segspec "))
    assert main([*command, "-o", str(tmp_path)]) == 0
    capsys.readouterr()
    (path,) = tmp_path.rglob("*.py")
    assert path.read_text(encoding="utf-8") == source.text


@pytest.mark.parametrize("setting", ["mode=plain", "mode=with relu", "mode=it's", "rates=[1, 3]"])
def test_the_header_of_a_spec_of_ones_own_says_how_to_renew_it(tmp_path, monkeypatch, capsys, setting):
    (tmp_path / "own.yaml").write_text(
        "segspec: 1\nname: own\ntitle: Own\nparams:\n"
        "  mode: {default: plain, choices: [plain, with relu, it's]}\n  rates: {default: [1, 2]}\n"
        "inputs:\n  image: {channels: 3}\nnodes:\n  if mode == 'with relu':\n    act: {op: relu}\n"
        "  for rate in rates:\n"
        "    conv{rate}: {op: conv2d, out_channels: 4, kernel_size: 3, padding: rate, dilation: rate}\n"
        "  last: {op: conv2d, out_channels: 2, kernel_size: 1}\noutputs: [last]\n"
    )
    monkeypatch.chdir(tmp_path)
    command = ["generate", "own.yaml", "--backend", "torch", "--stdout"]
    assert main([*command, "--set", setting]) == 0
    text = capsys.readouterr().out
    renew = shlex.split(text.splitlines()[1].removeprefix("# To renew it: segspec "))
    assert main([*renew, "--stdout"]) == 0
    assert capsys.readouterr().out == text


def test_the_digest_is_of_all_that_the_spec_imports(tmp_path):
    """A change of an imported block is a change of the header, a change of place is none."""
    for name in ("one", "two", "three"):
        folder = tmp_path / name
        folder.mkdir()
        factor = 3 if name == "three" else 2
        (folder / "part.yaml").write_text(
            "segspec: 1\nblocks:\n  Part:\n    nodes:\n"
            f"      conv: {{op: conv2d, out_channels: {factor}, kernel_size: 1}}\n"
        )
        (folder / "whole.yaml").write_text(
            "segspec: 1\nname: whole\ntitle: Whole\nimport:\n  part.yaml: [Part]\n"
            "inputs:\n  image: {channels: 3}\nnodes:\n  part: {block: Part}\noutputs: [part]\n"
        )
    graphs = [elaborate(load(str(tmp_path / name / "whole.yaml")), {}, "") for name in ("one", "two", "three")]
    texts = render_all([(graph, backends()["torch"]) for graph in graphs])
    assert texts[0] == texts[1]
    assert texts[0].splitlines()[0] != texts[2].splitlines()[0]
    assert str(tmp_path) not in texts[0]


# --- form ----------------------------------------------------------------------------------------


@every_source
def test_lines(source):
    lines = source.text.split("\n")
    assert lines[1].startswith("# To renew it: ")
    # The header names a file, and a command to copy: these are as long as they must be. So is an address.
    long = [line for line in lines[2:] if len(line) > WIDTH]
    assert [line for line in long if not re.fullmatch(r"\s*https?://\S+", line)] == []
    assert [line for line in lines if line != line.rstrip() or "\t" in line] == []
    assert source.text.endswith("\n")
    assert not source.text.endswith("\n\n")


@pytest.mark.parametrize(
    ("name", "preset", "limit"),
    [
        ("unet", "", 170),
        ("unet_upsample", "", 160),
        ("resnet", "", 170),
        # A port of torchvision's, line by line, has 478.
        ("deeplabv3", "", 300),
        ("deeplabv3", "torchvision", 300),
        ("deeplabv3", "extra_stages", 320),
    ],
)
def test_it_is_not_long(name, preset, limit):
    found = [source for source in SOURCES if (source.name, source.preset, source.settings) == (name, preset, "")]
    assert len(found) == 2
    for source in found:
        assert len(source.text.splitlines()) < limit


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written")
    for number, source in enumerate(SOURCES):
        (folder / f"{source.backend}_{source.name}_{number}.py").write_text(source.text, encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    "arguments",
    [["check", "--extend-select", "I,F,UP,B", "--output-format", "concise"], ["format", "--check"]],
    ids=["lint", "format"],
)
def test_ruff_has_nothing_to_say(written, arguments):
    options = ["--isolated", "--no-cache", "--target-version", "py311", "--line-length", str(WIDTH)]
    options = [item for item in options if item != "--line-length" and item != str(WIDTH)]
    options += ["--config", f"line-length = {WIDTH}"]
    command = [sys.executable, "-m", "ruff", *arguments, *options, str(written)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@every_source
def test_it_compiles_without_warnings(source):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compile(source.text, f"{source}.py", "exec")


@every_source
def test_it_needs_its_framework_and_nothing_else(source):
    imports = [item for item in ast.walk(source.tree) if isinstance(item, ast.Import | ast.ImportFrom)]
    assert all(item in source.tree.body for item in imports), "imports stand at the top"
    names = {
        name.split(".")[0]
        for item in imports
        for name in ([item.module] if isinstance(item, ast.ImportFrom) else [alias.name for alias in item.names])
    }
    assert source.backend in names
    assert names - {source.backend} <= sys.stdlib_module_names
    (other,) = set(backends()) - {source.backend}
    code = "\n".join(line for line in source.text.splitlines() if not line.startswith("#"))
    assert not re.search(rf"\b{other}\b", code)


# --- content -------------------------------------------------------------------------------------


@every_source
def test_the_network_comes_last_and_is_exported(source):
    (exported,) = [
        item for item in source.tree.body if isinstance(item, ast.Assign) and ast.unparse(item.targets[0]) == "__all__"
    ]
    assert ast.literal_eval(exported.value) == [source.classes[-1].name]


@every_source
def test_docstrings(source):
    assert ast.get_docstring(source.tree)
    for item in source.classes:
        text = ast.get_docstring(item)
        assert text, item.name
        assert "Shape:" in text or item not in source.blocks, item.name
        summary = text.split("\n\n")[0]
        assert summary.endswith("."), item.name
    text = ast.get_docstring(source.classes[-1]) or ""
    joined = " ".join(text.split())
    block = load(source.name).block
    for reference in block.references:
        assert reference.title in joined
        assert reference.url in text
    assert "sizes: " in joined


@every_source
def test_docstrings_describe_arguments_that_exist(source):
    for item in source.classes:
        text = ast.get_docstring(item) or ""
        described = re.search(r"^Args:\n((?:    .*\n?)+)", text, re.MULTILINE)
        constructor = _method(item, "__init__")
        arguments = [] if constructor is None else [held.arg for held in constructor.args.args[1:]]
        if described:
            names = re.findall(r"^    (\w+): ", described[1], re.MULTILINE)
            assert [name for name in arguments if name in names] == names, item.name


@every_source
def test_signatures_are_typed(source):
    for function in source.functions:
        arguments = [item for item in function.args.args if item.arg != "self"]
        assert function.returns is not None, function.name
        assert all(item.annotation is not None for item in arguments), function.name


@every_source
def test_nothing_is_left_unused(source):
    tops = {item.name for item in source.tree.body if isinstance(item, ast.ClassDef | ast.FunctionDef)}
    for name in tops - {source.classes[-1].name}:
        assert len(re.findall(rf"\b{name}\b", _code(source))) > 1, f"{name} is not used"
    for item in source.classes:
        constructor, forward = _method(item, "__init__"), _method(item, "forward")
        assert forward is not None
        reads = _attributes(forward)
        if constructor is None:
            continue
        assert _held(constructor) == reads, item.name
        names = {node.id for node in ast.walk(constructor) if isinstance(node, ast.Name)}
        assert {held.arg for held in constructor.args.args[1:]} <= names, item.name
    for function in source.functions:
        read = {node.id for node in ast.walk(function) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
        made = {
            node.id for node in ast.walk(function) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        }
        assert made - {"_"} <= read, function.name


@pytest.mark.parametrize(
    ("one", "other"),
    list(zip(SOURCES[::2], SOURCES[1::2], strict=True)),
    ids=lambda source: str(source),
)
def test_both_frameworks_have_the_same_classes_and_arguments(one, other):
    assert (one.name, one.preset, one.settings) == (other.name, other.preset, other.settings)
    assert one.backend != other.backend
    assert _outline(one) == _outline(other)


def _outline(source: Source) -> list[tuple[str, str, str, list[str]]]:
    found = []
    for item in source.blocks:
        constructor = _method(item, "__init__")
        signature = "" if constructor is None else ast.unparse(constructor.args)
        attributes = [] if constructor is None else sorted(_held(constructor))
        doc = (ast.get_docstring(item) or "").partition("\nWeights:")[0]  # each framework's own line loads them
        found.append((item.name, signature, doc, attributes))
    return found


def _method(item: ast.ClassDef, name: str) -> ast.FunctionDef | None:
    return next((held for held in item.body if isinstance(held, ast.FunctionDef) and held.name == name), None)


def _attributes(function: ast.FunctionDef, context: type[ast.expr_context] = ast.Load) -> set[str]:
    """The attributes of ``self`` that a method sets or reads, but for the framework's own."""
    found = {
        node.attr
        for node in ast.walk(function)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, context)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    }
    return found - {"apply", "training", "register_buffer", "create_parameter"}


def _held(constructor: ast.FunctionDef) -> set[str]:
    """The attributes of ``self`` that a constructor sets, or registers as a buffer."""
    registered = {
        ast.literal_eval(node.args[0])
        for node in ast.walk(constructor)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "self.register_buffer"
    }
    return _attributes(constructor, ast.Store) | registered


def _code(source: Source) -> str:
    """The source without comments and docstrings."""
    return ast.unparse(_Bare().visit(ast.parse(source.text)))


class _Bare(ast.NodeTransformer):
    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        return None if isinstance(node.value, ast.Constant) else node


@pytest.mark.slow
@pytest.mark.torch
@pytest.mark.paddle
def test_types_are_strict():
    pytest.importorskip("mypy")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "generated"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
