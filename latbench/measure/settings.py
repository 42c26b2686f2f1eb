"""How a session measures."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from latbench.errors import UsageError


@dataclass(frozen=True, slots=True)
class Settings:
    """How a session measures.

    Args:
        half_width: relative half-width of the rounds' 95% interval at which a session stops.
        min_rounds: rounds before stopping is considered.
        max_rounds: undisturbed rounds at which a session stops regardless; what is still wider is flagged
            ``unstable``.
        max_seconds: seconds of timing at which a session stops regardless.
        runs: timed runs of one visit, of which the fastest counts. The same number for every model of a session: the
            minimum of more runs is smaller, so that unequal numbers would favour one model over another.
        warmup_ms: how long each model runs before timing; at least three runs.
        cache: ``"warm"``: a throw-away run precedes the timed runs of a visit; ``"cold"``: none does, and a cache that
            the backend can empty (`latbench.backend.HasCache`) is emptied before each of them.
        verify: ``"all"`` compares every model's outputs with its module's, ``"sample"`` one in a session (and all
            once one differs), ``"none"`` none.
        between_sessions: relative standard deviation between the values that several sessions give one model, drift
            divided out (it comes from memory layout, for one); the interval includes it.

    Raises:
        UsageError: a half-width or a limit that no session can reach.
    """

    half_width: float = 0.01
    min_rounds: int = 16
    max_rounds: int = 48
    max_seconds: float = 60.0
    runs: int = 6
    warmup_ms: float = 5.0
    cache: Literal["warm", "cold"] = "warm"
    verify: Literal["all", "sample", "none"] = "sample"
    between_sessions: float = 0.003

    def __post_init__(self) -> None:
        if not (math.isfinite(self.half_width) and self.half_width > 0):
            raise UsageError(f"a half-width of {self.half_width:g} is never reached: give a share such as 0.01")
        if self.min_rounds < 2 or self.max_rounds < 2 or self.runs < 1:
            raise UsageError(
                f"{self.min_rounds} to {self.max_rounds} rounds of {self.runs} runs have no spread: "
                "give 2 rounds or more, of 1 run or more"
            )
