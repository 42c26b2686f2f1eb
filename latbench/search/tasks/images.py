"""Images to search and to train on: scikit-learn's digits, a CIFAR-like ``.npz`` file, or a user's own factory."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from latbench.errors import DataError, UsageError
from latbench.plugins import Kind, load

DIGITS = "digits"
"""scikit-learn's digits: grey and so small that they are resized to whatever a space takes."""

_FACTORY = Kind("data set", "latbench.data")
_NPZ_KEYS = ("train_images", "train_labels", "test_images", "test_labels")


@dataclass(frozen=True, slots=True, eq=False)
class Images:
    """Labelled images. Immutable; validates itself.

    Args:
        name: what the report calls them.
        train_x: float images ``(n, channels, height, width)``, normalised channel by channel.
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
                    "give (n, channels, height, width) and (n,), n > 1"
                )

    @property
    def classes(self) -> int:
        """How many classes the labels name: the largest label plus one."""
        return int(max(self.train_y.max(), self.test_y.max())) + 1

    @property
    def shape(self) -> tuple[int, ...]:
        """``(channels, height, width)`` of one image."""
        return tuple(self.train_x.shape[1:])

    def resized(self, shape: tuple[int, int, int]) -> Images:
        """Return the images in another size, normalised again; grey ones are repeated to the channels asked for.

        Raises:
            UsageError: coloured images have another number of channels.
        """
        if self.shape[0] not in (1, shape[0]):
            raise UsageError(
                f"the images of {self.name!r} have {self.shape[0]} channels and the networks take {shape[0]}: "
                "configure the space for these images"
            )
        train, test = (_resized(x, shape) for x in (self.train_x, self.test_x))
        return _normalised(self.name, train, self.train_y, test, self.test_y)


def load_images(name: str) -> Images:
    """Load images.

    Args:
        name: ``"digits"``, the path of an ``.npz`` file with uint8 ``train_images`` and ``test_images``
            ``(n, height, width, 3)`` and integer ``train_labels`` and ``test_labels`` ``(n,)``, or
            ``"module:factory"``, a function without arguments that returns `Images`.

    Raises:
        UsageError: there are no such images.
    """
    if name == DIGITS:
        return _digits()
    if name.endswith(".npz"):
        return _npz(Path(name))
    if ":" not in name:
        raise UsageError(f"no data set named {name!r}: give 'digits', the path of an .npz file, or 'module:factory'")
    images = load(_FACTORY, name)()
    if not isinstance(images, Images):
        raise UsageError(f"{name!r} returns {type(images).__name__}: return latbench.search.Images")
    return images


def _digits() -> Images:
    """Return scikit-learn's 1,797 grey digits of 8x8 pixels; a fifth of each class is for testing."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    train, test = train_test_split(np.arange(len(digits.target)), test_size=0.2, stratify=digits.target, random_state=0)
    grey, labels = torch.from_numpy(digits.images).float()[:, None], torch.from_numpy(digits.target.astype(np.int64))
    return _normalised(DIGITS, grey[train], labels[train], grey[test], labels[test])


def _resized(x: Tensor, shape: tuple[int, int, int]) -> Tensor:
    shrinks = x.shape[2] > shape[1] or x.shape[3] > shape[2]
    # Smoothed where pixels are left out, as image libraries do: the skipped ones would alias.
    resized = torch.nn.functional.interpolate(
        x, size=shape[1:], mode="bilinear", align_corners=False, antialias=shrinks
    )
    return resized.expand(-1, shape[0], -1, -1).contiguous()


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


def _checked(path: Path, key: str, array: NDArray[Any]) -> Tensor:
    if key.endswith("images"):
        if array.ndim != 4 or array.shape[-1] != 3 or array.dtype != np.uint8:
            raise UsageError(f"{key} of {path} is {array.dtype} {array.shape}: store uint8 (n, height, width, 3)")
        return torch.from_numpy(array).permute(0, 3, 1, 2).float()
    if not np.issubdtype(array.dtype, np.integer) or (array.size and array.min() < 0):
        raise UsageError(f"{key} of {path} are not class numbers: store integers from 0")
    return torch.from_numpy(array.astype(np.int64))


def _normalised(name: str, train_x: Tensor, train_y: Tensor, test_x: Tensor, test_y: Tensor) -> Images:
    """Bring every channel to mean 0 and deviation 1 over the training images."""
    mean = train_x.mean(dim=(0, 2, 3), keepdim=True)
    deviation = train_x.std(dim=(0, 2, 3), keepdim=True).clamp_min(1e-6)
    return Images(name, (train_x - mean) / deviation, train_y, (test_x - mean) / deviation, test_y)
