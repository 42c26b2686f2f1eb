"""``python -m latbench``."""

from latbench.cli import main

main()
