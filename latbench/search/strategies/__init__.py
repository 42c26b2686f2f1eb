"""The ways to search that come with latbench; each registers through the entry points ``latbench.strategies``."""
