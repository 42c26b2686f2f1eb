"""``latbench predict``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from latbench.cli import options as opt
from latbench.cli.console import out, print_json
from latbench.errors import ParseError, UsageError
from latbench.space import Architecture, SearchSpace


def run(
    predictor: Annotated[Path, typer.Argument(help="The predictor's file.")],
    architectures: Annotated[list[str] | None, typer.Argument(help="Architectures in their string form.")] = None,
    file: Annotated[
        str | None, typer.Option(help="A file with one architecture a line; - reads standard input.")
    ] = None,
    as_json: opt.AsJson = False,
) -> None:
    """Predict architectures, one value a line.

    \b
    Examples:
      latbench predict runs/mlp.safetensors "Genotype(normal=[...], normal_concat=range(2, 6), ...)"
      latbench predict runs/mlp.safetensors --file architectures.txt
      latbench spaces darts --samples 5 --json | jq -r '.samples[]' | latbench predict runs/mlp.safetensors --file -
    """
    from latbench.predictor_file import load_predictor

    trained = load_predictor(predictor)
    texts = [*(architectures or []), *(_lines(file) if file else [])]
    if not texts:
        raise UsageError("no architecture to predict: name some, or give --file")
    values = trained.predict([_parsed(trained.space, text, number) for number, text in enumerate(texts, start=1)])
    if as_json:
        rows = [{"architecture": text, "value": float(value)} for text, value in zip(texts, values, strict=True)]
        print_json({"unit": trained.unit, "predictions": rows})
        return
    for text, value in zip(texts, values, strict=True):
        out.print(f"{value:.4f} {trained.unit}  {text}", markup=False)


def _lines(file: str) -> list[str]:
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text()
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}") from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def _parsed(space: SearchSpace, text: str, number: int) -> Architecture:
    try:
        return space.parse(text)
    except ParseError as error:
        raise ParseError(f"architecture {number}: {error}") from error
