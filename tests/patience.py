"""How long tests wait, so that no test depends on how busy the machine is."""

from __future__ import annotations

PATIENCE_S = 600.0
"""For what ends at once where all is well, and never where it is not."""

LIMITS_S = (2.0, 20.0, 200.0)
"""For what must run into a limit that nothing else may reach: a busy machine gets the next one."""
