"""``latbench compare-runs``."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from latbench.cli import options as opt
from latbench.cli.console import out, print_error, print_json, print_table
from latbench.errors import UsageError
from latbench.runs.verdict import BUSY, TOLERANCE

if TYPE_CHECKING:
    from latbench.runs import Comparison, Run, RunComparison
    from latbench.runs.verdict import Ratio

_SHOWN = 10


def run(
    a: Annotated[Path, typer.Argument(help="The run before: a .json file of 'measure --out' or '--json', or a store.")],
    b: Annotated[Path, typer.Argument(help="The run after.")],
    tolerance: Annotated[float, typer.Option(min=0, help="How much still counts as the same; 0.01 is 1%.")] = TOLERANCE,
    ignore: Annotated[
        list[str] | None, typer.Option(help="A field that may differ, such as precision or device; repeatable.")
    ] = None,
    relative: Annotated[
        bool,
        typer.Option("--relative", help="Compare two stores by multiples of what their references took meanwhile."),
    ] = False,
    anchor: Annotated[
        str | None,
        typer.Option(help="Compare by multiples of this subject or backend, which both runs measured beside the rest."),
    ] = None,
    gate: Annotated[
        bool, typer.Option("--gate", help="Exit with 1 if B is SLOWER, takes MORE, or lacks what A holds.")
    ] = False,
    quantity: opt.Quantity = None,
    old: opt.OldQuantity = None,
    as_json: opt.AsJson = False,
) -> None:
    """Say for every common subject whether B is as fast as A, or takes as much energy or memory.

    SAME: the 95% interval of the ratio lies within the tolerance. FASTER, SLOWER (of energy and memory: LESS, MORE): it
    excludes a ratio of 1, and the ratio lies beyond the tolerance. UNCLEAR: anything else. Two profiles are compared
    by their geometric mean ratio. Runs that differ in anything that a value depends on are not comparable: exit code 2,
    with the fields.

    A machine that is faster or slower as a whole moves every value; --relative and --anchor compare with what was
    measured in the same sessions, which moves alike.

    \b
    Examples:
      latbench compare-runs runs/before.json runs/after.json
      latbench compare-runs runs/fp32.json runs/fp16.json --ignore precision
      latbench compare-runs runs/monday.db runs/friday.db --tolerance 0.01
      latbench compare-runs runs/before.db runs/after.db --quantity energy
      latbench compare-runs runs/monday.db runs/friday.db --relative
      latbench compare-runs runs/main.json runs/branch.json --anchor cpu --gate
    """
    from latbench.runs import compare_runs, read_run, relative_to_anchor, relative_to_references

    asked = opt.quantity_of(quantity, old)
    if relative and anchor is not None:
        raise UsageError("--relative and --anchor name two things to compare with: leave one out")
    before, after = read_run(a, asked), read_run(b, asked)
    if relative:
        before, after = relative_to_references(before), relative_to_references(after)
    elif anchor is not None:
        before, after = relative_to_anchor(before, anchor), relative_to_anchor(after, anchor)
    runs = before, after
    compared = compare_runs(*runs, ignore=ignore or ())
    failures = tuple(compared.failures(tolerance)) if gate else ()
    if as_json:
        print_json({"relative_to": before.relative_to} | _document(compared, tolerance) | {"failures": failures})
    else:
        if compared.mean is None:
            _print(compared, tolerance, before.relative_to)
        else:
            _print_profiles(compared, compared.mean, tolerance, before.relative_to)
        _print_missing(*runs, compared)
    for failure in failures:
        print_error(failure)
    if failures:
        raise typer.Exit(1)


def _print(compared: RunComparison, tolerance: float, relative_to: str) -> None:
    if relative_to:
        out.print(f"values are multiples of {relative_to}")
    columns = ("subject", "backend", "A", "B", "B / A", "95% interval", "verdict")
    print_table(columns, [_row(row, tolerance, relative_to) for row in compared.rows])
    for row in compared.rows:
        name = f"{row.name}, {row.a.conditions.backend}"
        if row.ratio is None:
            out.print(f"{name}: {row.why_not()}")
        for run, entry in (("A", row.a), ("B", row.b)):
            if entry.flags:
                out.print(f"note: {name} is flagged in {run}: {' '.join(entry.flags)}")
    if not relative_to and any(BUSY in entry.flags for row in compared.rows for entry in (row.a, row.b)):
        out.print("note: other processes used the core: measure on a quiet machine, or compare with --anchor")


def _print_profiles(compared: RunComparison, mean: Ratio, tolerance: float, relative_to: str) -> None:
    compared_rows = [(row, row.ratio) for row in compared.rows if row.ratio is not None]
    quantity = compared_rows[0][0].a.conditions.quantity
    verdicts = Counter(ratio.verdict(tolerance, quantity=quantity) for _, ratio in compared_rows)
    out.print(
        f"{mean.verdict(tolerance, quantity=quantity)}: B / A is {_percent(mean.value)} ({_interval(mean)}), "
        f"the geometric mean over {len(compared_rows)} common architectures"
        + (f", as multiples of {relative_to}" if relative_to else "")
    )
    if compared.references is not None:
        moved = f"{_percent(compared.references.value)} ({_interval(compared.references)})"
        out.print(f"the references: {moved}" + ("" if relative_to else "; --relative compares with them"))
    out.print("each: " + ", ".join(f"{count} {verdict}" for verdict, count in verdicts.most_common()))
    far = sorted(compared_rows, key=lambda pair: -abs(math.log(pair[1].value)))[:_SHOWN]
    columns = ("most different", "backend", "A", "B", "B / A", "95% interval", "verdict")
    print_table(columns, [_row(row, tolerance, relative_to) for row, _ in far])


def _print_missing(a: Run, b: Run, compared: RunComparison) -> None:
    for name, subjects in ((a.name, compared.only_a), (b.name, compared.only_b)):
        if subjects:
            more = f" and {len(subjects) - 1} more" if len(subjects) > 1 else ""
            out.print(f"only in {name}: {subjects[0]}{more}")


def _row(row: Comparison, tolerance: float, relative_to: str) -> tuple[str, ...]:
    values = [f"{entry.interval.value:.4g} {'x' if relative_to else entry.conditions.unit}" for entry in (row.a, row.b)]
    answer = (
        ("-", "-", "-")
        if row.ratio is None
        else (
            _percent(row.ratio.value),
            _interval(row.ratio),
            row.ratio.verdict(tolerance, quantity=row.a.conditions.quantity),
        )
    )
    return (row.name, row.a.conditions.backend, *values, *answer)


def _percent(ratio: float) -> str:
    return f"{ratio - 1:+.1%}"


def _interval(ratio: Ratio) -> str:
    return f"{_percent(ratio.low)} to {_percent(ratio.high)}"


def _document(compared: RunComparison, tolerance: float) -> dict[str, Any]:
    def said(ratio: Ratio | None, quantity: str) -> dict[str, Any] | None:
        if ratio is None:
            return None
        return {**dataclasses.asdict(ratio), "verdict": ratio.verdict(tolerance, quantity=quantity)}

    return {
        "mean": said(compared.mean, compared.rows[0].a.conditions.quantity),
        "references": said(compared.references, compared.rows[0].a.conditions.quantity),
        "rows": [
            {
                "subject": row.a.subject,
                "backend": row.a.conditions.backend,
                "batch": row.a.conditions.batch,
                "threads": row.a.conditions.threads,
                "a": dataclasses.asdict(row.a.interval),
                "b": dataclasses.asdict(row.b.interval),
                "ratio": said(row.ratio, row.a.conditions.quantity),
                "differences": list(row.differences),
            }
            for row in compared.rows
        ],
        "only_a": list(compared.only_a),
        "only_b": list(compared.only_b),
    }
