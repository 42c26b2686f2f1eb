"""Classification of images: cross entropy, and the share of images that are classified correctly."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from latbench.errors import ShapeError, UsageError
from latbench.search.tasks.images import DIGITS, Images, load_images
from latbench.task import Batch, Metric, Part, Task


class Classification:
    """Images to classify, one class each.

    A network takes ``(batch, channels, height, width)`` and returns logits ``(batch, classes)``; it may have more
    classes than the labels name.

    Args:
        data: ``"digits"``, the path of an ``.npz`` file, ``"module:factory"``, or `Images`
            (`latbench.search.tasks.images.load_images`).
        resize: whether images are resized to what a network takes. Otherwise another size is refused, except in a space
            whose networks take different sizes, where images of the largest size are resized to the others. None
            resizes only the digits.

    Raises:
        UsageError: there are no such images.
    """

    metric: ClassVar[Metric] = Metric("accuracy", ".1%")

    def __init__(self, data: str | Images = DIGITS, *, resize: bool | None = None) -> None:
        self.source = data if isinstance(data, Images) else load_images(data)
        self.images = self.source
        self.resize = self.source.name == DIGITS if resize is None else resize

    @property
    def name(self) -> str:
        """``"classification of digits (1437 and 360 images)"``."""
        images = self.source
        return f"classification of {images.name} ({len(images.train_y)} and {len(images.test_y)} images)"

    @property
    def classes(self) -> int:
        """How many classes the labels name."""
        return self.source.classes

    def for_inputs(self, inputs: Sequence[Tensor]) -> Classification:
        """Return the task with images shaped like the one sample input of a network.

        Raises:
            UsageError: the network does not take images, or takes another size and they are not resized.
        """
        if len(inputs) != 1 or inputs[0].ndim != 4 or not inputs[0].is_floating_point():
            raise UsageError(
                f"{self.source.name!r} are images and the networks take "
                f"{' and '.join(f'{_size(each.shape)} {each.dtype}' for each in inputs)}: give another task"
            )
        channels, height, width = inputs[0].shape[1:]
        shape = (channels, height, width)
        if shape != self.source.shape and not self.resize:
            raise UsageError(
                f"the images of {self.source.name!r} are {_size(self.source.shape)} and the space takes "
                f"{_size(shape)}: configure the space for these images"
            )
        if self.resize and shape == self.images.shape:
            return self
        fitted = Classification(self.source, resize=True)
        if shape != self.source.shape:
            fitted.images = self.source.resized(shape)
        return fitted

    def batches(self, part: Part, size: int) -> Iterator[Batch]:
        """Yield the images of a part; see `latbench.task.Task.batches`."""
        if part == "test":
            whole = torch.split(self.images.test_x, size), torch.split(self.images.test_y, size)
            for x, y in zip(*whole, strict=True):
                yield Batch((x,), y)
            return
        chosen = self._indices(part)
        chosen = chosen[torch.randperm(len(chosen))]
        size = min(size, len(chosen))
        for start in range(0, len(chosen) - size + 1, size):
            rows = chosen[start : start + size]
            yield Batch((self.images.train_x[rows],), self.images.train_y[rows])

    def loss(self, outputs: Any, batch: Batch) -> Tensor:
        """Return the mean cross entropy.

        Raises:
            ShapeError: the outputs are not logits of the images.
            UsageError: there are fewer logits than classes.
        """
        if not isinstance(outputs, Tensor) or outputs.ndim != 2 or len(outputs) != len(batch.labels):
            given = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
            raise ShapeError(f"networks return logits ({len(batch.labels)}, classes) for a classification, not {given}")
        if outputs.shape[1] < self.classes:
            raise UsageError(
                f"{self.source.name!r} has {self.classes} classes and the space {outputs.shape[1]}: "
                f"configure the space with classes={self.classes}"
            )
        return functional.cross_entropy(outputs, batch.labels)

    def score_outputs(self, outputs: Tensor, batch: Batch) -> float:
        """Return the share of images that logits classify correctly."""
        return float((outputs.argmax(1) == batch.labels).float().mean())

    @torch.no_grad()
    def score(self, module: nn.Module, part: Part = "test") -> float:
        """Return the share of images of a part that a network classifies correctly in evaluation mode."""
        x, y = self.images.test_x, self.images.test_y
        if part != "test":
            rows = self._indices(part)
            x, y = self.images.train_x[rows], self.images.train_y[rows]
        was_training = module.training
        module.eval()
        device = next(itertools.chain(module.parameters(), module.buffers()), x).device
        parts = zip(torch.split(x, 256), torch.split(y, 256), strict=True)
        hits = [(module(images.to(device)).argmax(1).cpu() == labels).sum() for images, labels in parts]
        module.train(was_training)
        return float(torch.stack(hits).sum()) / len(y)

    def _indices(self, part: Part) -> Tensor:
        count = len(self.images.train_y)
        if part == "train":
            return torch.arange(count)
        halves = torch.randperm(count, generator=torch.Generator().manual_seed(0)).tensor_split(2)
        return halves[part == "second"]


def as_task(task: Task | Images) -> Task:
    """Return a task; `Images` become their classification."""
    return Classification(task) if isinstance(task, Images) else task


def _size(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
