"""Energies along a path at fixed points are those of the path, and paths join where they meet."""

from __future__ import annotations

import pytest
import torch

from basin.energies import Gaussian
from basin.paths import Geometric, Joined, JointGeometric, Noised, Tempered
from basin.paths.joint_geometric import Machine
from basin.schedules import Geometric as GeometricSchedule
from helpers.energies import NoisyGaussian, quartic_energy

BASE = Gaussian([0.0, 0.0], torch.eye(2))
NOISED = Noised(NoisyGaussian(dim=2, mean=1.0), GeometricSchedule(5.0, 0.1))
PATHS = {
    "geometric": Geometric(BASE, quartic_energy),
    "tempered": Tempered(quartic_energy),
    "noised": NOISED,
    "joined": Joined(Geometric(BASE, NOISED(0.0)), NOISED, at=0.3),
    "machine": JointGeometric(
        Machine(torch.ones(3, 2), torch.ones(2), torch.zeros(3)), torch.tensor([1.0, -1.0])
    ),
}


@pytest.mark.parametrize("name", PATHS)
def test_along_is_the_path_itself(name, generator):
    path, x = PATHS[name], torch.randn(7, 2, generator=generator)
    energies = path.along(x)
    for t in (0.0, 0.1, 0.3, 0.30001, 0.7, 1.0):
        assert torch.allclose(energies(t), path(t)(x), atol=1e-5)
    with pytest.raises(ValueError, match=r"t must lie between 0 and 1, got 1\.5"):
        energies(1.5)


def test_joined_paths_meet_and_end_at_the_target(generator):
    path, x = PATHS["joined"], torch.randn(7, 2, generator=generator)
    before, after = path(0.3)(x), path(0.3 + 1e-9)(x)
    assert torch.allclose(before, after, atol=1e-5)
    assert torch.equal(path(0.0)(x), BASE(x))
    assert torch.allclose(path(1.0)(x), NOISED(1.0)(x))
    for at in (0.0, 1.0, 1.5):
        with pytest.raises(ValueError, match="at must"):
            Joined(NOISED, NOISED, at=at)


def test_fixed_ends_are_evaluated_once(generator):
    calls = []

    def counted(x):
        calls.append(len(x))
        return quartic_energy(x)

    energies = Geometric(BASE, counted).along(torch.zeros(3, 2))
    for t in (0.1, 0.5, 0.9):
        energies(t)
    assert calls == [3]


def test_log_odds_of_columns_that_never_change_are_finite():
    x = torch.tensor([[1.0, 0.0], [1.0, 1.0], [1.0, 1.0]])
    odds = JointGeometric.log_odds(x)
    assert bool(torch.isfinite(odds).all())
    assert float(odds[1]) == pytest.approx(torch.logit(torch.tensor(2.5 / 4)).item(), abs=1e-5)
