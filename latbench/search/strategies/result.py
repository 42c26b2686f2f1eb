"""The settings of a DARTS search, what it records after every epoch, and what it returns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latbench.errors import UsageError
from latbench.space import Architecture
from latbench.strategy import Record


@dataclass(frozen=True, slots=True)
class SearchSettings:
    """The hyper-parameters of a search.

    Args:
        epochs: passes over the data; each halves the training samples between weights and alphas.
        batch_size: samples of one step.
        seed: of the initial weights and the order of the samples.
        warmup_epochs: first epochs in which only the weights learn, so that operations without weights gain no
            head start.
        weight_lr: learning rate of the weights (SGD with momentum), falling to `weight_lr_end` along a cosine.
        weight_lr_end: see `weight_lr`.
        momentum: of the weights.
        weight_decay: of the weights.
        gradient_clip: largest norm of the weights' gradient.
        alpha_lr: learning rate of the alphas (Adam).
        alpha_weight_decay: of the alphas.
        temperature: of the latency loss until the end of the warm-up. It is low, so that the expected latency stays
            close to that of the derived architecture; at 1, alphas that meet a target derive something far below it.
        temperature_end: of the latency loss in the last epoch; it falls geometrically.
        multiplier_rate: how fast the multiplier of a hinge grows while the target is exceeded (dual ascent): by this
            rate times the penalty, every step.
    """

    epochs: int = 50
    batch_size: int = 64
    seed: int = 0
    warmup_epochs: int = 0
    weight_lr: float = 0.025
    weight_lr_end: float = 0.001
    momentum: float = 0.9
    weight_decay: float = 3e-4
    gradient_clip: float = 5.0
    alpha_lr: float = 3e-4
    alpha_weight_decay: float = 1e-3
    temperature: float = 0.1
    temperature_end: float = 0.02
    multiplier_rate: float = 0.1

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "weight_lr", "alpha_lr", "temperature", "temperature_end"):
            if not getattr(self, name) > 0:
                raise UsageError(f"{name} of a search is {getattr(self, name)}: give a positive number")
        if not 0 <= self.warmup_epochs < self.epochs:
            raise UsageError(
                f"warmup_epochs is {self.warmup_epochs} of {self.epochs} epochs: leave at least one for the alphas"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch(Record):
    """The state of a DARTS search after an epoch: `latbench.strategy.Record`, and what follows.

    `score` is that of the supernet on the alphas' half, over the epoch's steps; None where the task cannot score
    outputs (`latbench.task.ScoresOutputs`). `architecture` is the one derived at this point, and `encoding` the
    expected one at `temperature`.

    Args:
        train_loss: mean loss of the weight steps.
        temperature: of the relaxation.
        multipliers: of the losses that are hinges, after the epoch; they start at 0.
    """

    train_loss: float
    temperature: float
    multipliers: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What a DARTS search found.

    Args:
        architecture: derived from the last alphas.
        alphas: shaped like the relaxation's `shapes`.
        history: one record an epoch.
    """

    architecture: Architecture
    alphas: tuple[NDArray[np.floating], ...]
    history: tuple[Epoch, ...]
