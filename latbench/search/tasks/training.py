"""Training a derived architecture from scratch, briefly, to compare what searches found."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

from latbench.search.tasks.images import Images, random_batches

if TYPE_CHECKING:
    from latbench.space import Architecture, SearchSpace


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """The hyper-parameters of a training: SGD with Nesterov momentum, one cosine over all steps.

    Args:
        epochs: passes over the training images.
        batch_size: images of one step.
        seed: of the initial weights and the order of the images.
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
    """Leave the caller's random numbers as they are: those of the CPU and of one device, and start no other."""
    return torch.random.fork_rng(devices=[device] if torch.device(device).type == "cuda" else [])


def train_architecture(
    space: SearchSpace,
    architecture: Architecture,
    images: Images,
    *,
    settings: TrainingSettings | None = None,
    device: str = "cpu",
    progress: Callable[[int, float], None] | None = None,
) -> float:
    """Train an architecture from random weights and return its accuracy on the test images, between 0 and 1.

    Args:
        space: builds the network.
        architecture: one of its architectures.
        images: what to train and to test on.
        settings: the hyper-parameters.
        device: where to train.
        progress: called after every epoch with its number, from 0, and its mean training loss.

    Raises:
        UsageError: the images do not fit the space.
    """
    settings = settings or TrainingSettings()
    images.check(space)
    with own_random_numbers(device):
        torch.manual_seed(settings.seed)
        network = space.build(architecture).to(device)
        x, y = images.train_x.to(device), images.train_y.to(device)
        weights = list(network.parameters())
        optimizer = torch.optim.SGD(
            weights, settings.lr, settings.momentum, weight_decay=settings.weight_decay, nesterov=True
        )
        steps = max(1, len(y) // settings.batch_size)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.epochs * steps)
        for epoch in range(settings.epochs):
            network.train()
            losses = []
            for batch_x, batch_y in random_batches(x, y, settings.batch_size):
                loss = functional.cross_entropy(network(batch_x), batch_y)
                descend(optimizer, loss, weights, clip=settings.gradient_clip)
                schedule.step()
                losses.append(loss.item())
            if progress:
                progress(epoch, fmean(losses))
        return accuracy(network, images.test_x.to(device), images.test_y.to(device))


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


@torch.no_grad()
def accuracy(network: nn.Module, x: Tensor, y: Tensor, *, batch_size: int = 256) -> float:
    """Return the share of images that a network classifies correctly in evaluation mode."""
    network.eval()
    batches = zip(torch.split(x, batch_size), torch.split(y, batch_size), strict=True)
    hits = [(network(images).argmax(1) == labels).sum() for images, labels in batches]
    return float(torch.stack(hits).sum()) / len(y)
