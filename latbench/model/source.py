"""Open what a user names or hands over: a module, an ONNX file, a ``torch.export`` file, or a factory."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from latbench.errors import LatbenchError, ModelError, first_line
from latbench.model import Model
from latbench.model.inputs import DeclaredInput, InputRequest, complete_inputs, requested_inputs, with_batch
from latbench.model.onnx_file import read_onnx
from latbench.model.samples import Samples, in_order, named_samples, parameter_names

if TYPE_CHECKING:
    from torch import nn

_HOW = "give --input x:1x3x224x224:float32, or in Python inputs=, a tensor or several by name"

_Given = Callable[[Sequence[str] | None, Sequence[DeclaredInput]], dict[str, NDArray[Any]]]
"""From the names of a network's inputs, and what is known of them, to the samples that the user gives."""


def open_model(source: str, inputs: Sequence[str] = (), *, batch: int | None = None) -> Model:
    """Open a model that the command line names.

    Args:
        source: ``net.onnx``, ``net.pt2``, or ``module:factory`` where the factory takes no arguments and returns a
            ``torch.nn.Module``, or a pair of one and its sample inputs (tensors or arrays: one, several in a tuple in
            the order of ``forward``, or a dict by name). It is called with torch's random numbers seeded, so that its
            weights are the same every time.
        inputs: sample inputs as ``name:1x3x224x224:float32``; a type that is left out is the model's own, or
            float32.
        batch: the first dimension of every input; None leaves the inputs as they are.

    Raises:
        ModelError: the source cannot be opened, its inputs are not known, or it does not run on them.
        UsageError: an input that is not ``name:shape:dtype``.
    """
    requests = [InputRequest.parse(text) for text in inputs]
    return _opened(source, lambda names, declared: requested_inputs(requests, batch, declared), batch)


def as_model(source: Model | nn.Module | str | Path | Callable[[], Any], inputs: Samples | None = None) -> Model:
    """Make a model of what a Python program has.

    Args:
        source: a `Model`; a module; a path to an ``.onnx`` or ``.pt2`` file; ``module:factory`` or the factory itself,
            see `open_model`.
        inputs: its sample inputs: a tensor or an array, several in a tuple in the order of ``forward``, or a dict by
            name. A module needs them; a file or a factory may bring its own.

    Raises:
        ModelError: the source cannot be opened, its inputs are not known, or it does not run on them.
    """
    from torch import nn

    if isinstance(source, Model):
        if inputs is not None:
            raise ModelError(f"the model {source.name!r} has samples of its own: leave inputs out")
        return source
    if isinstance(source, nn.Module):
        name = type(source).__name__
        if inputs is None:
            raise ModelError(f"the inputs of {name} are not known: give inputs=, a tensor or several by name")
        return _tried(Model.from_module(source, inputs))
    if isinstance(source, str | Path):
        return _opened(str(source), _handed_over(str(source), inputs), None)
    if callable(source):
        name = getattr(source, "__qualname__", type(source).__name__)
        return _tried(_from_factory(name, source, _handed_over(name, inputs), None))
    raise ModelError(f"model is of type {type(source).__name__}: give a module, a file, or a function that makes one")


def _handed_over(owner: str, inputs: Samples | None) -> _Given:
    return lambda names, declared: {} if inputs is None else named_samples(owner, names, inputs)


def _opened(source: str, given: _Given, batch: int | None) -> Model:
    if source.endswith(".onnx"):
        return _from_onnx(Path(source), given, batch)
    if source.endswith(".pt2"):
        return _tried(_from_export(Path(source), given, batch))
    if ":" not in source:
        raise ModelError(f"{source!r} is not a model: give a file that ends in .onnx or .pt2, or 'module:factory'")
    return _tried(_from_factory(source, _found(source), given, batch))


def _from_onnx(path: Path, given: _Given, batch: int | None) -> Model:
    file = read_onnx(path)
    if not file.inputs:
        raise ModelError(f"{path} has no inputs: latbench measures networks that take inputs")
    samples = given([value.name for value in file.inputs], file.inputs)
    return Model(path.name, complete_inputs(path.name, file.inputs, samples, batch), onnx=lambda: file.data)


def _from_export(path: Path, given: _Given, batch: int | None) -> Model:
    from latbench.model.exported_program import read_program

    file = read_program(path)
    own = {name: with_batch(value, batch) for name, value in file.samples.items()}
    samples = own | given([value.name for value in file.inputs], file.inputs)
    return Model(path.name, complete_inputs(path.name, file.inputs, samples), module=file.module)


def _from_factory(source: str, factory: Callable[[], Any], given: _Given, batch: int | None) -> Model:
    from torch import nn

    made = _made(source, factory)
    module, own = made if isinstance(made, tuple) and len(made) == 2 else (made, {})
    if not isinstance(module, nn.Module):
        raise ModelError(f"the factory {source!r} returned {type(module).__name__}: return a torch.nn.Module")
    names = parameter_names(module)
    samples = {name: with_batch(value, batch) for name, value in named_samples(repr(source), names, own).items()}
    declared = [DeclaredInput(name, None, sample.dtype.name) for name, sample in samples.items()]
    asked = given(names, declared)
    samples = complete_inputs(source, declared, samples | asked) if declared else asked
    if not samples:
        raise ModelError(f"the inputs of {source!r} are not known: {_HOW}")
    return Model(source, in_order(repr(source), module, samples), module=module.eval)


def _found(source: str) -> Any:
    module_name, _, name = source.partition(":")
    try:
        return getattr(importlib.import_module(module_name), name)
    except (ModuleNotFoundError, AttributeError) as error:
        raise ModelError(f"cannot find the factory {source!r}: {error}") from error
    except Exception as error:  # a module may raise anything while it is imported
        raise ModelError(f"cannot import {module_name!r}: {type(error).__name__}: {error}") from error


def _made(source: str, factory: Any) -> Any:
    """Call the factory."""
    import torch

    if not callable(factory):
        raise ModelError(f"{source!r} is a {type(factory).__name__}: name a function that returns a torch.nn.Module")
    if not _takes_nothing(factory):
        raise ModelError(f"the factory {source!r} takes arguments: write a function without any that calls it")
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


def _tried(model: Model) -> Model:
    """Run a module once: here, shapes that do not fit are the user's mistake; later they would seem a backend's."""
    try:
        model.reference_outputs()
    except LatbenchError:
        raise
    except Exception as error:  # it is the user's code
        shapes = ", ".join(f"{name}:{'x'.join(map(str, x.shape))}:{x.dtype}" for name, x in model.inputs.items())
        raise ModelError(
            f"{model.name} does not run on {shapes} ({type(error).__name__}: {first_line(error)}): give other inputs"
        ) from error
    return model
