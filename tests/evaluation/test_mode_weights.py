"""Shares of samples in each mode: exact draws pass, wrong weights are found."""

from __future__ import annotations

import pytest
import torch

from basin.evaluation.mode_weights import mode_weights
from helpers.known_densities import IsotropicMixture, two_blobs


def test_exact_draws_have_uniform_p_values_and_an_error_like_the_floor(
    generator: torch.Generator,
) -> None:
    truth = IsotropicMixture([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0]], [0.5, 0.3, 0.2], 0.3)
    checks = [
        mode_weights(truth.sample(2000, generator), truth, generator, num_simulations=500)
        for _ in range(200)
    ]
    below = sum((check.p_value or 0) < 0.05 for check in checks)
    assert below <= 22  # 10 expected, 3.9 standard errors above
    mean_error = sum(check.value for check in checks) / len(checks)
    assert mean_error == pytest.approx(checks[0].floor or 0, rel=0.25)


def test_wrong_weights_are_found(generator: torch.Generator) -> None:
    found = mode_weights(two_blobs(0.75).sample(5000, generator), two_blobs(0.8), generator)
    assert abs(found.value - 0.05) < 4 * (found.standard_error or 0)
    assert found.p_value is not None
    assert found.p_value < 1e-3
    assert found.floor is not None
    assert found.floor < 0.01


def test_a_mode_that_was_never_visited(generator: torch.Generator) -> None:
    samples = two_blobs(1 - 1e-12).sample(1000, generator)
    found = mode_weights(samples, two_blobs(0.8), generator)
    assert found.value == pytest.approx(0.2)
    assert found.standard_error is not None
    assert found.standard_error > 0


def test_bad_samples(generator: torch.Generator) -> None:
    truth = two_blobs()
    with pytest.raises(ValueError, match=r"samples must have shape \(batch, 2\), got \(10, 3\)"):
        mode_weights(torch.zeros(10, 3), truth, generator)
    with pytest.raises(ValueError, match="samples must be finite"):
        mode_weights(torch.full((10, 2), torch.nan), truth, generator)
