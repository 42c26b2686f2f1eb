"""How much sessions disagree, learned from the references that all of them measure."""

from __future__ import annotations

import numpy as np

from latbench.measure.session import SessionResult
from latbench.measure.settings import Settings


class BetweenSessions:
    """How much one session's value of a model differs from another's once drift is divided out.

    The references are measured in every session; how far their ratios to each other move from session to session
    is an error that no interval from within one session can see.
    """

    PRIOR, PRIOR_SESSIONS = Settings().between_sessions, 8
    """What a shared machine showed (benchmarks/RESULTS.md, repeatability), and as how many sessions it counts."""

    def __init__(self) -> None:
        self._ratios: list[np.ndarray] = []

    def learn(self, result: SessionResult) -> None:
        """Take in the references of one session."""
        values = {m.subject: np.log(m.value) for m in result.measurements if m.kind == "reference"}
        ratios = np.array([values[subject] for subject in sorted(values)])
        self._ratios.append(ratios - ratios.mean())

    def estimate(self) -> float:
        """Return the standard deviation of one model, relative."""
        weight = self.PRIOR_SESSIONS
        if len(self._ratios) < 2:
            return self.PRIOR
        ratios = np.stack(self._ratios)
        # Taking the mean over r references out leaves (r - 1) / r of a model's own variance.
        count = ratios.shape[1]
        variance = (
            float(np.median(np.abs(ratios - np.median(ratios, axis=0))) * 1.4826) ** 2 * count / max(1, count - 1)
        )
        return float(np.sqrt((weight * self.PRIOR**2 + len(ratios) * variance) / (weight + len(ratios))))
