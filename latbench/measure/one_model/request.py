"""What a worker is asked to measure: an ONNX file, a ``.pt2`` file or ``module:factory`` on some backends."""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from latbench import errors
from latbench.backend import CompileOptions
from latbench.executor import Notify
from latbench.measure.one_model.record import ModelRecord, Refusal
from latbench.measure.one_model.sessions import measure_on_backends
from latbench.measure.settings import Settings
from latbench.model.source import open_model


@dataclass(frozen=True, slots=True)
class SourceResult:
    """What became of a model on each backend.

    Args:
        name: the model's.
        results: in the order of the backends that were asked for.
        notes: what the user should know about how it was opened and measured.
    """

    name: str
    results: tuple[ModelRecord | Refusal, ...]
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        results = [
            {"backend": r.backend, "error": type(r.error).__name__, "message": str(r.error)}
            if isinstance(r, Refusal)
            else dataclasses.asdict(r)
            for r in self.results
        ]
        return {"name": self.name, "results": results, "notes": list(self.notes)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> SourceResult:
        """Read what `to_json` wrote."""
        results = [
            Refusal(r["backend"], getattr(errors, r["error"])(r["message"]))
            if "error" in r
            else ModelRecord.from_json(r)
            for r in values["results"]
        ]
        return cls(values["name"], tuple(results), tuple(values["notes"]))


@dataclass(frozen=True, slots=True)
class SourceRequest:
    """One model on some backends; see `latbench.model.source.open_model` and `measure_on_backends`."""

    source: str
    inputs: tuple[str, ...]
    batch: int | None
    backends: tuple[str, ...]
    options: CompileOptions
    settings: Settings
    seed: int
    with_operators: bool

    @property
    def threads(self) -> int:
        """The threads of one inference."""
        return self.options.threads

    @property
    def max_seconds(self) -> float:
        """The longest that the timing of one session may take."""
        return self.settings.max_seconds

    def to_json(self) -> str:
        """Write the request as one line of JSON."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> SourceRequest:
        """Read what `to_json` wrote."""
        values = json.loads(text)
        parsed = {
            "inputs": tuple(values["inputs"]),
            "backends": tuple(values["backends"]),
            "options": CompileOptions(**values["options"]),
            "settings": Settings(**values["settings"]),
        }
        return cls(**{**values, **parsed})

    def read_result(self, values: Mapping[str, Any]) -> SourceResult:
        """Read what `SourceResult.to_json` wrote."""
        return SourceResult.from_json(values)

    def run(self, notify: Notify) -> SourceResult:
        """Open the model and measure it in this process."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            model = open_model(self.source, self.inputs, batch=self.batch)
            results = measure_on_backends(
                model,
                self.backends,
                options=self.options,
                settings=self.settings,
                seed=self.seed,
                with_operators=self.with_operators,
                notify=notify,
            )
        return SourceResult(
            model.name, tuple(results), tuple(errors.without_colours(str(warning.message)) for warning in caught)
        )
