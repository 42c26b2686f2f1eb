"""Training of a derived architecture."""

from __future__ import annotations

import pytest
import torch

from latbench.errors import UsageError
from latbench.search import Images, TrainingSettings, train_architecture
from latbench.spaces.nasbench201 import NasBench201Space

SPACE = NasBench201Space(cells=1, channels=4, image=8, classes=2)
CELL = SPACE.parse("|nor_conv_3x3~0|+|none~0|nor_conv_1x1~1|+|skip_connect~0|none~1|nor_conv_3x3~2|")
SETTINGS = TrainingSettings(epochs=4, batch_size=16)


@pytest.fixture(scope="module")
def images():
    """Two classes that differ by brightness, well apart."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(192) % 2
    x = torch.randn(192, 3, 8, 8, generator=generator) + y[:, None, None, None]
    return Images("brightness", x[:128], y[:128], x[128:], y[128:])


def test_training_learns_and_repeats(images):
    losses = []
    accuracy = train_architecture(
        SPACE, CELL, images, settings=SETTINGS, progress=lambda epoch, loss: losses.append((epoch, loss))
    )
    assert accuracy > 0.9
    assert [epoch for epoch, _ in losses] == [0, 1, 2, 3]
    assert losses[-1][1] < losses[0][1]
    torch.manual_seed(99)
    assert train_architecture(SPACE, CELL, images, settings=SETTINGS) == accuracy


def test_accuracy_is_that_of_the_test_images(images):
    flipped = Images("flipped", images.train_x, images.train_y, images.test_x, 1 - images.test_y)
    accuracy = train_architecture(SPACE, CELL, images, settings=SETTINGS)
    assert train_architecture(SPACE, CELL, flipped, settings=SETTINGS) == pytest.approx(1 - accuracy)


def test_images_that_do_not_fit_are_refused(images):
    with pytest.raises(UsageError, match="configure the space"):
        train_architecture(NasBench201Space(cells=1, channels=4, image=16), CELL, images)
