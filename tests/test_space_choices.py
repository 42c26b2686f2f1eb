"""Spaces made of decisions: numbers between knots, decisions that are not always made, and what is refused."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from latbench.errors import ParseError, ShapeError, UsageError
from latbench.spaces.choices import Choice, Choices, ChoiceSpace, Ordinal


@dataclass(frozen=True)
class Towers(ChoiceSpace):
    """A depth that decides whether a second layer is there, whose kernel decides whether it has a gate."""

    classes: int = 3
    name: ClassVar[str] = "towers"
    decisions = (
        Ordinal("resolution", (8, 16)),
        Ordinal("width", (16, 32, 48), group="width"),
        Choice("depth", (1, 2)),
        Choice("kernel", (3, 5), when=("depth", (2,))),
        Choice("gate", ("none", "tanh"), when=("kernel", [5])),
        Ordinal("rate", (0.5, 1.0), group="width"),
    )

    def build(self, choices: Choices) -> nn.Module:
        layers: list[nn.Module] = [nn.Conv2d(3, choices["width"], 3)]
        if choices["depth"] == 2:
            layers.append(nn.Conv2d(choices["width"], choices["width"], choices["kernel"], padding="same"))
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(choices["width"], self.classes))


SPACE = Towers()
DEEP = "resolution=8,width=40,depth=2,kernel=5,gate=tanh,rate=0.7"
FLAT = "resolution=16,width=48,depth=1,rate=1.0"


@pytest.mark.parametrize("text", [DEEP, FLAT])
def test_texts_parse_back_and_leave_out_what_is_not_decided(text: str) -> None:
    choices = SPACE.parse(text)
    assert str(choices) == repr(choices) == text
    assert SPACE.parse(", ".join(reversed(text.split(",")))) == choices
    assert SPACE.decode(SPACE.encode([choices])[0]) == choices
    assert len(choices) == len(text.split(","))


def test_columns_are_named_by_decision_and_option_and_grouped() -> None:
    names = [column.name for column in SPACE.columns]
    assert names[2:12] == [
        *("width/16", "width/32", "width/48", "depth/1", "depth/2"),
        *("kernel/3", "kernel/5", "kernel/absent", "gate/none", "gate/tanh"),
    ]
    assert [column.group for column in SPACE.columns][-2:] == ["width/0.5", "width/1.0"]
    assert SPACE.columns[5].group == "depth/1"


def test_a_number_between_knots_weighs_both() -> None:
    row = dict(zip((column.name for column in SPACE.columns), SPACE.encode([SPACE.parse(DEEP)])[0], strict=True))
    assert (row["width/16"], row["width/32"], row["width/48"]) == (0, 0.5, 0.5)
    assert row["rate/1.0"] == pytest.approx(0.4)
    flat = dict(zip(row, SPACE.encode([SPACE.parse(FLAT)])[0], strict=True))
    assert (flat["kernel/absent"], flat["gate/absent"], flat["kernel/3"]) == (1, 1, 0)


@given(st.integers(16, 48), st.integers(5000, 10000))
def test_numbers_between_knots_decode_to_themselves(width: int, rate: int) -> None:
    choices = SPACE.choices({"resolution": 8, "width": width, "depth": 1, "rate": rate / 1e4})
    again = SPACE.decode(SPACE.encode([choices])[0])
    assert again == choices
    assert isinstance(again["width"], int)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (DEEP.replace("kernel", "kernle"), "no decision 'kernle': did you mean 'kernel'"),
        (DEEP.replace("kernel=5,", ""), "kernel is missing: give one of 3, 5"),
        (DEEP.replace("kernel=5", "kernel=4"), "kernel=4: choose one of 3, 5"),
        (DEEP.replace("kernel=5", "kernel=3"), "gate is not decided where kernel=3: leave it out"),
        (DEEP.replace("depth=2", "depth=1"), "kernel is not decided where depth=1: leave it out"),
        (FLAT + ",gate=tanh", "gate is not decided where kernel is not: leave it out"),
        (DEEP.replace("width=40", "width=49"), "width=49.0: give a number from 16 to 48"),
        (DEEP.replace("width=40", "width=nan"), "width=nan: give a number from 16 to 48"),
        (DEEP.replace("width=40", "width=wide"), "width=wide is not a number: give one from 16 to 48"),
        (DEEP + ",depth=2", "depth is given twice"),
        ("resolution", "'resolution' is not a decision: write name=value, joined by commas"),
        ("", "'' is not a decision"),
    ],
)
def test_a_text_that_does_not_parse_names_the_decision(text: str, message: str) -> None:
    with pytest.raises(ParseError, match=message):
        SPACE.parse(text)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("width/16", 0.5, "a number has weights on one knot or on two neighbouring ones"),
        ("kernel/absent", 0.5, "decision 'kernel' is 0.5 absent"),
        ("depth/1", 1.0, "not one-hot"),
    ],
)
def test_an_encoding_of_no_architecture_is_refused(column: str, value: float, message: str) -> None:
    row = SPACE.encode([SPACE.parse(DEEP)])[0]
    row[[c.name for c in SPACE.columns].index(column)] = value
    with pytest.raises(ParseError, match=message):
        SPACE.decode(row)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Choice("a,b", (1, 2)), "the name 'a,b' cannot be part of a text"),
        (lambda: Choice("a", ("x=1", "y")), "option 'x=1' of decision 'a' cannot be part of a text"),
        (lambda: Choice("a", ("x", " y")), "option ' y'"),
        (lambda: Choice("a", (1, 1)), "two equal options"),
        (lambda: Choice("a", (1, True)), "two equal options"),
        (lambda: Choice("a", ("1", 1)), "two equal options"),
        (lambda: Choice("a", ()), "no options"),
        (lambda: Choice("a", ((1, 2), 3)), r"the option \(1, 2\): give str, int, float or bool"),
        (lambda: Choice("a", ("absent", "b"), when=("c", (1,))), "rename it"),
        (lambda: Choice("a", (1, 2), when=("c", 1)), "give an earlier decision and values"),
        (lambda: Ordinal("a", (2, 1)), "give numbers that increase"),
        (lambda: Ordinal("a", (True, 2)), "give numbers that increase"),
    ],
)
def test_decisions_that_could_not_be_written_down_are_refused(make, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()


@pytest.mark.parametrize(
    ("decisions", "message"),
    [
        ((Choice("a", (1, 2)), Choice("a", (3, 4))), "two decisions are called 'a'"),
        ((Choice("b", (1, 2), when=("a", (1,))), Choice("a", (1, 2))), "depends on 'a': list a decision of that name"),
        ((Choice("a", (1, 2)), Choice("b", (1, 2), when=("a", (3,)))), "depends on a=3: name one of 1, 2"),
    ],
)
def test_lists_of_decisions_that_make_no_sense_are_refused(decisions: tuple[Choice, ...], message: str) -> None:
    @dataclass(frozen=True)
    class Broken(Towers):
        @cached_property
        def decisions(self) -> tuple[Choice, ...]:  # type: ignore[override]
            return decisions

    with pytest.raises(UsageError, match=message):
        Broken().sample(1, seed=0)


def test_a_number_that_others_hang_on_is_one_of_its_knots() -> None:
    @dataclass(frozen=True)
    class Deep(Towers):
        decisions = (Ordinal("depth", (1, 4)), Choice("kernel", (3, 5), when=("depth", (4,))))

    with pytest.raises(ParseError, match=r"depth=2: decisions depend on it, so give one of 1, 4$"):
        Deep().parse("depth=2")
    # In expectation it may lie between: half of the architectures decide the kernel.
    torch.testing.assert_close(
        Deep().expected({"depth": torch.tensor(2.5), "kernel": 3}), torch.tensor([0.5, 0.5, 0.5, 0.0, 0.5])
    )


def test_samples_are_uniform_over_options() -> None:
    rows = SPACE.encode(SPACE.sample(2000, seed=0)).mean(axis=0)
    np.testing.assert_allclose(rows[2:5], 1 / 3, atol=0.04)
    np.testing.assert_allclose(rows[7:10], (1 / 4, 1 / 4, 1 / 2), atol=0.04)
    np.testing.assert_allclose(rows[10:13], (1 / 8, 1 / 8, 3 / 4), atol=0.04)


@given(st.integers(0, 10_000))
def test_a_mutation_differs_in_one_decision_and_what_hangs_on_it(seed: int) -> None:
    (parent,) = SPACE.sample(1, seed=seed)
    child = SPACE.mutate(parent, seed=seed)
    changed = [name for name in (*parent, *child) if parent.get(name) != child.get(name)]
    hanging = {"depth": {"depth", "kernel", "gate"}, "kernel": {"kernel", "gate"}}
    assert set(changed) <= hanging.get(changed[0], {changed[0]})
    assert SPACE.parse(str(child)) == child


def test_inputs_follow_the_resolution() -> None:
    choices = SPACE.parse(DEEP)
    assert SPACE.inputs(choices, batch=2)["x"].shape == (2, 3, 8, 8)

    @dataclass(frozen=True)
    class Fixed(Towers):
        decisions = (Choice("depth", (1, 2)),)

    with pytest.raises(UsageError, match="neither a decision nor a field 'resolution' or 'image'"):
        Fixed().inputs(Fixed().parse("depth=1"), batch=1)


def test_hats_have_the_slope_between_their_knots() -> None:
    width = torch.tensor([16.0, 40.0, 48.0], dtype=torch.float64, requires_grad=True)
    hat = Ordinal("width", (16, 32, 48)).hat(width)
    torch.testing.assert_close(hat.detach(), torch.tensor([[1, 0, 0], [0, 0.5, 0.5], [0, 0, 1]]).double())
    knots = torch.tensor([16.0, 32.0, 48.0], dtype=torch.float64)
    (hat @ knots).sum().backward()
    # The weights add up to the number, so their mean has its slope: 1.
    torch.testing.assert_close(width.grad, torch.ones(3, dtype=torch.float64))
    inside = torch.tensor([20.0, 33.5], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(Ordinal("width", (16, 32, 48)).hat, inside)
    for outside in (15.9, 49.0, float("nan")):
        with pytest.raises(UsageError, match="keep it in 16 to 48"):
            Ordinal("width", (16, 32, 48)).hat(torch.tensor(outside))


def test_expected_encodings_mix_values_numbers_and_weights() -> None:
    width = torch.tensor(40.0, requires_grad=True)
    depth = torch.tensor([0.25, 0.75], requires_grad=True)
    values = {"resolution": 8, "width": width, "depth": depth, "kernel": 5, "gate": "tanh", "rate": 0.7}
    encoding = SPACE.expected(values)
    hard = {**values, "width": 40, "depth": torch.tensor([0.0, 1.0])}
    torch.testing.assert_close(SPACE.expected(hard), torch.from_numpy(SPACE.encode([SPACE.parse(DEEP)])[0]))
    torch.testing.assert_close(encoding[10:13], torch.tensor([0.0, 0.75, 0.25]))
    encoding[4].backward(retain_graph=True)
    assert width.grad.item() == pytest.approx(1 / 16)
    encoding[11].backward()
    assert depth.grad[1].item() == pytest.approx(1.0)


def test_expected_encodings_of_what_is_not_given_are_refused() -> None:
    values = {"resolution": 8, "width": 16, "rate": 0.5}
    flat = SPACE.expected({**values, "depth": torch.tensor([1.0, 0.0])})
    torch.testing.assert_close(flat, torch.from_numpy(SPACE.encode([SPACE.choices({**values, "depth": 1})])[0]))
    with pytest.raises(ParseError, match="kernel is missing"):
        SPACE.expected({**values, "depth": torch.tensor([0.9, 0.1])})
    with pytest.raises(ParseError, match="depth is missing"):
        SPACE.expected(values)
    with pytest.raises(ShapeError, match=r"decision 'depth' has 2 options, not a tensor \(\): give the weights"):
        SPACE.expected({**values, "depth": torch.tensor(1.0)})


@pytest.mark.parametrize("weights", [(2.0, 3.0), (0.5, 0.6), (1.5, -0.5), (float("nan"), 1.0)])
def test_weights_that_are_no_probabilities_are_refused(weights: tuple[float, float]) -> None:
    values = {"resolution": 8, "width": 16, "rate": 0.5, "kernel": 5, "gate": "tanh"}
    with pytest.raises(UsageError, match=r"the weights of decision 'depth' sum to .* give probabilities"):
        SPACE.expected({**values, "depth": torch.tensor(weights)})
    half = torch.tensor([0.3, 0.7]).bfloat16()
    assert SPACE.expected({**values, "depth": half}).isfinite().all()


def test_networks_are_built_from_the_choices() -> None:
    for text in (DEEP, FLAT):
        choices = SPACE.parse(text)
        x = torch.from_numpy(SPACE.inputs(choices, batch=2)["x"])
        assert SPACE.build(choices)(x).shape == (2, 3)
