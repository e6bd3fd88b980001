"""``segspec record`` and ``segspec compare``: what ``verify`` does, in two places, and files that are no recordings."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from segspec.cli import main
from segspec.errors import SpecError
from segspec.graph.elaborate import elaborate
from segspec.parity import recording as module
from segspec.parity import storage
from segspec.parity.job import source
from segspec.parity.process import Outcome
from segspec.parity.recording import Plan, Recording, Task, about, scenes
from segspec.render.backend import backend
from segspec.spec.load import load

SPEC = """\
segspec: 1
name: tiny
import: {blocks/own.yaml: [Unit], blocks/conv.yaml: [ConvBnRelu]}
params: {width: 4}
inputs: {image: {channels: 3}}
nodes:
  first: {block: Unit}
  pool: {op: max_pool2d, kernel_size: 2, ceil_mode: true}
  more: {block: ConvBnRelu, out_channels: width}
  logits: {op: conv2d, out_channels: 2, kernel_size: 1}
outputs: [logits]
presets: {wide: {width: 6}}
"""
UNIT = "segspec: 1\nblocks:\n  Unit:\n    nodes:\n      conv: {op: conv2d, out_channels: 4, kernel_size: 3}\n"


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The spec of a small network and a block of its own, in the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "blocks").mkdir()
    (tmp_path / "blocks/own.yaml").write_text(UNIT, encoding="utf-8")
    path = tmp_path / "tiny.yaml"
    path.write_text(SPEC, encoding="utf-8")
    return path


def _run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = main(list(arguments))
    shown = capsys.readouterr()
    assert "Traceback" not in shown.err
    return status, shown.out, shown.err


def _results(text: str) -> list[dict[str, Any]]:
    return json.loads(text)["results"]  # type: ignore[no-any-return]


@pytest.mark.torch
@pytest.mark.paddle
@pytest.mark.parametrize("changed", [False, True], ids=["agrees", "differs"])
def test_recorded_apart_and_compared_elsewhere(
    tiny: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, changed: bool
) -> None:
    """The comparisons that ``verify`` makes, to the last digit, without the spec; without ``--on`` the same verdict."""
    real = module.render

    def render(graph: Any, held: Any) -> str:
        text = real(graph, held)
        return text.replace("ceil_mode=True", "ceil_mode=False") if changed and held.name == "paddle" else text

    monkeypatch.setattr(module, "render", render)
    asked = ["tiny.yaml", "--preset=wide", "--size=9x8", "--size=8x8"]
    for arguments in (
        [*asked, "--backend=torch", "-o", "a.safetensors"],
        [*asked[:2], "--backend=paddle", "--on=a.safetensors", "-o", "b.safetensors"],
        [*asked, "--backend=paddle", "-o", "alone.safetensors"],
    ):
        assert _run(capsys, "record", *arguments) == (0, f"{arguments[-1]}\n", "")
    status, whole, _ = _run(capsys, "verify", *asked, "--json")
    assert status == int(changed)

    shutil.rmtree("blocks")
    tiny.unlink()
    status, found, _ = _run(capsys, "compare", "a.safetensors", "b.safetensors", "--json")
    assert status == int(changed)
    assert _results(found) == _results(whole)
    assert {item["check"] for item in _results(found)} > {"outputs", "nodes", "replay", "statistics", "sgd", "start"}
    (told,) = json.loads(found)["reports"]
    (expected,) = json.loads(whole)["reports"]
    for key in ("first", "faults", "nodes", "environment", "digest", "command", "preset"):
        assert told[key] == expected[key], key
    assert _run(capsys, "compare", "a.safetensors", "alone.safetensors")[0] == int(changed)


@pytest.mark.torch
def test_a_recording_is_a_file_of_safetensors(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--backend=torch", "--size=8x8", "--steps=0", "--no-starts", "-o", "a.safetensors"]
    assert _run(capsys, "record", "tiny.yaml", *options)[0] == 0
    arrays = load_file("a.safetensors")
    assert arrays["8x8 eval float64/node logits:0"].shape == (3, 2, 3, 3)
    assert arrays["8x8 eval float64/node logits:0"].dtype == np.float64


# --- without a framework ----------------------------------------------------------------------------------


def _made(tiny: Path, path: str = "a.safetensors", **changes: object) -> Path:
    """The recording of a process that ran nothing."""
    task = Task(elaborate(load(str(tiny)), {}, ""), backend("torch"), Plan(((8, 8),), 2, 0, (8, 8)))
    made = Recording(about(task), task.plan, scenes(task.graph, task.backend, task.plan))
    made.about |= changes
    made.passes = {"": "it was not run"}
    storage.save(made, Path(path))
    return Path(path)


def test_what_is_read_is_what_was_written(tiny: Path) -> None:
    found, again = storage.load(_made(tiny)), storage.load(_made(tiny, "b.safetensors"))
    assert found == again
    assert found.failures() == {"": "it was not run"}
    assert found.network == source(elaborate(load(str(tiny)), {}, ""))
    assert found.network.graph().name == "tiny"


@pytest.mark.parametrize(
    ("bytes_", "said"),
    [
        (lambda data: b"", "no recording"),
        (lambda data: data[:5], "damaged or cut off"),
        (lambda data: data[:100], "damaged or cut off"),
        (lambda data: data[:-3], "damaged or cut off"),
        (lambda data: data + b"more", "damaged or cut off"),
        (lambda data: SPEC.encode(), "its header claims"),
        (lambda data: data.replace(b"max_pool2d", b"min_pool2d"), "another digest"),
        (lambda data: data.replace(b'"version":"3"', b'"version":"2"'), "another version of segspec, 0"),
    ],
    ids=["empty", "5 bytes", "100 bytes", "cut off", "longer", "a spec", "changed", "of another version"],
)
@pytest.mark.parametrize("command", ["compare", "record"])
def test_a_file_that_is_no_recording_is_named(
    tiny: Path, capsys: pytest.CaptureFixture[str], bytes_: Callable[[bytes], bytes], said: str, command: str
) -> None:
    data = _made(tiny).read_bytes()
    assert bytes_(data) != data
    Path("b.safetensors").write_bytes(bytes_(data))
    arguments = {
        "compare": ["a.safetensors", "b.safetensors"],
        "record": ["tiny.yaml", "--backend=paddle", "--on=b.safetensors", "-o", "c.safetensors"],
    }
    status, _, text = _run(capsys, command, *arguments[command])
    assert status == 2
    assert text.startswith("b.safetensors: error[")
    assert said in text
    assert "help: " in text
    assert not Path("c.safetensors").exists()


def test_other_files_of_safetensors_are_no_recordings(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _made(tiny)
    save_file({"conv.weight": np.ones((3, 3))}, "weights.safetensors")
    status, out, text = _run(capsys, "compare", "a.safetensors", "weights.safetensors", "--json")
    assert status == 2
    assert "no recording of segspec's" in text
    assert json.loads(out)["ok"] is False
    for path in ("none.safetensors", "."):
        assert "cannot be read" in _run(capsys, "compare", "a.safetensors", path)[2]


def test_recordings_of_two_things(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _made(tiny)
    _made(tiny, "b.safetensors", inputs=["other"])
    status, _, text = _run(capsys, "compare", "a.safetensors", "b.safetensors")
    assert status == 2
    assert "their inputs differ" in text
    command = ["record", "tiny.yaml", "--preset=wide", "--backend=paddle", "--on=a.safetensors", "-o", "c.safetensors"]
    assert "of another network than tiny_wide" in _run(capsys, *command)[2]


@pytest.mark.parametrize("option", ["--size=8x8", "--small", "--batch=2", "--steps=1", "--no-starts"])
def test_what_is_run_on_a_recording_is_not_chosen_again(
    tiny: Path, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    _made(tiny)
    command = ["record", "tiny.yaml", "--backend=paddle", "--on=a.safetensors", "-o", "c.safetensors", option]
    status, _, text = _run(capsys, *command)
    assert status == 2
    assert "--on takes no --size" in text


@pytest.mark.parametrize("path", [".", "tiny.yaml/a.safetensors", "x" * 300])
def test_where_nothing_can_be_written_nothing_is_run(
    tiny: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    def execute(*_: object, **__: object) -> Outcome:
        raise AssertionError("it was run")

    monkeypatch.setattr(module, "execute", execute)
    status, _, text = _run(capsys, "record", "tiny.yaml", "--backend=torch", "--size=8x8", "-o", path)
    assert status == 2
    assert "error[output]" in text


@pytest.mark.parametrize("file", ["../own.yaml", "/tmp/own.yaml", "blocks/../../own.yaml"])
def test_a_strangers_recording_reads_and_writes_nothing_elsewhere(tiny: Path, tmp_path: Path, file: str) -> None:
    held = source(elaborate(load(str(tiny)), {}, ""))
    with pytest.raises(SpecError, match="no file of a spec's folder"):
        replace(held, files={**held.files, file: "x"}).graph()
    with pytest.raises(SpecError, match="no file of a spec's folder"):
        replace(held, spec=file, files={}).graph()
