"""The FBNet search space (Wu et al., CVPR 2019, tables 1 and 2): 22 layers, each one of nine blocks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from latbench.errors import ParseError
from latbench.spaces.cells.checks import check_config
from latbench.spaces.choices import Choice, Choices, ChoiceSpace, Decision

if TYPE_CHECKING:
    from torch import nn

BLOCKS = ("k3_e1", "k3_e1_g2", "k3_e3", "k3_e6", "k5_e1", "k5_e1_g2", "k5_e3", "k5_e6", "skip")
"""Kernel, expansion and groups of each block, in the order of published tables (HW-NAS-Bench, HELP)."""

STAGES = ((16, 1, 1), (24, 4, 2), (32, 4, 2), (64, 4, 2), (112, 4, 1), (184, 4, 2), (352, 1, 1))
"""``(channels, layers, stride of the first layer)`` of each stage."""

STEM, HEAD = 16, 1504


@dataclass(frozen=True)
class FbnetSpace(ChoiceSpace):
    """The FBNet search space; ``str(architecture)`` is ``layer1=k3_e1,...``, and lists of ids are read, too.

    Args:
        image: height and width of the input.
        classes: how many classes the head tells apart.

    Raises:
        UsageError: an invalid configuration.
    """

    image: int = 224
    classes: int = 1000

    name: ClassVar[str] = "fbnet"

    def __post_init__(self) -> None:
        check_config(self.name, "image", self.image, minimum=32)
        check_config(self.name, "classes", self.classes, minimum=2)

    @cached_property
    def decisions(self) -> list[Decision]:
        """The block of each of the 22 layers; those of a stage share their costs."""
        layers = (f"stage{stage}" for stage, (_, layers, _) in enumerate(STAGES, start=1) for _ in range(layers))
        return [Choice(f"layer{number}", BLOCKS, group=group) for number, group in enumerate(layers, start=1)]

    def parse(self, text: str) -> Choices:
        """Parse ``layer1=k3_e1,...``, or the ids of published tables, ``[0, 8, 1, ...]``.

        Raises:
            ParseError: the message names the layer.
        """
        if not text.strip().startswith("["):
            return super().parse(text)
        ids = re.findall(r"\d+", text)
        if not re.fullmatch(r"\[\s*\d+(\s*,\s*\d+)*\s*\]", text.strip()) or len(ids) != len(self.decisions):
            raise ParseError(f"{text!r} is not a list of {len(self.decisions)} ids: write one for each layer")
        for layer, number in enumerate(ids, start=1):
            if int(number) >= len(BLOCKS):
                raise ParseError(f"layer {layer} is {number}: give an id from 0 to {len(BLOCKS) - 1}")
        return self.choices({f"layer{layer}": BLOCKS[int(number)] for layer, number in enumerate(ids, start=1)})

    def build(self, architecture: Choices) -> nn.Module:
        """Return the network; a skipped layer that changes the shape is a 1x1 convolution."""
        from torch import nn

        from latbench.spaces.mobile.inverted_residual import convolution

        layers = [*convolution(3, STEM, 3, stride=2), *self._layers(architecture)]
        layers += [*convolution(STAGES[-1][0], HEAD, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        return nn.Sequential(*layers, nn.Linear(HEAD, self.classes))

    def _layers(self, architecture: Choices) -> Iterator[nn.Module]:
        from latbench.spaces.mobile.inverted_residual import InvertedResidual, convolution

        before, number = STEM, 0
        for channels, layers, first_stride in STAGES:
            for layer in range(layers):
                number += 1
                stride = first_stride if layer == 0 else 1
                block = str(architecture[f"layer{number}"])
                found = re.fullmatch(r"k(\d)_e(\d)(?:_g(\d))?", block)
                if found:
                    kernel, expand, groups = (int(part or 1) for part in found.groups())
                    yield InvertedResidual(before, channels, stride, kernel=kernel, expand=expand, groups=groups)
                elif stride > 1 or before != channels:
                    yield from convolution(before, channels, 1, stride=stride)
                before = channels
