"""Training a derived architecture from scratch, briefly, to compare what searches found."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from latbench.search.tasks.classification import as_task
from latbench.search.tasks.fitting import fit_to_architecture

if TYPE_CHECKING:
    from latbench.search.tasks.images import Images
    from latbench.space import Architecture, SearchSpace
    from latbench.task import Part, Task


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """The hyper-parameters of a training: SGD with Nesterov momentum, one cosine over all steps.

    Args:
        epochs: passes over the training samples.
        batch_size: samples of one step.
        seed: of the initial weights and the order of the samples.
        lr: first learning rate; it falls to 0 along a cosine.
        momentum: see the class.
        weight_decay: of all parameters.
        gradient_clip: largest norm of the gradient.
    """

    epochs: int = 20
    batch_size: int = 64
    seed: int = 0
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 3e-4
    gradient_clip: float = 5.0


def own_random_numbers(device: str) -> AbstractContextManager[None]:
    """Keep the caller's random state as it is, on the CPU and on one device, without initialising other devices."""
    return torch.random.fork_rng(devices=[device] if torch.device(device).type == "cuda" else [])


def train_architecture(
    space: SearchSpace[Any],
    architecture: Architecture,
    task: Task | Images,
    *,
    settings: TrainingSettings | None = None,
    device: str = "cpu",
    progress: Callable[[int, float], None] | None = None,
    learn: Part = "train",
    judge: Part = "test",
) -> float:
    """Train an architecture from random weights and return its score; for images, the accuracy between 0 and 1.

    Args:
        space: builds the network.
        architecture: one of its architectures.
        task: what it learns; `Images` stand for their classification.
        settings: the hyper-parameters.
        device: where to train.
        progress: called after every epoch with its number, from 0, and its mean training loss.
        learn: the samples to train on.
        judge: the samples to score on; a search that compares networks leaves the test samples alone.

    Raises:
        UsageError: the task does not fit the space.
    """
    settings = settings or TrainingSettings()
    fitted = fit_to_architecture(as_task(task), space, architecture)
    with own_random_numbers(device):
        steps = sum(1 for _ in fitted.batches(learn, settings.batch_size))
        torch.manual_seed(settings.seed)
        network = space.build(architecture).to(device)
        weights = list(network.parameters())
        optimizer = torch.optim.SGD(
            weights, settings.lr, settings.momentum, weight_decay=settings.weight_decay, nesterov=True
        )
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.epochs * steps)
        for epoch in range(settings.epochs):
            network.train()
            losses = []
            for on_cpu in fitted.batches(learn, settings.batch_size):
                batch = on_cpu.to(device)
                loss = fitted.loss(network(*batch.inputs), batch)
                descend(optimizer, loss, weights, clip=settings.gradient_clip)
                schedule.step()
                losses.append(loss.item())
            if progress:
                progress(epoch, fmean(losses))
        return fitted.score(network, judge)


def descend(optimizer: Optimizer, loss: Tensor, parameters: Sequence[nn.Parameter], *, clip: float = math.inf) -> None:
    """Take one step on these parameters alone: the gradients of all others are not computed.

    Args:
        optimizer: of `parameters`.
        loss: a scalar.
        parameters: what to move; one that the loss does not depend on has gradient 0.
        clip: largest norm of the gradient.
    """
    gradients = torch.autograd.grad(loss, parameters, materialize_grads=True)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    nn.utils.clip_grad_norm_(parameters, clip)
    optimizer.step()
