"""``latbench compare-runs`` as a gate: how often equal runs are called different, and a delay of 2% is found.

Runs take turns: one as it is, one with the delay. Each is held against the next one as it is, which is equal, and
against the delayed one beside it. The delay keeps the core busy after every inference; in profiles, the references are
not delayed, and in measured models, neither is the anchor. A machine that is slower as a whole is simulated by scaling
all times of the delayed profile.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

from benchmarks.machine import header, table
from latbench.backend import CompileOptions, Device
from latbench.model import Model
from latbench.records.subjects import architecture_model, references
from latbench.runs import Run, compare_runs, read_run, relative_to_anchor, relative_to_references
from latbench.runs.verdict import Ratio, Verdict
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
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--samples", type=int, default=8, help="architectures of a profile; 0 leaves profiles out")
    parser.add_argument("--tolerance", type=float, default=0.01)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        models = [measured(Path(folder), pair) for pair in range(arguments.pairs + 1)]
        anchored = [tuple(relative_to_anchor(run, "benchmarks.gate:Steady") for run in pair) for pair in models]
        rows += judged("measure", models, arguments.tolerance) + judged(
            "measure --anchor", anchored, arguments.tolerance
        )
        if arguments.samples:
            profiles = [profiled(Path(folder), pair, arguments.samples) for pair in range(arguments.pairs + 1)]
            relative = [tuple(map(relative_to_references, pair)) for pair in profiles]
            equal = [pair[:2] for pair in profiles]
            rows += judged("profile", equal, arguments.tolerance) + judged(
                "profile --relative", relative, arguments.tolerance
            )
            unclear = [verdict(a, moved, arguments.tolerance) == "UNCLEAR" for a, _, moved in relative]
            rows.append(row("profile --relative: UNCLEAR where the machine is 10% slower", unclear, FALSE_ALARMS))
    if arguments.json:
        print(json.dumps(rows, indent=1))
        return
    print(header(f"The gate: {arguments.pairs} pairs of runs, tolerance {arguments.tolerance:.0%}"))
    cells = [
        [each["work"], f"{each['value']:.0%}", f"{each['goal']:.0%}", "yes" if each["met"] else "no"] for each in rows
    ]
    print(table(["pairs", "share", "goal", "met"], cells))


def judged(name: str, pairs: Sequence[tuple[Run, ...]], tolerance: float) -> list[dict[str, Any]]:
    """Return the share of false alarms, and that of delays that were found."""
    plain = [pair[0] for pair in pairs]
    alarms = [verdict(a, b, tolerance) in ("SLOWER", "FASTER") for a, b in pairwise(plain)]
    found = [verdict(pair[0], pair[1], tolerance) == "SLOWER" for pair in pairs[1:]]
    return [
        row(f"{name}: equal runs called different", alarms, FALSE_ALARMS),
        row(f"{name}: {SLOWER:.0%} slower, called SLOWER", found, FOUND, at_least=True),
    ]


def row(work: str, happened: Sequence[bool], goal: float, *, at_least: bool = False) -> dict[str, Any]:
    """Return how often something happened, with its goal."""
    share = sum(happened) / len(happened)
    return {"work": work, "value": share, "goal": goal, "met": share >= goal if at_least else share <= goal}


def verdict(a: Run, b: Run, tolerance: float) -> Verdict:
    compared = compare_runs(a, b)
    ratio = compared.mean or compared.rows[0].ratio
    assert isinstance(ratio, Ratio)
    print(
        f"{a.relative_to or 'absolute'}: {ratio.value - 1:+.2%}, {ratio.low - 1:+.2%} to {ratio.high - 1:+.2%}",
        file=sys.stderr,
    )
    return ratio.verdict(tolerance)


def measured(folder: Path, pair: int) -> tuple[Run, ...]:
    """Measure the network beside its anchor, as it is and delayed."""
    runs = []
    for delay in (0.0, SLOWER):
        out = folder / f"{pair}-{delay}.json"
        names = ("--backend", "benchmarks.gate:Steady", "--backend", "benchmarks.gate:Delayed", "--out", str(out))
        call(["measure", "benchmarks.gate:network", *names], {DELAY: str(delay)})
        runs.append(read_run(out))
    return tuple(runs)


def profiled(folder: Path, pair: int, samples: int) -> tuple[Run, ...]:
    """Profile some architectures as they are, delayed, and on a machine that is slower as a whole."""
    runs = []
    for delay, level in ((0.0, 1.0), (SLOWER, 1.0), (0.0, 1.1)):
        store = folder / f"{pair}-{delay}-{level}.db"
        asked = ("--backend", "benchmarks.gate:Delayed", "--samples", str(samples), "--store", str(store), "--json")
        call(["profile", *asked], {DELAY: str(delay), LEVEL: str(level)})
        runs.append(read_run(store))
    return tuple(runs)


def call(arguments: Sequence[str], environment: Mapping[str, str]) -> None:
    paths = [str(ROOT / folder) for folder in ("", "backends", "predictors")]
    everything = {**os.environ, **environment, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "latbench", *arguments]
    subprocess.run(command, env=everything, check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
