"""A task fitted to the inputs of a space's networks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from latbench.space import Architecture, SearchSpace
    from latbench.task import Task

_DRAWN = 32
"""Architectures that are asked for the size of their inputs."""


def fit_to_space(task: Task, space: SearchSpace[Any]) -> Task:
    """Return a task with samples for the largest inputs of a space, found among some of its architectures.

    Raises:
        UsageError: the samples do not fit.
    """
    drawn = (sample_inputs(space, architecture) for architecture in space.sample(_DRAWN, seed=0))
    return task.for_inputs(max(drawn, key=lambda inputs: sum(each.numel() for each in inputs)))


def fit_to_architecture(task: Task, space: SearchSpace[Any], architecture: Architecture) -> Task:
    """Return a task with samples for the inputs of one architecture.

    Raises:
        UsageError: the samples do not fit.
    """
    return fit_to_space(task, space).for_inputs(sample_inputs(space, architecture))


def sample_inputs(space: SearchSpace[Any], architecture: Architecture) -> tuple[Tensor, ...]:
    """Return sample inputs of an architecture, in the order of its ``forward``, a batch of one."""
    return tuple(torch.tensor(array) for array in space.inputs(architecture, batch=1).values())
