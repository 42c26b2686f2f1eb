"""How the elements of results lie in memory: what torch's kernels on a CPU give for the layouts of their arguments."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from latbench.tracing.nodes import Spec

Shape = tuple[int, ...]


@lru_cache(maxsize=1 << 12)
def contiguous_stride(shape: Shape) -> Shape:
    """Return the strides of a contiguous tensor."""
    return ordered_stride(shape, range(len(shape)))


def ordered_stride(shape: Shape, order: Sequence[int]) -> Shape:
    """Return the strides of a dense tensor whose dimensions lie in this order, the fastest last."""
    strides, step = [0] * len(shape), 1
    for axis in reversed(order):
        strides[axis] = step
        step *= max(shape[axis], 1)
    return tuple(strides)


def elementwise(spec: Spec, arguments: Sequence[Spec]) -> Spec:
    """Return the result of an operator that works element by element: laid out as its first full-size argument.

    torch's TensorIterator orders the dimensions of a result by the strides of the arguments; where they disagree the
    first one decides.
    """
    for argument in arguments:
        if argument.shape == spec.shape:
            if argument.stride is None:
                return spec
            order = sorted(range(len(spec.shape)), key=lambda axis: -argument.stride[axis])  # type: ignore[index]
            return _with_stride(spec, ordered_stride(spec.shape, order))
    return spec


def like_image(spec: Spec, *arguments: Spec) -> Spec:
    """Return the result of a convolution, a pooling or a norm of images: channels last if an argument is."""
    if any(is_channels_last(argument) for argument in arguments):
        return _with_stride(spec, channels_last_stride(spec.shape))
    return spec


def is_channels_last(spec: Spec) -> bool:
    """Whether a tensor of images is laid out with its channels last, and not contiguous at once."""
    return len(spec.shape) in (4, 5) and spec.stride is not None and spec.stride == channels_last_stride(spec.shape)


def channels_last_stride(shape: Shape) -> Shape:
    """Return the strides of a tensor of images with its channels last."""
    return ordered_stride(shape, (0, *range(2, len(shape)), 1))


def _with_stride(spec: Spec, stride: Shape) -> Spec:
    return Spec(spec.shape, spec.dtype, None if stride == contiguous_stride(spec.shape) else stride)
