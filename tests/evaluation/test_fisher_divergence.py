"""The Fisher divergence between Gaussians in closed form, and its blindness."""

from __future__ import annotations

import math

import pytest
import torch

from basin.evaluation.fisher_divergence import fisher_divergence
from helpers.known_densities import standard_gaussian, two_blobs


@pytest.mark.parametrize(("mean", "variance"), [(0.0, 2.0), (1.0, 1.0), (0.5, 0.5)])
def test_between_gaussians(mean: float, variance: float, generator: torch.Generator) -> None:
    """E‖-x + (x - m)/v‖² = d ((1/v - 1)² + (m/v)²) under N(0, I)."""
    energy = lambda x: (x - mean).square().sum(1) / (2 * variance)  # noqa: E731
    found = fisher_divergence(energy, standard_gaussian(3), 40_000, generator)
    truth = 3 * ((1 / variance - 1) ** 2 + (mean / variance) ** 2)
    assert abs(found.value - truth) < max(3.9 * (found.standard_error or 0), 1e-9)
    mutant = truth / 2  # the convention with a half
    assert abs(found.value - mutant) > 0.05 * truth
    assert found.details["of_zero_score"] == pytest.approx(3.0, rel=0.05)


def test_a_perfect_model_scores_zero(generator: torch.Generator) -> None:
    truth = two_blobs()
    found = fisher_divergence(lambda x: -truth.log_prob(x), truth, 2000, generator)
    assert found.value < 1e-20


def test_it_is_blind_to_the_weights_of_far_modes(generator: torch.Generator) -> None:
    model = two_blobs(0.5)
    found = fisher_divergence(lambda x: -model.log_prob(x), two_blobs(0.8), 2000, generator)
    assert found.value < 1e-6


def test_blocks_seed_and_errors() -> None:
    energy = lambda x: x.square().sum(1)  # noqa: E731
    truth = standard_gaussian()
    whole = fisher_divergence(energy, truth, 1000)
    assert math.isclose(whole.value, fisher_divergence(energy, truth, 1000, block=64).value)
    with pytest.raises(ValueError, match="num_samples must be two or more, got 1"):
        fisher_divergence(energy, truth, 1)
