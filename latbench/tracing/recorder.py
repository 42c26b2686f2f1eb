"""Writes down the calls of a module while it runs on tensors that have shape, dtype and strides, but no values.

The stand-ins are plain tensors (of torch's meta device), so whatever a forward pass asks of them in Python gives what
it gives for real ones: ``isinstance``, ``type(x) is``, ``len``, strides, dtypes. `TorchFunctionMode` shows every call.
"""

from __future__ import annotations

import operator
import sys
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, resolve_name

from latbench.tracing import calls
from latbench.tracing.answers import ANSWERS, PURE, without_values
from latbench.tracing.aten import as_called
from latbench.tracing.calls import Kind
from latbench.tracing.memory import Memory, Value, storage
from latbench.tracing.nodes import Node, Signature, Spec, Trace, TraceError, nodes_in, tensors_in
from latbench.tracing.specs import PLAIN, freeze, is_named, signature, signature_of, spec_of, stand_in
from latbench.tracing.viewing import view
from latbench.tracing.writing import write, writes

Arguments = tuple[Any, ...]
Keywords = Mapping[str, Any]

_NONE: Keywords = types.MappingProxyType({})
_WORK = Kind.WORK
_KERNELS = ("torch._meta_registrations", "torch._refs", "torch._prims", "torch._decomp")
"""Modules of torch whose calls come from an operator that nothing was told of: one of TorchScript."""
_UNSEEN = "it computes a tensor where no one sees it: in a thread, or in compiled code"


class Recorder(TorchFunctionMode):
    """Records what happens to the tensors that stand for a network's inputs; all other calls run as they are."""

    def __init__(self) -> None:
        super().__init__()
        self.trace = Trace()
        self.used: set[int] = set()
        """The ids of the real tensors that calls without stand-ins read."""
        self.fresh: dict[int, Tensor] = {}
        """A tensor of each storage that was made while tracing: it may be written."""
        self.written: dict[int, Memory] = {}
        """What real tensors hold that computed values were written into, by storage."""
        self._values: dict[int, Value] = {}

    def __torch_function__(self, function: Any, _: Any, args: Arguments = (), kwargs: Any = None) -> Any:
        """Receive a call of the module's."""
        if function in PURE:
            return function(*args, **kwargs or _NONE)
        if sys._getframe(1).f_globals.get("__name__", "").startswith(_KERNELS):
            raise TraceError(_UNSEEN)
        return self.call(function, args, kwargs or _NONE)

    def add_input(self, spec: Spec) -> Tensor:
        """Return a tensor that stands for an input."""
        node = Node(None, (), {}, spec)
        self.trace.inputs.append(node)
        return self.stand_in(node)

    def add_outputs(self, tensors: list[Tensor]) -> None:
        """Note what the network returns."""
        for tensor in tensors:
            value = self.value(tensor)
            output = tensor if value is None else value.read(self.record)
            if isinstance(output, Node):
                output.users += 1
            self.trace.outputs.append(output)

    def forget(self) -> None:
        """Let go of all tensors: views refer to what they look at, and would stay until a garbage collection."""
        self._values.clear()

    def call(self, function: Any, args: Arguments, kwargs: Keywords) -> Any:  # noqa: PLR0911 - one for each kind
        """Record a call and return what stands for its result; without stand-ins among its arguments it runs."""
        kind = calls.kind(function)
        if kwargs and not args and "input" in kwargs:
            args, kwargs = (kwargs["input"],), {key: value for key, value in kwargs.items() if key != "input"}
        if kind is _WORK and not (kwargs and ("out" in kwargs or kwargs.get("inplace"))):
            return self.work(function, args, kwargs)
        if not self._any_value(args) and not (kwargs and self._any_value(kwargs.values())):
            return self._draw(function, args, kwargs) if kind is Kind.RANDOM else self.run(function, args, kwargs)
        if kind is Kind.ANOTHER_NAME:
            return calls.CANONICAL[function](self, *args, **kwargs)
        if kind is Kind.ANSWER:
            return ANSWERS[function](self, *args, **kwargs)
        if kind is Kind.VALUE:
            raise TraceError(f"its path depends on values: it asks {resolve_name(function) or function} of a tensor")
        if kind is Kind.COMPOSITE:
            with self:
                return calls.body(function)(*args, **kwargs)
        if kind is Kind.ATEN:
            with self:
                return as_called(function)(*args, **kwargs)  # type: ignore[misc]
        if writes(function, args, kwargs):
            return write(self, function, args, kwargs)
        if kind is Kind.VIEW:
            return view(self, function, args, kwargs)
        return self._draw(function, args, kwargs) if kind is Kind.RANDOM else self.work(function, args, kwargs)

    # Looking

    def value(self, tensor: Tensor) -> Value | None:
        """Return what is known of a tensor; None for a real one with nothing computed in it."""
        value = self._values.get(id(tensor))
        if value is None:
            if tensor.is_meta:
                raise TraceError(_UNSEEN)
            if self.written and (memory := self.written.get(storage(tensor))) is not None:
                value = self.known(tensor, memory, memory.content, stale=True)
        return value

    def stands(self, tensor: Any) -> bool:
        """Whether something is a tensor with computed values."""
        return isinstance(tensor, Tensor) and self.value(tensor) is not None

    def _any_value(self, arguments: Any) -> bool:
        for argument in arguments:
            if isinstance(argument, Tensor):
                if self.value(argument) is not None:
                    return True
            elif isinstance(argument, tuple | list | dict) and self._any_value(
                argument.values() if isinstance(argument, dict) else argument
            ):
                return True
        return False

    def read(self, argument: Any) -> Any:
        """Return an argument as a node has it."""
        kind = type(argument)
        if kind in PLAIN or kind is bool or kind is float:
            return argument
        if isinstance(argument, Tensor):
            value = self._values.get(id(argument))
            if value is None:
                if not argument.is_meta and not self.written:
                    return argument
                value = self.value(argument)
                if value is None:
                    return argument
            return value.node if value.version == value.memory.version else value.read(self.record)
        if (kind is tuple or kind is list) and not PLAIN.issuperset(map(type, argument)):
            return kind(map(self.read, argument))
        return argument

    def _take(self, arguments: Iterable[Any], reads: list[Node]) -> tuple[Arguments, Arguments]:
        """Return arguments as a node has them, and as a cache key; add the nodes among them to `reads`.

        This is most of what tracing costs: one pass, and the commonest kinds first.
        """
        values, taken, frozen = self._values, [], []
        for argument in arguments:
            kind = type(argument)
            if kind in PLAIN or (kind is tuple and PLAIN.issuperset(map(type, argument))):
                taken.append(argument)
                frozen.append(argument)
                continue
            value = values.get(id(argument))
            if value is not None:
                read = value.node if value.version == value.memory.version else value.read(self.record)
            elif kind is bool or kind is float:
                read = argument
            else:
                read = self.read(argument)
            taken.append(read)
            if isinstance(read, Node):
                reads.append(read)
                frozen.append(read.spec)
            elif kind is nn.Parameter or kind is Tensor:
                frozen.append(spec_of(read))
            else:
                frozen.append(freeze(read))
                if kind is tuple or kind is list:
                    reads.extend(nodes_in(read))
        return tuple(taken), tuple(frozen)

    # Working

    def work(self, function: Any, args: Arguments, kwargs: Keywords) -> Any:
        """Record a call that computes something new; without stand-ins among its arguments it runs."""
        reads: list[Node] = []
        node_args, key = self._take(args, reads)
        node_kwargs: Keywords = kwargs
        named: Arguments = ()
        if kwargs:
            taken, frozen = self._take(kwargs.values(), reads)
            node_kwargs, named = dict(zip(kwargs, taken, strict=True)), tuple(zip(kwargs, frozen, strict=True))
        # What was overwritten with constants is constant again.
        if not reads:
            return self.run(function, node_args, node_kwargs)
        if torch.is_autocast_enabled("cpu"):
            raise TraceError("it switches to another precision with torch.autocast")
        call = signature_of(function, key, named)
        node = Node(function, node_args, node_kwargs, call.spec, _calling_module(), 0, call)
        if call.tensor is None and not _has_specs(call.spec):
            return call.spec
        for read in reads:
            read.users += 1
        self.trace.nodes.append(node)
        if call.tensor is not None:
            return self.stand_in(node, call.tensor.detach())
        results = tuple(
            self.stand_in(self.item(node, index)) if type(item) is Spec else item
            for index, item in enumerate(call.spec)
        )
        return type(call.spec)(results) if is_named(call.spec) else results

    def _draw(self, function: Any, args: Arguments, kwargs: Keywords) -> Tensor:
        result = function(*map(without_values, args), **{key: without_values(value) for key, value in kwargs.items()})
        node_args, node_kwargs = tuple(map(self.read, args)), {key: self.read(kwargs[key]) for key in kwargs}
        return self.stand_in(self.record(function, node_args, node_kwargs, spec_of(result)))

    def record(self, function: Any, args: Arguments, kwargs: Keywords = _NONE, spec: Any = None) -> Node:
        """Add a call to the trace; its arguments are nodes, weights and plain values."""
        call: Signature | None = None
        if spec is None:
            call = signature(function, args, kwargs)
            spec = call.spec
        node = Node(function, args, kwargs, spec, _calling_module(), 0, call)
        for read in node.reads():
            read.users += 1
        self.trace.nodes.append(node)
        return node

    def item(self, node: Node, index: int) -> Node:
        """Record that one of several results is taken."""
        return self.record(operator.getitem, (node, index), spec=node.spec[index])

    def stand_in(self, node: Node | Tensor, tensor: Tensor | None = None) -> Tensor:
        """Return a new tensor, with memory of its own, that holds a node."""
        if tensor is None:
            tensor = stand_in(node.spec if isinstance(node, Node) else spec_of(node))
        self._values[id(tensor)] = Value(tensor, Memory(tensor, node), node, 0)
        return tensor

    def known(
        self,
        tensor: Tensor,
        memory: Memory,
        node: Node | Tensor,
        look: Callable[[], Node] | None = None,
        *,
        stale: bool = False,
    ) -> Value:
        """Note that a tensor looks at a memory, where it finds a node; a stale one looks again when it is read."""
        value = self._values[id(tensor)] = Value(tensor, memory, node, -1 if stale else memory.version, look)
        return value

    # Running what has no stand-ins

    def run(self, function: Any, args: Arguments, kwargs: Keywords) -> Any:
        """Make a call that computes with real tensors; note which ones it reads, and refuse to write old ones."""
        given = [*tensors_in(args), *tensors_in(kwargs)] if args or kwargs else []
        if given and writes(function, args, kwargs):
            target = kwargs.get("out", args[0] if args else None)
            for tensor in tensors_in(target):
                if storage(tensor) not in self.fresh:
                    raise TraceError("it writes into a tensor that it keeps")
        result = function(*args, **kwargs)
        held = None
        for tensor in tensors_in(result):
            if held is None:
                held = {storage(argument) for argument in given if _has_storage(argument)}
                self.used.update(map(id, given))
            if _has_storage(tensor) and (key := storage(tensor)) not in held:
                self.fresh.setdefault(key, tensor)
        return result

    def alias(self, tensor: Tensor) -> Tensor:
        """Return another tensor of the same memory: ``x.detach()``, ``x.data``."""
        value = self._values[id(tensor)]
        return self.known(tensor.detach(), value.memory, value.read(self.record)).tensor

    def drop(self, tensor: Tensor, p: float) -> Tensor:
        """Record a dropout that drops; all of its kinds cost the same."""
        return self.work(F.dropout, (tensor, p, True), _NONE)  # type: ignore[no-any-return]

    def converted(self, tensor: Tensor, dtype: torch.dtype, copy: bool = False, memory_format: Any = None) -> Tensor:
        """Return a tensor in another dtype or memory format; itself where nothing changes."""
        preserved = memory_format in (None, torch.preserve_format)
        in_place = preserved or tensor.is_contiguous(memory_format=memory_format)
        if dtype == tensor.dtype and in_place and not copy:
            return tensor
        if dtype != tensor.dtype:
            tensor = self.work(Tensor.to, (tensor, dtype), _NONE)
        if preserved:
            return tensor if not copy else self._copy(tensor, tensor)
        return self._copy(tensor, torch.empty(tensor.shape, dtype=tensor.dtype, memory_format=memory_format))

    def _copy(self, tensor: Tensor, like: Tensor) -> Tensor:
        twin = torch.empty_strided(like.shape, like.stride(), dtype=like.dtype, device="meta")
        value = self.value(tensor)
        assert value is not None
        return self.stand_in(self.record(torch.clone, (value.read(self.record),), spec=spec_of(twin)), twin)


def _has_specs(spec: Any) -> bool:
    return isinstance(spec, tuple) and any(type(item) is Spec for item in spec)


def _has_storage(tensor: Tensor) -> bool:
    return tensor.layout == torch.strided and not torch._C._functorch.is_functorch_wrapped_tensor(tensor)


def _calling_module() -> nn.Module | None:
    frame: types.FrameType | None = sys._getframe(3)
    while frame is not None:
        # A frame's locals are copied when they are looked at: those of functions, which are no modules, are not.
        if (home := frame.f_globals) is not _HERE and home is not _FUNCTIONS and home is not _OVERRIDES:
            owner = frame.f_locals.get("self")
            if isinstance(owner, nn.Module):
                return owner
        frame = frame.f_back
    return None


_HERE, _FUNCTIONS, _OVERRIDES = globals(), vars(F), vars(torch.overrides)
