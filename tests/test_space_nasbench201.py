import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from latbench.errors import ParseError, UsageError
from latbench.profiling.plan import distinct
from latbench.spaces.nasbench201 import NasBench201Space
from latbench.spaces.nasbench201.cell import EDGES, OPERATIONS, NasBench201Cell

SMALL = NasBench201Space(cells=1, channels=4, image=8)
TEXT = "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|skip_connect~2|"

cells = st.builds(NasBench201Cell, st.tuples(*[st.sampled_from(OPERATIONS)] * len(EDGES)))


@settings(deadline=None)
@given(cells)
def test_text_and_encoding_round_trips_are_the_identity(cell: NasBench201Cell) -> None:
    assert SMALL.parse(str(cell)) == cell
    assert SMALL.decode(SMALL.encode([cell])[0]) == cell


def test_the_benchmark_s_own_text_parses_and_prints() -> None:
    cell = SMALL.parse(TEXT)
    assert cell.operations == (
        "nor_conv_3x3",
        "nor_conv_3x3",
        "avg_pool_3x3",
        "skip_connect",
        "nor_conv_3x3",
        "skip_connect",
    )
    assert str(cell) == TEXT


def test_enumeration_gives_every_cell_once_and_the_benchmark_s_number_of_structures() -> None:
    every = list(SMALL.enumerate())
    assert len(set(every)) == len(every) == 15_625
    assert len({SMALL.canonical(cell) for cell in every}) == 4_930


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        # A skip connection renames node 0.
        (
            "|skip_connect~0|+|none~0|nor_conv_3x3~1|+|none~0|none~1|avg_pool_3x3~2|",
            "|none~0|+|nor_conv_3x3~0|none~1|+|none~0|none~1|avg_pool_3x3~2|",
            True,
        ),
        # What runs on a node without a live path is lost.
        (
            "|none~0|+|none~0|nor_conv_3x3~1|+|nor_conv_1x1~0|none~1|none~2|",
            "|none~0|+|none~0|none~1|+|nor_conv_1x1~0|none~1|nor_conv_3x3~2|",
            True,
        ),
        # Nodes 1 and 2 change places.
        (
            "|nor_conv_1x1~0|+|avg_pool_3x3~0|none~1|+|none~0|skip_connect~1|nor_conv_3x3~2|",
            "|avg_pool_3x3~0|+|nor_conv_1x1~0|none~1|+|none~0|nor_conv_3x3~1|skip_connect~2|",
            True,
        ),
        # A sum that passes through a skip connection is a part of the next one.
        (
            "|nor_conv_1x1~0|+|skip_connect~0|avg_pool_3x3~1|+|nor_conv_3x3~0|none~1|skip_connect~2|",
            "|nor_conv_1x1~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|none~1|skip_connect~2|",
            True,
        ),
        # Each of two edges adds its source.
        (
            "|skip_connect~0|+|none~0|none~1|+|skip_connect~0|skip_connect~1|none~2|",
            "|none~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|",
            False,
        ),
        ("|nor_conv_1x1~0|+|none~0|none~1|+|none~0|skip_connect~1|none~2|", TEXT, False),
    ],
)
def test_isomorphic_cells_share_a_canonical_text(one: str, other: str, same: bool) -> None:
    assert (SMALL.canonical(SMALL.parse(one)) == SMALL.canonical(SMALL.parse(other))) == same


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TEXT.replace("avg_pool_3x3", "avg_pool_3x4"), r"node 2 \(column 34\): .*did you mean 'avg_pool_3x3'"),
        (TEXT.replace("skip_connect~2", "skip_connect~1"), r"node 3 \(column 81\) has 'skip_connect~1'.*operation~2"),
        (TEXT.replace("avg_pool_3x3~1|+", "avg_pool_3x3~1+"), r"node 2 \(column 18\)"),
        (TEXT.replace("|nor_conv_3x3~0|avg", "|avg"), r"node 2 \(column 18\)"),
        (TEXT.replace("skip_connect~0", "skip_connect"), r"node 3 \(column 51\)"),
        ("|nor_conv_3x3~0|", "1 nodes joined"),
    ],
)
def test_a_text_that_does_not_parse_says_where(text: str, message: str) -> None:
    with pytest.raises(ParseError, match=message):
        SMALL.parse(text)


@pytest.mark.parametrize("operations", [("none",) * 5, ("none",) * 5 + ("nor_conv_5x5",)])
def test_cells_of_other_operations_are_refused(operations: tuple[str, ...]) -> None:
    with pytest.raises(ParseError):
        NasBench201Cell(operations)


@pytest.mark.parametrize("config", [{"cells": 0}, {"channels": 0}, {"image": 30}, {"classes": 1}])
def test_invalid_configurations_name_the_field(config: dict[str, int]) -> None:
    with pytest.raises(UsageError, match=next(iter(config))):
        NasBench201Space(**config)


@pytest.mark.parametrize(
    "text",
    [
        "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|",
        "|none~0|+|none~0|nor_conv_3x3~1|+|none~0|avg_pool_3x3~1|skip_connect~2|",
        "|nor_conv_1x1~0|+|nor_conv_3x3~0|skip_connect~1|+|none~0|none~1|none~2|",
    ],
)
def test_cells_without_a_live_path_build_run_and_trace(text: str) -> None:
    network = SMALL.build(SMALL.parse(text))
    network(torch.randn(2, 3, SMALL.image, SMALL.image)).sum().backward()
    network.eval()
    x = torch.randn(1, 3, SMALL.image, SMALL.image)
    torch.testing.assert_close(torch.fx.symbolic_trace(network)(x), network(x))


@settings(deadline=None, max_examples=20)
@given(cells)
def test_columns_list_the_operations_that_networks_hold(cell: NasBench201Cell) -> None:
    space = NasBench201Space(cells=2, channels=4, image=8)
    (encoding,) = space.encode([cell])
    listed = []
    for column, chosen in zip(space.column_operations(), encoding, strict=True):
        for operation, count in column.items():
            listed += [repr(space.build_operation(operation))] * (count if chosen else 0)
    held = [
        repr(module)
        for name, module in space.build(cell).named_modules()
        if re.search(r"\.edges\.\d+$", name) and not isinstance(module, nn.Identity)
    ]
    assert sorted(held) == sorted(listed)


def test_networks_have_as_many_weights_as_the_benchmark_says() -> None:
    # The benchmark lists 1.531546 million for the cell of 3x3 convolutions on all edges, CIFAR-10.
    network = NasBench201Space().build(NasBench201Cell(("nor_conv_3x3",) * 6))
    assert sum(parameter.numel() for parameter in network.parameters()) == 1_531_546


@settings(deadline=None, max_examples=20)
@given(cells)
def test_a_supernet_of_sharp_alphas_computes_what_the_network_of_their_cell_does(cell: NasBench201Cell) -> None:
    supernet, network = SMALL.supernet(), SMALL.build(cell)
    chosen = [OPERATIONS.index(kind) for kind in cell.operations]

    def in_supernet(name: str) -> str:
        return re.sub(r"edges\.(\d+)", lambda edge: f"{edge[0]}.operations.{chosen[int(edge[1])] - 1}", name)

    weights = supernet.network.state_dict()
    ours = network.state_dict()
    network.load_state_dict(ours | {name: weights[in_supernet(name)] for name in ours if in_supernet(name) in weights})
    with torch.no_grad():
        (alphas,) = supernet.alphas()
        alphas.copy_(200 * torch.from_numpy(SMALL.encode([cell])).reshape(alphas.shape))
        x = torch.randn(2, 3, SMALL.image, SMALL.image)
        torch.testing.assert_close(supernet.eval()(x), network.eval()(x))


def test_a_plan_of_a_few_cells_does_not_list_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = []
    cells = NasBench201Space.enumerate
    monkeypatch.setattr(
        NasBench201Space, "enumerate", lambda space: (listed.append(1) or cell for cell in cells(space))
    )
    assert len(distinct(SMALL, 20, seed=0)) == 20
    assert len(listed) <= 40
