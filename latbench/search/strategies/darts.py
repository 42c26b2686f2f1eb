"""Differentiable architecture search, first order: Liu, Simonyan, Yang, "DARTS", ICLR 2019, section 2.2 with xi = 0.

Weights learn on one half of the training images and alphas on the other, in turns. A latency loss joins the
alphas' loss. Two additions close the gap between the latency that is asked for and the one that is derived:

- The relaxation's temperature is low and falls, so that the expected latency approaches the derived one.
- The multiplier of a hinge grows while the target is exceeded, so that no trade-off has to be guessed: dual ascent
  (Boyd et al., "Distributed Optimization ... via the Alternating Direction Method of Multipliers", 2011, section 2.1)
  on ``relu(expected / target - 1) <= 0``.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from latbench.errors import UsageError
from latbench.search.latency_loss import LatencyLoss
from latbench.search.strategies.checkpoint import Checkpoint, Identity
from latbench.search.strategies.result import Epoch, SearchResult, SearchSettings
from latbench.search.tasks.images import Images, random_batches
from latbench.search.tasks.training import descend, own_random_numbers
from latbench.space import HasSupernet, Relaxable, SpaceSpec

if TYPE_CHECKING:
    from latbench.space import SearchSpace


def search_architecture(
    space: SearchSpace,
    images: Images,
    *,
    latency_loss: LatencyLoss | None = None,
    settings: SearchSettings | None = None,
    folder: str | Path | None = None,
    device: str = "cpu",
    progress: Callable[[Epoch], None] | None = None,
) -> SearchResult:
    """Search a space for an architecture that classifies the images.

    The same arguments give the same result. A search that was interrupted continues from its folder, and ends as if
    it had not been.

    Args:
        space: the space.
        images: their training part is halved between weights and alphas; the test part is not touched.
        latency_loss: added to the alphas' loss; its temperature is set before every epoch. One with weight 0 watches
            without steering.
        settings: the hyper-parameters; None for those of the paper.
        folder: keeps a checkpoint of the last epoch; None keeps none.
        device: where the supernet is trained.
        progress: called with the record of every new epoch.

    Raises:
        UsageError: the images do not fit the space, it has no supernet or relaxation, or the folder holds another
            search or cannot be written.
    """
    settings = settings or SearchSettings()
    images.check(space)
    with own_random_numbers(device):
        run = _Search(space, images, latency_loss, settings, device)
        checkpoint = Checkpoint(folder, _identity(space, images, latency_loss, settings)) if folder else None
        if checkpoint:
            run.history = checkpoint.restore(run.module, run.optimizers)
        for number in range(len(run.history), settings.epochs):
            run.history.append(run.epoch(number))
            if checkpoint:
                checkpoint.save(run.module, run.optimizers, run.history)
            if progress:
                progress(run.history[-1])
    alphas = tuple(alpha.detach().cpu().numpy() for alpha in run.alphas)
    return SearchResult(space.parse(run.history[-1].architecture), alphas, tuple(run.history))


class _Search:
    """The supernet, its optimisers, and the two halves of the images that they learn from."""

    def __init__(
        self,
        space: SearchSpace,
        images: Images,
        latency_loss: LatencyLoss | None,
        settings: SearchSettings,
        device: str,
    ) -> None:
        if not isinstance(space, HasSupernet) or not isinstance(space, Relaxable):
            lacks = "supernet" if isinstance(space, Relaxable) else "relaxation"
            raise UsageError(f"DARTS cannot search {SpaceSpec.of(space)}: give its class a {lacks}()")
        torch.manual_seed(settings.seed)
        self.space, self.settings = space, settings
        self.relaxation = space.relaxation()
        self.supernet = space.supernet()
        self.module = cast(nn.Module, self.supernet).to(device)
        self.latency_loss = latency_loss.to(device) if latency_loss is not None else None
        self.weights, self.alphas = self.supernet.weights(), self.supernet.alphas()
        self.weight_optimizer = torch.optim.SGD(
            self.weights, settings.weight_lr, momentum=settings.momentum, weight_decay=settings.weight_decay
        )
        self.alpha_optimizer = torch.optim.Adam(
            self.alphas, settings.alpha_lr, betas=(0.5, 0.999), weight_decay=settings.alpha_weight_decay
        )
        self.optimizers = (self.weight_optimizer, self.alpha_optimizer)
        x, y = images.train_x.to(device), images.train_y.to(device)
        self.weight_half, self.alpha_half = ((x[half], y[half]) for half in torch.randperm(len(y)).tensor_split(2))
        # From 0, a hinge takes over no faster than the alphas can follow.
        self.multiplier = 0.0 if latency_loss is not None and latency_loss.penalty == "hinge" else 1.0
        self.history: list[Epoch] = []

    def epoch(self, number: int) -> Epoch:
        """Take turns between alphas and weights, once through both halves."""
        settings = self.settings
        # Every epoch has a random state of its own, so that a continued search needs none of the past.
        torch.manual_seed(int(np.random.SeedSequence((settings.seed, number)).generate_state(1)[0]))
        self.weight_optimizer.param_groups[0]["lr"] = _cosine(settings, number)
        if self.latency_loss is not None:
            self.latency_loss.temperature = _temperature(settings, number)
        if self.history:
            self.multiplier = self.history[-1].multiplier
        losses, hits = [], []
        self.module.train()
        for (weight_x, weight_y), (alpha_x, alpha_y) in zip(
            random_batches(*self.weight_half, settings.batch_size),
            random_batches(*self.alpha_half, settings.batch_size),
            strict=False,
        ):
            logits = self.supernet(alpha_x)
            hits.append(float((logits.argmax(1) == alpha_y).float().mean()))
            if number >= settings.warmup_epochs:
                self._alpha_step(logits, alpha_y)
            losses.append(self._weight_step(weight_x, weight_y))
        return self._record(number, fmean(losses), fmean(hits))

    def _alpha_step(self, logits: Tensor, y: Tensor) -> None:
        """Move the alphas, and the multiplier of a hinge."""
        loss = functional.cross_entropy(logits, y)
        if self.latency_loss is not None:
            penalty = self.latency_loss(self.alphas)
            loss = loss + self.multiplier * penalty
            if self.latency_loss.penalty == "hinge":
                self.multiplier += self.settings.multiplier_rate * penalty.item()
        descend(self.alpha_optimizer, loss, self.alphas)

    def _weight_step(self, x: Tensor, y: Tensor) -> float:
        """Move the weights; return the loss."""
        loss = functional.cross_entropy(self.supernet(x), y)
        descend(self.weight_optimizer, loss, self.weights, clip=self.settings.gradient_clip)
        return loss.item()

    @torch.no_grad()
    def _record(self, number: int, train_loss: float, accuracy: float) -> Epoch:
        """Write down where the search stands."""
        alphas = [alpha.detach().cpu() for alpha in self.alphas]
        architecture = self.relaxation.derive(alphas)
        temperature = _temperature(self.settings, number)
        expected = predicted = None
        if self.latency_loss is not None:
            one_hot = torch.from_numpy(self.space.encode([architecture])).to(self.alphas[0])
            expected = float(self.latency_loss.expected(self.alphas))
            predicted = float(self.latency_loss.predictor(one_hot))
        return Epoch(
            number=number,
            train_loss=train_loss,
            accuracy=accuracy,
            architecture=str(architecture),
            encoding=tuple(self.relaxation.expected(alphas, temperature=temperature).tolist()),
            entropy=_entropy(alphas),
            temperature=temperature,
            expected=expected,
            predicted=predicted,
            multiplier=self.multiplier,
        )


def _cosine(settings: SearchSettings, epoch: int) -> float:
    """Return the weights' learning rate in an epoch."""
    fall = (1 + math.cos(math.pi * epoch / settings.epochs)) / 2
    return settings.weight_lr_end + (settings.weight_lr - settings.weight_lr_end) * fall


def _temperature(settings: SearchSettings, epoch: int) -> float:
    """Return the latency loss's temperature in an epoch."""
    steps = settings.epochs - 1 - settings.warmup_epochs
    done = max(0, epoch - settings.warmup_epochs) / max(1, steps)
    return math.exp((1 - done) * math.log(settings.temperature) + done * math.log(settings.temperature_end))


def _entropy(alphas: Sequence[Tensor]) -> float:
    """Return the mean entropy of the alphas' rows, relative to uniform ones."""
    rows = [(torch.special.entr(alpha.softmax(-1)).sum(-1) / math.log(alpha.shape[-1])).mean() for alpha in alphas]
    return float(torch.stack(rows).mean())


def _identity(
    space: SearchSpace, images: Images, latency_loss: LatencyLoss | None, settings: SearchSettings
) -> Identity:
    """Return what a checkpoint must share with the search that continues it."""
    loss = {name: getattr(latency_loss, name, None) for name in ("penalty", "weight", "reference")}
    loss["predictor"] = None if latency_loss is None else _digest(latency_loss.predictor)
    return {
        "space": str(SpaceSpec.of(space)),
        "images": images.name,
        "training images": len(images.train_y),
        **{f"settings.{name}": value for name, value in asdict(settings).items()},
        **{f"latency_loss.{name}": value for name, value in loss.items()},
    }


def _digest(module: nn.Module) -> str:
    """Return what tells the state of a module from that of another."""
    values = (tensor.detach().cpu().numpy().tobytes() for tensor in module.state_dict().values())
    return hashlib.sha256(b"".join(values)).hexdigest()[:12]
