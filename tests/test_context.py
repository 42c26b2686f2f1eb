"""What a fit may know beyond X and y: columns, costs of products of them, and other devices."""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from latbench.errors import DataError, UsageError
from latbench.prediction.evaluation.comparison import compare
from latbench.prediction.few_samples.expansion import Expansion
from latbench.prediction.fit import fit
from latbench.prediction.plugin import fit_estimator
from latbench.predictor import Context, Cost, Source
from latbench.records.profile import Profile
from latbench.space import Column, Term
from latbench.testing.additive_profile import additive_profile
from latbench_lookup import LookupRegressor

WIDTHS = (8, 16, 24, 32)


@dataclass(frozen=True)
class Chain:
    """Layers of chosen widths: a layer's cost is decided by the width before it and its own."""

    name: ClassVar[str] = "chain"
    layers: int = 5
    measurable: bool = True

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        return tuple(Column(f"{layer}/{width}", f"width {width}") for layer in range(self.layers) for width in WIDTHS)

    def terms(self) -> list[Term]:
        pairs = itertools.product(range(1, self.layers), WIDTHS, WIDTHS)
        terms = [Term((f"{layer - 1}/{a}", f"{layer}/{b}"), {f"conv {a}->{b}": 1}) for layer, a, b in pairs]
        return terms if self.measurable else []

    def operation(self, key: str, *, batch: int) -> Any:
        raise NotImplementedError("nothing is measured here")

    def build(self, architecture: str) -> Any:
        raise NotImplementedError("nothing is measured here")

    def sample(self, n: int, *, seed: int) -> list[str]:
        drawn = np.random.default_rng(seed).choice(WIDTHS, (n, self.layers))
        return ["-".join(map(str, widths)) for widths in drawn]

    def parse(self, text: str) -> str:
        return text

    def canonical(self, architecture: str) -> str:
        return architecture

    def encode(self, architectures: list[str]) -> np.ndarray:
        widths = np.array([[int(width) for width in text.split("-")] for text in architectures])
        return (widths[..., None] == WIDTHS).reshape(len(widths), -1).astype(np.float32)


def chain_profile(n: int, *, seed: int = 0) -> Profile:
    return additive_profile(n, seed=seed, space=Chain())


def test_costs_are_sums_over_the_operations_of_a_product_of_columns() -> None:
    profile = chain_profile(5)
    context = profile.context()
    assert context.costs is not None
    assert len(context.costs) == 4 * 16
    number = {column.name: index for index, column in enumerate(context.columns)}
    (found,) = [cost for cost in context.costs if cost.columns == (number["0/16"], number["1/24"])]
    assert found.value == profile.operation_costs["conv 16->24"]


def test_costs_are_unknown_where_one_row_is_missing_and_where_nothing_is_measurable() -> None:
    profile = chain_profile(5)
    without_last = dataclasses.replace(profile, measurements=profile.measurements[:-1])
    assert (profile.has_operations, without_last.context().costs) == (True, None)
    nothing = dataclasses.replace(profile, space=Chain(measurable=False))
    assert (nothing.has_operations, nothing.context().costs) == (False, None)


@dataclass(frozen=True)
class Misspelled(Chain):
    def terms(self) -> list[Term]:
        return [Term(("0/80",), {"conv 8->8": 1})]


def test_a_term_of_a_column_that_is_not_there_is_refused() -> None:
    profile = chain_profile(10)
    wrong = dataclasses.replace(profile, space=Misspelled(), measurements=profile.measurements)
    with pytest.raises(UsageError, match=r"a term of .*Misspelled\(.* has no column '0/80': did you mean '0/8'\?"):
        fit(wrong, "lookup")


def test_an_expansion_multiplies_columns_and_its_products_have_groups_of_their_own() -> None:
    columns = tuple(Column(name, name) for name in "abc")
    context = Context(columns, (Cost((1,), 5.0), Cost((0, 2), 7.0), Cost((0, 1, 2), 9.0)))
    expand = Expansion.of(context, 3)
    np.testing.assert_allclose(expand(np.array([[0.5, 2.0, 3.0]])), [[0.5, 2.0, 3.0, 1.5, 3.0]])
    assert expand.groups == ("a", "b", "c", "a x c", "a x b x c")
    assert expand.costs is not None
    assert expand.costs.tolist() == [0, 5, 0, 7, 9]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"costs": (Cost((2,), 1.0),)}, r"columns \(2,\), of 2 columns"),
        ({"costs": (Cost((-1, 0), 1.0),)}, "of 2 columns"),
        ({"costs": (Cost((), 1.0),)}, "name existing ones"),
        ({"costs": (Cost((0,), float("nan")),)}, "is nan: give a finite one"),
        ({"sources": (Source("pi", np.ones((3, 5)), np.ones(3)),)}, r"'pi' has encodings \(3, 5\) for 3 values"),
    ],
)
def test_a_context_that_contradicts_itself_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Context((Column("a", "g"), Column("b", "g")), **arguments)


@pytest.mark.parametrize("predictor", ["lookup", "mlp", "gbdt"])
def test_costs_of_products_are_learnt_from(predictor: str) -> None:
    """The device's cost is a sum over pairs of widths, give or take 10%: no sum over single widths tells it."""
    profile, test = chain_profile(60), chain_profile(200, seed=1)

    def error(context: Context) -> float:
        predicted = fit_estimator(predictor, profile.X, profile.y, context=context).predict(test.X)
        return float(np.abs(predicted / test.y - 1).mean())

    known = error(profile.context())
    assert known < 0.015
    if predictor != "lookup":
        assert known < error(dataclasses.replace(profile.context(), costs=None)) / 3


@pytest.mark.parametrize("predictor", ["lookup", "mlp"])
def test_the_module_of_products_predicts_what_independent_draws_take(predictor: str) -> None:
    profile = chain_profile(60)
    module = fit(profile, predictor, **({"steps": 1} if predictor == "mlp" else {})).module().double()
    shares = torch.distributions.Dirichlet(torch.ones(4)).sample((Chain().layers,)).double()
    with torch.no_grad():
        every = Chain().encode(["-".join(map(str, each)) for each in itertools.product(WIDTHS, repeat=5)])
        chance = torch.cartesian_prod(*shares).prod(dim=-1)
        expected = (chance * module(torch.from_numpy(every).double())).sum()
        assert module(shares.flatten()) == pytest.approx(float(expected), rel=1e-3)
    relaxed = shares.flatten().clone().requires_grad_()
    assert torch.autograd.gradcheck(module, (relaxed,))


@pytest.mark.parametrize("predictor", ["lookup", "mlp", "gbdt"])
def test_products_come_back_from_arrays(predictor: str) -> None:
    profile = chain_profile(40)
    fitted: Any = fit(profile, predictor).estimator
    again = type(fitted)(**fitted.get_params()).from_arrays(fitted.to_arrays())
    np.testing.assert_array_equal(again.predict(profile.X), fitted.predict(profile.X))
    with pytest.raises(ValueError, match="outside the 20 columns"):
        again.from_arrays({**fitted.to_arrays(), "products": fitted.to_arrays()["products"] + 2})


def test_a_lookup_table_of_a_space_without_operations_is_refused() -> None:
    profile = dataclasses.replace(chain_profile(40), space=Chain(measurable=False))
    for name in ("lookup", "latbench_lookup:LookupRegressor"):
        with pytest.raises(UsageError, match="measured operations, and this space has none: use mlp"):
            fit(profile, name)
        with pytest.raises(UsageError, match=r"cannot be compared: .*has none"):
            compare(profile, [name], train_sizes=(20,), seeds=1)
    comparison = compare(profile, train_sizes=(20,), seeds=1)
    assert "lookup" not in comparison.predictors
    assert {"mlp", "ridge"} <= set(comparison.predictors)
    assert any(note.startswith("lookup is left out: it builds on measured operations") for note in comparison.notes)
    assert not any("no operator table" in note for note in comparison.notes)


def test_a_table_of_equal_costs_is_left_out() -> None:
    profile = chain_profile(40)
    equal = tuple(
        dataclasses.replace(m, value=0.5, low=0.5, high=0.5) if m.kind == "operation" else m
        for m in profile.measurements
    )
    profile = dataclasses.replace(profile, measurements=equal)
    with pytest.raises(UsageError, match="whose sum is the same for all architectures"):
        fit(profile, "lookup")
    assert "lookup" not in compare(profile, train_sizes=(20,), seeds=1).predictors


def other_device(profile: Profile, **conditions: str) -> Profile:
    return dataclasses.replace(profile, conditions=dataclasses.replace(profile.conditions, **conditions))


def test_sources_of_another_space_quantity_or_unit_are_refused_by_name() -> None:
    profile = additive_profile(20)
    for source, field in (
        (chain_profile(20), "space: .*Chain"),
        (other_device(profile, quantity="energy"), "quantity: energy, not latency"),
        (other_device(profile, unit="s"), "unit: s, not ms"),
    ):
        with pytest.raises(DataError, match=rf"source adding machine \(null\) differs in {field}"):
            profile.context([source])


def test_a_predictor_that_uses_no_sources_refuses_them() -> None:
    for name in ("ridge", "mlp"):
        with pytest.raises(UsageError, match=f"'{name}' does not learn from other devices' profiles: use"):
            fit(additive_profile(20), name, sources=[additive_profile(20, device=1)])


def test_a_context_is_of_the_encodings_columns() -> None:
    with pytest.raises(ValueError, match="30 columns for 20 columns"):
        LookupRegressor().fit(chain_profile(20).X, np.ones(20), context=additive_profile(5).context())
