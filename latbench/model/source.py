"""Open what a user names or hands over: a module, an ONNX file, a ``torch.export`` file, or a factory."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from latbench.errors import LatbenchError, ModelError, did_you_mean
from latbench.model import Model, evaluated
from latbench.model.batches import all_with_batch, batch_inputs, stated_batch, with_batch
from latbench.model.inputs import (
    DeclaredInput,
    InputRequest,
    complete_inputs,
    named_dtype,
    requested_inputs,
)
from latbench.model.onnx_file import read_onnx
from latbench.model.samples import Samples, in_order, leaves, named_samples, parameter_names, replaced
from latbench.model.trial import tried

if TYPE_CHECKING:
    from torch import nn

_HOW = "give --input x:1x3x224x224:float32, or in Python inputs=, a tensor or several by name"


@dataclass(frozen=True, slots=True)
class _Given:
    """What a user gives beside the source: inputs as texts and a batch, or samples."""

    texts: Sequence[str] = ()
    batch: int | None = None
    samples: Samples | None = None

    def requests(self, names: Sequence[str]) -> list[InputRequest]:
        return [InputRequest.parse(text, names) for text in self.texts]


def open_model(source: str, inputs: Sequence[str] = (), *, batch: int | None = None) -> Model:
    """Open a model that the command line names.

    Args:
        source: ``net.onnx``, ``net.pt2``, or ``module:factory`` where the factory takes no arguments and returns a
            ``torch.nn.Module``, or a pair of one and its sample inputs (tensors or arrays: one, several in a tuple in
            the order of ``forward``, or a dict by name). It is called with torch's random numbers seeded, so that its
            weights are the same every time.
        inputs: sample inputs as ``name:1x3x224x224:float32``, ``name:1:int64=50``, ``name=50`` or ``name=@file.npy``; a
            shape or a type that is left out is the model's own, or float32.
        batch: the first dimension of every input, or of those whose file leaves it free; None leaves them as they are.

    Raises:
        ModelError: the source cannot be opened, its inputs are not known, or it does not run on them.
        UsageError: an input of another form, or with a value that does not fit.
    """
    return _opened(source, _Given(inputs, batch))


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
    if isinstance(source, Model):
        if inputs is not None:
            raise ModelError(f"the model {source.name!r} has samples of its own: leave inputs out")
        return source
    if isinstance(source, str | Path):
        return _opened(str(source), _Given(samples=inputs))
    from torch import nn

    if isinstance(source, nn.Module):
        name = type(source).__name__
        if inputs is None:
            raise ModelError(f"the inputs of {name} are not known: give inputs=, a tensor or several by name")
        return tried(Model.from_module(source, inputs))
    if callable(source):
        name = getattr(source, "__qualname__", type(source).__name__)
        return _from_factory(name, source, _Given(samples=inputs))
    raise ModelError(f"model is of type {type(source).__name__}: give a module, a file, or a function that makes one")


def _opened(source: str, given: _Given) -> Model:
    if source.endswith(".onnx"):
        return _from_onnx(Path(source), given)
    if source.endswith(".pt2"):
        return _from_export(Path(source), given)
    if ":" not in source:
        raise ModelError(f"{source!r} is not a model: give a file that ends in .onnx or .pt2, or 'module:factory'")
    return _from_factory(source, _found(source), given)


def _from_onnx(path: Path, given: _Given) -> Model:
    file = read_onnx(path)
    samples, batch = _of_file(path.name, file.inputs, given, {})
    return Model(path.name, samples, onnx=lambda: file.data, batch=batch, precision=file.precision, path=file.path)


def _from_export(path: Path, given: _Given) -> Model:
    from latbench.model.exported_program import read_program

    file = read_program(path)
    samples, batch = _of_file(path.name, file.inputs, given, file.samples)
    return tried(Model(path.name, samples, module=file.module, keywords=file.keywords, batch=batch))


def _of_file(
    source: str, declared: Sequence[DeclaredInput], given: _Given, own: Mapping[str, Any]
) -> tuple[dict[str, Any], int | None]:
    """Return the samples of a file that declares its inputs, and their batch, where somebody says what it is."""
    names = [value.name for value in declared]
    asked: Mapping[str, Any]
    if given.samples is not None:
        asked = dict(leaves(named_samples(source, names, given.samples)))
    else:
        requests = given.requests(names)
        _check_known(source, dict.fromkeys(names), {request.name: None for request in requests})
        asked = requested_inputs(requests, declared)
    samples = {**own, **asked}
    if given.batch is None:
        complete = complete_inputs(source, declared, samples)
        return complete, stated_batch(declared, complete)
    # Where the file leaves no dimension free, its own words say what does not fit.
    batched = batch_inputs(declared) or names
    samples = {name: with_batch(x, given.batch) if name in batched else x for name, x in samples.items()}
    return complete_inputs(source, declared, samples, dict.fromkeys(batched, given.batch)), given.batch


def _from_factory(source: str, factory: Callable[[], Any], given: _Given) -> Model:
    from torch import nn

    made = _made(source, factory)
    module, own = made if isinstance(made, tuple) and len(made) == 2 else (made, {})
    if not isinstance(module, nn.Module):
        count = f" of {len(module)}" if isinstance(module, tuple) else ""
        raise ModelError(
            f"the factory {source!r} returned {type(module).__name__}{count}: return a torch.nn.Module, or a pair of "
            "one and its samples"
        )
    owner, names = repr(source), parameter_names(module)
    named = named_samples(owner, names, own)
    if given.samples is not None:
        asked = named_samples(owner, names, given.samples)
        _check_known(source, named, asked)
        named = {**named, **asked}
    return tried(_with_texts(source, owner, module, named, given))


def _with_texts(source: str, owner: str, module: nn.Module, named: dict[str, Any], given: _Given) -> Model:
    """Return the model with what its user asks for in place of the samples of its factory, or beside them."""
    own = dict(leaves(named))
    requests = given.requests(list(own) or parameter_names(module) or [])
    _check_known(source, own, {request.name: None for request in requests})

    def model_with(rows: Mapping[str, int]) -> Model:
        declared = [_declared(name, x, rows.get(name, 0)) for name, x in own.items()]
        known = {value.name for value in declared}
        declared += [_asked(request, rows.get(request.name, 0)) for request in requests if request.name not in known]
        asked = requested_inputs(requests, declared)
        samples = replaced(named, asked) | {name: x for name, x in asked.items() if name not in own}
        if not any(True for _ in leaves(samples)):
            raise ModelError(f"the inputs of {source!r} are not known: {_HOW}")
        if given.batch is not None:
            samples |= replaced(samples, all_with_batch(owner, dict(leaves(samples)), given.batch))
        ordered, keywords = in_order(owner, module, samples)
        return Model(source, ordered, module=lambda: evaluated(module), keywords=keywords, batch=given.batch)

    drawn = [request for request in requests if not request.value and request.file is None]
    integers = [request.name for request in drawn if _is_integer(request, own)]
    return model_with(_rows(model_with, integers) if integers else {})


def _rows(model_with: Callable[[Mapping[str, int]], Model], integers: Sequence[str]) -> Mapping[str, int]:
    """Return the tables that inputs index, seen while the module runs on zeros, which are valid indices of any."""
    import warnings

    from latbench.model.tables import table_rows

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = model_with(dict.fromkeys(integers, 1))
    try:
        return table_rows(model.module, dict(zip(model.inputs, model.tensors(), strict=True)))
    except Exception:  # noqa: BLE001 - the trial tells what is wrong with it
        return {}


def _declared(name: str, sample: Any, rows: int) -> DeclaredInput:
    dtype = (
        sample.dtype.name if isinstance(sample, np.ndarray | np.generic) else str(sample.dtype).removeprefix("torch.")
    )
    return DeclaredInput(name, tuple(sample.shape), dtype, rows=rows)


def _asked(request: InputRequest, rows: int) -> DeclaredInput:
    return DeclaredInput(request.name, request.shape, request.dtype or "float32", rows=rows)


def _is_integer(request: InputRequest, own: Mapping[str, Any]) -> bool:
    dtype = request.dtype or (_declared(request.name, own[request.name], 0).dtype if request.name in own else "float32")
    return named_dtype(dtype).kind in "iu"


def _check_known(source: str, own: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    for name in asked if own else ():
        if name not in own:
            raise ModelError(f"{source} has no input {name!r}: {did_you_mean(name, own)}")


def _found(source: str) -> Any:
    module_name, _, name = source.partition(":")
    try:
        return getattr(importlib.import_module(module_name), name)
    except (ModuleNotFoundError, AttributeError) as error:
        raise ModelError(f"cannot find the factory {source!r}: {error}") from error
    except SystemExit as error:
        raise ModelError(
            f"importing {module_name!r} ends the program (SystemExit: {error}), as scripts do that parse arguments or "
            "need what is not there: keep what runs under if __name__ == '__main__', or name a file without it"
        ) from error
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
        remedy = ": build it on the CPU, from where each backend moves it" if "CUDA" in str(error) else ""
        raise ModelError(f"the factory {source!r} raised {type(error).__name__}: {error}{remedy}") from error


def _takes_nothing(factory: Callable[..., Any]) -> bool:
    try:
        inspect.signature(factory).bind()
    except TypeError:
        return False
    except ValueError:  # built in, without a signature: calling it will tell
        return True
    return True
