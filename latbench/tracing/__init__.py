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
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from latbench.tracing.calls import VIEWS
from latbench.tracing.keeping import Keepsake, tensors_in
from latbench.tracing.memory import viewed, written
from latbench.tracing.nodes import Node, Spec, Trace, TraceError
from latbench.tracing.recorder import Recorder
from latbench.tracing.specs import spec_of

__all__ = ["Node", "Spec", "Trace", "TraceError", "trace"]


def trace(module: nn.Module, inputs: Mapping[str, NDArray[Any] | Tensor]) -> Trace:
    """Record the calls that a module makes for inputs of these shapes and dtypes.

    A module whose path depends on values, or that hands its input to something other than a torch function, raises
    whatever it raises when it meets a `torch.fx.Proxy`: TraceError, TypeError, RuntimeError, ...
    """
    keepsake = Keepsake(module)
    recorder = Recorder()
    with torch.random.fork_rng(devices=[]):
        try:
            values = [recorder.add_input(_spec(value)) for value in inputs.values()]
            with torch.no_grad(), recorder:
                result = module(*values)
            recorder.add_outputs(list(_outputs(result)))
            _refuse_state(keepsake, recorder)
        finally:
            keepsake.restore()
    if recorder.trace.outputs and not recorder.trace.depends_on_inputs():
        raise TraceError("its outputs do not depend on its inputs")
    recorder.trace.drop_unused(_WITHOUT_WORK)
    return recorder.trace


class _Recorder(TracerBase):
    """Writes down what happens to its proxies."""

    def __init__(self) -> None:
        self.trace = Trace()

    def add_input(self, value: NDArray[Any]) -> _Value:
        node = Node(None, (), {}, Spec(value.shape, torch.from_numpy(np.empty(0, value.dtype)).dtype))
        self.trace.inputs.append(node)
        return _Value(node, self)

    def add_outputs(self, values: Any) -> None:
        for value in values:
            if not isinstance(value, _Value | torch.Tensor):
                raise TypeError(f"the module returns a {type(value).__name__}, not a tensor or a tuple of tensors")
            self.trace.outputs.append(_unwrap(value))

    def create_proxy(self, kind: str, target: Any, args: Any, kwargs: Any, *_: Any, **__: Any) -> Any:
        """Receive the operators that `torch.fx.Proxy` overloads."""
        return self.call(target, args, kwargs)

    def call(self, function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Record a call and return its result as proxies; a result without tensors is returned as it is."""
        if function in _COMPOSITE:
            return _body(function)(*args, **kwargs)
        called = as_called(function)
        if called is not None:
            return called(*args, **kwargs)
        functional = _out_of_place(function)
        node_args = tuple(map(_unwrap, args))
        node_kwargs = {key: _unwrap(value) for key, value in kwargs.items()} if kwargs else kwargs
        spec = result_spec(functional, node_args, node_kwargs)
        node = Node(functional, node_args, node_kwargs, spec, _calling_module())
        if type(spec) is Spec:
            self.trace.nodes.append(node)
            if functional is not function or kwargs.get("inplace"):
                args[0].node = node
                return args[0]
            return _Value(node, self)
        if type(spec) is tuple and any(type(item) is Spec for item in spec):
            self.trace.nodes.append(node)
            return tuple(self._item(node, index) for index in range(len(spec)))
        return spec

    def _item(self, node: Node, index: int) -> Any:
        if type(node.spec[index]) is not Spec:
            return node.spec[index]
        item = Node(operator.getitem, (node, index), {}, node.spec[index], node.owner)
        node.users += 1
        self.trace.nodes.append(item)
        return _Value(item, self)


class _Value(Proxy):
    """Stands for a tensor while a module is traced."""

    node: Node  # type: ignore[assignment]
    tracer: _Recorder

    def __init__(self, node: Node, recorder: _Recorder) -> None:
        super().__init__(node, recorder)  # type: ignore[arg-type]

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _first_value((args, kwargs)).tracer.call(function, args, kwargs or {})

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(torch.Tensor, name)
        if callable(attribute):
            return lambda *args, **kwargs: self.tracer.call(attribute, (self, *args), kwargs)
        return self.tracer.call(attribute.__get__, (self,), {})

    @property
    def shape(self) -> torch.Size:
        return torch.Size(self.node.shape)

    @property
    def dtype(self) -> torch.dtype:
        return self.node.dtype

    @property
    def device(self) -> torch.device:
        # Tensors that a forward pass creates for itself hold real values, so they cannot be on the meta device.
        return torch.device("cpu")

    def size(self, dim: int | None = None) -> Any:
        return self.shape if dim is None else self.shape[dim]

    def dim(self) -> int:
        return len(self.node.shape)

    def __iter__(self) -> Iterator[Any]:
        # There is no __len__: with one, indexing a weight by a value would read the value as a sequence of indices.
        return (self.tracer.call(operator.getitem, (self, index), {}) for index in range(self.node.shape[0]))

    def __iadd__(self, other: Any) -> Any:
        return self.add_(other)

    def __isub__(self, other: Any) -> Any:
        return self.sub_(other)

    def __imul__(self, other: Any) -> Any:
        return self.mul_(other)

    def __itruediv__(self, other: Any) -> Any:
        return self.div_(other)


def _outputs(result: Any) -> list[Tensor]:
    """Return the tensors among what a module returns, in order; None and numbers beside them are left out.

    Raises:
        TypeError: there is something else among them.
    """
    if isinstance(result, Tensor):
        return [result]
    if isinstance(result, tuple | list | Mapping):
        items = result.values() if isinstance(result, Mapping) else result
        return [tensor for item in items for tensor in _outputs(item)]
    if result is None or isinstance(result, int | float | str):
        return []
    raise TypeError(f"the module returns a {type(result).__name__}, neither a tensor nor a tuple of tensors")


def _first_value(arguments: Any) -> Any:
    for argument in arguments.values() if isinstance(arguments, dict) else arguments or ():
        if isinstance(argument, _Value):
            return argument
        if isinstance(argument, tuple | list | dict):
            found = _first_value(argument)
            if found is not None:
                return found
    return None


@functools.cache
def _out_of_place(function: Function) -> Function:
    """``torch.Tensor.add_`` -> ``torch.Tensor.add``; any other function stays itself."""
    name = getattr(function, "__name__", "")
    if not name.endswith("_") or name.endswith("__"):
        return function
    return getattr(torch.Tensor, name[:-1], function)


@functools.cache
def _body(function: types.FunctionType) -> Function:
    """Return a copy of a torch function that does not first ask its arguments for ``__torch_function__``."""
    asks = ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic")
    scope = {**function.__globals__, **dict.fromkeys(asks, lambda *_: False)}
    return types.FunctionType(function.__code__, scope, function.__name__, function.__defaults__)


def _calling_module() -> nn.Module | None:
    frame: types.FrameType | None = sys._getframe(2)
    while frame is not None:
        owner = frame.f_locals.get("self")
        if isinstance(owner, nn.Module):
            return owner
        frame = frame.f_back
    return None
