"""Images to classify: where they come from, how they are resized for a space, and what is refused."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest
import torch

from latbench.errors import DataError, PluginError, ShapeError, UsageError
from latbench.search import Classification, Images
from latbench.search.tasks.fitting import fit_to_architecture, fit_to_space
from latbench.spaces.nasbench201 import NasBench201Space

SPACE = NasBench201Space(cells=1, channels=4, image=16)
SAMPLE = torch.zeros(1, 3, 16, 16)
BIG = np.zeros((20, 32, 32, 3), np.uint8)


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return {
        "train_images": rng.integers(0, 256, (20, 16, 16, 3), dtype=np.uint8),
        "train_labels": np.arange(20) % 10,
        "test_images": rng.integers(0, 256, (10, 16, 16, 3), dtype=np.uint8),
        "test_labels": np.arange(10),
    }


def saved(tmp_path, arrays):
    path = tmp_path / "small.npz"
    np.savez(path, **arrays)
    return str(path)


@pytest.mark.parametrize("size", [8, 16, 32])
def test_digits_fill_the_input_of_the_space(size):
    images = fit_to_space(Classification("digits"), NasBench201Space(cells=1, channels=4, image=size)).images
    assert images.train_x.shape == (1437, 3, size, size)
    assert images.test_x.shape == (360, 3, size, size)
    assert torch.equal(images.train_x[:, 0], images.train_x[:, 2])
    assert images.test_y.bincount().min() >= 34
    assert abs(images.train_x.mean()) < 1e-4
    assert abs(images.train_x.std() - 1) < 1e-3


def test_digits_of_native_size_are_the_originals():
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = Classification("digits").for_inputs([torch.zeros(1, 3, 8, 8)]).images
    found = sorted((label, tuple(np.argsort(x.ravel(), kind="stable"))) for x, label in _grey(images))
    original = zip(digits.images, digits.target, strict=True)
    assert found == sorted((label, tuple(np.argsort(x.ravel(), kind="stable"))) for x, label in original)


def _grey(images):
    for x, y in ((images.train_x, images.train_y), (images.test_x, images.test_y)):
        yield from zip(x[:, 0].numpy(), y.tolist(), strict=True)


def test_npz_images_are_normalised_by_the_training_part(tmp_path, arrays):
    images = fit_to_space(Classification(saved(tmp_path, arrays)), SPACE).images
    assert images.name == "small"
    assert images.train_x.shape == (20, 3, 16, 16)
    torch.testing.assert_close(images.train_x.mean(dim=(0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    pixels = arrays["train_images"].astype(np.float64)
    expected = (arrays["test_images"] - pixels.mean((0, 1, 2))) / pixels.std((0, 1, 2), ddof=1)
    np.testing.assert_allclose(images.test_x.permute(0, 2, 3, 1), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_images": BIG, "test_images": BIG, "test_labels": np.arange(20) % 10}, "3x32x32"),
        ({"train_labels": np.zeros(20)}, "train_labels"),
        ({"train_labels": np.arange(20) - 1}, "train_labels"),
        ({"train_images": np.zeros((20, 16, 16, 3))}, "float64"),
        ({"test_images": np.zeros((10, 3, 16, 16), np.uint8)}, "test_images"),
        ({"train_labels": np.arange(19) % 10}, "labels"),
        ({"train_labels": np.array(["a"] * 20, dtype=object)}, "plain arrays"),
    ],
)
def test_npz_that_does_not_fit_is_refused(tmp_path, arrays, change, message):
    with pytest.raises(UsageError, match=message):
        fit_to_space(Classification(saved(tmp_path, arrays | change)), SPACE)


def test_more_classes_than_the_networks_tell_apart_are_refused(tmp_path, arrays):
    task = fit_to_space(Classification(saved(tmp_path, arrays | {"train_labels": np.arange(20)})), SPACE)
    (batch,) = task.batches("train", 64)
    with pytest.raises(UsageError, match="20 classes and the space 10: configure the space with classes=20"):
        task.loss(torch.zeros(20, 10), batch)
    assert task.loss(torch.zeros(20, 20), batch).item() == pytest.approx(np.log(20))


def test_outputs_that_are_no_logits_are_refused():
    task = Classification("digits")
    (batch,) = task.batches("train", 1437)
    for outputs in (torch.zeros(1437), torch.zeros(2, 10), (torch.zeros(1437, 10),)):
        with pytest.raises(ShapeError, match=r"logits \(1437, classes\)"):
            task.loss(outputs, batch)


class Resolutions:
    """A space whose architectures are resolutions."""

    def sample(self, n, *, seed):
        return np.random.default_rng(seed).choice([8, 12, 16], n).tolist()

    def inputs(self, architecture, *, batch):
        return {"image": np.zeros((batch, 3, architecture, architecture), np.float32)}


def test_images_are_resized_where_the_resolution_is_a_decision(tmp_path, arrays):
    task, space = Classification(saved(tmp_path, arrays)), Resolutions()
    assert fit_to_space(task, space).images.shape == (3, 16, 16)
    small = fit_to_architecture(task, space, 8).images
    assert small.shape == (3, 8, 8)
    torch.testing.assert_close(small.train_x.mean(dim=(0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(small.train_x.std(dim=(0, 2, 3)), torch.ones(3), atol=1e-4, rtol=0)


def test_images_smaller_than_the_largest_resolution_are_refused_unless_resizing_is_asked_for(tmp_path, arrays):
    arrays = {key: value[:, :8, :8] if "images" in key else value for key, value in arrays.items()}
    path = saved(tmp_path, arrays)
    with pytest.raises(UsageError, match="3x8x8 and the space takes 3x16x16"):
        fit_to_space(Classification(path), Resolutions())
    assert fit_to_space(Classification(path, resize=True), Resolutions()).images.shape == (3, 16, 16)


@pytest.mark.parametrize(
    "inputs",
    [[torch.zeros(1, 4, dtype=torch.int64)], [SAMPLE, SAMPLE], [torch.zeros(1, 4, 4)], []],
    ids=["tokens", "two inputs", "vectors", "none"],
)
def test_networks_that_do_not_take_images_are_refused(inputs):
    with pytest.raises(UsageError, match="'digits' are images and the networks take"):
        Classification("digits").for_inputs(inputs)


def test_coloured_images_of_other_channels_are_refused(tmp_path, arrays):
    with pytest.raises(UsageError, match="have 3 channels and the networks take 1"):
        Classification(saved(tmp_path, arrays), resize=True).for_inputs([torch.zeros(1, 1, 16, 16)])


def test_npz_without_an_array_says_which(tmp_path, arrays):
    del arrays["test_labels"]
    with pytest.raises(UsageError, match="no array 'test_labels'"):
        Classification(saved(tmp_path, arrays))


@pytest.mark.parametrize("content", [b"", b"not an archive", b"PK\x03\x04 cut short"])
def test_damaged_npz_is_refused(tmp_path, content):
    path = tmp_path / "bad.npz"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"bad\.npz"):
        Classification(str(path))


def test_missing_npz_is_refused(tmp_path):
    with pytest.raises(UsageError, match="No such file"):
        Classification(str(tmp_path / "none.npz"))


def test_factory_gives_the_images(monkeypatch, arrays):
    x, y = torch.zeros(4, 3, 16, 16), torch.arange(4)
    module = types.ModuleType("my_images")
    module.make = lambda: Images("mine", x, y, x, y)
    module.wrong = lambda: (x, y)
    monkeypatch.setitem(sys.modules, "my_images", module)
    assert Classification("my_images:make").images.name == "mine"
    with pytest.raises(UsageError, match="returns tuple"):
        Classification("my_images:wrong")
    with pytest.raises(PluginError, match="has no 'absent'"):
        Classification("my_images:absent")


def test_unknown_name_is_refused():
    with pytest.raises(UsageError, match="no data set named 'cifar'"):
        Classification("cifar")


def test_images_without_labels_are_refused():
    x, y = torch.zeros(4, 3, 16, 16), torch.arange(4)
    with pytest.raises(DataError, match=r"the test images of 'mine'"):
        Images("mine", x, y, x[:0], y[:0])
