"""The direct ONNX writer: what it writes computes what torch computes."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from latbench.onnx_export import export_onnx


def random_statistics(module: nn.Module) -> nn.Module:
    """Give batch norms statistics and weights as after a training, so that folding them matters."""
    for child in module.modules():
        if isinstance(child, nn.modules.batchnorm._BatchNorm) and child.running_mean is not None:
            nn.init.normal_(child.running_mean)
            nn.init.uniform_(child.running_var, 0.5, 2)
            if child.affine:
                nn.init.normal_(child.weight)
                nn.init.normal_(child.bias)
    return module.eval()


def run(data: bytes, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    onnx.checker.check_model(onnx.load_model_from_string(data), full_check=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"]).run(None, inputs)


def assert_same_outputs(module: nn.Module, *arrays: np.ndarray) -> onnx.ModelProto:
    """Export, check, run, compare to 1e-5 of the largest output; return the ONNX model."""
    module = random_statistics(module)
    inputs = {f"x{index}": array for index, array in enumerate(arrays)}
    data = export_onnx(module, inputs)
    with torch.inference_mode():
        expected = module(*map(torch.from_numpy, arrays))
    expected = expected if isinstance(expected, tuple | list) else [expected]
    results = run(data, inputs)
    assert len(results) == len(expected)
    for result, tensor in zip(results, expected, strict=True):
        reference = tensor.detach().numpy()
        assert result.shape == reference.shape
        assert result.dtype == reference.dtype
        np.testing.assert_allclose(result, reference, rtol=1e-5, atol=1e-5 * max(np.abs(reference).max(), 1e-3))
    return onnx.load_model_from_string(data)


def image(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape or (2, 8, 9, 10), dtype=np.float32)


def operators(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


class Lambda(nn.Module):
    """A module from a function, for what has no module of its own."""

    def __init__(self, function, **children):
        super().__init__()
        self.function = function
        for name, child in children.items():
            setattr(self, name, child)

    def forward(self, *tensors):
        return self.function(self, *tensors)


LAYERS = {
    "conv same": nn.Conv2d(8, 6, (3, 5), padding="same", dilation=(1, 2)),
    "conv valid": nn.Conv2d(8, 6, (3, 1), padding="valid", bias=False),
    "conv reflect": nn.Conv2d(8, 6, 3, padding=1, padding_mode="reflect"),
    "conv replicate": nn.Conv2d(8, 6, 3, padding=2, padding_mode="replicate"),
    "conv transposed": nn.ConvTranspose2d(8, 6, 3, stride=2, padding=1, output_padding=1, groups=2, dilation=2),
    "conv transposed, bn": nn.Sequential(nn.ConvTranspose2d(8, 6, 3, stride=2), nn.BatchNorm2d(6)),
    "conv transposed grouped, bn": nn.Sequential(nn.ConvTranspose2d(8, 6, 3, groups=2), nn.BatchNorm2d(6)),
    "conv, bn": nn.Sequential(nn.Conv2d(8, 6, 3), nn.BatchNorm2d(6)),
    "conv, bn without affine": nn.Sequential(nn.Conv2d(8, 6, 3, bias=False), nn.BatchNorm2d(6, affine=False)),
    "pool, bn": nn.Sequential(nn.AvgPool2d(3, 1, 1), nn.BatchNorm2d(8)),
    "pool, bn without affine": nn.Sequential(nn.MaxPool2d(3, 1, 1), nn.BatchNorm2d(8, affine=False)),
    "group norm": nn.GroupNorm(4, 8),
    "group norm without affine": nn.GroupNorm(2, 8, affine=False),
    "instance norm": nn.InstanceNorm2d(8, affine=True),
    "layer norm": nn.LayerNorm(10),
    "layer norm without affine": nn.LayerNorm((9, 10), elementwise_affine=False),
    "layer norm without bias": nn.LayerNorm(10, bias=False),
    "max pool": nn.MaxPool2d(3, 2, 1),
    "max pool dilated": nn.MaxPool2d(2, 1, 0, dilation=2),
    "max pool ceil": nn.MaxPool2d(3, 2, 0, ceil_mode=True),
    "avg pool": nn.AvgPool2d(3, 2, 1),
    "avg pool without padding": nn.AvgPool2d(3, 2, 1, count_include_pad=False),
    "avg pool ceil": nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False),
    "avg pool one size": nn.AvgPool2d(2),
    "adaptive 1": nn.AdaptiveAvgPool2d(1),
    "adaptive divisor": nn.AdaptiveAvgPool2d((3, 5)),
    "adaptive partial": nn.AdaptiveAvgPool2d((3, None)),
    "adaptive max": nn.AdaptiveMaxPool2d(1),
    "linear on 4 dimensions": nn.Linear(10, 3),
    "linear without bias": nn.Linear(10, 3, bias=False),
    "flatten, linear": nn.Sequential(nn.Flatten(), nn.Linear(720, 5)),
    "flatten, linear, bn": nn.Sequential(nn.Flatten(), nn.Linear(720, 5), nn.BatchNorm1d(5)),
    "flatten some": nn.Flatten(1, 2),
    "unflatten": nn.Unflatten(1, (2, 4)),
    "dropout": nn.Sequential(nn.Dropout(0.5), nn.Dropout2d(0.5), nn.Identity()),
    "zero pad": nn.ZeroPad2d((1, 2, 3, 0)),
    "pixel shuffle": nn.PixelShuffle(2),
    "nearest": nn.Upsample(scale_factor=2),
    "bilinear": nn.Upsample(scale_factor=2, mode="bilinear"),
    "bilinear corners": nn.Upsample(scale_factor=3, mode="bilinear", align_corners=True),
    "prelu": nn.PReLU(8),
    "prelu shared": nn.PReLU(),
    **{
        type(layer).__name__: layer
        for layer in [
            nn.ReLU(),
            nn.ReLU6(),
            nn.SiLU(),
            nn.GELU(),
            nn.Hardswish(),
            nn.Hardsigmoid(),
            nn.Sigmoid(),
            nn.Tanh(),
            nn.LeakyReLU(0.2),
            nn.Softmax(1),
            nn.LogSoftmax(-1),
            nn.ELU(0.7),
            nn.Mish(),
            nn.Softplus(),
            nn.Hardtanh(-0.5, 0.7),
            nn.Softsign(),
            nn.GLU(1),
        ]
    },
    "gelu tanh": nn.GELU("tanh"),
    "relu in place": nn.Sequential(nn.Conv2d(8, 6, 1), nn.ReLU(inplace=True)),
}


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS.keys())
def test_layers_compute_what_torch_computes(layer):
    assert_same_outputs(layer, image(2, 8, 9, 10))


FUNCTIONS = {
    "operators": lambda m, x: (1 - x) * 2 / (x * x + 3) - x**2 + (-x) + abs(x),
    "functions": lambda m, x: torch.sub(torch.add(x, 1), torch.mul(x, x)).div(torch.exp(x)),
    "methods": lambda m, x: x.sigmoid().mul(x.tanh()).add(x.relu()).sub(x.abs().sqrt()),
    "in place": lambda m, x: (x * 1).relu_().add_(x).mul_(2),
    "augmented": lambda m, x: augmented(x),
    "scalar kinds": lambda m, x: torch.maximum(x, x * 0.5).clamp(-1, 1).clamp(min=0),
    "means": lambda m, x: (
        x.mean((2, 3)),
        x.mean(dim=[-1], keepdim=True),
        torch.mean(x, 1),
        x.mean(),
        x.sum(1),
        x.amax((2, 3)),
    ),
    "cat": lambda m, x: torch.cat([x, x * 2, F.relu(x)], dim=1),
    "stack": lambda m, x: torch.stack([x, x * 2], dim=-1),
    "slices": lambda m, x: (
        x[:, :, 1:, 1:],
        x[:, ::2],
        x[0],
        x[:, -1],
        x[..., 2:-2],
        x[:, None, 1:3],
        x[..., -1],
        x[1:, 3, :, 2],
    ),
    "chunk": lambda m, x: torch.add(*x.chunk(2, dim=1)),
    "uneven chunks": lambda m, x: x.chunk(4, dim=3),
    "split": lambda m, x: torch.split(x, [2, 6], dim=1),
    "unbind": lambda m, x: x[:, :, 0].unbind(1)[3],
    "unpack": lambda m, x: unpacked(x),
    "views": lambda m, x: (
        x.view(x.size(0), -1).reshape(2, 8, -1).flatten(1).unsqueeze(1).squeeze(1).unflatten(1, (8, 90))
    ),
    "permutations": lambda m, x: (
        x.permute(0, 2, 3, 1),
        x.transpose(1, -1).contiguous(),
        torch.permute(x, (3, 0, 1, 2)),
        x[0, 0].T,
    ),
    "shuffle": lambda m, x: x.view(2, 2, 4, 9, 10).transpose(1, 2).reshape(x.shape),
    "shapes decide": lambda m, x: x * 2 if x.shape[1] == 8 and x.dim() == 4 and x.numel() == 1440 else x,
    "expand": lambda m, x: (
        x.mean((2, 3), keepdim=True).expand(-1, -1, 9, 10) + x.mean((2, 3), keepdim=True).expand_as(x)
    ),
    "repeat": lambda m, x: x[:1].repeat(2, 1, 1, 1),
    "pad": lambda m, x: F.pad(x, (1, 2, 0, 3), value=0.5),
    "crop": lambda m, x: F.pad(x, (-1, -2)),
    "matmul": lambda m, x: (x @ x.transpose(2, 3), torch.bmm(x[:, 0], x[:, 1].mT), torch.matmul(x, torch.ones(10, 3))),
    "einsum": lambda m, x: torch.einsum("nchw,nkhw->nck", x, x),
    "comparisons": lambda m, x: torch.where(x > 0.5, x, 0.0) + (x <= 0).float() + (x.to(torch.int64) == 1).to(x.dtype),
    "integers": lambda m, x: x.long() * 2 + 1,
    "integers against numbers": lambda m, x: (x.long() > 0.5).float() + (x.long() >= x) + x.long() * 0.5,
    "look-up": lambda m, x: m.weight[x[:, 0, 0].abs().long()] + x[0, 0, 0][x[0, 0].abs().long()][0],
    "attention": lambda m, x: F.scaled_dot_product_attention(x, x * 2, x + 1),
    "causal attention": lambda m, x: F.scaled_dot_product_attention(x, x, x, is_causal=True),
    "masked attention": lambda m, x: F.scaled_dot_product_attention(x, x, x, attn_mask=torch.eye(9), scale=0.3),
    "constant": lambda m, x: x + torch.arange(10, device=x.device, dtype=x.dtype),
    "input, weight and twice the same": lambda m, x: (x, m.weight, (y := x + 1), y),
    "dead branch": lambda m, x: (F.relu(x), x + m.weight)[0],
    "squeeze and excite": lambda m, x: x * F.hardsigmoid(F.adaptive_avg_pool2d(x, 1)),
    "one by one": lambda m, x: F.batch_norm(
        F.conv2d(x, torch.ones(3, 8, 1, 1)), torch.ones(3), torch.ones(3), eps=1e-3
    ),
}


def augmented(x):
    y = x * 2
    z = y
    y += x
    y -= 1
    y *= x
    y /= 2
    return y + z


def unpacked(x):
    batch, channels, height, width = x.shape
    first, second = x.reshape(2, batch, -1)
    return first * channels + second * height / width


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS.keys())
def test_functions_methods_and_operators_compute_what_torch_computes(function):
    module = Lambda(function)
    module.weight = nn.Parameter(torch.randn(10))
    assert_same_outputs(module, image(2, 8, 9, 10))


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (nn.Sequential(nn.Conv1d(3, 4, 3, stride=2, padding=1), nn.BatchNorm1d(4), nn.MaxPool1d(2)), (2, 3, 11)),
        (nn.Sequential(nn.Conv3d(3, 4, (1, 2, 3)), nn.BatchNorm3d(4), nn.AvgPool3d(2)), (1, 3, 5, 6, 7)),
        (nn.Sequential(nn.Conv1d(3, 4, 3), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4, 2)), (2, 3, 11)),
        (nn.MultiheadAttention(8, 2, batch_first=True), None),
        (nn.TransformerEncoderLayer(8, 2, 16, activation="gelu", batch_first=True), (2, 5, 8)),
        (nn.TransformerEncoderLayer(8, 2, 16, norm_first=True), (5, 2, 8)),
    ],
    ids=["1d", "3d", "1d head", "attention", "transformer", "transformer, norm first"],
)
def test_other_ranks_and_transformers(module, shape):
    if shape is None:
        assert_same_outputs(Lambda(lambda m, x: m.layer(x, x, x), layer=module), image(2, 5, 8))
    else:
        assert_same_outputs(module, image(*shape))


sizes = st.integers(1, 3)


@settings(max_examples=40)
@given(
    data=st.data(),
    rank=st.sampled_from([1, 2]),
    groups=st.sampled_from([1, 2, 4]),
    bias=st.booleans(),
    norm=st.booleans(),
    transposed=st.booleans(),
)
def test_any_convolution_with_batch_norm(*, data, rank, groups, bias, norm, transposed):
    kernel, stride, dilation = (tuple(data.draw(sizes) for _ in range(rank)) for _ in range(3))
    padding = tuple(data.draw(st.integers(0, k - 1)) for k in kernel)
    kind = {1: (nn.Conv1d, nn.ConvTranspose1d), 2: (nn.Conv2d, nn.ConvTranspose2d)}[rank][transposed]
    torch.manual_seed(0)
    convolution = kind(4, 8, kernel, stride, padding, dilation=dilation, groups=groups, bias=bias)
    layers = [convolution, (nn.BatchNorm1d, nn.BatchNorm2d)[rank - 1](8)] if norm else [convolution]
    model = assert_same_outputs(nn.Sequential(*layers), image(2, 4, *(11,) * rank))
    folded = norm and not (transposed and groups > 1)
    assert ("BatchNormalization" in operators(model)) == (norm and not folded)


@settings(max_examples=40)
@given(
    size=st.integers(5, 9),
    kernel=st.integers(2, 4),
    stride=st.integers(1, 3),
    padding=st.integers(0, 1),
    ceil=st.booleans(),
    kind=st.sampled_from(["max", "average", "average without padding"]),
)
def test_any_pooling(*, size, kernel, stride, padding, ceil, kind):
    if kind == "max":
        pool = nn.MaxPool2d(kernel, stride, padding, ceil_mode=ceil)
    else:
        pool = nn.AvgPool2d(kernel, stride, padding, ceil_mode=ceil, count_include_pad=kind == "average")
    x = image(1, 2, size, size)
    # Windows that hang over the padding and count it have no ONNX operator.
    overhang = pool(torch.from_numpy(x)).shape[-1] != (size + 2 * padding - kernel) // stride + 1
    assume(not (overhang and kind == "average"))
    assert_same_outputs(pool, x)
