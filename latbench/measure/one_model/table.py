"""What was measured as one table: plain values for programs, cells for people."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from html import escape
from typing import TYPE_CHECKING, Any

from latbench.errors import UsageError
from latbench.measure.one_model.record import ModelRecord, Refusal
from latbench.records.figures import figures

if TYPE_CHECKING:
    import pandas

Result = ModelRecord | Refusal

_TOLD_ONCE = {
    "model": "{}",
    "inputs": "{}",
    "batch": "batch {}",
    "precision": "{}",
    "threads": "threads {}",
    "parameters": "{} parameters",
    "MACs": "{} multiply-accumulates",
    "weights MiB": "{} MiB of weights",
    "clock": "clock {}",
}
"""Columns that the title takes where all rows have the same, and how it tells them."""

_PERCENTILES = ("p50", "p90", "p99")


@dataclass(frozen=True, slots=True)
class Cells:
    """A table for people.

    Args:
        columns: their heads; what no row has is left out.
        rows: a text for each column.
        title: what all rows share.
        remarks: what a reader must know of the numbers, and why there are none.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    title: str
    remarks: tuple[str, ...]


def values(result: Result) -> dict[str, Any]:
    """Return a record or a refusal as plain values, under the same names for every one; None for what there is not."""
    if isinstance(result, Refusal):
        asked = {name: getattr(result, name) for name in ("model", "backend", "batch", "threads")}
        return {**dict.fromkeys(_VALUES), **asked, "error": str(result.error)}
    return {name: value(result) for name, value in _VALUES.items()}


def frame(results: Iterable[Result]) -> pandas.DataFrame:
    """Return `values` as a pandas table, one row a result.

    Raises:
        UsageError: pandas is not installed.
    """
    try:
        import pandas
    except ImportError as error:
        raise UsageError("to_frame() makes a pandas table, and pandas is missing: pip install pandas") from error
    return pandas.DataFrame([values(result) for result in results], columns=list(_VALUES))


def csv_text(results: Iterable[Result]) -> str:
    """Return `values` as CSV; nothing for None."""
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, _VALUES, lineterminator="\n")
    writer.writeheader()
    writer.writerows(values(result) for result in results)
    return file.getvalue()


def markdown(results: Sequence[Result]) -> str:
    """Return the cells as a Markdown table, with its title above it and its remarks below."""
    shown = cells(results)
    rows = (shown.columns, ["---"] * len(shown.columns), *shown.rows)
    lines = [f"| {' | '.join(map(_in_markdown, row))} |" for row in rows]
    return "\n\n".join([_in_markdown(shown.title), "\n".join(lines), *map(_in_markdown, shown.remarks)])


def html(results: Sequence[Result]) -> str:
    """Return the cells as an HTML table, with its title and remarks."""
    shown = cells(results)
    head = "".join(f"<th>{escape(column)}</th>" for column in shown.columns)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in shown.rows)
    remarks = "".join(f"<p>{escape(remark)}</p>" for remark in shown.remarks)
    caption = f"<caption>{escape(shown.title)}</caption>"
    return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{remarks}"


def cells(results: Sequence[Result]) -> Cells:
    """Return the results as texts. Where the wall is the clock, its percentiles are not told twice."""
    rows = [_texts(result) for result in results]
    measured = [row for row, result in zip(rows, results, strict=True) if isinstance(result, ModelRecord)]
    told = [name for name in _CELLS if any(row[name] != "-" for row in rows)]
    shared = [name for name in told if name in _TOLD_ONCE and len({row[name] for row in measured or rows}) == 1]
    columns = [name for name in told if name not in (*shared, "inputs")]
    return Cells(
        tuple(columns),
        tuple(tuple(row[name] for name in columns) for row in rows),
        ", ".join(_TOLD_ONCE[name].format((measured or rows)[0][name]) for name in shared),
        tuple(_remarks(results)),
    )


def operator_cells(record: ModelRecord) -> Cells:
    """Return the time of each type of operator, the slowest first, as texts."""
    times = record.inspection.operators
    total = sum(time.ms for time in times)
    by_type: dict[str, list[float]] = {}
    for time in times:
        by_type.setdefault(time.type, []).append(time.ms)
    slowest = sorted(by_type.items(), key=lambda item: -sum(item[1]))
    ratio = record.profiled_ratio
    return Cells(
        ("operator", "distinct", "ms", "share"),
        tuple((kind, str(len(ms)), figures(sum(ms)), f"{sum(ms) / total:.1%}") for kind, ms in slowest),
        f"{name_of(record)}, profiled",
        () if ratio is None else (f"profiled sum = {ratio:.1f} x the model: the shares mean more than the sum",),
    )


def name_of(record: ModelRecord) -> str:
    """Return what tells a record from the others of a table: ``"net.onnx on cpu, batch 8, threads 1"``."""
    conditions = record.conditions
    batch = f", batch {conditions.batch}" if conditions.batch else ""
    return f"{record.subject} on {conditions.backend}{batch}, threads {conditions.threads}"


def _texts(result: Result) -> dict[str, str]:
    if isinstance(result, Refusal):
        told = values(result)
        return {name: str(told.get(name) or "-") for name in _CELLS}
    return {name: text(result) or "-" for name, text in _CELLS.items()}


def _remarks(results: Sequence[Result]) -> Iterator[str]:
    records = [result for result in results if isinstance(result, ModelRecord)]
    yield from dict.fromkeys(f"ms: {record.estimate}" for record in records if record.estimate)
    if any(record.inspection.memory_of == "process" for record in records):
        yield "* growth of the process while it compiled and first ran the model"
    reasons: dict[str, list[str]] = {}
    for result in results:
        if isinstance(result, Refusal):
            asked = (("", result.model), ("batch ", result.batch), ("threads ", result.threads))
            of = "".join(f", {word}{value}" for word, value in asked if value)
            reasons.setdefault(f"{of}: {result.error}", []).append(result.backend)
    yield from (f"{', '.join(backends)}{reason}" for reason, backends in reasons.items())


def _inputs(record: ModelRecord) -> str:
    return ", ".join(f"{name} {shape}" for name, shape in record.inputs.items())


def _memory(record: ModelRecord) -> str:
    mib, grown = record.inspection.memory_mib, record.inspection.memory_of == "process"
    return "-" if mib is None else f"{mib:.1f}{'*' if grown else ''}"


def _mib(value: float | None) -> str:
    # A tenth is of interest of a small network alone.
    return figures(value, 1) if value is None or 0.001 <= value < 1 else f"{value:.1f}"


def _count(number: int | None) -> str:
    """Return ``"25.56 M"``."""
    if number is None or number < 1000:
        return "-" if number is None else str(number)
    power = min((len(str(number)) - 1) // 3, 4)
    return f"{number / 1000**power:.4g} {' kMGT'[power]}"


def _percentile(name: str, record: ModelRecord) -> float | None:
    return record.inspection.percentiles.get(name)


def _wall_percentile(name: str, record: ModelRecord) -> float | None:
    return record.inspection.wall_percentiles.get(name)


def _told(name: str, record: ModelRecord) -> str:
    return figures(_percentile(name, record))


def _waited(name: str, record: ModelRecord) -> str:
    return figures(None if record.conditions.clock == "wall" else _wall_percentile(name, record))


def _in_markdown(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("*", "\\*")


_VALUES: dict[str, Callable[[ModelRecord], Any]] = {
    "model": lambda record: record.subject,
    "backend": lambda record: record.conditions.backend,
    "device": lambda record: record.conditions.device.name,
    "precision": lambda record: record.conditions.precision,
    "batch": lambda record: record.conditions.batch,
    "threads": lambda record: record.conditions.threads,
    "inputs": _inputs,
    "latency_ms": lambda record: record.value,
    "low_ms": lambda record: record.low,
    "high_ms": lambda record: record.high,
    **{f"{p}_ms": partial(_percentile, p) for p in _PERCENTILES},
    **{f"wall_{p}_ms": partial(_wall_percentile, p) for p in _PERCENTILES},
    "inputs_per_second": lambda record: record.inputs_per_second,
    "parameters": lambda record: record.inspection.parameters,
    "macs": lambda record: record.inspection.macs,
    "weights_mib": lambda record: record.inspection.weights_mib,
    "memory_mib": lambda record: record.inspection.memory_mib,
    "memory_of": lambda record: record.inspection.memory_of or None,
    "peak_memory_mib": lambda record: record.inspection.peak_memory_mib,
    "clock": lambda record: record.conditions.clock,
    "flags": lambda record: " ".join(record.flags),
    "error": lambda record: None,
}
"""The columns for programs."""

_CELLS: dict[str, Callable[[ModelRecord], str]] = {
    "model": lambda record: record.subject,
    "inputs": _inputs,
    "backend": lambda record: record.conditions.backend,
    "batch": lambda record: str(record.conditions.batch or "-"),
    "threads": lambda record: str(record.conditions.threads),
    "precision": lambda record: record.conditions.precision,
    "ms": lambda record: figures(record.value),
    "95% interval": lambda record: f"{figures(record.low)} - {figures(record.high)}",
    **{p: partial(_told, p) for p in _PERCENTILES},
    **{f"wall {p}": partial(_waited, p) for p in _PERCENTILES},
    "inputs/s": lambda record: "" if record.inputs_per_second is None else figures(record.inputs_per_second),
    "parameters": lambda record: _count(record.inspection.parameters),
    "MACs": lambda record: _count(record.inspection.macs),
    "weights MiB": lambda record: _mib(record.inspection.weights_mib),
    "memory MiB": _memory,
    "peak MiB": lambda record: _mib(record.inspection.peak_memory_mib),
    "clock": lambda record: record.conditions.clock,
    "flags": lambda record: " ".join(record.flags),
}
"""The columns for people."""
