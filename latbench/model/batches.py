"""Which dimension of which input is the batch; where nobody says, none is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from latbench.errors import ModelError
from latbench.model.inputs import DeclaredInput

_NAMED = ("batch", "n", "b", "bs")


def batch_inputs(declared: Sequence[DeclaredInput]) -> list[str]:
    """Return the inputs whose first dimension is the batch: free, and one symbol where it has a name."""
    free = [value for value in declared if value.has_batch]
    symbols = list(dict.fromkeys(value.symbol for value in free))
    named = [symbol for symbol in symbols if symbol.lower().startswith("batch") or symbol.lower() in _NAMED]
    symbol = next(iter(named or symbols), "")
    return [value.name for value in free if value.symbol == symbol]


def stated_batch(declared: Sequence[DeclaredInput], samples: Mapping[str, Any]) -> int | None:
    """Return the batch of samples, where a file says which dimension it is; None where nobody knows."""
    sizes = {len(samples[name]) for name in batch_inputs(declared)}
    return sizes.pop() if len(sizes) == 1 else None


def with_batch(sample: Any, batch: int) -> Any:
    """Repeat or cut a sample along its first dimension, so that it holds `batch` inputs."""
    if sample.ndim == 0 or len(sample) == batch:
        return sample
    if isinstance(sample, np.ndarray):
        return np.resize(sample, (batch, *sample.shape[1:]))
    return sample[[index % len(sample) for index in range(batch)]]


def all_with_batch(owner: str, samples: Mapping[str, Any], batch: int) -> dict[str, Any]:
    """Give samples of a module, of which nobody says what the batch is, this first dimension.

    One that is 1 where others are not applies to the whole batch, and stays.

    Raises:
        ModelError: the samples have several first dimensions.
    """
    sizes = {len(value) for value in samples.values() if value.ndim}
    several = sizes - {1}
    if len(several) > 1:
        shapes = ", ".join(f"{name}:{'x'.join(map(str, value.shape))}" for name, value in samples.items())
        raise ModelError(
            f"the samples of {owner} have several first dimensions ({shapes}), and --batch cannot tell which is the "
            "batch: leave it out, and give --input NAME:SHAPE:DTYPE for the inputs that change"
        )
    kept = 1 if several else None
    return {
        name: value if value.ndim == 0 or len(value) == kept else with_batch(value, batch)
        for name, value in samples.items()
    }
