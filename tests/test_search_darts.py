"""The search: it is repeatable, resumes bit for bit, meets a target, and guards its checkpoint."""

from __future__ import annotations

import errno
import os
from dataclasses import replace

import numpy as np
import pytest
import torch

from latbench.errors import UsageError
from latbench.search import Images, LatencyLoss, SearchSettings, search_architecture
from latbench.search.strategies import supernet_search
from latbench.spaces.darts import DartsSpace
from latbench.spaces.nasbench201 import NasBench201Space
from latbench.testing import KnownCost

SPACE = NasBench201Space(cells=1, channels=4, image=8, classes=2)
SETTINGS = SearchSettings(epochs=4, batch_size=16, alpha_lr=0.1, warmup_epochs=1)


COSTS = {"none": 0.0, "skip_connect": 0.1, "avg_pool_3x3": 0.3, "nor_conv_1x1": 0.6, "nor_conv_3x3": 1.0}


def cost_predictor(base=0.2):
    """Charge every edge by its operation."""
    return KnownCost(SPACE, [COSTS[column.name.split("/")[-1]] for column in SPACE.columns], base=base)


@pytest.fixture(scope="module")
def images():
    """Two classes that differ by brightness."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(96) % 2
    x = torch.randn(96, 3, 8, 8, generator=generator) + y[:, None, None, None]
    return Images("brightness", x[:64], y[:64], x[64:], y[64:])


class StoppedError(Exception):
    pass


def stop_after(epochs):
    def progress(epoch):
        if epoch.number == epochs - 1:
            raise StoppedError

    return progress


def loss(**options):
    return LatencyLoss(**{"predictor": cost_predictor(), "target": 1.5, "penalty": "hinge", **options})


def test_interrupted_search_ends_as_if_it_had_not_been(images, tmp_path):
    whole = search_architecture(SPACE, images, latency_loss=loss(), settings=SETTINGS, folder=tmp_path / "whole")
    with pytest.raises(StoppedError):
        search_architecture(
            SPACE, images, latency_loss=loss(), settings=SETTINGS, folder=tmp_path / "cut", progress=stop_after(2)
        )
    torch.manual_seed(12345)
    seen = []
    resumed = search_architecture(
        SPACE, images, latency_loss=loss(), settings=SETTINGS, folder=tmp_path / "cut", progress=seen.append
    )
    assert [epoch.number for epoch in seen] == [2, 3]
    assert resumed.history == whole.history
    assert resumed.architecture == whole.architecture
    np.testing.assert_array_equal(resumed.alphas, whole.alphas)
    files = [tmp_path / name / "checkpoint.safetensors" for name in ("whole", "cut")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_finished_search_is_read_from_its_folder(images, tmp_path):
    first = search_architecture(SPACE, images, settings=SETTINGS, folder=tmp_path)
    again = search_architecture(SPACE, images, settings=SETTINGS, folder=tmp_path, progress=stop_after(1))
    assert again.history == first.history
    np.testing.assert_array_equal(again.alphas, first.alphas)


def test_search_leaves_the_callers_random_state_alone(images):
    torch.manual_seed(7)
    before = torch.get_rng_state()
    search_architecture(SPACE, images, settings=replace(SETTINGS, epochs=2))
    assert torch.equal(torch.get_rng_state(), before)


def test_other_seeds_search_differently(images):
    one, two = (search_architecture(SPACE, images, settings=replace(SETTINGS, epochs=2, seed=seed)) for seed in (1, 2))
    assert not np.array_equal(one.alphas, two.alphas)


def test_alphas_wait_for_the_end_of_the_warmup(images):
    history = search_architecture(SPACE, images, settings=replace(SETTINGS, warmup_epochs=2)).history
    assert history[0].encoding == history[1].encoding
    assert history[1].encoding != history[2].encoding


def test_target_is_met_by_the_derived_architecture(images):
    settings = replace(SETTINGS, epochs=12, alpha_lr=0.2)
    plain = search_architecture(SPACE, images, latency_loss=loss(weight=0.0), settings=settings)
    found = plain.history[-1].predicted
    target = 0.6 * found
    steered = search_architecture(SPACE, images, latency_loss=loss(target=target), settings=settings).history
    assert steered[-1].predicted <= 1.02 * target
    assert steered[-1].expected == pytest.approx(steered[-1].predicted, rel=0.1)
    assert steered[-1].multipliers[0] > 0


def test_loss_of_weight_zero_watches_without_steering(images):
    watched = search_architecture(SPACE, images, latency_loss=loss(weight=0.0), settings=SETTINGS)
    plain = search_architecture(SPACE, images, settings=SETTINGS)
    np.testing.assert_array_equal(watched.alphas, plain.alphas)
    assert plain.history[-1].expected is None
    assert watched.history[-1].expected > 0


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"settings": replace(SETTINGS, alpha_lr=0.2)}, "settings.alpha_lr is 0.1 there and 0.2 here"),
        ({"latency_loss": None}, "latency_loss"),
        ({"latency_loss": loss(target=1.6)}, "latency_loss.reference is 1.5 there and 1.6 here"),
        ({"latency_loss": loss(predictor=cost_predictor(base=0.3))}, "latency_loss.predictor"),
        ({"space": replace(SPACE, channels=8), "latency_loss": None}, r"space is 'nasbench201\(cells=1, channels=4"),
    ],
)
def test_checkpoint_of_another_search_is_refused(images, tmp_path, change, field):
    arguments = {"space": SPACE, "task": images, "latency_loss": loss(), "settings": SETTINGS, "folder": tmp_path}
    with pytest.raises(StoppedError):
        search_architecture(**arguments, progress=stop_after(1))
    before = (tmp_path / "checkpoint.safetensors").read_bytes()
    with pytest.raises(UsageError, match=field):
        search_architecture(**(arguments | change))
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no safetensors", None])
def test_damaged_checkpoint_is_named(images, tmp_path, content):
    search_architecture(SPACE, images, settings=replace(SETTINGS, epochs=2), folder=tmp_path)
    file = tmp_path / "checkpoint.safetensors"
    file.write_bytes(file.read_bytes()[:-100] if content is None else content)
    with pytest.raises(UsageError, match=r"checkpoint\.safetensors"):
        search_architecture(SPACE, images, settings=replace(SETTINGS, epochs=2), folder=tmp_path)


def test_full_disk_keeps_the_last_checkpoint(images, tmp_path, monkeypatch):
    with pytest.raises(StoppedError):
        search_architecture(SPACE, images, settings=SETTINGS, folder=tmp_path, progress=stop_after(1))
    before = (tmp_path / "checkpoint.safetensors").read_bytes()

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UsageError, match="No space left on device"):
        search_architecture(SPACE, images, settings=SETTINGS, folder=tmp_path)
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == before


def test_folder_that_cannot_be_made_is_named(images, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot make the folder"):
        search_architecture(SPACE, images, settings=SETTINGS, folder=tmp_path / "file" / "folder")


def test_images_of_another_size_are_refused(images):
    with pytest.raises(UsageError, match="3x8x8 and the space takes 3x16x16"):
        search_architecture(replace(SPACE, image=16), images, settings=SETTINGS)


def test_several_losses_steer_together(images):
    settings = replace(SETTINGS, epochs=12, alpha_lr=0.2)
    other = LatencyLoss(KnownCost(SPACE, base=0.1), target=1.2, penalty="hinge")
    found = search_architecture(SPACE, images, latency_loss=[loss(target=2.0), other], settings=settings)
    assert cost_predictor().predict([found.architecture])[0] <= 1.02 * 2.0
    assert KnownCost(SPACE, base=0.1).predict([found.architecture])[0] <= 1.02 * 1.2
    assert len(found.history[-1].multipliers) == 2


def test_a_loss_for_another_configuration_is_refused(images):
    with pytest.raises(UsageError, match="configuration of space 'nasbench201': channels is 4 there and 8 here"):
        search_architecture(replace(SPACE, channels=8), images, latency_loss=loss(), settings=SETTINGS)


def test_a_loss_for_another_space_is_refused(images):
    with pytest.raises(UsageError, match="for space 'nasbench201' and the search is in 'darts'"):
        search_architecture(DartsSpace(cells=3, channels=4, image=8), images, latency_loss=loss(), settings=SETTINGS)


def test_a_space_without_a_supernet_is_refused_with_the_strategies_that_can(images):
    class Plain:
        name = "plain"

        def relaxation(self):
            return SPACE.relaxation()

    with pytest.raises(UsageError, match=r"space 'plain' has no supernet\(\): use strategy .*'random'"):
        search_architecture(Plain(), images, settings=SETTINGS)


def test_a_search_that_diverges_stops_and_keeps_the_last_good_checkpoint(images, tmp_path, monkeypatch):
    descend = supernet_search.descend
    steps = []

    def diverging(optimizer, value, parameters, **options):
        descend(optimizer, value, parameters, **options)
        if isinstance(optimizer, torch.optim.Adam):
            steps.append(optimizer)
            if len(steps) > 4:  # in the second epoch of alpha steps, the third of all
                parameters[0].data[0, 0] = float("nan")

    monkeypatch.setattr(supernet_search, "descend", diverging)
    kept = []
    with pytest.raises(UsageError, match=r"diverged in epoch 4 of 4, its alphas .*the state after epoch 3 is kept"):
        search_architecture(SPACE, images, settings=SETTINGS, folder=tmp_path, progress=kept.append)
    assert [epoch.number for epoch in kept] == [0, 1, 2]
    monkeypatch.setattr(supernet_search, "descend", descend)
    seen = []
    whole = search_architecture(SPACE, images, settings=SETTINGS, folder=tmp_path, progress=seen.append)
    assert [epoch.number for epoch in seen] == [3]
    assert whole.history[:3] == tuple(kept)


def test_a_loss_that_becomes_nan_stops_the_search(images):
    broken = Images("broken", images.train_x * float("nan"), images.train_y, images.test_x, images.test_y)
    with pytest.raises(UsageError, match=r"diverged in epoch 1 of 4, its loss became infinite or NaN: lower"):
        search_architecture(SPACE, broken, settings=SETTINGS)


@pytest.mark.parametrize(
    "wrong", [{"epochs": 0}, {"batch_size": 0}, {"warmup_epochs": 50}, {"temperature_end": 0.0}, {"alpha_lr": -1.0}]
)
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        SearchSettings(**wrong)


def test_a_loss_in_the_order_of_another_loop_is_refused(images):
    operations = [column.name.rsplit("/", 1)[-1] for column in SPACE.columns[:5]]
    other = loss(operations=operations[::-1])
    with pytest.raises(UsageError, match="the alphas of this search are in the space's order"):
        search_architecture(SPACE, images, latency_loss=other, settings=SearchSettings(epochs=1))
