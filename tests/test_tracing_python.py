"""A traced tensor as Python sees it: what a forward pass asks of it, and which tensors share memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from latbench.onnx_export import export_onnx
from latbench.tracing import trace
from tests.test_onnx_export import Lambda, assert_same_outputs, image, operators, run

QUESTIONS: dict[str, Any] = {
    "isinstance": lambda x: isinstance(x, Tensor),
    "is_tensor": torch.is_tensor,
    "type is": lambda x: type(x) is Tensor,
    "type": lambda x: x.type(),
    "strides": lambda x: (x.stride(), x.stride(0), x.is_contiguous(), x.storage_offset()),
    "channels last": lambda x: x.is_contiguous(memory_format=torch.channels_last) if x.dim() == 4 else None,
    "device": lambda x: (x.device, x.device.type, x.is_cuda, x.is_cpu, x.is_meta, x.get_device()),
    "dtype": lambda x: (x.dtype, x.is_floating_point(), torch.is_floating_point(x), x.is_complex(), x.element_size()),
    "shape": lambda x: (x.shape, x.size(), x.size(-1), x.size(dim=0), tuple(x.shape), x.nelement(), x.numel()),
    "rank": lambda x: (x.ndim, x.dim(), x.ndimension(), len(x), len(x.shape)),
    "gradients": lambda x: (x.requires_grad, x.grad, x.is_leaf),
    "layout": lambda x: (x.layout, x.is_sparse, x.is_quantized),
    "the same": lambda x: (x.to(x.device) is x, x.float() is x, x.to(x.dtype) is x, x.cpu() is x),
    "contiguous": lambda x: (x.contiguous() is x) == x.is_contiguous(),
    "none": lambda x: (x is None, x is not None),
    "promotion": lambda x: (torch.result_type(x, 1.5), x.size() == x.shape, isinstance(x, nn.Parameter)),
    "iteration": lambda x: (len(list(x)), next(iter(x)).shape, [row.dtype for row in x]),
    "eval dropout": lambda x: F.dropout(x, 0.5, training=False) is x,
}
VALUES: dict[str, Any] = {
    "input": lambda x: x,
    "permuted": lambda x: x.permute(0, 2, 3, 1),
    "relu of permuted": lambda x: x.permute(0, 3, 1, 2).relu() + 1,
    "convolution": lambda x: F.conv2d(x, torch.ones(4, 8, 3, 3)),
    "channels last": lambda x: F.max_pool2d(
        F.batch_norm(
            F.conv2d(x.to(memory_format=torch.channels_last), torch.ones(4, 8, 3, 3)), torch.ones(4), torch.ones(4)
        ),
        2,
    ),
    "slice": lambda x: x[:, 1:3, ::2, 1],
    "reshaped": lambda x: x.transpose(1, 2).reshape(2, -1),
    "softmax of a transpose": lambda x: x.transpose(1, 3).softmax(-1),
    "product": lambda x: x @ x.mT,
    "sum": lambda x: x.mean((2, 3), keepdim=True),
    "joined": lambda x: torch.cat([x, x], 1)[..., None],
}


@pytest.mark.parametrize("question", QUESTIONS.values(), ids=QUESTIONS.keys())
@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES.keys())
def test_a_traced_tensor_answers_as_a_real_one(question: Any, value: Any) -> None:
    answers = []

    def forward(_: Any, x: Tensor) -> Tensor:
        y = value(x)
        answers.append(question(y))
        return y * 2

    module = Lambda(forward).eval()  # type: ignore[no-untyped-call]
    x = image(2, 8, 9, 10)
    with torch.no_grad():
        module(torch.from_numpy(x))
    trace(module, {"x": x})
    assert answers[0] == answers[1]


def test_questions_are_no_users_of_a_tensor() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        y = m.conv(x)
        torch._assert(y.ndim == 4, "not an image")
        assert y.dim() == 4
        assert isinstance(y, Tensor)
        assert y.dtype == x.dtype
        assert y.is_contiguous()
        assert f"{y} {y!r}".startswith("tensor(")
        batch, *_ = y.shape
        return m.norm(y).reshape(batch, -1)

    module = Lambda(forward, conv=nn.Conv2d(3, 4, 3), norm=nn.BatchNorm2d(4))  # type: ignore[no-untyped-call]
    assert operators(assert_same_outputs(module, image(1, 3, 6, 6))) == ["Conv", "Reshape"]  # type: ignore[no-untyped-call]


def test_a_sample_is_traced_as_it_lies_in_memory() -> None:
    seen = []

    def forward(_: Any, x: Tensor) -> Tensor:
        seen.append(x.is_contiguous(memory_format=torch.channels_last))
        return x * 2

    x = torch.randn(1, 3, 4, 4).to(memory_format=torch.channels_last)
    module = Lambda(forward).eval()  # type: ignore[no-untyped-call]
    np.testing.assert_allclose(run(export_onnx(module, {"x": x}), {"x": x.numpy()})[0], 2 * x)  # type: ignore[no-untyped-call]
    assert seen == [True]


LOOKS: dict[str, Any] = {
    "whole": lambda y: y,
    "flat": lambda y: y.view(-1),
    "row": lambda y: y[1],
    "middle": lambda y: y[:, 1:3],
    "steps": lambda y: y[:, ::2, 1:],
    "turned": lambda y: y.transpose(0, 2),
    "transposed row": lambda y: y.mT[0],
    "detached": lambda y: y.detach(),
    "contiguous": lambda y: y.contiguous(),
    "part": lambda y: y.chunk(2, 1)[1],
    "unbound": lambda y: y.unbind(2)[3],
    "diagonal": lambda y: y.diagonal(0, 1, 2),
    "copied": lambda y: y.transpose(0, 1).contiguous(),
    "cloned": lambda y: y.clone(),
    "reshaped copy": lambda y: y.transpose(0, 1).reshape(-1),
    "data": lambda y: y.data[0],
    "selected": lambda y: y.select(1, 2),
    "wider": lambda y: y.unsqueeze(1).squeeze(1).flatten(1),
}
WRITES: dict[str, Any] = {
    "add": lambda z: z.add_(1),
    "multiply": lambda z: z.mul_(2),
    "relu": lambda z: F.relu(z, inplace=True),
    "relu by place": lambda z: F.relu(z, True),
    "fill": lambda z: z.fill_(3),
    "zero": lambda z: z.zero_(),
    "copy": lambda z: z.copy_(z.clone().flip(0)),
    "set": lambda z: z.__setitem__(slice(0, 1), 5.0),
    "set a mask": lambda z: z.__setitem__(z > 0, 7.0),
    "augmented": lambda z: z.__setitem__((..., slice(0, 1)), z[..., :1].mul_(3)),
    "mask": lambda z: z.masked_fill_(z > 0.5, -1),
    "of another dtype": lambda z: z.add_(torch.ones(z.shape, dtype=torch.float64)),
    "out": lambda z: torch.exp(z, out=z),
}


@settings(max_examples=150, deadline=None)
@given(
    looks=st.lists(st.sampled_from(sorted(LOOKS)), min_size=1, max_size=3),
    steps=st.lists(st.tuples(st.integers(0, 2), st.sampled_from(sorted(WRITES))), min_size=1, max_size=3),
    made=st.sampled_from(["computed", "constant", "input"]),
)
def test_writes_are_seen_through_all_that_share_memory(
    looks: list[str], steps: list[tuple[int, str]], made: str
) -> None:
    def forward(_: Any, x: Tensor) -> Any:
        first = x + 0
        y = x * 2 if made == "computed" else torch.zeros(x.shape) if made == "constant" else x
        parts = [LOOKS[look](y) for look in looks]
        if made == "constant":
            y += x
        for place, step in steps:
            WRITES[step](parts[place % len(parts)])
        return (first, y + 0, y.sum() + x.sum(), *(part + 0 for part in parts))

    module = Lambda(forward).eval()  # type: ignore[no-untyped-call]
    x = image(3, 4, 5)
    expected = module(torch.from_numpy(x.copy()))
    for mine, theirs in zip(run(export_onnx(module, {"x": x}), {"x": x}), expected, strict=True):  # type: ignore[no-untyped-call]
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-5)


SET: dict[str, Any] = {
    "number": lambda y, v: y.__setitem__((slice(None), 0), 0),
    "box": lambda y, v: y.__setitem__((slice(None), slice(1, 3), slice(2, 4)), v[:, :2, :2]),
    "steps": lambda y, v: y.__setitem__((slice(None), slice(None, None, 2)), v[:, :2]),
    "broadcast": lambda y, v: y.__setitem__(slice(1, None), v[0, 0]),
    "leading ones": lambda y, v: y.__setitem__((0, 0), v[:1, :1, :]),
    "rows": lambda y, v: y.__setitem__(torch.tensor([2, 0]), v[:2]),
    "columns": lambda y, v: y.__setitem__((slice(None), torch.tensor([3, 1])), v[:, :2]),
    "columns by list": lambda y, v: y.__setitem__((..., [3, 1]), 1.5),
    "places": lambda y, v: y.__setitem__((torch.tensor([0, 1]), torch.tensor([2, 2])), v[0, :2]),
    "part of columns": lambda y, v: y.__setitem__((slice(1, 3), torch.tensor([3, 1])), v[:2, :2]),
    "row, then columns": lambda y, v: y.__setitem__((1, torch.tensor([3, 1])), v[0, :2]),
    "mask": lambda y, v: y.__setitem__(y > 0, 0.5),
    "constant mask": lambda y, v: y.__setitem__(torch.tensor([True, False, True]), v[:2]),
    "computed rows": lambda y, v: y.__setitem__((v[:2, 0, 0].abs() * 0).long(), v[:1]),
    "added to": lambda y, v: y[:, :2].mul_(2).add_(v[:, 2:]),
    "scattered": lambda y, v: y.scatter_(1, (v * 0).long(), v),
    "indices": lambda y, v: y.index_fill_(2, torch.tensor([0, 4]), 2.0).index_add_(0, torch.tensor([1, 1, 0]), v),
}


@pytest.mark.parametrize("step", SET.values(), ids=SET.keys())
@pytest.mark.parametrize("constant", [False, True])
def test_items_are_set(step: Any, *, constant: bool) -> None:
    def forward(_: Any, x: Tensor) -> Tensor:
        y = torch.zeros(3, 4, 5) if constant else x * 2
        step(y, x)
        return y + x

    assert_same_outputs(Lambda(forward), image(3, 4, 5))  # type: ignore[no-untyped-call]
