"""``latbench diff``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from latbench.cli import options as opt
from latbench.cli.console import err, out, print_json, print_table
from latbench.cli.progress import heartbeat
from latbench.errors import UsageError
from latbench.records.figures import figures

if TYPE_CHECKING:
    from latbench.backend import CompileOptions
    from latbench.measure.one_model.record import ModelRecord
    from latbench.runs.operator_diff import OperatorDiff

_COMPARED = 2


def run(
    a: Annotated[str, typer.Argument(help="A model as 'measure' takes it, or a .json file of 'measure --operators'.")],
    b: Annotated[
        str | None, typer.Argument(help="What to compare it with; without, A is compared on two backends.")
    ] = None,
    backend: opt.BackendNames = [],  # noqa: B006 - typer reads it
    inputs: Annotated[
        list[str] | None, typer.Option("--input", help="A sample input as name:1x3x224x224:float32; repeatable.")
    ] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="The first dimension of every input.")] = None,
    option: opt.BackendOptions = None,
    precision: opt.Precision = "fp32",
    threads: opt.Threads = 1,
    timeout: opt.Timeout = 120.0,
    top: Annotated[int, typer.Option(min=1, help="How many operators to show, the largest difference first.")] = 20,
    as_json: opt.AsJson = False,
) -> None:
    """Say which operators take longer on one of two backends, or in one of two models.

    Operators are joined by the names of the model's file, fused ones with all that they compute, and where there are no
    names, by type and shape. Profiling slows a runtime down: compare shares and ratios, and latencies with 'measure'.

    \b
    Examples:
      latbench diff net.onnx --backend onnxruntime,openvino
      latbench diff fp32.onnx int8.onnx --backend onnxruntime --top 10
      latbench diff mypackage.models:before mypackage.models:after --backend cpu --threads 2
      latbench diff runs/before.json runs/after.json --backend onnxruntime
      latbench diff runs/both.json --json
    """
    from latbench.backend import CompileOptions
    from latbench.runs.operator_diff import diff_operators, two_records

    given, backends = [each for each in (a, b) if each is not None], opt.names(backend, "--backend")
    files = [each for each in given if each.endswith(".json")]
    if files and len(files) < len(given):
        raise UsageError(f"{files[0]} is compared with another .json file: write one with 'measure --operators --out'")
    if files:
        records = two_records(files, backends)
    else:
        options = CompileOptions(precision, threads, opt.pairs(option, "--option"))
        records = _measured(given, backends, inputs or [], batch, options, timeout)
    found = diff_operators(*records)
    if as_json:
        print_json(found.to_json())
    else:
        _print(found, top)


def _measured(
    sources: list[str],
    backends: list[str],
    inputs: list[str],
    batch: int | None,
    options: CompileOptions,
    timeout: float,
) -> tuple[ModelRecord, ModelRecord]:
    from latbench.measure.one_model.isolated import measure_sources

    backends = backends or ["onnxruntime"]
    if len(sources) * len(backends) != _COMPARED:
        raise UsageError(
            f"models: {len(sources)}, backends: {len(backends)}: two measurements are compared: "
            "give one model and --backend A,B, or two models and one backend"
        )
    with heartbeat() as tell:
        results = measure_sources(
            sources,
            backends,
            inputs=inputs,
            batches=[batch],
            options=[options],
            with_operators=True,
            timeout=timeout,
            on_progress=tell,
        )
    for note in results.notes:
        err.print(f"note: {note}")
    for refusal in results.refusals:
        raise refusal.error
    one, other = results.records
    return one, other


def _print(found: OperatorDiff, top: int) -> None:
    from latbench.measure.one_model.table import name_of

    for side, record in (("A", found.a), ("B", found.b)):
        profiled = sum(time.ms for time in record.inspection.operators)
        ratio = f", {record.profiled_ratio:.1f} x that" if record.profiled_ratio else ""
        out.print(f"{side}: {name_of(record)}: {figures(record.value)} ms; operators {figures(profiled)} ms{ratio}")
    rows = [
        (
            row.name,
            row.types,
            f"{row.a_count}, {row.b_count}",
            figures(row.a_ms),
            figures(row.b_ms),
            f"{'+' if row.difference_ms > 0 else ''}{figures(row.difference_ms)}",
            "-" if row.ratio is None else f"{row.ratio:.2f}",
        )
        for row in found.rows[:top]
    ]
    print_table(("operator", "type", "A, B", "A ms", "B ms", "B - A ms", "B / A"), rows)
    if len(found.rows) > top:
        out.print(f"and {len(found.rows) - top} more that differ by less: --top shows more of them, --json all")
