"""Importance sampling from a Gaussian: closed forms, honest errors, collapse."""

from __future__ import annotations

import math

import pytest
import torch

from basin.partition.gaussian_reference import gaussian_reference


def _energy(x: torch.Tensor) -> torch.Tensor:
    return 0.5 * x.flatten(1).square().sum(1)


def _log_z(dim: int) -> float:
    return 0.5 * dim * math.log(2 * math.pi)


def test_the_right_proposal_has_no_error(generator: torch.Generator) -> None:
    covariance = torch.tensor([[2.0, 0.5], [0.5, 1.0]], dtype=torch.float64)
    precision = torch.linalg.inv(covariance)
    found = gaussian_reference(
        lambda x: 0.5 * torch.einsum("ni,ij,nj->n", x - 3, precision, x - 3),
        [3.0, 3.0],
        covariance,
        num_samples=500,
        generator=generator,
    )
    assert abs(found.log_z - 0.5 * math.log((2 * math.pi) ** 2 * 1.75)) < 1e-10
    assert found.standard_error < 1e-6
    assert found.effective_sample_size == pytest.approx(500)


def test_estimates_scatter_as_their_standard_errors_say(generator: torch.Generator) -> None:
    """200 repetitions: mean and spread of (estimate - truth) / standard error; the mutant whose
    proposal is not normalised is off by hundreds of them."""
    z = []
    for _ in range(200):
        found = gaussian_reference(
            _energy, torch.zeros(6), 1.2, num_samples=1000, generator=generator
        )
        z.append((found.log_z - _log_z(6)) / found.standard_error)
    values = torch.tensor(z)
    assert abs(float(values.mean())) < 3.9 / math.sqrt(200) + 0.05  # bias of the logarithm
    assert 0.8 < float(values.std()) < 1.25
    mutant = found.log_z + 6 * math.log(1.2)  # forgets the determinant of the proposal
    assert not found.lower <= mutant <= found.upper


def test_events_with_a_shape_and_a_scale_for_each_coordinate(generator: torch.Generator) -> None:
    scale = torch.full((2, 3), 1.1)
    found = gaussian_reference(_energy, torch.zeros(2, 3), scale, generator=generator)
    assert abs(found.log_z - _log_z(6)) < 5 * found.standard_error


def test_a_collapsed_estimate_is_refused(generator: torch.Generator) -> None:
    with pytest.raises(RuntimeError, match=r"effective_sample_size must be at least 100"):
        gaussian_reference(_energy, torch.full((50,), 3.0), 1.0, generator=generator)


@pytest.mark.parametrize(
    ("covariance", "message"),
    [
        (-1.0, "must be positive, got -1.0"),
        ([[1.0, 2.0], [2.0, 1.0]], "positive definite"),
        ([1.0, 1.0, 1.0], r"of shape \(2,\) or of shape \(2, 2\), got \(3,\)"),
    ],
)
def test_bad_covariances(covariance, message: str, generator: torch.Generator) -> None:
    with pytest.raises(ValueError, match=message):
        gaussian_reference(_energy, [0.0, 0.0], covariance, generator=generator)
