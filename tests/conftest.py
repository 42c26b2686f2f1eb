"""Settings of all tests."""

from hypothesis import settings

# Shared machines pause; a slow example is no failure.
settings.register_profile("latbench", deadline=None)
settings.load_profile("latbench")
