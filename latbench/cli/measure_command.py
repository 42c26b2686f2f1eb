"""``latbench measure``."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.text import Text

from latbench.cli import options as opt
from latbench.cli.console import err, out, print_json, print_table
from latbench.errors import MeasurementError, UsageError
from latbench.measure.one_model.record import ModelRecord, Refusal


def run(
    source: Annotated[str, typer.Argument(help="An .onnx file, a .pt2 file of torch.export, or module:factory.")],
    backend: Annotated[list[str], typer.Option(help="Backend name or module:Class; repeatable.")] = ["onnxruntime"],  # noqa: B006 - typer reads it
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            help="A sample input: name:1x3x224x224:float32, name:1:int64=50, name=50, name=@x.npy; repeatable.",
        ),
    ] = None,
    batch: Annotated[
        int | None, typer.Option(min=1, help="The first dimension of every input, or of those left free.")
    ] = None,
    option: opt.BackendOptions = None,
    precision: opt.Precision = "fp32",
    threads: opt.Threads = 1,
    operators: Annotated[
        bool, typer.Option("--operators", help="Also show the share of each operator, where a backend can tell.")
    ] = False,
    verify: Annotated[
        Literal["all", "sample", "none"], typer.Option(help="Whether outputs are compared with the module's.")
    ] = "all",
    timeout: opt.Timeout = 120.0,
    to: Annotated[Path | None, typer.Option("--out", help="Write the records to this .json file.")] = None,
    as_json: opt.AsJson = False,
) -> None:
    """Measure one model, on one backend or several in turns.

    A factory takes no arguments and returns a torch.nn.Module, or a pair of one and its sample inputs: a dict by name,
    or a tuple in the order of its forward.

    Percentiles are of back-to-back calls: p90 needs 64 of them and p99 662, within a few seconds. Memory is what the
    runtime says that the model holds, or, marked *, what the process grew by.

    \b
    Examples:
      latbench measure net.onnx
      latbench measure net.onnx --backend onnxruntime --input x:8x3x224x224:float32 --threads 2 --operators
      latbench measure net.pt2 --batch 8 --backend cpu --backend onnxruntime --out runs/before.json
      latbench measure mypackage.models:make_net --backend cpu --backend onnxruntime --json
    """
    from latbench.backend import CompileOptions
    from latbench.measure.one_model.isolated import measure_source
    from latbench.measure.one_model.record import write_records
    from latbench.measure.one_model.sessions import DEFAULT

    if to is not None and to.suffix != ".json":
        raise UsageError(f"--out {to} is not a .json file, which compare-runs reads: name it {to.with_suffix('.json')}")
    options = CompileOptions(precision, threads, opt.pairs(option, "--option"))
    with err.status(Text(f"measuring {source}")):
        result = measure_source(
            source,
            backend,
            inputs=inputs or [],
            batch=batch,
            options=options,
            settings=dataclasses.replace(DEFAULT, verify=verify),
            with_operators=operators,
            timeout=timeout,
        )
    for note in result.notes:
        err.print(f"note: {note}")
    records = [each for each in result.results if isinstance(each, ModelRecord)]
    refusals = [each for each in result.results if isinstance(each, Refusal)]
    if not records:
        _refuse(refusals)
    if to is not None:
        write_records(to, records)
    if as_json:
        print_json([_document(each) for each in result.results])
        return
    _print(
        result.results,
        title=f"{result.name}, {', '.join(f'{k} {v}' for k, v in records[0].inputs.items())}, "
        + " / ".join(dict.fromkeys(record.conditions.precision for record in records)),
    )
    for record in records:
        if operators:
            _print_operators(record)
    if to is not None:
        out.print(f"wrote {to}")


def _refuse(refusals: Sequence[Refusal]) -> None:
    """Raise why no backend measured the model; the user's mistake only if it was one on every backend."""
    if len(refusals) == 1:
        raise refusals[0].error
    kind = UsageError if all(isinstance(r.error, UsageError) for r in refusals) else MeasurementError
    raise kind("no backend measured the model\n" + "\n".join(f"  {r.backend}: {r.error}" for r in refusals))


def _print(results: Sequence[ModelRecord | Refusal], title: str) -> None:
    batched = any(isinstance(result, ModelRecord) and result.inputs_per_second for result in results)
    rate = ("inputs/s",) if batched else ()
    columns = ("backend", "ms", "95% interval", "p50", "p90", "p99", *rate, "memory MiB", "clock", "flags")
    rows = []
    for result in results:
        if isinstance(result, Refusal):
            rows.append((result.backend, *["-"] * (len(columns) - 1)))
            continue
        m, told = result.measurement, result.inspection
        rows.append(
            (
                result.conditions.backend,
                f"{m.value:.4g}",
                f"{m.low:.4g} - {m.high:.4g}",
                *(f"{told.percentiles[p]:.4g}" if p in told.percentiles else "-" for p in ("p50", "p90", "p99")),
                *([f"{result.inputs_per_second:.4g}" if result.inputs_per_second else "-"] if batched else []),
                "-"
                if told.memory_mib is None
                else f"{told.memory_mib:.1f}{'*' if told.memory_of == 'process' else ''}",
                result.conditions.clock,
                " ".join(m.flags) or "-",
            )
        )
    print_table(columns, rows, title=title)
    if any(isinstance(result, ModelRecord) and result.inspection.memory_of == "process" for result in results):
        out.print("* growth of the process while it compiled and first ran the model")
    for result in results:
        if isinstance(result, Refusal):
            out.print(f"{result.backend}: {result.error}")


def _print_operators(record: ModelRecord) -> None:
    times = record.inspection.operators
    name = record.conditions.backend
    if not times:
        out.print(f"\n{name} cannot tell how long its operators take")
        return
    total = sum(time.ms for time in times)
    by_type: dict[str, list[float]] = {}
    for time in times:
        by_type.setdefault(time.type, []).append(time.ms)
    slowest = sorted(by_type.items(), key=lambda item: -sum(item[1]))
    rows = [(kind, str(len(ms)), f"{sum(ms):.4g}", f"{sum(ms) / total:.1%}") for kind, ms in slowest]
    out.print()
    print_table(("operator", "distinct", "ms", "share"), rows, title=f"{name}, profiled")


def _document(result: ModelRecord | Refusal) -> dict[str, Any]:
    if isinstance(result, Refusal):
        return {"backend": result.backend, "error": str(result.error)}
    return {
        "backend": result.conditions.backend,
        "unit": result.conditions.unit,
        "clock": result.conditions.clock,
        "inputs": dict(result.inputs),
        **dataclasses.asdict(result.measurement),
        "inputs_per_second": result.inputs_per_second,
        **dataclasses.asdict(result.inspection),
    }
