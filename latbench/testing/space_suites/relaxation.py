"""The contract of a relaxation as tests, alone and as a space's own."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from latbench.errors import ShapeError, UsageError
from latbench.prediction.structure.networks import are_alive
from latbench.testing.space_suites.base import SpaceSuite

DRAWS = 4000


class RelaxationSuite:
    """Every promise of `latbench.space.Relaxation`: subclass it and give `relaxation` and `encode`."""

    @abstractmethod
    def relaxation(self) -> Any:
        """Return the relaxation under test."""

    @abstractmethod
    def encode(self, architecture: Any) -> NDArray[Any]:
        """Return the encoding ``(columns,)`` of what `derive` returns."""

    def check_draw(self, encoding: NDArray[Any]) -> None:
        """Check that an encoding is that of an architecture; a space that can decode does more."""
        assert np.isfinite(encoding).all()

    def is_alive(self, encoding: NDArray[Any]) -> bool:
        """Return whether a path leads through the architecture of an encoding; a space's graphs tell."""
        return True

    @pytest.mark.parametrize("seed", range(10))
    def test_what_is_cold_is_what_the_parameters_derive(self, seed: int) -> None:
        """Expected and drawn encodings have one limit, and it is exact."""
        relaxation = self.relaxation()
        parameters = random_parameters(relaxation, seed)
        cold = relaxation.expected(parameters, temperature=1e-9).numpy()
        if not self.is_alive(cold):
            pytest.skip("no path leads through the limit, so that another architecture is derived")
        derived = self.encode(relaxation.derive(parameters))
        np.testing.assert_array_equal(cold, derived)
        np.testing.assert_array_equal(
            relaxation.sample(parameters, 3, temperature=1e-9).detach(), np.tile(derived, (3, 1))
        )

    @pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
    def test_the_mean_of_samples_is_expected(self, temperature: float) -> None:
        """What a search pays for is what it draws, at every temperature."""
        relaxation = self.relaxation()
        parameters = random_parameters(relaxation, 1)
        torch.manual_seed(0)
        draws = relaxation.sample(parameters, DRAWS, temperature=temperature).numpy()
        expected = relaxation.expected(parameters, temperature=temperature).numpy()
        # What is drawn a few times by chance has a smaller variance among the draws than it has.
        variance = np.maximum(draws.var(axis=0), expected * (1 - expected))
        error = np.sqrt(np.maximum(variance, 1 / DRAWS) / DRAWS)
        assert (np.abs(draws.mean(axis=0) - expected) < 5 * error).all()

    def test_samples_are_encodings_of_architectures_from_torch_s_generator(self) -> None:
        """No draw lies between two architectures."""
        relaxation = self.relaxation()
        parameters = [p.requires_grad_() for p in random_parameters(relaxation, 2)]
        draws = []
        for _ in range(2):
            torch.manual_seed(3)
            draws.append(relaxation.sample(parameters, 20).detach())
        assert torch.equal(*draws)
        for draw in draws[0]:
            self.check_draw(draw.numpy())

    def test_expected_encodings_have_the_right_gradient(self) -> None:
        """Against finite differences, in float64."""
        relaxation = self.relaxation()
        parameters = [p.requires_grad_() for p in random_parameters(relaxation, 0)]
        assert torch.autograd.gradcheck(
            lambda *given: relaxation.expected(given, temperature=0.7), parameters, fast_mode=True
        )

    def test_gradients_go_through_samples(self) -> None:
        """A search descends on what it drew."""
        relaxation = self.relaxation()
        parameters = [p.requires_grad_() for p in random_parameters(relaxation, 0)]
        torch.manual_seed(0)
        draws: Any = relaxation.sample(parameters, 5)
        (draws * torch.randn(draws.shape)).sum().backward()
        assert all(torch.isfinite(p.grad).all() for p in parameters if p.grad is not None)
        assert any(p.grad is not None and p.grad.any() for p in parameters)

    @pytest.mark.parametrize("temperature", [0.01, 1.0, 100.0])
    @pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
    def test_it_is_finite_for_any_parameters(self, scale: float, temperature: float) -> None:
        """Nothing that a search can reach gives NaN, neither in an encoding nor in its gradient."""
        relaxation = self.relaxation()
        parameters = [(scale * p.float()).requires_grad_() for p in random_parameters(relaxation, 0)]
        encodings: Any = torch.cat(
            [
                relaxation.expected(parameters, temperature=temperature)[None],
                relaxation.sample(parameters, 4, temperature=temperature),
            ]
        )
        (encodings * torch.randn(encodings.shape)).sum().backward()
        assert torch.isfinite(encodings).all()
        assert all(torch.isfinite(p.grad).all() for p in parameters if p.grad is not None)

    def test_what_is_pruned_has_no_weight_and_no_gradient(self) -> None:
        """A parameter of -inf is the limit of ever lower ones."""
        relaxation = self.relaxation()
        low, pruned = random_parameters(relaxation, 4), random_parameters(relaxation, 4)
        for parameters, value in ((low, -1e6), (pruned, -torch.inf)):
            for parameter in parameters:
                if parameter.shape[-1] > 1:
                    parameter[..., -1] = value
        for parameter in pruned:
            parameter.requires_grad_()
        expected = relaxation.expected(pruned)
        torch.testing.assert_close(expected.detach(), relaxation.expected(low))
        encodings: Any = torch.cat([expected[None], relaxation.sample(pruned, 4)])
        (encodings * torch.randn(encodings.shape)).sum().backward()
        for parameter in pruned:
            assert parameter.grad is None or torch.isfinite(parameter.grad).all()
            if parameter.grad is not None and parameter.shape[-1] > 1:
                assert not parameter.grad[..., -1].any()

    def test_parameters_of_another_shape_are_refused(self) -> None:
        """The user passed those of another space, or left some out."""
        relaxation = self.relaxation()
        parameters = random_parameters(relaxation, 0)
        for wrong in ([], parameters[:-1], [torch.cat([p, p], dim=-1) for p in parameters]):
            for method in (relaxation.expected, relaxation.derive, lambda given: relaxation.sample(given, 1)):
                with pytest.raises(ShapeError):
                    method(wrong)

    @pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
    def test_temperatures_that_are_not_positive_are_refused(self, temperature: float) -> None:
        """A schedule ran past its end."""
        relaxation = self.relaxation()
        parameters = random_parameters(relaxation, 0)
        with pytest.raises(UsageError):
            relaxation.expected(parameters, temperature=temperature)
        with pytest.raises(UsageError):
            relaxation.sample(parameters, 1, temperature=temperature)


class RelaxableSuite(SpaceSuite, RelaxationSuite):
    """Every promise of `latbench.space.Relaxable`: its relaxation keeps its own contract, in the space's columns."""

    def relaxation(self) -> Any:
        """Return the space's relaxation."""
        return self.create().relaxation()

    def encode(self, architecture: Any) -> NDArray[Any]:
        """Return the space's encoding."""
        encoding: NDArray[Any] = self.create().encode([architecture])[0]
        return encoding

    def check_draw(self, encoding: NDArray[Any]) -> None:
        """Check that the encoding decodes, where the space can."""
        space = self.create()
        assert encoding.shape == (len(space.columns),)
        if hasattr(space, "decode"):
            np.testing.assert_array_equal(self.encode(space.decode(encoding)), encoding)

    def is_alive(self, encoding: NDArray[Any]) -> bool:
        """Return whether a path leads through the space's graphs."""
        space = self.create()
        graphs = space.graphs() if hasattr(space, "graphs") else ()
        return bool(are_alive(tuple(graphs), space.columns, encoding[None])[0])

    def test_what_is_derived_is_alive(self) -> None:
        """Also where the first or the last option of each row, ``none`` for most, is far ahead of all others."""
        relaxation = self.relaxation()
        for seed in range(20):
            for ahead in (0, -1):
                parameters = random_parameters(relaxation, seed)
                for parameter in parameters:
                    parameter[..., ahead] += 5
                assert self.is_alive(self.encode(relaxation.derive(parameters)))


def random_parameters(relaxation: Any, seed: int) -> list[Tensor]:
    """Return parameters of a relaxation."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in relaxation.shapes]
