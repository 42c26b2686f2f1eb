"""The records of ``latbench measure``: everything about a model on one backend, as a JSON file that reads back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from latbench.backend import OperatorTime
from latbench.errors import LatbenchError, StoreError
from latbench.measure.one_model.inspection import Inspection
from latbench.records.measurement import Conditions, Measurement
from latbench.records.writing import write_atomically

SCHEMA_VERSION = 1
_FORMAT = "latbench records"


@dataclass(frozen=True, slots=True)
class ModelRecord:
    """A model as it was measured on one backend.

    Args:
        inputs: its sample inputs by name: ``"1x3x224x224:float32"``.
        conditions: what it was measured under.
        measurement: its latency.
        inspection: percentiles, memory, operators.
    """

    inputs: Mapping[str, str]
    conditions: Conditions
    measurement: Measurement
    inspection: Inspection

    @property
    def inputs_per_second(self) -> float | None:
        """The throughput of one inference after another; None where nobody says what the batch is."""
        batch = self.conditions.batch
        return None if batch is None else batch / self.measurement.value * 1e3

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ModelRecord:
        """Read what `dataclasses.asdict` gives."""
        inspection = values["inspection"]
        operators = tuple(OperatorTime(**operator) for operator in inspection["operators"])
        return cls(
            dict(values["inputs"]),
            Conditions.from_json(values["conditions"]),
            Measurement.from_json(values["measurement"]),
            Inspection(**{**inspection, "operators": operators}),
        )


@dataclass(frozen=True, slots=True)
class Refusal:
    """A backend that is missing, refuses the model or fails on it."""

    backend: str
    error: LatbenchError


def write_records(path: str | Path, records: Sequence[ModelRecord]) -> None:
    """Write records as one JSON document, all or nothing.

    Raises:
        StoreError: the file cannot be written.
    """
    path = Path(path)
    document = {"format": _FORMAT, "schema": SCHEMA_VERSION, "records": [asdict(record) for record in records]}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, (json.dumps(document, indent=1) + "\n").encode())
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror}; choose another file") from error


def read_records(path: str | Path) -> list[ModelRecord]:
    """Read what `write_records` wrote.

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
        raise StoreError(f"{path} is not JSON ({error}): give a file of 'latbench measure --out'") from error
    if not isinstance(document, dict) or document.get("format") != _FORMAT:
        raise StoreError(f"{path} holds no records of latbench: give a file of 'latbench measure --out'")
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
