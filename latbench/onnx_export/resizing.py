"""Writers of resizing and sampling of images."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch.nn.functional as F

from latbench.onnx_export.graph import WRITERS, Graph, UnknownOperatorError, writes
from latbench.tracing import Node

_LINEAR = ("linear", "bilinear", "trilinear")


@writes(F.interpolate)
def interpolate(
    graph: Graph,
    x: Node,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Any:
    """Write a resize; where a scale is given, places are counted by it and not by the sizes, as in torch."""
    if antialias:
        raise UnknownOperatorError
    if mode == "area":
        pool = WRITERS[getattr(F, f"adaptive_avg_pool{len(x.shape) - 2}d")]
        return pool(graph, x, graph.node.shape[2:])
    attributes: dict[str, Any]
    if mode == "nearest":
        attributes = {"mode": mode, "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    elif mode == "nearest-exact":
        attributes = {
            "mode": "nearest",
            "coordinate_transformation_mode": "half_pixel",
            "nearest_mode": "round_prefer_ceil",
        }
    elif mode in _LINEAR or mode == "bicubic":
        attributes = {"mode": "cubic" if mode == "bicubic" else "linear"}
        attributes["coordinate_transformation_mode"] = "align_corners" if align_corners else "half_pixel"
        if mode == "bicubic":
            attributes["cubic_coeff_a"] = -0.75
    else:
        raise UnknownOperatorError
    # Runtimes know how to resize images: a signal is one of a single row.
    before, after = x.shape, graph.node.shape
    row = len(before) == 3
    value = graph.add("Reshape", x, graph.integers(*before[:2], 1, before[2])) if row else x
    wanted = (*after[:2], 1, after[2]) if row else tuple(after)
    factors = [scale_factor] * (len(before) - 2) if isinstance(scale_factor, int | float) else scale_factor
    # Sizes say the same wherever the factors are theirs to the last bit.
    exact = factors is None or all(a == b * f for a, b, f in zip(after[2:], before[2:], factors, strict=True))
    if exact or recompute_scale_factor or align_corners:
        resized = graph.add("Resize", value, "", "", graph.integers(*wanted), **attributes)
    else:
        scales = (1.0, 1.0, *((1.0,) if row else ()), *factors)
        resized = graph.add("Resize", value, "", _scales(graph, scales), **attributes)
    return graph.add("Reshape", resized, graph.integers(*after)) if row else resized


def _scales(graph: Graph, scales: tuple[float, ...]) -> Any:
    return graph.once(("scales", scales), "", lambda: np.array(scales, np.float32))


@writes(F.grid_sample)
def grid_sample(
    graph: Graph,
    x: Node,
    grid: Any,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool | None = None,
) -> Any:
    """Write a sampling of images at the places of a grid."""
    if len(x.shape) != 4:
        raise UnknownOperatorError
    return graph.add(
        "GridSample", x, grid, mode=mode, padding_mode=padding_mode, align_corners=int(bool(align_corners))
    )
