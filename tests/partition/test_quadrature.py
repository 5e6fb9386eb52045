"""log Z by quadrature against closed forms, and its stated error against the real one."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from basin.partition.blocks import energies_in_blocks
from basin.partition.quadrature import find_bounds, quadrature


def _gaussian(dim: int, centre: float = 0.0, sd: float = 1.0):
    return lambda x: 0.5 * ((x - centre) / sd).square().flatten(1).sum(1)


def _log_z(dim: int, sd: float = 1.0) -> float:
    return dim * math.log(sd * math.sqrt(2 * math.pi))


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_gaussian_in_a_given_box(dim: int) -> None:
    found = quadrature(_gaussian(dim), [[-8.0, 8.0]] * dim)
    assert found.kind == "exact"
    assert abs(found.log_z - _log_z(dim)) < 1e-4
    assert found.lower <= _log_z(dim) <= found.upper


@pytest.mark.parametrize("dim", [1, 2, 3])
@pytest.mark.parametrize(("centre", "sd"), [(0.0, 1.0), (100.0, 0.5), (-3.0, 40.0)])
def test_gaussian_in_a_box_that_is_looked_for(dim: int, centre: float, sd: float) -> None:
    found = quadrature(_gaussian(dim, centre, sd), event_shape=(dim,))
    assert abs(found.log_z - _log_z(dim, sd)) < 2e-4
    assert found.lower - 1e-6 <= _log_z(dim, sd) <= found.upper + 1e-6


def test_correlated_gaussian_and_two_far_modes() -> None:
    precision = torch.tensor([[2.0, 1.5], [1.5, 2.0]], dtype=torch.float64)
    truth = math.log(2 * math.pi) - 0.5 * math.log(2 * 2 - 1.5 * 1.5)
    correlated = quadrature(
        lambda x: 0.5 * torch.einsum("ni,ij,nj->n", x, precision, x), event_shape=(2,)
    )
    assert abs(correlated.log_z - truth) < 1e-4

    def modes(x: Tensor) -> Tensor:
        near, far = (x + 20).square().sum(1) / 2, (x - 20).square().sum(1) / 2
        return -torch.logaddexp(-near, -far)

    assert abs(quadrature(modes, event_shape=(2,)).log_z - math.log(4 * math.pi)) < 1e-4


def _two_modes(far: float, sd: float, share: float):
    def energy(x: Tensor) -> Tensor:
        near = math.log(1 - share) - 0.5 * (x / sd).square().sum(1)
        away = math.log(share) - 0.5 * ((x - far) / sd).square().sum(1)
        return -torch.logaddexp(near, away)

    return energy


@pytest.mark.parametrize("dim", [1, 2])
def test_a_mode_beyond_a_gap_is_looked_for(dim: int) -> None:
    """Mutant: a search that stops after two empty shells, which is exact but for log 0.7."""
    found = quadrature(_two_modes(11.0, 0.3, 0.3), event_shape=(dim,))
    assert abs(found.log_z - _log_z(dim, 0.3)) < 1e-4
    assert found.lower <= _log_z(dim, 0.3) <= found.upper


def test_a_mode_very_far_out_is_found_where_points_name_it() -> None:
    energy = _two_modes(300.0, 0.5, 0.05)
    assert float(find_bounds(energy, (1,)).max()) < 100
    box = find_bounds(energy, (1,), points=torch.tensor([[0.1], [300.4]]))
    assert abs(quadrature(energy, box).log_z - _log_z(1, 0.5)) < 1e-4
    with pytest.raises(ValueError, match="points must have shape"):
        find_bounds(energy, (1,), points=torch.zeros(3, 2))
    with pytest.raises(ValueError, match="points must be finite"):
        find_bounds(energy, (1,), points=torch.full((3, 1), math.nan))


def test_the_stated_error_holds_the_real_one_where_the_density_jumps() -> None:
    def disc(x: Tensor) -> Tensor:  # uniform on the unit disc, not aligned with any cell
        return torch.where(x.square().sum(1) < 1, 0.0, math.inf)

    found = quadrature(disc, [[-1.3, 1.2], [-1.1, 1.4]], max_evaluations=200_000)
    assert found.error > 1e-6
    assert found.lower <= math.log(math.pi) <= found.upper


def test_mass_outside_the_box_is_in_the_error() -> None:
    """Mutant: a quadrature that looks only inside its box claims an error it does not have."""
    tails = lambda x: x.abs().sum(1)  # noqa: E731
    truth = math.log(4)
    honest = quadrature(tails, [[-5.0, 5.0]] * 2)
    assert honest.lower <= truth <= honest.upper
    mutant = quadrature(tails, [[-5.0, 5.0]] * 2, checks_outside=False)
    assert not mutant.lower <= truth <= mutant.upper


def test_an_energy_that_does_not_fall_off_has_no_upper_bound() -> None:
    def rising(x: Tensor) -> Tensor:
        return torch.where(x.abs() < 2, 0.5 * x.square(), 2 - 0.1 * (x.abs() - 2)).sum(1)

    found = quadrature(rising, [[-3.0, 3.0]])
    assert found.upper == math.inf
    assert "infinite" in str(found)
    with pytest.raises(ValueError, match="must fall off"):
        find_bounds(rising, (1,))


@pytest.mark.global_generator
def test_networks_in_float32_and_plain_functions_around_them() -> None:
    class Network(nn.Module):
        event_shape = (2,)

        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Linear(2, 16), nn.SiLU(), nn.Linear(16, 1))

        def forward(self, x: Tensor) -> Tensor:
            return self.body(x).squeeze(1) + 0.5 * x.square().sum(1)

    network = Network()
    found = quadrature(network)
    around = quadrature(lambda x: network(x), event_shape=(2,))
    double = quadrature(Network.double(network))
    assert abs(found.log_z - double.log_z) < 1e-5
    assert abs(around.log_z - found.log_z) < 1e-12
    assert all(parameter.grad is None for parameter in network.parameters())


def test_events_of_other_shapes() -> None:
    shaped = quadrature(_gaussian(2), event_shape=(1, 2))
    assert abs(shaped.log_z - _log_z(2)) < 1e-4
    assert find_bounds(_gaussian(2), (1, 2)).shape == (1, 2, 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bounds": [[0.0, 1.0]] * 4}, "1 to 3 dimensions, got 4; use gaussian_reference"),
        ({"bounds": [[1.0, 0.0]]}, "lower < upper"),
        ({"bounds": [[0.0, math.inf]]}, "must be finite"),
        ({"bounds": [0.0, 1.0, 2.0]}, r"shape \(\*event, 2\)"),
        ({}, "give bounds or event_shape"),
        ({"bounds": [[0.0, 1.0]], "tolerance": 0.0}, "tolerance must be positive, got 0.0"),
    ],
)
def test_bad_arguments(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        quadrature(_gaussian(1), **arguments)


def test_bad_energies() -> None:
    box = [[-1.0, 1.0]]
    with pytest.raises(ValueError, match=r"got nan at"):
        quadrature(lambda x: x.sum(1) * math.nan, box)
    with pytest.raises(ValueError, match=r"squeeze"):
        quadrature(lambda x: x, box)
    with pytest.raises(ValueError, match="mass inside the box"):
        quadrature(lambda x: torch.full((len(x),), math.inf), box)


def test_blocks_do_not_change_the_values() -> None:
    points = torch.linspace(-3, 3, 101)[:, None]
    whole = energies_in_blocks(_gaussian(1), points, block=1000)
    assert torch.equal(whole, energies_in_blocks(_gaussian(1), points, block=7))
