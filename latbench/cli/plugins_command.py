"""``latbench plugins``."""

from __future__ import annotations

import dataclasses

from latbench.cli import options as opt
from latbench.cli.console import print_json, print_table


def run(as_json: opt.AsJson = False) -> None:
    """List the plug-ins of every kind: what is available here, and how to get what is not.

    \b
    Examples:
      latbench plugins
      latbench plugins --json
    """
    from latbench import plugins

    rows = [(kind, plugins.status(kind, name)) for kind in plugins.KINDS for name in plugins.names(kind)]
    if as_json:
        print_json([{"kind": kind.word, **dataclasses.asdict(status)} for kind, status in rows])
        return
    print_table(
        ("plug-in", "kind", "available", "package", "why not"),
        [(s.name, kind.word, "yes" if s.available else "no", s.package, s.reason) for kind, s in rows],
        numbers=False,
    )
