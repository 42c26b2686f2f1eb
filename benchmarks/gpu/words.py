"""What ``latbench backends`` says of this machine, and what the GPU says of itself."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

from benchmarks.gpu.job import Job
from latbench.backend import HasState


def run(job: Job) -> None:
    listed = subprocess.run(
        [sys.executable, "-m", "latbench", "backends", "--json"], capture_output=True, text=True, check=True
    )
    for status in json.loads(listed.stdout):
        if status["kind"] not in ("backend", "meter"):
            continue
        what = f"{status['kind']} {status['name']}"
        job.row(what, "available" if status["available"] else status["reason"], status)
    with job.part("device"):
        backend = job.target()
        device = backend.device()
        state = dict(backend.state()) if isinstance(backend, HasState) else {}
        versions = [f"{name} {device.facts[name]}" for name in ("driver", "cuda", "torch") if name in device.facts]
        job.row("device", ", ".join([device.name, *versions]), {**dataclasses.asdict(device), "state": state})
