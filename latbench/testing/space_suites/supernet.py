"""The contract of a supernet as tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from latbench.errors import ShapeError
from latbench.space import Relaxable
from latbench.testing.space_suites.base import SpaceSuite, descend, outputs_of, sample_tensors


class SupernetSuite(SpaceSuite):
    """Every promise of `latbench.space.HasSupernet`: what runs is what the encoding says."""

    def test_parameters_are_weights_or_alphas_and_all_alphas_learn(self) -> None:
        """Without an encoding, the supernet mixes by its alphas, which are those of the relaxation."""
        space, supernet, inputs = self._prepared()
        if isinstance(space, Relaxable):
            assert tuple(tuple(alpha.shape) for alpha in supernet.alphas()) == tuple(space.relaxation().shapes)
        given = [id(parameter) for parameter in (*supernet.alphas(), *supernet.weights())]
        assert sorted(given) == sorted(id(parameter) for parameter in supernet.parameters())
        outputs = outputs_of(supernet, *inputs)
        assert all(torch.isfinite(output).all() for output in outputs)
        descend(outputs)
        assert all((alpha.grad.abs().sum(dim=-1) > 0).all() for alpha in supernet.alphas())

    def test_an_encoding_s_zeros_are_not_run(self) -> None:
        """A search that draws one path pays for one; what runs with zeros alone is what every network has."""
        space, supernet, inputs = self._prepared()
        with torch.no_grad():
            everything = _ran(supernet, inputs, None)
            shared = _ran(supernet, inputs, torch.zeros(len(space.columns)))
            for architecture in self.architectures(3, seed=6):
                path = _ran(supernet, inputs, torch.from_numpy(space.encode([architecture])[0]))
                assert shared <= path < everything

    def test_gradients_reach_what_ran_and_nothing_else(self) -> None:
        """The encoding weighs what runs, so it has a gradient there, and weights of other operations have none."""
        space, supernet, inputs = self._prepared()
        for architecture in self.architectures(2, seed=7):
            encoding = torch.from_numpy(space.encode([architecture])[0]).requires_grad_()
            supernet.zero_grad()
            ran: set[nn.Module] = set()
            with _recorded(supernet, ran):
                outputs = outputs_of(supernet, *inputs, encoding=encoding)
            descend(outputs)
            assert encoding.grad is not None
            assert encoding.grad.any()
            assert not encoding.grad[encoding == 0].any()
            for module in supernet.modules():
                if module not in ran:
                    assert all(parameter.grad is None for parameter in module.parameters(recurse=False))

    def test_its_outputs_are_those_of_the_networks(self) -> None:
        """In shape: a task takes either."""
        space, supernet, inputs = self._prepared()
        (architecture,) = self.architectures(1)[:1]
        network = space.build(architecture)
        encoding = torch.from_numpy(space.encode([architecture])[0])
        shapes = [output.shape for output in outputs_of(network, *inputs)]
        assert [output.shape for output in outputs_of(supernet, *inputs, encoding=encoding)] == shapes
        assert [output.shape for output in outputs_of(supernet, *inputs)] == shapes

    def test_encodings_of_another_length_are_refused(self) -> None:
        """The user passed that of another space, or several rows."""
        space, supernet, inputs = self._prepared()
        for shape in ((len(space.columns) - 1,), (1, len(space.columns))):
            with pytest.raises(ShapeError):
                supernet(*inputs, encoding=torch.ones(shape))

    def _prepared(self) -> tuple[Any, Any, list[Tensor]]:
        """Return the space, a supernet, and inputs of the first architecture."""
        space = self.create()
        torch.manual_seed(0)
        return space, space.supernet(), sample_tensors(space, self.architectures(1)[0])


def _ran(supernet: nn.Module, inputs: list[Tensor], encoding: Tensor | None) -> set[nn.Module]:
    ran: set[nn.Module] = set()
    with _recorded(supernet, ran):
        supernet(*inputs, encoding=encoding)
    return ran


@contextmanager
def _recorded(network: nn.Module, ran: set[nn.Module]) -> Iterator[None]:
    """Note which modules without children run."""
    leaves = [module for module in network.modules() if not any(True for _ in module.children())]
    hooks = [module.register_forward_hook(lambda module, *_: ran.add(module)) for module in leaves]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
