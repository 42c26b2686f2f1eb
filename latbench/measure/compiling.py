"""Compile a model and check what it computes, with another ONNX file where the one that latbench wrote is wrong.

The direct writer takes milliseconds and may be mistaken; `torch.onnx.export` takes seconds. So it is asked where a
backend refuses the file, or computes something else from it than the module does.
"""

from __future__ import annotations

from collections.abc import Callable

from latbench.backend import Compiled
from latbench.errors import CompileError, MeasurementError, ModelError, OutputMismatchError
from latbench.measure.verify import shows_nothing, verify_outputs
from latbench.measure.workloads import FALLBACK, CompiledWorkload
from latbench.model import Model

Compile = Callable[[Model], Compiled]


def compiled_from_either(model: Model, compile_: Compile) -> Compiled:
    """Compile a model.

    Raises:
        CompileError: the backend refuses the model, whoever writes its file.
    """
    try:
        return compile_(model)
    except CompileError as error:
        _write_again(model, error)
        return compile_(model)


def verified(each: CompiledWorkload, compile_: Compile, precision: str) -> tuple[str, ...]:
    """Compare the outputs of a compiled workload, compiled again where that helps, and return what should be known.

    Raises:
        OutputMismatchError: they differ from the module's, whoever writes its file.
    """
    try:
        notes = verify_outputs(each.compiled, each.model, precision)
        return notes + _compared_in_full(each.model, compile_, precision)
    except OutputMismatchError as error:
        _write_again(each.model, error)
    each.compiled = compile_(each.model)
    each.flags = (*each.flags, *(() if FALLBACK in each.flags else (FALLBACK,)))
    return verify_outputs(each.compiled, each.model, precision)


def _compared_in_full(model: Model, compile_: Compile, precision: str) -> tuple[str, ...]:
    """Compare a file of ours in all its parts, where some show in no output; return whether nothing shows at all.

    Raises:
        OutputMismatchError: with other weights, its outputs differ from the module's.
    """
    blind = shows_nothing(model, precision)
    if model.is_direct and (blind or _hides(model)) and (twin := model.calibrated()) is not None:
        verify_outputs(compile_(twin), twin, precision)
        blind = shows_nothing(twin, precision)
    if not blind:
        return ()
    return (
        f"the module of {model.name} returns the same for other inputs, so comparing outputs shows nothing: "
        "it may keep what it has computed, or its weights may be zeros",
    )


def _hides(model: Model) -> bool:
    from latbench.onnx_export.calibration import hides

    return hides(model.module)


def _write_again(model: Model, error: MeasurementError) -> None:
    """Have the file written in the other way; where there is none, raise the error."""
    try:
        written = model.write_again()
    except ModelError as also:
        raise type(error)(f"{error}; {also}") from also
    if not written:
        raise error
