"""What a search step costs where the supernet runs one sampled path, against a step that runs all of them."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional

from benchmarks.latency_loss import invented_profile
from benchmarks.machine import header, table
from latbench.prediction.fit import fit
from latbench.search import LatencyLoss
from latbench.spaces.darts import DartsSpace

GOAL = 6.0
"""How many times as fast a step with one path must be."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=8)
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    space = DartsSpace(cells=arguments.cells, channels=arguments.channels)
    all_ms, one_ms = (
        1e3 * np.array(seconds) for seconds in in_turns(*steps_of(space, arguments.batch), arguments.steps)
    )
    ratios = all_ms / one_ms
    ratio = float(np.median(ratios))
    if arguments.json:
        name = f"one sampled path against all paths of DARTS, {space.cells} cells, C={space.channels}: times as fast"
        print(json.dumps([{"work": name, "value": round(ratio, 2), "goal": GOAL, "met": ratio >= GOAL}], indent=1))
        return
    title = f"One path: a search step on DARTS, {space.cells} cells, C={space.channels}, batch {arguments.batch}"
    print(header(f"{title}, on this CPU, in turns"))
    rows = [[name, f"{np.median(ms):.0f}"] for name, ms in (("all paths", all_ms), ("one sampled path", one_ms))]
    rows.append(["times as fast", f"{ratio:.1f} ({ratios.min():.1f} to {ratios.max():.1f})"])
    print(table(["step, forward and backward, with its LatencyLoss", "ms"], rows))


def steps_of(space: DartsSpace, batch: int) -> tuple[Callable[[], None], Callable[[], None]]:
    """Return a step of all paths and one of a sampled path: gradients of all weights and alphas."""
    supernet, relaxation = space.supernet(), space.relaxation()
    alphas, parameters = supernet.alphas(), [*supernet.weights(), *supernet.alphas()]
    latency = LatencyLoss(fit(invented_profile(space), "mlp"), target=1.0)
    x, y = torch.randn(batch, 3, space.image, space.image), torch.randint(space.classes, (batch,))

    def all_paths() -> None:
        loss = functional.cross_entropy(supernet(x), y) + latency(alphas)
        torch.autograd.grad(loss, parameters, materialize_grads=True)

    def one_path() -> None:
        encoding = relaxation.sample(alphas, 1)[0]
        loss = functional.cross_entropy(supernet(x, encoding=encoding), y) + latency.of(encoding)
        torch.autograd.grad(loss, parameters, materialize_grads=True)

    return all_paths, one_path


def in_turns(first: Callable[[], None], second: Callable[[], None], times: int) -> tuple[list[float], list[float]]:
    """Return the seconds of each, run in turns after one run that does not count: both meet the same load."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for turn in range(times + 1):
        for run, taken in zip((first, second), seconds, strict=True):
            start = time.perf_counter()
            run()
            if turn:
                taken.append(time.perf_counter() - start)
    return seconds


if __name__ == "__main__":
    main()
