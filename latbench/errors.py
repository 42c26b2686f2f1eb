"""The exceptions of latbench.

    LatbenchError
    ├── UsageError                  the user can mend it; the command line exits with 2
    │   ├── PluginError             an unknown name, a missing library or device, two packages under one name
    │   ├── ParseError              a text that is not an architecture of the space
    │   ├── ShapeError              an array or alphas of the wrong shape (also a ValueError)
    │   ├── NotDifferentiableError  a predictor that a search cannot differentiate (also a TypeError)
    │   ├── NoCounterError          a device whose energy a meter cannot count
    │   ├── ModelError              a model file or factory that cannot be used
    │   ├── StoreError              a store of another space, device or schema; a folder that cannot be written
    │   ├── PredictorFileError      a truncated, foreign or mismatched predictor file
    │   └── DataError               values that cannot be labels: NaN, negative, too few
    └── MeasurementError            the device failed; the command line exits with 1
        ├── CompileError            the backend could not compile the model
        ├── OutputMismatchError     the compiled model computes something else than the module
        ├── OutOfMemoryError        the device's memory does not hold the model, or not beside others
        ├── CounterError            an energy counter that can no longer be read, stands still or goes backwards
        └── WorkerDiedError         the process that measured crashed, hung or ran out of memory

Every message states the fact, then the remedy: ``no backend named 'cppu': did you mean 'cpu'?``
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

_ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
"""The codes that colour a terminal's text."""


class LatbenchError(Exception):
    """The base of every exception that latbench raises on purpose.

    What a library said may be part of the message: its colours are left out, for logs and JSON have none.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(without_colours(str(message)))


def without_colours(text: str) -> str:
    """Return a text without the codes that colour a terminal's."""
    return _ANSI.sub("", text)


def reason(error: BaseException) -> str:
    """Return what an exception says, preceded by its class unless it is one of latbench's."""
    return str(error) if isinstance(error, LatbenchError) else without_colours(f"{type(error).__name__}: {error}")


def first_line(error: BaseException) -> str:
    """Return the first line of what an exception says, without colours; its class where it says nothing."""
    return without_colours(str(error)).strip().partition("\n")[0].rstrip() or type(error).__name__


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the remedy for an unknown name: ``did you mean 'cpu'?``, or what there is to choose from."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    if len(known) == 1:
        return f"there is only {known[0]!r}"
    return f"choose one of {', '.join(known)}" if known else "there are none"


class UsageError(LatbenchError):
    """The user can mend it: the message says how."""


class PluginError(UsageError):
    """A plug-in is unknown, not available here, or registered twice."""


class ParseError(UsageError):
    """A text does not parse; the message says where."""


class ShapeError(UsageError, ValueError):
    """An array has the wrong shape; the message gives the expected and the given one."""


class NotDifferentiableError(UsageError, TypeError):
    """A predictor has no differentiable form; the message says which ones do."""


class NoCounterError(UsageError):
    """A device has no energy counter that the meter can read; the message says why, and what to use instead."""


class ModelError(UsageError):
    """A model file or factory cannot be used."""


class StoreError(UsageError):
    """A store cannot be opened or written, or holds another space, device or schema."""


class PredictorFileError(UsageError):
    """A predictor file is truncated, foreign, or made for something else."""


class DataError(UsageError):
    """Values that cannot be used as labels: NaN, negative, or too few of them."""


class MeasurementError(LatbenchError):
    """The device failed while compiling or running a model."""


class CompileError(MeasurementError):
    """The backend could not compile the model."""


class OutputMismatchError(MeasurementError):
    """The compiled model's outputs differ from the module's."""


class OutOfMemoryError(MeasurementError):
    """The device's memory does not hold a model, or not beside those already there."""


class CounterError(MeasurementError):
    """An energy counter failed while it was read; the model that ran meanwhile is not to blame."""


class WorkerDiedError(MeasurementError):
    """The process that measured crashed, hung or ran out of memory."""
