"""``latbench profile``."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column

from latbench.cli import options as opt
from latbench.cli.console import err, out, print_json
from latbench.cli.progress import Bars
from latbench.errors import UsageError
from latbench.executor import Executor
from latbench.profiling import Summary
from latbench.profiling.progress import Progress


def run(
    samples: Annotated[int, typer.Option(help="How many distinct architectures.")],
    store: Annotated[Path, typer.Option(help="The SQLite file to write; made if missing, continued if there.")],
    space: opt.SpaceName = "darts",
    backend: opt.BackendName = "onnxruntime",
    space_option: opt.SpaceOptions = None,
    option: opt.BackendOptions = None,
    operators: Annotated[bool, typer.Option("--operators", help="Also measure the space's operator table.")] = False,
    parts: Annotated[
        bool, typer.Option("--parts", help="Also measure the parts of every architecture, such as its early exits.")
    ] = False,
    precision: opt.Precision = "fp32",
    threads: opt.Threads = 1,
    batch: opt.Batch = 1,
    half_width: Annotated[
        float, typer.Option(callback=opt.positive, help="Stop a session at this relative 95% half-width.")
    ] = 0.01,
    max_rounds: Annotated[int, typer.Option(min=2, help="Stop a session after so many undisturbed rounds.")] = 48,
    cache: Annotated[
        Literal["warm", "cold"],
        typer.Option(help="warm: a throw-away run before the timed ones; cold: none, and a GPU's L2 emptied."),
    ] = "warm",
    verify: Annotated[
        Literal["all", "sample", "none"], typer.Option(help="Whose outputs are compared with the module's.")
    ] = "sample",
    quantity: Annotated[
        list[str] | None,
        typer.Option(help="latency, energy or memory; comma-separated or repeatable; latency unless given."),
    ] = None,
    meter: Annotated[
        str | None, typer.Option(help="Also measure energy, with this meter or module:Class; see 'latbench plugins'.")
    ] = None,
    window: Annotated[str, typer.Option(help="How long a metered model runs in each of its three trials.")] = "5s",
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try again what failed in an earlier run.")
    ] = False,
    host: Annotated[
        str | None, typer.Option(help="Measure on another machine, over ssh: user@board, or a name of ~/.ssh/config.")
    ] = None,
    host_python: Annotated[
        str | None, typer.Option(help="The Python there that has latbench; python3 unless given.")
    ] = None,
    budget: Annotated[str | None, typer.Option(help="Start no session after this time, such as 30m or 2h.")] = None,
    seed: opt.Seed = 0,
    timeout: opt.Timeout = 120.0,
    as_json: opt.AsJson = False,
) -> None:
    """Measure architectures of a search space and keep every value in one SQLite file.

    An interrupted run continues with the same command. Some architectures are measured twice, unknown to the
    predictors: their disagreement is the noise floor.

    Each quantity is a pass of its own over the same architectures. With --meter, one pass measures their energy: it
    counts whatever else the device does, and takes about 20 seconds an architecture with windows of 5s. Memory is what
    the runtime says that a model holds, or what the process grows by.

    With --host, sessions run on another machine that has the same latbench, its backend, and a login without a
    password; the store stays here. A connection that is lost is made again, and costs what was in flight.

    \b
    Examples:
      latbench profile --space darts --backend onnxruntime --samples 200 --store runs/ort.db
      latbench profile --space darts -S cells=5 -S channels=8 --samples 100000 --budget 2h --operators --store runs/a.db
      latbench profile --space nasbench201 --backend cuda --batch 64 --samples 1000 --store runs/cuda.db
      latbench profile --space nasbench201 --backend cuda --meter power --samples 300 --store runs/cuda.db
      latbench profile --samples 200 --quantity latency,memory --store runs/ort.db
      latbench profile --samples 200 --host pi@board --host-python venv/bin/python --store runs/board.db
    """
    from latbench.backend import CompileOptions
    from latbench.measure.settings import Settings
    from latbench.profiling import profile_space

    settings = Settings(half_width=half_width, max_rounds=max_rounds, cache=cache, verify=verify)
    with _executor(host, host_python, timeout) as executor, _drawing(disable=as_json) as draw:
        summary = profile_space(
            opt.space_from(space, space_option),
            backend,
            store,
            samples=samples,
            quantities=opt.names(quantity or ["latency"], "--quantity"),
            seed=seed,
            options=CompileOptions(precision, threads, opt.pairs(option, "--option")),
            settings=settings,
            batch=batch,
            with_operations=operators,
            with_parts=parts,
            meter=meter,
            window_s=opt.seconds(window) or 0.0,
            retry_failed=retry_failed,
            budget_seconds=opt.seconds(budget),
            timeout=timeout,
            executor=executor,
            on_progress=draw,
        )
    if as_json:
        print_json(_document(summary))
        return
    _print(summary)
    if summary.planned < samples:
        out.print(f"{samples} were asked for: the space has {summary.planned} architectures that are not isomorphic")
    for further in summary.more.values():
        out.print()
        _print(further)


def _executor(host: str | None, python: str | None, timeout: float) -> AbstractContextManager[Executor | None]:
    """Return where sessions run; None is this machine."""
    if host is None:
        if python is not None:
            raise UsageError(f"--host-python {python} names a Python of another machine: give --host, or leave it out")
        return nullcontext()
    from latbench.measure.workers.ssh import SshExecutor

    return SshExecutor(host, python=python or "python3", timeout=timeout)


@contextmanager
def _drawing(*, disable: bool) -> Iterator[Callable[[Progress], None]]:
    """Yield a function that draws progress; it draws nothing before its first call, so a mistake has no bar."""
    # On a narrow terminal the note takes a second line; no number is cut short.
    whole = Column(no_wrap=True)
    bar = Bars(
        TextColumn("{task.description}"),
        BarColumn(bar_width=10),
        MofNCompleteColumn(table_column=whole),
        TimeElapsedColumn(table_column=whole),
        TimeRemainingColumn(table_column=whole),
        TextColumn("{task.fields[note]}", style="dim", markup=False, table_column=Column()),
        console=err,
        disable=disable,
    )
    lines: dict[str, TaskID] = {}
    told: set[str] = set()
    with ExitStack() as stack:

        def draw(progress: Progress) -> None:
            if not lines:
                stack.enter_context(bar)
            if progress.quantity not in lines:
                lines[progress.quantity] = bar.add_task(f"measuring {progress.quantity}", total=None, note="")
            for note in [note for note in progress.notes if note not in told]:
                told.add(note)
                err.print(f"note: {note}")
            line = lines[progress.quantity]
            bar.update(line, completed=progress.done, total=progress.total, note=progress.note)

        yield draw


def _print(summary: Summary) -> None:
    progress = summary.progress
    of = "" if progress.quantity == "latency" else f", {progress.quantity}"
    out.print(
        f"{summary.store}{of}: {summary.architectures} architectures, {summary.operations} operations, "
        f"{f'{summary.parts} parts, ' if summary.parts else ''}"
        f"{len(summary.failures)} failures; {progress.measured} new at {progress.per_hour:,.0f} an hour"
    )
    out.print(f"noise floor: {summary.noise_floor}")
    if progress.fallbacks:
        out.print(f"files that the direct ONNX writer cannot write: {progress.fallbacks}")
    for failure in summary.failures[:5]:
        out.print(f"failed: {failure.subject}: {failure.reason}")
    if summary.failures:
        out.print("failures are not tried again unless --retry-failed is given")
    if summary.left:
        out.print(f"{summary.left} are left: run the same command to continue")


def _document(summary: Summary) -> dict[str, object]:
    document: dict[str, object] = {
        "store": str(summary.store),
        "architectures": summary.architectures,
        "operations": summary.operations,
        "parts": summary.parts,
        "planned": summary.planned,
        "measured_now": summary.progress.measured,
        "per_hour": summary.progress.per_hour,
        "left": summary.left,
        "flags": dict(summary.progress.flags),
        "notes": list(summary.progress.notes),
        "noise_floor": dataclasses.asdict(summary.noise_floor),
        "failures": [dataclasses.asdict(failure) for failure in summary.failures],
    }
    return document | {name: _document(further) for name, further in summary.more.items()}
