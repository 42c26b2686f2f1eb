"""Every registered search space keeps the contract."""

from latbench import plugins
from latbench.testing.space_suite import SpaceSuite

for _name in plugins.names(plugins.SPACES):
    globals()[f"Test_{_name}"] = type(f"Test_{_name}", (SpaceSuite,), {"space": _name})
