"""A CUDA graph: an inference captured once and launched as a whole."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch

_WARM_UP_RUNS = 3
"""Libraries choose kernels and allocate workspaces in their first runs, which a capture must not contain."""


@cache
def side_stream() -> torch.cuda.Stream:
    """Return the stream on which graphs are prepared: cuBLAS keeps a workspace for every stream that it ever saw."""
    return torch.cuda.Stream()  # type: ignore[no-untyped-call]


class Graph:
    """An inference as a CUDA graph.

    Args:
        call: launches the inference on the current stream and returns what it computes.

    Attributes:
        result: what `call` returned; every launch computes it again in the same memory.

    Raises:
        RuntimeError: the inference does what a capture does not allow, such as waiting for the GPU.
    """

    def __init__(self, call: Callable[[], Any]) -> None:
        side = side_stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(_WARM_UP_RUNS):
                call()
        torch.cuda.current_stream().wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, stream=side):
            self.result = call()

    def launch(self) -> None:
        """Launch the inference on the current stream."""
        self._graph.replay()
