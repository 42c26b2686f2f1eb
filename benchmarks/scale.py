"""What a store costs at 1,000, 10,000 and 100,000 rows: its size, writing, resuming, reading; synthetic rows."""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.machine import header, table
from latbench.backend import Device
from latbench.records.measurement import Conditions, Measurement
from latbench.records.subjects import Subject
from latbench.space import SpaceSpec
from latbench.spaces.darts import DartsSpace
from latbench.store import Identity, Store

SESSION = 13
ROUNDS = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    arguments = parser.parse_args()
    space = DartsSpace()
    texts = [str(a) for a in space.sample(max(arguments.rows), seed=0)]
    identity = Identity(SpaceSpec.of(space), "null", "fp32", 1, 1, "warm", {})
    conditions = Conditions("latency", "ms", "null", "warm", "null", Device("null", "null"), "fp32", 1, 1)
    rows = []
    for count in arguments.rows:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "a.db"
            with Store(path, identity) as store:
                start = time.perf_counter()
                for replicate, part in enumerate((texts[:count], texts[: count * 3 // 100])):
                    for session in sessions(part, replicate):
                        store.add(conditions, session)
                written = time.perf_counter() - start
                start = time.perf_counter()
                assert not store.claim(iter([Subject("architecture", text) for text in texts[:count]]), SESSION)
                resumed = time.perf_counter() - start
                start = time.perf_counter()
                store.duplicates()
                floor = time.perf_counter() - start
                start = time.perf_counter()
                assert len(store.profile().y) == count
                read = time.perf_counter() - start
            size = path.stat().st_size / 2**20
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
        figures = (size, size / count * 2**20 / 1e3, written / count * 1e6, resumed, floor, read, peak)
        rows.append([f"{count:,}", *(f"{figure:.3g}" for figure in figures)])
    print(header("Scale: the store, synthetic DARTS rows of 16 blocks, and 3% blind duplicates"))
    columns = [
        "rows",
        "MiB",
        "kB a row",
        "µs to write a row",
        "s to resume",
        "s for the floor",
        "s to read all",
        "peak MiB",
    ]
    print(table(columns, rows))


def sessions(texts: list[str], replicate: int) -> Iterator[list[Measurement]]:
    rng = np.random.default_rng(0)
    for number, start in enumerate(range(0, len(texts), SESSION)):
        values = rng.uniform(1, 2, SESSION).tolist()
        blocks = tuple(rng.uniform(1, 2, ROUNDS).tolist())
        yield [
            Measurement(
                *(text, "architecture", value, value, value, 1.0, replicate, blocks),
                session=f"{replicate}.{number}",
                order=order,
            )
            for order, (text, value) in enumerate(zip(texts[start : start + SESSION], values, strict=False))
        ]


if __name__ == "__main__":
    main()
