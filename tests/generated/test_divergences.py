"""Declared divergences: what is listed of them, what does away with them, and that neither can be wrong unseen."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from segspec.cli import main
from segspec.draw.divergences import as_markdown, declared
from segspec.draw.relation import relation_text
from segspec.graph.elaborate import elaborate
from segspec.ops import OPS
from segspec.render import render
from segspec.render.backend import backend, backends, diverging
from segspec.spec.load import load

ROOT = Path(__file__).resolve().parents[2]

SPEC = """segspec: 1
name: diverging
inputs: {image: {channels: 3}}
nodes:
  conv: {op: conv2d, out_channels: 4, kernel_size: 3, padding: 1}
  norm: {op: batch_norm2d}
  again: {sequence: [{op: relu}, {op: batch_norm2d, momentum: 0.03}]}
  pool: {op: max_pool2d, kernel_size: 2}
  small: {op: batch_norm2d, momentum: 0.03, affine: false}
  middle: {op: batch_norm2d, momentum: 0.5}
  whole: {op: batch_norm2d, momentum: 1}
  kept: {op: batch_norm2d, momentum: 0}
  frozen: {op: batch_norm2d, frozen: true}
  mean: {op: mean, dim: [-1]}
  flat: {op: batch_norm1d, momentum: 0.2}
outputs: [flat]
"""


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "diverging.yaml"
    path.write_text(SPEC, encoding="utf-8")
    return path


def replaced(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text, "the templates have changed"
    path.write_text(text.replace(old, new), encoding="utf-8")
    backends.cache_clear()


# --- what is generated ----------------------------------------------------------------------------------


def test_the_command_in_the_header_renews_what_it_made(spec, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["generate", str(spec), "--exact-running-stats", "-o", "made"]) == 0
    text = (tmp_path / "made/paddle/diverging.py").read_text(encoding="utf-8")
    command = re.search(r"# To renew it: segspec (.*)", text).group(1)
    assert command == "generate diverging.yaml --backend paddle --exact-running-stats"
    capsys.readouterr()
    assert main([*command.split(), "-o", "made", "--check"]) == 0
    assert capsys.readouterr().out == ""
    assert main([*command.split(), "--stdout"]) == 0
    assert capsys.readouterr().out == text
    # Without the option it is another module, and the check says so.
    assert main([*command.split()[:-1], "-o", "made", "--check"]) == 1
    assert "UnbiasedBatchNorm2D" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["unet", "dense_crf"])
def test_what_diverges_nowhere_is_written_as_ever(name, capsys):
    """PyTorch's rule is the canonical one, and the dense CRF has no statistics."""
    chosen = ["torch"] if name == "unet" else ["torch", "paddle"]
    for held in chosen:
        assert main(["generate", name, "--backend", held, "--exact-running-stats", "--stdout"]) == 0
        assert capsys.readouterr().out == (ROOT / f"generated/{held}/{name}.py").read_text(encoding="utf-8")


def test_both_kinds_in_one_process_are_what_they_are_alone():
    graph = elaborate(load("unet"), {}, "")
    idiomatic, exact = backend("paddle"), backend("paddle").with_exact_running_stats()
    written = (ROOT / "generated/paddle/unet.py").read_text(encoding="utf-8")
    first = render(graph, exact)
    assert render(graph, idiomatic) == written
    assert render(graph, exact) == first != written
    assert (idiomatic.exact_running_stats, exact.exact_running_stats) == (False, True)
    assert idiomatic.facts("batch_norm2d").divergences
    assert not exact.facts("batch_norm2d").divergences


def test_only_what_is_used_is_defined(spec, capsys):
    assert main(["generate", "unet", "--backend", "paddle", "--exact-running-stats", "--stdout"]) == 0
    text = capsys.readouterr().out
    assert text.count("UnbiasedBatchNorm2D(") == 2  # its class, and ConvBnRelu's layer
    assert "nn.BatchNorm2D(" not in text
    assert "UnbiasedBatchNorm1D" not in text
    assert main(["generate", str(spec), "--backend", "paddle", "--exact-running-stats", "--stdout"]) == 0
    text = capsys.readouterr().out
    assert "class UnbiasedBatchNorm1D(nn.BatchNorm1D):" in text
    assert "class UnbiasedBatchNorm2D(nn.BatchNorm2D):" in text


def test_what_is_written_is_in_order(spec, tmp_path, capsys):
    assert main(["generate", str(spec), "--backend", "paddle", "--exact-running-stats", "-o", str(tmp_path)]) == 0
    path = str(tmp_path / "paddle/diverging.py")
    for arguments in (
        ["check", "--config", "lint.select=['B','C4','E','F','I','PIE','RET','SIM','UP','W']"],
        ["format", "--check"],
    ):
        command = [
            sys.executable,
            "-m",
            "ruff",
            *arguments,
            "--isolated",
            "--no-cache",
            "--config",
            "line-length = 100",
        ]
        done = subprocess.run([*command, path], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.paddle
def test_its_types_are_strict(spec, tmp_path, capsys):
    pytest.importorskip("mypy")
    assert main(["generate", str(spec), "--backend", "paddle", "--exact-running-stats", "-o", str(tmp_path)]) == 0
    path = str(tmp_path / "paddle/diverging.py")
    command = [sys.executable, "-m", "mypy", "--strict", "--allow-untyped-calls", "--no-warn-return-any"]
    done = subprocess.run(
        [*command, "--no-strict-optional", path], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_the_names_of_the_layers_are_taken(spec, capsys):
    replaced(spec, "inputs: {image: {channels: 3}}", "class_name: UnbiasedBatchNorm2D\ninputs: {image: {channels: 3}}")
    assert main(["check", str(spec)]) == 2
    assert "PaddlePaddle has a 'UnbiasedBatchNorm2D'" in capsys.readouterr().err


# --- what is listed -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        (
            {"frozen": False, "momentum": 0.1},
            "float32(0.9)·before + (1 − float32(0.9))·(value − 0.9·before)·(n − 1) / (0.1·n)",
        ),
        ({"frozen": False, "momentum": 0.5}, "0.5·before + 0.5·(value − 0.5·before)·(n − 1) / (0.5·n)"),
        ({"frozen": False, "momentum": 1}, "value·(n − 1) / n"),
        ({"frozen": False, "momentum": 0}, "value"),
        ({"frozen": True, "momentum": 0.1}, "value"),
        (
            {},
            "value where momentum = 0 or frozen, else float32(1 − momentum)·before"
            " + (1 − float32(1 − momentum))·(value − (1 − momentum)·before)·(n − 1) / (momentum·n)",
        ),
    ],
    ids=str,
)
def test_a_relation_as_mathematics(known, expected):
    rule = backend("paddle").facts("batch_norm2d").divergences["running_var"]
    assert relation_text(rule.relation.raw, known) == expected


@pytest.mark.parametrize(
    ("relation", "expected"),
    [
        ("value - (before - value)", "value − (before − value)"),
        ("value - before + value", "value − before + value"),
        ("value / (2 / before)", "value·before / 2"),
        ("value / 2 / before * 3", "value·3 / (2·before)"),
        ("-value + -(value + before)", "−value + −(value + before)"),
        ("1 / (value + before)", "1 / (value + before)"),
        ("max(value, before)", "max(value, before)"),
        ("value * -2 + before * 0 + 0", "value·(−2)"),
        ("value if count > 1 else before", "value where n > 1, else before"),
    ],
)
def test_relations_of_other_forms(relation, expected):
    assert relation_text(relation, {}) == expected


def test_a_networks_are_listed_with_their_numbers(spec, capsys):
    assert main(["show", str(spec), "--divergences", "--json"]) == 0
    lines = json.loads(capsys.readouterr().out)["divergences"]
    found = {(line["statistic"], tuple(line["nodes"])): (line["n"], line["becomes"]) for line in lines}
    update = "float32({0})·before + (1 − float32({0}))·(value − {0}·before){1}".format
    assert found == {
        ("running_mean", ("norm",)): ("", update(0.9, " / 0.1")),
        ("running_var", ("norm",)): ("N·H·W", update(0.9, "·(n − 1) / (0.1·n)")),
        ("running_mean", ("again.1", "small")): ("", update(0.97, " / 0.03")),
        ("running_var", ("again.1",)): ("N·H·W", update(0.97, "·(n − 1) / (0.03·n)")),
        ("running_var", ("small",)): ("N·⌊H/2⌋·⌊W/2⌋", update(0.97, "·(n − 1) / (0.03·n)")),
        # 0.5 is a float32, so that nothing happens to the mean.
        ("running_var", ("middle",)): ("N·⌊H/2⌋·⌊W/2⌋", "0.5·before + 0.5·(value − 0.5·before)·(n − 1) / (0.5·n)"),
        ("running_var", ("whole",)): ("N·⌊H/2⌋·⌊W/2⌋", "value·(n − 1) / n"),
        ("running_mean", ("flat",)): ("", update(0.8, " / 0.2")),
        ("running_var", ("flat",)): ("N·⌊H/2⌋", update(0.8, "·(n − 1) / (0.2·n)")),
    }
    assert {line["backend"] for line in lines} == {"PaddlePaddle"}
    assert {(*line["ops"], *line["exact_layers"]) for line in lines} == {
        ("batch_norm2d", "UnbiasedBatchNorm2D"),
        ("batch_norm1d", "UnbiasedBatchNorm1D"),
    }


def test_the_table_of_a_network(spec, capsys):
    assert main(["show", str(spec), "--divergences", "--size=8x6"]) == 0
    text = capsys.readouterr().out
    assert re.search(
        r"^PaddlePaddle  batch_norm2d  again.1 and 1 more +running_mean +float32\(0.97\)", text, re.MULTILINE
    )
    assert re.search(
        r"^PaddlePaddle  batch_norm2d  whole +N·4·3 +running_var +value·\(n − 1\) / n  \[2\]$", text, re.MULTILINE
    )
    assert "[2] it averages the biased batch variance, and its momentum is a float32" in text
    assert "--exact-running-stats" in text.splitlines()[-1]
    assert "kept" not in text
    assert "frozen" not in text


def test_all_that_are_declared(capsys):
    assert main(["show", "--divergences"]) == 0
    text = capsys.readouterr().out
    assert "batch_norm1d, batch_norm2d" in text
    assert "running_mean" in text
    assert "running_var" in text
    assert main(["show", "--divergences", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["divergences"]) == 2


def test_a_network_without_any(capsys):
    assert main(["show", "dense_crf", "--divergences"]) == 0
    assert capsys.readouterr().out.startswith("dense_crf: in every backend,")
    assert main(["show", "dense_crf", "--divergences", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"divergences": []}


@pytest.mark.parametrize("arguments", [[], ["--divergences", "--set=a=1"], ["--divergences", "--size=8x8"]])
def test_without_a_name_there_is_nothing_else_to_show(arguments, capsys):
    assert main(["show", *arguments]) == 2
    assert "name a network" in capsys.readouterr().err


def test_the_docs_list_what_is_declared(update):
    path = ROOT / "docs/backends.md"
    text = path.read_text(encoding="utf-8")
    found = re.search(r"(<!-- divergences.*?-->\n).*?(<!-- /divergences -->)", text, re.DOTALL)
    renewed = f"{found[1]}\n{as_markdown(declared(list(backends().values())))}\n\n{found[2]}"
    if update:
        path.write_text(text.replace(found[0], renewed), encoding="utf-8")
        text = path.read_text(encoding="utf-8")
    assert renewed in text, "write it anew: pytest --update tests/generated/test_divergences.py"


def test_no_other_op_has_statistics():
    """Docs say so; a new one belongs among the divergences, or agrees in every backend."""
    updating = {
        name
        for name, declared_op in OPS.items()
        if declared_op.inputs[1] != 0
        for example in declared_op.examples[:1]
        if any(not slot.trainable for slot in _slots(name, example))
    }
    assert updating == {"batch_norm1d", "batch_norm2d"}


def _slots(name: str, example):
    from segspec.ops.attributes import kind_of

    declared_op = OPS[name]
    given = {
        key: kind_of(declared_op, key).read(value) for key, value in example.items() if key not in ("shape", "other")
    }
    inputs = (tuple(example.get("shape", (2, 4, 9, 12))),) * max(declared_op.inputs[0], 1)
    return declared_op(**given).slots(inputs)


@pytest.mark.parametrize("name", backends())
def test_exact_layers_are_helpers_of_ops_that_diverge(name):
    held = backend(name)
    assert set(held.exact_layers.values()) <= set(held.helpers)
    assert set(held.exact_layers) == {op for op, facts in held.ops.items() if facts.divergences}


# --- a made-up one --------------------------------------------------------------------------------------

HALVING = """
{% macro HalvingBatchNorm2D() %}
class HalvingBatchNorm2D(nn.BatchNorm2D):
    \"\"\"It halves its running mean after each step.\"\"\"

    def forward(self, input: Tensor) -> Tensor:
        output = super().forward(input)
        if self.training and not self._use_global_stats:
            self._mean.set_value(self._mean * 0.5)
        return output
{% endmacro %}
"""
MEAN = """      running_mean:
        relation: >-
          value if momentum == 0 or frozen else float32(1 - momentum) * before
          + (1 - float32(1 - momentum)) * (value - (1 - momentum) * before) / momentum
        reason: its momentum is a float32
"""
HALVED = """      running_mean:
        relation: >-
          value if frozen else before / 2 if momentum == 0 else (float32(1 - momentum) * before
          + (1 - float32(1 - momentum)) * (value - (1 - momentum) * before) / momentum) / 2
        reason: it halves its running mean
"""
SMALL = """segspec: 1
name: small
inputs: {image: {channels: 3}}
nodes:
  norm: {op: batch_norm2d}
  conv: {op: conv2d, out_channels: 4, kernel_size: 3, padding: 1, bias: false}
  more: {op: batch_norm2d, momentum: 0.03}
  act: {op: relu}
  kept: {op: batch_norm2d, momentum: 0}
outputs: [kept]
"""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(SMALL, encoding="utf-8")
    return path


@pytest.fixture
def halving(templates: Path) -> Path:
    """Templates whose Paddle layers halve the running mean, declared as such."""
    with (templates / "paddle/helpers.jinja").open("a", encoding="utf-8") as file:
        file.write(HALVING)
    replaced(templates / "paddle/ops.jinja", '"nn.BatchNorm2D"', '"HalvingBatchNorm2D"')
    replaced(templates / "paddle/backend.yaml", MEAN, HALVED)
    return templates


def verified(path: Path, capsys, *options: str) -> tuple[int, set[str]]:
    """The exit status, and which statistics differ."""
    status = main(["verify", str(path), "--size=6x5", "--json", *options])
    shown = capsys.readouterr()
    assert shown.out, shown.err
    rows = [row for row in json.loads(shown.out)["results"] if row["check"] == "statistics"]
    assert len(rows) == 12, "three layers in two dtypes"
    return status, {row["subject"].split(".")[-1] for row in rows if not row["ok"]}


def test_a_made_up_divergence_is_listed(halving, small, capsys):
    assert main(["show", str(small), "--divergences"]) == 0
    text = capsys.readouterr().out
    assert "(float32(0.9)·before + (1 − float32(0.9))·(value − 0.9·before) / 0.1) / 2" in text
    assert "before / 2" in text
    assert "it halves its running mean" in text


@pytest.mark.slow
@pytest.mark.torch
@pytest.mark.paddle
def test_a_made_up_divergence_is_held_to_its_relation(halving, small, capsys):
    assert verified(small, capsys) == (0, set())
    replaced(halving / "paddle/helpers.jinja", "* 0.5", "* 0.50001")
    assert verified(small, capsys) == (1, {"running_mean"})


@pytest.mark.slow
@pytest.mark.torch
@pytest.mark.paddle
def test_an_exact_layer_does_away_with_a_made_up_divergence(halving, small, capsys):
    assert verified(small, capsys, "--exact-running-stats") == (0, set())


def test_what_diverges_and_has_no_exact_layer_is_refused(templates, small, capsys):
    replaced(templates / "paddle/backend.yaml", "  batch_norm2d: UnbiasedBatchNorm2D\n", "")
    for command in (["generate", "--stdout"], ["verify"]):
        assert main([command[0], str(small), "--exact-running-stats", *command[1:]]) == 2
        shown = capsys.readouterr()
        assert shown.out == ""
        assert "PaddlePaddle has no exact layer for batch_norm2d: its momentum is a float32" in shown.err
        assert "small.yaml:5" in shown.err
    assert main(["generate", str(small), "--stdout"]) == 0
    # Where nothing diverges, none is needed.
    replaced(small, "{op: batch_norm2d", "{op: batch_norm2d, frozen: true")
    assert main(["generate", str(small), "--exact-running-stats", "--stdout"]) == 0


# --- what is broken on purpose --------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.torch
@pytest.mark.paddle
@pytest.mark.parametrize(
    ("old", "new", "options", "wrong"),
    [
        ("", "", [], set()),
        ("", "", ["--exact-running-stats"], set()),
        (" * (count - 1) / count", "", [], {"running_var"}),
        (" * (count / (count - 1))", "", ["--exact-running-stats"], {"running_var"}),
        ("1 - self._momentum", "1.001 - self._momentum", ["--exact-running-stats"], {"running_mean", "running_var"}),
    ],
)
def test_red_when_broken(templates, small, capsys, old, new, options, wrong):
    if old:
        where = "helpers.jinja" if options else "backend.yaml"
        replaced(templates / "paddle" / where, old, new)
    assert verified(small, capsys, *options) == (int(bool(wrong)), wrong)


@pytest.mark.slow
@pytest.mark.torch
@pytest.mark.paddle
def test_a_momentum_rounded_to_float32_is_not_exact(templates, small, capsys):
    """Which is why the layer does not leave the running mean to Paddle."""
    path: Callable[[str], Path] = (templates / "paddle").joinpath
    rounded = "paddle.full([], self._momentum, 'float32').astype(values.dtype)"
    replaced(path("helpers.jinja"), "paddle.full([], self._momentum, values.dtype)", rounded)
    assert verified(small, capsys, "--exact-running-stats") == (1, {"running_mean", "running_var"})


def test_where_there_are_none_nothing_is_found(spec):
    graph = elaborate(load(str(spec)), {}, "")
    assert not list(diverging(graph, backend("torch")))
    assert not list(diverging(graph, backend("paddle").with_exact_running_stats()))
    assert {item.slot for item in diverging(graph, backend("paddle"))} == {"running_mean", "running_var"}
