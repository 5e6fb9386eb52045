"""Energies of data, samples and noise: exact draws pass, cold and hot ones are found."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from basin.evaluation.energy_gap import energy_gap


def _energy(x: Tensor) -> Tensor:
    return 0.5 * x.square().sum(1)


def test_exact_draws(generator: torch.Generator) -> None:
    data, samples = (torch.randn(4000, 3, generator=generator) for _ in range(2))
    found = energy_gap(_energy, data, samples, generator)
    assert abs(found.value) < 3.9 * (found.standard_error or 0)
    assert (found.p_value or 0) > 1e-4
    error = found.details["auc_samples_standard_error"]
    assert abs(found.details["auc_samples"] - 0.5) < 3.9 * error


@pytest.mark.parametrize("scale", [0.8, 1.25])
def test_cold_and_hot_samples(scale: float, generator: torch.Generator) -> None:
    data, samples = (torch.randn(2000, 2, generator=generator) for _ in range(2))
    found = energy_gap(_energy, data, scale * samples, generator)
    truth = scale**2 - 1  # d/2 (scale² - 1) with d = 2
    assert abs(found.value - truth) < 3.9 * (found.standard_error or 0)
    assert (found.p_value or 1) < 1e-4
    assert (found.details["auc_samples"] > 0.5) == (scale > 1)
    mutant = -found.value  # data minus samples
    assert abs(mutant - truth) > 3.9 * (found.standard_error or 0)


def test_noise_of_the_same_moments_is_told_from_a_ring(generator: torch.Generator) -> None:
    angle = 2 * math.pi * torch.rand(1000, generator=generator)
    ring = torch.stack([angle.cos(), angle.sin()], dim=1)
    ring = ring + 0.02 * torch.randn(1000, 2, generator=generator)
    energy = lambda x: (x.norm(dim=1) - 1).square() / (2 * 0.02**2)  # noqa: E731
    found = energy_gap(energy, ring[:500], ring[500:], generator)
    assert found.details["auc_noise"] > 0.95
    assert abs(found.details["auc_samples"] - 0.5) < 0.1


def test_noise_of_the_callers_choice(generator: torch.Generator) -> None:
    data = torch.tensor([[0.0, 0.0], [1.0, 1.0]]).repeat(50, 1)
    shuffled = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).repeat(50, 1)
    energy = lambda x: (x[:, 0] - x[:, 1]).abs()  # noqa: E731
    found = energy_gap(energy, data, data, generator, noise=shuffled)
    assert found.details["auc_noise"] == 1.0
    assert found.details["mean_noise"] == 1.0
    with pytest.raises(ValueError, match="noise must have shape"):
        energy_gap(energy, data, data, generator, noise=shuffled[:, :1])


def test_bad_arguments(generator: torch.Generator) -> None:
    data = torch.randn(10, 2, generator=generator)
    with pytest.raises(ValueError, match="samples must have shape"):
        energy_gap(_energy, data, data[:, :1], generator)
    with pytest.raises(ValueError, match="two rows or more, got 1, 10"):
        energy_gap(_energy, data[:1], data, generator)
    outside = lambda x: torch.where(x[:, 0] > 0, 0.0, math.inf)  # noqa: E731
    with pytest.raises(ValueError, match="energies of held_out must be finite"):
        energy_gap(outside, data, data, generator)
