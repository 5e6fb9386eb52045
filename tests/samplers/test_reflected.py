"""Reflection and transforms keep laws with walls: exact starts, and mutants that must be caught."""

from __future__ import annotations

import pytest
import torch
from scipy import stats
from torch.distributions import constraints

from basin.energies import Folded, Transformed
from basin.samplers import Barker, Langevin, ParallelTempering
from basin.samplers.mala import MALA
from basin.samplers.reflected import Reflected
from basin.sampling.run import sample
from helpers.curved_energies import HalfLineGamma
from helpers.statistics import assert_different_law, assert_same_law

NUM_CHAINS = 20_000
BOX = (-0.5, 1.0)


class TruncatedGaussian:
    """N(0.8, 1) between -0.5 and 1: steep at one wall and flat at the other."""

    law = stats.truncnorm(BOX[0] - 0.8, BOX[1] - 0.8, loc=0.8)

    def __call__(self, x):
        return 0.5 * (x - 0.8).square().sum(dim=1)

    def draw(self, n, generator):
        uniform = torch.rand(n, 1, generator=generator, dtype=torch.float64)
        return torch.from_numpy(self.law.ppf(uniform.numpy())).float()

    def cdf(self, x):
        return self.law.cdf(x)


class Exponential:
    """exp(-x) on x > 0: the density is largest at the wall."""

    def __call__(self, x):
        return x.sum(dim=1)

    def draw(self, n, generator):
        return -torch.log1p(-torch.rand(n, 1, generator=generator))

    def cdf(self, x):
        return stats.expon.cdf(x)


CASES = {
    "exponential": (Exponential(), {}),
    "gamma": (HalfLineGamma(), {}),
    "box": (TruncatedGaussian(), {"lower": BOX[0], "upper": BOX[1]}),
}
KERNELS = {"mala": MALA(0.5), "barker": Barker(0.5)}


@pytest.mark.statistical
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("name", CASES)
def test_exact_start_stays_exact(name, kernel, generator):
    target, walls = CASES[name]
    start = target.draw(NUM_CHAINS, generator)
    chains = sample(target, Reflected(KERNELS[kernel], **walls), start, num_steps=15, keep="last")
    assert_same_law(chains.last[:, 0], target.cdf)
    assert 0.3 < chains.acceptance_rate < 1
    assert chains.num_divergent == 0  # E was never asked for a value outside


class StopsAtTheWall(Folded):
    """Mutant: a chain that runs out is put back on the wall, not reflected."""

    def fold(self, x):
        return x.clamp(*self.walls[:2].to(x))


class ShiftedWall(Folded):
    """Mutant: reflected at the wrong place."""

    def fold(self, x):
        return super().fold(x - 0.05).clamp_min(0) + 0.05


@pytest.mark.statistical
@pytest.mark.parametrize("mutant", [StopsAtTheWall, ShiftedWall])
def test_mutants_move_the_law(mutant, generator, monkeypatch):
    target, walls = CASES["exponential"]
    monkeypatch.setattr("basin.samplers.reflected.Folded", mutant)
    start = target.draw(NUM_CHAINS, generator)
    chains = sample(target, Reflected(MALA(0.5), **walls), start, num_steps=30, keep="last")
    assert_different_law(chains.last[:, 0], target.cdf)


@pytest.mark.statistical
def test_without_reflection_the_wall_needs_rejections(generator):
    """MALA with an infinite energy outside is right too, and counts what it throws away."""
    target = HalfLineGamma()
    start = target.draw(NUM_CHAINS, generator)
    with pytest.warns(UserWarning, match="transitions diverged"):
        chains = sample(target, MALA(0.5), start, num_steps=15, keep="last")
    assert_same_law(chains.last[:, 0], target.cdf)
    assert chains.num_divergent > 0


TRANSFORMED = {
    "gamma": (HalfLineGamma(), constraints.positive, 0.3),
    "box": (TruncatedGaussian(), constraints.interval(*BOX), 0.7),
}


@pytest.mark.statistical
@pytest.mark.parametrize("name", TRANSFORMED)
def test_a_transform_keeps_the_law(name, generator):
    target, constraint, step_size = TRANSFORMED[name]
    energy = Transformed.onto(constraint, target)
    start = energy.unconstrain(target.draw(NUM_CHAINS, generator))
    last = sample(energy, MALA(step_size), start, num_steps=15, keep="last").last
    assert_same_law(energy.restore(last)[:, 0], target.cdf)
    last = sample(  # the mutant: no determinant
        lambda u: target(energy.restore(u)), MALA(step_size), start, num_steps=15, keep="last"
    ).last
    assert_different_law(energy.restore(last)[:, 0], target.cdf)


@pytest.mark.statistical
def test_a_dirichlet_on_the_simplex(generator):
    """Its first coordinate is Beta."""
    weights = torch.tensor([2.0, 1.0, 3.0])
    energy = Transformed.onto(constraints.simplex, lambda x: -((weights - 1) * x.log()).sum(dim=1))
    exponentials = -torch.rand(NUM_CHAINS, 3, 3, generator=generator).log()
    parts = (exponentials * (torch.arange(3) < weights[:, None])).sum(dim=2)  # Gamma(weight)
    start = energy.unconstrain(parts / parts.sum(dim=1, keepdim=True))
    last = sample(energy, MALA(0.3), start, num_steps=15, keep="last").last
    assert_same_law(energy.restore(last)[:, 0], stats.beta(2.0, 4.0).cdf)


def test_chains_of_the_folded_energy_are_those_of_the_reflected_kernel(generator):
    target, walls = CASES["box"]
    start = target.draw(20, generator)
    folded = Folded(target, **walls)
    wandering = sample(folded, MALA(0.5), start, num_steps=30)
    inside = sample(target, Reflected(MALA(0.5), **walls), start, num_steps=30)
    torch.testing.assert_close(folded.fold(wandering.positions), inside.positions)
    assert not torch.equal(wandering.positions, inside.positions)


def test_each_coordinate_has_its_own_walls_and_kernels_nest(generator):
    kernel = Reflected(ParallelTempering(Langevin(0.1)), (0.0, -float("inf")), (1.0, 0.0))
    x = torch.rand(50, 2, generator=generator) * torch.tensor([1.0, -1.0])
    chains = sample(lambda x: x.square().sum(dim=1), kernel, x, num_steps=20)
    first, second = chains.positions.unbind(dim=2)
    assert ((first >= 0) & (first <= 1) & (second <= 0)).all()


def test_a_start_outside_is_refused():
    with pytest.raises(ValueError, match=r"x0 must lie between lower=0.0 and .* got -2 in row 1"):
        sample(HalfLineGamma(), Reflected(MALA()), torch.tensor([[1.0], [-2.0]]), num_steps=2)


def test_refuses_bad_settings():
    with pytest.raises(ValueError, match="lower must lie below upper"):
        Reflected(MALA(), 1.0, 0.0)
    for no_kernel in (MALA, "MALA"):
        with pytest.raises(TypeError, match="kernel must be one of"):
            Reflected(no_kernel)
