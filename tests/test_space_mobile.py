"""The spaces fbnet and ofa: published texts, and networks of the published sizes."""

from __future__ import annotations

import json

import pytest
import torch

from latbench.errors import ParseError, UsageError
from latbench.onnx_export import export_onnx
from latbench.spaces.mobile.fbnet import BLOCKS, FbnetSpace
from latbench.spaces.mobile.inverted_residual import rounded
from latbench.spaces.mobile.ofa import OfaSpace

LARGEST = {"ks": [7] * 20, "e": [6] * 20, "d": [4] * 5, "r": 224}


def parameters(network: torch.nn.Module) -> float:
    return sum(p.numel() for p in network.parameters()) / 1e6


def test_ids_of_published_tables_are_the_blocks() -> None:
    space = FbnetSpace()
    ids = [7, 8, 1, 8, 4, 8, 8, 8, 7, 4, 1, 4, 7, 3, 2, 7, 3, 2, 4, 2, 4, 5]
    architecture = space.parse(str(ids))
    assert [architecture[f"layer{layer}"] for layer in range(1, 23)] == [BLOCKS[number] for number in ids]
    assert space.parse(str(architecture)) == architecture


@pytest.mark.parametrize("text", ["[1, 2]", "[9" + ", 0" * 21 + "]", "[0,, 1]", "[-1" + ", 0" * 21 + "]"])
def test_ids_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ParseError, match=r"ids|id from 0"):
        FbnetSpace().parse(text)


def test_json_of_published_tables_is_read_without_what_is_not_there() -> None:
    space = OfaSpace()
    given = {**LARGEST, "d": [2, 2, 2, 2, 3], "r": 204}
    architecture = space.parse(json.dumps(given))
    assert architecture["resolution"] == 204
    assert "kernel1.3" not in architecture
    assert architecture["kernel5.3"] == 7
    assert space.parse(str(architecture)) == architecture
    assert space.inputs(architecture, batch=2)["x"].shape == (2, 3, 204, 204)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ks": [7]}, "1 kernels"),
        ({"d": [5, 2, 2, 2, 2]}, "depth of stage 1 is 5"),
        ({"ks": [2] * 20}, "kernel1.1"),
        ({"r": 1000}, "resolution"),
        ({"e": None}, "is not"),
    ],
)
def test_json_that_is_no_architecture_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ParseError, match=message):
        OfaSpace().parse(json.dumps({**LARGEST, **change}))


def test_networks_have_the_published_sizes() -> None:
    """MobileNetV3-Large has 5.4 million weights (Howard et al., table 3); FBNet-C 5.5 million (Wu et al., table 3)."""
    large = {"ks": [3] * 20, "e": [3, 3, 3, 3, 3, 3, 3, 3, 6, 3, 3, 3, 6, 6, 6, 6, 6, 6, 6, 6], "d": [2, 3, 4, 2, 3]}
    assert parameters(OfaSpace().build(OfaSpace().parse(json.dumps({**large, "r": 224})))) == pytest.approx(
        5.0, abs=0.8
    )
    fbnet_c = "[0, 3, 8, 0, 0, 7, 2, 6, 7, 7, 4, 7, 7, 7, 7, 7, 6, 7, 7, 7, 7, 3]"
    assert parameters(FbnetSpace().build(FbnetSpace().parse(fbnet_c))) == pytest.approx(5.5, abs=1.0)


def test_layers_that_are_skipped_are_not_there_unless_they_change_the_shape() -> None:
    space = FbnetSpace(image=32, classes=10)
    nothing = space.build(space.parse(str([8] * 22)))
    assert sum(isinstance(m, torch.nn.Conv2d) for m in nothing.modules()) == 2 + 6
    every = space.build(space.parse(str([1] * 22)))
    assert sum(isinstance(m, torch.nn.ChannelShuffle) for m in every.modules()) == 22
    assert nothing.eval()(torch.ones(1, 3, 32, 32)).shape == (1, 10)


@pytest.mark.filterwarnings("error")
def test_they_are_written_directly() -> None:
    for space, text in (
        (FbnetSpace(image=32), str([1, *range(9), *range(9), 0, 5, 6])),
        (OfaSpace(), json.dumps(LARGEST)),
    ):
        assert export_onnx(space.build(space.parse(text)).eval(), {"x": torch.ones(1, 3, 32, 32)})


def test_a_configuration_that_cannot_be_is_refused() -> None:
    for make in (lambda: FbnetSpace(image=8), lambda: OfaSpace(width=0.0), lambda: OfaSpace(classes=1)):
        with pytest.raises(UsageError):
            make()
    assert [rounded(channels) for channels in (16 * 1.2, 3, 10, 12)] == [24, 8, 16, 16]
