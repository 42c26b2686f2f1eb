"""What other repositories print for an architecture is read, and what they read is written."""

from __future__ import annotations

import ast
import json
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latbench.errors import ParseError, UsageError
from latbench.spaces.darts import DartsSpace
from latbench.spaces.darts.genotype import Form
from latbench.spaces.nasbench201 import NasBench201Space

DARTS, CELLS = DartsSpace(), NasBench201Space()
V2 = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), "
    "('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)], normal_concat=[2, 3, 4, 5], "
    "reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1), ('max_pool_3x3', 0), "
    "('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], reduce_concat=[2, 3, 4, 5])"
)
NESTED = (
    "Genotype(normal=[[('sep_conv_3x3', 0), ('sep_conv_3x3', 1)], [('sep_conv_3x3', 0), ('sep_conv_3x3', 1)], "
    "[('sep_conv_3x3', 1), ('skip_connect', 0)], [('skip_connect', 0), ('dil_conv_3x3', 2)]], "
    "normal_concat=range(2, 6), reduce=[[('max_pool_3x3', 0), ('max_pool_3x3', 1)], [('skip_connect', 2), "
    "('max_pool_3x3', 1)], [('max_pool_3x3', 0), ('skip_connect', 2)], [('skip_connect', 2), ('max_pool_3x3', 1)]], "
    "reduce_concat=range(2, 6))"
)
HUB = {
    f"{cell}/{what}_{node}_{at}": pair[at][index]
    for cell, pairs in (
        ("normal", (("sep_conv_3x3", 0), ("sep_conv_3x3", 1)) * 2),
        ("reduce", (("max_pool_3x3", 0), ("max_pool_3x3", 1), ("skip_connect", 2), ("max_pool_3x3", 1))),
    )
    for node, pair in zip((2, 3), (pairs[:2], pairs[2:]), strict=True)
    for at in (0, 1)
    for index, what in enumerate(("op", "input"))
} | {
    **{"normal/op_4_0": "sep_conv_3x3", "normal/input_4_0": 1, "normal/op_4_1": "skip_connect", "normal/input_4_1": 0},
    **{"normal/op_5_0": "skip_connect", "normal/input_5_0": 0, "normal/op_5_1": "dil_conv_3x3", "normal/input_5_1": 2},
    **{"reduce/op_4_0": "max_pool_3x3", "reduce/input_4_0": 0, "reduce/op_4_1": "skip_connect", "reduce/input_4_1": 2},
    **{"reduce/op_5_0": "skip_connect", "reduce/input_5_0": 2, "reduce/op_5_1": "max_pool_3x3", "reduce/input_5_1": 1},
}
SWITCHES = {
    **{
        "normal_n2_p0": "sepconv3x3",
        "normal_n2_p1": "sepconv3x3",
        "normal_n2_switch": ["normal_n2_p0", "normal_n2_p1"],
    },
    **{"normal_n3_p0": "sepconv3x3", "normal_n3_p1": "sepconv3x3", "normal_n3_p2": [], "normal_n3_switch": [0, 1]},
    **{"normal_n4_p0": "skipconnect", "normal_n4_p1": "sepconv3x3", "normal_n4_switch": [1, 0]},
    **{
        "normal_n5_p0": "skipconnect",
        "normal_n5_p2": "dilconv3x3",
        "normal_n5_switch": ["normal_n5_p0", "normal_n5_p2"],
    },
    **{"reduce_n2_p0": "maxpool", "reduce_n2_p1": "maxpool", "reduce_n2_switch": [0, 1]},
    **{"reduce_n3_p2": "skipconnect", "reduce_n3_p1": "maxpool", "reduce_n3_switch": [2, 1]},
    **{"reduce_n4_p0": "maxpool", "reduce_n4_p2": "skipconnect", "reduce_n4_switch": [0, 2]},
    **{"reduce_n5_p2": "skipconnect", "reduce_n5_p1": "maxpool", "reduce_n5_switch": [2, 1]},
}


@pytest.mark.parametrize(
    "text",
    [
        f"DARTS_V2 = {V2}",
        f"genotypes.{V2}",
        V2.replace("0)", "np.int64(0))").replace(" 2)", " int64(2))"),
        V2.replace("normal_concat=[2, 3, 4, 5]", "normal_concat=[2, 3, 4, 5, 6]").replace(
            "reduce_concat=[2, 3, 4, 5]", "reduce_concat=[4, 5, 6]"
        ),
        NESTED,
        DARTS.parse(V2).text("autodl").replace("', 0)", "', 0, 0.125)"),
        repr(HUB),
        json.dumps({key: [value] if "input" in key else value for key, value in HUB.items()}, indent=1),
        json.dumps(SWITCHES),
    ],
    ids=["assigned", "module", "numpy", "naslib", "pt.darts", "autodl", "nni-hub", "nni-lists", "nni-switches"],
)
def test_one_genotype_as_each_repository_prints_it(text: str) -> None:
    assert DARTS.parse(text) == DARTS.parse(V2)


@given(seed=st.integers(0, 2**32 - 1))
def test_every_form_that_is_written_is_read_as_the_same(seed: int) -> None:
    genotype = DARTS.sample(1, seed=seed)[0]
    for form in get_args(Form):
        assert DARTS.parse(genotype.text(form)) == genotype
    assert len(ast.literal_eval(genotype.text("autodl"))["reduce"]) == 4
    assert json.loads(genotype.text("nni"))["reduce/input_2_1"] == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            NESTED.replace("('sep_conv_3x3', 1)]", "('sep_conv_3x3', 0)]", 1),
            "node 2 .*both edges come from node 0: give",
        ),
        (json.dumps(HUB | {"normal/input_3_1": 0}), r"normal cell, node 3 \(column \d+\): both edges come from node 0"),
        (json.dumps(SWITCHES | {"normal_n2_switch": [0, 0]}), "node 2 .*both edges come from node 0"),
        (json.dumps(SWITCHES | {"normal_n2_p0": 2}), "a number could mean any"),
        (json.dumps(SWITCHES | {"normal_n2_switch": [True, False]}), "node 2 .*is no input"),
        (json.dumps({key: value for key, value in HUB.items() if key != "reduce/op_4_1"}), "without 'reduce/op_4_1'"),
        (json.dumps(HUB | {"normal/op_2_0": "none"}), "no operation 'none'"),
        (f"{V2}\n{V2}", "2 statements"),
        (V2.replace("normal_concat=[2, 3, 4, 5]", "normal_concat=[2, 3, 4, 5, 6]"), "normal_concat .*concatenate all"),
        (V2.replace("('sep_conv_3x3', 1)", "('sep_conv_3x3', True)", 1), "is not a pair"),
        ("{1: 2}", "keys are names"),
        ("{**{}}", "keys are names"),
        ("{'normal': [], 'normal': []}", "there twice"),
        ("{'normal': [], 'reduce': []}", "no 'normal_concat'"),
    ],
)
def test_what_is_no_genotype_says_why(text: str, message: str) -> None:
    with pytest.raises(ParseError, match=message):
        DARTS.parse(text)


def test_an_unknown_form_names_those_that_there_are() -> None:
    with pytest.raises(UsageError, match=r"'keras': choose one of paper, pt.darts, autodl, nni"):
        DARTS.sample(1, seed=0)[0].text("keras")  # type: ignore[arg-type]


def test_a_cell_as_autodl_and_nni_print_it() -> None:
    text = "|nor_conv_3x3~0|+|none~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_1x1~1|nor_conv_3x3~2|"
    kinds = {"1_3": "conv_1x1", "0_1": "conv_3x3", "0_2": "none", "1_2": "avg_pool_3x3", "0_3": "skip_connect"}
    kinds["2_3"] = "conv_3x3"
    cell = CELLS.parse(text)
    assert CELLS.parse(f"Structure(4 nodes with {text})") == cell
    assert CELLS.parse(repr(kinds)) == CELLS.parse(json.dumps({f"cell/{key}": kinds[key] for key in kinds})) == cell
    for wrong, message in (
        (kinds | {"0_3": 1}, "edge 0_3 has 1: .*could mean any"),
        (kinds | {"0_3": "conv_7x7"}, "no operation 'nor_conv_7x7'"),
        (kinds | {"3_0": "none"}, "one operation for each edge"),
        ({key: kinds[key] for key in list(kinds)[1:]}, "one operation for each edge"),
    ):
        with pytest.raises(ParseError, match=message):
            CELLS.parse(repr(wrong))
    for broken in ("{'0_1': ", "{1: 2}", "{'0_1'}"):
        with pytest.raises(ParseError):
            CELLS.parse(broken)
