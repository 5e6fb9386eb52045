"""The ladder of denoising score matching against its closed form on a Gaussian.

For x ~ N(0, v I) and the energy a |y|^2 / 2(v + sigma^2), with r = sigma^2 / (v + sigma^2):
    sigma^2/d E|s + z/sigma|^2 = a^2 r - 2 a r + 1
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from basin.objectives.multi_level_denoising_score_matching import MultiLevelDenoisingScoreMatching

VARIANCE = 0.8


class ScaledGaussian(nn.Module):
    def __init__(self, scale):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale).double())

    def forward(self, x, sigma):
        return self.scale * x.square().sum(1) / (2 * (VARIANCE + sigma**2))


def gradient(weight, num_batches=150):
    """Mean of the objective's gradient in the scale, and its standard error."""
    objective = MultiLevelDenoisingScoreMatching(sigma_min=0.2, sigma_max=4.0, num_noised=32)
    generator = torch.Generator().manual_seed(3)
    rows = torch.Generator().manual_seed(4)
    energy = ScaledGaussian(0.7)
    x = VARIANCE**0.5 * torch.randn(num_batches, 64, 3, generator=rows, dtype=torch.float64)
    state = objective.init(x[0], generator)
    values = []
    for batch in x:
        loss = objective(energy, batch, state, generator)
        values.append(weight * torch.autograd.grad(loss.value, energy.scale)[0])
    stacked = torch.stack(values)
    return stacked.mean(), stacked.std() / num_batches**0.5


def exact():
    levels = torch.exp(torch.linspace(math.log(0.2), math.log(4.0), 20_001)).double()
    ratio = levels**2 / (VARIANCE + levels**2)
    return (2 * 0.7 * ratio - 2 * ratio).mean()


@pytest.mark.statistical
def test_gradient_is_the_closed_form():
    mean, error = gradient(1.0)
    assert (mean - exact()).abs() < 3.9 * error


@pytest.mark.statistical
def test_the_half_of_other_papers_is_caught():
    mean, error = gradient(0.5)
    assert (mean - exact()).abs() > 3.9 * error


@pytest.mark.parametrize("bad", [{"sigma_min": 0.0}, {"sigma_max": -1.0}, {"num_noised": 0}])
def test_bad_settings_are_named(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        MultiLevelDenoisingScoreMatching(**bad)
