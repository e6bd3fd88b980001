"""``segspec verify --executor``: networks verified elsewhere, and what becomes of those that are lost there."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from segspec.cli import main
from segspec.errors import SpecError, fail
from segspec.graph.elaborate import elaborate
from segspec.parity import verify as module
from segspec.parity.executors import executor
from segspec.parity.job import job
from segspec.parity.junit import as_junit
from segspec.parity.settings import Settings
from segspec.parity.verify import Report, perform, verify
from segspec.render import render
from segspec.render.backend import backends
from segspec.spec.load import load

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def chosen():
    return list(backends().values())


@pytest.fixture
def graphs(tmp_path, spec):
    return [elaborate(load(spec(tmp_path, name))) for name in ("one", "two", "three")]


def reported(graph):
    return [Report(graph.name, "", ("torch", "paddle"), (), (), None, (), (), {}, 0.0)]


class Elsewhere(Executor):
    """Does with each job what it is told: return, raise, or (None) begin and not end."""

    def __init__(self, *outcomes):
        self.outcomes = list(outcomes)
        self.jobs = []
        self.futures = []

    def submit(self, function, /, asked):
        assert function is perform
        self.jobs.append(pickle.loads(pickle.dumps(asked)))
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, RuntimeError):
            raise outcome
        future = Future()
        self.futures.append(future)
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        elif outcome is not None:
            future.set_result(outcome)
        return future


def test_reports_come_in_order_and_a_lost_task_is_a_failure_of_its_network(graphs, chosen):
    lost = OSError("the worker is gone")
    held = Elsewhere(lost, RuntimeError("the pool is broken"), reported(graphs[2]))
    reports = list(verify(graphs, chosen, Settings(sizes=((8, 8),)), executor=held))
    assert [report.spec for report in reports] == ["one", "two", "three"]
    assert not any(report.ok for report in reports)
    assert reports[0].failures == (("its task", "", "OSError: the worker is gone"),)
    assert reports[1].failures == (("its task", "", "RuntimeError: the pool is broken"),)
    assert reports[2] == reported(graphs[2])[0]
    timestamps = [suite.get("timestamp") for suite in ElementTree.fromstring(as_junit(reports[:2]).encode())]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", text) for text in timestamps)
    assert [asked.asked.sizes for asked in held.jobs] == [((8, 8),)] * 3


def test_what_is_wrong_with_the_input_ends_the_run(graphs, chosen):
    held = Elsewhere(reported(graphs[0]), fail("missing-framework", "there is no such framework"), None)
    with pytest.raises(SpecError, match="no such framework"):
        list(verify(graphs, chosen, executor=held))
    assert held.futures[-1].cancelled()


def test_a_size_that_a_network_cannot_take_is_refused_before_anything_is_sent(graphs, chosen):
    held = Elsewhere()
    with pytest.raises(SpecError, match="1x8"):
        list(verify(graphs, chosen, Settings(sizes=((1, 8),)), executor=held))


def test_whoever_is_interrupted_does_not_wait_for_a_task(graphs, chosen, tmp_path):
    """A thread cannot be cancelled, but what it waits for can be ended; the interpreter here never comes to an end."""
    script, note = tmp_path / "python", tmp_path / "began"
    script.write_text(f"#!/bin/sh\necho $$ > {note}\nsleep 600\n")
    script.chmod(0o755)
    asked = Settings(sizes=((8, 8),), python={"torch": str(script), "paddle": str(script)})

    class Impatient(ThreadPoolExecutor):
        def submit(self, *arguments):
            future = super().submit(*arguments)
            future.result = press
            return future

    def press():
        until = time.monotonic() + 60
        while not (note.exists() and note.read_text()) and time.monotonic() < until:
            time.sleep(0.05)
        raise KeyboardInterrupt

    began = time.monotonic()
    with Impatient(1) as pool, pytest.raises(KeyboardInterrupt):
        list(verify(graphs, chosen, asked, executor=pool))
    assert time.monotonic() - began < 120
    with pytest.raises(ProcessLookupError):
        os.kill(int(note.read_text()), 0)


def test_a_job_needs_no_file_of_the_spec(repository, chosen, monkeypatch):
    graph = elaborate(load(repository / "specs/other.yaml"), {"width": 5}, "wide")
    sent = pickle.dumps(job(graph, chosen, Settings()))
    shutil.rmtree(repository)
    received = pickle.loads(sent)
    assert set(received.network.files) == {"other.yaml", "blocks/conv.yaml"}
    assert render(received.network.graph(), chosen[0]) == render(graph, chosen[0])
    assert received.chosen() == chosen


def test_a_network_of_the_zoo_is_sent_by_its_place(chosen):
    asked = job(elaborate(load("resnet"), preset="depth18"), chosen, Settings())
    assert (asked.network.spec, asked.network.files) == ("backbones/resnet.yaml", {})
    assert asked.network.graph().name == "resnet_depth18"


def test_another_zoo_elsewhere_is_an_error(repository, chosen, monkeypatch):
    asked = job(elaborate(load("unet")), chosen, Settings())
    elsewhere = repository / "zoo"
    shutil.copytree(ROOT / "specs", elsewhere)
    path = elsewhere / "blocks/conv.yaml"
    path.write_text(path.read_text() + "\n# another\n")
    monkeypatch.setattr("segspec.spec.zoo.SPECS", elsewhere)
    with pytest.raises(SpecError, match="the same version of segspec"):
        asked.network.graph()


def test_without_an_executor_few_networks_are_on_the_disk_at_once(chosen, spec, tmp_path, monkeypatch):
    graph = elaborate(load(spec(tmp_path, "one")))
    held = []

    def record(tasks, folder, given, **options):
        assert not any(folder.iterdir()) or given
        (folder / tasks[0].backend.name).mkdir()
        held.append(len(tasks))
        return tasks

    monkeypatch.setattr(module, "require", lambda _: None)
    monkeypatch.setattr(module, "record", record)
    monkeypatch.setattr(module, "report", lambda *pair: tuple(held.backend.name for held in pair[:2]))
    found = list(verify([graph] * 19, chosen, Settings(sizes=((8, 8),))))
    assert found == [("torch", "paddle")] * 19
    assert held == [8, 8, 8, 8, 3, 3]


def test_a_factory_of_ones_own(tmp_path, monkeypatch):
    (tmp_path / "own_pool.py").write_text(
        "from concurrent.futures import ThreadPoolExecutor as make\nmake_none = list\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    with executor("own_pool:make") as held:
        assert held.submit(int, "3").result() == 3
    with executor("") as held:
        assert held is None
    with pytest.raises(SpecError, match="returned list"), executor("own_pool:make_none"):
        pass


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--executor=threads"], "neither 'dask' nor MODULE:FACTORY"),
        (["--executor=:make"], "neither 'dask' nor MODULE:FACTORY"),
        (["--executor=no_such_module:make"], "ModuleNotFoundError"),
        (["--executor=json:no_such_factory"], "no_such_factory"),
        (["--executor=json:__name__"], "not callable"),
        (["--executor=dask"], "--scheduler"),
        (["--scheduler=tcp://127.0.0.1:1"], "--executor dask"),
        (["--executor=json:loads", "--scheduler=tcp://127.0.0.1:1"], "--executor dask"),
    ],
)
def test_an_executor_that_cannot_be_had(capsys, arguments, said):
    assert main(["verify", "unet", "--size=32x32", *arguments]) == 2
    text = capsys.readouterr().err
    assert said in text
    assert "Traceback" not in text


def test_dask_that_is_not_installed(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert main(["verify", "unet", "--size=32x32", "--executor=dask", "--scheduler=tcp://127.0.0.1:1"]) == 2
    assert "segspec[dask]" in capsys.readouterr().err


@contextmanager
def running(folder, *arguments):
    """A process of Dask's, ended afterwards."""
    with (folder / "dask.log").open("a") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.{arguments[0]}", *arguments[1:], "--no-dashboard"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=log,
            stderr=log,
        )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.fixture
def cluster(tmp_path):
    """The address of a scheduler with two workers, which are processes on this machine."""
    pytest.importorskip("distributed")
    folder = tmp_path / "dask"
    folder.mkdir()
    about = folder / "scheduler.json"
    with ExitStack() as stack:
        options = ["--host=127.0.0.1", "--port=0", f"--scheduler-file={about}"]
        stack.enter_context(running(folder, "dask_scheduler", *options))
        until = time.monotonic() + 60
        while not about.exists() or not about.read_text():
            assert time.monotonic() < until, (folder / "dask.log").read_text()
            time.sleep(0.1)
        address = json.loads(about.read_text())["address"]
        for name in ("first", "second"):
            options = ["--host=127.0.0.1", "--no-nanny", "--nthreads=1", f"--name={name}", f"--local-directory={name}"]
            stack.enter_context(running(folder, "dask_worker", address, *options))
        yield address


@contextmanager
def verifying(tmp_path, spec, cluster, *names):
    """``segspec verify`` of small networks by a cluster, none of whose workers stands where the specs are."""
    for name in names:
        path = spec(tmp_path / "specs", name)
        path.write_text(path.read_text().replace("presets:\n  wide: {width: 6}\n", ""))
    options = ["--size=8x8", "--steps=0", "--no-starts", "--json", "--executor=dask", f"--scheduler={cluster}"]
    process = subprocess.Popen(
        [sys.executable, "-m", "segspec", "verify", "--all", "specs", *options],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def all_agree(process, *names):
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    found = json.loads(out)
    assert [report["spec"] for report in found["reports"]] == list(names)
    return all(report["ok"] for report in found["reports"])


@pytest.mark.torch
@pytest.mark.paddle
def test_dask(cluster, tmp_path, spec):
    import distributed

    with distributed.Client(cluster, timeout=60, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=60)
        with verifying(tmp_path, spec, cluster, "one", "two", "three") as process:
            assert all_agree(process, "one", "three", "two")
        counts = client.run(lambda dask_worker: dask_worker.state.executed_count)
    assert len(counts) == 2
    assert all(counts.values())


@pytest.mark.torch
@pytest.mark.paddle
def test_a_worker_that_is_lost(cluster, tmp_path, spec):
    """Its task is done by the other one."""
    import distributed

    with distributed.Client(cluster, timeout=60, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=60)
        held = client.run(os.getpid)
        with verifying(tmp_path, spec, cluster, "one", "two") as process:
            until = time.monotonic() + 60
            while not all(client.processing().values()):
                assert time.monotonic() < until
                time.sleep(0.1)
            os.kill(held.popitem()[1], signal.SIGKILL)
            assert all_agree(process, "one", "two")
        assert len(client.scheduler_info()["workers"]) == 1
