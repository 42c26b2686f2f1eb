"""TensorRT, and TensorRT for RTX, which has the same interface: ONNX -> strongly typed network -> engine -> context.

`library` says which of the two is used and keeps what it logs, `settings` has the options, `building` makes an engine
from a model, even without a GPU, `engine` knows its layers and their precision, `caching` keeps files between builds,
`engines` takes an engine from there or builds it, `running` and `tensors` run it on the GPU, `backend` is the plug-in.
"""

from latbench_tensorrt.backend import TensorRtBackend
from latbench_tensorrt.building import build_engine
from latbench_tensorrt.caching import CacheWarning
from latbench_tensorrt.engine import Engine

__all__ = ["CacheWarning", "Engine", "TensorRtBackend", "build_engine"]
