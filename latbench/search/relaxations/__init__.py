"""Relaxations: parameters that a search moves, and the architectures that they stand for; one file each.

They know shapes and graphs, and no space: a space gives them `decode`, which turns an architecture's encoding into the
architecture, and returns one of them as `latbench.space.Relaxable.relaxation`. All of them draw encodings whose mean is
the expected one at every temperature, and whose values are those of architectures; gradients go straight through.

A parameter of ``-inf`` takes an option out (a pruned operation): it is never drawn and gets no gradient.
"""

from latbench.search.relaxations.decisions import Decisions
from latbench.search.relaxations.edge_pairs import EdgePairs
from latbench.search.relaxations.gumbel_softmax import GumbelSoftmax
from latbench.search.relaxations.sigmoid import Sigmoid
from latbench.search.relaxations.softmax import Softmax
from latbench.search.relaxations.two_edges import TwoEdges

__all__ = ["Decisions", "EdgePairs", "GumbelSoftmax", "Sigmoid", "Softmax", "TwoEdges"]
