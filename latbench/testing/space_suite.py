"""The contract of a search space as tests: a plug-in's test file is one subclass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from latbench.errors import ParseError, ShapeError, UsageError
from latbench.plugins import SPACES, configure
from latbench.space import SpaceSpec


class SpaceSuite:
    """Every promise of `latbench.space.SearchSpace`.

    Subclass it and set the entry-point name::

        class TestMySpace(SpaceSuite):
            space = "myspace"

    `config` makes a smaller network, so that the suite runs faster.
    """

    space: ClassVar[str]
    config: ClassVar[Mapping[str, int]] = {}

    def create(self) -> Any:
        """Return the space under test."""
        return configure(SPACES, self.space, self.config)

    def test_its_name_is_the_entry_point(self) -> None:
        """A store that holds the name finds the space again."""
        assert self.create().name == self.space

    def test_it_can_be_written_down_and_created_again(self) -> None:
        """`SpaceSpec` holds all that a space depends on."""
        space = self.create()
        again = SpaceSpec.of(space).create()
        assert again == space
        assert hash(again) == hash(space)

    def test_an_unknown_configuration_is_a_usage_error(self) -> None:
        """The user misspelt a keyword, or gave no number."""
        with pytest.raises(UsageError):
            SpaceSpec(self.space, {"no_such_field": 1}).create()
        for field in SpaceSpec.of(self.create()).config:
            with pytest.raises(UsageError):
                SpaceSpec(self.space, {**self.config, field: -1}).create()

    def test_samples_depend_on_the_seed_alone_and_longer_draws_extend_shorter_ones(self) -> None:
        """A profile that is continued with more samples keeps those it has."""
        space = self.create()
        assert space.sample(10, seed=3) == space.sample(20, seed=3)[:10]
        assert space.sample(10, seed=3) != space.sample(10, seed=4)

    def test_texts_parse_back(self) -> None:
        """Stores hold architectures as text."""
        space = self.create()
        for architecture in space.sample(50, seed=0):
            again = space.parse(str(architecture))
            assert again == architecture
            assert hash(again) == hash(architecture)
            assert space.canonical(again) == space.canonical(architecture)

    def test_texts_that_are_no_architecture_are_refused(self) -> None:
        """The user pasted a part of it, or something else."""
        space = self.create()
        whole = str(space.sample(1, seed=0)[0])
        for text in ("", "no architecture", whole[: len(whole) // 2], whole + whole):
            with pytest.raises(ParseError):
                space.parse(text)

    def test_encodings_are_one_hot_and_decode_back(self) -> None:
        """An encoding names its architecture; each edge has one operation."""
        space = self.create()
        architectures = space.sample(50, seed=1)
        encodings = space.encode(architectures)
        assert encodings.dtype == np.float32
        assert encodings.shape == (50, len(space.columns))
        assert set(np.unique(encodings)) == {0.0, 1.0}
        assert all((sums == 1).all() for sums in _edge_sums(space, encodings))
        assert [space.decode(encoding) for encoding in encodings] == architectures

    def test_no_architecture_has_an_encoding_of_no_rows(self) -> None:
        """Empty in, empty out."""
        space = self.create()
        assert space.encode([]).shape == (0, len(space.columns))

    def test_encodings_of_no_architecture_are_refused(self) -> None:
        """A wrong length is a `ShapeError`, a relaxed encoding a `ParseError`."""
        space = self.create()
        columns = len(space.columns)
        for shape in ((columns - 1,), (1, columns)):
            with pytest.raises(ShapeError):
                space.decode(np.zeros(shape, dtype=np.float32))
        for value in (0.0, 0.5, 1.0):
            with pytest.raises(ParseError):
                space.decode(np.full(columns, value, dtype=np.float32))

    def test_columns_match_the_alphas(self) -> None:
        """There is a column, with a name of its own, for each element of the alphas."""
        space = self.create()
        assert len(space.columns) == sum(edges * operations for edges, operations in space.relaxation().shapes)
        assert len({column.name for column in space.columns}) == len(space.columns)
        names = {column.name for column in space.columns}
        for term in space.terms():
            assert set(term.columns) <= names
            assert term.operations
            assert all(count > 0 for count in term.operations.values())

    def test_columns_of_one_group_do_the_same_work(self) -> None:
        """Few-sample predictors shrink their costs together."""
        space = self.create()
        work: dict[str, Mapping[str, int]] = {}
        operations = {term.columns: term.operations for term in space.terms()}
        for column in space.columns:
            own = operations.get((column.name,), {})
            assert own == work.setdefault(column.group, own), column.name

    def test_operations_build_with_the_shapes_that_columns_give(self) -> None:
        """A lookup table measures each operation by itself."""
        space = self.create()
        for key in {key for term in space.terms() for key in term.operations}:
            model = space.operation(key, batch=2)
            assert model.name == key
            assert all(np.isfinite(output).all() for output in model.reference_outputs()), key

    def test_networks_give_logits_and_train(self) -> None:
        """All architectures map images to logits; gradients reach the weights."""
        space = self.create()
        for architecture in space.sample(3, seed=2):
            network = space.build(architecture)
            logits = network(torch.randn(2, 3, space.image, space.image))
            assert logits.shape == (2, space.classes)
            logits.square().sum().backward()
            assert any(
                parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in network.parameters()
            )
            assert torch.isfinite(logits).all()

    def test_networks_are_built_from_torch_s_generator_and_share_nothing(self) -> None:
        """A seed gives the same weights every time, and training one network leaves the next one alone."""
        space = self.create()
        architecture = space.sample(1, seed=2)[0]
        networks = []
        for _ in range(2):
            torch.manual_seed(0)
            networks.append(space.build(architecture))
        ours, theirs = (network.state_dict() for network in networks)
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
        assert not {tensor.data_ptr() for tensor in ours.values()} & {tensor.data_ptr() for tensor in theirs.values()}

    def test_networks_trace_with_fx(self) -> None:
        """The ONNX writer and the operator walk read the traced graph."""
        space = self.create()
        for architecture in space.sample(3, seed=3):
            network = space.build(architecture).eval()
            x = torch.randn(1, 3, space.image, space.image)
            with torch.no_grad():
                torch.testing.assert_close(torch.fx.symbolic_trace(network)(x), network(x))

    def test_supernet_trains_weights_and_alphas(self) -> None:
        """All parameters are either, and gradients reach every alpha."""
        space = self.create()
        supernet = space.supernet()
        assert tuple(tuple(alpha.shape) for alpha in supernet.alphas()) == space.relaxation().shapes
        given = [id(parameter) for parameter in (*supernet.alphas(), *supernet.weights())]
        assert sorted(given) == sorted(id(parameter) for parameter in supernet.parameters())
        logits = supernet(torch.randn(2, 3, space.image, space.image))
        assert logits.shape == (2, space.classes)
        logits.square().sum().backward()
        assert all((alpha.grad.abs().sum(dim=1) > 0).all() for alpha in supernet.alphas())

    def test_relaxed_encodings_are_probabilities(self) -> None:
        """The operations of each edge share a probability of 1."""
        space = self.create()
        for seed in range(5):
            encoding = space.relaxation().expected(_random_alphas(space, seed)).numpy()
            assert encoding.shape == (len(space.columns),)
            assert encoding.min() >= -1e-9
            for sums in _edge_sums(space, encoding[None]):
                np.testing.assert_allclose(sums, 1)

    @pytest.mark.parametrize("seed", range(20))
    def test_cold_relaxations_are_what_the_alphas_derive(self, seed: int) -> None:
        """The limit of the temperature is the encoding of the derived architecture."""
        space = self.create()
        alphas = _random_alphas(space, seed)
        cold = space.relaxation().expected(alphas, temperature=1e-6).numpy()
        np.testing.assert_allclose(cold, space.encode([space.relaxation().derive(alphas)])[0], atol=1e-6)

    def test_alphas_that_spell_an_architecture_derive_it(self) -> None:
        """An encoding, scaled up, is the clearest of alphas."""
        space = self.create()
        for architecture in space.sample(20, seed=5):
            alphas = _split(space, 20.0 * torch.from_numpy(space.encode([architecture])[0]))
            assert space.relaxation().derive(alphas) == architecture

    def test_relaxation_has_the_right_gradient(self) -> None:
        """Against finite differences, in float64."""
        space = self.create()
        alphas = [alpha.requires_grad_() for alpha in _random_alphas(space, 0)]
        torch.autograd.gradcheck(
            lambda *alphas: space.relaxation().expected(alphas, temperature=0.7), alphas, fast_mode=True
        )

    @pytest.mark.parametrize("temperature", [0.01, 1.0, 100.0])
    @pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
    def test_relaxation_is_finite_for_any_alphas(self, scale: float, temperature: float) -> None:
        """No alphas that a search can reach give NaN, neither in the encoding nor in its gradient."""
        space = self.create()
        alphas = [(scale * alpha.float()).requires_grad_() for alpha in _random_alphas(space, 0)]
        encoding = space.relaxation().expected(alphas, temperature=temperature)
        (encoding * torch.randn(encoding.shape)).sum().backward()
        assert torch.isfinite(encoding).all()
        assert all(alpha.grad is not None and torch.isfinite(alpha.grad).all() for alpha in alphas)

    def test_alphas_of_another_shape_are_refused(self) -> None:
        """The user passed the alphas of another space, or left some out."""
        space = self.create()
        alphas = _random_alphas(space, 0)
        for wrong in ([], alphas[:-1], [alpha[:-1] for alpha in alphas], [alpha[:, :-1] for alpha in alphas]):
            with pytest.raises(ShapeError):
                space.relaxation().expected(wrong)
            with pytest.raises(ShapeError):
                space.relaxation().derive(wrong)

    @pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
    def test_temperatures_that_are_not_positive_are_refused(self, temperature: float) -> None:
        """A schedule ran past its end."""
        space = self.create()
        with pytest.raises(UsageError):
            space.relaxation().expected(_random_alphas(space, 0), temperature=temperature)


def _random_alphas(space: Any, seed: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in space.relaxation().shapes]


def _split(space: Any, encoding: torch.Tensor) -> list[torch.Tensor]:
    """Cut an encoding into pieces of the alphas' shapes."""
    sizes = [edges * operations for edges, operations in space.relaxation().shapes]
    return [
        part.reshape(shape) for part, shape in zip(torch.split(encoding, sizes), space.relaxation().shapes, strict=True)
    ]


def _edge_sums(space: Any, encodings: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
    """Sum the columns of each edge, ``(n, edges)`` for each of the alphas."""
    sizes = [edges * operations for edges, operations in space.relaxation().shapes]
    parts = np.split(encodings, np.cumsum(sizes)[:-1], axis=1)
    return [part.reshape(-1, *shape).sum(axis=2) for part, shape in zip(parts, space.relaxation().shapes, strict=True)]
