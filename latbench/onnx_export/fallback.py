"""What the direct writer does not know, written by torch's own exporter."""

from __future__ import annotations

import importlib.util
import re
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from latbench.errors import ModelError
from latbench.tracing.keeping import Keepsake
from latbench.tracing.quiet import quiet

_COLOURS = re.compile(r"\x1b?\[\d+m")


def write_with_torch(module: nn.Module, inputs: Mapping[str, NDArray[Any] | Tensor], reason: str) -> bytes:
    """Write a module by `torch.onnx.export`; leave it as it was, bit for bit.

    Raises:
        ModelError: it cannot be written; the message has the reason why the direct writer did not, and torch's own.
    """
    if importlib.util.find_spec("onnxscript") is None:
        raise ModelError(f"{reason}, and torch.onnx.export needs 'onnxscript': pip install onnxscript")
    samples = tuple(value if isinstance(value, Tensor) else torch.from_numpy(value) for value in inputs.values())
    keepsake, buffers = Keepsake(module), [(buffer, buffer.clone()) for buffer in module.buffers()]
    with warnings.catch_warnings(), quiet(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")  # its own deprecations: the user cannot mend them
        try:
            program = torch.onnx.export(module, samples, input_names=list(inputs), dynamo=True, verbose=False)
        except Exception as error:  # torch.export raises what the module raises
            raise ModelError(
                f"{type(module).__name__} cannot be written as ONNX "
                f"({reason}; torch.onnx.export: {cause(error)}): measure it on a backend that runs modules"
            ) from error
        finally:
            keepsake.restore()
            _restore(buffers)
    assert program is not None
    model = program.model_proto
    if not _reads_inputs(model):
        raise ModelError(
            f"{type(module).__name__} cannot be written as ONNX ({reason}; what torch.onnx.export writes does not "
            "depend on the inputs): measure it on a backend that runs modules"
        )
    data: bytes = model.SerializeToString()
    return data


def _restore(buffers: list[tuple[Tensor, Tensor]]) -> None:
    with torch.no_grad():
        for buffer, before in buffers:
            if not torch.equal(buffer, before):
                buffer.copy_(before)


def _reads_inputs(model: Any) -> bool:
    """Whether any output of a file is computed from any of its inputs."""
    wanted = {output.name for output in model.graph.output}
    inputs = {value.name for value in model.graph.input}
    for node in reversed(model.graph.node):  # they are sorted: what reads a result comes after it
        if wanted.intersection(node.output):
            wanted.update(node.input)
            wanted.update(name for inner in node.attribute for part in inner.g.node for name in part.input)
    return bool(wanted & inputs) or not inputs


def first_line(error: BaseException) -> str:
    """Return the first line of an error, without terminal colours."""
    return _COLOURS.sub("", str(error).strip().partition("\n")[0]) or type(error).__name__


def cause(error: BaseException) -> str:
    """Return the first line of what an error comes from: torch's exporter wraps it in advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {first_line(error)}"
