"""Open what a user names on the command line: an ONNX file, a ``torch.export`` file, or ``module:factory``."""

from __future__ import annotations

import importlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latbench.errors import ModelError, UsageError
from latbench.model import Model, sample_input

_INPUT = re.compile(r"(?P<name>[^:]+):(?P<shape>\d+(?:x\d+)*)(?::(?P<dtype>\w+))?")


def open_model(source: str, inputs: Sequence[str] = ()) -> Model:
    """Open a model.

    Args:
        source: ``net.onnx``, ``net.pt2``, or ``module:factory`` where the factory returns a ``torch.nn.Module``, or
            a pair of one and its sample inputs (a dict of arrays or tensors by name).
        inputs: sample inputs as ``name:1x3x224x224:float32``; the type is float32 unless given.

    Raises:
        ModelError: the source cannot be opened, or its inputs are not known.
        UsageError: an input that is not ``name:shape:dtype``.
    """
    samples = dict(parse_input(text) for text in inputs)
    if source.endswith(".onnx"):
        return Model.from_onnx(source, samples)
    if source.endswith(".pt2"):
        return _from_export(Path(source), samples)
    if ":" not in source:
        raise ModelError(f"{source!r} is no model: give a file that ends in .onnx or .pt2, or 'module:factory'")
    return _from_factory(source, samples)


def parse_input(text: str) -> tuple[str, NDArray[Any]]:
    """Read ``name:1x3x224x224:float32`` and draw a sample of it; integer inputs are zeros.

    Raises:
        UsageError: another form, or no such type.
    """
    match = _INPUT.fullmatch(text)
    if match is None:
        raise UsageError(f"input {text!r} is not name:shape:dtype: write for example x:1x3x224x224:float32")
    shape = tuple(int(size) for size in match["shape"].split("x"))
    try:
        dtype = np.dtype(match["dtype"] or "float32")
    except TypeError as error:
        raise UsageError(f"input {text!r} has no type that NumPy knows: write for example float32 or int64") from error
    return match["name"], sample_input(shape, dtype=dtype)


def _from_export(path: Path, samples: dict[str, NDArray[Any]]) -> Model:
    import torch

    try:
        program = torch.export.load(path)
    except Exception as error:  # torch.export raises anything from OSError to KeyError on a foreign file
        raise ModelError(f"cannot open {path} as a torch.export file ({str(error).splitlines()[0]})") from error
    if not samples:
        arguments, _ = program.example_inputs or ((), {})
        samples = {f"input_{index}": value.numpy() for index, value in enumerate(arguments)}
    return Model(path.name, samples, module=program.module)


def _from_factory(source: str, samples: dict[str, NDArray[Any]]) -> Model:
    from torch import nn

    module_name, _, name = source.partition(":")
    try:
        made = getattr(importlib.import_module(module_name), name)()
    except (ModuleNotFoundError, AttributeError) as error:
        raise ModelError(f"cannot find the factory {source!r}: {error}") from error
    module, given = made if isinstance(made, tuple) else (made, {})
    if not isinstance(module, nn.Module):
        raise ModelError(f"the factory {source!r} gave a {type(module).__name__}: return a torch.nn.Module")
    samples = samples or {key: np.asarray(value) for key, value in given.items()}
    if not samples:
        raise ModelError(f"the inputs of {source!r} are not known: give --input x:1x3x224x224:float32")
    return Model(source, samples, module=lambda: module)
