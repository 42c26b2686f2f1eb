"""Every registered backend, and the null backend, keep the contract."""

from __future__ import annotations

from latbench import plugins
from latbench.testing import BackendSuite

NAMES = [*plugins.names(plugins.BACKENDS), "latbench.testing:NullBackend"]

for _name in NAMES:
    _title = "Test" + _name.replace(".", "_").replace(":", "_").title()
    globals()[_title] = type(_title, (BackendSuite,), {"backend": _name})
