"""Paths: right energies between the ends, the ends themselves at the ends, scores that match."""

from __future__ import annotations

import pytest
import torch

from basin.core.gradients import energy_and_score, score
from basin.core.types import Path
from basin.paths.geometric import Geometric
from basin.paths.noised import Noised
from basin.paths.tempered import Tempered
from basin.schedules.constant import Constant
from basin.schedules.geometric import Geometric as GeometricSchedule
from basin.schedules.linear import Linear
from helpers.energies import AsymmetricMixture, DiagonalGaussian, NoisyGaussian

BASE, TARGET = DiagonalGaussian([0.5, 1.0]), AsymmetricMixture()
PATHS = {
    "geometric": Geometric(BASE, TARGET),
    "tempered": Tempered(TARGET),
    "noised": Noised(NoisyGaussian(), GeometricSchedule(5.0, 0.1)),
}


@pytest.mark.parametrize("name", PATHS)
def test_is_a_path_and_refuses_t_outside_the_unit_interval(name):
    assert isinstance(PATHS[name], Path)
    for t in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="t must lie between 0 and 1"):
            PATHS[name](t)


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("t", [0.0, 0.3, 1.0])
def test_score_is_minus_the_gradient_of_the_energy(name, t, generator):
    energy = PATHS[name](t)
    x = torch.randn(7, 2, generator=generator, dtype=torch.float64)
    values, by_autograd = energy_and_score(energy, x)
    assert values.shape == (7,)
    assert torch.allclose(score(energy, x), by_autograd)
    assert torch.allclose(energy_and_score(energy, x)[0], energy(x))


def test_score_of_a_weighted_energy_keeps_a_graph_to_the_parameters(generator):
    energy = NoisyGaussian()
    middle = Geometric(BASE, energy.at(0.5))(0.5)
    x = torch.randn(7, 2, generator=generator)
    score(middle, x, create_graph=True).square().sum().backward()
    assert energy.mean.grad is not None
    assert energy.mean.grad.abs().sum() > 0
    assert not score(middle, x).requires_grad


def test_geometric_mixes_energies_and_ends_in_them(generator):
    x = torch.randn(5, 2, generator=generator)
    path = Geometric(BASE, TARGET)
    assert path(0.0) is BASE
    assert path(1.0) is TARGET
    assert torch.allclose(path(0.25)(x), 0.75 * BASE(x) + 0.25 * TARGET(x))


def test_an_infinite_base_does_not_spoil_the_target():
    path = Geometric(lambda x: torch.full((len(x),), torch.inf), BASE)
    assert torch.isfinite(path(1.0)(torch.zeros(1, 2))).all()


def test_tempered_divides_by_the_temperature(generator):
    x = torch.randn(5, 2, generator=generator)
    path = Tempered(TARGET, Linear(4.0, 1.0))
    assert torch.allclose(path(0.0)(x), TARGET(x) / 4)
    assert torch.allclose(path(0.5)(x), TARGET(x) / 2.5)
    assert path(1.0) is TARGET
    with pytest.raises(ValueError, match="temperature must be positive"):
        Tempered(TARGET, Constant(0.0))(0.5)


def test_noised_fixes_the_level_of_the_schedule():
    path = Noised(NoisyGaussian(), GeometricSchedule(4.0, 1.0))
    assert [path(t).sigma for t in (0.0, 0.5, 1.0)] == pytest.approx([4.0, 2.0, 1.0])
    with pytest.raises(ValueError, match="sigma must be positive"):
        Noised(NoisyGaussian(), Linear(1.0, 0.0))(1.0)
    with pytest.raises(ValueError, match=r"method at\(sigma\)"):
        Noised(BASE, Constant(1.0))
