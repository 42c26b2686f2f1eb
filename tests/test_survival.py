"""What a store has acknowledged stays, whatever happens to its writers and to the disk."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest

from latbench.devices.host import usable_cores
from latbench.errors import StoreError
from latbench.store import Store
from latbench.testing.null import UNITS
from tests.patience import PATIENCE_S
from tests.test_profiling import NULL, counts, planned, start

ROOT = Path(__file__).parent.parent

KILLED = """
import os, random, signal, sys, time
from tests.test_store import *

random.seed(0)
path = sys.argv[1]
names = [str(i) for i in range(4000)]

def write(acknowledge):
    with Store(path, IDENTITY) as store:
        wanted = iter([Subject("architecture", name) for name in names])
        while claimed := store.claim(wanted, 5):
            store.add(CONDITIONS, [measurement(c.text, value=float(c.text) + 1) for c in claimed])
            os.write(acknowledge, b"".join(f"{c.text} ".encode() for c in claimed))

acknowledged = set()
for moment in range(100):
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        write(writing)
        os._exit(0)
    os.close(writing)
    time.sleep(random.uniform(0, 0.05))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with os.fdopen(reading) as stream:
        text = stream.read()
    acknowledged |= set(text[: text.rfind(" ") + 1].split())
    if os.path.exists(path) and acknowledged:
        with Store(path) as store:
            stored = [m.subject for m in store.measurements()]
        assert len(stored) == len(set(stored)), "counted twice"
        assert acknowledged <= set(stored), "lost"
        assert len(set(stored) - acknowledged) <= 5, "more than what was in flight"
        acknowledged = set(stored)
print(len(acknowledged))
"""

FULL = """
import json, os, sys
from tests.test_store import *

folder = sys.argv[1]
ballast = os.path.join(folder, "ballast")
with open(ballast, "wb") as file:
    file.write(bytes(100_000))
acknowledged, message = [], ""
with Store(os.path.join(folder, "a.db"), IDENTITY) as store:
    try:
        for i in range(100_000):
            store.add(CONDITIONS, [measurement(str(i))])
            acknowledged.append(str(i))
    except StoreError as error:
        message = str(error)
    kept = [m.subject for m in store.measurements()]
os.remove(ballast)
with Store(os.path.join(folder, "a.db"), IDENTITY) as store:
    store.add(CONDITIONS, [measurement("after")])
    after = [m.subject for m in store.measurements()]
print(json.dumps({"acknowledged": acknowledged, "message": message, "kept": kept, "after": after}))
"""


def test_killed_at_100_random_moments_a_writer_loses_only_what_was_in_flight(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path / "a.db")]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) > 0


def small_disk() -> str | None:
    """Say why no file system of our own can be mounted here, or None."""
    if shutil.which("unshare") is None:
        return "needs unshare"
    probe = ["unshare", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", "/mnt"]
    return None if subprocess.run(probe, capture_output=True, check=False).returncode == 0 else "may not mount a tmpfs"


@pytest.mark.skipif(small_disk() is not None, reason=str(small_disk()))
def test_a_file_system_that_fills_up_keeps_every_acknowledged_row(tmp_path: Path) -> None:
    mounted = f'mount -t tmpfs -o size=600k tmpfs "{tmp_path}" && exec "$0" "$@"'
    inside = ["sh", "-c", mounted, sys.executable, "-c", FULL, str(tmp_path)]
    command = ["unshare", "--map-root-user", "--mount", *inside]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    said = json.loads(run.stdout)
    assert "free some space" in said["message"]
    assert len(said["acknowledged"]) > 10
    assert said["kept"] == said["acknowledged"]
    assert said["after"] == [*said["acknowledged"], "after"]


def test_ctrl_c_twice_ends_the_run_and_keeps_the_store(tmp_path: Path) -> None:
    store = tmp_path / "a.db"
    process = start(store, samples=600)
    while not store.exists() or not measured(store):
        time.sleep(0.1)
        assert process.poll() is None
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(0.05)
    assert process.wait(PATIENCE_S) != 0
    before = counts(store)
    assert start(store).wait() == 0
    after = counts(store)
    assert before.items() <= after.items()
    assert set(after.values()) == {1}


HANGS = """
from tests.test_profiling import *
run(Path({store!r}), 4, timeout=3600, fail="hang")
"""
HANGS_TOO = ["profile", "--backend", NULL, "-O", "fail=hang", "--timeout", "3600", "--samples", "4", "--store"]


def interrupt(command: list[str]) -> tuple[int, float]:
    """Start a command whose sessions never end, press Ctrl-C, and return its exit code and the CPU seconds it took."""
    process = subprocess.Popen([sys.executable, *command], cwd=ROOT, stderr=subprocess.DEVNULL)
    parent = psutil.Process(process.pid)
    while not (family := parent.children(recursive=True)[1:]):
        time.sleep(0.1)
        assert process.poll() is None
    before = parent.cpu_times()
    process.send_signal(signal.SIGINT)
    while parent.status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.02)
    after = parent.cpu_times()
    assert psutil.wait_procs(family, timeout=PATIENCE_S)[1] == []
    return process.wait(), after.user + after.system - before.user - before.system


def test_ctrl_c_does_not_wait_for_a_session(tmp_path: Path) -> None:
    code, _ = interrupt(["-c", HANGS.format(store=str(tmp_path / "a.db"))])
    assert code != 0


def test_ctrl_c_takes_no_library_down(tmp_path: Path) -> None:
    """That is most of the time that an interrupted command would take to end."""
    code, seconds = interrupt(["-m", "latbench", *HANGS_TOO, str(tmp_path / "a.db")])
    assert code == 130
    assert seconds < 0.1


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs SIGSTOP")
def test_a_run_that_is_suspended_and_woken_measures_everything_once(tmp_path: Path) -> None:
    """As a laptop does that is closed: every process stops at once, wherever it is, and goes on later."""
    store = tmp_path / "a.db"
    process = start(store)
    parent = psutil.Process(process.pid)
    rng = np.random.default_rng(0)
    while process.poll() is None:
        time.sleep(rng.uniform(0.2, 1.5))
        with suppress(psutil.NoSuchProcess):
            family = [parent, *parent.children(recursive=True)]
        for stop in (psutil.Process.suspend, psutil.Process.resume):
            for member in family:
                with suppress(psutil.NoSuchProcess):
                    stop(member)
            time.sleep(0.5)
    assert process.returncode == 0
    assert set(counts(store).values()) == {1}
    with Store(store) as opened:
        assert opened.count("architecture") == 60
        assert not opened.failures()


@pytest.mark.skipif(len(usable_cores()) < 2, reason="each unit takes a core")
def test_killed_while_two_units_are_measured_it_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(UNITS, "left right")
    store = tmp_path / "a.db"
    process = start(store, samples=600)
    while not store.exists() or not measured(store):
        time.sleep(0.1)
        assert process.poll() is None
    family = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    assert psutil.wait_procs(family, timeout=PATIENCE_S)[1] == []
    before = counts(store)
    assert before
    assert start(store).wait() == 0
    assert before.items() <= counts(store).items()
    assert planned(60).items() <= counts(store).items()
    assert set(counts(store).values()) == {1}
    with Store(store) as opened:
        assert {m.environment["unit"] for m in opened.measurements()} == {"left", "right"}


def measured(store: Path) -> bool:
    try:
        with Store(store) as opened:
            return opened.count("architecture") > 0
    except StoreError:  # the file is there before its tables are
        return False
