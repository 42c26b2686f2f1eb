"""Writes down the calls of a module while it runs on tensors that have shape, dtype and strides, but no values.

The stand-ins are plain tensors (of torch's meta device), so whatever a forward pass asks of them in Python gives what
it gives for real ones: ``isinstance``, ``type(x) is``, ``len``, strides, dtypes. `TorchFunctionMode` shows every call.
"""

from __future__ import annotations

import operator
import sys
import types
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, resolve_name

from latbench.tracing import calls
from latbench.tracing.answers import ANSWERS, without_values
from latbench.tracing.aten import as_called
from latbench.tracing.keeping import tensors_in
from latbench.tracing.memory import Memory, Value, same_layout, storage
from latbench.tracing.nodes import Node, Spec, Trace, TraceError, nodes_in
from latbench.tracing.specs import PLAIN, is_named, result_spec, spec_of, stand_in

Arguments = tuple[Any, ...]
Keywords = Mapping[str, Any]


_KERNELS = ("torch._meta_registrations", "torch._refs", "torch._prims", "torch._decomp")
"""Modules of torch whose calls come from an operator that nothing was told of: one of TorchScript."""
_UNSEEN = "it computes a tensor where no one sees it: in a thread, or in compiled code"


class Recorder(TorchFunctionMode):
    """Records what happens to the tensors that stand for a network's inputs; all other calls run as they are."""

    def __init__(self) -> None:
        super().__init__()
        self.trace = Trace()
        self.used: set[int] = set()
        """The ids of the real tensors that were computed with."""
        self._values: dict[int, Value] = {}
        self._fresh: dict[int, Tensor] = {}
        """A tensor of each storage that was made while tracing: it may be written."""
        self._written: dict[int, Memory] = {}
        """What real tensors hold that computed values were written into, by storage."""

    def __torch_function__(self, function: Any, _: Any, args: Arguments = (), kwargs: Any = None) -> Any:
        """Receive a call of the module's."""
        if sys._getframe(1).f_globals.get("__name__", "").startswith(_KERNELS):
            raise TraceError(_UNSEEN)
        return self.call(function, args, kwargs or {})

    def add_input(self, spec: Spec) -> Tensor:
        """Return a tensor that stands for an input."""
        node = Node(None, (), {}, spec)
        self.trace.inputs.append(node)
        return self._stand_in(node)

    def add_outputs(self, tensors: list[Tensor]) -> None:
        """Note what the network returns."""
        for tensor in tensors:
            value = self._value(tensor)
            output = tensor if value is None else value.read(self.record)
            if isinstance(output, Node):
                output.users += 1
            self.trace.outputs.append(output)

    def call(self, function: Any, args: Arguments, kwargs: Keywords) -> Any:  # noqa: PLR0911 - one for each kind
        """Record a call and return what stands for its result; without stand-ins among its arguments it runs."""
        if kwargs and not args and "input" in kwargs:
            args, kwargs = (kwargs["input"],), {key: value for key, value in kwargs.items() if key != "input"}
        kind = calls.kind(function)
        if kind is calls.Kind.WORK and not (kwargs and ("out" in kwargs or "inplace" in kwargs)):
            return self.work(function, args, kwargs)
        if not self._any_value(args) and not (kwargs and self._any_value(kwargs.values())):
            return self._draw(function, args, kwargs) if kind is calls.Kind.RANDOM else self.run(function, args, kwargs)
        if kind is calls.Kind.ANOTHER_NAME:
            return calls.CANONICAL[function](self, *args, **kwargs)
        if kind is calls.Kind.ANSWER:
            return ANSWERS[function](self, *args, **kwargs)
        if kind is calls.Kind.VALUE:
            raise TraceError(f"its path depends on values: it asks {resolve_name(function) or function} of a tensor")
        if kind is calls.Kind.COMPOSITE:
            with self:
                return calls.body(function)(*args, **kwargs)
        if kind is calls.Kind.ATEN:
            with self:
                return as_called(function)(*args, **kwargs)  # type: ignore[misc]
        if self._writes(function, args, kwargs):
            return self._write(function, args, kwargs)
        if kind is calls.Kind.VIEW:
            return self._view(function, args, kwargs)
        return self._draw(function, args, kwargs) if kind is calls.Kind.RANDOM else self.work(function, args, kwargs)

    def record(self, function: Any, args: Arguments, kwargs: Keywords | None = None, spec: Any = None) -> Node:
        """Add a call to the trace; its arguments are nodes, weights and plain values."""
        kwargs = kwargs or {}
        if spec is None:
            spec = result_spec(function, args, kwargs)
        node = Node(function, args, kwargs, spec, _calling_module())
        for read in node.reads():
            read.users += 1
        self.trace.nodes.append(node)
        return node

    # Looking

    def _value(self, tensor: Tensor) -> Value | None:
        """Return what is known of a tensor; None for a real one with nothing computed in it."""
        value = self._values.get(id(tensor))
        if value is None:
            if tensor.is_meta:
                raise TraceError(_UNSEEN)
            if self._written and (memory := self._written.get(storage(tensor))) is not None:
                value = self._values[id(tensor)] = Value(tensor, memory, memory.content, -1)
        return value

    def _any_value(self, arguments: Any) -> bool:
        for argument in arguments:
            if isinstance(argument, Tensor):
                if self._value(argument) is not None:
                    return True
            elif isinstance(argument, tuple | list | dict) and self._any_value(
                argument.values() if isinstance(argument, dict) else argument
            ):
                return True
        return False

    def _read(self, argument: Any) -> Any:
        """Return an argument as a node has it."""
        kind = type(argument)
        if kind in PLAIN:
            return argument
        if isinstance(argument, Tensor):
            value = self._value(argument)
            if value is not None:
                return value.read(self.record)
            self.used.add(id(argument))
            return argument
        if (kind is tuple or kind is list) and not PLAIN.issuperset(map(type, argument)):
            return kind(map(self._read, argument))
        return argument

    # Working

    def work(self, function: Any, args: Arguments, kwargs: Keywords) -> Any:
        """Record a call that computes something new; without stand-ins among its arguments it runs."""
        node_args = tuple(map(self._read, args))
        node_kwargs = {key: self._read(value) for key, value in kwargs.items()} if kwargs else kwargs
        # What was overwritten with constants is constant again.
        if next(nodes_in((*node_args, *node_kwargs.values()) if kwargs else node_args), None) is None:
            return self.run(function, node_args, node_kwargs)
        if torch.is_autocast_enabled("cpu"):
            raise TraceError("it switches to another precision with torch.autocast")
        spec = result_spec(function, node_args, node_kwargs)
        if type(spec) is Spec:
            return self._stand_in(self.record(function, node_args, node_kwargs, spec))
        if isinstance(spec, tuple) and any(type(item) is Spec for item in spec):
            node = self.record(function, node_args, node_kwargs, spec)
            results = tuple(
                self._stand_in(self._item(node, index)) if type(item) is Spec else item
                for index, item in enumerate(spec)
            )
            return type(spec)(results) if is_named(spec) else results
        return spec

    def _draw(self, function: Any, args: Arguments, kwargs: Keywords) -> Tensor:
        result = function(*map(without_values, args), **{key: without_values(value) for key, value in kwargs.items()})
        node_args, node_kwargs = tuple(map(self._read, args)), {key: self._read(kwargs[key]) for key in kwargs}
        return self._stand_in(self.record(function, node_args, node_kwargs, spec_of(result)))

    def _item(self, node: Node, index: int) -> Node:
        return self.record(operator.getitem, (node, index), {}, node.spec[index])

    def _item_of(self, look: Callable[[], Node], index: int) -> Node:
        return self._item(look(), index)

    def _stand_in(self, node: Node | Tensor, tensor: Tensor | None = None) -> Tensor:
        """Return a new tensor, with memory of its own, that holds a node."""
        if tensor is None:
            tensor = stand_in(node.spec if isinstance(node, Node) else spec_of(node))
        self._values[id(tensor)] = Value(tensor, Memory(tensor, node), node, 0)
        return tensor

    def _view(self, function: Any, args: Arguments, kwargs: Keywords) -> Any:
        """Record another look at the memory of a tensor, or its copy where strides do not allow the look."""
        if function is operator.getitem and not _is_basic(args[1]):
            if self._is_mask(args[1]):
                raise TraceError("its path depends on values: it takes as many elements as a mask has set")
            return self.work(function, (args[0], self._places(args[1])), kwargs)
        source, rest = args[0], tuple(map(without_values, args[1:]))
        parent = self._value(source)
        if parent is None:
            return self.run(function, (source, *rest), kwargs)
        result = function(source, *rest, **kwargs)
        if result is source:
            return source
        plain = tuple(map(_shape_only, rest))
        if isinstance(result, Tensor) and function in calls.RESHAPES and storage(result) != storage(source):
            node = self.record(function, (parent.read(self.record), *plain), kwargs, spec_of(result))
            return self._stand_in(node, result)

        def look(parent: Value = parent) -> Node:
            content = parent.read(self.record)
            spec = tuple(map(spec_of, result)) if isinstance(result, tuple | list) else spec_of(result)
            return self.record(function, (content, *plain), kwargs, spec)

        node = look()
        if isinstance(result, Tensor):
            return self._known(result, parent.memory, node, look)
        for index, item in enumerate(result):
            self._known(item, parent.memory, self._item(node, index), partial(self._item_of, look, index))
        return tuple(result)

    def _is_mask(self, index: Any) -> bool:
        parts = index if isinstance(index, tuple) else (index,)
        return any(isinstance(p, Tensor) and p.dtype in (torch.bool, torch.uint8) and self.stands(p) for p in parts)

    def _places(self, index: Any) -> tuple[Any, ...]:
        """Return an index with the places of constant masks for them: how many they are is known."""
        places: list[Any] = []
        for part in index if isinstance(index, tuple) else (index,):
            if isinstance(part, list):
                part = torch.tensor(part)  # noqa: PLW2901 - what torch makes of it too
            mask = isinstance(part, Tensor) and part.dtype in (torch.bool, torch.uint8)
            places += part.nonzero(as_tuple=True) if mask else [part]
        return tuple(places)

    def _known(self, tensor: Tensor, memory: Memory, node: Node | Tensor, look: Callable[[], Node] | None) -> Tensor:
        self._values[id(tensor)] = Value(tensor, memory, node, memory.version, look)
        return tensor

    # Writing

    def _writes(self, function: Any, args: Arguments, kwargs: Keywords) -> bool:
        """Whether a call changes its first argument, or what it is given as `out`."""
        if calls.is_write(function) or kwargs.get("out") is not None or kwargs.get("inplace"):
            return True
        position = calls.inplace_position(function)
        return position is not None and len(args) > position and args[position] is True

    def _write(self, function: Any, args: Arguments, kwargs: Keywords) -> Any:
        kwargs = dict(kwargs)
        target = kwargs.pop("out", args[0] if args else None)
        if not isinstance(target, Tensor) or function is Tensor.data.__set__:  # type: ignore[attr-defined]
            raise TraceError(f"it has {resolve_name(function)} write into something else than one tensor")
        value = self._writable(target)
        if function is Tensor.__setitem__:
            self._set_item(target, args[1], args[2])
            return None
        work = function
        if calls.is_write(function):
            work = calls.out_of_place(function)
            if work is None:
                raise TraceError(f"it calls {resolve_name(function)} of a computed tensor")
        else:
            kwargs.pop("inplace", None)
            position = calls.inplace_position(function)
            if position is not None and len(args) > position:
                args = (*args[:position], False, *args[position + 1 :])
        filling = work in calls.FILLS.values()
        self._put(value, work(*args, **kwargs) if filling else self.call(work, args, kwargs))
        return target

    def _writable(self, target: Tensor) -> Value:
        """Return what is known of a tensor that is written; of a constant one made by this forward pass from now on."""
        value = self._value(target)
        if value is None:
            key = storage(target)
            if key not in self._fresh:
                raise TraceError("it writes what it computes into a tensor that it keeps")
            whole = target if target._base is None else target._base
            self._written[key] = memory = Memory(whole, whole.detach().clone())
            value = self._values[id(target)] = Value(target, memory, memory.content, -1)
        return value

    def _set_item(self, target: Tensor, index: Any, value: Any) -> None:
        computed_mask = self._is_mask(index)
        parts = (
            (index,) if computed_mask and isinstance(index, Tensor) else index if computed_mask else self._places(index)
        )
        tensors = [part for part in parts if isinstance(part, Tensor)]
        if not tensors:
            part = self._part(target, index)
            given = self._value(value) if isinstance(value, Tensor) else None
            if given is None or given.memory is not part.memory or not same_layout(given.tensor, part.tensor):
                self._put(part, value)  # ``x[:, 1:] *= 2`` puts back the view that it has written: that is no write
            return
        if any(not isinstance(part, Tensor) for part in parts):
            # The slices and numbers first: what is left is a tensor indexed by tensors alone.
            spans = [slice(None)] * (tensors[0].dim() if computed_mask else 1)
            lead = [p for part in parts for p in (spans if isinstance(part, Tensor) else [part])]
            target = self._part(target, tuple(lead)).tensor
            used = sum(part is not None and part is not Ellipsis for part in lead)
            rest = [slice(None)] * (
                len(target.shape) + sum(type(p) is int for p in lead) - sum(p is None for p in lead) - used
            )
            kept = [p for part in parts if type(part) is not int for p in (rest if part is Ellipsis else [part])]
            parts = tuple(part if isinstance(part, Tensor) else None for part in kept)
        if isinstance(value, int | float):
            value = torch.tensor(value, dtype=target.dtype)
        arguments = tuple(map(self._read, (target, parts, value)))
        # Its spec is known; torch.index_put itself takes no None for a whole dimension.
        node = self.record(torch.index_put, arguments, {}, spec_of(target))
        self._values[id(target)].write(node, self.record)

    def _part(self, target: Tensor, index: Any) -> Value:
        """Return a view of a tensor that is about to be written: nothing is read for it."""
        part, known = target[index], self._values[id(target)]
        value = self._values[id(part)] = Value(part, known.memory, known.node, -1)
        return value

    def _put(self, value: Value, result: Any) -> None:
        """Write a tensor or number into a tensor, in the dtype and the shape of that."""
        target = value.tensor
        if not isinstance(result, Tensor):
            result = torch.full(target.shape, result, dtype=target.dtype)
        if result.dtype != target.dtype:
            result = self.call(Tensor.to, (result, target.dtype), {})
        if result.shape != target.shape:
            missing = result.dim() - target.dim()
            if missing > 0:  # leading dimensions of size one
                result = self.call(Tensor.reshape, (result, tuple(result.shape[missing:])), {})
            if result.shape != target.shape:
                result = self.call(Tensor.expand, (result, tuple(target.shape)), {})
        value.write(self._read(result), self.record)

    # Running what has no stand-ins

    def run(self, function: Any, args: Arguments, kwargs: Keywords) -> Any:
        """Make a call that computes with real tensors; note which ones it reads, and refuse to write old ones."""
        given = [*tensors_in(args), *tensors_in(kwargs)] if args or kwargs else []
        if given and self._writes(function, args, kwargs):
            target = kwargs.get("out", args[0] if args else None)
            for tensor in tensors_in(target):
                if storage(tensor) not in self._fresh:
                    raise TraceError("it writes into a tensor that it keeps")
        result = function(*args, **kwargs)
        held = None
        for tensor in tensors_in(result):
            if held is None:
                held = {storage(argument) for argument in given if _has_storage(argument)}
                self.used.update(map(id, given))
            if _has_storage(tensor) and (key := storage(tensor)) not in held:
                self._fresh.setdefault(key, tensor)
        return result

    def stands(self, tensor: Any) -> bool:
        """Whether something is a tensor with computed values."""
        return isinstance(tensor, Tensor) and self._value(tensor) is not None

    def alias(self, tensor: Tensor) -> Tensor:
        """Return another tensor of the same memory: ``x.detach()``, ``x.data``."""
        value = self._values[id(tensor)]
        return self._known(tensor.detach(), value.memory, value.read(self.record), None)

    def drop(self, tensor: Tensor, p: float) -> Tensor:
        """Record a dropout that drops; all of its kinds cost the same."""
        return self.work(F.dropout, (tensor, p, True), {})  # type: ignore[no-any-return]

    def converted(self, tensor: Tensor, dtype: torch.dtype, copy: bool = False, memory_format: Any = None) -> Tensor:
        """Return a tensor in another dtype or memory format; itself where nothing changes."""
        preserved = memory_format in (None, torch.preserve_format)
        in_place = preserved or tensor.is_contiguous(memory_format=memory_format)
        if dtype == tensor.dtype and in_place and not copy:
            return tensor
        if dtype != tensor.dtype:
            tensor = self.work(Tensor.to, (tensor, dtype), {})
        if preserved:
            return tensor if not copy else self._copy(tensor, tensor)
        return self._copy(tensor, torch.empty(tensor.shape, dtype=tensor.dtype, memory_format=memory_format))

    def _copy(self, tensor: Tensor, like: Tensor) -> Tensor:
        twin = torch.empty_strided(like.shape, like.stride(), dtype=like.dtype, device="meta")
        value = self._value(tensor)
        assert value is not None
        node = self.record(torch.clone, (value.read(self.record),), {}, spec_of(twin))
        return self._stand_in(node, twin)


def _shape_only(argument: Any) -> Any:
    # A view's other tensor argument (view_as, expand_as) gives its shape, which the result has.
    return tuple(argument.shape) if isinstance(argument, Tensor) else argument


def _is_basic(index: Any) -> bool:
    """Whether an index makes a view: numbers, slices, None, Ellipsis; tensors, lists and flags make copies."""
    parts = index if isinstance(index, tuple) else (index,)
    return all(part is None or part is Ellipsis or type(part) is int or isinstance(part, slice) for part in parts)


def _has_storage(tensor: Tensor) -> bool:
    return tensor.layout == torch.strided and not torch._C._functorch.is_functorch_wrapped_tensor(tensor)


def _calling_module() -> nn.Module | None:
    frame: types.FrameType | None = sys._getframe(2)
    while frame is not None:
        owner = frame.f_locals.get("self")
        if isinstance(owner, nn.Module):
            return owner
        frame = frame.f_back
    return None
