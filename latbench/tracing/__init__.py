"""Record what a module computes: its operator calls in order, with the shape of every result.

`torch.fx.Tracer` takes 20-30 ms for a DARTS network and `torch.export` seconds. Here a module runs once on tensors
without values, and every call of torch is written down as a lean `Node`, in a few milliseconds. What it asks of its
tensors in Python (shapes, dtypes, strides, types) gives what torch gives; what needs values is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from latbench.tracing.calls import VIEWS
from latbench.tracing.garbage import collections_paused
from latbench.tracing.keeping import Keepsake
from latbench.tracing.memory import viewed, written
from latbench.tracing.nodes import Node, Spec, Trace, TraceError, tensors_in
from latbench.tracing.recorder import Recorder
from latbench.tracing.returned import returned_tensors
from latbench.tracing.specs import spec_of

__all__ = ["Node", "Spec", "Trace", "TraceError", "trace"]


def trace(module: nn.Module, inputs: Mapping[str, NDArray[Any] | Tensor]) -> Trace:
    """Record the calls that a module makes for inputs of these shapes and dtypes.

    The module is left as it was, also where tracing fails: attributes that it sets and lists that it appends to are put
    back, and tensors that it keeps are never written.

    Raises:
        TraceError: the module's path depends on values; its outputs do not depend on its inputs; it writes into a
            tensor that it keeps, or computes with what an earlier call left behind; or it computes where it cannot be
            watched (in threads, in compiled code, on another device).
        Exception: whatever the module raises when it meets a tensor without values.
    """
    recorder = Recorder()
    with collections_paused(), torch.random.fork_rng(devices=[]):
        keepsake = Keepsake(module)
        try:
            values = [recorder.add_input(_spec(value)) for value in inputs.values()]
            with torch.no_grad(), recorder:
                result = module(*values)
            recorder.add_outputs(returned_tensors(result))
            _refuse_state(keepsake, recorder)
        finally:
            keepsake.restore()
            recorder.forget()
    if recorder.trace.outputs and not recorder.trace.depends_on_inputs():
        raise TraceError("its outputs do not depend on its inputs")
    recorder.trace.drop_unused(_WITHOUT_WORK)
    return recorder.trace


_WITHOUT_WORK = VIEWS | {viewed, written}


def _spec(value: NDArray[Any] | Tensor) -> Spec:
    if isinstance(value, Tensor):
        return spec_of(value)
    return Spec(value.shape, torch.from_numpy(np.empty(0, value.dtype)).dtype)


def _refuse_state(keepsake: Keepsake, recorder: Recorder) -> None:
    """Refuse a module that computes with what its last call left behind, and leaves something for the next one."""
    if name := keepsake.written():
        raise TraceError(f"it writes into {name!r}, which it keeps")
    replaced = list(keepsake.replaced())
    used = recorder.used | recorder.trace.constants() if replaced else set()
    for name, value in replaced:
        if any(id(tensor) in used for tensor in tensors_in(value)):
            raise TraceError(f"it computes with {name!r}, which it keeps from call to call")
