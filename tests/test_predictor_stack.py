"""The predictor stack: devices that run branches side by side, or get slower by more than a sum."""

from __future__ import annotations

import numpy as np
import pytest

from latbench.plugins import PREDICTORS, configure
from latbench.prediction.few_samples.critical_path import CriticalPath
from latbench.prediction.few_samples.gaussian_process import fit_gaussian_process
from latbench.prediction.plugin import fit_estimator
from latbench.prediction.structure.paths import path_reader
from latbench.predictor import Context
from latbench.space import Column, Graph
from latbench.spaces.darts import DartsSpace
from latbench.spaces.mobile.ofa import OfaSpace
from latbench.spaces.nasbench201 import NasBench201Space

SPACE = NasBench201Space()
CONTEXT = Context(SPACE.columns, graphs=SPACE.graphs())
COSTS = {"none": 0.0, "skip_connect": 0.01, "nor_conv_1x1": 0.1, "nor_conv_3x3": 0.25, "avg_pool_3x3": 0.15}


def parallel(n: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return encodings and values of a device that runs all live branches at once: the longest live path counts."""
    drawn = [cell for cell in SPACE.sample(2 * n, seed=seed) if cell.canonical() != "#"][:n]
    values = []
    for cell in drawn:
        finished = [0.0]
        for incoming in cell.nodes():
            ends = [
                finished[source] + COSTS[kind]
                for source, kind in incoming
                if kind != "none" and np.isfinite(finished[source])
            ]
            finished.append(max(ends, default=-np.inf))
        values.append(0.2 + finished[-1])
    return SPACE.encode(drawn).astype(np.float64), np.array(values)


def error(name: str, train: int) -> float:
    (X, y), (test, truth) = parallel(train, seed=0), parallel(400, seed=1)
    return float(np.abs(fit_estimator(name, X, y, context=CONTEXT).predict(test) / truth - 1).mean())


def test_a_device_that_runs_branches_side_by_side_is_learnt_from_few() -> None:
    X, y = parallel(30, seed=0)
    test, truth = parallel(400, seed=1)
    path = CriticalPath.fit(CONTEXT, X, y, np.ones(len(y)))
    assert path is not None
    assert np.abs(path(test) / truth - 1).mean() < 0.03
    assert error("stack", 30) < 0.06 < error("additive", 30)


def test_what_no_path_explains_is_learnt_from_more() -> None:
    rng = np.random.default_rng(0)

    def quadratic(n: int) -> tuple[np.ndarray, np.ndarray]:
        cells = SPACE.sample(n, seed=int(rng.integers(1000)))
        convolutions = np.array([sum(kind == "nor_conv_3x3" for kind in cell.operations) for cell in cells])
        return SPACE.encode(cells).astype(np.float64), 1.0 + 0.1 * convolutions**2

    (X, y), (test, truth) = quadratic(150), quadratic(300)
    off = {
        name: np.abs(fit_estimator(name, X, y, context=CONTEXT).predict(test) / truth - 1).mean()
        for name in ("stack", "additive")
    }
    assert off["stack"] < 0.02 < off["additive"]


def test_what_multiplies_everything_is_learnt_as_a_product() -> None:
    rng = np.random.default_rng(0)
    space = OfaSpace()

    def scaled(n: int) -> tuple[np.ndarray, np.ndarray]:
        drawn = space.sample(n, seed=int(rng.integers(1000)))
        depths = np.array([sum(a[f"depth{stage}"] for stage in range(1, 6)) for a in drawn])
        return space.encode(drawn).astype(np.float64), depths * np.array([a["resolution"] for a in drawn]) ** 2 / 1e5

    (X, y), (test, truth) = scaled(200), scaled(200)
    context = Context(space.columns, graphs=space.graphs())
    off = {
        name: np.abs(fit_estimator(name, X, y, context=context).predict(test) / truth - 1).mean()
        for name in ("stack", "additive")
    }
    assert off["stack"] < 0.02 < off["additive"]


def test_a_process_leaves_out_as_if_it_were_fitted_without() -> None:
    X, y = parallel(60, seed=3)
    X, first = np.unique(X, axis=0, return_index=True)
    y, n = y[first], len(first)
    given, scale, weight = np.ones(n), np.full(n, y.mean()), np.ones(n)
    process = fit_gaussian_process(X, None, y, given=given, scale=scale, weight=weight)
    # A row of nearly no weight is hardly seen: what is predicted there is what leaving it out predicts.
    for row in (0, 7, n - 1):
        without = fit_gaussian_process(
            X, None, y, given=given, scale=scale, weight=np.where(np.arange(n) == row, 1e-9, 1)
        )
        predicted = without(X[row : row + 1], given[:1], scale[:1])[0]
        assert predicted == pytest.approx(process.left_out[row], rel=0.05)
    np.testing.assert_allclose(process(X, given, scale), y, rtol=0.1)


def test_paths_are_read_as_the_cells_say() -> None:
    reader = path_reader(SPACE.graphs(), SPACE.columns)
    assert reader is not None
    cell = SPACE.parse("|nor_conv_3x3~0|+|none~0|avg_pool_3x3~1|+|skip_connect~0|none~1|nor_conv_1x1~2|")
    runs = reader(SPACE.encode([cell]))
    assert runs.counts.sum() == 4
    assert sorted(runs.paths[0][0].sum(axis=1)[runs.live[0][0]]) == [1, 3]
    assert runs.sums.tolist() == [[1]]  # two live edges meet in node 3
    dead = SPACE.parse("|nor_conv_3x3~0|+|none~0|none~1|+|none~0|none~1|nor_conv_1x1~2|")
    assert reader(SPACE.encode([dead])).counts.sum() == 0


def test_a_space_without_branches_or_with_too_many_has_no_critical_path() -> None:
    columns = [Column("a", "a"), Column("b", "b")]
    chain = Graph("chain", ((0, 1), (1, 2)), (("a",), ("b",)), inputs=(0,), outputs=(2,))
    assert path_reader([chain], columns) is None
    assert path_reader((), columns) is None
    darts = DartsSpace()
    assert path_reader(darts.graphs(), darts.columns) is not None
    wide = [Column(f"{a}{b}", "x") for a in range(9) for b in range(a + 1, 10)]
    edges = tuple((a, b) for a in range(9) for b in range(a + 1, 10))
    dense = Graph("dense", edges, tuple((column.name,) for column in wide), inputs=(0,), outputs=(9,))
    assert path_reader([dense], wide) is None


@pytest.mark.parametrize("damage", ["path_edges", "process_rows", "shares", "line", "mix", "path_columns"])
def test_damaged_arrays_are_refused(damage: str) -> None:
    X, y = parallel(60, seed=0)
    arrays = dict(configure(PREDICTORS, "stack", {}).fit(X, y, context=CONTEXT).to_arrays())
    restored = configure(PREDICTORS, "stack", {}).from_arrays(arrays)
    assert np.isfinite(restored.predict(X)).all()
    arrays[damage] = arrays[damage][:-1] if damage in ("shares", "line") else arrays[damage] + 99
    if damage in ("process_rows", "mix"):
        arrays[damage] = arrays[damage][1:]
    with pytest.raises(ValueError, match=r"this|index"):
        configure(PREDICTORS, "stack", {}).from_arrays(arrays)
