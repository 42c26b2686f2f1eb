"""The part of the test suite that needs a GPU."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

from benchmarks.gpu.job import Job, Status

TESTS = Path(__file__).parents[2] / "tests"


def run(job: Job) -> None:
    missing = [name for name in ("pytest", "hypothesis") if importlib.util.find_spec(name) is None]
    if missing:
        job.row("tests", f"{' and '.join(missing)} not installed", status="not run")
        return
    pytest(job, "of the backends", [*map(str, sorted(TESTS.glob("test_backend_*gpu.py")))])
    if not job.dry:
        # A library that aborts on this GPU must not take the others' tests along.
        for suite, file in (("Cuda", "backend"), ("Power", "meter"), ("Tensorrt", "backend")):
            pytest(job, f"of the contract, {suite}", [str(TESTS / f"test_{file}_contract.py"), "-k", suite])


def pytest(job: Job, what: str, arguments: list[str]) -> None:
    """Run some tests; skipped ones are reported as such."""
    if job.is_over(what):
        return
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    limit = job.left
    try:
        tests = subprocess.run(command, capture_output=True, text=True, check=False, timeout=limit, cwd=TESTS.parent)
    except subprocess.TimeoutExpired as late:
        said = late.stdout.decode(errors="replace") if isinstance(late.stdout, bytes) else late.stdout or ""
        job.row(what, f"not over after {limit:.0f} s", {"output": said[-4000:]}, status="failed")
        return
    lines = [line for line in tests.stdout.splitlines() if line.strip()]
    last = lines[-1] if lines else tests.stderr.strip()
    status: Status = "failed" if tests.returncode else "done" if "passed" in last else "not run"
    job.row(what, last, {"output": tests.stdout[-4000:]} if tests.returncode else {}, status=status)
