"""My sampler against its law at rest, and a mutant that must fail.

Exact start: draw from the law, take k steps with many chains; a right kernel leaves it alone.
"""

from __future__ import annotations

import dataclasses
import math

import torch

from basin.samplers import MySampler  # type: ignore[attr-defined]
from basin.sampling import sample
from helpers.statistics import assert_different_law, assert_same_law, normal_cdf

NUM_CHAINS, PRECISION = 20_000, 4.0
KERNEL = MySampler(step_size=0.1)


def law_at_rest(step_size: float) -> float:
    return 1 / math.sqrt(PRECISION * (1 - step_size * PRECISION / 2))


def draws(kernel, generator):
    def energy(x):
        return 0.5 * PRECISION * x.square().sum(1)

    start = law_at_rest(KERNEL.step_size) * torch.randn(NUM_CHAINS, 1, generator=generator)
    return sample(energy, kernel, start, num_steps=20, keep="last").last[:, 0]


def test_the_law_does_not_move(generator):
    assert_same_law(draws(KERNEL, generator), normal_cdf(0.0, law_at_rest(KERNEL.step_size)))


def test_another_step_size_has_another_law(generator):
    """The mutant; replace it by the mistake that your sampler invites."""
    mutant = dataclasses.replace(KERNEL, step_size=0.3)
    assert_different_law(draws(mutant, generator), normal_cdf(0.0, law_at_rest(KERNEL.step_size)))
