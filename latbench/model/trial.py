"""Run a module once before anything is measured: what is wrong with its inputs shows here, and what it computes in."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from latbench.errors import LatbenchError, ModelError, first_line

if TYPE_CHECKING:
    from torch import Tensor

    from latbench.model import Model

_REMEDIES = {
    r"missing .*required": "give every input that its forward needs",
    r"unexpected keyword": "give the inputs that its forward takes",
    r"meta tensor|device meta|meta device": "build its weights on the CPU, not on the meta device",
    r"CUDA|NVIDIA": "have the factory build it on the CPU, from where each backend moves it",
    r"dtype|scalar type|type .* should be|not implemented for '": "give inputs of the type that it takes",
    r"out of range|out of bounds": "give --input NAME=VALUE or NAME=@FILE.npy with values that it takes",
    r"No module named|is not defined|has no attribute": "its code does not find what it uses, so run it alone first",
    r"size|shape|dimension|channel|broadcast|must match|expected input|mat1": "give inputs of the shapes that it takes",
}
"""What a user can do, by what the error says; the first that fits."""


def tried(model: Model) -> Model:
    """Run a module once: here, shapes that do not fit are the user's mistake; later they would seem a backend's.

    It runs on other numbers than the sample's, where it takes any, so that a module which keeps what it has seen has
    not seen the sample when outputs are compared.

    Raises:
        ModelError: it does not run on its samples, or returns no tensors.
    """
    try:
        label = _ran(model, model.other_tensors())
    except LatbenchError:
        raise
    except Exception:  # noqa: BLE001 - it may take no other numbers than the sample's
        label = _ran_as_given(model)
    model.precision = label or model.precision
    return model


def _ran_as_given(model: Model) -> str:
    try:
        return _ran(model, model.tensors())
    except LatbenchError:
        raise
    except (Exception, SystemExit) as error:  # it is the user's code
        shapes = ", ".join(f"{name}:{'x'.join(map(str, x.shape))}:{x.dtype}" for name, x in model.inputs.items())
        said = first_line(error)
        text = f"{type(error).__name__}: {error}"
        remedy = next((remedy for words, remedy in _REMEDIES.items() if re.search(words, text)), "")
        raise ModelError(
            f"{model.name} does not run on {shapes} ({type(error).__name__}: {said})"
            + (f": {remedy}" if remedy else ": its own code raises this, so run it alone first")
        ) from error


def _ran(model: Model, tensors: Sequence[Tensor]) -> str:
    """Run the module and return what it computes in; empty where nothing is multiplied, or nobody can watch."""
    from latbench.model.precision import Precisions

    seen = Precisions()
    try:
        with seen:
            model.elsewhere = model.outputs_of([x.clone() for x in tensors])
    except LatbenchError:
        raise
    except Exception:  # noqa: BLE001 - compiled modules may not run while they are watched
        model.elsewhere = model.outputs_of([x.clone() for x in tensors])
        return ""
    return seen.label
