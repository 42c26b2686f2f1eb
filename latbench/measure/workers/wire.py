"""What `latbench.measure.workers.ssh` and `latbench.measure.workers.remote` tell each other, one JSON document a line.

To the far machine go ``{"call": "places", "id": 1, "request": ...}``, ``{"call": "start", "id": 2, "request": ...,
"place": ...}`` and ``{"call": "renew"}``. Back come ``{"latbench": "0.1.0"}``, and then ``{"id": 2, "result": ...}`` or
``{"id": 2, "error": "PluginError", "message": ..., "index": ...}``, each behind `MARK`.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from latbench import errors
from latbench.backend import Device
from latbench.errors import LatbenchError, MeasurementError, PluginError, reason
from latbench.executor import Notify, Place, Request, SessionDiedError

MARK = "@latbench "
"""Begins every line of an answer: whatever else a login shell prints is none."""


@dataclass(frozen=True, slots=True)
class Relayed:
    """A request on its way through a machine that hands on its result as it is.

    Args:
        kind: the request's class, ``module:Class``.
        text: what its `to_json` wrote.
    """

    kind: str
    text: str

    @classmethod
    def of(cls, request: Request[Any]) -> Relayed:
        """Wrap a request."""
        kind = type(request)
        return cls(f"{kind.__module__}:{kind.__qualname__}", request.to_json())

    @property
    def request(self) -> Request[Any]:
        """The request itself."""
        module, _, name = self.kind.partition(":")
        read: Request[Any] = getattr(importlib.import_module(module), name).from_json(self.text)
        return read

    @property
    def threads(self) -> int:
        """Those of the request."""
        return self.request.threads

    @property
    def max_seconds(self) -> float:
        """Those of the request."""
        return self.request.max_seconds

    def to_json(self) -> str:
        """Write the request as one line of JSON."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Relayed:
        """Read what `to_json` wrote."""
        return cls(**json.loads(text))

    def run(self, notify: Notify) -> Any:
        """Run the request in this process."""
        return self.request.run(notify)

    def read_result(self, values: Any) -> Any:
        """Return the plain values, which are read where the request came from."""
        return values


def place_from(values: Mapping[str, Any]) -> Place:
    """Read a place from what `dataclasses.asdict` made of it."""
    return Place(**{**values, "device": Device(**values["device"])})


def failure(error: BaseException) -> dict[str, Any]:
    """Return plain values of an error; `raised` makes it again."""
    known = type(error).__name__ if isinstance(error, LatbenchError) else MeasurementError.__name__
    return {"error": known, "message": reason(error), "index": getattr(error, "index", None)}


def raised(values: Mapping[str, Any], host: str) -> LatbenchError:
    """Return the error that came back from a machine, with the machine's name unless a session is to blame."""
    message = values["message"]
    if values["error"] == SessionDiedError.__name__:
        return SessionDiedError(message, values["index"])
    kind = getattr(errors, values["error"], MeasurementError)
    if kind is PluginError:
        message += "; a plug-in must be installed there too, or lie in a folder of its PYTHONPATH"
    error: LatbenchError = kind(f"on {host}: {message}")
    return error
