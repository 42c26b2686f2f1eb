"""Figures of what was measured, predicted and searched. Needs matplotlib: ``pip install 'latbench[report]'``."""

from latbench.report.cells import draw_cells
from latbench.report.files import check_figure, save_figure
from latbench.report.plots import learning_curves, predicted_against_measured, search_history
from latbench.report.style import has_cells

__all__ = [
    "check_figure",
    "draw_cells",
    "has_cells",
    "learning_curves",
    "predicted_against_measured",
    "save_figure",
    "search_history",
]
