"""``latbench fit``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from latbench.cli import options as opt
from latbench.cli.console import out, print_json
from latbench.cli.sources import Sources, profile_and_sources
from latbench.errors import UsageError


def run(
    store: Annotated[Path, typer.Argument(help="The store to learn from.")],
    predictor: Annotated[str, typer.Option(help="Name, auto or module:Class; see 'latbench plugins'.")] = "mlp",
    to: Annotated[Path | None, typer.Option("--out", help="The file to write; beside the store unless given.")] = None,
    samples: Annotated[int | None, typer.Option(help="How many architectures to learn from; all unless given.")] = None,
    param: Annotated[
        list[str] | None, typer.Option("--param", "-P", help="A keyword as key=value; repeatable.")
    ] = None,
    sources: Sources = None,
    keep_dead: opt.KeepDead = False,
    quantity: opt.Quantity = None,
    old: opt.OldQuantity = None,
    seed: opt.Seed = 0,
    as_json: opt.AsJson = False,
) -> None:
    """Fit a predictor to a profile and write it to a file.

    With --predictor auto, cross-validation on the profile chooses one.

    \b
    Examples:
      latbench fit runs/ort.db --predictor mlp --out runs/mlp.safetensors
      latbench fit runs/ort.db --predictor auto
      latbench fit runs/ort.db --predictor gbdt --samples 100 -P n_estimators=500
      latbench fit runs/ort.db --predictor sklearn.linear_model:BayesianRidge
      latbench fit runs/cuda.db --quantity energy --out runs/energy.safetensors
      latbench fit runs/new.db --predictor transfer --sources runs/ort.db --sources runs/cuda.db
    """
    from latbench.prediction.file import save_predictor
    from latbench.prediction.fit import fit

    keywords, asked = opt.literals(param, "--param"), opt.quantity_of(quantity, old)
    if mine := sorted({"profile", "predictor", "samples", "sources", "seed", "keep_dead"} & keywords.keys()):
        raise UsageError(f"--param {mine[0]} is no keyword of a predictor, but what fit itself is told: see fit --help")
    profile, others = profile_and_sources(store, sources, asked)
    trained = fit(profile, predictor, samples=samples, sources=others, seed=seed, keep_dead=keep_dead, **keywords)
    name = predictor.replace(":", ".") + (f"-{asked}" if asked else "")
    path = to or store.with_name(f"{store.stem}-{name}.safetensors")
    save_predictor(path, trained)
    if as_json:
        print_json({"predictor": str(path), "plugin": trained.plugin, "facts": dict(trained.facts)})
    else:
        for fact in ("chosen", "notes"):
            if fact in trained.facts:
                out.print(f"{fact.removesuffix('s')}: {trained.facts[fact]}")
        out.print(f"wrote {path}: {trained.plugin} for {trained.unit} on {trained.conditions.device.name}")
