"""The command line: one file a command; each parses, calls one public function, prints."""

from __future__ import annotations

import errno
import importlib
import os
import platform
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import metadata
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
    "diff",
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
        with _explained(as_json="--json" in arguments or "json" in _formats(arguments)):
            code = super().main(arguments, **{"prog_name": "latbench", **settings, "standalone_mode": False})
            sys.stdout.flush()
        sys.exit(code)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            err.print(
                "stopped: what a store, a folder or a file holds is kept, and profile and search continue from it"
            )
            raise typer.Exit(_INTERRUPTED) from None


def _formats(arguments: Sequence[str]) -> list[str]:
    """Return what is asked for as ``--format X`` or ``--format=X``; an error has the form of the result."""
    pairs = zip(arguments, [*arguments[1:], ""], strict=True)
    return [
        after if text == "--format" else text.removeprefix("--format=") for text, after in pairs if "--format" in text
    ]


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


def _versions() -> dict[str, Any]:
    """Return the versions of latbench, of Python, and of what is installed of the packages that latbench may use."""
    packages = {}
    for requirement in sorted(metadata.requires("latbench") or []):
        name = re.match(r"[\w.-]+", requirement)
        if name and "dev" not in requirement.partition(";")[2]:
            with suppress(metadata.PackageNotFoundError):
                packages[name[0]] = metadata.version(name[0])
    return {
        "latbench": metadata.version("latbench"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": packages,
    }


app = typer.Typer(
    name="latbench",
    cls=_Commands,
    rich_markup_mode=None,  # reflows paragraphs, and reads no markup in them
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def _latbench(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="With --version: also those of Python and of the libraries, as JSON.")
    ] = False,
) -> None:
    """Measure, predict and search the latency of neural architectures on any hardware.

    \b
    Examples:
      latbench measure net.onnx
      latbench measure --help
      latbench --version --json
      latbench --install-completion
    """
    if version:
        if as_json:
            print_json(_versions())
        else:
            out.print(f"latbench {metadata.version('latbench')}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        raise UsageError("no command is named: see 'latbench --help'")


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
