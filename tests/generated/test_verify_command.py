"""``segspec verify`` as scripts use it: exit status, JSON, and what it says where it cannot run."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
from pathlib import Path

import pytest

from segspec.cli import main
from segspec.graph.elaborate import elaborate
from segspec.parity import recording
from segspec.parity.settings import BATCH
from segspec.parity.sizes import default_sizes
from segspec.render.backend import backends, floors
from segspec.spec.load import load

FIELDS = {
    "spec": str,
    "size": str,
    "mode": str,
    "dtype": str,
    "check": str,
    "subject": str,
    "what": str,
    "backends": list,
    "shape": list,
    "error": float,
    "limit": float,
    "ok": bool,
}


@pytest.fixture
def frameworks(monkeypatch):
    """``frameworks("torch")``: as if these were installed and no others, and no process may start."""

    def install(*names: str) -> None:
        real = importlib.util.find_spec

        def find(name: str, *arguments: object) -> object:
            if name in ("torch", "paddle"):
                return importlib.machinery.ModuleSpec(name, None) if name in names else None
            return real(name, *arguments)

        def refuse(*arguments: object, **options: object) -> None:
            raise AssertionError("a backend was run")

        monkeypatch.setattr(importlib.util, "find_spec", find)
        monkeypatch.setattr(recording, "execute", refuse)

    return install


@pytest.mark.torch
@pytest.mark.paddle
def test_json_of_what_agrees(capsys):
    sizes = ["--size=32x48", "--size=17x23"]
    assert main(["verify", "unet", "--set=width=4", "--batch=2", "--steps=1", *sizes, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is True
    for row in report["results"]:
        for field, kind in FIELDS.items():
            assert isinstance(row[field], kind), field
        assert row["spec"] == "unet"
        assert row["backends"] == ["torch", "paddle"]
        assert row["ok"] is (row["error"] <= row["limit"] or not row["gates"])
        if row["dtype"] == "float64" and row["check"] in ("outputs", "nodes", "replay"):
            assert row["limit"] <= 1e-9  # a normalisation of few values has a floor of 1e-10
    assert {row["check"] for row in report["results"] if not row["check"].startswith("start")} == {
        *("outputs", "nodes", "replay", "statistics", "gradients", "gradient replay", "sgd", "adam")
    }
    (held,) = report["reports"]
    assert held["first"] is None
    assert held["faults"] == held["failures"] == []
    assert {"path": "dec1.merged", "what": "concat"} in held["nodes"]
    found = {
        (row["size"], row["mode"], row["dtype"], *row["shape"])
        for row in report["results"]
        if row["check"] == "outputs" and row["subject"] == "logits"
    }
    assert found == {
        (size, mode, dtype, *shape)
        for size, shape in (("32x48", (2, 59, 32, 48)), ("17x23", (2, 59, 17, 23)))
        for mode in ("eval", "train")
        for dtype in ("float64", "float32")
    }


@pytest.mark.torch
@pytest.mark.paddle
def test_the_table_of_what_agrees(capsys):
    given = ["--set=width=4", "--size=32x32", "--steps=0", "--no-starts"]
    assert main(["verify", "unet", "unet_upsample", *given]) == 0
    text = capsys.readouterr().out
    assert "unet_upsample  32x32" in text
    assert "DIFFER" not in text
    assert "comparisons agree" in text.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.torch
@pytest.mark.paddle
def test_outputs_of_training_are_verified_in_training(capsys):
    """The auxiliary head and the dropouts too, where a size makes all that float64 can be exact."""
    arguments = ["verify", "deeplabv3", "--preset=torchvision", "--set=auxiliary=true"]
    arguments += ["--set=channels=16", "--set=num_classes=2", "--size=32x64", "--steps=0", "--no-starts", "--json"]
    assert main(arguments) == 0
    results = json.loads(capsys.readouterr().out)["results"]
    outputs = [row for row in results if row["check"] == "outputs"]
    assert {row["mode"] for row in outputs if row["subject"] == "aux"} == {"train"}
    assert {row["mode"] for row in outputs if row["subject"] == "logits"} == {"eval", "train"}
    assert all(row["limit"] <= 1e-9 for row in outputs if row["dtype"] == "float64")


@pytest.mark.parametrize(
    ("present", "missing"), [(["torch"], ["paddle"]), (["paddle"], ["torch"]), ([], ["torch", "paddle"])]
)
def test_a_missing_framework_is_named_with_its_extra(frameworks, capsys, present, missing):
    frameworks(*present)
    assert main(["verify", "unet"]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    for name in ("torch", "paddle"):
        assert (f"segspec[{name}]" in shown.err) is (name in missing)

    assert main(["verify", "unet", "--json"]) == 2
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is False
    assert len(report["problems"]) == len(missing)


def test_a_framework_that_does_not_import_is_missing(monkeypatch, tmp_path, capsys):
    """Found on the path, and yet not there: what a broken installation is."""
    for name in ("torch", "paddle"):
        (tmp_path / f"{name}.py").write_text(f"raise ImportError('half of {name} is gone')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *_: importlib.machinery.ModuleSpec(name, None))
    assert main(["verify", "unet", "--set=width=4", "--size=32x32"]) == 2
    shown = capsys.readouterr()
    assert "segspec[torch]" in shown.err
    assert "agree" not in shown.out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["unet_upsample", "--size=30x32"], "16"),
        (["unet_upsample", "--size=32x32", "--size=32x40"], "16"),
        (["deeplabv3", "--batch=1", "--size=64x64"], "batch"),
        (["unet", "--backend=torch"], "two"),
        (["unet", "--backend=torch", "--backend=torch"], "two"),
        (["unet", "--backend=torch", "--backend=jax"], "jax"),
        (["unett"], "did you mean"),
        ([], "--all"),
        (["unet", "--all"], "--all"),
        (["unet", "--set=widht=8"], "width"),
        (["deeplabv3", "--preset=torchvison"], "torchvision"),
        (["deeplabv3", "--set=depth=34"], "depth"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_verified_is_refused_before_anything_runs(frameworks, capsys, arguments, expected):
    frameworks("torch", "paddle")
    assert main(["verify", *arguments]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert expected in shown.err
    assert "Traceback" not in shown.err


@pytest.mark.parametrize("size", ["30x32", "31x31"])
def test_a_refused_size_is_refused_with_the_rule(frameworks, capsys, size):
    frameworks("torch", "paddle")
    assert main(["verify", "unet_upsample", f"--size={size}"]) == 2
    shown = capsys.readouterr().err
    assert "divisible by 16" in shown
    assert "unet_upsample.yaml:" in shown


@pytest.mark.parametrize("argument", ["--size=32", "--size=0x32", "--size=-4x4", "--batch=0"])
def test_arguments_that_say_nothing(capsys, argument):
    with pytest.raises(SystemExit) as stopped:
        main(["verify", "unet", argument])
    assert stopped.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_size_a_backend_cannot_compute_is_refused(frameworks, tmp_path, capsys):
    """Paddle samples another pixel than PyTorch for a map of one pixel: no comparison could hold."""
    path = Path(tmp_path) / "shrinks.yaml"
    path.write_text(
        "segspec: 1\nname: shrinks\ntitle: Shrinks\ninputs:\n  image: {channels: 3}\nnodes:\n"
        "  conv: {op: conv2d, out_channels: 2, kernel_size: 1}\n"
        "  small: {op: resize, scale: 0.25, mode: bilinear, align_corners: false}\noutputs: [small]\n"
    )
    frameworks("torch", "paddle")
    assert main(["verify", str(path), "--size=4x16"]) == 2
    assert "PaddlePaddle cannot compute" in capsys.readouterr().err


@pytest.mark.parametrize("epsilon", ["1.0e-5", "1.0e-3"])
def test_one_of_the_default_sizes_makes_resizing_exact(tmp_path, epsilon):
    """Also where an op is a little coarse at every size, as normalisation with most epsilons is."""
    path = tmp_path / "resizes.yaml"
    path.write_text(
        "segspec: 1\nname: resizes\ntitle: Resizes\ninputs:\n  image: {channels: 3}\nnodes:\n"
        "  conv: {op: conv2d, out_channels: 2, kernel_size: 3}\n"
        f"  norm: {{op: batch_norm2d, eps: {epsilon}}}\n  pool: {{op: max_pool2d, kernel_size: 3}}\n"
        "  big: {op: resize, like: norm, mode: bilinear, align_corners: false}\noutputs: [big]\n"
    )
    graph = elaborate(load(str(path)), {}, "")
    chosen = list(backends().values())
    coarse = [
        {item.op for item in floors(graph, chosen, *size, BATCH, training=True)}
        for size in default_sizes(graph, chosen, BATCH)
    ]
    assert any("resize" not in ops for ops in coarse)


@pytest.mark.parametrize("name", ["unet", "deeplabv3", "resnet"])
def test_the_default_sizes_tell_height_from_width(name):
    """Among them is one whose sides are not rounded alike when they are halved."""
    graph = elaborate(load(name), {}, "")
    sizes = list(default_sizes(graph, list(backends().values()), BATCH))
    assert any(height % 2 != width % 2 for height, width in sizes)
    assert any(height % 2 == width % 2 == 1 for height, width in sizes)
