"""PyTorch: the module as it is, or as people deploy it, on the CPU or on a CUDA GPU.

`variant` says what is computed, `module` holds a prepared module with its inputs, `cpu` and `cuda` time it, and `graph`
launches it as a CUDA graph.
"""

from __future__ import annotations

from latbench_torch.cpu import CpuBackend
from latbench_torch.cuda import CudaBackend

__all__ = ["CpuBackend", "CudaBackend"]
