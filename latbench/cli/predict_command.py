"""``latbench predict``."""

from __future__ import annotations

import io
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
      latbench spaces darts --samples 5 | latbench predict runs/mlp.safetensors --file -
    """
    from latbench.prediction.file import load_predictor

    trained = load_predictor(predictor)
    texts = {f"architecture {number}": text for number, text in enumerate(architectures or [], start=1)}
    texts |= _lines(file) if file else {}
    if not texts:
        raise UsageError("no architecture to predict: name some, or give --file")
    values = trained.predict([_parsed(trained.space, text, where) for where, text in texts.items()])
    if as_json:
        rows = [
            {"architecture": text, "value": float(value)} for text, value in zip(texts.values(), values, strict=True)
        ]
        print_json({"unit": trained.unit, "predictions": rows})
        return
    for text, value in zip(texts.values(), values, strict=True):
        out.print(f"{value:.4f} {trained.unit}  {text}")


def _lines(file: str) -> dict[str, str]:
    """Return the lines that are not blank, by their place in the file as an editor counts."""
    remedy = "give a text file with one architecture a line"
    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        lines = io.StringIO(data.decode("utf-8-sig"), newline=None).read().split("\n")
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}: {remedy}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"cannot read {file}: it holds no UTF-8 text: {remedy}") from error
    return {f"line {number} of {file}": line.strip() for number, line in enumerate(lines, start=1) if line.strip()}


def _parsed(space: SearchSpace, text: str, where: str) -> Architecture:
    try:
        architecture: Architecture = space.parse(text)
    except ParseError as error:
        raise ParseError(f"{where}: {error}") from error
    return architecture
