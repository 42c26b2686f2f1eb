"""Differentiable search: the latency loss, a DARTS search, brief training, and the final measurement."""

from latbench.search.darts import search_architecture
from latbench.search.data import Images, load_images
from latbench.search.latency_loss import LatencyLoss
from latbench.search.result import Epoch, SearchResult, SearchSettings
from latbench.search.training import TrainingSettings, train_architecture
from latbench.search.verification import Found, Verification, verify

__all__ = [
    "Epoch",
    "Found",
    "Images",
    "LatencyLoss",
    "SearchResult",
    "SearchSettings",
    "TrainingSettings",
    "Verification",
    "load_images",
    "search_architecture",
    "train_architecture",
    "verify",
]
