"""``latbench compare``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from latbench.cli import options as opt
from latbench.cli.console import out, print_json, print_table
from latbench.errors import UsageError


def run(
    store: Annotated[Path, typer.Argument(help="The store to learn from and to test on.")],
    predictors: Annotated[
        str | None, typer.Option(help="Comma-separated names; all that are available unless given.")
    ] = None,
    train: Annotated[str, typer.Option(help="Comma-separated numbers of training architectures.")] = "100",
    seeds: Annotated[int, typer.Option(min=1, help="How many random splits.")] = 5,
    plot: Annotated[
        Path | None, typer.Option(help="Draw predicted against measured; needs the extra 'report'.")
    ] = None,
    target: opt.Target = None,
    as_json: opt.AsJson = False,
) -> None:
    """Compare predictors on held-out architectures, beside the measured noise floor.

    Isomorphic architectures never straddle training and test; every predictor sees the same splits.

    \b
    Examples:
      latbench compare runs/ort.db
      latbench compare runs/ort.db --predictors mlp,gbdt,lookup --train 20,50,100 --seeds 10
      latbench compare runs/ort.db --plot runs/predictors.png
      latbench compare runs/cuda.db --target energy_mj
    """
    from latbench import plugins
    from latbench.evaluation.comparison import compare, held_out
    from latbench.measurement import TARGETS
    from latbench.store import Store

    registered = plugins.names(plugins.PREDICTORS)
    chosen = (
        predictors.split(",")
        if predictors
        else [n for n in registered if plugins.status(plugins.PREDICTORS, n).available]
    )
    sizes = _sizes(train)
    with Store(store, quantity=target and TARGETS[target]) as opened:
        profile = opened.profile()
    comparison = compare(profile, chosen, train_sizes=sizes, seeds=seeds)
    if plot is not None:
        from latbench.report import predicted_against_measured

        measured, predicted = held_out(profile, chosen, train_size=max(sizes))
        floor = comparison.noise_floor.mape
        figure = predicted_against_measured(measured, predicted, unit=profile.conditions.unit, noise_floor=floor)
        figure.savefig(plot, dpi=150)
    if as_json:
        print_json(comparison.to_json())
        return
    print_table(*comparison.table(), title=f"{store}: mean over {seeds} random splits")
    out.print(f"noise floor: {comparison.noise_floor}", markup=False)
    for note in comparison.notes:
        out.print(f"note: {note}", markup=False)
    if plot is not None:
        out.print(f"drew {plot}", markup=False)


def _sizes(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(size) for size in text.split(","))
    except ValueError as error:
        raise UsageError(f"--train {text!r} is not a list of numbers: write for example --train 20,50,100") from error
