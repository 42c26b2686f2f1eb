"""``latbench measure``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from latbench.cli import options as opt
from latbench.cli.console import err, out, print_json, print_table
from latbench.cli.progress import heartbeat
from latbench.errors import MeasurementError, UsageError

if TYPE_CHECKING:
    from latbench.measure.one_model.results import Results
    from latbench.measure.one_model.table import Cells

Form = Literal["table", "md", "csv", "json"]

_SPARE = ("wall p90", "wall p50", "wall p99", "peak MiB", "weights MiB", "parameters", "MACs", "p90", "memory MiB")
"""What a narrow terminal does without; every other form has it."""


def run(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="source", help="An .onnx file, a .pt2 file of torch.export, or module:factory; several may follow."
        ),
    ],
    backend: opt.BackendNames = ["onnxruntime"],  # noqa: B006 - typer reads it
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            help="A sample input: name:1x3x224x224:float32, name:1:int64=50, name=50, name=@x.npy; repeatable.",
        ),
    ] = None,
    batch: Annotated[list[str] | None, typer.Option(help="The first dimension of every input; several as 1,8.")] = None,
    option: opt.BackendOptions = None,
    precision: opt.Precision = "fp32",
    threads: Annotated[list[str], typer.Option(help="Threads that one inference may use; several as 1,2.")] = ["1"],  # noqa: B006
    operators: Annotated[
        bool, typer.Option("--operators", help="Also show the share of each operator, where a backend can tell.")
    ] = False,
    verify: Annotated[
        Literal["all", "sample", "none"], typer.Option(help="Whether outputs are compared with the module's.")
    ] = "all",
    timeout: opt.Timeout = 120.0,
    to: Annotated[Path | None, typer.Option("--out", help="Write the records to this .json file.")] = None,
    form: Annotated[
        Form,
        typer.Option("--format", help="table; md, a table in Markdown; csv, every column; json, the same as --out."),
    ] = "table",
    as_json: opt.AsJson = False,
) -> None:
    """Measure models, on one backend or several in turns.

    Every source is measured in every batch, with every number of threads and on every backend. A factory takes no
    arguments and returns a torch.nn.Module, or a pair of one and its sample inputs: a dict by name, or a tuple in the
    order of its forward.

    Percentiles are of back-to-back calls: p90 needs 64 of them and p99 662, within a few seconds; inputs/s is from the
    median. Memory is what the runtime says that the model holds, or, marked *, what the process grew by.

    \b
    Examples:
      latbench measure net.onnx
      latbench measure net.onnx --backend onnxruntime --input x:8x3x224x224:float32 --threads 2 --operators
      latbench measure small.onnx large.onnx --batch 1,8 --threads 1,2 --format md
      latbench measure net.pt2 --batch 8 --backend cpu --backend onnxruntime --out runs/before.json
      latbench measure mypackage.models:make_net --backend cpu,onnxruntime --format csv > nets.csv
      latbench measure net.onnx --json > runs/before.json
    """
    from latbench.backend import CompileOptions
    from latbench.measure.one_model.isolated import measure_sources
    from latbench.measure.one_model.sessions import DEFAULT

    if to is not None and to.suffix != ".json":
        raise UsageError(f"--out {to} is not a .json file, which compare-runs reads: name it {to.with_suffix('.json')}")
    if as_json and form not in ("table", "json"):
        raise UsageError(f"--json and --format {form} differ: leave one of them out")
    options = CompileOptions(precision, options=opt.pairs(option, "--option"))
    with heartbeat() as tell:
        results = measure_sources(
            sources,
            opt.names(backend, "--backend"),
            inputs=inputs or [],
            batches=opt.numbers(batch, "--batch") if batch else [None],
            options=[dataclasses.replace(options, threads=each) for each in opt.numbers(threads, "--threads")],
            settings=dataclasses.replace(DEFAULT, verify=verify),
            with_operators=operators,
            timeout=timeout,
            on_progress=tell,
            on_result=lambda so_far: so_far.write(to) if to is not None and so_far.records else None,
        )
    for note in results.notes:
        err.print(f"note: {note}")
    if not results.records:
        _refuse(results)
    _print(results, "json" if as_json else form, with_operators=operators)
    if to is not None and form == "table" and not as_json:
        out.print(f"wrote {to}")


def _refuse(results: Results) -> None:
    """Raise why no backend measured a model; the user's mistake only if it was one every time."""
    reasons = {str(refusal.error): refusal for refusal in reversed(results.refusals)}
    if len(reasons) == 1:
        raise results.refusals[0].error
    kind = UsageError if all(isinstance(r.error, UsageError) for r in results.refusals) else MeasurementError
    lines = [f"  {' '.join(filter(None, (r.model, r.backend)))}: {r.error}" for r in reversed(reasons.values())]
    raise kind("\n".join(["no backend measured the model", *lines]))


def _print(results: Results, form: Form, *, with_operators: bool) -> None:
    from latbench.measure.one_model.table import cells, name_of, operator_cells

    if form == "json":
        print_json(results.to_json())
    elif form == "csv":
        print(results.to_csv(), end="")
    elif form == "md":
        print(results.to_markdown())
    else:
        _print_cells(cells(results.results))
        for record in results.records if with_operators else ():
            out.print()
            if record.inspection.operators:
                _print_cells(operator_cells(record))
            else:
                out.print(f"{name_of(record)}: the backend cannot tell how long its operators take")


def _print_cells(shown: Cells) -> None:
    print_table(shown.columns, shown.rows, title=shown.title, spare=_SPARE)
    for remark in shown.remarks:
        out.print(remark)
