"""``latbench predict``."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from latbench.cli import options as opt
from latbench.cli.console import err, out, print_json
from latbench.errors import ParseError, UsageError
from latbench.records.figures import figures
from latbench.space import Architecture, SearchSpace

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def run(
    predictor: Annotated[Path, typer.Argument(help="The predictor's file.")],
    architectures: Annotated[list[str] | None, typer.Argument(help="Architectures in their string form.")] = None,
    file: Annotated[
        str | None, typer.Option(help="A file with one architecture a line; - reads standard input.")
    ] = None,
    std: Annotated[bool, typer.Option("--std", help="Print the standard deviation too, where it is known.")] = False,
    interval: Annotated[
        float | None, typer.Option(help="Print the ends of the interval that holds this share of measured values.")
    ] = None,
    as_json: opt.AsJson = False,
) -> None:
    """Predict architectures, one value a line.

    An interval is conformal: it holds the share asked for among architectures that are drawn as those of the profile
    were. What lies outside of the measured values is noted.

    \b
    Examples:
      latbench predict runs/mlp.safetensors "Genotype(normal=[...], normal_concat=range(2, 6), ...)"
      latbench predict runs/mlp.safetensors --file architectures.txt
      latbench predict runs/bayesian.safetensors --file architectures.txt --std
      latbench predict runs/mlp.safetensors --file architectures.txt --interval 0.9
      latbench spaces darts --samples 5 | latbench predict runs/mlp.safetensors --file -
    """
    from latbench.prediction.file import load_predictor

    trained = load_predictor(predictor)
    texts = {f"architecture {number}": text for number, text in enumerate(architectures or [], start=1)}
    texts |= _lines(file) if file else {}
    if not texts:
        raise UsageError("no architecture to predict: name some, or give --file")
    parsed = [_parsed(trained.space, text, where) for where, text in texts.items()]
    columns: dict[str, NDArray[Any]] = {}
    values = trained.predict(parsed)
    if std:
        columns["std"] = trained.predict(parsed, return_std=True)[1]
    if interval is not None:
        columns["low"], columns["high"] = trained.interval(parsed, level=interval)
    for (where, text), value in zip(texts.items(), values, strict=True):
        if value <= 0:
            raise UsageError(
                f"{where}: {predictor} predicts {value:.4g} {trained.unit}, which nothing takes: fit it to more "
                f"architectures, or fit another predictor: {text}"
            )
    outside = trained.extrapolates(parsed)
    if as_json:
        columns["extrapolates"] = outside
        print_json({"unit": trained.unit, "predictions": _rows(list(texts.values()), values, columns)})
        return
    for row in _rows(list(texts.values()), values, columns):
        spread = f" ± {figures(row['std'])}" if std else ""
        ends = "" if interval is None else f" [{figures(row['low'])}, {figures(row['high'])}]"
        out.print(f"{figures(row['value'])}{spread}{ends} {trained.unit}  {row['architecture']}")
    if outside.any():
        low, high = (figures(float(trained.facts[end])) for end in ("fastest", "slowest"))  # type: ignore[arg-type]
        err.print(
            f"note: {outside.sum()} of {len(outside)} predictions lie outside of what was measured ({low} to {high} "
            f"{trained.unit}), or are of networks without a live path, which it has not learnt from: nothing tells how "
            "far they are off, so measure such architectures"
        )


def _rows(texts: list[str], values: NDArray[np.float64], columns: dict[str, NDArray[Any]]) -> list[dict[str, Any]]:
    rows = [{"architecture": text, "value": float(value)} for text, value in zip(texts, values, strict=True)]
    return [
        {**row, **{name: column[place].item() for name, column in columns.items()}} for place, row in enumerate(rows)
    ]


def _lines(file: str) -> dict[str, str]:
    """Return the lines that are not blank, by their place in the file as an editor counts."""
    remedy = "give a text file with one architecture a line"
    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        lines = io.StringIO(data.decode("utf-8-sig"), newline=None).read().split("\n")
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}: {remedy}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"cannot read {file}: it is not UTF-8 text: {remedy}") from error
    return {f"line {number} of {file}": line.strip() for number, line in enumerate(lines, start=1) if line.strip()}


def _parsed(space: SearchSpace, text: str, where: str) -> Architecture:
    try:
        architecture: Architecture = space.parse(text)
    except ParseError as error:
        raise ParseError(f"{where}: {error}") from error
    return architecture
