"""What all suites of a space share: which space, and a few of its architectures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from latbench.model import tensors_of
from latbench.plugins import SPACES, configure
from latbench.spaces.settings import Setting


class SpaceSuite:
    """The base of the suites.

    Attributes:
        space: the entry-point name, or ``module:Class``.
        config: makes a smaller network, so that the suite runs faster.
    """

    space: ClassVar[str]
    config: ClassVar[Mapping[str, Setting]] = {}

    def create(self) -> Any:
        """Return the space under test."""
        return configure(SPACES, self.space, self.config)

    def architectures(self, n: int, *, seed: int = 0) -> Sequence[Any]:
        """Return some architectures."""
        drawn: Sequence[Any] = self.create().sample(n, seed=seed)
        return drawn


def sample_tensors(space: Any, architecture: Any, *, batch: int = 2) -> list[Tensor]:
    """Return an architecture's sample inputs as tensors, in order."""
    return [torch.from_numpy(value) for value in space.inputs(architecture, batch=batch).values()]


def outputs_of(network: Any, *inputs: Tensor, **keywords: Any) -> list[Tensor]:
    """Return the tensors that a network returns."""
    return list(tensors_of(network(*inputs, **keywords)))


def descend(outputs: Sequence[Tensor]) -> None:
    """Run a backward pass that reaches whatever the outputs depend on."""
    sum(output.square().sum() for output in outputs if output.requires_grad).backward()  # type: ignore[union-attr]
