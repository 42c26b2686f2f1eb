"""``latbench search``."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn

from latbench.cli import options as opt
from latbench.cli.console import err, out, print_error, print_json, print_table
from latbench.cli.progress import Bars
from latbench.errors import UsageError
from latbench.plugins import STRATEGIES, TASKS, configure, load
from latbench.records.figures import figures

if TYPE_CHECKING:
    from latbench.prediction.trained import TrainedPredictor
    from latbench.search.campaign import Step
    from latbench.search.verification import Verification
    from latbench.strategy import Candidate
    from latbench.task import Metric, Task


def run(
    predictor: Annotated[
        Path, typer.Argument(help="A predictor's file; its backend measures the result. darts needs a differentiable.")
    ],
    to: Annotated[Path, typer.Option("--out", help="Folder for checkpoints, genotypes, histories and plots.")],
    targets: Annotated[
        str, typer.Option(help="Comma-separated: none, a number in the predictor's unit, or a share such as 75%.")
    ] = "none,75%",
    strategy: Annotated[str, typer.Option(help="How to search: darts, random, or module:Class.")] = "darts",
    strategy_options: Annotated[
        list[str] | None,
        typer.Option("--strategy-option", "-P", help="A strategy's own keyword as key=value; repeatable."),
    ] = None,
    task: Annotated[str, typer.Option(help="What networks learn: classification, or module:Class.")] = "classification",
    data: Annotated[
        str | None,
        typer.Option(help="The task's data. For a classification digits, a CIFAR-like .npz file, or module:factory."),
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="The strategy's epochs.")] = None,
    train_epochs: Annotated[int, typer.Option(min=1, help="Epochs of the training of what was found.")] = 20,
    batch_size: Annotated[int, typer.Option(min=1, help="Samples of one step, in searching and training.")] = 64,
    warmup_epochs: Annotated[
        int | None, typer.Option(min=0, help="First epochs in which the alphas stay fixed, for strategies with alphas.")
    ] = None,
    alpha_lr: Annotated[
        float | None, typer.Option(help="Learning rate of the alphas, for strategies with alphas.")
    ] = None,
    device: Annotated[str, typer.Option(help="The torch device that trains networks, such as cpu or cuda.")] = "cpu",
    measure: Annotated[bool, typer.Option(help="Measure what was found, on the predictor's backend.")] = True,
    plots: Annotated[bool, typer.Option(help="Draw the search and the cells; needs the extra 'report'.")] = True,
    seed: opt.Seed = 0,
    as_json: opt.AsJson = False,
) -> None:
    """Search for architectures that meet a target, train what was found, and measure it on the predictor's backend.

    Prints the score beside the value asked for, predicted and measured. An interrupted search continues.

    \b
    Examples:
      latbench search runs/mlp.safetensors --out runs/search
      latbench search runs/mlp.safetensors --targets none,90%,75% --data cifar10.npz --epochs 50 --out runs/cifar
      latbench search runs/gbdt.safetensors --strategy random -P samples=200 -P trained=8 --out runs/random
      latbench search runs/mlp.safetensors --targets 1.2 --out runs/fast --json
    """
    from latbench.prediction.file import load_predictor
    from latbench.report import check_figure
    from latbench.search.campaign import search_and_verify
    from latbench.search.tasks.training import TrainingSettings
    from latbench.task import HasMetric, Metric

    if plots:
        try:
            check_figure(Path("search.png"))
        except UsageError as error:
            raise UsageError(f"{error}, or search with --no-plots") from None
    trained = load_predictor(predictor)
    # An option that is not given keeps the strategy's own default.
    given = {"epochs": epochs, "warmup_epochs": warmup_epochs, "alpha_lr": alpha_lr}
    options = {key: value for key, value in given.items() if value is not None}
    options |= _batch_size(strategy, batch_size) | opt.literals(strategy_options, "--strategy-option")
    learned: Task = configure(TASKS, task, {} if data is None else {"data": data})
    with _bars(as_json) as bars:
        rows, best = search_and_verify(
            trained,
            learned,
            strategy=strategy,
            options=options,
            targets=targets.split(","),
            folder=to,
            training=TrainingSettings(epochs=train_epochs, batch_size=batch_size, seed=seed),
            device=device,
            seed=seed,
            measure=measure,
            on_step=_drawn_on(bars),
            on_note=lambda note: err.print(f"note: {note}"),
        )
    if as_json:
        print_json({"out": str(to), "unit": trained.unit, "rows": [dataclasses.asdict(row) for row in rows]})
    else:
        _print(rows, trained.unit, learned.metric if isinstance(learned, HasMetric) else Metric())
        out.print(f"wrote {to}: the state of each search, its genotype.txt and history.json, and final.json")
    if not plots:
        return
    try:
        drawn = _plots(trained, rows, best, to)
    except UsageError as error:  # the results are out
        print_error(error)
        raise typer.Exit(2) from None
    if not as_json:
        cells = "" if len(drawn) > 1 else f"; space {trained.space.name!r} has no cells to draw"
        out.print(f"drew {', '.join(path.name for path in drawn)}{cells}")


def _batch_size(strategy: str, batch_size: int) -> dict[str, int]:
    """Return the batch size as a keyword if the strategy has one: the option is for training as well."""
    try:
        parameters = inspect.signature(load(STRATEGIES, strategy)).parameters
    except (TypeError, ValueError):  # not a class, or built in: configuring it will tell
        return {}
    return {"batch_size": batch_size} if "batch_size" in parameters else {}


def _bars(quiet: bool) -> Bars:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Bars(*columns, console=err, disable=quiet)


def _drawn_on(bars: Bars) -> Callable[[Step], None]:
    """Return a function that draws the steps of a campaign, a line for each search and each training."""
    lines: dict[tuple[str, str], TaskID] = {}

    def draw(step: Step) -> None:
        key = (step.search, step.doing)
        if key not in lines:
            lines[key] = bars.add_task(f"{step.doing}, target {step.search}", total=step.total)
        bars.update(lines[key], completed=step.done, total=step.total)

    return draw


def _print(rows: Sequence[Verification], unit: str, metric: Metric) -> None:
    columns = ("search", metric.name, f"asked {unit}", f"predicted {unit}", f"measured {unit}", "95% interval")
    cells = [
        (
            row.name,
            format(row.accuracy, metric.form),
            figures(row.asked),
            figures(row.predicted),
            figures(row.measured),
            "-" if row.measured is None else f"{figures(row.low)} - {figures(row.high)}",
        )
        for row in rows
    ]
    print_table(columns, cells)


def _plots(
    trained: TrainedPredictor, rows: Sequence[Verification], best: Mapping[str, Candidate], folder: Path
) -> list[Path]:
    """Draw what can be drawn: the searches, and the cells of a cell space."""
    from latbench.report import draw_cells, has_cells, save_figure, search_history

    histories = {row.name: found.history for row, found in zip(rows, best.values(), strict=True)}
    target = next((row.asked for row in rows if row.asked is not None), None)
    figures = {"search.png": search_history(histories, trained.space, target=target, unit=trained.unit)}
    if has_cells(trained.space.columns):
        for number, (row, found) in enumerate(zip(rows, best.values(), strict=True), start=1):
            figures[f"cells-{number}.png"] = draw_cells(trained.space, found.architecture, title=row.name)
    for name, figure in figures.items():
        save_figure(figure, folder / name)
    return [folder / name for name in figures]
