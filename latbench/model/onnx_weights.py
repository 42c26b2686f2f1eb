"""The tensors of an ONNX file whose values lie in other files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from latbench.errors import ModelError

if TYPE_CHECKING:
    from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto


def external_tensors(model: ModelProto) -> Iterator[TensorProto]:
    """Yield the tensors with values elsewhere: weights, constants, and those of branches, loops and functions."""
    for tensor in _of_graph(model.graph):
        if _is_external(tensor):
            yield tensor
    for function in model.functions:
        for tensor in _of_nodes(function.node):
            if _is_external(tensor):
                yield tensor


def external_bytes(tensors: Sequence[TensorProto], path: Path) -> int:
    """Return how many bytes these tensors have.

    Raises:
        ModelError: one of their files is missing, or lies outside the folder of the model.
    """
    return sum(_place(tensor, path)[2] for tensor in tensors)


def take_in(tensors: Sequence[TensorProto], path: Path) -> None:
    """Read the values of tensors into the model.

    Raises:
        ModelError: a file is missing, too short, or lies outside the folder of the model.
    """
    for tensor in tensors:
        file, offset, length = _place(tensor, path)
        with file.open("rb") as stream:
            stream.seek(offset)
            values = stream.read(length)
        if len(values) < length:
            raise ModelError(f"{file} is too short for the weight {tensor.name!r} of {path}: copy both files again")
        tensor.raw_data = values
        tensor.ClearField("external_data")
        tensor.ClearField("data_location")


def _is_external(tensor: TensorProto) -> bool:
    return tensor.data_location == tensor.EXTERNAL


def _place(tensor: TensorProto, path: Path) -> tuple[Path, int, int]:
    """Return the file, the offset and the length of a tensor's values.

    The file may be a link, as in the cache of the Hugging Face hub; a name that leads out of the folder is refused.
    """
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = PurePosixPath(entries.get("location", ""))
    if location.is_absolute() or ".." in location.parts or not location.parts:
        raise ModelError(
            f"{path} has weights in {str(location)!r}, outside its own folder: keep both files in one folder"
        )
    # A model may be a link to where its weights are, or have a link to them beside it.
    file = next(
        (folder / location for folder in (path.parent, path.resolve().parent) if (folder / location).exists()), None
    )
    if file is None:
        raise ModelError(
            f"cannot read the weights beside {path} ({location} is missing): keep both files in one folder"
        )
    offset = int(entries.get("offset", 0))
    return file, offset, int(entries["length"]) if "length" in entries else file.stat().st_size - offset


def _of_graph(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _of_nodes(graph.node)


def _of_nodes(nodes: Sequence[NodeProto]) -> Iterator[TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            yield from _of_attribute(attribute)


def _of_attribute(attribute: AttributeProto) -> Iterator[TensorProto]:
    if attribute.HasField("t"):
        yield attribute.t
    yield from attribute.tensors
    if attribute.HasField("g"):
        yield from _of_graph(attribute.g)
    for graph in attribute.graphs:
        yield from _of_graph(graph)
