"""The probability flow of densities that are known at every level."""

from __future__ import annotations

import importlib
import math

import pytest
import torch
from torch import nn

from basin.energies.analytic.noised_gaussian_mixture import NoisedGaussianMixture
from basin.partition.probability_flow import probability_flow_likelihood, probability_flow_log_z
from basin.partition.quadrature import quadrature


def mixture(dim: int, generator: torch.Generator) -> NoisedGaussianMixture:
    """Three Gaussians, exact at every level, in float64."""
    energy = NoisedGaussianMixture(dim, 3)
    energy.weights.copy_(torch.tensor([0.5, 0.3, 0.2]))
    energy.means.copy_(2 * torch.randn(3, dim, generator=generator))
    energy.variances.copy_(0.1 + torch.rand(3, dim, generator=generator))
    return energy.double()


class Tilted(nn.Module):
    """An energy whose levels do not belong together: the flow's law is not exp(-E)/Z."""

    def __init__(self, inner, extra: float) -> None:
        super().__init__()
        self.inner, self.extra, self.event_shape = inner, extra, inner.event_shape

    def forward(self, x, sigma):
        bump = torch.exp(-0.5 * (x - 0.5).square().sum(1))
        return self.inner(x, sigma) + self.extra * bump / (1 + (sigma / 0.3) ** 2) + 0.4

    def at(self, sigma):
        return At(self, sigma)

    def base_law(self, sigma):
        return self.inner.moments(sigma)


class At(nn.Module):
    def __init__(self, energy, sigma):
        super().__init__()
        self.energy, self.sigma = energy, sigma

    def forward(self, x):
        return self.energy(x, self.sigma)


@pytest.mark.parametrize("dim", [1, 2, 5])
def test_the_likelihood_of_a_consistent_energy_is_its_own(dim, generator):
    energy = mixture(dim, generator)
    x = energy.sample_base(20, generator, 0.2)
    found = probability_flow_likelihood(energy, x, 0.2, 30.0, num_steps=25)
    truth = -energy(x, 0.2)
    assert float((found.log_prob - truth).abs().max()) < 2e-3
    assert bool(((found.log_prob - truth).abs() <= found.numerical_error + 1e-6).all())
    assert bool((found.standard_error == 0).all())


def test_the_stated_error_shrinks_as_order_four_does(generator):
    energy = mixture(2, generator)
    x = energy.sample_base(20, generator, 0.2)
    errors = [
        float(probability_flow_likelihood(energy, x, 0.2, 30.0, num_steps=n).numerical_error.mean())
        for n in (20, 40)
    ]
    assert 10 < errors[0] / errors[1] < 24


def test_the_opposite_sign_of_the_trace_is_seen(generator, monkeypatch):
    """The mutant."""
    module = importlib.import_module("basin.partition.probability_flow")
    right = module._velocity
    monkeypatch.setattr(
        module,
        "_velocity",
        lambda *args: (right(*args)[0], -right(*args)[1]),
    )
    energy = mixture(2, generator)
    x = energy.sample_base(20, generator, 0.2)
    found = probability_flow_likelihood(energy, x, 0.2, 30.0, num_steps=10)
    assert float((found.log_prob + energy(x, 0.2)).abs().min()) > 1


@pytest.mark.statistical
def test_probes_scatter_as_their_standard_error_says(generator):
    energy = mixture(5, generator)
    energy.axes.copy_(torch.linalg.qr(torch.randn(3, 5, 5, generator=generator).double())[0])
    x = energy.sample_base(100, generator, 0.2)
    found = probability_flow_likelihood(
        energy, x, 0.2, 30.0, num_steps=10, num_probes=30, generator=generator
    )
    exact = probability_flow_likelihood(energy, x, 0.2, 30.0, num_steps=10)
    z = (found.log_prob - exact.log_prob) / found.standard_error
    assert abs(float(z.mean())) < 3.9 / 10 * 1.1
    assert 0.75 < float(z.std()) < 1.35


@pytest.mark.statistical
def test_log_z_of_an_energy_whose_levels_do_not_belong_together(generator):
    """By quadrature."""
    energy = Tilted(mixture(2, generator), 1.5).double()
    truth = quadrature(energy.at(0.3), [[-12.0, 12.0]] * 2)
    found = probability_flow_log_z(
        energy, 0.3, 30.0, num_samples=500, num_steps=15, generator=generator
    )
    assert found.lower < truth.log_z < found.upper
    assert found.error < 0.1
    assert found.effective_sample_size is not None


def test_float32_rows_and_shapes(generator):
    energy = mixture(2, generator).float()
    x = energy.sample_base(3, generator, 0.5)
    found = probability_flow_likelihood(energy, x, 0.5, 20.0, num_steps=20, block=2)
    assert found.log_prob.shape == (3,)
    assert found.log_prob.dtype == torch.float64
    assert float((found.log_prob + energy(x, 0.5)).abs().max()) < 5e-3


def test_wrong_arguments_say_what_is_wrong(generator):
    energy = mixture(2, generator)
    x = torch.zeros(2, 2, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"sigma must lie below sigma_max, got 2\.0 and 1\.0"):
        probability_flow_likelihood(energy, x, 2.0, 1.0)
    with pytest.raises(ValueError, match="generator must be given for 4 probes"):
        probability_flow_likelihood(energy, x, 0.1, 1.0, num_probes=4)
    with pytest.raises(ValueError, match="x must be finite"):
        probability_flow_likelihood(energy, x * math.nan, 0.1, 1.0)
    with pytest.raises(ValueError, match="energy must have a method at"):
        probability_flow_likelihood(lambda x, s: x.sum(1), x, 0.1, 1.0)
    wide = NoisedGaussianMixture(17)
    wide.base_law = wide.moments
    with pytest.raises(ValueError, match="at most 16 dimensions"):
        probability_flow_log_z(wide, 0.1, 1.0, generator=generator)
