"""The Once-for-All search space (Cai et al., ICLR 2020) around MobileNetV3: kernels, expansions, depths, resolution."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from latbench.errors import ParseError, UsageError
from latbench.spaces.cells.checks import check_config
from latbench.spaces.choices import Choice, Choices, ChoiceSpace, Decision, Ordinal

if TYPE_CHECKING:
    from torch import nn

STAGES = (
    (24, 2, "relu", False),
    (40, 2, "relu", True),
    (80, 2, "hardswish", False),
    (112, 1, "hardswish", True),
    (160, 2, "hardswish", True),
)
"""``(channels, stride of the first block, activation, whether it squeezes and excites)`` of each stage."""

KERNELS, EXPANSIONS, DEPTHS, RESOLUTIONS = (3, 5, 7), (3, 4, 6), (2, 3, 4), range(128, 225, 4)
STEM, LAST, HEAD = 16, 960, 1280


@dataclass(frozen=True)
class OfaSpace(ChoiceSpace):
    """The Once-for-All space; reads the JSON of published tables, ``{"ks": [...], "e": [...], "d": [...], "r": 160}``.

    Args:
        width: what all channels are multiplied by; published supernets have 1.0 and 1.2.
        classes: how many classes the head tells apart.

    Raises:
        UsageError: an invalid configuration.
    """

    width: float = 1.0
    classes: int = 1000

    name: ClassVar[str] = "ofa"

    def __post_init__(self) -> None:
        check_config(self.name, "classes", self.classes, minimum=2)
        if isinstance(self.width, bool) or not 0.1 <= self.width <= 10:
            raise UsageError(f"space {self.name!r} cannot have width={self.width!r}: give a number from 0.1 to 10")

    @cached_property
    def decisions(self) -> list[Decision]:
        """The resolution, then for each stage its depth and the kernel and the expansion of each block."""
        found: list[Decision] = [Ordinal("resolution", RESOLUTIONS)]
        for stage in range(1, len(STAGES) + 1):
            found.append(Ordinal(f"depth{stage}", DEPTHS))
            for block in range(1, DEPTHS[-1] + 1):
                when = (f"depth{stage}", [depth for depth in DEPTHS if depth >= block]) if block > DEPTHS[0] else None
                group = f"stage{stage}"
                found.append(Choice(f"kernel{stage}.{block}", KERNELS, group=f"{group}/kernel", when=when))
                found.append(Choice(f"expand{stage}.{block}", EXPANSIONS, group=f"{group}/expand", when=when))
        return found

    def parse(self, text: str) -> Choices:
        """Parse ``resolution=160,depth1=2,...``, or the JSON of published tables without the blocks that are not there.

        Raises:
            ParseError: the message names the decision.
        """
        if not text.strip().startswith("{"):
            return super().parse(text)
        try:
            given = json.loads(text)
            kernels, expansions, depths = (list(given[key]) for key in ("ks", "e", "d"))
            resolution = given["r"][0] if isinstance(given["r"], list) else given["r"]
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise ParseError(f'{text!r} is not {{"ks": [...], "e": [...], "d": [...], "r": 160}} ({error!r})') from None
        most = DEPTHS[-1]
        if (len(kernels), len(expansions), len(depths)) != (most * len(STAGES), most * len(STAGES), len(STAGES)):
            raise ParseError(
                f"{len(kernels)} kernels, {len(expansions)} expansions and {len(depths)} depths: write "
                f"{most * len(STAGES)}, {most * len(STAGES)} and {len(STAGES)}"
            )
        values: dict[str, Any] = {"resolution": resolution}
        for stage, depth in enumerate(depths, start=1):
            values[f"depth{stage}"] = depth
            if depth not in DEPTHS:
                raise ParseError(f"the depth of stage {stage} is {depth}: choose one of {', '.join(map(str, DEPTHS))}")
            for block in range(1, depth + 1):
                place = (stage - 1) * most + block - 1
                values[f"kernel{stage}.{block}"] = kernels[place]
                values[f"expand{stage}.{block}"] = expansions[place]
        return self.choices(values)

    def build(self, architecture: Choices) -> nn.Module:
        """Return the network."""
        from torch import nn

        from latbench.spaces.mobile.inverted_residual import InvertedResidual, convolution, rounded

        stem, last, head = (rounded(self.width * channels) for channels in (STEM, LAST, HEAD))
        layers = [*convolution(3, stem, 3, stride=2, activation=nn.Hardswish)]
        layers.append(InvertedResidual(stem, stem, 1, kernel=3, expand=1))
        layers += self._stages(architecture, stem)
        layers += convolution(rounded(self.width * STAGES[-1][0]), last, 1, activation=nn.Hardswish)
        layers += [nn.AdaptiveAvgPool2d(1), nn.Conv2d(last, head, 1, bias=False), nn.Hardswish(), nn.Flatten()]
        return nn.Sequential(*layers, nn.Linear(head, self.classes))

    def _stages(self, architecture: Mapping[str, Any], stem: int) -> Iterator[nn.Module]:
        from torch import nn

        from latbench.spaces.mobile.inverted_residual import InvertedResidual, rounded

        activations = {"relu": nn.ReLU, "hardswish": nn.Hardswish}
        before = stem
        for stage, (channels, stride, activation, squeeze) in enumerate(STAGES, start=1):
            outputs = rounded(self.width * channels)
            for block in range(1, int(architecture[f"depth{stage}"]) + 1):
                yield InvertedResidual(
                    before,
                    outputs,
                    stride if block == 1 else 1,
                    kernel=architecture[f"kernel{stage}.{block}"],
                    expand=architecture[f"expand{stage}.{block}"],
                    squeeze=squeeze,
                    activation=activations[activation],
                )
                before = outputs
