"""Independent categorical decisions: each row of the parameters is the logits of one."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Generic

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from latbench.search.relaxations.checks import check_derivable, check_drawable, check_parameters, check_temperature
from latbench.search.relaxations.draws import one_hot_draws, pruned_to_none, straight_through
from latbench.search.relaxations.live_paths import LivePaths
from latbench.space import A_co

if TYPE_CHECKING:
    from latbench.space import Column, Graph


class Softmax(Generic[A_co]):
    """Every row chooses one option, with the probabilities ``softmax(row / temperature)``.

    An encoding is the parameters' rows side by side. Draws have the gradient of the probabilities.

    Args:
        shapes: of the parameters, ``(..., options)``.
        decode: gives the architecture of an encoding whose rows are one-hot.
        none: the option of a pruned row, which is one of -inf alone; without it such a row has no probabilities.
        graphs: of the space; with them `derive` returns no dead architecture.
        columns: of the space; graphs name them.

    Raises:
        UsageError: the rows do not choose the edges of the graphs independently (`LivePaths`).
    """

    def __init__(
        self,
        shapes: Sequence[tuple[int, ...]],
        decode: Callable[[NDArray[Any]], A_co],
        *,
        none: int | None = None,
        graphs: Sequence[Graph] = (),
        columns: Sequence[Column] = (),
    ) -> None:
        self.shapes = tuple(shapes)
        self._decode = decode
        self._none = none
        widths = [shape[-1] for shape in self.shapes for _ in range(math.prod(shape[:-1]))]
        ends = itertools.accumulate(widths)
        rows = [range(end - width, end) for width, end in zip(widths, ends, strict=True)]
        self._paths = LivePaths(graphs, columns, rows if graphs else ())

    def expected(self, parameters: Sequence[Tensor], *, temperature: float = 1.0) -> Tensor:
        """Return the probabilities ``(columns,)``; see `latbench.space.Relaxation.expected`."""
        check_parameters(parameters, self.shapes)
        check_temperature(temperature)
        return torch.cat([(logits / temperature).softmax(dim=-1).flatten() for logits in self._unpruned(parameters)])

    def sample(self, parameters: Sequence[Tensor], n: int, *, temperature: float = 1.0) -> Tensor:
        """Draw one-hot rows, ``(n, columns)``; see `latbench.space.Relaxation.sample`."""
        expected = self.expected(parameters, temperature=temperature)
        check_drawable(expected, n)
        parts = torch.split(expected.detach(), [logits.numel() for logits in parameters])
        draws = (one_hot_draws(part.reshape(shape), n) for part, shape in zip(parts, self.shapes, strict=True))
        return straight_through(torch.cat([draw.reshape(n, -1) for draw in draws], dim=1), expected)

    def derive(self, parameters: Sequence[Tensor]) -> A_co:
        """Return the most probable live architecture; see `latbench.space.Relaxation.derive`.

        That is every row's largest logit, unless no path leads through the graphs then.

        Raises:
            UsageError: the parameters hold NaN, or prune an edge of every path.
        """
        check_derivable(parameters, self.shapes)
        detached = [logits.detach().cpu().double().log_softmax(dim=-1) for logits in self._unpruned(parameters)]
        rows = [row for log_p in detached for row in log_p.reshape(-1, log_p.shape[-1])]
        chosen = self._paths.choose([row.tolist() for row in rows])
        one_hot = [functional.one_hot(torch.tensor(c), len(row)) for c, row in zip(chosen, rows, strict=True)]
        return self._decode(torch.cat(one_hot).numpy())

    def _unpruned(self, parameters: Sequence[Tensor]) -> Sequence[Tensor]:
        return parameters if self._none is None else [pruned_to_none(logits, self._none) for logits in parameters]
