"""The relative denoising loss on Gaussians, where its best value is σ-dependent and known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from basin.evaluation.fisher_divergence import fisher_divergence
from basin.evaluation.relative_loss import relative_loss
from helpers.known_densities import standard_gaussian, two_blobs


@pytest.mark.parametrize("sigma", [0.1, 1.0, 3.0])
def test_the_best_score_of_a_gaussian(sigma: float, generator: torch.Generator) -> None:
    """Var(z/σ | y) = 1/σ² · 1/(1 + σ²) for N(0, 1): the ratio is 1/(1 + σ²)."""
    x = standard_gaussian(3).sample(20_000, generator)
    exact = lambda y: 0.5 * y.square().sum(1) / (1 + sigma**2)  # noqa: E731
    found = relative_loss(exact, x, sigma, generator, density=standard_gaussian(3))
    truth = 1 / (1 + sigma**2)
    assert abs(found.value - truth) < 3.9 * (found.standard_error or 0) + 1e-9
    assert found.floor == pytest.approx(found.value, abs=1e-9)
    assert found.about.density == "p_sigma"
    wrong_level = lambda y: 0.5 * y.square().sum(1)  # noqa: E731  models p, not pσ
    mutant = relative_loss(wrong_level, x, sigma, generator)
    if sigma > 0.5:
        assert mutant.value - truth > 3.9 * (mutant.standard_error or 0)


def test_the_zero_score_scores_one(generator: torch.Generator) -> None:
    x = standard_gaussian().sample(100, generator)
    assert relative_loss(lambda y: 0 * y.sum(1), x, 0.5, generator).value == pytest.approx(1.0)


def test_excess_over_the_floor_is_the_fisher_divergence(generator: torch.Generator) -> None:
    """DSM - C = E_{pσ}‖∇log pσ - s‖², DESIGN §1."""
    truth, sigma = two_blobs(), 0.4
    energy = lambda y: 0.5 * y.square().sum(1)  # noqa: E731
    x = truth.sample(40_000, generator)
    loss = relative_loss(energy, x, sigma, generator, density=truth)
    assert loss.floor is not None
    excess = (loss.value - loss.floor) * loss.details["trivial"]
    fisher = fisher_divergence(energy, truth.blurred(sigma), 40_000, generator)
    assert excess == pytest.approx(fisher.value, rel=0.02)


def test_bad_arguments(generator: torch.Generator) -> None:
    def energy(y: Tensor) -> Tensor:
        return y.square().sum(1)

    with pytest.raises(ValueError, match=r"sigma must be positive, got 0\.0"):
        relative_loss(energy, torch.zeros(5, 2), 0.0, generator)
    with pytest.raises(ValueError, match="x must have two rows or more, got 1"):
        relative_loss(energy, torch.zeros(1, 2), 0.1, generator)
