"""This checkout against another commit, in turns: how long the same ``latbench profile`` and the short demo take.

The other commit is checked out beside this one and run with the same environment, so that only the code differs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from benchmarks.machine import header, table

ROOT = Path(__file__).parent.parent
MOST = 1.05
"""How many times as long as the other commit this one may take: what two runs of one commit differ by."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("commit", help="what to compare with, such as HEAD~20")
    parser.add_argument("--samples", type=int, default=120, help="architectures of one profile")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--no-demo", action="store_true", help="leave out the short demo, which takes minutes")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    works = {
        f"latbench profile, {arguments.samples} DARTS networks": [
            *("-m", "latbench", "profile", "--backend", "onnxruntime", "--samples", str(arguments.samples)),
            *("--half-width", "0.02", "--max-rounds", "16", "--json", "--store", "a.db"),
        ],
        "the short demo": [str(ROOT / "examples" / "demo.py"), "--short", "--out", "demo"],
    }
    if arguments.no_demo:
        works.popitem()
    with checked_out(arguments.commit) as other:
        seconds = {
            work: np.array([[taken(tree, command) for tree in (other, ROOT)] for _ in range(arguments.turns)])
            for work, command in works.items()
        }
    ratios = {work: float(np.median(each[:, 1] / each[:, 0])) for work, each in seconds.items()}
    if arguments.json:
        rows = [
            {"work": f"{work}: times as long as {arguments.commit}", "value": ratio, "goal": MOST, "met": ratio <= MOST}
            for work, ratio in ratios.items()
        ]
        print(json.dumps(rows, indent=1))
        return
    print(header(f"This commit against {arguments.commit}: whole commands, in turns"))
    cells = [
        [work, *(f"{median:.1f}" for median in np.median(each, axis=0)), f"{ratios[work]:.2f}"]
        for work, each in seconds.items()
    ]
    print(table(["command", f"{arguments.commit}, s", "this one, s", "times as long"], cells))


@contextmanager
def checked_out(commit: str) -> Iterator[Path]:
    """Give a folder with another commit's files."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        git = ("git", "-C", str(ROOT), "worktree")
        subprocess.run([*git, "add", "--quiet", "--detach", str(tree), commit], check=True)
        try:
            yield tree
        finally:
            subprocess.run([*git, "remove", "--force", str(tree)], check=True)


def taken(tree: Path, command: list[str]) -> float:
    """Run a command on the sources of a tree, in an empty folder; return its seconds."""
    paths = [str(tree / folder) for folder in ("", "backends", "predictors")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, *command], cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=None
        )
        return time.perf_counter() - start


if __name__ == "__main__":
    main()
