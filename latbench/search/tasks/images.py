"""Images to search and to train on: scikit-learn's digits, a CIFAR-like ``.npz`` file, or a user's own factory."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from latbench.errors import DataError, UsageError
from latbench.plugins import Kind, load

if TYPE_CHECKING:
    from latbench.space import SearchSpace

_FACTORY = Kind("data set", "latbench.data")
_NPZ_KEYS = ("train_images", "train_labels", "test_images", "test_labels")


@dataclass(frozen=True, slots=True, eq=False)
class Images:
    """Labelled images. Immutable; validates itself.

    Args:
        name: what the report calls them.
        train_x: float images ``(n, 3, height, width)``, normalised channel by channel.
        train_y: integer labels ``(n,)``.
        test_x: like `train_x`; no search looks at them.
        test_y: like `train_y`.

    Raises:
        DataError: images and labels do not fit together.
    """

    name: str
    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor

    def __post_init__(self) -> None:
        for part, x, y in (("train", self.train_x, self.train_y), ("test", self.test_x, self.test_y)):
            if x.ndim != 4 or y.shape != x.shape[:1] or len(y) < 2:
                raise DataError(
                    f"the {part} images of {self.name!r} have shape {tuple(x.shape)} and the labels {tuple(y.shape)}: "
                    "give (n, 3, height, width) and (n,), n > 1"
                )

    @property
    def classes(self) -> int:
        """How many classes the labels name: the largest label plus one."""
        return int(max(self.train_y.max(), self.test_y.max())) + 1

    def check(self, space: SearchSpace) -> Self:
        """Return the images themselves if networks of the space can be trained on them.

        Raises:
            UsageError: another size or more classes than the space has.
        """
        given, wanted = tuple(self.train_x.shape[1:]), _image_shape(space)
        if given != wanted:
            raise UsageError(
                f"the images of {self.name!r} are {_size(given)} and the space takes {_size(wanted)}: "
                "configure the space for these images"
            )
        classes = getattr(space, "classes", self.classes)
        if self.classes > classes:
            raise UsageError(
                f"{self.name!r} has {self.classes} classes and the space {classes}: "
                f"configure the space with classes={self.classes}"
            )
        return self


def load_images(name: str, space: SearchSpace) -> Images:
    """Load images for the networks of a space.

    Args:
        name: ``"digits"`` (resized to the space), the path of an ``.npz`` file with uint8 ``train_images`` and
            ``test_images`` ``(n, height, width, 3)`` and integer ``train_labels`` and ``test_labels`` ``(n,)``, or
            ``"module:factory"``, a function without arguments that returns `Images`.
        space: whose input shape and classes the images must have.

    Raises:
        UsageError: no such images, or they do not fit the space.
    """
    if name == "digits":
        images = _digits(_image_shape(space))
    elif name.endswith(".npz"):
        images = _npz(Path(name))
    elif ":" in name:
        images = load(_FACTORY, name)()
        if not isinstance(images, Images):
            raise UsageError(f"{name!r} returns {type(images).__name__}: return latbench.search.Images")
    else:
        raise UsageError(f"no data set named {name!r}: give 'digits', the path of an .npz file, or 'module:factory'")
    return images.check(space)


def random_batches(x: Tensor, y: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield all images in random order, `size` at a time; a last batch that is not full is left out.

    Fewer images than `size` are one batch.
    """
    size = min(size, len(y))
    order = torch.randperm(len(y)).to(y.device)
    for start in range(0, len(y) - size + 1, size):
        chosen = order[start : start + size]
        yield x[chosen], y[chosen]


def _image_shape(space: SearchSpace) -> tuple[int, ...]:
    """Return ``(channels, height, width)`` of what the networks of a space take."""
    (architecture,) = space.sample(1, seed=0)
    shapes = [tuple(sample.shape[1:]) for sample in space.inputs(architecture, batch=1).values()]
    if len(shapes) != 1 or len(shapes[0]) != 3:
        raise UsageError(f"the networks of this space take {shapes}, no image: train them on data of their own")
    return shapes[0]


def _digits(shape: tuple[int, ...]) -> Images:
    """Return scikit-learn's 1,797 digits of 8x8 pixels, grey in every channel; a fifth of each class is for testing."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    train, test = train_test_split(np.arange(len(digits.target)), test_size=0.2, stratify=digits.target, random_state=0)
    grey = torch.from_numpy(digits.images).float()[:, None]
    resized = torch.nn.functional.interpolate(grey, size=shape[1:], mode="bilinear", align_corners=False)
    pixels = resized.expand(-1, shape[0], -1, -1).contiguous()
    return _normalised("digits", pixels[train], digits.target[train], pixels[test], digits.target[test])


def _npz(path: Path) -> Images:
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            missing = [key for key in _NPZ_KEYS if key not in file]
            arrays = {key: file[key] for key in _NPZ_KEYS if key in file}
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UsageError(f"{path} is not an .npz file of plain arrays ({error}): write it with numpy.savez") from error
    if missing:
        raise UsageError(f"{path} has no array {missing[0]!r}: store {', '.join(_NPZ_KEYS)}")
    return _normalised(path.stem, *(_checked(path, key, arrays[key]) for key in _NPZ_KEYS))


def _checked(path: Path, key: str, array: NDArray[Any]) -> Any:
    if key.endswith("images"):
        if array.ndim != 4 or array.shape[-1] != 3 or array.dtype != np.uint8:
            raise UsageError(f"{key} of {path} is {array.dtype} {array.shape}: store uint8 (n, height, width, 3)")
        return torch.from_numpy(array).permute(0, 3, 1, 2).float()
    if not np.issubdtype(array.dtype, np.integer) or (array.size and array.min() < 0):
        raise UsageError(f"{key} of {path} are not class numbers: store integers from 0")
    return array


def _normalised(name: str, train_x: Tensor, train_y: NDArray[Any], test_x: Tensor, test_y: NDArray[Any]) -> Images:
    """Bring every channel to mean 0 and deviation 1 over the training images."""
    mean = train_x.mean(dim=(0, 2, 3), keepdim=True)
    deviation = train_x.std(dim=(0, 2, 3), keepdim=True).clamp_min(1e-6)
    train_labels, test_labels = (torch.from_numpy(labels.astype(np.int64)) for labels in (train_y, test_y))
    return Images(name, (train_x - mean) / deviation, train_labels, (test_x - mean) / deviation, test_labels)


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
