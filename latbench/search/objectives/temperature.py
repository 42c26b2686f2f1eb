"""A temperature that falls geometrically, for anyone's loop."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from latbench.errors import UsageError


class Temperature(nn.Module):
    """A geometric schedule: every step multiplies the temperature by the same factor.

    The current temperature is a buffer, so a checkpoint of the loop holds it.

    Args:
        start: temperature before the first step.
        end: temperature after `steps` steps, and from then on.
        steps: steps in all, at least 1.

    Raises:
        UsageError: a temperature is not positive, or there are no steps.
    """

    done: Tensor

    def __init__(self, start: float, end: float, steps: int) -> None:
        super().__init__()
        for name, value in (("start", start), ("end", end)):
            if not 0 < value < math.inf:
                raise UsageError(f"the temperature's {name} is {value}: give a positive number")
        if steps < 1:
            raise UsageError(f"a temperature cannot fall in {steps} steps: give at least 1")
        self.start, self.end, self.steps = start, end, steps
        self.register_buffer("done", torch.zeros((), dtype=torch.int64))

    @property
    def value(self) -> float:
        """The temperature now."""
        done = min(int(self.done), self.steps) / self.steps
        return math.exp((1 - done) * math.log(self.start) + done * math.log(self.end))

    def step(self) -> float:
        """Take one step and return the temperature after it."""
        self.done += 1
        return self.value
