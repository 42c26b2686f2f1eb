"""What the networks of a search learn; each registers through the entry points ``latbench.tasks``."""
