"""Run a module before anything is measured: what is wrong with its inputs shows here, and what it computes in."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from latbench.errors import LatbenchError, ModelError, first_line

if TYPE_CHECKING:
    from torch import Tensor

    from latbench.model import Model
    from latbench.model.precision import Observed

_CALLS = 20
"""So many calls, each of which computes more than the one before, are no start."""

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


@dataclass(frozen=True, slots=True)
class _Call:
    """What a call returned, and what it called; nothing where nobody can watch it."""

    outputs: list[NDArray[Any]]
    seen: Observed | None


def tried(model: Model) -> Model:
    """Run a module twice: here, shapes that do not fit are the user's mistake; later they would seem a backend's.

    It runs on other numbers than the sample's first, where it takes any, so that a module which keeps what it has seen
    has not seen the sample when outputs are compared; and then on the sample, in the same place.

    Raises:
        ModelError: it does not run on its samples, returns no tensors, returns what it computed for other inputs, or
            computes more in each call.
    """
    place = model.other_tensors()
    try:
        first = _called(model, place)
    except LatbenchError:
        raise
    except (Exception, SystemExit):  # noqa: BLE001 - it may take no other numbers than the sample's
        place = model.tensors()
        first = _called_as_given(model, place)
    model.elsewhere = first.outputs
    if first.seen is not None:
        model.precision = first.seen.label or model.precision
        _refuse_kept(model, place, first.outputs, first.seen)
    return model


def _refuse_kept(model: Model, place: Sequence[Tensor], others: list[NDArray[Any]], first: Observed) -> None:
    """Refuse a module that answers from what it keeps, or that keeps more and more.

    Args:
        model: it has run once.
        place: tensors with other numbers than the sample's, on which it has run.
        others: what it returned.
        first: what it called.
    """
    again = _called_again(model, place)
    if again is None:
        return
    model.here = again.outputs
    if again.seen is None:
        return
    second = again.seen
    same = len(again.outputs) == len(others) and all(map(_equal, again.outputs, others))
    # The last weights of a network may be zeros, too; then it multiplies as before.
    idle = not second.products if first.products else not second.operators
    if same and idle and model.takes_other_numbers and not model.changes_inputs:
        raise ModelError(
            f"{model.name} returns what it computed for other inputs: it calls {second.operators} operators, where its "
            f"first call had {first.operators}; measure a module that computes its outputs anew in each call"
        )
    _refuse_growing(model, place, [first.elements, second.elements])


def _refuse_growing(model: Model, place: Sequence[Tensor], elements: list[int]) -> None:
    """Refuse a module whose every call computes more numbers than the one before; one that fills up is called on."""
    while elements[-2] < elements[-1]:
        if len(elements) == _CALLS:
            listed = ", ".join(f"{count:,}" for count in elements[:3])
            raise ModelError(
                f"{model.name} computes more in each call ({listed}, ... numbers), so it has no latency: it keeps what "
                "it has seen; measure a module that takes what it keeps as an input, of the size that you mean"
            )
        again = _called_again(model, place)
        if again is None or again.seen is None:
            return
        elements.append(again.seen.elements)


def _equal(one: NDArray[Any], other: NDArray[Any]) -> bool:
    return np.array_equal(one, other, equal_nan=one.dtype.kind in "fc")


def _called_again(model: Model, place: Sequence[Tensor]) -> _Call | None:
    """Run the module on its sample, in the place of what it ran on before; None where it does not run again."""
    for tensor, sample in zip(place, model.tensors(), strict=True):
        tensor.copy_(sample)
    try:
        return _called(model, place)
    except (Exception, SystemExit):  # noqa: BLE001 - it has run, and a backend will see what is the matter
        return None


def _called_as_given(model: Model, place: Sequence[Tensor]) -> _Call:
    try:
        return _called(model, place)
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


def _called(model: Model, place: Sequence[Tensor]) -> _Call:
    from latbench.model.precision import Observed

    seen = Observed()
    try:
        return _Call(_copied(model.outputs_of([x.detach() for x in place], seen)), seen)
    except LatbenchError:
        raise
    except Exception:  # noqa: BLE001 - compiled modules may not run while they are watched
        return _Call(_copied(model.outputs_of([x.detach() for x in place])), None)


def _copied(outputs: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
    """Return outputs of their own: they may be views of inputs, whose numbers change."""
    return [output.copy() for output in outputs]
