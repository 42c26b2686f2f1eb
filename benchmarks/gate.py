"""``latbench compare-runs`` as a gate: how often equal runs are called different, and a delay of 2% is found.

Every run is held against the next one, which is equal, and some are followed by a delayed one. The delay keeps the core
busy after every inference; in profiles, the references are not delayed, and in measured models, neither is the anchor.
A machine that is slower as a whole is simulated by scaling all times.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, ClassVar

from benchmarks.machine import header, table
from latbench.backend import CompileOptions, Device
from latbench.model import Model
from latbench.records.subjects import architecture_model, references
from latbench.runs import Run, compare_runs, read_run, relative_to_anchor, relative_to_references
from latbench.runs.verdict import TOLERANCE, Verdict
from latbench.spaces.darts import DartsSpace
from latbench_onnxruntime import OnnxRuntimeBackend

ROOT = Path(__file__).parent.parent
DELAY, LEVEL = "LATBENCH_GATE_DELAY", "LATBENCH_GATE_LEVEL"
"""Environment variables: by how much inferences are delayed, and what all times are multiplied with."""
SLOWER = 0.02
FALSE_ALARMS, FOUND = 0.05, 0.9
SPACE = DartsSpace()


class Steady:
    """ONNX Runtime, whose times scale with `LEVEL` alone: an anchor."""

    name: ClassVar[str] = "steady"

    def __init__(self) -> None:
        self._inner = OnnxRuntimeBackend()

    def device(self) -> Device:
        """Return the processor."""
        return self._inner.device()

    def compile(self, model: Model, options: CompileOptions) -> Any:
        """Compile with ONNX Runtime."""
        compiled = self._inner.compile(model, options)
        run, delay, level = compiled.run, self.delay(model), float(os.environ.get(LEVEL, "1"))

        def delayed() -> float:
            seconds = run()
            if delay:
                start = time.thread_time()
                while time.thread_time() - start < delay * seconds:
                    pass
                seconds += time.thread_time() - start
            return seconds * level

        compiled.run = delayed  # type: ignore[method-assign]
        return compiled

    def delay(self, model: Model) -> float:
        """Return by how much of itself an inference is delayed."""
        return 0.0


class Delayed(Steady):
    """ONNX Runtime with every inference delayed by `DELAY` of itself, but for a space's references."""

    name: ClassVar[str] = "delayed"

    def delay(self, model: Model) -> float:
        """Return the delay, none for references."""
        is_reference = model.name in {subject.text for subject in references(SPACE)}
        return 0.0 if is_reference else float(os.environ.get(DELAY, "0"))


def network() -> tuple[Any, Mapping[str, Any]]:
    """Return the network that is measured, with its inputs: what the spaces' own factory builds."""
    (architecture,) = SPACE.sample(1, seed=7)
    model = architecture_model(SPACE, architecture)
    return SPACE.build(architecture).eval(), model.inputs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=100, help="equal pairs")
    parser.add_argument("--delayed", type=int, default=20, help="pairs of which one is delayed")
    parser.add_argument("--samples", type=int, default=8, help="architectures of a profile; 0 leaves profiles out")
    parser.add_argument("--tolerance", type=float, default=TOLERANCE)
    parser.add_argument("--keep", type=Path, help="folder of the runs; those that it already has are not made again")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    every = max(1, arguments.pairs // max(1, arguments.delayed))
    rows = []
    with tempfile.TemporaryDirectory() if arguments.keep is None else nullcontext(arguments.keep) as folder:
        asked = [0.0 if index % every else SLOWER for index in range(arguments.pairs + 1)]
        models = [measured(Path(folder), index, delay) for index, delay in enumerate(asked)]
        anchored = [[relative_to_anchor(run, "benchmarks.gate:Steady") for run in runs] for runs in models]
        rows += judged("measure", models, arguments.tolerance)
        rows += judged("measure --anchor", anchored, arguments.tolerance)
        if arguments.samples:
            profiles = [profiled(Path(folder), index, delay, arguments.samples) for index, delay in enumerate(asked)]
            relative = [[relative_to_references(run) for run in runs] for runs in profiles]
            rows += judged("profile", profiles, arguments.tolerance)
            rows += judged("profile --relative", relative, arguments.tolerance)
            equal = [verdict(a[0], b[0], arguments.tolerance) == "UNCLEAR" for a, b in itertools.pairwise(relative)]
            unclear = [verdict(runs[0], runs[2], arguments.tolerance) == "UNCLEAR" for runs in relative if runs[1:]]
            # A machine that is slower as a whole is no reason to know less than from equal runs.
            usual = sum(equal) / len(equal)
            rows.append(row("profile --relative: UNCLEAR where all is 10% slower", unclear, usual))
    if arguments.json:
        print(json.dumps(rows, indent=1))
        return
    print(header(f"The gate: {arguments.pairs} pairs of runs, tolerance {arguments.tolerance:.0%}"))
    cells = [
        [each["work"], f"{each['value']:.0%}", f"{each['goal']:.0%}", "yes" if each["met"] else "no"] for each in rows
    ]
    print(table(["pairs", "share", "goal", "met"], cells))


def judged(name: str, runs: Sequence[Sequence[Run]], tolerance: float) -> list[dict[str, Any]]:
    """Return the share of false alarms between neighbours, and that of delays that were found."""
    plain = [each[0] for each in runs]
    alarms = [verdict(a, b, tolerance) in ("SLOWER", "FASTER") for a, b in itertools.pairwise(plain)]
    found = [verdict(each[0], each[1], tolerance) == "SLOWER" for each in runs if each[1:]]
    return [
        row(f"{name}: equal runs called different", alarms, FALSE_ALARMS),
        row(f"{name}: {SLOWER:.0%} slower, called SLOWER", found, FOUND, at_least=True),
    ]


def row(work: str, happened: Sequence[bool], goal: float, *, at_least: bool = False) -> dict[str, Any]:
    """Return how often something happened, with its goal."""
    share = sum(happened) / len(happened)
    return {"work": work, "value": share, "goal": goal, "met": share >= goal if at_least else share <= goal}


def verdict(a: Run, b: Run, tolerance: float) -> Verdict:
    """Return the verdict on the only subject, or the mean of a profile."""
    compared = compare_runs(a, b)
    ratio = compared.mean or compared.rows[0].ratio
    assert ratio is not None
    return ratio.verdict(tolerance)


def measured(folder: Path, index: int, delay: float) -> list[Run]:
    """Measure the network beside its anchor, as it is and, if there is a delay, with that."""
    runs = []
    for slower in dict.fromkeys((0.0, delay)):
        out = folder / f"{index}-{slower}.json"
        names = ("--backend", "benchmarks.gate:Steady", "--backend", "benchmarks.gate:Delayed", "--out", str(out))
        if not out.exists():
            call(["measure", "benchmarks.gate:network", *names], {DELAY: str(slower)})
        runs.append(read_run(out))
    return runs


def profiled(folder: Path, index: int, delay: float, samples: int) -> list[Run]:
    """Profile some architectures as they are and, if there is a delay, with that, and on a slower machine."""
    runs = []
    for slower, level in ((0.0, 1.0), (delay, 1.0), (0.0, 1.1)) if delay else ((0.0, 1.0),):
        store = folder / f"{index}-{slower}-{level}.db"
        asked = ("--backend", "benchmarks.gate:Delayed", "--samples", str(samples), "--store", str(store), "--json")
        if not store.exists():
            settings = ("--half-width", "0.02", "--max-rounds", "16")
            call(["profile", *asked, *settings], {DELAY: str(slower), LEVEL: str(level)})
        runs.append(read_run(store))
    return runs


def call(arguments: Sequence[str], environment: Mapping[str, str]) -> None:
    paths = [str(ROOT / folder) for folder in ("", "backends", "predictors")]
    everything = {**os.environ, **environment, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "latbench", *arguments]
    subprocess.run(command, env=everything, check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
