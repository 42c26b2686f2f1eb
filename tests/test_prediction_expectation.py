"""Expected predictions: exact where a space can be listed, and close to it where a module learnt them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from latbench.errors import NotDifferentiableError
from latbench.prediction.expectation import decisions_of, expectation_module
from latbench.prediction.fit import fit
from latbench.records.profile import Profile
from latbench.search import LatencyLoss
from latbench.spaces.darts import DartsSpace
from latbench.spaces.nasbench201 import NasBench201Space
from latbench.testing.additive_profile import additive_profile

SPACE = NasBench201Space()


def probabilities(spread: float, n: int = 20) -> Tensor:
    """Return relaxed encodings ``(n, 30)``; the larger the spread, the nearer they are to architectures."""
    generator = torch.Generator().manual_seed(0)
    return torch.softmax(spread * torch.randn(n, 6, 5, generator=generator, dtype=torch.float64), dim=-1).flatten(1)


def compiled_profile(n: int) -> Profile:
    """Return a device that runs no dead operation, of known cost."""
    costs = {"none": 0.0, "skip_connect": 0.02, "nor_conv_1x1": 0.3, "nor_conv_3x3": 0.6, "avg_pool_3x3": 0.15}
    profile = additive_profile(n)

    def value(text: str) -> float:
        cell = SPACE.parse(text)
        reached, total = {0}, 1.0
        for node, incoming in enumerate(cell.nodes(), start=1):
            if any(kind != "none" and source in reached for source, kind in incoming):
                reached.add(node)
        used = {3}
        edges = [(s, t, k) for t, incoming in enumerate(cell.nodes(), start=1) for s, k in incoming]
        for source, node, kind in sorted(edges, reverse=True):
            if kind != "none" and node in used:
                used.add(source)
        for source, node, kind in edges:
            total += costs[kind] if source in reached and node in used and kind != "none" else 0.0
        return total

    rows = [
        replace(m, value=value(m.subject), low=value(m.subject), high=value(m.subject))
        if m.kind == "architecture"
        else m
        for m in profile.measurements
    ]
    return replace(profile, measurements=tuple(rows))


def test_it_is_the_mean_over_all_architectures() -> None:
    cells = list(SPACE.enumerate())
    X = SPACE.encode(cells)
    values = np.random.default_rng(0).uniform(1, 2, len(cells))
    module = expectation_module(X, values)
    assert module is not None
    relaxed = probabilities(1.0, 3).float()
    chances = torch.stack([(relaxed.view(3, 1, 6, 5) * torch.tensor(X).view(1, -1, 6, 5)).sum(-1)]).prod(-1)[0]
    torch.testing.assert_close(module(relaxed), (chances.double() @ torch.tensor(values)).float(), rtol=1e-5, atol=0)
    torch.testing.assert_close(module(torch.tensor(X[:50])), torch.tensor(values[:50], dtype=torch.float32))
    assert module(relaxed[0]).shape == ()


@pytest.mark.parametrize("predictor", ["stack", "gbdt", "ridge"])
def test_any_predictor_of_a_listed_space_is_a_loss(predictor: str) -> None:
    trained = fit(additive_profile(80, noise=0.01), predictor)
    loss = LatencyLoss(trained)
    alphas = [torch.zeros(6, 5, requires_grad=True)]
    loss(alphas).backward()
    assert alphas[0].grad is not None
    assert alphas[0].grad.abs().sum() > 0
    sample = SPACE.sample(5, seed=0)
    np.testing.assert_allclose(trained.module()(torch.tensor(SPACE.encode(sample))), trained.predict(sample), rtol=1e-5)


def test_a_space_that_cannot_be_listed_has_none() -> None:
    trained = fit(additive_profile(40, space=DartsSpace()), "gbdt")
    with pytest.raises(NotDifferentiableError, match="none that can be listed"):
        trained.module()
    X = SPACE.encode(list(SPACE.enumerate()))
    assert decisions_of(X[:-1]) is None
    assert decisions_of(X + 0.5) is None
    assert decisions_of(X) == [list(range(first, first + 5)) for first in range(0, 30, 5)]


@pytest.mark.parametrize(("spread", "most"), [(0.1, 0.01), (1.0, 0.01), (4.0, 0.01)])
@pytest.mark.parametrize("predictor", ["mlp", "additive"])
@pytest.mark.parametrize("compiled", [False, True])
def test_modules_predict_what_is_expected_at_any_entropy(
    predictor: str, spread: float, most: float, compiled: bool
) -> None:
    profile = compiled_profile(400) if compiled else additive_profile(400, noise=0.02)
    trained = fit(profile, predictor)
    gap, cosine = gap_and_cosine(trained.module(), trained.module(exact=True), probabilities(spread))
    assert gap < most
    assert cosine > 0.99


def test_a_plain_network_fails_that_test() -> None:
    """A ReLU network that has seen one-hot encodings alone."""
    torch.manual_seed(0)
    profile = compiled_profile(400)
    X, y = torch.tensor(profile.X), torch.tensor(profile.y, dtype=torch.float32)
    network = nn.Sequential(nn.Linear(30, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(300):
        loss = ((network(X).squeeze(-1) / y - 1) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    every = SPACE.encode(list(SPACE.enumerate()))
    with torch.no_grad():
        exact = expectation_module(every, network(torch.tensor(every)).squeeze(-1).numpy())
    assert exact is not None
    gaps = [
        gap_and_cosine(nn.Sequential(network, nn.Flatten(0)), exact, probabilities(spread))[0] for spread in (0.1, 1)
    ]
    assert max(gaps) > 0.03


def gap_and_cosine(module: nn.Module, exact: nn.Module, relaxed: Tensor) -> tuple[float, float]:
    """Return the mean relative difference of two modules, and the mean cosine of their gradients by the logits."""
    gradients, values = [], []
    for each in (module, exact):
        logits = relaxed.view(-1, 6, 5).log().float().requires_grad_()
        found = each(torch.softmax(logits, dim=-1).flatten(1))
        found.sum().backward()
        assert logits.grad is not None
        gradients.append(logits.grad.flatten(1))
        values.append(found.detach())
    cosine = torch.nn.functional.cosine_similarity(*gradients).mean()
    return float((values[0] / values[1] - 1).abs().mean()), float(cosine)
