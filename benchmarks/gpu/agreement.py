"""Whether latbench says the same as ``torch.utils.benchmark`` and ``triton.testing.do_bench``; goal 1-2%.

Each turn measures a model in all ways, so that clocks and temperature affect them alike; a figure is the median over
turns of the ratio to latbench. ``do_bench`` empties the L2 cache before each run, so it is compared with latbench's
cold latency, and ``torch.utils.benchmark`` against the warm one. They tell medians, so latbench's own statistic, the
lower quartile of the fastest of several runs, gives way to the median of single ones. One difference stays:
``do_bench`` launches while the GPU still empties the cache, so that a launch-bound network looks faster by as much.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.utils.benchmark import Timer

from benchmarks.gpu.job import Job, options
from benchmarks.gpu.variants import resnet
from latbench.measure.one_model.sessions import succeeded
from latbench.measure.quantities.latency import LatencyQuantity
from latbench.measure.session import run_session
from latbench.measure.settings import Settings
from latbench.measure.workloads import Workload
from latbench.model import Model


def run(job: Job) -> None:
    models = {"DARTS net, batch 1": job.net(), f"DARTS net, batch {job.batch}": job.net(job.batch)}
    if not job.dry:
        models["ResNet-18, batch 16"] = resnet(16)
    for number, (what, model) in enumerate(models.items()):
        share = job.left / (len(models) - number)
        with job.part(what):
            agree(job, what, model, until=job.left - share)


def agree(job: Job, what: str, model: Model, *, until: float) -> None:
    """Take turns until `until` seconds are left."""
    device = job.open_backend().device().kind
    call = plain_call(model, device)
    ways: dict[str, Callable[[], float]] = {
        "warm": lambda: ours(job, model, cold=False),
        "cold": lambda: ours(job, model, cold=True),
        "torch.utils.benchmark": lambda: (
            Timer("call()", globals={"call": call}).blocked_autorange(min_run_time=job.some(200, 1) * 1e-3).median * 1e3
        ),
    }
    if device == "cuda":
        ways["triton.testing.do_bench"] = lambda: do_bench(call)
    else:
        job.row(f"{what}: triton.testing.do_bench", "it times CUDA events: needs a GPU", status="not run")
    turns: list[dict[str, float]] = []
    while len(turns) < 2 or (job.left > until and len(turns) < job.some(9, 2)):
        turns.append({way: measure() for way, measure in ways.items()})
    values = {way: np.array([turn[way] for turn in turns]) for way in ways}
    for way, against in (("torch.utils.benchmark", "warm"), ("triton.testing.do_bench", "cold")):
        if way in values:
            ratio = float(np.median(values[way] / values[against]))
            job.row(
                f"{what}: {way} / latbench, {against}",
                f"{ratio:.3f} ({np.median(values[way]):.4f} ms), {len(turns)} turns",
                {"ratio": ratio, "goal": 0.02, "ms": {name: list(ms) for name, ms in values.items()}},
            )


def ours(job: Job, model: Model, *, cold: bool) -> float:
    """Return the median of latbench's visits of one run each, of one session in this process, in ms."""
    rounds = job.some(60, 2)
    settings = Settings(verify="none", min_rounds=rounds, max_rounds=rounds, runs=1, cache="cold" if cold else "warm")
    result = run_session(
        job.open_backend(), [Workload("model", model.name, lambda: model)], LatencyQuantity(), options(), settings
    )
    return float(np.median(succeeded(result).measurements[0].blocks))


def plain_call(model: Model, device: str) -> Callable[[], Tensor]:
    """Return an eager call in real float32, without anything of latbench."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    module = copy.deepcopy(model.module).to(device)
    inputs = [torch.from_numpy(x).to(device) for x in model.inputs.values()]

    def call() -> Tensor:
        with torch.inference_mode():
            y: Tensor = module(*inputs)
            return y

    return call


def do_bench(call: Callable[[], Tensor]) -> float:
    from triton.testing import do_bench as bench

    ms: float = bench(call, warmup=25, rep=200, return_mode="median")
    return ms
