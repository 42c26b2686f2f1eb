"""Every registered meter, and the null meter, keep the contract."""

from __future__ import annotations

from latbench import plugins
from latbench.testing import MeterSuite

for _name in plugins.names(plugins.METERS):
    _title = f"Test{_name.title()}"
    globals()[_title] = type(_title, (MeterSuite,), {"meter": _name})


class TestNullMeter(MeterSuite):
    meter = "latbench.testing:NullMeter"
    backends = ("latbench.testing:NullBackend",)
