"""Run the checks, each in a process and time of its own; print a table at the end, and write everything as JSON.

A check that fails, crashes or does not end is a row with its reason, and so is what was not run. The JSON is complete
after every check, whatever becomes of the next one.
"""

from __future__ import annotations

import argparse
import importlib
import json
import multiprocessing
import os
import pkgutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.gpu.job import Job, Row, read_rows
from benchmarks.machine import header, table

RESERVE = 10.0
"""Seconds of the whole that no check gets: starting, and ending what does not end."""
GRACE = 0.1
"""Share of its time by which a check may be late before it is ended."""
UNINTERRUPTIBLE = 5.0
"""Seconds that the driver may keep a check that was killed."""
LOGGED = 4000
"""Characters of what a failed check printed that its row keeps."""


@dataclass(frozen=True, slots=True)
class Check:
    """A check, the ``module:function`` that runs it, and the seconds that it is meant to take."""

    name: str
    run: str
    seconds: float


CHECKS = (
    Check("backends", "benchmarks.gpu.words:run", 30),
    Check("tensorrt", "benchmarks.gpu.tensorrt:run", 35),
    Check("agreement", "benchmarks.gpu.agreement:run", 45),
    Check("power", "benchmarks.gpu.power:run", 45),
    Check("tests", "benchmarks.gpu.suite:run", 60),
    Check("repeatability", "benchmarks.gpu.repeatability:run", 70),
    Check("variants", "benchmarks.gpu.variants:run", 45),
    Check("profile", "benchmarks.gpu.profiles:run_one", 90),
    Check("profile-batch", "benchmarks.gpu.profiles:run_batch", 60),
    Check("compiled", "benchmarks.gpu.variants:run_compiled", 40),
)
"""What takes a fixed time comes first: its leftovers go to the profiles, which measure as much as their time allows."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dry-run", action="store_true", help="on the CPU, with little of everything")
    parser.add_argument("--minutes", type=float, default=8.0, help="for all checks together")
    parser.add_argument("--only", nargs="+", choices=[check.name for check in CHECKS], metavar="CHECK")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).with_name("results.json"), help="file, or its folder"
    )
    arguments = parser.parse_args()
    checks = [check for check in CHECKS if not arguments.only or check.name in arguments.only]
    title = header("GPU checks" + (", dry run on the CPU" if arguments.dry_run else ""))
    out = arguments.out / "results.json" if arguments.out.is_dir() else arguments.out
    start = time.monotonic()
    rows = [Row(check.name, "all of it", "--only leaves it out", "not run") for check in CHECKS if check not in checks]
    for new in run_checks(checks, start + 60 * arguments.minutes, dry=arguments.dry_run):
        rows += new
        seconds = time.monotonic() - start
        document = {"title": title, "seconds": seconds, "dry_run": arguments.dry_run, "rows": [*map(asdict, rows)]}
        out.write_text(json.dumps(document, indent=1) + "\n")
    print(title)
    print(table(["check", "what", "status", "result"], [[r.check, r.what, r.status, one_line(r.result)] for r in rows]))
    counts = {status: sum(row.status == status for row in rows) for status in ("done", "failed", "not run")}
    print(
        ", ".join(f"{count} {status}" for status, count in counts.items()),
        f"in {time.monotonic() - start:.0f} s; wrote {out}",
    )
    return int(counts["failed"] > 0)


def run_checks(checks: Sequence[Check], deadline: float, *, dry: bool) -> Iterator[list[Row]]:
    """Run the checks one after another and yield the rows of each; what one does not use of its time is the others'."""
    with tempfile.TemporaryDirectory() as folder:
        for number, check in enumerate(checks):
            left = deadline - RESERVE - time.monotonic()
            seconds = left * check.seconds / sum(later.seconds for later in checks[number:])
            if seconds < 1:
                yield [Row(check.name, "all of it", "the time of the whole run is over", "not run")]
                continue
            print(f"{check.name}: at most {seconds:.0f} s", file=sys.stderr, flush=True)
            path = Path(folder, f"{number}.jsonl")
            job = Job(check.name, path, Path(folder), time.monotonic() + seconds, dry)
            start = time.monotonic()
            log = path.with_suffix(".log")
            reason = end_of(check, job, log, seconds * (1 + GRACE))
            print(f"    {time.monotonic() - start:.0f} s {reason}", file=sys.stderr, flush=True)
            rows = read_rows(path)
            if reason:
                said = log.read_text(errors="replace")[-LOGGED:] if log.exists() else ""
                rows.append(Row(check.name, "the rest of it", reason, "failed", {"log": said}))
            yield rows


def end_of(check: Check, job: Job, log: Path, seconds: float) -> str:
    """Run a check in a process of its own; return why it did not end by itself."""
    # Forked from a process that has imported torch and nothing that asks for a GPU: CUDA does not survive a fork, and
    # modules may ask as early as when they are imported, as torch.utils.benchmark of older releases does.
    importlib.import_module("torch")
    process = multiprocessing.get_context("fork").Process(target=in_own_process, args=(check, job, log))
    process.start()
    process.join(seconds)
    late = process.is_alive()
    if process.pid is not None and (late or process.exitcode):
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            process.kill()
    process.join(UNINTERRUPTIBLE)
    if process.is_alive():
        return f"ended after {seconds:.0f} s, and it does not die: it is stuck in the driver"
    if late:
        return f"ended after {seconds:.0f} s"
    if process.exitcode:
        code = process.exitcode
        words = (log.read_text(errors="replace").strip().splitlines() if log.exists() else []) or ["it left no message"]
        return f"the process ended with {signal.Signals(-code).name if code < 0 else code}: {words[-1]}"
    return "" if read_rows(job.rows) else "it reports nothing"


def in_own_process(check: Check, job: Job, log: Path) -> None:
    """Run a check as the leader of a process group; what it and its libraries print goes to the log."""
    os.setsid()
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    with job.part("all of it"):
        pkgutil.resolve_name(check.run)(job)


def one_line(text: str, width: int = 100) -> str:
    """Return a text that fits into a row."""
    line = " ".join(text.replace("|", "/").split())
    return line if len(line) <= width else line[: width - 3] + "..."


if __name__ == "__main__":
    sys.exit(main())
