"""``segspec weights``: what fits, what does not and how that is said, and that no tensor is transposed by its shape."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from segspec.cli import main
from segspec.graph.model import Graph
from segspec.weights import formats, portable

KINDS = {"safetensors": ".safetensors", "archive": ".pth", "arrays": ".pdparams"}


@pytest.mark.parametrize(("kind", "other"), list(permutations(KINDS, 2)))
def test_there_and_back(
    kind: str, other: str, spec: Path, save: Callable[..., Path], state: dict[str, np.ndarray], tmp_path: Path
) -> None:
    source = save(kind)
    between, back = tmp_path / f"between{KINDS[other]}", tmp_path / f"back{KINDS[kind]}"
    assert main(["weights", "convert", str(spec), str(source), str(between)]) == 0
    assert main(["weights", "convert", str(spec), str(between), str(back)]) == 0
    before, after = formats.read(source).tensors, formats.read(back).tensors
    assert list(before) == list(after)
    assert all(np.array_equal(before[key].read(), after[key].read()) for key in before)
    assert main(["weights", "diff", str(source), str(back)]) == 0
    assert main(["weights", "diff", str(source), str(between), "--spec", str(spec)]) == 0


def test_layouts_follow_from_declarations(save: Callable[..., Path], state: dict[str, np.ndarray]) -> None:
    """A square linear weight is transposed, another square matrix is not, and names are each framework's."""
    torch, paddle = (formats.read(save(kind)).tensors for kind in ("archive", "arrays"))
    square = state["square.weight"]
    assert square.shape == (8, 8)
    assert np.array_equal(torch["square.weight"].read(), square)
    assert np.array_equal(paddle["square.weight"].read(), square.T)
    assert paddle["head.weight"].shape == (8, 4)
    assert np.array_equal(paddle["table"].read(), state["table"])
    assert np.array_equal(paddle["stem.1._variance"].read(), state["stem.1.running_var"])
    assert np.array_equal(paddle["stem.2._weight"].read(), state["stem.2.weight"])
    assert torch["stem.1.num_batches_tracked"].read() == 0
    assert "stem.1.num_batches_tracked" not in paddle


def test_the_portable_checkpoint_says_what_it_is_of(
    spec: Path, save: Callable[..., Path], graph: Graph, tmp_path: Path
) -> None:
    target = tmp_path / "a.safetensors"
    assert main(["weights", "convert", str(spec), str(save("arrays")), str(target)]) == 0
    found = formats.read(target).metadata
    assert found == portable.metadata(graph)
    assert found["spec"] == "small"
    assert found["digest"] == graph.definition.file.digest()
    assert json.loads(found["parameters"]) == {"in_channels": 3, "num_classes": 4, "width": 8, "eps": 0.001}


def test_another_network_s_checkpoint_is_noted(
    spec: Path, save: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = str(tmp_path / "a.safetensors")
    assert main(["weights", "convert", str(spec), str(save("arrays")), first]) == 0
    assert capsys.readouterr().err == ""
    assert main(["weights", "convert", str(spec), first, str(tmp_path / "a.pth"), "--set", "eps=0.1"]) == 0
    assert "was written for eps=0.001, and this is eps=0.1" in capsys.readouterr().err


def test_counters_are_known_wherever_they_come_from(spec: Path, save: Callable[..., Path], tmp_path: Path) -> None:
    source = save("safetensors", **{"stem.1.num_batches_tracked": np.array(7)})
    assert main(["weights", "convert", str(spec), str(source), str(tmp_path / "b.safetensors")]) == 0
    assert "stem.1.num_batches_tracked" not in formats.read(tmp_path / "b.safetensors").tensors
    source = save("archive", **{"stem.1.num_batches_tracked": None})  # as before version 0.4
    assert main(["weights", "convert", str(spec), str(source), str(tmp_path / "b.pth")]) == 0


def test_what_does_not_fit_is_said_by_block(
    spec: Path, save: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = {
        **dict.fromkeys(["stem.0.weight", "stem.0.bias", "stem.1.running_mean", "square.bias"]),
        "aux.0.weight": np.ones(1, np.float32),
        "aux.0.bias": np.ones(1, np.float32),
        "aux.1.weight": np.ones(1, np.float32),
        "head.weight": np.ones((21, 8), np.float32),
        "head.bias": np.ones(21, np.float32),
        "square.weight": np.ones((8, 8), np.int64),
    }
    target = tmp_path / "b.pdparams"
    assert main(["weights", "convert", str(spec), str(save("archive", **changes)), str(target)]) == 2
    message = capsys.readouterr().err
    assert "it lacks 4 tensors of small, its keys read as PyTorch's: stem.* (3 of 7), square.bias" in message
    assert "small has no place for 3 tensors of it" in message
    assert "aux.* (3 of 3)" in message
    assert "it has 2 tensors of another shape: head.weight, head.bias: head.weight is 21×8 and should be 4×8" in message
    assert "it has 1 tensor of whole numbers: square.weight: square.weight is I64" in message
    assert "--allow" in message
    assert not target.exists()


def test_transposed_axes_are_told(
    spec: Path, save: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = save("archive", **{"head.weight": np.ones((8, 4), np.float32)})
    assert main(["weights", "convert", str(spec), str(source), str(tmp_path / "b.pth")]) == 2
    assert "head.weight is 8×4 and should be 4×8; its axes are in the opposite order" in capsys.readouterr().err


def test_what_is_allowed_is_left_out(
    spec: Path, save: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = {"head.weight": np.ones((21, 8), np.float32), "head.bias": None, "aux.a": np.ones(1, np.float32)}
    source, target = str(save("archive", **changes)), str(tmp_path / "b.pdparams")
    for allowed in (["head.*"], ["aux.*"], ["head.bias", "aux.*"]):
        options = [part for pattern in allowed for part in ("--allow", pattern)]
        assert main(["weights", "convert", str(spec), source, target, *options]) == 2
    capsys.readouterr()
    assert main(["weights", "convert", str(spec), source, target, "--allow", "head.*", "--allow", "aux*"]) == 0
    notes = capsys.readouterr().err
    assert "left out: head.weight, head.bias" in notes
    assert "left out: aux.a" in notes
    assert not any(key.startswith(("head", "aux")) for key in formats.read(Path(target)).tensors)


def test_what_is_allowed_in_vain_is_said(
    spec: Path, save: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = str(tmp_path / "b.pdparams")
    command = [
        "weights",
        "convert",
        str(spec),
        str(save("archive", **{"head.bias": None})),
        target,
        "--allow",
        "haed.*",
    ]
    assert main(command) == 2
    assert "help: --allow 'haed.*' matches no tensor; --allow PATTERN leaves out" in capsys.readouterr().err
    assert main([*command, "--allow", "head.*"]) == 0
    assert "note: --allow 'haed.*' matches no tensor" in capsys.readouterr().err


@pytest.mark.parametrize("options", [[], ["--checkpoint", "torchvision"]])
def test_not_everything_can_be_allowed(
    options: list[str], save: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["weights", "convert", "vgg16_bn", str(save("archive")), str(tmp_path / "b.pth"), "--allow", "*"]
    assert main([*command, *options]) == 2
    assert "error[" in capsys.readouterr().err
    assert not (tmp_path / "b.pth").exists()


def test_from_says_whose_names_a_file_has(spec: Path, save: Callable[..., Path], tmp_path: Path) -> None:
    """A safetensors file may have a framework's own names and layouts; that is never guessed."""
    held = formats.read(save("arrays"))
    source, target = tmp_path / "theirs.safetensors", tmp_path / "b.safetensors"
    formats.write(source, "safetensors", held.tensors, {})
    assert main(["weights", "convert", str(spec), str(source), str(target)]) == 2
    for name in ("paddle", "pdparams", ".pdparams"):
        assert main(["weights", "convert", str(spec), str(source), str(target), "--from", name]) == 0
        assert main(["weights", "diff", str(target), str(held.path), "--spec", str(spec)]) == 0


def test_formats_by_suffix_or_by_name(
    spec: Path, save: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = str(save("arrays"))
    for suffix, kind in {".pt": "archive", ".PTH": "archive", ".safetensors": "safetensors"}.items():
        assert main(["weights", "convert", str(spec), source, str(tmp_path / f"a{suffix}")]) == 0
        assert formats.read(tmp_path / f"a{suffix}").format == kind
    assert main(["weights", "convert", str(spec), source, str(tmp_path / "a.bin")]) == 2
    assert ".safetensors, .pth, .pt, .pdparams" in capsys.readouterr().err
    assert main(["weights", "convert", str(spec), source, str(tmp_path / "a.bin"), "--to", "torch"]) == 0
    assert formats.read(tmp_path / "a.bin").format == "archive"
    assert main(["weights", "convert", str(spec), source, str(tmp_path / "a.bin"), "--to", "onnx"]) == 2
    assert "formats: " in capsys.readouterr().err


def test_a_file_may_be_its_own_target(spec: Path, save: Callable[..., Path], state: dict[str, np.ndarray]) -> None:
    source = save("archive")
    assert main(["weights", "convert", str(spec), str(source), str(source), "--to", "paddle"]) == 0
    assert np.array_equal(formats.read(source).tensors["square.weight"].read(), state["square.weight"].T)


def test_no_file(spec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights", "convert", str(spec), "absent.pth", str(tmp_path / "b.pth")]) == 2
    assert "absent.pth: error[unreadable]: cannot read: No such file" in capsys.readouterr().err
    assert main(["weights", "inspect", str(tmp_path)]) == 2
    os.mkfifo(tmp_path / "pipe")
    assert main(["weights", "inspect", str(tmp_path / "pipe")]) == 2
    assert main(["weights", "convert", "unett", "absent.pth", "b.pth"]) == 2
    long = "a" * 300
    capsys.readouterr()
    assert main(["weights", "inspect", f"{long}.pth"]) == 2
    assert f"{long}.pth: error[unreadable]: cannot read: " in capsys.readouterr().err
    assert main(["weights", "init", str(tmp_path / "small.yaml"), "-o", f"{long}.pth"]) == 2
    assert f"{long}.pth: error[output]: cannot write: " in capsys.readouterr().err


def test_a_start_is_the_same_in_every_format(spec: Path, tmp_path: Path) -> None:
    held = {}
    for suffix in KINDS.values():
        path = tmp_path / f"start{suffix}"
        assert main(["weights", "init", str(spec), "--seed", "7", "-o", str(path)]) == 0
        back = tmp_path / f"back{suffix}.safetensors"
        assert main(["weights", "convert", str(spec), str(path), str(back)]) == 0
        held[suffix] = {key: tensor.read().tobytes() for key, tensor in formats.read(back).tensors.items()}
    assert held[".pth"] == held[".pdparams"] == held[".safetensors"]
    other = tmp_path / "other.safetensors"
    assert main(["weights", "init", str(spec), "--seed", "8", "-o", str(other)]) == 0
    assert main(["weights", "diff", str(other), str(tmp_path / "start.safetensors")]) == 1
    assert formats.read(other).tensors["stem.1.running_var"].read().tolist() == [1] * 8
    with pytest.raises(SystemExit):
        main(["weights", "init", str(spec), "--seed", "-1", "-o", str(other)])


# --- inspect and diff -----------------------------------------------------------------------------------


def test_inspect(spec: Path, save: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    values = np.array([1, 2, np.nan, 6], np.float32)
    assert main(["weights", "inspect", str(save("arrays", **{"head.bias": values})), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["format"] == "PaddlePaddle's .pdparams"
    (bias,) = (item for item in found["tensors"] if item["key"] == "head.bias")
    assert (bias["dtype"], bias["shape"], bias["nonfinite"]) == ("F32", [4], 1)
    assert (bias["least"], bias["greatest"], bias["mean"]) == (1, 6, 3)
    assert bias["deviation"] == pytest.approx(np.std([1, 2, 6]))


def test_statistics_of_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    from segspec.weights import tensors
    from segspec.weights.inspect import statistics

    values = np.random.default_rng(0).standard_normal((40, 50)) + 1000
    whole = statistics(tensors.of_array("a", values))
    monkeypatch.setattr(tensors, "PIECE", 70)
    parts = statistics(tensors.of_array("a", values))
    assert parts.deviation == pytest.approx(values.std(), rel=1e-12)
    assert whole.deviation == pytest.approx(values.std(), rel=1e-12)
    assert parts.mean == pytest.approx(values.mean(), rel=1e-12)
    assert (parts.least, parts.greatest) == (values.min(), values.max())


def test_inspect_shows_no_control_characters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from segspec.weights.tensors import of_array

    key = "a\x1b[2J\nb"
    formats.write(tmp_path / "a", "safetensors", {key: of_array(key, np.ones(2))}, {"spec": "\x1b]0;title\x07"})
    assert main(["weights", "inspect", str(tmp_path / "a")]) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_diff(
    spec: Path, save: Callable[..., Path], state: dict[str, np.ndarray], capsys: pytest.CaptureFixture[str]
) -> None:
    first = save("archive", "first")
    changes = {
        "head.bias": state["head.bias"] + np.array([0, 0, 0, 1e-3], np.float32),
        "head.weight": np.ones((5, 8), np.float32),
        "square.bias": None,
        "more": np.ones(1, np.float32),
        "stem.0.bias": state["stem.0.bias"].astype(np.float64),
    }
    second = save("archive", "second", **changes)
    assert main(["weights", "diff", str(first), str(second), "--json"]) == 1
    found = {item["key"]: item for item in json.loads(capsys.readouterr().out)["differences"]}
    assert found["head.bias"]["absolute"] == pytest.approx(1e-3, rel=1e-4)
    assert found["head.bias"]["relative"] == pytest.approx(1e-3 / np.linalg.norm(state["head.bias"]), rel=1e-4)
    assert found["head.weight"]["what"] == "4×8 and 5×8"
    assert found["square.bias"]["what"] == "only in the first"
    assert found["more"]["what"] == "only in the second"
    assert found["stem.0.bias"]["what"] == "F32 and F64, equal values"
    assert len(found) == 5
    assert main(["weights", "diff", str(first), str(first)]) == 0
    assert main(["weights", "diff", str(first), str(first), "--set", "width=3"]) == 2


def test_diff_of_what_is_not_finite(save: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    values = np.array([1, np.nan, np.inf, 2], np.float32)
    first, same = save("arrays", "a", **{"head.bias": values}), save("arrays", "b", **{"head.bias": values})
    assert main(["weights", "diff", str(first), str(same)]) == 0
    other = save("arrays", "c", **{"head.bias": np.ones(4, np.float32)})
    capsys.readouterr()
    assert main(["weights", "diff", str(first), str(other), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["differences"][0]["absolute"] is None


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_types_stay_where_the_target_s_loader_takes_them(
    dtype: type,
    spec: Path,
    save: Callable[..., Path],
    state: dict[str, np.ndarray],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    changes = {name: array.astype(dtype) for name, array in state.items()}
    source = save("archive", **changes)
    for suffix in KINDS.values():
        assert main(["weights", "convert", str(spec), str(source), str(tmp_path / f"b{suffix}")]) == 0
        assert ("become F32" in capsys.readouterr().err) is (suffix == ".pdparams")
    assert np.array_equal(
        formats.read(tmp_path / "b.pdparams").tensors["square.weight"].read(),
        changes["square.weight"].astype(np.float32).T,
    )
    assert formats.read(tmp_path / "b.safetensors").tensors["square.weight"].read().dtype == dtype


# --- the frameworks -------------------------------------------------------------------------------------


@pytest.mark.torch
@pytest.mark.paddle
def test_outputs_agree(spec: Path, tmp_path: Path) -> None:
    """From a training script's file to the other framework's, by each framework's own line."""
    import paddle
    import torch

    torch.manual_seed(0)
    assert main(["generate", str(spec), "-o", str(tmp_path)]) == 0
    networks = {name: _imported(tmp_path / name / "small.py").Small() for name in ("torch", "paddle")}
    network = networks["torch"]
    for _ in range(3):
        network(torch.randn(4, 3, 6, 6))  # statistics
    torch.save({"state_dict": torch.nn.DataParallel(network).state_dict(), "epoch": 3}, tmp_path / "a.pth")
    assert main(["weights", "convert", str(spec), str(tmp_path / "a.pth"), str(tmp_path / "a.pdparams")]) == 0
    assert networks["paddle"].set_state_dict(paddle.load(str(tmp_path / "a.pdparams"))) == ([], [])
    image = np.random.default_rng(0).standard_normal((2, 3, 6, 6)).astype(np.float32)
    for held in networks.values():
        held.eval()
    first = network(torch.from_numpy(image)).detach().numpy()
    second = networks["paddle"](paddle.to_tensor(image)).numpy()
    assert np.linalg.norm(first - second) < 1e-6 * np.linalg.norm(first)

    assert main(["weights", "convert", str(spec), str(tmp_path / "a.pdparams"), str(tmp_path / "b.pth")]) == 0
    fresh = _imported(tmp_path / "torch" / "small.py").Small()
    fresh.load_state_dict(torch.load(tmp_path / "b.pth", weights_only=True), strict=True)
    fresh.eval()
    assert np.array_equal(fresh(torch.from_numpy(image)).detach().numpy(), first)


def _imported(path: Path) -> object:
    import importlib.util

    found = importlib.util.spec_from_file_location(path.stem, path)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module
