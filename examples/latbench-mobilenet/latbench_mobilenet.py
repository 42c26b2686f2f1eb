"""A search space in one file: five stages of inverted residuals (Sandler et al., "MobileNetV2", CVPR 2018).

Resolution, depths, kernels and expansions are decided as in Once-for-All (Cai et al., ICLR 2020).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import ClassVar

from torch import Tensor, nn

from latbench.spaces.choices import Choice, Choices, ChoiceSpace, Decision, Ordinal


@dataclass(frozen=True)
class MobileNetSpace(ChoiceSpace):
    width: float = 1.0
    activation: str = "ReLU6"
    classes: int = 10
    name: ClassVar[str] = "mobilenet"

    @cached_property
    def decisions(self) -> list[Decision]:
        found: list[Decision] = [Ordinal("resolution", (64, 96, 128))]
        for stage in range(1, 6):
            found.append(Ordinal(f"depth{stage}", (2, 3, 4)))
            for block in range(1, 5):
                when = (f"depth{stage}", range(block, 5)) if block > 2 else None
                found.append(Choice(f"kernel{stage}.{block}", (3, 5, 7), when=when))
                found.append(Choice(f"expand{stage}.{block}", (3, 6), when=when))
        return found

    def build(self, choices: Choices) -> nn.Module:
        stem, *_, last = channels = [round(self.width * c) for c in (16, 24, 40, 80, 112, 160)]
        layers: list[nn.Module] = [nn.Conv2d(3, stem, 3, stride=2, padding=1)]
        for stage, (before, after) in enumerate(pairwise(channels), start=1):
            for block in range(1, choices[f"depth{stage}"] + 1):
                kernel, expand = choices[f"kernel{stage}.{block}"], choices[f"expand{stage}.{block}"]
                sizes = (before, after, 2) if block == 1 else (after, after, 1)
                act = getattr(nn, self.activation)
                layers.append(InvertedResidual(*sizes, kernel=kernel, expand=expand, act=act))
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(last, self.classes))


class InvertedResidual(nn.Module):
    def __init__(
        self, inputs: int, outputs: int, stride: int, *, kernel: int, expand: int, act: type[nn.Module]
    ) -> None:
        super().__init__()
        self.residual, wide = stride == 1, inputs * expand
        wider = (nn.Conv2d(inputs, wide, 1), nn.BatchNorm2d(wide), act())
        depthwise = (nn.Conv2d(wide, wide, kernel, stride, kernel // 2, groups=wide), nn.BatchNorm2d(wide), act())
        self.layers = nn.Sequential(*wider, *depthwise, nn.Conv2d(wide, outputs, 1), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return x + y if self.residual else y
