"""No process outlives the run that made it, nor what a library has started in it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from latbench.backend import CompileOptions
from latbench.devices.host import usable_cores
from latbench.measure.settings import Settings
from latbench.measure.workers import _START, Workers
from latbench.measure.workers.request import SessionRequest
from latbench.model import Model
from latbench.records.subjects import Subject
from latbench.space import SpaceSpec
from latbench.spaces.nasbench201 import NasBench201Space
from latbench.testing import NullBackend
from latbench.testing.null import CompiledNull
from tests.patience import PATIENCE_S

SPACE = NasBench201Space(cells=1, channels=4, image=8)
MARK = "LATBENCH_TEST_MARK"
WAITS = "import time; time.sleep(600)"
HANGS = """
from tests.test_workers import *
with Workers() as workers:
    workers.run(request(fail="hang"))
"""


class PollingBackend(NullBackend):
    """It starts a process of its own, as some energy counters do, and never ends it."""

    def compile(self, model: Model, options: CompileOptions) -> CompiledNull:
        subprocess.Popen([sys.executable, "-c", WAITS, os.environ[MARK]])
        return super().compile(model, options)


def request(**script: str) -> SessionRequest:
    subjects = tuple(Subject("architecture", str(a)) for a in SPACE.sample(1, seed=0))
    settings = Settings(min_rounds=2, max_rounds=2, warmup_ms=0, verify="none")
    options = CompileOptions(options=script)
    return SessionRequest(
        "s", "tests.test_workers:PollingBackend", options, settings, SpaceSpec.of(SPACE), 1, 0, subjects
    )


@pytest.fixture
def mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv(MARK, str(tmp_path))
    yield str(tmp_path)
    for process in pollers(str(tmp_path)):
        process.kill()


def pollers(mark: str) -> list[psutil.Process]:
    found = psutil.process_iter(["cmdline", "status"])
    return [p for p in found if mark in (p.info["cmdline"] or ()) and p.info["status"] != psutil.STATUS_ZOMBIE]


def wait_for(count: int, mark: str) -> bool:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if len(pollers(mark)) == count:
            return True
        time.sleep(0.05)
    return False


def test_what_a_session_started_ends_with_it(mark: str) -> None:
    with Workers() as workers:
        for _ in range(2):
            assert workers.run(request()).measurements
            assert wait_for(0, mark)


def test_a_worker_runs_where_warnings_are_errors(mark: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    with Workers() as workers:
        assert workers.run(request()).measurements


def test_what_an_unfinished_session_started_ends_with_the_run(mark: str) -> None:
    with Workers() as workers:
        workers.start(request(fail="hang"))
        assert wait_for(1, mark)
    assert wait_for(0, mark)


@pytest.fixture
def busy() -> Iterator[None]:
    """Keep the machine busy with several processes a core."""
    command = [sys.executable, "-c", "while True: pass"]
    spinning = [subprocess.Popen(command) for _ in range(3 * len(usable_cores()))]
    yield
    for process in spinning:
        process.kill()
        process.wait()


@pytest.mark.usefixtures("busy")
def test_a_run_that_is_killed_leaves_nothing(mark: str) -> None:
    process = subprocess.Popen([sys.executable, "-c", HANGS], cwd=Path(__file__).parent.parent)
    assert wait_for(1, mark)
    family = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    assert wait_for(0, mark)
    assert psutil.wait_procs(family, timeout=PATIENCE_S)[1] == []


SLOW_IMPORT = """
import os, pathlib, time
pathlib.Path(os.environ["IMPORTED"]).touch()
time.sleep(600)
"""
PARENT = """
import os, subprocess, sys
process = subprocess.Popen([sys.executable, "-c", sys.argv[1], "0", str(os.getpid())], stdin=subprocess.DEVNULL)
print(process.pid, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the file that a latbench writes, in place of ours, whose import takes ten minutes."""
    package = tmp_path / "latbench"
    package.mkdir()
    (package / "__init__.py").write_text(SLOW_IMPORT)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("IMPORTED", str(tmp_path / "imported"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "imported"


LINUX = pytest.mark.skipif(sys.platform != "linux", reason="the kernel tells of a parent's death")


@LINUX
def test_what_starts_workers_ends_with_its_parent_whatever_it_imports(imported: Path) -> None:
    command = [sys.executable, "-c", PARENT, _START]
    parent = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    while not imported.exists():
        time.sleep(0.05)
    parent.kill()
    parent.communicate()
    assert psutil.wait_procs([child], timeout=PATIENCE_S / 2)[1] == []


@LINUX
def test_what_starts_workers_imports_nothing_where_its_parent_is_dead_already(imported: Path) -> None:
    init = 1
    assert subprocess.run([sys.executable, "-c", _START, "0", str(init)], check=False).returncode == 1
    assert not imported.exists()


STARTS = """
import sys
from latbench.measure.workers import Workers
with Workers() as workers:
    print(workers._zygote.pid, flush=True)
    sys.stdin.read()
"""


@LINUX
def test_what_starts_workers_ends_with_its_parent_even_while_it_imports() -> None:
    """Before it has read anything: nothing but the kernel tells it."""
    process = subprocess.Popen([sys.executable, "-c", STARTS], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    zygote = psutil.Process(int(process.stdout.readline()))
    begin = zygote.cpu_times().user
    process.kill()
    process.communicate()
    used = begin
    with suppress(psutil.NoSuchProcess):
        while zygote.status() != psutil.STATUS_ZOMBIE:
            used = zygote.cpu_times().user
            time.sleep(0.02)
    assert used - begin < 1.0  # imports take longer
