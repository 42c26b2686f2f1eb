"""The estimate: log t = workload + drift, fitted over all visits of a session.

Visits of many workloads are interleaved in random order, so what slows the machine for a while slows neighbours
in time alike. The fit alternates between a location for every workload and a smooth drift common to all (Tukey's
median polish, with a running quantile over time in place of the column effect).

Both are lower quartiles, not medians: other processes, interrupts and cold caches only ever slow a run, so the lower
part of the distribution repeats better than its middle. On a loaded machine its error was about a fifth smaller.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

Z_95 = 1.96
"""Two-sided 95% quantile of the normal distribution."""

QUANTILE = 0.25

GROUPS = 8
"""Groups of consecutive rounds whose disagreement gives the standard error."""

NEGLIGIBLE = 1e-6
"""Relative residuals below this are the rounding of a clock."""


@dataclass(frozen=True, slots=True)
class Visits:
    """The visits of one session in the order of time.

    Args:
        workload: index of the visited workload, ``(visits,)``.
        ms: milliseconds of one run in the visit, ``(visits,)``.
    """

    workload: Ints
    ms: Floats


@dataclass(frozen=True, slots=True)
class Fit:
    """The fitted session.

    Args:
        log_ms: location of each workload, ``(workloads,)``.
        standard_error: of `log_ms`, from the disagreement between groups of consecutive rounds, ``(workloads,)``.
        drift: common drift at each visit, in log milliseconds, ``(visits,)``.
        residual_drift: how much each workload still drifts after the fit: the rank correlation of its
            residuals between neighbouring rounds, ``(workloads,)``.
    """

    log_ms: Floats
    standard_error: Floats
    drift: Floats
    residual_drift: Floats

    def half_width(self) -> Floats:
        """Return the relative half-width of the 95% interval that the rounds give, ``(workloads,)``."""
        return Z_95 * self.standard_error


def fit(visits: Visits, workloads: int, *, iterations: int = 4) -> Fit:
    """Fit workloads and drift to the visits of a session; every workload needs at least one visit.

    One workload alone has no neighbours that could tell drift from noise: its drift is zero, and widens its interval.
    """
    y = np.log(visits.ms)
    of_workload = [np.flatnonzero(visits.workload == k) for k in range(workloads)]
    drift = np.zeros_like(y)
    location = np.zeros(workloads)
    for _ in range(iterations):
        location = np.array([np.quantile(y[index] - drift[index], QUANTILE) for index in of_workload])
        if workloads > 1:
            # About one round: as many neighbours in time as there are workloads, so that no workload dominates.
            drift = _smooth(y - location[visits.workload], window=workloads)
    residual = y - drift - location[visits.workload]
    return Fit(
        log_ms=location,
        standard_error=np.array([_standard_error(residual[index]) for index in of_workload]),
        drift=drift,
        residual_drift=np.array([_autocorrelation(residual[index]) for index in of_workload]),
    )


def _smooth(values: Floats, window: int) -> Floats:
    """Return a running quantile, then a running mean, of `values`; the ends repeat their nearest full window."""
    if len(values) < 2 * window:
        return np.full_like(values, np.quantile(values, QUANTILE))
    quantiles = np.quantile(np.lib.stride_tricks.sliding_window_view(values, window), QUANTILE, axis=1)
    means = np.convolve(quantiles, np.full(window, 1 / window), mode="valid")
    before = (len(values) - len(means)) // 2
    return np.pad(means, (before, len(values) - len(means) - before), mode="edge")


def _standard_error(residual: Floats) -> float:
    """Return the standard error of a location from groups of consecutive residuals (batch means, Law 1977).

    Neighbouring rounds are not independent; groups of them nearly are, so drift that the fit missed widens the error.
    """
    if len(residual) < 2:
        return np.inf
    groups = max(2, min(GROUPS, len(residual) // 2))
    locations = [np.quantile(part, QUANTILE) for part in np.array_split(residual, groups)]
    return float(np.std(locations, ddof=1) / np.sqrt(groups))


def _autocorrelation(residual: Floats) -> float:
    """Return the rank correlation of residuals with those of the next round."""
    if len(residual) < 2 * GROUPS or np.ptp(residual) < NEGLIGIBLE:
        return 0.0
    ranks = np.argsort(np.argsort(residual)).astype(float)
    return float(np.corrcoef(ranks[:-1], ranks[1:])[0, 1])
