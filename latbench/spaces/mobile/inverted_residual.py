"""The building block of mobile networks: an inverted residual (Sandler et al., "MobileNetV2", CVPR 2018)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

Activation = Callable[[], nn.Module]


class InvertedResidual(nn.Module):
    """Expand by a 1x1 convolution, convolve each channel by itself, project by a 1x1 convolution.

    Args:
        inputs: channels of the input.
        outputs: channels of the output.
        stride: of the depthwise convolution; with 1 and as many outputs as inputs, the input is added.
        kernel: size of the depthwise convolution.
        expand: channels in between, as a multiple of the inputs; with 1 there is no expansion unless `groups` is 2.
        groups: of both 1x1 convolutions; channels are shuffled after the first one where there are several.
        squeeze: whether channels are reweighted by squeeze and excitation (Howard et al., "Searching for MobileNetV3",
            ICCV 2019) before the projection.
        activation: makes an activation.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        stride: int,
        *,
        kernel: int,
        expand: int,
        groups: int = 1,
        squeeze: bool = False,
        activation: Activation = nn.ReLU,
    ) -> None:
        super().__init__()
        self.residual = stride == 1 and inputs == outputs
        wide = inputs * expand
        layers: list[nn.Module] = []
        if expand > 1 or groups > 1:
            layers += convolution(inputs, wide, 1, groups=groups, activation=activation)
            if groups > 1:
                layers.append(nn.ChannelShuffle(groups))
        layers += convolution(wide, wide, kernel, stride=stride, groups=wide, activation=activation)
        if squeeze:
            layers.append(SqueezeExcitation(wide))
        layers += convolution(wide, outputs, 1, groups=groups, activation=None)
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(batch, outputs, height / stride, width / stride)``."""
        y: Tensor = self.layers(x)
        return x + y if self.residual else y


class SqueezeExcitation(nn.Module):
    """Multiply channels by what their means tell."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        between = rounded(channels / 4)
        self.reduce, self.expand = nn.Conv2d(channels, between, 1), nn.Conv2d(between, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the reweighted channels."""
        means = torch.mean(x, dim=(2, 3), keepdim=True)
        weights = nn.functional.hardsigmoid(self.expand(nn.functional.relu(self.reduce(means))))
        return x * weights


def convolution(
    inputs: int,
    outputs: int,
    kernel: int,
    *,
    stride: int = 1,
    groups: int = 1,
    activation: Activation | None = nn.ReLU,
) -> Iterator[nn.Module]:
    """Yield a convolution, its batch norm, and its activation where it has one."""
    yield nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    yield nn.BatchNorm2d(outputs)
    if activation is not None:
        yield activation()


def rounded(channels: float, divisor: int = 8) -> int:
    """Return the multiple of `divisor` next to a number of channels, at most a tenth below it, as in MobileNets."""
    nearest = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return nearest if nearest >= 0.9 * channels else nearest + divisor
