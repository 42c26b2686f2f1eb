"""ONNX Runtime: its CPU kernels, or any other execution provider that the installed build has.

`backend` loads and times a session, `providers` knows what the build offers and which provider an operator runs on,
`threads` keeps the sessions of a process from disturbing each other.
"""

from __future__ import annotations

from latbench_onnxruntime.backend import OnnxRuntimeBackend

__all__ = ["OnnxRuntimeBackend"]
