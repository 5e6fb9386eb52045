"""Preconditioned Langevin is held to its own law, coordinate by coordinate."""

from __future__ import annotations

import math

import pytest
import torch

from basin.samplers.langevin import Langevin
from basin.samplers.preconditioned_langevin import PreconditionedLangevin
from basin.sampling.curvature import StepSizeWarning
from basin.sampling.run import sample
from helpers.energies import DiagonalGaussian
from helpers.statistics import assert_different_law, assert_same_law, normal_cdf

NUM_CHAINS = 20_000
PRECISIONS, SCALE, STEP = (0.01, 4.0), (12.0, 0.4), 0.3


def law_at_rest(precision, scale, step_size=STEP):
    return 1 / math.sqrt(precision * (1 - step_size * scale**2 * precision / 2))


def run(kernel, generator, num_steps=20):
    deviations = [law_at_rest(*pair) for pair in zip(PRECISIONS, SCALE, strict=True)]
    start = torch.tensor(deviations) * torch.randn(NUM_CHAINS, 2, generator=generator)
    energy = DiagonalGaussian(list(PRECISIONS))
    chains = sample(energy, kernel, start, num_steps=num_steps, keep="last", check_step_size=False)
    return chains.last, [normal_cdf(0.0, deviation) for deviation in deviations]


@pytest.mark.statistical
def test_its_own_law_does_not_move(generator):
    last, laws = run(PreconditionedLangevin(STEP, SCALE), generator)
    for i in range(2):
        assert_same_law(last[:, i], laws[i])


class NoiseNotScaledAlike(PreconditionedLangevin):
    """Mutant: m in the drift where m^2 belongs."""

    def step(self, energy, state, generator):
        scale = torch.tensor(self.scale)
        slower = type("Slower", (), {"score": lambda _, x: -energy.precision.to(x) * x / scale})()
        return super().step(slower, state, generator)


@pytest.mark.statistical
def test_mutants_move_the_law(generator):
    for mutant in (
        NoiseNotScaledAlike(STEP, SCALE),
        PreconditionedLangevin(STEP, (SCALE[0], 2 * SCALE[1])),
        PreconditionedLangevin(2.5 * STEP, SCALE),
    ):
        last, laws = run(mutant, generator, num_steps=50)
        assert_different_law(last[:, 1], laws[1])


def test_it_is_langevin_in_scaled_coordinates(generator):
    """The same noise, the same path; a number is a tuple of equal ones; events of any shape."""
    x = torch.randn(5, 2, 2, generator=generator, dtype=torch.float64)
    scale = torch.tensor([[1.0, 2.0], [3.0, 0.5]], dtype=torch.float64)

    def energy(x):
        return x.pow(4).sum(dim=(1, 2))

    def in_scaled(u):
        return energy(u * scale)

    options = dict(num_steps=10, seed=3, check_step_size=False)
    kernel = PreconditionedLangevin(0.01, tuple(scale.flatten().tolist()))
    own = sample(energy, kernel, x, **options).positions
    plain = sample(in_scaled, Langevin(0.01), x / scale, **options).positions
    torch.testing.assert_close(own, plain * scale)
    two = sample(energy, PreconditionedLangevin(0.01, 2.0), x, **options).positions
    same = sample(energy, PreconditionedLangevin(0.01, (2.0,) * 4), x, **options).positions
    torch.testing.assert_close(two, same)


def test_a_step_beyond_the_curvature_is_told_in_scaled_coordinates():
    energy, x = DiagonalGaussian(list(PRECISIONS)), torch.zeros(4, 2)
    with pytest.warns(StepSizeWarning, match="step_size = 144 is too large"):
        sample(energy, PreconditionedLangevin(1.0, SCALE), x, num_steps=1)
    sample(energy, PreconditionedLangevin(0.5, SCALE), x, num_steps=1)
    with pytest.warns(StepSizeWarning):  # although none is in plain coordinates
        sample(
            lambda x: energy(x.flatten(1)),
            PreconditionedLangevin(1.0, SCALE),
            x[:, None],
            num_steps=1,
        )


def test_refuses_bad_settings():
    with pytest.raises(ValueError, match="scale must be positive, got 0"):
        PreconditionedLangevin(scale=0.0)
    with pytest.raises(ValueError, match="scale must be positive, got -1"):
        PreconditionedLangevin(scale=(1.0, -1.0))
    with pytest.raises(ValueError, match="one for each of 2 coordinates, got 3"):
        sample(
            DiagonalGaussian([1.0, 1.0]),
            PreconditionedLangevin(scale=(1.0, 1.0, 1.0)),
            torch.zeros(3, 2),
            num_steps=1,
        )
