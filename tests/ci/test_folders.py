"""``--all FOLDER``: every network in it, at every preset."""

from __future__ import annotations

import pytest

from segspec.cli import main


@pytest.fixture
def project(tmp_path, monkeypatch, spec):
    monkeypatch.chdir(tmp_path)
    for folder, name in (("specs", "one"), ("specs/deep", "two"), ("specs/.hidden", "three"), ("unet", "four")):
        spec(tmp_path / folder, name)
    (tmp_path / "specs/blocks").mkdir()
    (tmp_path / "specs/blocks/part.yml").write_text("segspec: 1\nblocks:\n  A:\n\n    nodes:\n      a: {op: relu}\n")
    (tmp_path / "specs/workflow.yml").write_text("on: push\njobs: {}\n")
    (tmp_path / "empty").mkdir()
    return tmp_path


def test_check(project, capsys):
    assert main(["check", "--all", "specs"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in shown] == ["two", "two_wide", "one", "one_wide"]


def test_a_parameter_of_those_that_have_it(project, capsys):
    path = project / "specs/deep/two.yaml"
    path.write_text(path.read_text().replace("width", "channels"))
    assert main(["check", "--all", "specs", "--set=width=8"]) == 0
    shown = capsys.readouterr().out.splitlines()
    counts = {name: int(text.split()[0]) for name, _, text in (line.partition(": ") for line in shown)}
    assert counts == {"two": 112, "two_wide": 168, "one": 224, "one_wide": 224}


def test_generate(project, capsys):
    assert main(["generate", "--all", "specs/", "--backend=torch"]) == 0
    assert capsys.readouterr().out.split() == [
        f"generated/torch/{name}.py" for name in ("two", "two_wide", "one", "one_wide")
    ]
    assert main(["generate", "--all", "specs/", "--backend=torch", "--check"]) == 0
    path = project / "specs/one.yaml"
    path.write_text(path.read_text().replace("wide: {width: 6}", "wide: {width: 8}"))
    assert main(["generate", "--all", "specs/", "--backend=torch", "--check"]) == 1
    assert "+++ generated/torch/one_wide.py" in capsys.readouterr().out


def test_every_mistake_in_a_folder_is_told(project, capsys):
    for name in ("one", "deep/two"):
        path = project / f"specs/{name}.yaml"
        path.write_text(path.read_text().replace("max_pool2d", "max_pol2d"))
    assert main(["check", "--all", "specs"]) == 2
    shown = capsys.readouterr().err
    assert "specs/one.yaml:10" in shown
    assert "specs/deep/two.yaml:10" in shown


def test_several_folders(project, capsys):
    assert main(["check", "--all", "specs/deep", "./unet"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in shown] == ["two", "two_wide", "four", "four_wide"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["check", "--all", "empty"], "no spec of a network below 'empty'"),
        (["check", "--all", "specs", "specs/one.yaml"], "name folders of specs"),
        (["check", "--all", "specs", "--preset=wide"], "--preset"),
        (["verify", "--all", "specs", "--set=widht=8"], "no network has a parameter 'widht'"),
        (["check", "specs"], "no spec is called 'specs'"),
    ],
)
def test_what_a_folder_is_not(project, capsys, arguments, said):
    assert main(arguments) == 2
    assert said in capsys.readouterr().err
