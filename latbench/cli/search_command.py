"""``latbench search``."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from latbench.cli import options as opt
from latbench.cli.console import err, out, print_error, print_json, print_table
from latbench.errors import UsageError

if TYPE_CHECKING:
    from latbench.prediction.trained import TrainedPredictor
    from latbench.search.campaign import Step
    from latbench.search.strategies.result import SearchResult
    from latbench.search.verification import Verification


def run(
    predictor: Annotated[
        Path, typer.Argument(help="File of a differentiable predictor; its backend measures the result.")
    ],
    to: Annotated[Path, typer.Option("--out", help="Folder for checkpoints, genotypes, histories and plots.")],
    targets: Annotated[
        str, typer.Option(help="Comma-separated: none, a number in the predictor's unit, or a share such as 75%.")
    ] = "none,75%",
    data: Annotated[str, typer.Option(help="digits, a CIFAR-like .npz file, or module:factory.")] = "digits",
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of each search.")] = 50,
    train_epochs: Annotated[int, typer.Option(min=1, help="Epochs of each training.")] = 20,
    batch_size: Annotated[int, typer.Option(min=1, help="Images of one step.")] = 64,
    warmup_epochs: Annotated[int, typer.Option(min=0, help="First epochs in which the alphas rest.")] = 0,
    alpha_lr: Annotated[float, typer.Option(help="Learning rate of the alphas.")] = 3e-4,
    device: Annotated[
        str, typer.Option(help="Where networks are trained: cpu, or a device of torch's like cuda.")
    ] = "cpu",
    measure: Annotated[bool, typer.Option(help="Measure what was found, on the predictor's backend.")] = True,
    plots: Annotated[bool, typer.Option(help="Draw the search and the cells; needs the extra 'report'.")] = True,
    seed: opt.Seed = 0,
    as_json: opt.AsJson = False,
) -> None:
    """Search with the latency loss, train what was found, and measure it on the target.

    Prints accuracy beside asked, predicted and measured latency. An interrupted search continues.

    \b
    Examples:
      latbench search runs/mlp.safetensors --out runs/search
      latbench search runs/mlp.safetensors --targets none,90%,75% --data cifar10.npz --epochs 50 --out runs/cifar
      latbench search runs/mlp.safetensors --targets 1.2 --out runs/fast --json
    """
    from latbench.prediction.file import load_predictor
    from latbench.report import check_figure
    from latbench.search.campaign import search_and_verify
    from latbench.search.strategies.result import SearchSettings
    from latbench.search.tasks.images import load_images
    from latbench.search.tasks.training import TrainingSettings

    if plots:
        try:
            check_figure(Path("search.png"))
        except UsageError as error:
            raise UsageError(f"{error}, or search with --no-plots") from None
    trained = load_predictor(predictor)
    settings = SearchSettings(
        epochs=epochs, batch_size=batch_size, seed=seed, warmup_epochs=warmup_epochs, alpha_lr=alpha_lr
    )
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=err,
        disable=as_json,
    ) as bars:
        lines: dict[tuple[str, str], int] = {}

        def draw(step: Step) -> None:
            key = (step.search, step.doing)
            if key not in lines:
                lines[key] = bars.add_task(f"{step.doing}, target {step.search}", total=step.total)
            bars.update(lines[key], completed=step.done)  # type: ignore[arg-type]

        rows, results = search_and_verify(
            trained,
            load_images(data, trained.space),
            targets=targets.split(","),
            folder=to,
            settings=settings,
            training=TrainingSettings(epochs=train_epochs, batch_size=batch_size, seed=seed),
            device=device,
            measure=measure,
            on_step=draw,
        )
    if as_json:
        print_json({"out": str(to), "unit": trained.unit, "rows": [dataclasses.asdict(row) for row in rows]})
    else:
        _print(rows, trained.unit)
        out.print(f"wrote {to}: a checkpoint, genotype.txt and history.json for each target, final.json")
    if not plots:
        return
    try:
        drawn = _plots(trained, rows, results, to)
    except UsageError as error:  # the results are out
        print_error(error)
        raise typer.Exit(2) from None
    if not as_json:
        out.print(f"drew {', '.join(path.name for path in drawn)}")


def _print(rows: Sequence[Verification], unit: str) -> None:
    columns = ("search", "accuracy", f"asked {unit}", f"predicted {unit}", f"measured {unit}", "95% interval")
    cells = [
        (
            row.name,
            f"{row.accuracy:.1%}",
            "-" if row.asked is None else f"{row.asked:.4f}",
            f"{row.predicted:.4f}",
            "-" if row.measured is None else f"{row.measured:.4f}",
            "-" if row.measured is None else f"{row.low:.4f} - {row.high:.4f}",
        )
        for row in rows
    ]
    print_table(columns, cells)


def _plots(
    trained: TrainedPredictor, rows: Sequence[Verification], results: dict[str, SearchResult], folder: Path
) -> list[Path]:
    from latbench.report import draw_cells, save_figure, search_history

    histories = {row.name: result.history for row, result in zip(rows, results.values(), strict=True)}
    target = next((row.asked for row in rows if row.asked is not None), None)
    figures = {"search.png": search_history(histories, trained.space, target=target, unit=trained.unit)}
    for number, (row, result) in enumerate(zip(rows, results.values(), strict=True), start=1):
        figures[f"cells-{number}.png"] = draw_cells(trained.space, result.architecture, title=row.name)
    for name, figure in figures.items():
        save_figure(figure, folder / name)
    return [folder / name for name in figures]
