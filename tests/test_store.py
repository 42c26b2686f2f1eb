"""The store: what is written stays, whoever else writes, and whatever happens."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from latbench.backend import Device
from latbench.errors import StoreError
from latbench.records.measurement import Conditions, Measurement
from latbench.records.subjects import Failure, Subject
from latbench.space import SpaceSpec
from latbench.store import Identity, Store

IDENTITY = Identity(SpaceSpec("nasbench201", {"cells": 1}), "null", "fp32", 1, 1, "warm", {})
CONDITIONS = Conditions("latency", "ms", "wall", "warm", "null", Device("chip", "cpu", {"driver": "1"}), "fp32", 1, 1)


def measurement(subject: str, value: float = 1.0, **fields: object) -> Measurement:
    return Measurement(subject, "architecture", value, value, value, session="s", blocks=(value, value), **fields)  # type: ignore[arg-type]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "a.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with Store(path, IDENTITY) as opened:
        yield opened


def test_what_is_written_is_read_back(store: Store) -> None:
    written = replace(
        measurement("a", 2.5, flags=("unstable",), reference=3.0, wall=2.6, digest="d", order=4, seed=7),
        low=2.0,
        high=3.0,
        environment={"load": 0.5, "governor": None},
        created_at="2026-01-01T00:00:00+00:00",
        build_ms=1.0,
        compile_ms=2.0,
        timing_ms=3.0,
    )
    store.add(CONDITIONS, [written])
    assert store.measurements() == (written,)
    assert store.conditions == CONDITIONS
    assert store.identity == IDENTITY


def test_the_unit_of_a_device_is_recorded_and_not_compared(store: Store) -> None:
    store.add(replace(CONDITIONS, device=replace(CONDITIONS.device, unit="left")), [measurement("a")])
    store.add(replace(CONDITIONS, device=replace(CONDITIONS.device, unit="right")), [measurement("b")])
    assert store.count("architecture") == 2
    before = CONDITIONS.to_json()  # as it was written once
    before["device"] = {
        "name": "chip",
        "kind": "cpu",
        "facts": {"driver": "1", "uuid": "left"},
    }
    assert Conditions.from_json(before).device == replace(CONDITIONS.device, unit="left")


def test_a_subject_counts_once_and_its_first_value_stays(store: Store) -> None:
    store.add(CONDITIONS, [measurement("a", 1.0)])
    store.add(CONDITIONS, [measurement("a", 9.0), measurement("a", 2.0, replicate=1)])
    assert [(m.value, m.replicate) for m in store.measurements()] == [(1.0, 0), (2.0, 1)]


def test_claims_hand_out_each_subject_once(store: Store, path: Path) -> None:
    wanted = [Subject("architecture", name) for name in "abcde"]
    store.add(CONDITIONS, [measurement("a")])
    store.add_failures([Failure("architecture", "b", "crashed")], "now")
    with Store(path, IDENTITY) as other:
        mine, theirs = store.claim(iter(wanted), 2), other.claim(iter(wanted), 5)
    assert [s.text for s in mine] == ["c", "d"]
    assert [s.text for s in theirs] == ["e"]


def test_the_claim_of_a_dead_process_lapses(store: Store, path: Path) -> None:
    code = (
        "import sys; from tests.test_store import *\n"
        f"with Store({str(path)!r}, IDENTITY) as s:\n"
        "    print(len(s.claim(iter([Subject('architecture', 'a')]), 1)), flush=True)\n"
        "    os._exit(9)"
    )
    root = Path(__file__).parent.parent
    run = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert run.stdout == "1\n", run.stderr
    assert len(store.claim(iter([Subject("architecture", "a")]), 1)) == 1


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"space": SpaceSpec("darts", {"cells": 8})}, r"space \(nasbench201\(cells=1\) there, darts\(cells=8\) here\)"),
        ({"backend": "cuda"}, "backend"),
        ({"threads": 2}, "threads"),
        ({"options": {"a": "b"}}, "options"),
    ],
)
def test_another_profile_is_refused_by_name(store: Store, path: Path, change: dict[str, object], named: str) -> None:
    with pytest.raises(StoreError, match=named):
        Store(path, replace(IDENTITY, **change))  # type: ignore[arg-type]


def test_another_device_is_refused_and_nothing_is_written(store: Store) -> None:
    store.add(CONDITIONS, [measurement("a")])
    other = replace(CONDITIONS, device=Device("chip", "cpu", {"driver": "2"}))
    with pytest.raises(StoreError, match=r"device\.driver"):
        store.add(other, [measurement("b")])
    assert [m.subject for m in store.measurements()] == ["a"]


def test_a_claim_outlives_a_change_of_the_clock(store: Store, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step of the clock moves when the machine, and each process, seems to have started."""
    wanted = [Subject("architecture", "a")]
    assert store.claim(iter(wanted), 1) == wanted
    booted, started = psutil.boot_time(), psutil.Process().create_time()
    monkeypatch.setattr(psutil, "boot_time", lambda: booted + 3600)
    monkeypatch.setattr(psutil.Process, "create_time", lambda process: started + 3600)
    with Store(path, IDENTITY) as other:
        assert other.claim(iter(wanted), 1) == []


def test_quantities_have_their_own_rows_conditions_claims_and_failures(store: Store, path: Path) -> None:
    joules = replace(CONDITIONS, quantity="energy", unit="mJ", clock="power")
    wanted = [Subject("architecture", name) for name in "abc"]
    store.add(CONDITIONS, [measurement("a", 1.0)])
    store.add_failures([Failure("architecture", "b", "crashed")], "now")
    with Store(path, IDENTITY, quantity="energy") as energy:
        assert (energy.conditions, energy.measurements(), energy.failures()) == (None, (), ())
        assert [s.text for s in energy.claim(iter(wanted), 5)] == ["a", "b", "c"]
        assert [s.text for s in store.claim(iter(wanted), 5)] == ["c"]
        energy.add(joules, [measurement("a", 200.0, mean_power_w=150.0), measurement("a", 210.0, replicate=1)])
        assert [m.mean_power_w for m in energy.measurements()] == [150.0, None]
        assert (energy.count("architecture"), energy.duplicates().tolist()) == (1, [[200.0, 210.0]])
        assert energy.profile().conditions == joules
    assert [m.value for m in store.measurements()] == [1.0]
    assert (store.conditions, store.duplicates().shape) == (CONDITIONS, (0, 2))
    assert store.quantities == ("energy", "latency")


def test_a_value_of_another_quantity_is_not_taken_in(store: Store) -> None:
    with pytest.raises(StoreError, match=r"open for latency and not for energy.*quantity='energy'"):
        store.add(replace(CONDITIONS, quantity="energy", unit="mJ"), [measurement("a")])
    assert store.measurements() == ()


def test_another_schema_is_refused(store: Store, path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(StoreError, match="schema 99"):
        Store(path)


def test_a_file_that_is_no_store_is_refused(tmp_path: Path) -> None:
    text, other = tmp_path / "text.db", tmp_path / "other.db"
    text.write_text("this is not a database, and long enough to be read as a header of one, which it is not" * 20)
    with pytest.raises(StoreError, match="not a database"):
        Store(text)
    with sqlite3.connect(other) as db:
        db.execute("CREATE TABLE t (x)")
    db.close()
    with pytest.raises(StoreError, match="another SQLite file"):
        Store(other, IDENTITY)


def test_a_missing_store_says_how_to_make_one(path: Path) -> None:
    with pytest.raises(StoreError, match="latbench profile --store"):
        Store(path)


@pytest.mark.skipif(not os.path.exists("/proc/self/mounts"), reason="needs a folder that even root cannot write to")
def test_a_folder_that_cannot_be_written_is_explained() -> None:
    with pytest.raises(StoreError, match="choose a"):
        Store("/proc/latbench/a.db", IDENTITY)


def test_two_processes_write_one_store(path: Path) -> None:
    code = (
        "import sys; from tests.test_store import *\n"
        f"with Store({str(path)!r}, IDENTITY) as s:\n"
        "    wanted = iter([Subject('architecture', str(i)) for i in range(200)])\n"
        "    while claimed := s.claim(wanted, 7): s.add(CONDITIONS, [measurement(c.text) for c in claimed])\n"
    )
    root = Path(__file__).parent.parent
    writers = [subprocess.Popen([sys.executable, "-c", code], cwd=root, stderr=subprocess.PIPE) for _ in range(3)]
    errors = [writer.communicate()[1].decode() for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0, 0], errors
    with Store(path) as opened:
        assert sorted(m.subject for m in opened.measurements()) == sorted(map(str, range(200)))


def test_a_store_that_another_process_fills_is_not_discarded(store: Store, path: Path) -> None:
    (claimed,) = store.claim(iter([Subject("architecture", "a")]), 1)
    with Store(path, IDENTITY) as other:
        other.discard_if_empty()
    assert path.exists()
    store.add(CONDITIONS, [measurement(claimed.text)])
    with Store(path, IDENTITY) as other:
        other.discard_if_empty()
    with Store(path) as again:
        assert [m.subject for m in again.measurements()] == ["a"]


def test_of_two_processes_with_one_mistake_each_may_discard_the_store(store: Store, path: Path) -> None:
    with Store(path, IDENTITY) as other:
        other.discard_if_empty()
        store.discard_if_empty()
    assert not path.exists()


def test_a_store_that_was_removed_takes_no_writes(store: Store, path: Path) -> None:
    store.discard_if_empty()
    assert not path.exists()
    for replaced in (False, True):
        if replaced:
            Store(path, IDENTITY).__exit__(None, None, None)
        with pytest.raises(StoreError, match="was removed or replaced while it was written: run the same command"):
            store.add(CONDITIONS, [measurement("a")])


def test_a_failure_that_is_tried_again_stays_until_it_is(store: Store) -> None:
    failures = [Failure("architecture", name, "no memory") for name in "ab"]
    store.add_failures(failures, "2026-01-01T00:00:00+00:00")
    subjects = [Subject("architecture", name) for name in "ab"]
    assert store.claim(iter(subjects), 2) == []
    store.retry_failures()
    assert store.claim(iter(subjects), 2) == subjects
    assert len(store.failures()) == 2
    store.add(CONDITIONS, [measurement("a")])
    store.add_failures(failures[1:], "2026-01-02T00:00:00+00:00")
    assert [failure.subject for failure in store.failures()] == ["b"]
    assert store.claim(iter(subjects), 2) == []


def test_a_store_named_from_the_current_folder_is_written_wherever_that_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with Store("a.db", IDENTITY) as opened:
        monkeypatch.chdir("/")
        opened.add(CONDITIONS, [measurement("a")])
    with Store(tmp_path / "a.db") as opened:
        assert len(opened.measurements()) == 1
