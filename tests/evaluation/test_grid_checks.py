"""Checks on a two-dimensional grid: KL, total variation, log Z, mode weights; all closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from basin.evaluation.grid import grid_of
from basin.evaluation.kl_to_truth import kl_to_truth
from basin.evaluation.log_z_error import log_z_error
from basin.evaluation.mode_weights import mode_weights_of_energy
from basin.evaluation.total_variation import total_variation
from basin.partition.log_z import LogZ
from helpers.known_densities import IsotropicMixture, standard_gaussian, two_blobs


def _gaussian_energy(mean: float, sd: float, constant: float = 0.0):
    return lambda x: 0.5 * ((x - mean) / sd).square().sum(1) + constant


@pytest.mark.parametrize(("mean", "sd"), [(0.0, 1.0), (0.5, 1.0), (0.0, 1.4), (-1.0, 0.6)])
def test_kl_between_gaussians(mean: float, sd: float) -> None:
    """KL(N(0, I) ‖ N(m1, v I)) = log v + (1 + m²)/v - 1 in two dimensions; constants drop out."""
    found = kl_to_truth(_gaussian_energy(mean, sd, constant=5.0), standard_gaussian())
    variance = sd**2
    truth = math.log(variance) + (1 + mean**2) / variance - 1
    assert abs(found.value - truth) < 1e-6
    assert found.standard_error is not None
    assert abs(found.value - truth) <= found.standard_error + 1e-9
    assert abs(found.details["log_z"] - (math.log(2 * math.pi * variance) - 5)) < 1e-6


def test_the_wrong_direction_is_a_mutant_that_fails() -> None:
    """KL(q‖p) is another number: the test above tells them apart."""
    found = kl_to_truth(_gaussian_energy(0.0, 1.4), standard_gaussian()).value
    reverse = -math.log(1.96) + 1.96 - 1
    assert abs(found - reverse) > 0.05


def test_a_model_that_puts_mass_outside_the_box_of_the_truth_is_charged_for_it() -> None:
    """Mutant: normalising over the box alone would call this model perfect."""
    truth = standard_gaussian()

    def energy(x: Tensor) -> Tensor:  # the truth, and a copy of half the weight 12 away
        far = -0.5 * ((x[:, 0] - 12).square() + x[:, 1].square())
        return -torch.logaddexp(truth.log_prob(x), far - math.log(2 * math.pi))

    found = kl_to_truth(energy, truth)
    assert abs(found.value - math.log(2)) < 1e-3
    assert abs(found.details["share_outside"] - 0.5) < 1e-3
    grid = grid_of(energy, truth)
    assert abs(grid.log_z_inside()) < 1e-3  # what the mutant divides by
    assert abs(found.details["inside_the_box"]) < 1e-3
    assert abs(total_variation(energy, truth, grid=grid).value - 0.5) < 1e-3


def test_a_perfect_model_scores_zero_to_rounding() -> None:
    truth = two_blobs().blurred(0.1)
    energy = lambda x: -truth.log_prob(x)  # noqa: E731
    grid = grid_of(energy, truth)
    assert abs(kl_to_truth(energy, truth, grid=grid).value) < 1e-12
    assert abs(total_variation(energy, truth, grid=grid).value) < 1e-12
    assert abs(log_z_error(energy, grid=grid).value) < 1e-9
    assert mode_weights_of_energy(energy, truth, grid=grid).value < 1e-9


def test_kl_is_not_negative_and_its_error_is_honest_where_the_truth_jumps() -> None:
    class Square(IsotropicMixture):
        """Uniform on [-1, 1]², in a box whose cells its border cuts."""

        def __init__(self) -> None:
            super().__init__([[0.0, 0.0]], [1.0], 1.0)
            self.bounds = torch.tensor([[-1.31, 1.27], [-1.4, 1.17]])

        def log_prob(self, x: Tensor) -> Tensor:
            is_inside = x.abs().amax(dim=1) < 1
            return torch.where(is_inside, math.log(0.25), -math.inf).double()

    found = kl_to_truth(_gaussian_energy(0.0, 1.0), Square())
    truth = math.log(0.25) + 0.5 * 2 / 3 + math.log(2 * math.pi)
    assert found.value >= 0
    assert abs(found.value - truth) < 0.02
    assert found.standard_error is not None  # of the jump, and of what lies beyond twice the box
    assert abs(found.value - truth) <= found.standard_error


@pytest.mark.parametrize("variance", [0.25, 4.0])
def test_a_box_that_cuts_the_truth_is_in_the_error(variance: float) -> None:
    """3% of the truth lie outside; two resolutions, the mutant, agree on the rest to 1e-5."""
    truth = standard_gaussian()
    energy = _gaussian_energy(0.0, math.sqrt(variance))
    grid = grid_of(energy, truth, bounds=[[-2.2, 2.2], [-9.0, 9.0]])
    assert grid.truth_missing == pytest.approx(math.erfc(2.2 / math.sqrt(2)), rel=1e-4)
    exact = math.log(variance) + 1 / variance - 1
    found = kl_to_truth(energy, truth, grid=grid)
    assert 0.05 < abs(found.value - exact) <= (found.standard_error or 0)
    whole = total_variation(energy, truth)
    cut = total_variation(energy, truth, grid=grid)
    assert 0.01 < abs(cut.value - whole.value) <= (cut.standard_error or 0)
    assert (whole.standard_error or 1) < 1e-3


def test_a_model_that_does_not_fall_off_says_so() -> None:
    def rising(x: Tensor) -> Tensor:
        radius = x.norm(dim=1)
        return torch.where(radius < 6, 0.5 * radius.square(), 18 - (radius - 6))

    found = kl_to_truth(rising, standard_gaussian())
    assert not found.details["falls_off"]
    assert kl_to_truth(_gaussian_energy(0.0, 1.0), standard_gaussian()).details["falls_off"]


def test_a_density_of_zero_where_the_truth_has_mass_costs_infinitely_much() -> None:
    def half(x: Tensor) -> Tensor:
        return torch.where(x[:, 0] > 0, 0.5 * x.square().sum(1), math.inf)

    assert kl_to_truth(half, standard_gaussian()).value == math.inf


def test_log_z_error_is_claimed_minus_true() -> None:
    energy = _gaussian_energy(0.0, 1.0)
    true = math.log(2 * math.pi)
    assert abs(log_z_error(energy, bounds=[[-9.0, 9.0]] * 2).value + true) < 1e-6
    claimed = LogZ(true + 0.3, 0.1, true, true + 0.5, None, "heat equation", "interval")
    found = log_z_error(energy, claimed, bounds=[[-9.0, 9.0]] * 2)
    assert abs(found.value - 0.3) < 1e-6
    assert found.details["claimed_standard_error"] == 0.1


def test_mode_weights_of_a_model_with_the_wrong_ones() -> None:
    """The blindness of score matching: right blobs, wrong weights. The Fisher divergence of this
    model is nil, this check says 0.3."""
    truth, model = two_blobs(0.8), two_blobs(0.5)
    found = mode_weights_of_energy(lambda x: -model.log_prob(x), truth)
    assert abs(found.value - 0.3) < 1e-6
    assert found.details["shares"] == pytest.approx([0.5, 0.5])
    assert found.floor is not None
    assert found.floor < 1e-9


def test_total_variation_between_gaussians() -> None:
    found = total_variation(
        lambda x: 0.5 * (x - torch.tensor([1.0, 0.0])).square().sum(1), standard_gaussian()
    )
    assert abs(found.value - math.erf(0.5 / math.sqrt(2))) < 2e-4


def test_networks_in_float32_in_bounded_time() -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            generator = torch.Generator().manual_seed(0)
            self.w = nn.Parameter(torch.randn(2, 128, generator=generator))
            self.v = nn.Parameter(torch.randn(128, 128, generator=generator) / 11)

        def forward(self, x: Tensor) -> Tensor:
            hidden = torch.nn.functional.silu(x @ self.w) @ self.v
            return torch.nn.functional.silu(hidden).mean(1) + 0.5 * x.square().sum(1)

    network = Network()
    found = kl_to_truth(network, standard_gaussian(), num_points=200)
    assert math.isfinite(found.value)
    assert found.value > 0
    assert network.w.grad is None


def test_bad_arguments() -> None:
    energy = _gaussian_energy(0.0, 1.0)
    with pytest.raises(ValueError, match="density must be two-dimensional"):
        kl_to_truth(energy, standard_gaussian(3))
    with pytest.raises(ValueError, match="mass 1 inside the box"):
        grid_of(energy, standard_gaussian(), bounds=[[0.0, 1.0], [0.0, 1.0]])
    with pytest.raises(ValueError, match="bounds must be finite"):
        grid_of(energy, standard_gaussian(), bounds=[[0.0, math.inf], [0.0, 1.0]])
    with pytest.raises(ValueError, match="squeeze"):
        kl_to_truth(lambda x: x[:, :1], standard_gaussian())
