"""A line on an expanded encoding as a torch module."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import pad

from latbench.prediction.few_samples.expansion import Expansion


class ExpansionModule(nn.Module):
    """Encodings ``(..., width)``, relaxed ones too, to expanded encodings ``(..., expanded_width)``.

    A product of relaxed columns is the expected product of columns that are drawn independently.

    Args:
        expansion: appends the products of columns and of sums of columns.
    """

    def __init__(self, expansion: Expansion) -> None:
        super().__init__()
        self.has_products, self.has_sums = len(expansion.products) > 0, len(expansion.sums) > 0
        self.register_buffer("products", torch.tensor(expansion.products))
        self.register_buffer("sums", torch.tensor(expansion.sums))

    def forward(self, encoding: Tensor) -> Tensor:
        """Return the expanded encodings."""
        if not self.has_products:
            return encoding
        columns = encoding
        if self.has_sums:
            sums = pad(encoding, (0, 1))[..., self.get_buffer("sums")].sum(dim=-1)
            columns = torch.cat([encoding, sums], dim=-1)
        factors = pad(columns, (0, 1), value=1.0)[..., self.get_buffer("products")]
        return torch.cat([encoding, factors.prod(dim=-1)], dim=-1)


class LineModule(nn.Module):
    """Encodings ``(..., width)`` to ``coef · expanded + intercept`` ``(...)``; in float32.

    Args:
        expansion: see `ExpansionModule`.
        coef: what each expanded column adds ``(expanded_width,)``.
        intercept: the prediction for an encoding of zeros.
    """

    def __init__(self, expansion: Expansion, coef: NDArray[Any], intercept: float) -> None:
        super().__init__()
        self.expand = ExpansionModule(expansion)
        self.register_buffer("coef", torch.tensor(coef, dtype=torch.float32))
        self.register_buffer("intercept", torch.tensor(intercept, dtype=torch.float32))

    def forward(self, encoding: Tensor) -> Tensor:
        """Return the line's predictions ``(...)``."""
        return self.of_expanded(self.expand(encoding))

    def of_expanded(self, expanded: Tensor) -> Tensor:
        """Return the line's predictions ``(...)`` for expanded encodings ``(..., expanded_width)``."""
        return expanded @ self.get_buffer("coef") + self.get_buffer("intercept")
