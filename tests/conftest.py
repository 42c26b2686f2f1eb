"""Settings of all tests."""

import os

from hypothesis import settings

# One test process a core: thread pools that spin beside each other would make torch ten times slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Shared machines pause; a slow example is no failure.
settings.register_profile("latbench", deadline=None)
settings.load_profile("latbench")
