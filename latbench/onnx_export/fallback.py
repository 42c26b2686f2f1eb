"""What the direct writer does not know, written by torch's own exporter."""

from __future__ import annotations

import importlib.util
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any

import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from latbench.errors import ModelError, first_line
from latbench.tracing.keeping import Keepsake


def write_with_torch(module: nn.Module, inputs: Mapping[str, NDArray[Any] | Tensor], reason: str) -> bytes:
    """Write a module by `torch.onnx.export`; leave it as it was, bit for bit.

    Raises:
        ModelError: it cannot be written; the message has the reason why the direct writer did not, and torch's own.
    """
    if importlib.util.find_spec("onnxscript") is None:
        raise ModelError(f"{reason}, and torch.onnx.export needs 'onnxscript': pip install onnxscript")
    samples = tuple(value if isinstance(value, Tensor) else torch.from_numpy(value) for value in inputs.values())
    keepsake, buffers = Keepsake(module), [(buffer, buffer.clone()) for buffer in module.buffers()]
    with warnings.catch_warnings(), _silence(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")  # its own deprecations: the user cannot mend them
        try:
            data = _exported(module, samples, list(inputs))
        except Exception as error:  # torch.export raises what the module raises
            raise ModelError(
                f"{type(module).__name__} cannot be written as ONNX "
                f"({reason}; torch.onnx.export: {cause(error)}): measure it on a backend that runs modules"
            ) from error
        finally:
            keepsake.restore()
            _restore(buffers)
    if not _reads_inputs(onnx.load_model_from_string(data)):
        raise ModelError(
            f"{type(module).__name__} cannot be written as ONNX ({reason}; what torch.onnx.export writes does not "
            "depend on the inputs): measure it on a backend that runs modules"
        )
    return data


def _exported(module: nn.Module, samples: tuple[Tensor, ...], names: list[str]) -> bytes:
    if isinstance(module, torch.jit.ScriptModule):  # the newer exporter takes no TorchScript
        buffer = io.BytesIO()
        torch.onnx.export(module, samples, buffer, input_names=names, dynamo=False)  # type: ignore[arg-type]
        return buffer.getvalue()
    program = torch.onnx.export(module, samples, input_names=names, dynamo=True, verbose=False)
    assert program is not None
    return bytes(program.model_proto.SerializeToString())


@contextmanager
def _silence() -> Iterator[None]:
    """Keep off the screen what torch's exporter prints and logs on its way: an error has all of it."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(before)


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


def cause(error: BaseException) -> str:
    """Return the first line of what an error comes from: torch's exporter wraps it in advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {first_line(error)}"
