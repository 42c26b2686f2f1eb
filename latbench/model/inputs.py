"""The sample inputs of a model: what a user asks for, checked against what a model file declares."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latbench.errors import ModelError, UsageError, did_you_mean, first_line

Inputs = Mapping[str, NDArray[Any]]
DTYPES = ("float32", "float16", "bfloat16", "float64", "int64", "int32", "int16", "int8", "uint8", "bool")
_SHAPE = re.compile(r"(?P<name>.+?):(?P<shape>\d+(?:x\d+)*)?(?::(?P<dtype>[a-z]\w*))?")
_FORMS = "write for example x:1x3x224x224:float32, steps:1:int64=50 or x=@x.npy"
_SEQUENCES = re.compile(r"seq|len|time|tok|frame|step|point|node|word|past", re.IGNORECASE)
"""Names of free first dimensions that are no batch."""
_IMAGES = 3


class SampleNote(UserWarning):
    """What a reader should know of the samples that a model was measured with."""


@dataclass(frozen=True, slots=True)
class InputRequest:
    """An input as a user asks for it.

    Args:
        name: of the input.
        shape: None where the model, or the file of values, decides.
        dtype: empty where the model decides.
        value: what all of it holds, as text; empty for numbers that latbench draws.
        file: a ``.npy`` file with the values.
    """

    name: str
    shape: tuple[int, ...] | None = None
    dtype: str = ""
    value: str = ""
    file: Path | None = None

    @classmethod
    def parse(cls, text: str, names: Collection[str] = ()) -> InputRequest:
        """Read ``name:1x3x224x224:float32``, the same with ``=value`` or ``=@file``, and shorter forms of these.

        Args:
            text: what the user writes.
            names: what the model calls its inputs, where that is known: a name may hold colons and equals signs.

        Raises:
            UsageError: the text has another form, or the type does not exist.
        """
        known = max((name for name in names if re.match(re.escape(name) + r"([:=]|$)", text)), key=len, default="")
        rest, equals, value = text[len(known) :].partition("=")
        match = _SHAPE.fullmatch((known and "-") + rest)
        if equals and re.fullmatch(r"\d+(x\d+)+", value):
            raise UsageError(f"input {text!r} is not name:shape:dtype: a shape stands behind a colon, a value behind =")
        file = Path(value[1:]) if value.startswith("@") else None
        if match is None and equals and value and (rest == "" if known else ":" not in rest):
            return cls(known or rest, value="" if file else value, file=file)
        if match is None or (match["shape"] is None and match["dtype"] is None) or bool(equals) != bool(value):
            raise UsageError(f"input {text!r} is not name:shape:dtype, nor has it a value: {_FORMS}")
        dtype = match["dtype"] or ""
        if dtype and dtype not in DTYPES:
            raise UsageError(f"input {text!r} has no type {dtype!r}: choose one of {', '.join(DTYPES)}")
        shape = tuple(map(int, match["shape"].split("x"))) if match["shape"] else None
        if shape is None and not value:
            raise UsageError(f"input {text!r} has no shape: {_FORMS}")
        return cls(known or match["name"], shape, dtype, "" if file else value, file)


@dataclass(frozen=True, slots=True)
class DeclaredInput:
    """An input as a model file declares it.

    Args:
        name: of the input.
        shape: None for a dimension that is free; None instead of a shape where not even their number is known.
        dtype: NumPy's name of its type.
        symbol: what the file calls the first dimension, if that is free.
        rows: how many rows the tables have into which this input is an index; 0 where it is none.
    """

    name: str
    shape: tuple[int | None, ...] | None
    dtype: str
    symbol: str = ""
    rows: int = 0

    def __str__(self) -> str:
        if self.shape is None:
            return "of any shape"
        return "x".join("?" if size is None else str(size) for size in self.shape) or "a scalar"

    def accepts(self, shape: tuple[int, ...]) -> bool:
        """Whether a sample of this shape fits."""
        if self.shape is None:
            return True
        return len(shape) == len(self.shape) and all(
            mine in (None, given) for mine, given in zip(self.shape, shape, strict=True)
        )

    @property
    def has_batch(self) -> bool:
        """Whether the first dimension is free, and not called a length."""
        return bool(self.shape) and self.shape is not None and self.shape[0] is None and not _is_length(self.symbol)


def _is_length(symbol: str) -> bool:
    return bool(_SEQUENCES.search(symbol))


def sample_input(shape: tuple[int, ...], *, dtype: np.dtype[Any] | type | str = np.float32) -> NDArray[Any]:
    """Draw a standard normal array, always the same one for a shape; integers are zeros, which are valid indices."""
    dtype = named_dtype(dtype) if isinstance(dtype, str) else dtype
    if np.dtype(dtype).kind in "iub":
        return np.zeros(shape, dtype)
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32).astype(dtype)


def drawn_input(declared: DeclaredInput, shape: tuple[int, ...]) -> NDArray[Any]:
    """Draw an input that nobody gives values for, with a note where its values may decide the work.

    Indices of tables are drawn among their rows and images among all bytes; other integers and booleans are ones: a
    mask that hides nothing, one step.
    """
    dtype = named_dtype(declared.dtype)
    if dtype.kind not in "iub":
        return sample_input(shape, dtype=dtype)
    rng = np.random.default_rng(0)
    if declared.rows:
        values, what = (
            rng.integers(declared.rows, size=shape),
            f"random numbers below {declared.rows}, the rows of its table",
        )
    elif dtype.itemsize == 1 and dtype.kind != "b" and len(shape) >= _IMAGES:
        limits = np.iinfo(dtype)
        values, what = rng.integers(limits.min, limits.max, size=shape, endpoint=True), "random bytes"
    else:
        values, what = np.ones(shape, np.int64), "True" if dtype.kind == "b" else "ones"
    warnings.warn(
        f"input {declared.name!r} is {declared.dtype}, and its values may decide how much is computed: it holds "
        f"{what}; give --input {declared.name}=VALUE or {declared.name}=@FILE.npy for others",
        SampleNote,
        stacklevel=2,
    )
    return values.astype(dtype)


def named_dtype(name: str) -> np.dtype[Any]:
    """Return the type of this name, bfloat16 among them, which NumPy lacks."""
    dtype: np.dtype[Any]
    if name == "bfloat16":
        import ml_dtypes

        dtype = np.dtype(ml_dtypes.bfloat16)
    else:
        dtype = np.dtype(name)
    return dtype


def requested_inputs(
    requests: Sequence[InputRequest], declared: Sequence[DeclaredInput] = ()
) -> dict[str, NDArray[Any]]:
    """Draw or read what a user asks for; a type that was left out is the declared one, or float32.

    Raises:
        UsageError: a name is asked for twice, a value does not fit its type, or a file cannot be read.
    """
    known = {value.name: value for value in declared}
    samples: dict[str, NDArray[Any]] = {}
    for request in requests:
        if request.name in samples:
            raise UsageError(f"input {request.name!r} is given twice: give each --input once")
        of = known.get(request.name) or DeclaredInput(request.name, None, "float32")
        samples[request.name] = _requested(request, of)
    return samples


def _requested(request: InputRequest, declared: DeclaredInput) -> NDArray[Any]:
    dtype = request.dtype or declared.dtype
    if request.file is not None:
        return _read(request)
    shape = request.shape
    if shape is None:
        if declared.shape is None or None in declared.shape:
            raise UsageError(
                f"input {request.name!r} has no fixed shape ({declared}): give {request.name}:SHAPE={request.value}"
            )
        shape = tuple(size for size in declared.shape if size is not None)
    if request.value:
        return np.full(shape, _number(request, named_dtype(dtype)))
    rows = declared.rows if declared.dtype == dtype else 0
    return drawn_input(DeclaredInput(request.name, shape, dtype, rows=rows), shape)


def _number(request: InputRequest, dtype: np.dtype[Any]) -> Any:
    text = request.value.lower()
    wrong = UsageError(
        f"input {request.name!r} is {dtype.name}, and {request.value!r} is none: give a number that fits"
    )
    try:
        number = {"true": 1.0, "false": 0.0}.get(text) if text in ("true", "false") else None
        number = number if number is not None else int(text) if dtype.kind in "iu" else float(text)
    except ValueError:
        raise wrong from None
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        if not limits.min <= number <= limits.max:
            raise wrong
    if dtype.kind == "b" and number not in (0, 1):
        raise wrong
    with np.errstate(over="ignore"):
        cast = np.asarray(number).astype(dtype)
    if dtype.kind not in "iub" and math.isfinite(number) and not math.isfinite(float(cast)):
        raise wrong
    return cast


def _read(request: InputRequest) -> NDArray[Any]:
    path = request.file
    assert path is not None
    try:
        array = np.load(path, allow_pickle=False)
    except OSError as error:
        raise UsageError(f"cannot read {path} for input {request.name!r}: {error.strerror or error}") from error
    except (ValueError, EOFError) as error:
        raise UsageError(
            f"{path} for input {request.name!r} is no file of numpy.save ({first_line(error)}): write one with it"
        ) from error
    if not isinstance(array, np.ndarray):
        raise UsageError(f"{path} for input {request.name!r} holds several arrays: give a .npy file, which holds one")
    if request.shape is not None and request.shape != array.shape:
        wanted, held = ("x".join(map(str, shape)) for shape in (request.shape, array.shape))
        raise UsageError(f"{path} holds {held}, not {wanted}: leave the shape of input {request.name!r} out")
    if request.dtype and named_dtype(request.dtype) != array.dtype:
        raise UsageError(
            f"{path} holds {array.dtype}, not {request.dtype}: leave the type of input {request.name!r} out"
        )
    return array


def complete_inputs(
    source: str, declared: Sequence[DeclaredInput], given: Mapping[str, Any], batches: Mapping[str, int] | None = None
) -> dict[str, Any]:
    """Return a sample of every declared input: the given one, or one that is drawn from the declaration.

    Args:
        source: of the model, for messages.
        declared: its inputs, in its order.
        given: samples by name, in any order.
        batches: the first dimensions of inputs whose batch is asked for.

    Raises:
        ModelError: an unknown name, a sample that does not fit, or a free dimension that nothing decides.
    """
    names = [value.name for value in declared]
    for name in given:
        if name not in names:
            raise ModelError(f"{source} has no input {name!r}: {did_you_mean(name, names)}")
    batches = batches or {}
    samples = {
        value.name: given[value.name] if value.name in given else _drawn(source, value, batches.get(value.name))
        for value in declared
    }
    for value in declared:
        _check(source, value, samples[value.name])
    return samples


def _drawn(source: str, declared: DeclaredInput, batch: int | None) -> NDArray[Any]:
    shape = declared.shape
    if shape and batch is not None:
        shape = (batch, *shape[1:])
    if shape is None or None in shape:
        example = "x".join("1" if size is None else str(size) for size in shape) if shape else "1x3x224x224"
        also = " or --batch 1" if declared.has_batch and shape and None not in shape[1:] else ""
        raise ModelError(
            f"input {declared.name!r} of {source} has no fixed shape ({declared}): "
            f"give --input {declared.name}:{example}:{declared.dtype}{also}, or in Python inputs="
        )
    return drawn_input(declared, tuple(size for size in shape if size is not None))


def _check(source: str, declared: DeclaredInput, sample: Any) -> None:
    shape = "x".join(map(str, sample.shape)) or "a scalar"
    if not declared.accepts(tuple(sample.shape)):
        raise ModelError(
            f"input {declared.name!r} of {source} is {declared}, not {shape}: "
            "give that shape, or export the network with a free dimension"
        )
    dtype = str(sample.dtype).removeprefix("torch.")
    if dtype != declared.dtype:
        raise ModelError(
            f"input {declared.name!r} of {source} is {declared.dtype}, not {dtype}: give a sample of {declared.dtype}"
        )
