"""The sample inputs of a model: what a user asks for, checked against what a model file declares."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latbench.errors import ModelError, UsageError, did_you_mean

Inputs = Mapping[str, NDArray[Any]]
DTYPES = ("float32", "float16", "float64", "int64", "int32", "int16", "int8", "uint8", "bool")
_INPUT = re.compile(r"(?P<name>.+?):(?P<shape>[1-9]\d*(?:x[1-9]\d*)*)(?::(?P<dtype>\w+))?")


@dataclass(frozen=True, slots=True)
class InputRequest:
    """An input as a user asks for it; `dtype` is empty where the model decides."""

    name: str
    shape: tuple[int, ...]
    dtype: str = ""

    @classmethod
    def parse(cls, text: str) -> InputRequest:
        """Read ``name:1x3x224x224:float32``, or ``name:1x3x224x224``.

        Raises:
            UsageError: the text has another form, or the type does not exist.
        """
        match = _INPUT.fullmatch(text)
        if match is None:
            raise UsageError(f"input {text!r} is not name:shape:dtype: write for example x:1x3x224x224:float32")
        dtype = match["dtype"] or ""
        if dtype and dtype not in DTYPES:
            raise UsageError(f"input {text!r} has no type {dtype!r}: choose one of {', '.join(DTYPES)}")
        return cls(match["name"], tuple(map(int, match["shape"].split("x"))), dtype)


@dataclass(frozen=True, slots=True)
class DeclaredInput:
    """An input as a model file declares it.

    Args:
        name: of the input.
        shape: None for a dimension that is free; None instead of a shape where not even their number is known.
        dtype: NumPy's name of its type.
    """

    name: str
    shape: tuple[int | None, ...] | None
    dtype: str

    def __str__(self) -> str:
        return "of any shape" if self.shape is None else "x".join(str(size or "?") for size in self.shape)

    def accepts(self, shape: tuple[int, ...]) -> bool:
        """Whether a sample of this shape fits."""
        if self.shape is None:
            return True
        return len(shape) == len(self.shape) and all(
            mine in (None, given) for mine, given in zip(self.shape, shape, strict=True)
        )


def sample_input(shape: tuple[int, ...], *, dtype: np.dtype[Any] | type | str = np.float32) -> NDArray[Any]:
    """Draw a standard normal array, always the same one for a shape; integers are zeros, which are valid indices."""
    if not np.issubdtype(dtype, np.floating):
        return np.zeros(shape, dtype)
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32).astype(dtype)


def with_batch(sample: NDArray[Any], batch: int | None) -> NDArray[Any]:
    """Repeat or cut a sample along its first dimension, so that it holds `batch` inputs; None leaves it as it is."""
    if batch is None or sample.ndim == 0 or len(sample) == batch:
        return sample
    return np.resize(sample, (batch, *sample.shape[1:]))


def requested_inputs(
    requests: Sequence[InputRequest], batch: int | None, declared: Sequence[DeclaredInput] = ()
) -> dict[str, NDArray[Any]]:
    """Draw what a user asks for; a type that was left out is the declared one, or float32.

    Raises:
        UsageError: a name is asked for twice.
    """
    dtypes = {value.name: value.dtype for value in declared}
    samples: dict[str, NDArray[Any]] = {}
    for request in requests:
        if request.name in samples:
            raise UsageError(f"input {request.name!r} is given twice: give each --input once")
        dtype = request.dtype or dtypes.get(request.name, "float32")
        samples[request.name] = with_batch(sample_input(request.shape, dtype=dtype), batch)
    return samples


def complete_inputs(
    source: str, declared: Sequence[DeclaredInput], given: Inputs, batch: int | None = None
) -> dict[str, NDArray[Any]]:
    """Return a sample of every declared input: the given one, or one that is drawn from the declaration.

    Args:
        source: of the model, for messages.
        declared: its inputs, in its order.
        given: samples by name, in any order.
        batch: what free first dimensions become.

    Raises:
        ModelError: an unknown name, a sample that does not fit, or a free dimension that nothing decides.
    """
    names = [value.name for value in declared]
    for name in given:
        if name not in names:
            raise ModelError(f"{source} has no input {name!r}: {did_you_mean(name, names)}")
    samples = {
        value.name: given[value.name] if value.name in given else _drawn(source, value, batch) for value in declared
    }
    for value in declared:
        _check(source, value, samples[value.name])
    return samples


def _drawn(source: str, declared: DeclaredInput, batch: int | None) -> NDArray[Any]:
    shape = declared.shape
    if shape and batch is not None:
        shape = (batch, *shape[1:])
    if shape is None or None in shape:
        example = "x".join(str(size or 1) for size in shape) if shape else "1x3x224x224"
        also = " or --batch 1" if shape and None not in shape[1:] else ""
        raise ModelError(
            f"input {declared.name!r} of {source} has no fixed shape ({declared}): "
            f"give --input {declared.name}:{example}:{declared.dtype}{also}, or in Python inputs="
        )
    return sample_input(tuple(size for size in shape if size is not None), dtype=declared.dtype)


def _check(source: str, declared: DeclaredInput, sample: NDArray[Any]) -> None:
    shape = "x".join(map(str, sample.shape))
    if not declared.accepts(sample.shape):
        raise ModelError(
            f"input {declared.name!r} of {source} is {declared}, not {shape}: "
            "give that shape, or export the network with a free dimension"
        )
    if sample.dtype != np.dtype(declared.dtype):
        raise ModelError(
            f"input {declared.name!r} of {source} is {declared.dtype}, not {sample.dtype}: "
            f"give a sample of {declared.dtype}"
        )
