"""Open what a user names on the command line: an ONNX file, a ``torch.export`` file, or ``module:factory``."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from latbench.errors import LatbenchError, ModelError
from latbench.model import Model
from latbench.model.inputs import DeclaredInput, InputRequest, complete_inputs, requested_inputs, with_batch
from latbench.model.onnx_file import read_onnx

if TYPE_CHECKING:
    from torch import nn


def open_model(source: str, inputs: Sequence[str] = (), *, batch: int | None = None) -> Model:
    """Open a model.

    Args:
        source: ``net.onnx``, ``net.pt2``, or ``module:factory`` where the factory takes no arguments and returns a
            ``torch.nn.Module``, or a pair of one and its sample inputs (arrays or tensors, in a dict by name or in a
            tuple in the order of ``forward``). It is called with torch's random numbers seeded, so that its weights are
            the same every time.
        inputs: sample inputs as ``name:1x3x224x224:float32``; a type that is left out is the model's own, or
            float32.
        batch: the first dimension of every input; None leaves the inputs as they are.

    Raises:
        ModelError: the source cannot be opened, its inputs are not known, or it does not run on them.
        UsageError: an input that is not ``name:shape:dtype``.
    """
    requests = [InputRequest.parse(text) for text in inputs]
    if source.endswith(".onnx"):
        return _from_onnx(Path(source), requests, batch)
    if source.endswith(".pt2"):
        return _tried(_from_export(Path(source), requests, batch))
    if ":" not in source:
        raise ModelError(f"{source!r} is no model: give a file that ends in .onnx or .pt2, or 'module:factory'")
    return _tried(_from_factory(source, requests, batch))


def _from_onnx(path: Path, requests: Sequence[InputRequest], batch: int | None) -> Model:
    file = read_onnx(path)
    if not file.inputs:
        raise ModelError(f"{path} has no inputs: latbench measures networks that take some")
    given = requested_inputs(requests, batch, file.inputs)
    return Model(path.name, complete_inputs(path.name, file.inputs, given, batch), onnx=lambda: file.data)


def _from_export(path: Path, requests: Sequence[InputRequest], batch: int | None) -> Model:
    from latbench.model.exported_program import read_program

    file = read_program(path)
    samples = {name: with_batch(value, batch) for name, value in file.samples.items()}
    given = samples | requested_inputs(requests, batch, file.inputs)
    return Model(path.name, complete_inputs(path.name, file.inputs, given), module=file.module)


def _from_factory(source: str, requests: Sequence[InputRequest], batch: int | None) -> Model:
    from torch import nn

    made = _made(source)
    module, given = made if isinstance(made, tuple) and len(made) == 2 else (made, {})
    if not isinstance(module, nn.Module):
        raise ModelError(f"the factory {source!r} returned {type(module).__name__}: return a torch.nn.Module")
    named = _named(source, module, given)
    samples = {name: with_batch(_array(source, name, value), batch) for name, value in named.items()}
    declared = [DeclaredInput(name, None, sample.dtype.name) for name, sample in samples.items()]
    requested = requested_inputs(requests, batch, declared)
    samples = complete_inputs(source, declared, samples | requested) if declared else requested
    if not samples:
        raise ModelError(f"the inputs of {source!r} are not known: give --input x:1x3x224x224:float32")
    return Model(source, _in_order(source, module, samples), module=module.eval)


def _made(source: str) -> Any:
    """Call the factory."""
    import torch

    module_name, _, name = source.partition(":")
    try:
        factory = getattr(importlib.import_module(module_name), name)
    except (ModuleNotFoundError, AttributeError) as error:
        raise ModelError(f"cannot find the factory {source!r}: {error}") from error
    except Exception as error:  # a module may raise anything while it is imported
        raise ModelError(f"cannot import {module_name!r}: {type(error).__name__}: {error}") from error
    if not callable(factory):
        raise ModelError(f"{source!r} is a {type(factory).__name__}: name a function that returns a torch.nn.Module")
    if not _takes_nothing(factory):
        raise ModelError(f"the factory {source!r} takes arguments: name a function without, which calls it with yours")
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return factory()
    except LatbenchError:
        raise
    except (Exception, SystemExit) as error:  # it is the user's code
        raise ModelError(f"the factory {source!r} raised {type(error).__name__}: {error}") from error


def _takes_nothing(factory: Callable[..., Any]) -> bool:
    try:
        inspect.signature(factory).bind()
    except TypeError:
        return False
    except ValueError:  # built in, without a signature: calling it will tell
        return True
    return True


def _named(source: str, module: nn.Module, given: Any) -> Mapping[str, Any]:
    """Return a factory's samples by name; those in a tuple, as for ``torch.export``, are named as `forward` does."""
    if isinstance(given, Mapping):
        return given
    if not isinstance(given, tuple | list):
        raise ModelError(
            f"the factory {source!r} returned a module and a {type(given).__name__}: "
            "return its samples as a dict by name, or as a tuple in forward's order"
        )
    parameters = inspect.signature(module.forward).parameters.values()
    if any(p.kind == p.VAR_POSITIONAL for p in parameters):
        return {f"input{index}": value for index, value in enumerate(given)}
    names = [p.name for p in parameters][: len(given)]
    if len(names) < len(given):
        raise ModelError(f"the factory {source!r} returned {len(given)} samples: its forward takes {len(names)}")
    return dict(zip(names, given, strict=True))


def _array(source: str, name: str, value: Any) -> NDArray[Any]:
    import numpy as np
    import torch

    try:
        return value.numpy(force=True) if isinstance(value, torch.Tensor) else np.asarray(value)
    except TypeError as error:
        raise ModelError(f"the sample {name!r} of {source!r} is of a type that NumPy does not have: {error}") from error


def _in_order(source: str, module: nn.Module, samples: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Sort samples as ``forward`` takes them; names that are none of its own keep the order in which they came."""
    parameters = list(inspect.signature(module.forward).parameters)
    known = [name for name in parameters if name in samples]
    if not known:
        return samples
    unknown = [name for name in samples if name not in known]
    skipped = [name for name in parameters[: parameters.index(known[-1])] if name not in samples]
    if unknown or skipped:
        problem = f"has no input {unknown[0]!r}" if unknown else f"also needs {skipped[0]!r}"
        raise ModelError(f"{source!r} {problem}: its forward takes {', '.join(parameters)}, in this order")
    return {name: samples[name] for name in known}


def _tried(model: Model) -> Model:
    """Run a module once: shapes that do not fit are the user's to mend, and are told from a backend's failure here."""
    try:
        model.reference_outputs()
    except LatbenchError:
        raise
    except Exception as error:  # it is the user's code
        shapes = ", ".join(f"{name}:{'x'.join(map(str, x.shape))}:{x.dtype}" for name, x in model.inputs.items())
        reason = str(error).strip().partition("\n")[0]
        raise ModelError(
            f"{model.name} does not run on {shapes} ({type(error).__name__}: {reason}): give it other --input"
        ) from error
    return model
