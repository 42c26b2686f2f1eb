"""A line on an expanded encoding as a torch module."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from latbench.prediction.few_samples.expansion import Expansion


class ExpansionModule(nn.Module):
    """Encodings ``(..., width)``, relaxed ones too, to expanded encodings ``(..., expanded_width)``.

    A product of relaxed columns is the expected product of columns that are drawn independently.

    Args:
        expansion: appends the products of columns and of sums of columns.
    """

    products: Tensor
    sums: Tensor

    def __init__(self, expansion: Expansion) -> None:
        super().__init__()
        self.has_products = len(expansion.products) > 0
        # The column of ones, which fills up short products, is the last one.
        last = expansion.width + len(expansion.sums)
        self.register_buffer("products", torch.tensor(np.where(expansion.products < 0, last, expansion.products)))
        self.register_buffer("sums", torch.tensor(expansion.sum_matrix(), dtype=torch.float32))

    def forward(self, encoding: Tensor) -> Tensor:
        """Return the expanded encodings."""
        if not self.has_products:
            return encoding
        ones = encoding.new_ones((*encoding.shape[:-1], 1))
        factors = torch.cat([encoding, encoding @ self.sums, ones], dim=-1)[..., self.products]
        return torch.cat([encoding, factors.prod(dim=-1)], dim=-1)


class LineModule(nn.Module):
    """Encodings ``(..., width)`` to ``coef · expanded + intercept`` ``(...)``; in float32.

    Args:
        expansion: see `ExpansionModule`.
        coef: what each expanded column adds ``(expanded_width,)``.
        intercept: the prediction for an encoding of zeros.
    """

    coef: Tensor
    intercept: Tensor

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
        return expanded @ self.coef + self.intercept
