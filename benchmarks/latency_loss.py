"""What a ``LatencyLoss`` forward and backward costs, as a share of one step of the supernet that it joins."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional

from benchmarks.machine import header, table
from latbench.backend import Device
from latbench.prediction.fit import fit
from latbench.records.measurement import Conditions, Measurement
from latbench.records.profile import Profile
from latbench.search import LatencyLoss
from latbench.spaces.darts import DartsSpace


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=5)
    arguments = parser.parse_args()
    space = DartsSpace()
    supernet = space.supernet()
    x = torch.randn(arguments.batch, 3, space.image, space.image)
    y = torch.randint(space.classes, (arguments.batch,))
    latency = LatencyLoss(fit(invented_profile(space), "mlp"), target=1.0, penalty="hinge")

    def step() -> None:
        torch.autograd.grad(functional.cross_entropy(supernet(x), y), supernet.weights(), materialize_grads=True)

    def penalty() -> None:
        torch.autograd.grad(latency(supernet.alphas()), supernet.alphas())

    print(header(f"LatencyLoss: the mlp on DARTS, 8 cells, C=16, batch {arguments.batch} on this CPU"))
    step_ms, penalty_ms = milliseconds(step, arguments.steps), milliseconds(penalty, 100 * arguments.steps)
    rows = [
        ["supernet, forward and backward", f"{step_ms:.1f}"],
        ["LatencyLoss, forward and backward", f"{penalty_ms:.2f}"],
        ["share", f"{penalty_ms / step_ms:.3%}"],
    ]
    print(table(["", "ms"], rows))


def milliseconds(run: Callable[[], None], times: int) -> float:
    """Return the median of several runs after one that does not count."""
    run()
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds)) * 1e3


def invented_profile(space: DartsSpace) -> Profile:
    """Return a profile whose labels are additive: the cost of a forward pass does not depend on the labels."""
    costs = np.random.default_rng(0).uniform(0.01, 0.2, len(space.columns))
    architectures = space.sample(100, seed=0)
    values = space.encode(architectures) @ costs
    measured = [
        Measurement(str(a), "architecture", v, v, v) for a, v in zip(architectures, values.tolist(), strict=True)
    ]
    device = Device("invented", "cpu")
    conditions = Conditions("latency", "ms", "wall", "warm", "invented", device, "fp32", 1, 1)
    return Profile(space, conditions, tuple(measured))


if __name__ == "__main__":
    main()
