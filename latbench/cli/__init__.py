"""The command line: one file a command; each parses, calls one public function, prints."""

from __future__ import annotations

import errno
import importlib
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from latbench.cli.console import err, out, print_error, print_json
from latbench.errors import LatbenchError, UsageError

COMMANDS = (
    "profile",
    "fit",
    "predict",
    "compare",
    "search",
    "measure",
    "compare-runs",
    "plugins",
    "spaces",
    "export",
    "import",
)
_ALIASES = {"backends": "plugins"}
_INTERRUPTED = 130

_Misuse: Any = typer.BadParameter.__base__
"""What typer raises for arguments that do not parse: click's UsageError, of the package or of typer's own copy."""


class _Commands(TyperGroup):
    """The commands; whatever a command raises becomes a message and an exit code."""

    def main(self, args: Sequence[str] | None = None, **settings: Any) -> NoReturn:  # type: ignore[override]
        arguments = list(sys.argv[1:] if args is None else args) or ["--help"]
        with _explained(as_json="--json" in arguments):
            code = super().main(arguments, **{**settings, "standalone_mode": False})
            sys.stdout.flush()
        sys.exit(code)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            err.print(
                "stopped: what is already in a store or a folder is kept, and profile and search continue from it"
            )
            raise typer.Exit(_INTERRUPTED) from None


@contextmanager
def _explained(*, as_json: bool) -> Iterator[None]:
    try:
        yield
    except (LatbenchError, _Misuse) as raised:
        error = raised if isinstance(raised, LatbenchError) else _misuse(raised)
        print_error(error)
        if as_json:
            print_json({"error": {"type": type(error).__name__, "message": str(error)}})
        sys.exit(2 if isinstance(error, UsageError) else 1)
    except OSError as error:  # for example, standard output on a full disk
        if error.errno != errno.EPIPE:  # whoever closes a pipe has read enough
            print_error(f"{error}: what was printed or written may be cut short")
        _drop_output()
        sys.exit(1)


def _misuse(error: Any) -> UsageError:
    command = error.ctx.command_path if error.ctx else "latbench"
    return UsageError(f"{error.format_message().rstrip('.')} (see '{command} --help')")


def _drop_output() -> None:
    """Forget what standard output did not take: the interpreter would try again at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        sys.stdout = None


def _print_version(asked: bool) -> None:
    if asked:
        import latbench

        out.print(f"latbench {latbench.__version__}")
        raise typer.Exit


app = typer.Typer(
    name="latbench",
    cls=_Commands,
    rich_markup_mode=None,  # reflows paragraphs, and reads no markup in them
    pretty_exceptions_enable=False,
    add_completion=False,
)


@app.callback()
def _latbench(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Measure, predict and search the latency of neural architectures on any hardware."""


def _add_command(name: str, module: str, *, hidden: bool = False) -> None:
    run = importlib.import_module(f"latbench.cli.{module.replace('-', '_')}_command").run
    app.command(name, short_help=run.__doc__.partition("\n")[0], hidden=hidden)(run)


for _name in COMMANDS:
    _add_command(_name, _name)
for _alias, _name in _ALIASES.items():
    _add_command(_alias, _name, hidden=True)


def main() -> None:
    """Run the command line: exit code 0, 2 on the user's mistake, 1 on a failure, 130 on Ctrl-C."""
    # module:attribute may name a module in the current folder, as with python -m.
    sys.path.insert(0, os.getcwd())
    try:
        app()
    except SystemExit as end:
        if end.code == _INTERRUPTED:
            # Everything is closed; taking torch down takes a second, and many on a busy machine.
            _drop_output()
            os._exit(_INTERRUPTED)
        raise
