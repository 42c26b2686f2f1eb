"""The writer of attention: the matrix products and the softmax that it is made of."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from latbench.onnx_export.elementwise import choose
from latbench.onnx_export.graph import Graph, Input, UnknownOperatorError, numpy_dtype, writes
from latbench.tracing import Node


@writes(F.scaled_dot_product_attention)
def scaled_dot_product_attention(
    graph: Graph,
    query: Node,
    key: Node,
    value: Node,
    attn_mask: Tensor | Node | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """Write ``softmax(query @ key.T * scale + mask) @ value``."""
    if dropout_p:
        raise UnknownOperatorError
    heads = query.shape[-3] if enable_gqa else 0
    rank = len(key.shape)
    turned = graph.add("Transpose", _repeated(graph, key, heads), perm=(*range(rank - 2), rank - 1, rank - 2))
    factor = scale if scale is not None else 1 / math.sqrt(query.shape[-1])
    scores = graph.add("MatMul", graph.add("Mul", query, graph.scalar(factor, query.dtype)), turned)
    mask = _additive_mask(graph, query, key, attn_mask, is_causal)
    if mask is not None:
        scores = graph.add("Add", scores, mask)
    return graph.add("MatMul", graph.add("Softmax", scores, axis=-1), _repeated(graph, value, heads))


def _repeated(graph: Graph, x: Node, heads: int) -> Input:
    """Return keys or values once for each head of a group of queries."""
    if heads in (0, x.shape[-3]):
        return x
    *batch, own, length, width = x.shape
    shape = (*batch, own, heads // own, length, width)
    apart = graph.add("Reshape", x, graph.integers(*batch, own, 1, length, width))
    spread = graph.add("Expand", apart, graph.integers(*shape))
    return graph.add("Reshape", spread, graph.integers(*batch, heads, length, width))  # type: ignore[no-any-return]


def _additive_mask(graph: Graph, query: Node, key: Node, mask: Tensor | Node | None, is_causal: bool) -> Any:
    lengths = query.shape[-2], key.shape[-2]
    if is_causal:
        mask = torch.ones(lengths, dtype=torch.bool).tril()
    if mask is None or mask.dtype != torch.bool:
        return mask
    if isinstance(mask, Node):
        return choose(graph, mask, 0.0, -math.inf, query.dtype)
    # Minus infinity turns a row without any key into NaN, as in torch.
    values = np.where(mask.numpy(), 0.0, -np.inf).astype(numpy_dtype(query.dtype))
    return graph.once(("mask", lengths if is_causal else id(mask), query.dtype), "", lambda: values)
