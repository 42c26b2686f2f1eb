"""The records of ``latbench measure``: everything about a model on one backend, as a JSON file that reads back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latbench.backend import OperatorTime
from latbench.errors import LatbenchError, StoreError
from latbench.measure.one_model.inspection import Inspection
from latbench.measure.workloads import UNEVEN
from latbench.records.measurement import Conditions, Measurement
from latbench.records.writing import write_atomically

if TYPE_CHECKING:
    import pandas

SCHEMA_VERSION = 1
_FORMAT = "latbench records"


@dataclass(frozen=True, slots=True)
class ModelRecord:
    """A model as it was measured on one backend.

    Args:
        inputs: its sample inputs by name: ``"1x3x224x224:float32"``.
        conditions: what it was measured under.
        measurement: its latency.
        inspection: percentiles, size, memory, operators.
        estimate: how the latency is computed from the runs, in words; empty in older records.
    """

    inputs: Mapping[str, str]
    conditions: Conditions
    measurement: Measurement
    inspection: Inspection
    estimate: str = ""

    @property
    def inputs_per_second(self) -> float | None:
        """The throughput of one inference after another, from the median call on the wall clock.

        None where nobody says what the batch is. A simulated device's own clock runs ahead of the wall's, and counts.
        Where few calls take most of the time, no call is typical, and their mean counts.
        """
        told = self.inspection
        medians = [medians["p50"] for medians in (told.percentiles, told.wall_percentiles) if "p50" in medians]
        typical = [] if UNEVEN in self.measurement.flags else medians
        batch = self.conditions.batch
        return None if batch is None else batch / max(typical, default=self.measurement.value) * 1e3

    @property
    def profiled_ratio(self) -> float | None:
        """The sum of the operators' times relative to the latency: 2.0 where profiling doubles it; None without."""
        total = sum(operator.ms for operator in self.inspection.operators)
        return total / self.measurement.value if total and self.measurement.value else None

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ModelRecord:
        """Read what `dataclasses.asdict` gives."""
        inspection = values["inspection"]
        operators = tuple(
            OperatorTime(**{**each, "nodes": tuple(each.get("nodes", ()))}) for each in inspection["operators"]
        )
        return cls(
            dict(values["inputs"]),
            Conditions.from_json(values["conditions"]),
            Measurement.from_json(values["measurement"]),
            Inspection(**{**inspection, "operators": operators}),
            estimate=values.get("estimate", ""),
        )

    @property
    def subject(self) -> str:
        """The model's name."""
        return self.measurement.subject

    @property
    def value(self) -> float:
        """The latency, in ms."""
        return self.measurement.value

    @property
    def low(self) -> float:
        """The lower end of its 95% confidence interval."""
        return self.measurement.low

    @property
    def high(self) -> float:
        """The upper end."""
        return self.measurement.high

    @property
    def half_width(self) -> float:
        """Half of the confidence interval, relative to the value."""
        return self.measurement.half_width

    @property
    def flags(self) -> tuple[str, ...]:
        """What a reader should know before trusting the value: ``"unstable"``, ..."""
        return self.measurement.flags

    def to_frame(self) -> pandas.DataFrame:
        """Return the record as a pandas table of one row, its columns those of ``--format csv``.

        Raises:
            UsageError: pandas is not installed.
        """
        from latbench.measure.one_model.table import frame

        return frame([self])

    def _repr_html_(self) -> str:
        from latbench.measure.one_model.table import html

        return html([self])


@dataclass(frozen=True, slots=True)
class Refusal:
    """A backend that is missing, refuses the model or fails on it.

    Args:
        backend: its name.
        error: what it raised.
        model: the model's name; empty where there is one model alone.
        batch: the batch that was asked for; None for the model's own.
        threads: of one inference; None where nothing else was asked for.
    """

    backend: str
    error: LatbenchError
    model: str = ""
    batch: int | None = None
    threads: int | None = None


def records_document(results: Sequence[ModelRecord | Refusal], notes: Sequence[str] = ()) -> dict[str, Any]:
    """Return records as the values of one JSON document, which `read_records` reads: refusals and notes beside them."""
    return {
        "format": _FORMAT,
        "schema": SCHEMA_VERSION,
        "records": [asdict(each) for each in results if isinstance(each, ModelRecord)],
        "refusals": [
            {
                "model": each.model,
                "backend": each.backend,
                "batch": each.batch,
                "threads": each.threads,
                "error": type(each.error).__name__,
                "message": str(each.error),
            }
            for each in results
            if isinstance(each, Refusal)
        ],
        "notes": list(notes),
    }


def write_records(path: str | Path, results: Sequence[ModelRecord | Refusal], notes: Sequence[str] = ()) -> None:
    """Write `records_document` to a file, all or nothing.

    Raises:
        StoreError: the file cannot be written.
    """
    path = Path(path)
    document = records_document(results, notes)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, (json.dumps(document, indent=1) + "\n").encode())
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror}; choose another file") from error


def read_records(path: str | Path) -> list[ModelRecord]:
    """Read what `write_records` wrote, or ``latbench measure --json`` printed.

    Raises:
        StoreError: the file is missing, is not of this kind, or holds an incomplete record.
    """
    try:
        document = json.loads(Path(path).read_text())
    except OSError as error:
        raise StoreError(
            f"cannot read {path}: {error.strerror}; 'latbench measure --out {path}' writes such a file"
        ) from error
    except ValueError as error:
        raise StoreError(f"{path} is not JSON ({error}): give a file of 'latbench measure --out' or --json") from error
    if not isinstance(document, dict) or document.get("format") != _FORMAT:
        raise StoreError(f"{path} holds no records of latbench: give a file of 'latbench measure --out' or --json")
    if document.get("schema") != SCHEMA_VERSION:
        raise StoreError(
            f"{path} has schema {document.get('schema')}, this latbench reads {SCHEMA_VERSION}: measure again"
        )
    return [_record(values, f"record {number} of {path}") for number, values in enumerate(document["records"], start=1)]


def _record(values: Any, where: str) -> ModelRecord:
    try:
        return ModelRecord.from_json(values)
    except KeyError as error:
        raise StoreError(f"{where} has no field {error}: measure again") from error
    except (TypeError, ValueError, AttributeError, LatbenchError) as error:
        raise StoreError(f"{where} is incomplete or damaged ({error}): measure again") from error
