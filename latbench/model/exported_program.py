"""Read a .pt2 file of `torch.export` without unpickling anything but tensors.

`torch.export.load` unpickles freely: in torch 2.13 the sample inputs fall back to ``torch.load(weights_only=False)``,
weights marked ``use_pickle`` always do, constants named ``custom_obj_`` and ``opaque_obj_`` are unpickled
whatever they are, and a compiled model under ``data/aotinductor`` is a shared library that gets loaded. So only plain
records are accepted here, and while they are read ``TORCH_FORCE_WEIGHTS_ONLY_LOAD`` makes every ``torch.load`` refuse
anything but tensors in plain containers.

A .pt2 file is still a program: measure only what you would run.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from latbench.errors import ModelError, first_line
from latbench.model.inputs import DeclaredInput
from latbench.tracing.quiet import quiet

_PLAIN = ("models/", "data/weights/", "data/sample_inputs/", "extra/", ".data/", "data/constants/tensor_")
_PLAIN_NAMES = ("archive_format", "archive_version", "byteorder", "version")
_WEIGHTS_ONLY = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"


@dataclass(frozen=True, slots=True)
class ProgramFile:
    """An exported program.

    Args:
        program: as torch reads it.
        inputs: what it takes, in the order of its arguments.
        samples: the inputs that it was exported with, by name.
        positional: how many of the inputs are positional; the others go by keyword.
    """

    program: ExportedProgram
    inputs: tuple[DeclaredInput, ...]
    samples: dict[str, Tensor]
    positional: int

    def module(self) -> nn.Module:
        """Build the module. An exported program has its mode built in: no eval()."""
        return self.program.module()

    @property
    def keywords(self) -> tuple[str, ...]:
        """The inputs that go by keyword."""
        return tuple(value.name for value in self.inputs[self.positional :])


def read_program(path: Path) -> ProgramFile:
    """Read a .pt2 file.

    Raises:
        ModelError: the file is missing, not of `torch.export`, holds records that run code when they are
            read, was exported in training mode, or takes anything but tensors.
    """
    program = _load(path)
    if operator := next(_training_operators(program), None):
        raise ModelError(
            f"{path} was exported in training mode ({operator} trains): call .eval() on the module before torch.export"
        )
    positional, keyword = program.example_inputs or ((), {})
    values = [*positional, *keyword.values()]
    names = program.graph_signature.user_inputs
    if not values or len(values) != len(names) or not all(isinstance(value, Tensor) for value in values):
        raise ModelError(f"{path} takes more than tensors: export a module whose arguments are tensors")
    declared = {node.name: node.meta["val"] for node in program.graph.nodes if node.op == "placeholder"}
    samples = dict(zip(names, values, strict=True))
    inputs = tuple(_declared(name, declared[name].shape, sample.dtype) for name, sample in samples.items())
    return ProgramFile(program, inputs, samples, len(positional))


def _declared(name: str, shape: Sequence[Any], dtype: torch.dtype) -> DeclaredInput:
    sizes = tuple(size if isinstance(size, int) else None for size in shape)
    symbol = str(shape[0]) if sizes and sizes[0] is None else ""
    return DeclaredInput(name, sizes, str(dtype).removeprefix("torch."), symbol)


def _load(path: Path) -> ExportedProgram:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from error
    try:
        from torch.export.pt2_archive import PT2ArchiveReader

        with PT2ArchiveReader(io.BytesIO(data)) as archive:
            records: list[str] = archive.get_file_names()
    except Exception as error:  # torch's reader raises RuntimeError, and others, on a foreign file
        raise ModelError(
            f"{path} is not a .pt2 archive: write one with torch.export.save of torch 2.8 or newer"
        ) from error
    for record in records:
        if (
            not record.startswith(_PLAIN)
            and record not in _PLAIN_NAMES
            and not record.endswith("_constants_config.json")
        ):
            raise ModelError(
                f"{path} holds {record!r}, which runs code when it is read: export a module that holds only tensors"
            )
    try:
        with quiet(), _weights_only():
            return torch.export.load(io.BytesIO(data))
    except Exception as error:  # torch.export raises anything from RuntimeError to KeyError
        raise ModelError(f"cannot open {path} as a file of torch.export ({first_line(error)})") from error


@contextmanager
def _weights_only() -> Iterator[None]:
    before = os.environ.get(_WEIGHTS_ONLY)
    os.environ[_WEIGHTS_ONLY] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_WEIGHTS_ONLY]
        else:
            os.environ[_WEIGHTS_ONLY] = before


def _training_operators(program: ExportedProgram) -> Iterator[str]:
    """Yield the operators that were exported in training mode: dropout that drops, batch norm that learns."""
    for node in program.graph.nodes:
        if isinstance(node.target, torch._ops.OpOverload):
            names = (argument.name for argument in node.target._schema.arguments)
            arguments = {**dict(zip(names, node.args, strict=False)), **node.kwargs}
            if arguments.get("train") is True or arguments.get("training") is True:
                yield str(node.target.overloadpacket.__name__)
