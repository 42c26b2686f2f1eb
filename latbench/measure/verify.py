"""Whether a compiled model computes what its module computes. Asked before anything is timed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latbench.backend import Compiled
from latbench.errors import OutputMismatchError
from latbench.model import Model

TOLERANCE = {"fp64": 1e-3, "fp32": 1e-3, "tf32": 1e-2, "fp16": 3e-2, "bf16": 1e-1, "int8": 3e-1}
"""Largest accepted error by precision, relative to the largest output: rounding accumulates over some 50 layers."""

Array = NDArray[Any]


def verify_outputs(compiled: Compiled, model: Model, precision: str) -> tuple[str, ...]:
    """Compare a compiled model's outputs with its module's.

    Two networks are the same where both are finite and close, NaN, or infinite with one sign. What a module computes
    otherwise from one call to the next, with random numbers or from a state that it keeps, nobody can compare.

    Args:
        compiled: what a backend made of the model.
        model: where it has no module, its outputs are looked at alone.
        precision: what it computes in; of several, joined by ``+``, and of what the module does, the least accurate
            counts.

    Returns:
        What a reader should know: what is not compared, and outputs that are empty or not finite.

    Raises:
        OutputMismatchError: the number, shapes or values of the outputs differ.
    """
    given = list(_arrays(compiled.outputs()))
    notes = [note for index, output in enumerate(given) for note in _notes(f"output {index} of {model.name}", output)]
    if not model.has_module:
        return tuple(notes)
    tolerance = _tolerance(model, precision)
    expected = model.reference_outputs()
    try:
        _compare(expected, given, model.name, tolerance, precision)
    except OutputMismatchError:
        again, given_again = model.reference_outputs(), list(_arrays(compiled.outputs()))
        changing = sorted({*_changing(expected, again, tolerance), *_changing(given, given_again, tolerance)})
        if not changing:
            raise
        notes.append(
            f"{_listed(changing)} of {model.name} {'differs' if len(changing) == 1 else 'differ'} from one call to the "
            "next (random numbers, or a state that the module keeps): only the shape is compared"
        )
        _compare(expected, given, model.name, tolerance, precision, without=changing)
    return tuple(notes)


def shows_nothing(model: Model, precision: str) -> bool:
    """Whether outputs for other inputs would pass for those of the sample: then that outputs agree says little."""
    here, elsewhere = model.here, model.elsewhere
    if not here or not elsewhere or len(here) != len(elsewhere) or not model.takes_other_numbers:
        return False
    tolerance, pairs = _tolerance(model, precision), list(zip(here, elsewhere, strict=True))
    return all(a.shape == b.shape and not _difference(a, b, tolerance) for a, b in pairs)


def _tolerance(model: Model, precision: str) -> float:
    parts = {*precision.split("+"), *model.precision.split("+")}
    return max(TOLERANCE.get(part, TOLERANCE["fp16"]) for part in parts)


def _arrays(outputs: Sequence[Any]) -> Iterator[Array]:
    """Yield arrays, those of a sequence one by one: files may return one, and modules return tuples."""
    for output in outputs:
        if isinstance(output, list | tuple):
            yield from _arrays(output)
        else:
            yield np.asarray(output)


def _compare(
    expected: Sequence[Array],
    given: Sequence[Array],
    name: str,
    tolerance: float,
    precision: str,
    *,
    without: Sequence[int] = (),
) -> None:
    if len(given) != len(expected):
        raise OutputMismatchError(f"{name} gives {len(given)} outputs where its module gives {len(expected)}")
    for index, (want, got) in enumerate(zip(expected, given, strict=True)):
        if np.iscomplexobj(want) and not np.iscomplexobj(got) and got.shape == (*want.shape, 2):
            got = got[..., 0] + 1j * got[..., 1]  # noqa: PLW2901 - ONNX has no complex outputs, and exporters pair them
        if want.shape != got.shape and not (index in without and want.ndim == got.ndim):
            raise OutputMismatchError(f"output {index} of {name} has shape {got.shape}, its module's has {want.shape}")
        if index in without:
            continue
        if problem := _difference(want, got, tolerance):
            raise OutputMismatchError(
                f"output {index} of {name} {problem} ({precision} allows {tolerance:g} of the largest value): "
                "the backend computes something else, so its time means nothing"
            )


def _difference(want: Array, got: Array, tolerance: float) -> str:
    """Say how two arrays of one shape differ; nothing where they are as equal as they have to be."""
    kind: Any = np.complex128 if np.iscomplexobj(want) or np.iscomplexobj(got) else np.float64
    want, got = want.astype(kind), got.astype(kind)
    finite = np.isfinite(want) & np.isfinite(got)
    same = (np.isnan(want) & np.isnan(got)) | (want == got)
    other = int((~finite & ~same).sum())
    if other:
        return f"is NaN or infinite in other places than its module's, {other} of them"
    size = max(float(np.abs(want[finite]).max(initial=0)), 1e-6)
    error = float(np.abs(got[finite] - want[finite]).max(initial=0)) / size
    return "" if error <= tolerance else f"differs from its module's by {error:.2g} of the largest value"


def _changing(expected: Sequence[Array], again: Sequence[Array], tolerance: float) -> list[int]:
    """Return which outputs of a module differ between two of its calls."""
    pairs = enumerate(zip(expected, again, strict=False))
    return [i for i, (a, b) in pairs if a.shape != b.shape or _difference(a, b, tolerance * 1e-3)]


def _notes(what: str, output: Array) -> list[str]:
    if output.size == 0:
        return [f"{what} is empty: on these inputs, nothing may be computed; give others with --input"]
    if output.dtype.kind not in "fc":
        return []
    strange = int((~np.isfinite(output)).sum())
    if not strange:
        return []
    return [f"{strange} of {output.size} values of {what} are NaN or infinite: give others with --input if not meant"]


def _listed(indices: Sequence[int]) -> str:
    return ("output " if len(indices) == 1 else "outputs ") + ", ".join(map(str, indices))
