"""The direct ONNX writer: each kind of operator, over its variants, without torch's exporter."""

from __future__ import annotations

import math
import warnings

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from latbench.onnx_export import export_onnx
from tests.test_onnx_export import Lambda, assert_same_outputs, image

MASK = torch.tensor([True, False, True, True, False, False, True, False])


def same(function, *arrays, **children):
    """A fallback would be a warning, and warnings are errors."""
    assert_same_outputs(Lambda(lambda m, *xs: function(*xs), **children), *arrays)


def ints(*shape, low=-5, high=6, dtype=np.int64):
    return np.random.default_rng(1).integers(low, high, shape).astype(dtype)


ELEMENTWISE = {
    "rsqrt": lambda x: (x.abs() + 1).rsqrt() + torch.rsqrt(x * x + 1),
    "square": lambda x: x.square() + torch.square(x),
    "addcmul": lambda x: torch.addcmul(x, x, x + 1, value=0.5) + x.addcmul(x, x),
    "addcdiv": lambda x: torch.addcdiv(x, x, x * x + 1, value=2),
    "ne": lambda x: ((x != 0) & x.ne(1)).float() + torch.ne(x, x),
    "alpha": lambda x: torch.sub(x, x * x, alpha=2) + x.add(x, alpha=0.5),
    "reversed": lambda x: 1 - x + 2 / (x * x + 1) + 2**x + 7 % (x * x + 1) + 5 // (x * x + 1),
    "rounded division": lambda x: (
        x.div(0.3, rounding_mode="floor") + torch.div(x, 0.3, rounding_mode="trunc") + x // 0.7 + x % 0.7
    ),
    "rounding": lambda x: x.trunc() + x.round() + x.floor() + x.ceil(),
    "logarithms": lambda x: (x.abs() + 1).log2() + (x.abs() + 1).log10() + x.abs().log1p() + x.expm1() + x.exp2(),
    "trigonometry": lambda x: x.sin() + x.cos() + x.tanh().asin() + x.tanh().acos() + x.atan() + x.sinh() + x.cosh(),
    "lerp": lambda x: torch.lerp(x, x * 2, 0.3) + x.lerp(x + 1, x),
    "where": lambda x: torch.where(x > 0, x, x * 2) + torch.where(x > 0, 1.0, x) + x.where(x > 1, 0.5),
    "masked fill": lambda x: x.masked_fill(x > 1, 0.5).masked_fill(MASK[:, None, None], -1),
    "clamps": lambda x: x.clamp(max=0.5) + x.clamp_min(0) + x.clamp_max(0.1) + x.clamp(-x.abs(), x * 0 + 1),
    "one-sided clips": lambda x: torch.clip(x, max=0.3) + x.clip(-0.2, 0.4),
    "not finite": lambda x: torch.nan_to_num((x / x.relu()).log()) + (x / 0).isinf() + (x * math.nan).isnan(),
    "compared with numbers": lambda x: (x < 1).float() + (x >= 0) * 2.0 + (x >= 0.5).float() + (x == x.floor()),
    "scaled twice": lambda x: x.mul(3).multiply(2).true_divide(4).divide(5).subtract(1),
}


@pytest.mark.parametrize("function", ELEMENTWISE.values(), ids=ELEMENTWISE.keys())
def test_elementwise(function):
    same(function, image(2, 8, 5, 4))


FLAGS = {
    "times": lambda x: (x > 0) * (x < 1),
    "plus": lambda x: (x > 0) + (x < 1),
    "and, or, xor": lambda x: ((x > 0) & (x < 1), (x > 0) | (x < -1), (x > 0) ^ (x < 1)),
    "not": lambda x: (~(x > 0), torch.logical_not(x), (x > 0).logical_not()),
    "equal": lambda x: ((x > 0) == (x < 1), (x > 0) != (x < 1), (x > 0) < (x < 1)),
    "of numbers": lambda x: (torch.logical_and(x, x > 0), x.round().logical_or(x > 1), x.logical_xor(x > 0)),
    "joined": lambda x: torch.cat([x > 0, x < 1], -1),
    "counted": lambda x: ((x > 0).sum(-1, keepdim=True), (x > 0).sum(), (x > 0).float().mean(1)),
    "any and all": lambda x: ((x > 0).any(-1), (x > -1).all(1, keepdim=True), (x > 0).any(), (x > -9).all()),
    "chosen": lambda x: torch.where(x > 0, x > 1, x < -1),
    "largest": lambda x: (torch.maximum(x > 0, x < -1), torch.minimum(x > 0, x < 1)),
    "padded": lambda x: F.pad(x > 0, (1, 2), value=True),
    "times a number": lambda x: (x > 0) * 2 + (x > 1) * x,
}


@pytest.mark.parametrize("function", FLAGS.values(), ids=FLAGS.keys())
def test_flags_compute_as_in_torch(function):
    same(function, image(2, 8))


INTEGERS = {
    "arithmetic": lambda x: (x + 1) * 2 - x * x,
    "sums": lambda x: (x.sum(-1), x.sum(), x.cumsum(1)),
    "negation and size": lambda x: (-x, x.abs(), x.sign()),
    "inverted bits": lambda x: ~x,
    "clamped": lambda x: (x.clamp(0, 2), x.clamp(max=3), torch.maximum(x, x * 0)),
    "rectified": F.relu,
    "divided": lambda x: (x / 2, x // 2, x % 3, torch.div(x, 3, rounding_mode="trunc")),
    "powers": lambda x: x**2,
    "compared": lambda x: (x > 1, x == 2, x != 2, x <= x * x),
    "extremes": lambda x: (x.amax(-1), x.min(), x.argmax(1), x.max(0).values),
    "chosen": lambda x: (torch.where(x > 0, x, 0), x.masked_fill(x > 1, 7)),
    "with numbers": lambda x: (x * 0.5, x + 1.5, x.float().mean()),
    "filled in place": lambda x: (y := x + 0).masked_fill_(y > 1, 0).add_(1),
}


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.int32, np.int64])
@pytest.mark.parametrize("function", INTEGERS.values(), ids=INTEGERS.keys())
def test_integers_compute_as_in_torch(function, dtype):
    same(function, ints(3, 8, low=0, high=6, dtype=dtype))


@pytest.mark.parametrize("kind", ["negative", "bits"])
def test_unsigned_integers_wrap_around(kind):
    same((lambda x: -x) if kind == "negative" else (lambda x: ~x + x * 3), ints(3, 8, low=0, high=200, dtype=np.uint8))


def test_double_precision():
    same(lambda x: F.gelu(x) + x.erf() + F.silu(x).square().mean(-1, keepdim=True), image(2, 8).astype(np.float64))


@settings(max_examples=40)
@given(
    kind=st.sampled_from(
        ["mean", "sum", "amax", "amin", "var", "std", "var0", "logsumexp", "prod", "max", "argmin", "any", "all"]
    ),
    dim=st.integers(-3, 2),
    keepdim=st.booleans(),
    several=st.booleans(),
)
def test_reductions(*, kind, dim, keepdim, several):
    dims = (dim, (dim + 1) % 3) if several and kind in ("mean", "sum", "amax", "var") else dim
    assume(not isinstance(dims, tuple) or dims[0] % 3 != dims[1] % 3)
    if kind == "var0":
        same(
            lambda x: x.var(dims, unbiased=False, keepdim=keepdim) + torch.var(x, dims, correction=0), image(2, 3, 4)
        ) if (keepdim is False) else same(lambda x: torch.var(x, dims, correction=0, keepdim=True), image(2, 3, 4))
    elif kind == "max":
        same(lambda x: tuple(x.max(dims, keepdim)) + tuple(torch.min(x, dims)), image(2, 3, 4))
    else:
        same(lambda x: getattr(x, kind)(dims, keepdim=keepdim), image(2, 3, 4))


@settings(max_examples=30)
@given(
    p=st.sampled_from([1, 2, 3.0, 0.5, math.inf, -math.inf, "fro"]),
    dim=st.sampled_from([0, 1, -1, (1, 2), None]),
    keepdim=st.booleans(),
)
def test_norms(*, p, dim, keepdim):
    assume(dim is not None or not keepdim)
    assume(p != "fro" or dim != 0)
    same(lambda x: x.norm(p, dim, keepdim) if dim is not None else x.norm(p), image(2, 3, 4))


@pytest.mark.parametrize(("p", "dim"), [(2, 1), (1, -1), (2, (1, 2)), (math.inf, 0)])
def test_normalize_and_similarity(p, dim):
    same(lambda x: F.normalize(x, p, dim), image(2, 3, 4))
    if isinstance(dim, int):
        same(lambda x: F.cosine_similarity(x, x * x, dim), image(2, 3, 4))


REDUCTIONS = {
    "moments": lambda x: (*torch.var_mean(x, 1), *torch.std_mean(x, (1, 2), keepdim=True), x.var(), x.std(False)),
    "places": lambda x: (x.argmax(), x.argmax(1, keepdim=True), x.argsort(-1), torch.argmin(x, dim=0)),
    "sorted": lambda x: (*x.topk(2), *x.topk(2, 1, largest=False), *torch.sort(x, 1, descending=True)),
    "vectors": lambda x: (torch.linalg.vector_norm(x, dim=1), torch.linalg.norm(x), x.count_nonzero(1)),
    "cast": lambda x: (x.sum(1, dtype=torch.float64), x.mean(0, dtype=torch.float64)),
}


@pytest.mark.parametrize("function", REDUCTIONS.values(), ids=REDUCTIONS.keys())
def test_reductions_of_other_forms(function):
    same(function, image(2, 3, 4))


PRODUCTS = {
    "addmm": lambda x, y: torch.addmm(x[0, 0], y, y, beta=0.5, alpha=2) + torch.addmm(x[0], y, y),
    "addmm without beta": lambda x, y: torch.addmm(x[0] * math.nan, y, y, beta=0),
    "baddbmm": lambda x, y: torch.baddbmm(x, x, x, beta=0.0, alpha=0.5) + x.baddbmm(batch1=x, batch2=x, alpha=2),
    "vectors": lambda x, y: (y @ y[0], y[0] @ y, y[0] @ y[1], y.mv(y[0]), torch.outer(y[0], y[1]), y[0].dot(y[1])),
    "integers": lambda x, y: (x * 3).long() @ (y * 3).long().T,
    "einsum": lambda x, y: torch.einsum("bij,jk->bik", x, y) + torch.einsum("bij,jk", [x, y]),
    "einsum of lists": lambda x, y: (
        torch.einsum(x, [0, 1, 2], y, [2, 3], [0, 1, 3]) + torch.einsum(x, [..., 2], y, [2, 3], [..., 3])
    ),
    "dynamic weights": lambda x, y: (F.linear(x, y), F.linear(y, y, y[0]), F.linear(x, y[0]).unsqueeze(-1)),
    "dynamic kernel": lambda x, y: F.conv2d(x[None], y[:3, :3].reshape(1, 1, 3, 3).expand(2, 1, 3, 3), groups=2),
}


@pytest.mark.parametrize("function", PRODUCTS.values(), ids=PRODUCTS.keys())
def test_products(function):
    same(function, image(2, 4, 4), image(4, 4, seed=1))


@pytest.mark.parametrize("mask", ["none", "flags", "numbers", "row", "causal"])
@pytest.mark.parametrize("grouped", [False, True])
def test_attention_with_any_mask(mask, grouped):
    def attend(x):
        masks = {
            "none": None,
            "flags": x[:, :1] @ x[:, :1].mT > -3,
            "numbers": (x[:, :1] @ x[:, :1].mT),
            "row": x[:, :1, :1, :5] > -9,
            "causal": None,
        }
        keys = x[:, :2] if grouped else x
        return F.scaled_dot_product_attention(
            x, keys, keys, masks[mask], is_causal=mask == "causal", enable_gqa=grouped, scale=0.2 if grouped else None
        )

    same(attend, image(2, 4, 5, 8))


@settings(max_examples=60, deadline=None)
@given(
    mode=st.sampled_from(["nearest", "nearest-exact", "linear", "bilinear", "bicubic", "area", "trilinear"]),
    align=st.booleans(),
    by_scale=st.booleans(),
    recompute=st.booleans(),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    scale=st.tuples(st.sampled_from([0.4, 0.5, 0.75, 1.0, 1.5, 2.0, 2.3, 3.0]), st.sampled_from([0.5, 1.3, 2.0])),
)
def test_interpolation(*, mode, align, by_scale, recompute, size, scale):
    rank = {"linear": 1, "trilinear": 3}.get(mode, 2)
    corners = align if "linear" in mode or mode == "bicubic" else None
    shape = (2, 3, 5, 6, 4)[: 2 + rank]
    if by_scale:
        factors = (*scale, 1.5)[:rank]
        assume(mode != "area" or not recompute)
        options = {"scale_factor": factors, "recompute_scale_factor": recompute or None}
    else:
        options = {"size": (*size, 3)[:rank]}
    same(lambda x: F.interpolate(x, mode=mode, align_corners=corners, **options), image(*shape))


@settings(max_examples=40)
@given(
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    to=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    kind=st.booleans(),
)
def test_adaptive_pooling_to_any_size(*, size, to, kind):
    same(lambda x: (F.adaptive_avg_pool2d if kind else F.adaptive_max_pool2d)(x, to), image(1, 2, *size))


IMAGES = {
    "adaptive without batch": lambda x: (F.adaptive_avg_pool2d(x[0], 1), F.adaptive_avg_pool2d(x[0], (3, 5))),
    "adaptive 1d and 3d": lambda x: (F.adaptive_avg_pool1d(x[0], 4), F.adaptive_avg_pool3d(x, (3, 4, 5))),
    "convolution without batch": lambda x: F.conv2d(x[0], torch.ones(4, 8, 3, 3)),
    "pools without batch": lambda x: (F.max_pool2d(x[0], 2), F.avg_pool2d(x[0], 3, 1, 1)),
    "average with a divisor": lambda x: F.avg_pool2d(x, 3, divisor_override=2),
    "average that counts padding in overhanging windows": lambda x: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True),
    "places of the largest": lambda x: F.max_pool2d(x, 3, 2, 1, return_indices=True),
    "unfold": lambda x: (F.unfold(x, 3), F.unfold(x, (2, 3), (2, 1), (1, 0), (1, 2)), F.unfold(x[0], 3)),
    "fold": lambda x: F.fold(F.unfold(x, (3, 2), 1, 1, 2), (9, 10), (3, 2), 1, 1, 2),
    "windows": lambda x: (x.unfold(2, 3, 2), x.unfold(-1, 2, 1).unfold(2, 4, 4)),
    "shuffles": lambda x: (F.pixel_shuffle(x, 2), F.pixel_unshuffle(x[:, :, :8], 2), F.channel_shuffle(x, 4)),
    "circular padding": lambda x: F.pad(x, (1, 2, 3, 0), mode="circular"),
    "other padding": lambda x: (F.pad(x, (1, 2, 0, 1), mode="reflect"), F.pad(x[0], (1, 2), mode="replicate")),
    "sampling": lambda x: F.grid_sample(x, x[:, :2].permute(0, 2, 3, 1).tanh(), align_corners=False),
    "instance norm by known statistics": lambda x: F.instance_norm(
        x, torch.ones(8), torch.ones(8) * 2, use_input_stats=False
    ),
    "batch norm by own statistics": lambda x: F.batch_norm(
        x, None, None, torch.ones(8) * 2, torch.ones(8), training=True
    ),
    "rms norm": lambda x: F.rms_norm(x, (10,), torch.arange(10.0)) + F.rms_norm(x, (9, 10), eps=0.1),
    "local response": lambda x: F.local_response_norm(x, 3),
}


@pytest.mark.parametrize("function", IMAGES.values(), ids=IMAGES.keys())
def test_images(function):
    same(function, image(2, 8, 9, 10))


ACTIVATIONS = {
    **{
        f"softplus {beta} {threshold}": lambda x, b=beta, t=threshold: F.softplus(x * 3, b, t)
        for beta in (1, 0.5, 3)
        for threshold in (20, 3, 0.5)
    },
    "selu and celu": lambda x: F.selu(x) + F.celu(x, 0.7),
    "shrinking": lambda x: F.hardshrink(x, 0.3) + F.softshrink(x, 0.4) + F.tanhshrink(x),
    "threshold": lambda x: F.threshold(x, 0.2, -3.0),
    "logarithm of a sigmoid": F.logsigmoid,
    "random leaky ReLU": F.rrelu,
    "slope for each channel": lambda x: F.prelu(x, x[0, :, 0].abs()),
    "softmax of a dtype": lambda x: x.softmax(-1, dtype=torch.float64) + F.log_softmax(x, 1, dtype=torch.float64),
    "softmin": lambda x: F.softmin(x, 1),
    "gates": lambda x: F.glu(x, 1),
}


@pytest.mark.parametrize("function", ACTIVATIONS.values(), ids=ACTIVATIONS.keys())
def test_activations(function):
    same(function, image(3, 4, 5))


@pytest.mark.parametrize("rank", [1, 2, 3, 4])
def test_a_softmax_without_a_dimension_takes_that_of_torch(rank):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Implicit dimension")
        same(F.softmax, image(2, 3, 4, 5)[(0,) * (4 - rank)])


SHAPES = {
    "roll": lambda x: (x.roll(1), x.roll(-2, 1), torch.roll(x, (1, -1), (1, 2)), x.roll(4, 2), x.roll(7, 0)),
    "flip": lambda x: (x.flip(1), torch.flip(x, (0, -1)), x.flip(-1, 0)),
    "triangles": lambda x: (x.tril(), x.triu(1), torch.tril(x, -1), (x > 0).tril()),
    "repeats": lambda x: (x.repeat_interleave(2, 1), torch.repeat_interleave(x, 3), x.repeat(2, 1, 1, 3), x.tile(2)),
    "repeats of each": lambda x: x.repeat_interleave(torch.tensor([1, 0, 2]), 1),
    "dimensions moved": lambda x: (
        x.movedim(0, -1),
        torch.movedim(x, (0, 1), (2, 0)),
        x.swapaxes(0, 2),
        x.swapdims(0, 1),
    ),
    "one part": lambda x: (x.narrow(1, 1, 2), x.select(2, -1), x.narrow(-1, -2, 1)),
    "parts": lambda x: (*x.tensor_split(3, 2), *x.split((1, 2), 1), *torch.split(x, 3, 2)),
    "diagonals": lambda x: (x.diagonal(0, 1, 2), torch.diagonal(x, 1, -2, -1)),
    "broadcast": lambda x: (
        torch.broadcast_to(x[:1], (5, 3, 4)),
        torch.broadcast_tensors(x, x[:, :1])[1],
        x[:1].expand(4, 3, -1),
    ),
    "at least": lambda x: (torch.atleast_2d(x[0, 0]), torch.atleast_3d(x[0])),
    "joined": lambda x: (torch.hstack([x, x]), torch.vstack([x, x]), torch.concatenate([x, x.double()], 1)),
    "an empty list before the first": lambda x: torch.cat([torch.empty(0), x]),
    "turned": lambda x: (x.permute(2, 1, 0), x.mT, torch.transpose(x, 0, -1), x[0].t()),
    "one of a kind": lambda x: F.one_hot((x * 9).abs().long() % 5, 5),
    "reversed": lambda x: torch.stack(list(reversed(x))),
    "made by shape": lambda x: x + torch.zeros_like(x) + x.new_ones(4) + torch.full_like(x, 2) + x.new_tensor([1.0]),
}


@pytest.mark.parametrize("function", SHAPES.values(), ids=SHAPES.keys())
def test_shapes(function):
    same(function, image(2, 3, 4))


def test_the_transpose_of_three_dimensions_reverses_them():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The use of `x.T`")
        same(lambda x: x.T + x.permute(2, 1, 0), image(2, 3, 4))


ROWS, COLUMNS = torch.tensor([2, 0, -1]), torch.tensor([1, 1, 0])
INDEXING = {
    "one tensor": lambda x, i: (x[ROWS], x[:, ROWS], x[..., ROWS], x[:, :, ROWS[:, None]], x[1, ROWS], x[:, 1:, ROWS]),
    "lists": lambda x, i: (x[[0, 2]], x[:, [0, 2, 1]]),
    "masks": lambda x, i: (x[MASK[:4]], x[:, MASK[:3]], x[..., MASK[:5]], x[torch.ones(4, 3, dtype=torch.bool)]),
    "several tensors": lambda x, i: (
        x[ROWS, COLUMNS],
        x[:, COLUMNS, ROWS],
        x[ROWS, :, COLUMNS],
        x[ROWS[:, None], COLUMNS],
        x[ROWS, COLUMNS, ROWS],
    ),
    "numbers among tensors": lambda x, i: (
        x[0, :, ROWS],
        x[ROWS, 1],
        x[ROWS, :, 0],
        x[:, 0, ROWS],
        x[None, ROWS, ..., None],
    ),
    "computed": lambda x, i: (x[i], x[:, i], x[..., i, None], x[i, i], x[0, i], x[i, :, i], x[i[:, None], i]),
    "choices": lambda x, i: (
        x.index_select(1, i),
        torch.index_select(x, 0, ROWS % 3),
        x.take(i),
        torch.take(x, ROWS % 9),
    ),
    "elements": lambda x, i: (x.gather(0, (x * 9).abs().long() % 4), x.gather(1, (x[:2, :2] * 9).abs().long() % 3)),
    "along": lambda x, i: torch.take_along_dim(x, x.argsort(1)[:, :2], 1),
    "scattered": lambda x, i: (
        x.scatter(1, x.argsort(1)[:, :2], 0.5),
        torch.scatter(x, 0, x.argsort(0), x * 2),
        x.scatter_add(2, (x * 9).abs().long() % 5, x),
    ),
    "put": lambda x, i: (x.index_copy(0, ROWS % 4, x[:3] * 2), x.index_fill(1, COLUMNS, 7.0), x.index_add(0, i, x[:3])),
}


@pytest.mark.parametrize("function", INDEXING.values(), ids=INDEXING.keys())
def test_indexing(function):
    same(function, image(4, 3, 5), np.array([2, 0, 1]))


def test_computed_indices_may_be_negative():
    same(INDEXING["computed"], image(4, 3, 5), np.array([2, 0, -1]))


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize(
    "options", [{}, {"num_layers": 2, "bidirectional": True}, {"batch_first": True, "bias": False}]
)
def test_recurrent_layers(kind, options):
    torch.manual_seed(0)
    layer = kind(6, 5, **options)

    class Flat(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = layer

        def forward(self, x):
            output, state = self.layer(x)
            return (output, *state) if isinstance(state, tuple) else (output, state)

    assert_same_outputs(Flat(), image(4, 3, 6))
    assert_same_outputs(Flat(), image(4, 6))


def test_recurrent_layers_with_a_state_and_cells():
    torch.manual_seed(0)
    layer, cells = (
        nn.GRU(6, 5, 2),
        nn.ModuleList([nn.LSTMCell(6, 5), nn.GRUCell(6, 5), nn.RNNCell(6, 5, nonlinearity="relu")]),
    )
    same(lambda x, h: layer(x, h)[0] + layer(x, h)[1][:1], image(4, 3, 6), image(2, 3, 5), layer=layer)
    same(lambda x: torch.cat([cells[0](x)[1], cells[1](x), cells[2](x)], 1), image(3, 6), cells=cells)


def test_random_numbers_are_drawn_when_the_file_runs():
    module = Lambda(lambda m, x: (x + torch.randn_like(x), F.dropout(x + 9, 0.5) * torch.rand(4, 400))).eval()
    x = {"x": np.zeros((4, 400), np.float32)}
    data = export_onnx(module, x)
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    (noise, dropped), (again, _) = session.run(None, x), session.run(None, x)
    assert not np.array_equal(noise, again)
    assert abs(noise.std() - 1) < 0.1
    assert 0.4 < (dropped == 0).mean() < 0.6
