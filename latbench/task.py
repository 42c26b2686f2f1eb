"""The contract of a task: what the networks of a search learn, and how well they have.

A task brings its data, its loss and its score; it knows nothing of a space. `Task.for_inputs` fits it to the inputs of
a network: images to a resolution, sequences to a length.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor, nn

Part = Literal["train", "first", "second", "test"]
"""Training samples, the two halves of them, or test samples. A search that moves weights and alphas moves them on one
half each, and one that compares networks trains on the first and scores on the second: no search sees the test."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Samples of one step.

    Args:
        inputs: as a network takes them, batch first.
        labels: as the task's loss takes them.
    """

    inputs: tuple[Tensor, ...]
    labels: Tensor

    def to(self, device: str) -> Batch:
        """Return the batch on a torch device."""
        return Batch(tuple(each.to(device) for each in self.inputs), self.labels.to(device))


class Task(Protocol):
    """What networks learn. See the module's docstring."""

    @property
    def name(self) -> str:
        """What reports call it. It tells tasks apart: a search continues one that had a task of the same name."""
        ...

    def for_inputs(self, inputs: Sequence[Tensor]) -> Self:
        """Return the same task with samples shaped like these sample inputs of a network, batch first.

        Where the networks of a space take inputs of different sizes, it is called with the largest, and then on what
        it returned with those of each network.

        Raises:
            UsageError: the samples do not fit; the message says how to configure the space.
        """
        ...

    def batches(self, part: Part, size: int) -> Iterator[Batch]:
        """Yield the samples of a part once, in batches of a size, on the CPU.

        Training samples come in an order drawn from torch's generator, and a last batch that is not full is left out;
        fewer samples than `size` are one batch. The halves are the same in every process. Test samples come in order,
        all of them.
        """
        ...

    def loss(self, outputs: Any, batch: Batch) -> Tensor:
        """Return the loss of what a network returned for a batch, a scalar; both are on the network's device.

        Raises:
            UsageError: networks of this space cannot learn the task: they have too few classes, or outputs of another
                shape.
        """
        ...

    def score(self, module: nn.Module, part: Part = "test") -> float:
        """Return how well a network does on a part, in evaluation mode: higher is better."""
        ...


@runtime_checkable
class ScoresOutputs(Protocol):
    """Implemented by tasks that can score outputs that a network has already returned, for a search to show."""

    def score_outputs(self, outputs: Any, batch: Batch) -> float:
        """Return the score of outputs for a batch, in the unit of `Task.score`."""
        ...


@dataclass(frozen=True, slots=True)
class Metric:
    """How reports show a score.

    Args:
        name: the head of its column.
        form: a format specification, such as ``".1%"``.
    """

    name: str = "score"
    form: str = ".4g"


@runtime_checkable
class HasMetric(Protocol):
    """Implemented by tasks whose score has a name of its own."""

    @property
    def metric(self) -> Metric:
        """How reports show the score."""
        ...
