"""The search spaces that come with latbench; each registers through the entry points ``latbench.spaces``."""
