"""``weights convert --verify``: both files run on the same images, and what differs is found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from segspec.cli import main
from segspec.errors import SpecError
from segspec.graph.model import Graph
from segspec.parity import files
from segspec.weights import formats
from segspec.weights.tensors import Tensor


@pytest.mark.torch
@pytest.mark.paddle
@pytest.mark.parametrize(
    ("kind", "suffix", "said"),
    [
        ("archive", ".pdparams", "torch and paddle"),
        ("arrays", ".safetensors", "paddle and torch"),
        ("safetensors", ".pth", "paddle and torch"),
        ("safetensors", ".safetensors", "torch and paddle"),
    ],
)
def test_files_that_agree(
    kind: str, suffix: str, said: str, spec: Path, save: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["weights", "convert", str(spec), str(save(kind)), f"target{suffix}", "--verify"]) == 0
    table = capsys.readouterr().out
    assert f"{said}: " in table
    assert "DIFFER" not in table
    assert "logits" in table or "head" in table


@pytest.mark.torch
@pytest.mark.paddle
@pytest.mark.parametrize("key", ["square.weight", "stem.1._variance", "stem.2._weight", "table"])
def test_files_that_differ(
    key: str,
    spec: Path,
    save: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One tensor that is written wrongly, in its shape and layout as it should be, is found and named."""
    write = formats.write

    def wrong(path: Path, kind: str, tensors: Mapping[str, Tensor], *arguments: Any) -> None:
        held = tensors[key]
        turned = (
            held.transposed() if len(held.shape) > 1 else Tensor(key, "F32", held.shape, lambda: held.read() * 1.001)
        )
        write(path, kind, {**tensors, key: turned}, *arguments)

    source = save("archive")
    monkeypatch.setattr(formats, "write", wrong)
    assert main(["weights", "convert", str(spec), str(source), "target.pdparams", "--verify"]) == 1
    out = capsys.readouterr().out
    assert "DIFFER" in out
    assert {"square.weight": "square", "table": "mixed"}.get(key, "stem") in out


@pytest.mark.torch
@pytest.mark.paddle
def test_what_is_left_out_starts_alike(spec: Path, save: Callable[..., Path]) -> None:
    source = save("archive", **{"head.bias": None})
    command = ["weights", "convert", str(spec), str(source), "target.pdparams", "--verify", "--allow", "head.*"]
    assert main(command) == 0


def test_a_missing_framework_is_said_before_anything_is_written(
    spec: Path,
    save: Callable[..., Path],
    graph: Graph,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = save("archive")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["weights", "convert", str(spec), str(source), "target.pdparams", "--verify"]) == 2
    assert "pip install 'segspec[paddle]'" in capsys.readouterr().err
    assert not Path("target.pdparams").exists()
    with pytest.raises(SpecError):
        files.sides(graph, ["safetensors", "safetensors"], {})
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name == "paddle" or None)
    assert [held.name for held in files.sides(graph, ["safetensors", "arrays"], {})] == ["paddle", "paddle"]
    assert [held.name for held in files.sides(graph, ["safetensors", "arrays"], {"torch": "python"})] == [
        "torch",
        "paddle",
    ]
