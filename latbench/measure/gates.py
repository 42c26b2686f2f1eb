"""Which rounds to repeat and which values to flag. A gate is here only where it lowers the noise floor."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from latbench.measure.estimate import QUANTILE, Fit

REFERENCE_TOLERANCE = 0.1
"""A round whose references exceed their lower quartile over the session by a larger share is repeated.

What slows all models alike is divided out and needs no gate: a tighter one threw away most rounds of a machine that
switches between two speeds, and its values repeated worse (benchmarks/RESULTS.md, repeatability).
"""

FLAGS = ("unstable", "drift")
"""What `flags` raises; a backend may have flags of its own (`latbench.backend.HasFlags`)."""

DRIFT_CORRELATION = 0.5
"""A value whose residuals correlate more with the next round's still drifts; on a loaded machine, 1% do."""


def disturbed_rounds(reference_ms: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which rounds are disturbed ``(rounds,)``, from the references' values ``(rounds, references)``."""
    if reference_ms.shape[1] == 0:
        return np.zeros(len(reference_ms), dtype=bool)
    logs = np.log(reference_ms)
    deviation = np.median(logs - np.quantile(logs, QUANTILE, axis=0), axis=1)
    return np.asarray(deviation > np.log1p(REFERENCE_TOLERANCE))


def flags(fitted: Fit, half_width: float) -> list[tuple[str, ...]]:
    """Return the flags of each workload.

    ``unstable``: its interval is wider than asked for. ``drift``: the fit could not follow how it drifts.
    """
    unstable = fitted.half_width() > half_width
    drifting = fitted.residual_drift > DRIFT_CORRELATION
    return [
        tuple(name for name, raised in zip(FLAGS, (wide, moving), strict=True) if raised)
        for wide, moving in zip(unstable, drifting, strict=True)
    ]
