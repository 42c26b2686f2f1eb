"""Figures of what was measured, predicted and searched. Needs matplotlib: ``pip install 'latbench[report]'``."""

from latbench.report.cells import draw_cells
from latbench.report.plots import predicted_against_measured, search_history

__all__ = ["draw_cells", "predicted_against_measured", "search_history"]
