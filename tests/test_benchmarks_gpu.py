"""The GPU checks are whole before a GPU is used: all of them, on the CPU, and what happens to one that fails."""

from __future__ import annotations

import importlib.metadata
import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.gpu.__main__ import CHECKS, Check, run_checks
from benchmarks.gpu.distribution import write_distribution
from benchmarks.gpu.job import Job
from benchmarks.gpu.tensorrt import statistics
from tests.patience import LIMITS_S, PATIENCE_S

ROOT = Path(__file__).parent.parent


def test_a_dry_run_runs_every_check_and_says_what_it_did_not_run(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHON": sys.executable, "OUT": str(tmp_path), "WHEELS": str(tmp_path / "none")}
    command = [str(ROOT / "benchmarks/gpu/run.sh"), "--dry-run"]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]
    rows = json.loads((tmp_path / "results.json").read_text())["rows"]
    done = {row["check"] for row in rows if row["status"] == "done"}
    assert done >= {check.name for check in CHECKS} - {"tests", "compiled"}
    assert all(row["result"] for row in rows)
    assert {row["status"] for row in rows if row["check"] == "tests"} <= {"not run", "done"}
    assert "triton" in " ".join(row["what"] for row in rows if row["status"] == "not run")
    summary = ran.stdout.splitlines()
    assert all(any(check.name in line for line in summary) for check in CHECKS)
    assert "0 failed" in summary[-1]


def reports(job: Job) -> None:
    job.row("first", "fine", {"ms": 1.0})


def crashes(job: Job) -> None:
    job.row("before", "fine")
    os.write(2, b"last words\n")
    os.kill(os.getpid(), signal.SIGKILL)


def hangs(job: Job) -> None:
    job.row("before", "fine")
    subprocess.run([sys.executable, "-c", "import time; time.sleep(600)"], check=False)


def raises(job: Job) -> None:
    with job.part("one"):
        raise ValueError("not this one")
    with job.part("two"):
        import no_such_library  # noqa: F401
    job.row("three", "fine")


def says_nothing(job: Job) -> None:
    pass


def check(run: Callable[[Job], None], seconds: float = 1) -> Check:
    return Check(run.__name__, f"{__name__}:{run.__name__}", seconds)


def test_a_check_that_fails_is_a_row_and_the_others_go_on() -> None:
    checks = [check(run) for run in (reports, crashes, raises, says_nothing)]
    rows = [row for rows in run_checks(checks, time.monotonic() + PATIENCE_S, dry=True) for row in rows]
    assert rows[2].facts["log"].endswith("last words\n")
    assert "in raises" in rows[3].facts["traceback"]
    assert [(row.check, row.what, row.status, row.result) for row in rows] == [
        ("reports", "first", "done", "fine"),
        ("crashes", "before", "done", "fine"),
        ("crashes", "the rest of it", "failed", "the process ended with SIGKILL: last words"),
        ("raises", "one", "failed", "ValueError: not this one"),
        ("raises", "two", "not run", "no_such_library is not installed"),
        ("raises", "three", "done", "fine"),
        ("says_nothing", "the rest of it", "failed", "it reports nothing"),
    ]


def test_a_check_that_hangs_is_ended_with_all_that_it_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.gpu.__main__.RESERVE", 0.0)
    for limit in LIMITS_S:
        checks = [check(hangs, limit), check(reports, PATIENCE_S)]
        start = time.monotonic()
        rows = [row for rows in run_checks(checks, start + limit + PATIENCE_S, dry=True) for row in rows]
        if rows[0].what == "before":
            break
    assert time.monotonic() - start < PATIENCE_S
    assert [(row.what, row.status) for row in rows] == [
        ("before", "done"),
        ("the rest of it", "failed"),
        ("first", "done"),
    ]
    assert rows[1].result.startswith(f"ended after {limit:.0f} s")


def test_what_forks_asks_for_no_gpu() -> None:
    code = """
import sys, torch
def asked(): raise AssertionError('CUDA does not survive a fork')
torch.cuda.is_available = torch.cuda.device_count = torch.cuda.init = asked
import benchmarks.gpu.__main__
from latbench.measure.workers import FILES, SPACES
for module in (*SPACES, *FILES):
    __import__(module)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert ran.returncode == 0, ran.stderr


def test_what_there_is_no_time_for_is_said_to_be_not_run() -> None:
    (rows,) = run_checks([check(reports)], time.monotonic(), dry=True)
    assert [(row.status, row.result) for row in rows] == [("not run", "the time of the whole run is over")]


def test_plugins_are_found_without_an_installation(tmp_path: Path) -> None:
    written = importlib.metadata.Distribution.at(write_distribution(tmp_path))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for group, points in project["entry-points"].items():
        assert {point.name: point.value for point in written.entry_points if point.group == group} == points
    assert written.metadata["Name"] == "latbench"
    assert set(written.metadata.get_all("Provides-Extra")) == set(project["optional-dependencies"])


def test_statistics_are_those_of_trtexec() -> None:
    import numpy as np

    told = statistics(np.arange(1.0, 102.0))
    assert told == {"min": 1, "mean": 51, "median": 51, "p90": 91, "p95": 96, "p99": 100}
