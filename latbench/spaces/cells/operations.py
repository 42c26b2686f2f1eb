"""The operations of cell spaces as torch modules, after DARTS (Liu et al., ICLR 2019) and NAS-Bench-201 (ICLR 2020).

Every factory maps ``(batch, channels_in, size, size)`` to ``(batch, channels_out, size / stride, size / stride)``.
``affine=False`` leaves out the scale and shift of batch norm, as a supernet needs it: a scale could undo the
mixing weights. All of them trace with torch.fx.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from latbench.spaces.cells.prototypes import prototyped


@prototyped
def conv_bn(channels_in: int, channels_out: int) -> nn.Module:
    """Return a 3x3 convolution and batch norm, the stem of a network."""
    return nn.Sequential(nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False), nn.BatchNorm2d(channels_out))


@prototyped
def relu_conv_bn(
    channels_in: int, channels_out: int, kernel: int, stride: int = 1, *, affine: bool = True
) -> nn.Module:
    """Return ReLU, a convolution that keeps the size (up to the stride), and batch norm."""
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(channels_in, channels_out, kernel, stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(channels_out, affine=affine),
    )


@prototyped
def dilated_conv(channels: int, kernel: int, stride: int = 1, *, affine: bool = True) -> nn.Module:
    """Return ReLU, a depthwise convolution of dilation 2, a pointwise one, and batch norm."""
    return nn.Sequential(*_depthwise_separable(channels, kernel, stride, affine, dilation=2))


@prototyped
def separable_conv(channels: int, kernel: int, stride: int = 1, *, affine: bool = True) -> nn.Module:
    """Return ReLU, a depthwise and a pointwise convolution, and batch norm; twice, the second time at stride 1."""
    return nn.Sequential(
        *_depthwise_separable(channels, kernel, stride, affine),
        *_depthwise_separable(channels, kernel, 1, affine),
    )


def max_pool(stride: int = 1) -> nn.MaxPool2d:
    """Return the 3x3 maximum."""
    return nn.MaxPool2d(3, stride, padding=1)


def avg_pool(stride: int = 1) -> nn.AvgPool2d:
    """Return the 3x3 mean over what lies inside the image."""
    return nn.AvgPool2d(3, stride, padding=1, count_include_pad=False)


def skip_connect(channels: int, stride: int = 1, *, affine: bool = True) -> nn.Module:
    """Return the identity, or at stride 2 a factorized reduction."""
    return nn.Identity() if stride == 1 else factorized_reduce(channels, channels, affine=affine)


@prototyped
def factorized_reduce(channels_in: int, channels_out: int, *, affine: bool = True) -> nn.Module:
    """Return a `FactorizedReduce`."""
    return FactorizedReduce(channels_in, channels_out, affine=affine)


class FactorizedReduce(nn.Module):
    """Halve the size without losing pixels: two 1x1 convolutions of stride 2, the second one shifted by one pixel.

    Args:
        channels_in: channels of the input.
        channels_out: channels of the output, an even number.
        affine: whether batch norm scales and shifts.
    """

    def __init__(self, channels_in: int, channels_out: int, *, affine: bool = True) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.conv = nn.Conv2d(channels_in, channels_out // 2, 1, stride=2, bias=False)
        self.shifted_conv = nn.Conv2d(channels_in, channels_out // 2, 1, stride=2, bias=False)
        self.bn = nn.BatchNorm2d(channels_out, affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(batch, channels_in, size, size)`` to ``(batch, channels_out, size / 2, size / 2)``."""
        x = self.relu(x)
        reduced: Tensor = self.bn(torch.cat([self.conv(x), self.shifted_conv(x[:, :, 1:, 1:])], dim=1))
        return reduced


@prototyped
def residual_reduction(channels_in: int, channels_out: int) -> nn.Module:
    """Return a `ResidualReduction`."""
    return ResidualReduction(channels_in, channels_out)


class ResidualReduction(nn.Module):
    """Halve the size with a residual block, as between two stages of NAS-Bench-201.

    Args:
        channels_in: channels of the input.
        channels_out: channels of the output.
    """

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            relu_conv_bn(channels_in, channels_out, 3, stride=2), relu_conv_bn(channels_out, channels_out, 3)
        )
        self.shortcut = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(channels_in, channels_out, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(batch, channels_in, size, size)`` to ``(batch, channels_out, size / 2, size / 2)``."""
        reduced: Tensor = self.shortcut(x) + self.block(x)
        return reduced


def _depthwise_separable(
    channels: int, kernel: int, stride: int, affine: bool, *, dilation: int = 1
) -> tuple[nn.Module, ...]:
    padding = dilation * (kernel // 2)
    return (
        nn.ReLU(),
        nn.Conv2d(channels, channels, kernel, stride, padding, dilation, groups=channels, bias=False),
        nn.Conv2d(channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels, affine=affine),
    )
