"""The epochs of a DARTS search: weights and alphas learn in turns, one step each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from latbench.errors import UsageError
from latbench.search.objectives.dual_ascent import DualAscent
from latbench.search.objectives.latency_loss import LatencyLoss
from latbench.search.objectives.temperature import Temperature
from latbench.search.strategies.result import Epoch, SearchSettings
from latbench.search.tasks.training import descend
from latbench.space import HasSupernet, Relaxable
from latbench.task import Batch, ScoresOutputs, Task

if TYPE_CHECKING:
    from latbench.space import SearchSpace


class SupernetSearch:
    """The supernet, its optimisers and penalties, and the two halves of the samples that they learn from.

    Args:
        space: a space with a relaxation and a supernet.
        task: fitted to the space.
        losses: what joins the alphas' loss; their temperature is set as the search goes.
        settings: the hyper-parameters.
        device: where the supernet is trained.
    """

    def __init__(
        self,
        space: SearchSpace[Any],
        task: Task,
        losses: Sequence[LatencyLoss],
        settings: SearchSettings,
        device: str,
    ) -> None:
        torch.manual_seed(settings.seed)
        self.space, self.task, self.settings, self.device = space, task, settings, device
        self.relaxation = cast(Relaxable[Any], space).relaxation()
        self.supernet = cast(HasSupernet, space).supernet()
        self.module = cast(nn.Module, self.supernet).to(device)
        self.losses = losses
        # A hinge needs a multiplier; a linear penalty has its weight.
        hinged = [DualAscent(each, settings.multiplier_rate) if each.penalty == "hinge" else each for each in losses]
        self.penalties = [each.to(device) for each in hinged]
        self.temperature = Temperature(
            settings.temperature, settings.temperature_end, max(1, settings.epochs - 1 - settings.warmup_epochs)
        )
        self.weights, self.alphas = self.supernet.weights(), self.supernet.alphas()
        self.weight_optimizer = torch.optim.SGD(
            self.weights, settings.weight_lr, momentum=settings.momentum, weight_decay=settings.weight_decay
        )
        self.alpha_optimizer = torch.optim.Adam(
            self.alphas, settings.alpha_lr, betas=(0.5, 0.999), weight_decay=settings.alpha_weight_decay
        )
        self.optimizers = (self.weight_optimizer, self.alpha_optimizer)
        self.history: list[Epoch] = []

    def epoch(self, number: int) -> Epoch:
        """Take turns between alphas and weights, once through both halves."""
        self._begin(number)
        losses, scores = [], []
        size = self.settings.batch_size
        for weight_batch, alpha_batch in zip(
            self.task.batches("first", size), self.task.batches("second", size), strict=False
        ):
            batch = alpha_batch.to(self.device)
            outputs = self.supernet(*batch.inputs)
            if isinstance(self.task, ScoresOutputs):
                scores.append(self.task.score_outputs(outputs, batch))
            if number >= self.settings.warmup_epochs:
                self._alpha_step(outputs, batch)
            losses.append(self._weight_step(weight_batch.to(self.device)))
        self._check_finite(number, losses)
        return self._record(number, fmean(losses), fmean(scores) if scores else None)

    def _begin(self, number: int) -> None:
        """Set everything as it is at the beginning of an epoch."""
        # Every epoch has a random state of its own, so that a continued search needs none of the past.
        torch.manual_seed(int(np.random.SeedSequence((self.settings.seed, number)).generate_state(1)[0]))
        self.weight_optimizer.param_groups[0]["lr"] = _cosine(self.settings, number)
        self.temperature.done.fill_(max(0, number - self.settings.warmup_epochs))
        for loss in self.losses:
            loss.temperature = self.temperature.value
        if self.history:
            for ascent, multiplier in zip(self._ascents(), self.history[-1].multipliers, strict=True):
                ascent.multiplier.fill_(multiplier)
        self.module.train()

    def _ascents(self) -> list[DualAscent]:
        return [penalty for penalty in self.penalties if isinstance(penalty, DualAscent)]

    def _alpha_step(self, outputs: Any, batch: Batch) -> None:
        """Move the alphas, and the multipliers of hinges."""
        loss = self.task.loss(outputs, batch)
        for penalty in self.penalties:
            loss = loss + penalty(self.alphas)
        descend(self.alpha_optimizer, loss, self.alphas)

    def _weight_step(self, batch: Batch) -> float:
        """Move the weights; return the loss."""
        loss = self.task.loss(self.supernet(*batch.inputs), batch)
        descend(self.weight_optimizer, loss, self.weights, clip=self.settings.gradient_clip)
        return loss.item()

    def _check_finite(self, number: int, losses: Sequence[float]) -> None:
        """Refuse to go on with alphas or losses that are not finite.

        Raises:
            UsageError: the search diverged in this epoch.
        """
        diverged = "alphas" if not all(alpha.isfinite().all() for alpha in self.alphas) else ""
        if not all(map(math.isfinite, losses)):
            diverged = diverged or "loss"
        if diverged:
            kept = f"the state after epoch {number} is kept; " if number else ""
            raise UsageError(
                f"the search diverged in epoch {number + 1} of {self.settings.epochs}, its {diverged} became infinite "
                f"or NaN: {kept}lower alpha_lr ({self.settings.alpha_lr:g}) or weight_lr "
                f"({self.settings.weight_lr:g}) in another folder"
            )

    @torch.no_grad()
    def _record(self, number: int, train_loss: float, score: float | None) -> Epoch:
        """Write down where the search stands."""
        alphas = [alpha.detach().cpu() for alpha in self.alphas]
        architecture = self.relaxation.derive(alphas)
        expected = predicted = None
        if self.losses:
            one_hot = torch.from_numpy(self.space.encode([architecture])).to(self.alphas[0])
            expected = float(self.losses[0].expected(self.alphas))
            predicted = float(self.losses[0].value(one_hot))
        return Epoch(
            number=number,
            architecture=str(architecture),
            score=score,
            predicted=predicted,
            expected=expected,
            encoding=tuple(self.relaxation.expected(alphas, temperature=self.temperature.value).tolist()),
            entropy=_entropy(alphas),
            train_loss=train_loss,
            temperature=self.temperature.value,
            multipliers=tuple(float(ascent.multiplier) for ascent in self._ascents()),
        )


def _cosine(settings: SearchSettings, epoch: int) -> float:
    """Return the weights' learning rate in an epoch."""
    fall = (1 + math.cos(math.pi * epoch / settings.epochs)) / 2
    return settings.weight_lr_end + (settings.weight_lr - settings.weight_lr_end) * fall


def _entropy(alphas: Sequence[Tensor]) -> float:
    """Return the mean entropy of the alphas' rows, relative to uniform ones; a row of one alpha decides nothing."""
    rows = [
        (torch.special.entr(alpha.softmax(-1)).sum(-1) / math.log(alpha.shape[-1])).mean()
        for alpha in alphas
        if alpha.shape[-1] > 1
    ]
    return float(torch.stack(rows).mean()) if rows else 0.0
