"""``latbench measure``."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from latbench.cli import options as opt
from latbench.cli.console import print_json, print_table


def run(
    source: Annotated[str, typer.Argument(help="An .onnx file, a .pt2 file of torch.export, or module:factory.")],
    backend: Annotated[list[str], typer.Option(help="Backend name or module:Class; repeatable.")] = ["onnxruntime"],  # noqa: B006 - typer reads it
    inputs: Annotated[
        list[str] | None, typer.Option("--input", help="A sample input as name:1x3x224x224:float32; repeatable.")
    ] = None,
    option: opt.BackendOptions = None,
    precision: opt.Precision = "fp32",
    threads: opt.Threads = 1,
    as_json: opt.AsJson = False,
) -> None:
    """Measure one model.

    \b
    Examples:
      latbench measure net.onnx
      latbench measure net.onnx --backend onnxruntime --input x:8x3x224x224:float32 --threads 2
      latbench measure mypackage.models:make_net --backend cpu --backend onnxruntime --json
    """  # noqa: D301
    from latbench.backend import CompileOptions
    from latbench.measure import measure_model
    from latbench.model_source import open_model

    model = open_model(source, inputs or [])
    options = CompileOptions(precision, threads, opt.pairs(option, "--option"))
    measured = [(name, measure_model(model, name, options=options)) for name in backend]
    if as_json:
        print_json([{"backend": name, "unit": "ms", **dataclasses.asdict(m)} for name, m in measured])
        return
    print_table(
        ("backend", "ms", "95% interval", "wall ms", "visits", "flags"),
        [
            (
                name,
                f"{m.value:.4f}",
                f"{m.low:.4f} - {m.high:.4f}",
                f"{m.wall:.4f}",
                str(len(m.blocks)),
                " ".join(m.flags),
            )
            for name, m in measured
        ],
        title=model.name,
    )
