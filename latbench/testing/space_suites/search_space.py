"""The contract of a search space as tests."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch

from latbench.testing.space_suites.base import descend, outputs_of, sample_tensors
from latbench.testing.space_suites.encoder import EncoderSuite


class SearchSpaceSuite(EncoderSuite):
    """Every promise of `latbench.space.SearchSpace`, those of an encoder included.

    Attributes:
        traces: whether the networks trace with torch.fx; others are written as ONNX by torch's exporter, which takes
            seconds for each.
    """

    traces: ClassVar[bool] = True

    def test_samples_depend_on_the_seed_alone_and_longer_draws_extend_shorter_ones(self) -> None:
        """A profile that is continued with more samples keeps those it has."""
        space = self.create()
        assert list(space.sample(10, seed=3)) == list(space.sample(20, seed=3)[:10])
        assert list(space.sample(20, seed=3)) != list(space.sample(20, seed=4))

    def test_inputs_are_by_name_and_batch_first(self) -> None:
        """The same arrays for one architecture every time, or a measurement would not be repeatable."""
        space = self.create()
        for architecture in self.architectures(3, seed=2):
            one, three = (space.inputs(architecture, batch=batch) for batch in (1, 3))
            assert one
            assert list(one) == list(three)
            for name, value in one.items():
                assert value.shape == (1, *three[name].shape[1:])
                assert three[name].shape[0] == 3
                assert (value == space.inputs(architecture, batch=1)[name]).all()

    def test_networks_run_on_their_inputs_and_train(self) -> None:
        """Outputs are finite; gradients reach the weights."""
        space = self.create()
        for architecture in self.architectures(3, seed=2):
            network = space.build(architecture)
            outputs = outputs_of(network, *sample_tensors(space, architecture))
            assert outputs
            assert all(torch.isfinite(output).all() for output in outputs)
            descend(outputs)
            assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())

    def test_networks_are_built_from_torch_s_generator_and_share_nothing(self) -> None:
        """A seed gives the same weights every time, and training one network leaves the next one alone."""
        space = self.create()
        (architecture,) = self.architectures(1, seed=2)[:1]
        networks = []
        for _ in range(2):
            torch.manual_seed(0)
            networks.append(space.build(architecture))
        ours, theirs = (network.state_dict() for network in networks)
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
        assert not {tensor.data_ptr() for tensor in ours.values()} & {tensor.data_ptr() for tensor in theirs.values()}

    def test_networks_trace_with_fx(self) -> None:
        """The ONNX writer and the operator walk read the traced graph."""
        if not self.traces:
            pytest.skip("the space says that its networks do not")
        space = self.create()
        for architecture in self.architectures(3, seed=3):
            network = space.build(architecture).eval()
            inputs = sample_tensors(space, architecture, batch=1)
            with torch.no_grad():
                traced = outputs_of(torch.fx.symbolic_trace(network), *inputs)
                torch.testing.assert_close(traced, outputs_of(network, *inputs))
