"""What cell spaces share: the graph of a cell, its operations, its supernet, and the checks of their arguments."""
