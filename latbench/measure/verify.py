"""Whether a compiled model computes what its module computes. Asked before anything is timed."""

from __future__ import annotations

import numpy as np

from latbench.backend import Compiled
from latbench.errors import OutputMismatchError
from latbench.model import Model

TOLERANCE = {"fp32": 1e-3, "tf32": 1e-2, "fp16": 3e-2, "bf16": 1e-1, "int8": 3e-1}
"""Largest accepted error by precision, relative to the largest output: rounding accumulates over some 50 layers."""


def verify_outputs(compiled: Compiled, model: Model, precision: str) -> None:
    """Compare a compiled model's outputs with its module's.

    Raises:
        OutputMismatchError: the number, shapes or values of the outputs differ.
    """
    expected, given = model.reference_outputs(), compiled.outputs()
    if len(given) != len(expected):
        raise OutputMismatchError(f"{model.name} gives {len(given)} outputs where its module gives {len(expected)}")
    tolerance = TOLERANCE.get(precision, TOLERANCE["fp16"])
    for index, (want, got) in enumerate(zip(expected, given, strict=True)):
        if want.shape != got.shape:
            raise OutputMismatchError(
                f"output {index} of {model.name} has shape {got.shape}, its module's has {want.shape}"
            )
        error = float(
            np.abs(got.astype(np.float64) - want).max(initial=0) / max(float(np.abs(want).max(initial=0)), 1e-6)
        )
        if not error <= tolerance:
            raise OutputMismatchError(
                f"output {index} of {model.name} differs from its module's by {error:.2g} of the largest value "
                f"({precision} allows {tolerance:g}): the backend computes something else, so its time means nothing"
            )
