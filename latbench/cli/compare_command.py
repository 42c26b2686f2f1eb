"""``latbench compare``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from latbench.cli import options as opt
from latbench.cli.console import out, print_error, print_json, print_table
from latbench.cli.sources import Sources, profile_and_sources
from latbench.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from latbench.prediction.evaluation.comparison import Comparison
    from latbench.records.profile import Profile


def run(
    store: Annotated[Path, typer.Argument(help="The store to learn from and to test on.")],
    predictors: Annotated[
        str | None,
        typer.Option(help="Comma-separated names, also auto; by default, all that can learn from this store."),
    ] = None,
    train: Annotated[
        str | None,
        typer.Option(
            help="Comma-separated numbers of training architectures; by default 100, or half of a smaller profile."
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many random splits.")] = 5,
    plot: Annotated[
        Path | None,
        typer.Option(help="Draw predicted against measured, as .png, .pdf or .svg; needs the extra 'report'."),
    ] = None,
    curves: Annotated[
        Path | None, typer.Option(help="Draw the error over the training sizes, likewise, beside the noise floor.")
    ] = None,
    sources: Sources = None,
    keep_dead: opt.KeepDead = False,
    quantity: opt.Quantity = None,
    old: opt.OldQuantity = None,
    as_json: opt.AsJson = False,
) -> None:
    """Compare predictors on held-out architectures, beside the measured noise floor.

    A size counts architectures of different structure, isomorphic ones never straddle training and test, and every
    predictor sees the same splits: "behind" is the mean difference to the best one, "(noise)" where the seeds cannot
    tell. "fastest 10%" is the MAPE where searches end; --json has it by latency.

    \b
    Examples:
      latbench compare runs/ort.db
      latbench compare runs/ort.db --predictors mlp,gbdt,lookup --train 20,50,100 --seeds 10 --curves runs/curves.png
      latbench compare runs/ort.db --predictors auto,mlp --plot runs/predictors.png
      latbench compare runs/cuda.db --quantity energy
      latbench compare runs/new.db --train 10,20 --sources runs/ort.db --sources runs/cuda.db
    """
    from latbench.prediction.evaluation.comparison import compare, held_out
    from latbench.report import check_figure, learning_curves, predicted_against_measured, save_figure

    for path in (plot, curves):
        if path is not None:
            check_figure(path)
    sizes = _sizes(train) if train is not None else None
    chosen = None if predictors is None else _names(predictors)
    profile, others = profile_and_sources(store, sources, opt.quantity_of(quantity, old))
    sizes = sizes or (_default_size(profile),)
    comparison = compare(profile, chosen, train_sizes=sizes, seeds=seeds, sources=others, keep_dead=keep_dead)
    if as_json:
        print_json(comparison.to_json())
    else:
        _print(comparison, title=f"{store}: mean over {seeds} random splits")
    figures: dict[Path, Figure] = {}
    floor = comparison.noise_floor.mape
    if curves is not None:
        figures[curves] = learning_curves(comparison.errors(), noise_floor=floor)
    if plot is not None:
        measured, predicted = held_out(
            profile, comparison.predictors, train_size=max(sizes), sources=others, keep_dead=keep_dead
        )
        unit = profile.conditions.unit
        figures[plot] = predicted_against_measured(measured, predicted, unit=unit, noise_floor=floor)
    for path, figure in figures.items():
        try:
            save_figure(figure, path)
        except UsageError as error:  # the one JSON document is out
            print_error(error)
            raise typer.Exit(2) from None
        if not as_json:
            out.print(f"drew {path}")


def _print(comparison: Comparison, title: str) -> None:
    print_table(*comparison.table(), title=title)
    out.print(f"noise floor: {comparison.noise_floor}")
    for note in comparison.notes:
        out.print(f"note: {note}")


def _names(text: str) -> list[str]:
    names = [name for name in dict.fromkeys(part.strip() for part in text.split(",")) if name]
    if not names:
        raise UsageError(f"--predictors {text!r} names no predictor: write for example --predictors mlp,ridge")
    return names


def _default_size(profile: Profile) -> int:
    """Return the default number of training architectures: no more than are left for the test."""
    return min(100, max(2, len(set(profile.groups)) // 2))


def _sizes(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(size) for size in text.split(","))
    except ValueError as error:
        raise UsageError(f"--train {text!r} is not a list of numbers: write for example --train 20,50,100") from error
