"""The loops of docs/loops.md run as they stand, lower what is measured, and refuse another order."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

import latbench
from latbench.errors import LatbenchError
from latbench.measure.settings import Settings
from latbench.prediction.fit import fit
from latbench.prediction.structure.networks import are_alive
from latbench.prediction.trained import TrainedPredictor
from latbench.profiling import profile_space
from latbench.profiling.architectures import measure_architectures
from latbench.search import LatencyLoss
from latbench.spaces.darts import DartsSpace
from latbench.spaces.nasbench201 import NasBench201Space
from latbench.store import Store

PAGE = (Path(__file__).parent.parent / "docs" / "loops.md").read_text()
LOOPS = dict(re.findall(r"^## (.+?)$.*?^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
NULL = "latbench.testing:NullBackend"
FAST = Settings(min_rounds=2, max_rounds=2, warmup_ms=0, verify="none")

every_loop = pytest.mark.parametrize("heading", LOOPS)


@pytest.fixture(scope="module")
def predictors(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, TrainedPredictor]:
    """A predictor of each space, of a device whose latencies are known; by whether it is NAS-Bench-201."""
    fitted = {}
    for space in (DartsSpace(cells=3, channels=4, image=8), NasBench201Space(cells=1, channels=4, image=8)):
        path = tmp_path_factory.mktemp("runs") / "a.db"
        profile_space(space, NULL, path, samples=16, settings=FAST, with_operations=True)
        with Store(path) as opened:
            fitted[space.name == "nasbench201"] = fit(opened.profile(), "lookup")
    return fitted


def ran(heading: str, predictor: TrainedPredictor) -> dict[str, Any]:
    fastest = float(predictor.predict(predictor.space.sample(200, seed=0)).min())
    names: dict[str, Any] = {"latbench": latbench, "torch": torch, "predictor": predictor, "target": fastest}
    torch.manual_seed(0)
    exec(LOOPS[heading], names)  # noqa: S102
    return names


DARTS_OPERATIONS = (
    *("none", "max_pool_3x3", "avg_pool_3x3", "skip_connect"),
    *("sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5"),
)
CELL_OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
EDGES = [(source, node) for node in range(2, 6) for source in range(node)]


def genotype(cells: list[list[list[float]]], operations: tuple[str, ...]) -> str:
    """The rule of DARTS, written once more, for probabilities in a repository's own order of operations."""
    pairs: list[list[tuple[str, int]]] = []
    for rows in cells:
        pairs.append([])
        for node in range(2, 6):
            best = []
            for (source, to), row in zip(EDGES, rows, strict=True):
                if to == node:
                    best.append(
                        max((p, kind, source) for p, kind in zip(row, operations, strict=True) if kind != "none")
                    )
            pairs[-1] += [(kind, source) for _, kind, source in sorted(best, reverse=True)[:2]]
    normal, reduce = pairs
    return f"Genotype(normal={normal}, normal_concat=range(2, 6), reduce={reduce}, reduce_concat=range(2, 6))"


def as_the_repository_derives(heading: str, names: dict[str, Any]) -> str:
    """What each repository would derive, by its own order: nothing of the page's mapping is used."""
    alphas = names["alphas"]
    last = (*DARTS_OPERATIONS[1:], DARTS_OPERATIONS[0])
    if heading.startswith("DARTS"):
        return genotype([alpha.softmax(-1).tolist() for alpha in alphas], DARTS_OPERATIONS)
    if heading.startswith("pt.darts"):
        return genotype([[row for node in cell for row in node.softmax(-1).tolist()] for cell in alphas], last)
    if heading.startswith("NNI"):
        cells = [[alphas[f"{c}_n{n}_p{s}"].softmax(-1).tolist() for s, n in EDGES] for c in ("normal", "reduce")]
        return genotype(cells, last[:-1])
    rows = {}
    if heading.startswith("NASLib"):
        kinds = ("skip_connect", "none", "nor_conv_3x3", "nor_conv_1x1", "avg_pool_3x3")
        rows = {(s - 1, n - 1): kinds[int(alpha.argmax())] for (s, n), alpha in names["cell"].items()}
    else:
        edges = [(source, node) for node in range(1, 4) for source in range(node)]
        rows = {edge: CELL_OPERATIONS[int(row.argmax())] for edge, row in zip(edges, alphas[0], strict=True)}
    return "+".join("".join(f"|{rows[s, n]}~{s}" for s in range(n)) + "|" for n in range(1, 4))


def test_there_are_five() -> None:
    assert len(LOOPS) == 5


def is_alive(predictor: TrainedPredictor, architecture: Any) -> bool:
    space: Any = predictor.space
    return bool(are_alive(space.graphs(), space.columns, space.encode([architecture]))[0])


@every_loop
def test_a_loop_lowers_the_measured_latency(heading: str, predictors: dict[bool, TrainedPredictor]) -> None:
    predictor = predictors["201" in heading]
    names = ran(heading, predictor)
    found = predictor.space.parse(as_the_repository_derives(heading, names))
    if is_alive(predictor, found):
        assert names["latency"].derive(names["alphas"]) == found
    drawn = predictor.space.sample(9, seed=1)
    measured = measure_architectures(predictor.space, [found, *drawn], NULL, settings=FAST)
    value = {each.subject: each.value for each in measured if each.replicate == 0}
    others = sorted(value[str(each)] for each in drawn)
    assert value[str(found)] < others[2]


@every_loop
def test_another_order_of_operations_is_refused(heading: str, predictors: dict[bool, TrainedPredictor]) -> None:
    """A list with a name that the space does not know, or one too few, is an error before the first step."""
    predictor = predictors["201" in heading]
    names = ran(heading, predictor)
    order = next(names[name] for name in ("PRIMITIVES", "SEARCH_SPACE", "OPERATIONS") if name in names)
    again = {"names": dict(zip(names["OPERATIONS"], names["OURS"], strict=True))} if "OURS" in names else {}
    kind = {"kind": "probabilities"} if "GDAS" in PAGE.split(heading)[1].split("```")[0] else {}
    edges = {"edges": names["labels"]} if "labels" in names else {}
    for wrong in (order[:-1], [*order[:-1], "conv_7x7"], [*order, order[0]]):
        with pytest.raises(LatbenchError):
            LatencyLoss(predictor, target=1.0, operations=wrong, **again, **kind, **edges)(names["alphas"])
