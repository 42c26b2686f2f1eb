"""One operation of a cell space, with its shapes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation with its shapes, a row of an operator table.

    Args:
        kind: the operation's name in the space, ``"sep_conv_3x3"``.
        channels_in: channels of its input.
        channels_out: channels of its output.
        size: height and width of its input.
        stride: 1 or 2.
    """

    kind: str
    channels_in: int
    channels_out: int
    size: int
    stride: int = 1

    @property
    def key(self) -> str:
        """The row's name in an operator table: ``sep_conv_3x3 16->16 32x32 s1``."""
        return f"{self.kind} {self.channels_in}->{self.channels_out} {self.size}x{self.size} s{self.stride}"

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """``(channels, height, width)``."""
        return self.channels_in, self.size, self.size
