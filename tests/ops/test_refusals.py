"""What a backend cannot compute is refused: by ``check`` where the attributes say so, else at the sizes concerned."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from segspec.cli import main

WRONG = 2

REFUSED: dict[str, dict[str, Any]] = {
    "dilated pooling": {"op": "max_pool2d", "kernel_size": 3, "dilation": 2},
    "a window in the padding, equal strides": {"op": "max_pool2d", "kernel_size": 2, "padding": 1, "ceil_mode": True},
    "a window in the padding": {"op": "max_pool2d", "kernel_size": 3, "stride": 3, "padding": 1, "ceil_mode": True},
    "a window beyond the map": {"op": "max_pool2d", "kernel_size": 2, "stride": 3, "ceil_mode": True},
    "one axis of two": {"op": "max_pool2d", "kernel_size": [3, 2], "stride": [2, 3], "ceil_mode": True},
    "the same of means": {"op": "avg_pool2d", "kernel_size": 2, "stride": 3, "ceil_mode": True},
    "means with padding": {
        "op": "avg_pool2d",
        "kernel_size": 2,
        "padding": 1,
        "ceil_mode": True,
        "count_include_pad": True,
    },
    "output padding": {
        "op": "conv_transpose2d",
        "out_channels": 2,
        "kernel_size": 3,
        "output_padding": 1,
        "dilation": 2,
    },
    "bilinear to one pixel": {"op": "resize", "mode": "bilinear", "size": 1, "align_corners": False},
    "slopes of an image": {"op": "prelu", "num_parameters": 4},
    "bicubic to one row": {"op": "resize", "mode": "bicubic", "size": [1, 8], "align_corners": False},
}

ALLOWED: dict[str, dict[str, Any]] = {
    "dilation of a kernel of one": {"op": "max_pool2d", "kernel_size": 1, "stride": 2, "dilation": 2},
    "ceil_mode without padding": {"op": "max_pool2d", "kernel_size": 2, "ceil_mode": True},
    "ceil_mode with padding": {"op": "max_pool2d", "kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True},
    "means": {"op": "avg_pool2d", "kernel_size": 3, "stride": 2, "ceil_mode": True},
    "corners on corners": {"op": "resize", "mode": "bilinear", "size": 1, "align_corners": True},
    "nearest": {"op": "resize", "mode": "nearest", "size": 1},
    "a global pool": {"op": "global_avg_pool2d"},
}

WRONG_ANYWHERE: dict[str, tuple[dict[str, Any], str]] = {
    "too much padding": ({"op": "max_pool2d", "kernel_size": 2, "padding": 2}, "more than half of the kernel"),
    "padding of unknown meaning": ({"op": "avg_pool2d", "kernel_size": 3, "padding": 1}, "count_include_pad"),
    "corners not said": ({"op": "resize", "mode": "bilinear", "scale": 2}, "needs align_corners"),
    "corners of nearest": ({"op": "resize", "mode": "nearest", "scale": 2, "align_corners": True}, "no align_corners"),
    "two sizes": ({"op": "resize", "mode": "nearest", "scale": 2, "size": 3}, "exactly one of"),
    "an unknown mode": ({"op": "resize", "mode": "cubic", "scale": 2}, "expected one of nearest, bilinear"),
    "scale zero": ({"op": "resize", "mode": "nearest", "scale": 0}, "leaves nothing"),
    "no number": ({"op": "resize", "mode": "nearest", "scale": float("nan")}, "finite"),
    "endless": ({"op": "leaky_relu", "negative_slope": float("inf")}, "finite"),
    "no such axis": ({"op": "softmax", "dim": 4}, "no axis 4"),
    "no such first axis": ({"op": "flatten", "start_dim": -5}, "no axis -5"),
    "an input of any size into a linear layer": ({"op": "linear", "out_features": 3}, "depend on the image's size"),
    "groups of the input": ({"op": "conv2d", "out_channels": 8, "kernel_size": 1, "groups": 8}, "groups must divide"),
    "groups of the output": ({"op": "conv2d", "out_channels": 6, "kernel_size": 1, "groups": 4}, "groups must divide"),
    "channels of what is no map": (
        {"sequence": [{"op": "flatten", "start_dim": 2}, {"op": "dropout2d"}]},
        "expected a map",
    ),
    "slopes": ({"op": "prelu", "num_parameters": 3}, "1 or the input's channels"),
    "much output padding": (
        {"op": "conv_transpose2d", "out_channels": 2, "kernel_size": 3, "stride": 2, "output_padding": 2},
        "smaller than the stride",
    ),
    "a probability": ({"op": "dropout", "p": 1.5}, "at most 1"),
    "a kernel of nothing": ({"op": "conv2d", "out_channels": 2, "kernel_size": 0}, "at least 1"),
    "a value that nothing pads with": ({"op": "pad", "sides": 1, "mode": "reflect", "value": 2}, "takes no value"),
    "a part with two starts": ({"op": "crop", "sides": 1, "offset": 0}, "leave offset out"),
}


def _write(folder: Path, node: dict[str, Any], **more: Any) -> str:
    spec = {
        "segspec": 1,
        "name": "example",
        "title": "An example",
        "inputs": {"x": {"channels": 4}},
        "nodes": {"y": node},
        "outputs": ["y"],
        **more,
    }
    path = folder / "example.yaml"
    path.write_text(yaml.safe_dump(spec, sort_keys=False), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("node", REFUSED.values(), ids=list(REFUSED))
def test_check_refuses(node: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = _write(tmp_path, node)
    assert main(["check", path]) == WRONG
    text = capsys.readouterr().err
    assert "error[refused]: PaddlePaddle cannot compute this" in text
    assert "help: " in text
    assert f"{Path(path).name}:8:" in text
    assert main(["generate", path, "-o", str(tmp_path / "generated")]) == WRONG
    assert not (tmp_path / "generated").exists()


@pytest.mark.parametrize("node", REFUSED.values(), ids=list(REFUSED))
def test_the_reference_computes_what_the_other_refuses(node: dict[str, Any], tmp_path: Path) -> None:
    path = _write(tmp_path, node)
    assert main(["generate", path, "--backend", "torch", "-o", str(tmp_path / "generated")]) == 0


@pytest.mark.parametrize("node", ALLOWED.values(), ids=list(ALLOWED))
def test_check_allows(node: dict[str, Any], tmp_path: Path) -> None:
    assert main(["check", _write(tmp_path, node)]) == 0


@pytest.mark.parametrize(("node", "message"), WRONG_ANYWHERE.values(), ids=list(WRONG_ANYWHERE))
def test_what_no_framework_could(
    node: dict[str, Any], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", _write(tmp_path, node)]) == WRONG
    text = capsys.readouterr().err
    assert message in text
    assert "refused" not in text


@pytest.mark.parametrize(
    ("op", "attribute", "value"),
    [
        ("max_pool2d", "ceil_mode", True),
        ("avg_pool2d", "ceil_mode", True),
        ("avg_pool2d", "count_include_pad", True),
        ("batch_norm2d", "affine", False),
        ("softmax", "dim", 1),
        ("flatten", "start_dim", 1),
    ],
)
def test_what_the_code_depends_on(op: str, attribute: str, value: Any, tmp_path: Path) -> None:
    """Such an attribute is never an argument of the generated class: its value stands in the code, or it is refused."""
    more = {"kernel_size": 3} if "pool" in op else {}
    path = _write(tmp_path, {"op": op, attribute: "chosen", **more}, params={"chosen": value})
    output = tmp_path / "generated"
    if main(["generate", path, "-o", str(output)]) == 0:
        for file in output.glob("*/*.py"):
            assert "chosen" not in file.read_text(encoding="utf-8").split("class Example")[1]


def test_a_fractional_scale_is_no_argument(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A frameworks' own scaling would take the ratio from the scale, not from the sizes."""
    node = {"op": "resize", "mode": "bilinear", "align_corners": False, "scale": "scale"}
    output = tmp_path / "generated"
    if main(["generate", _write(tmp_path, node, params={"scale": 1.5}), "-o", str(output)]) == 0:
        for file in output.glob("*/*.py"):
            assert "scale_factor" not in file.read_text(encoding="utf-8")
    else:
        assert "only a whole scale can be a parameter" in capsys.readouterr().err


def test_from_the_command_line(tmp_path: Path) -> None:
    path = _write(tmp_path, REFUSED["dilated pooling"])
    command = [sys.executable, "-m", "segspec", "check", path, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == WRONG
    (problem,) = json.loads(done.stdout)["problems"]
    assert (problem["code"], problem["node"]) == ("refused", "y")


HALF = {"op": "resize", "mode": "bilinear", "align_corners": False, "scale": 0.5}


@pytest.mark.torch
@pytest.mark.paddle
@pytest.mark.parametrize("size", ["2x8", "8x3", "3x3"])
def test_sizes_that_become_one_pixel(size: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = _write(tmp_path, HALF)
    assert main(["check", path]) == 0
    assert main(["verify", path, "--size", size]) == WRONG
    text = capsys.readouterr().err
    assert "error[refused]" in text
    assert "one pixel" in text


@pytest.mark.torch
@pytest.mark.paddle
def test_larger_sizes_are_verified(tmp_path: Path) -> None:
    assert main(["verify", _write(tmp_path, HALF), "--size", "8x6"]) == 0
