"""Differentiable architecture search, first order: Liu, Simonyan, Yang, "DARTS", ICLR 2019, section 2.2 with xi = 0.

Weights learn on one half of the training images and alphas on the other, in turns. A latency loss joins the
alphas' loss. Two additions close the gap between the latency that is asked for and the one that is derived:

- The relaxation's temperature is low and falls, so that the expected latency approaches the derived one.
- The multiplier of a hinge grows while the target is exceeded, so that no trade-off has to be guessed
  (`latbench.search.objectives.dual_ascent`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from latbench.errors import UsageError
from latbench.search.objectives.latency_loss import LatencyLoss
from latbench.search.strategies.checkpoint import Checkpoint
from latbench.search.strategies.identity import Identity, space_identity
from latbench.search.strategies.result import Epoch, SearchResult, SearchSettings
from latbench.search.strategies.supernet_search import SupernetSearch
from latbench.search.tasks.classification import as_task
from latbench.search.tasks.fitting import fit_to_space
from latbench.search.tasks.training import own_random_numbers
from latbench.strategy import Candidate, OnStep, Problem, check_requirements, check_space, ignore_step

if TYPE_CHECKING:
    from latbench.search.tasks.images import Images
    from latbench.space import SearchSpace
    from latbench.task import Task

_DEFAULTS = SearchSettings()


class DartsStrategy:
    """Differentiable search in a supernet; see `search_architecture`. Its keywords are those of `SearchSettings`.

    Needs a space with a relaxation and a supernet, and a differentiable predictor behind every objective.
    """

    name = "darts"
    requires: tuple[str, ...] = ("relaxation", "supernet")

    def __init__(
        self,
        *,
        epochs: int = _DEFAULTS.epochs,
        batch_size: int = _DEFAULTS.batch_size,
        warmup_epochs: int = _DEFAULTS.warmup_epochs,
        weight_lr: float = _DEFAULTS.weight_lr,
        weight_lr_end: float = _DEFAULTS.weight_lr_end,
        momentum: float = _DEFAULTS.momentum,
        weight_decay: float = _DEFAULTS.weight_decay,
        gradient_clip: float = _DEFAULTS.gradient_clip,
        alpha_lr: float = _DEFAULTS.alpha_lr,
        alpha_weight_decay: float = _DEFAULTS.alpha_weight_decay,
        temperature: float = _DEFAULTS.temperature,
        temperature_end: float = _DEFAULTS.temperature_end,
        multiplier_rate: float = _DEFAULTS.multiplier_rate,
    ) -> None:
        self.settings = SearchSettings(
            epochs=epochs,
            batch_size=batch_size,
            warmup_epochs=warmup_epochs,
            weight_lr=weight_lr,
            weight_lr_end=weight_lr_end,
            momentum=momentum,
            weight_decay=weight_decay,
            gradient_clip=gradient_clip,
            alpha_lr=alpha_lr,
            alpha_weight_decay=alpha_weight_decay,
            temperature=temperature,
            temperature_end=temperature_end,
            multiplier_rate=multiplier_rate,
        )

    def search(
        self, problem: Problem, *, folder: str | Path | None = None, on_step: OnStep = ignore_step
    ) -> list[Candidate]:
        """Return the architecture that the last alphas derive; see `latbench.strategy.Strategy.search`.

        Its score is that of the supernet. The target may be missed where the epochs did not suffice:
        see `latbench.strategy.Problem.missed`.

        Raises:
            UsageError: see `search_architecture`, or the search takes more epochs than the problem's budget.
            NotDifferentiableError: an objective's predictor is not differentiable.
        """
        check_requirements(self, problem.space)
        epochs = self.settings.epochs
        problem.check_budget(epochs, f"give epochs={problem.budget}")
        result = search_architecture(
            problem.space,
            problem.task,
            latency_loss=[objective.loss() for objective in problem.objectives],
            settings=replace(self.settings, seed=problem.seed),
            folder=folder,
            device=problem.device,
            progress=lambda epoch: on_step(epoch.number + 1, epochs),
        )
        return [Candidate(result.architecture, result.history[-1].score, result.history)]


def search_architecture(
    space: SearchSpace[Any],
    task: Task | Images,
    *,
    latency_loss: LatencyLoss | Sequence[LatencyLoss] | None = None,
    settings: SearchSettings | None = None,
    folder: str | Path | None = None,
    device: str = "cpu",
    progress: Callable[[Epoch], None] | None = None,
) -> SearchResult:
    """Search a space for an architecture that is good at a task.

    The same arguments give the same result. A search that was interrupted continues from its folder, and ends as if
    it had not been.

    Args:
        space: a space with a relaxation and a supernet.
        task: one half of its training samples moves the weights and the other the alphas; the test samples stay
            unseen. `Images` stand for their classification.
        latency_loss: added to the alphas' loss, one or several; the temperature is set before every epoch. One with
            weight 0 watches without steering.
        settings: the hyper-parameters; None for those of the paper.
        folder: keeps a checkpoint of the last epoch; None keeps none.
        device: where the supernet is trained.
        progress: called with the record of every new epoch.

    Raises:
        UsageError: the space lacks a relaxation or a supernet, the task or a loss is for another space, the search
            diverged, or the folder holds another search or cannot be written.
    """
    settings = settings or SearchSettings()
    losses = [latency_loss] if isinstance(latency_loss, LatencyLoss) else list(latency_loss or ())
    check_requirements(DartsStrategy, space)
    for loss in losses:
        check_space(loss.space, space)
        if loss.order is not None:
            raise UsageError(
                "the alphas of this search are in the space's order: a LatencyLoss with operations=, edges= or names= "
                "is for the loop of another repository; leave them out"
            )
    fitted = fit_to_space(as_task(task), space)
    with own_random_numbers(device):
        run = SupernetSearch(space, fitted, losses, settings, device)
        checkpoint = Checkpoint(folder, _identity(space, fitted, losses, settings)) if folder else None
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


def _identity(space: SearchSpace[Any], task: Task, losses: Sequence[LatencyLoss], settings: SearchSettings) -> Identity:
    """Return what a checkpoint must share with the search that continues it."""
    steering: dict[str, str | float] = {}
    for index, loss in enumerate(losses):
        prefix = f"latency_loss{f' {index + 1}' if index else ''}"
        steering |= {f"{prefix}.{name}": getattr(loss, name) for name in ("penalty", "weight", "reference")}
        steering[f"{prefix}.predictor"] = _digest(loss.predictor)
    return {
        "space": space_identity(space),
        "task": task.name,
        **{f"settings.{name}": value for name, value in asdict(settings).items()},
        **steering,
    }


def _digest(module: nn.Module) -> str:
    """Return a digest of a frozen module, whose numbers are all buffers."""
    values = (tensor.detach().cpu().numpy().tobytes() for tensor in module.buffers())
    return hashlib.sha256(b"".join(values)).hexdigest()[:12]
