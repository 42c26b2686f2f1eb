"""What ``latbench plugins`` says of this machine, and what the GPU says of itself."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

from benchmarks.gpu.job import Job
from latbench.backend import HasState


def run(job: Job) -> None:
    with job.part("device"):
        backend = job.open_backend()
        device = backend.device()
        state = dict(backend.state()) if isinstance(backend, HasState) else {}
        versions = [f"{name} {device.facts[name]}" for name in ("driver", "cuda", "torch") if name in device.facts]
        job.row("device", ", ".join([device.name, *versions]), {**dataclasses.asdict(device), "state": state})
    with job.part("latbench plugins"):
        command = [sys.executable, "-m", "latbench", "plugins", "--json"]
        listed = subprocess.run(command, capture_output=True, text=True, check=False)
        if listed.returncode:
            job.row("latbench plugins", listed.stderr[-4000:], status="failed")
            return
        for status in json.loads(listed.stdout):
            if status["kind"] in ("backend", "meter"):
                what = f"{status['kind']} {status['name']}"
                job.row(what, "available" if status["available"] else status["reason"], status)
