"""The command line: one file a command; each parses, calls one public function, prints."""

from __future__ import annotations

import functools
import importlib
import os
import sys
from collections.abc import Callable
from typing import Any

import typer

from latbench.cli.console import err, print_json
from latbench.errors import LatbenchError, UsageError

COMMANDS = (
    "profile",
    "fit",
    "predict",
    "compare",
    "search",
    "measure",
    "compare-runs",
    "backends",
    "spaces",
    "export",
    "import",
)
_INTERRUPTED = 130

app = typer.Typer(
    name="latbench",
    help="Measure, predict and search the latency of neural architectures on any hardware.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
)


def main() -> None:
    """Run the command line: exit code 0, 2 on the user's mistake, 1 on a failure, 130 on Ctrl-C."""
    # What is named as module:attribute may lie in the current folder, as for python -m.
    sys.path.insert(0, os.getcwd())
    app()


def _explained(command: Callable[..., None]) -> Callable[..., None]:
    """Turn what a command raises into a message and an exit code."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except LatbenchError as error:
            err.print(f"error: {error}", markup=False, style="red")
            if kwargs.get("as_json"):
                print_json({"error": {"type": type(error).__name__, "message": str(error)}})
            raise typer.Exit(2 if isinstance(error, UsageError) else 1) from None
        except KeyboardInterrupt:
            err.print("stopped: what is in a store or a folder is kept, and profile and search continue from it")
            raise typer.Exit(_INTERRUPTED) from None

    return run


for _name in COMMANDS:
    _module = importlib.import_module(f"latbench.cli.{_name.replace('-', '_')}_command")
    app.command(_name)(_explained(_module.run))
