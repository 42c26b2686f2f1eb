"""What of a profile predictors learn from: live networks, structures whose labels are not copies, and the floor."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from latbench.errors import DataError, UsageError
from latbench.prediction.choose import choose
from latbench.prediction.evaluation.comparison import compare
from latbench.prediction.fit import fit
from latbench.prediction.learnable import Learnable
from latbench.prediction.structure.networks import are_alive, twin_labels
from latbench.records.profile import Profile
from latbench.space import Column, Graph
from latbench.spaces.darts import DartsSpace
from latbench.spaces.nasbench201 import NasBench201Space
from latbench.spaces.nasbench201.cell import NasBench201Cell
from latbench.testing.additive_profile import additive_profile

SPACE = NasBench201Space()
DEAD = NasBench201Cell(("none",) * 5 + ("nor_conv_3x3",))
ONE = "|nor_conv_1x1~0|+|avg_pool_3x3~0|none~1|+|none~0|skip_connect~1|nor_conv_3x3~2|"
OTHER = "|avg_pool_3x3~0|+|nor_conv_1x1~0|none~1|+|none~0|nor_conv_3x3~1|skip_connect~2|"


def labels(*texts: str) -> list[int]:
    found = twin_labels(SPACE.graphs(), SPACE.columns, SPACE.encode([SPACE.parse(text) for text in texts]))
    assert found is not None
    return found.tolist()


def relabelled(profile: Profile, change: dict[str, float]) -> Profile:
    """Return a profile with other values of some architectures."""
    return replace(
        profile,
        measurements=tuple(
            replace(m, value=change[m.subject], low=change[m.subject], high=change[m.subject])
            if m.kind == "architecture" and m.subject in change
            else m
            for m in profile.measurements
        ),
    )


def test_twins_run_the_same_dead_operations_included() -> None:
    one, other, connected, another = labels(
        ONE, OTHER, ONE.replace("none~1|+", "skip_connect~1|+"), OTHER.replace("skip_connect", "nor_conv_1x1")
    )
    assert one == other
    assert len({one, connected, another}) == 3
    dead = ONE.replace("skip_connect~1", "none~1")  # what node 1 computes is not used
    assert len(set(labels(dead, dead.replace("nor_conv_1x1", "nor_conv_3x3")))) == 2


def test_the_whole_of_nasbench201_has_as_many_networks_as_texts_up_to_their_numbering() -> None:
    cells = list(SPACE.enumerate())
    X = SPACE.encode(cells)
    found = twin_labels(SPACE.graphs(), SPACE.columns, X)
    assert found is not None
    assert len(set(found.tolist())) == 14_125
    alive = are_alive(SPACE.graphs(), SPACE.columns, X)
    assert (~alive).sum() == 341
    assert [cell for cell, live in zip(cells, alive, strict=True) if not live] == [
        cell for cell in cells if cell.canonical() == "#"
    ]


def test_genotypes_whose_nodes_are_numbered_otherwise_are_twins() -> None:
    space = DartsSpace()
    drawn = space.sample(200, seed=0)
    found = twin_labels(space.graphs(), space.columns, space.encode(drawn))
    assert found is not None
    # Twins compute the same; what computes the same need not be one network.
    by_label: dict[int, set[str]] = {}
    for label, genotype in zip(found.tolist(), drawn, strict=True):
        by_label.setdefault(label, set()).add(space.canonical(genotype))
    assert all(len(texts) == 1 for texts in by_label.values())
    assert are_alive(space.graphs(), space.columns, space.encode(drawn)).all()


def test_numbers_and_decisions_that_are_not_made_are_neither_dead_nor_twins() -> None:
    columns = [Column("width", "width"), Column("a", "a"), Column("b", "b")]
    graph = Graph("chain", ((0, 1), (1, 2)), (("width",), ("a", "b")), inputs=(0,), outputs=(2,), keeps=1)
    X = np.array([[0.2, 1, 0], [0.4, 1, 0], [0.7, 0, 0]], dtype=np.float32)
    assert are_alive([graph], columns, X).all()
    found = twin_labels([graph], columns, X)
    assert found is not None
    assert len(set(found.tolist())) == 3
    assert twin_labels((), columns, X) is None


def test_dead_networks_are_left_out_unless_asked_for() -> None:
    profile = additive_profile(120, noise=0.02)
    first = profile.first[0]
    dead = replace(first, subject=str(DEAD), value=1e-4, low=1e-4, high=1e-4)
    profile = replace(profile, measurements=(dead, *profile.measurements))
    assert profile.X.shape[0] == 121
    n_dead = sum(SPACE.canonical(a) == "#" for a in profile.architectures)
    learnable = Learnable.of(profile)
    assert (learnable.dead, len(learnable.y)) == (n_dead, 121 - n_dead)
    assert f"{n_dead} architectures without a live path" in learnable.notes[0]
    assert Learnable.of(profile, keep_dead=True).dead == 0
    without, with_dead = (
        compare(profile, ["ridge"], train_sizes=(60,), seeds=3, keep_dead=keep).rows[1].mean.mape
        for keep in (False, True)
    )
    assert without < 0.1 < with_dead
    assert "without a live path" in str(fit(profile, "additive").facts["notes"])
    assert fit(profile, "additive", keep_dead=True).facts["samples"] == 121
    with pytest.raises(DataError, match=r"none of the 1 architectures of this profile has a live path.*--keep-dead"):
        Learnable.of(replace(profile, measurements=(dead,)))


def twins_profile(noise: float) -> Profile:
    """Return a profile of 40 architectures and their twins, without blind duplicates."""
    base = additive_profile(400, seed=3)
    template = base.first[0]
    rng = np.random.default_rng(0)
    rows = []
    for cell in base.architectures:
        into_1, into_2, between, skip, from_1, from_2 = cell.operations
        twin = NasBench201Cell((into_2, into_1, between, skip, from_2, from_1))
        if between != "none" or twin == cell or SPACE.canonical(cell) == "#":
            continue
        value = next(m.value for m in base.first if m.subject == str(cell))
        for each in (cell, twin):
            noisy = float(value * np.exp(noise * rng.standard_normal()))
            rows.append(replace(template, subject=str(each), value=noisy, low=noisy, high=noisy))
    return replace(base, measurements=tuple(rows))


def test_twins_give_a_table_its_noise_floor() -> None:
    floor = Learnable.of(twins_profile(0.03)).floor
    assert floor.mape == pytest.approx(0.03 * np.sqrt(2 / np.pi), rel=0.4)
    assert "differ only in how nodes are numbered" in str(floor)
    duplicated = Learnable.of(additive_profile(150, noise=0.02, duplicates=60)).floor
    assert "60 blind duplicates" in str(duplicated)


def test_labels_copied_onto_architectures_that_compute_the_same_are_recognised() -> None:
    learnable = Learnable.of(twins_profile(0.0))
    assert "labels were copied" in " ".join(learnable.notes)
    assert len(set(learnable.groups)) == len(learnable.groups)
    assert learnable.floor.mape is None
    assert not Learnable.of(twins_profile(0.03)).notes
    # Coarse labels are equal by chance.
    coarse = twins_profile(0.03)
    coarse = relabelled(coarse, {m.subject: round(m.value, 1) for m in coarse.first})
    assert "labels were copied" not in " ".join(Learnable.of(coarse).notes)


def test_labels_that_are_all_equal_are_told() -> None:
    profile = additive_profile(20)
    equal = relabelled(profile, dict.fromkeys((m.subject for m in profile.first), 2.0))
    assert "nothing to learn" in " ".join(Learnable.of(equal).notes)


def test_auto_chooses_by_cross_validation_and_says_why() -> None:
    profile = additive_profile(60, noise=0.01)
    trained = fit(profile, "auto")
    assert trained.plugin in ("additive", "lookup", "mlp")
    assert re.match(rf"{trained.plugin}, of cross-validated MAPEs .*gbdt \d", str(trained.facts["chosen"]))
    with pytest.raises(UsageError, match="auto takes no keywords"):
        fit(profile, "auto", hidden=3)
    with pytest.raises(DataError, match="too few to choose"):
        fit(profile, "auto", samples=3)
    comparison = compare(profile, ["auto", "ridge"], train_sizes=(40,), seeds=2)
    assert any(note.startswith("auto chose at 40: ") for note in comparison.notes)
    row = comparison.rows[1]
    assert (row.predictor, row.behind) == ("auto", 0.0)


def test_a_candidate_that_fails_is_passed_over() -> None:
    profile = additive_profile(40)
    context = profile.context()
    groups = profile.groups
    choice = choose(profile.X, profile.y, groups=groups, context=context, candidates=["transfer", "ridge"])
    assert choice.predictor == "ridge"
    with pytest.raises(UsageError, match="no predictor can be fitted"):
        choose(profile.X, profile.y, groups=groups, context=context, candidates=["transfer"])


def test_auto_may_leave_other_devices_out() -> None:
    profile = additive_profile(60, noise=0.01)
    trained = fit(profile, "auto", sources=[additive_profile(60, device=5)])
    assert ("sources" in trained.facts) == (trained.plugin == "transfer")


def test_a_network_without_a_live_path_is_no_prediction_to_trust() -> None:
    profile = additive_profile(60)
    texts = [str(DEAD), ONE]
    assert fit(profile, "additive").extrapolates(texts).tolist() == [True, False]
    kept = fit(profile, "additive", keep_dead=True)
    value = float(kept.predict(texts)[0])
    outside = not kept.facts["fastest"] <= value <= kept.facts["slowest"]
    assert kept.extrapolates(texts).tolist() == [outside, False]


def test_differences_beyond_noise_are_told_from_others() -> None:
    rows = compare(additive_profile(150, noise=0.03), ["ridge", "additive"], train_sizes=(20,), seeds=5).rows
    by_name = {row.predictor: row for row in rows}
    assert by_name["constant"].is_behind
    assert by_name["additive"].behind == 0
    assert by_name["ridge"].is_behind
    assert by_name["ridge"].fit_s > 0
    assert by_name["ridge"].predictions_per_s > 0
    assert len(by_name["ridge"].by_latency) == 5
    alone = compare(additive_profile(80), ["ridge"], train_sizes=(20,), seeds=1).rows
    assert [row.is_behind for row in alone] == [None, None]
