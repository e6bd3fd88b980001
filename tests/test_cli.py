"""The command line: what it refuses, what it writes, and what it does not load."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from segspec.cli import main
from segspec.spec.zoo import networks

ROOT = Path(__file__).parent.parent
HEAVY = {"torch", "paddle", "numpy", "pydantic", "jinja2", "yaml"}

SPEC = """segspec: 1
name: {name}
params: {{in_channels: 3, width: 8, depth: {{default: 2, choices: [2, 3]}}, ratio: 0.5, flag: true}}
inputs: {{image: {{channels: in_channels}}}}
nodes:
  for i in range(depth):
    conv{{i}}: {{op: conv2d, out_channels: width, kernel_size: 3, padding: 1, bias: flag}}
  drop: {{op: dropout, p: ratio}}
outputs: [drop]
presets: {{small: {{width: 4}}, deep: {{depth: 3}}}}
"""


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(SPEC.format(name="tiny"), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return path


def run(*arguments: str, code: str | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    start = ["-m", "segspec"] if code is None else ["-c", code]
    return subprocess.run(
        [sys.executable, *start, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )


# --- what is loaded -----------------------------------------------------------------------------------


def test_help_loads_next_to_nothing() -> None:
    done = run("--help", PYTHONPROFILEIMPORTTIME="1")
    assert done.returncode == 0
    assert "generate" in done.stdout
    modules = {line.rsplit("|", 1)[-1].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert "argparse" in modules
    assert not modules & HEAVY


BLOCKER = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "paddle"):
            raise ImportError(f"{name} was asked for")

sys.meta_path.insert(0, Blocker())
from segspec.cli import main
for arguments in (["list"], ["check", "--all"], ["show", "unet"], ["generate", "--all", "-o", sys.argv[1]]):
    assert main(arguments) == 0, arguments
assert not {"torch", "paddle"} & sys.modules.keys()
"""


def test_no_framework_is_loaded(tmp_path: Path) -> None:
    done = run(str(tmp_path), code=BLOCKER)
    assert done.returncode == 0, done.stderr
    for name in networks():
        assert (tmp_path / "torch" / f"{name}.py").exists()


# --- what is refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message", "remedy"),
    [
        ("check unett", "unknown-spec]: no spec is called 'unett'", "did you mean 'unet'?"),
        ("check fcn16s", "unknown-spec]: no spec is called 'fcn16s'", "it is a preset: fcn8s --preset fcn16s"),
        ("check hrnet_seg_w48", "unknown-spec]: no spec is called", "it is a preset: hrnet_seg --preset w48"),
        ("check unet.yaml", "unknown-spec]: there is no file 'unet.yaml'", "did you mean 'unet'?"),
        ("check tony.yaml", "unknown-spec]: there is no file 'tony.yaml'", "did you mean 'tiny.yaml'?"),
        ("check nowhere/tiny.yaml", "unknown-spec]: there is no file 'nowhere/tiny.yaml'", "specs: deeplabv1"),
        ("check .", "unknown-spec]: no spec is called '.'", "specs: deeplabv1"),
        ("check", "usage]: name a network, or give --all", "segspec list"),
        ("check --all unet", "usage]: --all takes no NAME and no --preset", ""),
        ("check --all --preset small", "usage]: --all takes no NAME and no --preset", ""),
        ("check --all --set widht=8", "usage]: no network has a parameter 'widht'", "did you mean 'width'?"),
        ("check tiny.yaml --preset smal", "unknown-preset]: 'tiny' has no preset 'smal'", "did you mean 'small'?"),
        (
            "check tiny.yaml --set widht=3",
            "unknown-parameter]: 'tiny' has no parameter 'widht'",
            "did you mean 'width'?",
        ),
        ("check tiny.yaml --set width", "usage]: --set width is not KEY=VALUE", "write --set width=24"),
        ("check tiny.yaml --set =3", "usage]: --set =3 is not KEY=VALUE", "write --set width=24"),
        (
            "check tiny.yaml --set width=",
            "--set width: error[argument]: the parameter 'width' has no value",
            "width=VALUE",
        ),
        ("check tiny.yaml --set width=wide", "--set width: error[argument]: 'width' is a whole number, not 'wide'", ""),
        ("check tiny.yaml --set width=2.5", "--set width: error[argument]: 'width' is a whole number, not 2.5", ""),
        ("check tiny.yaml --set width=true", "--set width: error[argument]: 'width' is a whole number, not true", ""),
        ("check tiny.yaml --set width=2*8", "--set width: error[argument]: 'width' is a whole number, not '2*8'", ""),
        ("check tiny.yaml --set width=[8]", "--set width: error[argument]: 'width' is a whole number, not [8]", ""),
        ("check tiny.yaml --set width=[8", "error[syntax]", "inside {…} and […]"),
        ("check tiny.yaml --set width=1e300", "'width' is a whole number", ""),
        ("check tiny.yaml --set width=0", "error[attribute]: out_channels: expected at least 1, found 0", ""),
        ("check tiny.yaml --set ratio=2", "error[attribute]: p: expected at most 1, found 2", ""),
        ("check tiny.yaml --set flag=1", "--set flag: error[argument]: 'flag' is true or false, not 1", ""),
        ("check tiny.yaml --set depth=4", "--set depth: error[choice]: 'depth' cannot be 4", "choices: 2, 3"),
        (
            "generate tiny.yaml --backend pytorch",
            "unknown-backend]: there is no backend 'pytorch'",
            "did you mean 'torch'?",
        ),
        ("generate tiny.yaml --check --stdout", "usage]: --check and --stdout do not go together", ""),
        ("generate tiny.yaml other/tiny.yaml", "usage]: two networks would be written to generated/torch/tiny.py", ""),
        (
            "generate tiny.yaml -o tiny.yaml",
            "tiny.yaml/torch/tiny.py: error[output]: cannot write: Not a directory",
            "",
        ),
        ("verify tiny.yaml --backend torch", "usage]: verify holds backends against one another: it needs two", ""),
        ("show unet_upsample --size 100x100", "error[size]: unet_upsample cannot take 100x100", "divisible by 16"),
    ],
)
def test_refused(arguments: str, message: str, remedy: str, spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (spec.parent / "other").mkdir()
    (spec.parent / "other" / "tiny.yaml").write_text(spec.read_text(encoding="utf-8"), encoding="utf-8")
    before = sorted(spec.parent.rglob("*"))
    assert main(arguments.split(" ")) == 2
    written = capsys.readouterr()
    assert written.out == ""
    assert message in written.err
    assert remedy in written.err
    assert sorted(spec.parent.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "required: COMMAND"),
        ("chekc unet", "invalid choice: 'chekc'"),
        ("list unet", "unrecognized arguments: unet"),
        ("check unet --chekc", "unrecognized arguments: --chekc"),
        ("show unet --size 0x3", "'0x3' is not HxW, such as 123x97"),
        ("show unet --size 64", "'64' is not HxW, such as 123x97"),
        ("show unet --depth 0", "'0' is not a whole number above 0"),
        ("verify unet --batch x", "'x' is not a whole number above 0"),
    ],
)
def test_refused_by_the_parser(arguments: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments.split())
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("arguments", ["show unet --size 64 --json", "check --json unet --chekc", "list --json unet"])
def test_who_asks_for_json_gets_it_even_then(arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(arguments.split())
    shown = capsys.readouterr()
    (problem,) = json.loads(shown.out)["problems"]
    assert problem["code"] == "usage"
    assert problem["message"] in shown.err


def test_problems_of_all_specs_together(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (spec.parent / "bad.yaml").write_text("segspec: 2\n", encoding="utf-8")
    assert main(["check", "tiny.yaml", "unett", "bad.yaml"]) == 2
    problems = capsys.readouterr().err
    assert "no spec is called 'unett'" in problems
    assert "bad.yaml:1:10: error[schema]" in problems


def test_problems_as_json(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec.write_text(spec.read_text(encoding="utf-8").replace("conv2d", "conv2"), encoding="utf-8")
    assert main(["check", "--json", "tiny.yaml"]) == 2
    held = json.loads(capsys.readouterr().out)
    assert held["ok"] is False
    (problem,) = held["problems"]
    assert problem == {
        "code": "unknown-op",
        "message": "no op is called 'conv2'",
        "file": "tiny.yaml",
        "line": 7,
        "column": 19,
        "node": "conv{i}",
        "remedy": "did you mean 'conv2d'?",
    }


# --- what is written ----------------------------------------------------------------------------------


def test_generate_then_check(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "tiny.yaml"]) == 0
    made = spec.parent / "generated" / "torch" / "tiny.py"
    assert capsys.readouterr().out.splitlines() == ["generated/torch/tiny.py", "generated/paddle/tiny.py"]
    assert main(["generate", "tiny.yaml"]) == 0
    assert capsys.readouterr().out == ""  # nothing changed, so nothing was written
    assert main(["generate", "tiny.yaml", "--check"]) == 0
    assert capsys.readouterr().out == ""
    fresh = made.read_text(encoding="utf-8")
    made.write_text(fresh.replace("kernel_size=3", "kernel_size=5"), encoding="utf-8")
    stale = made.read_text(encoding="utf-8")
    assert main(["generate", "tiny.yaml", "--check"]) == 1
    difference = capsys.readouterr().out
    assert difference.startswith("--- generated/torch/tiny.py\n+++ generated/torch/tiny.py\n@@")
    assert "\n-        self.conv0 = nn.Conv2d(in_channels, width, kernel_size=5" in difference
    assert "\n+        self.conv0 = nn.Conv2d(in_channels, width, kernel_size=3" in difference
    assert "paddle" not in difference
    assert made.read_text(encoding="utf-8") == stale
    made.unlink()
    assert main(["generate", "tiny.yaml", "--check"]) == 1
    assert capsys.readouterr().out.startswith("--- /dev/null\n+++ generated/torch/tiny.py\n")
    assert not made.exists()
    assert main(["generate", "tiny.yaml", "--backend", "torch"]) == 0
    assert made.read_text(encoding="utf-8") == fresh
    assert sorted(path.name for path in made.parent.iterdir()) == ["tiny.py"]


def test_stdout_writes_nothing(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "tiny.yaml", "--stdout", "--backend", "paddle"]) == 0
    assert "from paddle import" in capsys.readouterr().out
    assert list(spec.parent.iterdir()) == [spec]


def test_an_unwritable_place_leaves_nothing_behind(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (spec.parent / "out" / "torch").mkdir(parents=True)
    (spec.parent / "out" / "torch" / "tiny.py").mkdir()
    assert main(["generate", "tiny.yaml", "-o", "out"]) == 2
    assert "out/torch/tiny.py: error[output]: cannot write" in capsys.readouterr().err
    assert [path.name for path in (spec.parent / "out" / "torch").iterdir()] == ["tiny.py"]


def test_presets_and_settings(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["generate", "tiny.yaml", "--preset", "small", "--set", "depth=3", "--stdout", "--backend", "torch"]) == 0
    )
    source = capsys.readouterr().out
    assert "width: int = 4" in source
    assert "self.conv2 = " in source
    assert "segspec generate tiny.yaml --backend torch --preset small --set depth=3" in source
    assert main(["check", "tiny.yaml"]) == 0
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == ["tiny", "tiny_small", "tiny_deep"]


def test_from_any_directory(spec: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The same bytes, however the spec is named, and the same zoo."""
    sources = []
    (spec.parent / "deep" / "er").mkdir(parents=True)
    for folder, name in ((".", "tiny.yaml"), (".", "./tiny.yaml"), (".", str(spec)), ("deep/er", "../../tiny.yaml")):
        monkeypatch.chdir(spec.parent / folder)
        assert main(["generate", name, "--stdout"]) == 0
        sources.append(capsys.readouterr().out)
    assert (
        len({source.replace("../../", "").replace("./", "").replace(f"{spec.parent}/", "") for source in sources}) == 1
    )
    assert main(["generate", "unet", "--stdout", "--backend", "torch"]) == 0
    assert capsys.readouterr().out == (ROOT / "generated" / "torch" / "unet.py").read_text(encoding="utf-8")


def test_messages_name_files_as_they_were_given(
    spec: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spec.write_text("segspec: 2\n", encoding="utf-8")
    assert main(["check", str(spec)]) == 2
    assert capsys.readouterr().err.startswith("tiny.yaml:1:10: ")
    (spec.parent / "deep").mkdir()
    monkeypatch.chdir(spec.parent / "deep")
    assert main(["check", str(spec)]) == 2
    assert capsys.readouterr().err.startswith(f"{spec}:1:10: ")


# --- terminals and pipes ------------------------------------------------------------------------------


def test_a_terminal_without_unicode() -> None:
    done = run("show", "unet", PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert "?H/2?" in done.stdout


def test_a_pipe_that_closes() -> None:
    command = f"{sys.executable} -m segspec show unet --depth 9 --json | head -c 1"
    done = subprocess.run(
        ["/bin/sh", "-c", command],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("{", "")


@pytest.mark.slow
def test_many_specs_are_checked_at_once(capfd: pytest.CaptureFixture[str]) -> None:
    """The same lines in the same order, however many processes work on them."""
    command = [sys.executable, "-m", "segspec", "check", "--all"]
    assert subprocess.run(command, check=False).returncode == 0
    at_once, said = capfd.readouterr()
    assert said == ""
    ended = threading.Event()
    threading.Thread(target=ended.wait, daemon=True).start()  # beside another thread nothing is forked
    try:
        assert main(["check", "--all"]) == 0
    finally:
        ended.set()
    assert capfd.readouterr().out == at_once
    assert len(at_once.splitlines()) > len(networks())


def test_mistakes_in_many_specs_are_all_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in "abc":
        node = "{op: conv2d, out_channels: 4, kernel_size: 1, groups: 2}"
        text = f"segspec: 1\nname: {name}\ninputs: {{image: {{channels: 3}}}}\nnodes: {{y: {node}}}\noutputs: [y]\n"
        (tmp_path / f"{name}.yaml").write_text(text, encoding="utf-8")
    done = subprocess.run([sys.executable, "-m", "segspec", "check", "a.yaml", "b.yaml", "c.yaml"], check=False)
    assert done.returncode == 2
    places = [line.split(":")[0] for line in capfd.readouterr().err.splitlines() if "error[" in line]
    assert places == ["a.yaml", "b.yaml", "c.yaml"]
