"""``latbench spaces``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from latbench.cli import options as opt
from latbench.cli.console import err, out, print_json, print_table

if TYPE_CHECKING:
    from latbench.space import SearchSpace


def run(
    space: Annotated[
        str | None, typer.Argument(help="Show one space: its columns, its operations and a few samples.")
    ] = None,
    space_option: opt.SpaceOptions = None,
    samples: Annotated[
        int, typer.Option(min=0, max=100_000, help="How many architectures to draw, one a line on standard output.")
    ] = 3,
    seed: opt.Seed = 0,
    as_json: opt.AsJson = False,
) -> None:
    """List the search spaces, or show one of them.

    \b
    Examples:
      latbench spaces
      latbench spaces darts -S cells=5 --samples 2
      latbench spaces darts --samples 100 > architectures.txt
    """
    from latbench import plugins
    from latbench.records.subjects import operations
    from latbench.space import SpaceSpec

    if space is None:
        specs = [SpaceSpec.of(plugins.configure(plugins.SPACES, name, {})) for name in plugins.names(plugins.SPACES)]
        if as_json:
            print_json([{"name": spec.name, "config": dict(spec.config)} for spec in specs])
        else:
            settings = [", ".join(f"{key}={value}" for key, value in spec.config.items()) for spec in specs]
            print_table(
                ("space", "configuration"), [(s.name, c) for s, c in zip(specs, settings, strict=True)], numbers=False
            )
        return
    built = opt.space_from(space, space_option)
    drawn = [str(architecture) for architecture in built.sample(samples, seed=seed)]
    table = operations(built)
    order = _order_of_alphas(built)
    if as_json:
        spec = SpaceSpec.of(built)
        print_json(
            {
                "name": spec.name,
                "config": dict(spec.config),
                "columns": len(built.columns),
                "operations": list(table),
                "alphas": order and {"rows": order[0], "columns": order[1]},
                "samples": drawn,
            }
        )
        return
    # Standard output holds architectures alone: 'latbench predict --file' reads it.
    err.print(f"{SpaceSpec.of(built)}: encodings of {len(built.columns)} columns, {len(table)} distinct operations")
    if order:
        err.print(f"rows of the alphas: {', '.join(order[0])}")
        err.print(f"columns of the alphas: {', '.join(order[1])}")
    for text in drawn:
        out.print(text)


def _order_of_alphas(space: SearchSpace[Any]) -> tuple[list[str], list[str]] | None:
    """Return what the rows and columns of alphas mean, None where a space's alphas have none."""
    from latbench.errors import UsageError
    from latbench.search.objectives.alpha_order import order_of
    from latbench.space import Relaxable

    if not isinstance(space, Relaxable):
        return None
    try:
        return order_of(space, space.relaxation().shapes)
    except UsageError:  # a list of decisions, each with options of its own
        return None
