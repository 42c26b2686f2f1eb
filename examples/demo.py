"""The main job on this machine, from the command line: profile, fit, compare, search, measure again.

Every step is a ``latbench`` command that is printed before it runs, so that it can be typed, changed and continued.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Size:
    """How much of everything."""

    space: str
    samples: int
    train: str
    seeds: int
    epochs: int
    train_epochs: int


FULL = Size("-S cells=5 -S channels=8 -S image=16", samples=200, train="50,100", seeds=5, epochs=6, train_epochs=5)
SHORT = Size("-S cells=3 -S channels=4 -S image=8", samples=24, train="12", seeds=2, epochs=2, train_epochs=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("demo-output"), help="where everything is written")
    parser.add_argument("--short", action="store_true", help="a minute of everything, to see that it runs")
    arguments = parser.parse_args()
    size, out = SHORT if arguments.short else FULL, arguments.out
    start = time.monotonic()
    store = out / "profile.db"
    latbench(
        f"profile --space darts {size.space} --backend onnxruntime --samples {size.samples} --operators --store {store}"
    )
    for predictor in ("mlp", "gbdt", "lookup"):
        path = out / f"{predictor}.safetensors"
        if not path.exists():  # an interrupted search continues with the predictor that it began with
            latbench(f"fit {store} --predictor {predictor} --out {path}")
    latbench(
        f"compare {store} --predictors mlp,gbdt,lookup --train {size.train} --seeds {size.seeds}"
        f" --plot {out}/predictors.png"
    )
    latbench(
        f"search {out}/mlp.safetensors --data digits --targets none,75% --out {out}/search --batch-size 32"
        f" --epochs {size.epochs} --warmup-epochs 1 --alpha-lr 0.1 --train-epochs {size.train_epochs}"
    )
    print(
        f"\n{out} holds the store, the predictors, the genotypes and the plots; {time.monotonic() - start:.0f} s in all"
    )


def latbench(command: str) -> None:
    """Print a command and run it; the demo ends where a command fails."""
    print(f"\n$ latbench {command}", flush=True)
    # The supernet's operations are too small to gain from a second thread, and lose tenfold beside a busy process.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.run([sys.executable, "-m", "latbench", *shlex.split(command)], env=environment, check=False)
    if run.returncode:
        sys.exit(run.returncode)


if __name__ == "__main__":
    main()
