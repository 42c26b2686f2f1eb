"""The figures say what the data say."""

from __future__ import annotations

import io
import sys
import types
from collections import Counter

import numpy as np
import pytest

from latbench.errors import UsageError
from latbench.report import draw_cells, has_cells, learning_curves, predicted_against_measured, search_history
from latbench.space import Column
from latbench.spaces.darts import DartsSpace
from latbench.spaces.nasbench201 import NasBench201Space
from latbench.strategy import Record

pytest.importorskip("matplotlib", reason="figures need latbench[report]")


def texts(axes):
    return Counter(text.get_text() for text in axes.texts)


def png(figure):
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=40)
    assert file.getvalue().startswith(b"\x89PNG")


def test_darts_cells_show_every_kept_operation():
    space = DartsSpace()
    (genotype,) = space.sample(1, seed=3)
    figure = draw_cells(space, genotype, title="found")
    png(figure)
    nodes = Counter("012345")
    for axes, name, pairs in zip(figure.axes, ("normal", "reduce"), (genotype.normal, genotype.reduce), strict=True):
        assert axes.get_title(loc="left") == name
        assert texts(axes) == nodes + Counter(kind for kind, _ in pairs)
        assert len(axes.patches) == 8


def test_edges_that_are_none_are_not_drawn():
    space = NasBench201Space()
    cell = space.parse("|none~0|+|nor_conv_3x3~0|none~1|+|skip_connect~0|none~1|none~2|")
    (axes,) = draw_cells(space, cell).axes
    assert texts(axes) == Counter(["0", "1", "2", "3", "nor_conv_3x3", "skip_connect"])
    assert len(axes.patches) == 2


def test_cell_without_any_edge_can_be_drawn():
    space = NasBench201Space()
    png(draw_cells(space, space.parse("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|")))


def test_predictions_state_their_error_and_the_floor():
    measured = np.array([1.0, 2.0, 4.0])
    figure = predicted_against_measured(
        measured, {"exact": measured, "high": 1.1 * measured}, unit="mJ", noise_floor=0.012
    )
    png(figure)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["exact   MAPE 0.0%", "high   MAPE 10.0%"]
    assert figure.axes[0].get_xlabel() == "measured [mJ]"
    assert "noise floor of the measurements 1.2%" in figure.get_supxlabel()


def test_learning_curves_stand_beside_the_floor():
    errors = {"mlp": {20: (0.05, 0.01), 100: (0.02, 0.002)}, "constant": {100: (0.2, float("nan"))}}
    figure = learning_curves(errors, noise_floor=0.01)
    png(figure)
    (axes,) = figure.axes
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["noise floor", "mlp", "constant"]
    assert len(learning_curves(errors).axes[0].get_legend().get_texts()) == 2


def history(space, architectures):
    return [
        Record(
            number=number,
            score=0.5,
            architecture=str(architecture),
            encoding=tuple(space.encode([architecture])[0].tolist()),
            entropy=1 - number / 10,
            expected=2.0 + number,
            predicted=2.5 + number,
        )
        for number, architecture in enumerate(architectures)
    ]


def test_search_history_stacks_the_edges_of_each_operation():
    space = DartsSpace()
    runs = {name: history(space, space.sample(3, seed=seed)) for seed, name in enumerate(("plain", "steered"))}
    figure = search_history(runs, space, target=2.2)
    png(figure)
    top, _, latency, latency_again, *_ = figure.axes
    heights = [area.get_paths()[0].vertices[:, 1].max() for area in top.collections]
    assert max(heights) == pytest.approx(16)  # a cell keeps 8 of its edges
    expected = next(line for line in latency.lines if line.get_label() == "expected of the alphas")
    np.testing.assert_allclose(expected.get_xydata(), [[1, 2], [2, 3], [3, 4]])
    assert {line.get_label() for line in latency_again.lines} >= {"asked: 2.2 ms", "architecture"}


def test_plain_search_without_a_predictor_can_be_drawn():
    space = NasBench201Space()
    plain = [Record(number=0, architecture="", score=0.5, encoding=tuple([1 / 5] * 30), entropy=1.0)]
    png(search_history({"plain": plain}, space))


class Widths:
    """A space of decisions, more groups of columns than there are colours."""

    columns = tuple(Column(f"{layer}/{width}", f"width {layer}") for layer in range(12) for width in (16, 32, "absent"))


def test_a_space_without_cells_draws_its_groups_and_no_cells():
    encoding = tuple(float(layer) for layer in range(12) for _ in range(3))
    records = [Record(number=n, architecture="", predicted=1.0, encoding=encoding) for n in range(2)]
    figure = search_history({"one": records}, Widths())
    png(figure)
    areas = {area.get_label(): area.get_paths()[0].vertices[:, 1] for area in figure.axes[0].collections}
    assert areas.keys() == {"others", *(f"width {layer}" for layer in range(4, 12))}
    assert max(heights.max() for heights in areas.values()) == pytest.approx(sum(encoding))
    assert not has_cells(Widths.columns)
    assert has_cells(DartsSpace().columns)
    assert has_cells(NasBench201Space().columns)


def test_what_is_absent_is_not_drawn():
    columns = (Column("a/on", "a/on"), Column("a/absent", "a/absent"))
    records = [Record(number=0, architecture="", encoding=(0.25, 0.75))]
    space = types.SimpleNamespace(columns=columns)
    (axes, _) = search_history({"one": records, "two": records}, space).axes[:2]
    assert [area.get_label() for area in axes.collections] == ["a/on"]


def test_a_search_without_alphas_draws_what_it_has():
    records = [Record(number=n, architecture="", score=30.0 + n, predicted=2.0 - n) for n in range(2)]
    figure = search_history({"random": records}, Widths(), target=1.5)
    png(figure)
    latency, scores = figure.axes
    assert [line.get_label() for line in latency.lines] == ["asked: 1.5 ms", "architecture"]
    (line,) = scores.lines
    np.testing.assert_allclose(line.get_xydata(), [[1, 30], [2, 31]])
    assert scores.get_ylim()[1] > 31
    png(search_history({"nothing": []}, Widths()))


def test_missing_matplotlib_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UsageError, match=r"pip install 'latbench\[report\]'"):
        predicted_against_measured(np.ones(2), {"mlp": np.ones(2)})


def test_figures_are_independent_of_pyplot():
    import subprocess

    code = "import sys, latbench.report; assert not {'matplotlib', 'torch'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)
