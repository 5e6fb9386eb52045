"""Losses of neighbours that leap: unbiased for the weights of far modes, and sharp about them.

Two modes of standard deviation 0.3 at distance 8 with weights 0.8 and 0.2. The derivative of the
loss in their log odds must be zero, on average, at the true weights, and away from them elsewhere.
"""

from __future__ import annotations

import importlib
import math

import pytest
import torch
from torch import nn

from basin.core import neighbours
from basin.objectives import (
    ConditionalNoiseContrastiveEstimation,
    EnergyDiscrepancy,
    MinimumProbabilityFlow,
)

WEIGHT, DISTANCE, DEVIATION = 0.8, 8.0, 0.3
SCALES = {
    ConditionalNoiseContrastiveEstimation: {},
    MinimumProbabilityFlow: {},
    EnergyDiscrepancy: {"t_min": 0.01, "t_max": 0.01},
}
# The logarithm of minimum probability flow biases a batch of n by O(1/n), here 1/64.
BIAS = {MinimumProbabilityFlow: 0.01}
KINDS = (ConditionalNoiseContrastiveEstimation, EnergyDiscrepancy, MinimumProbabilityFlow)


class TwoModes(nn.Module):
    """-log of the mixture, with the log odds of its first mode to be learned."""

    def __init__(self, weight):
        super().__init__()
        self.log_odds = nn.Parameter(torch.tensor(math.log(weight / (1 - weight))).double())

    def forward(self, x):
        centres = torch.tensor([0.0, DISTANCE], dtype=torch.float64)
        log_weights = nn.functional.logsigmoid(torch.stack([self.log_odds, -self.log_odds]))
        return -torch.logsumexp(log_weights - ((x - centres) / DEVIATION).square() / 2, dim=1)


def slope(kind, weight, num_batches=300, batch=64, **settings):
    """Mean over batches of dJ/d(log odds), and its standard error."""
    generator = torch.Generator().manual_seed(0)

    def rows(n):
        second = torch.rand(n, 1, generator=generator, dtype=torch.float64) > WEIGHT
        noise = torch.randn(n, 1, generator=generator, dtype=torch.float64)
        return DISTANCE * second + DEVIATION * noise

    objective, energy = kind(**settings), TwoModes(weight)
    state = objective.init(rows(1000), generator)
    found = []
    for _ in range(num_batches):
        loss = objective(energy, rows(batch), state, generator)
        found.append(torch.autograd.grad(loss.value, energy.log_odds)[0])
    found = torch.stack(found)
    return float(found.mean()), float(found.std() / num_batches**0.5)


@pytest.mark.statistical
@pytest.mark.parametrize("kind", KINDS)
def test_the_true_weights_are_the_optimum(kind):
    mean, error = slope(kind, WEIGHT, leaps=1.0)
    bias = BIAS.get(kind, 0.0)
    assert abs(mean) < 3.9 * error + bias
    for wrong, sign in ((0.6, -1), (0.95, 1)):
        mean, error = slope(kind, wrong, leaps=1.0)
        assert sign * mean > 10 * error + bias


def to_another_row(step, x, leaps, generator):
    """Mutant: x + (x_j - x) is a draw of the data, and no step back is as likely."""
    return torch.cat([x.roll(1 + copy, 0) - x for copy in range(len(step) // len(x))])


def without_the_way_back(step, x, leaps, generator):
    """Mutant: the blur leaps, and the steps back from y are of another law."""
    leapt = neighbours.with_leaps(step, x, leaps, generator)
    return torch.cat([leapt[: len(x)], step[len(x) :]])


@pytest.mark.statistical
@pytest.mark.parametrize(
    ("kind", "mutant"),
    [
        (ConditionalNoiseContrastiveEstimation, to_another_row),
        (MinimumProbabilityFlow, to_another_row),
        (EnergyDiscrepancy, without_the_way_back),
    ],
)
def test_leaps_of_another_law_are_caught(kind, mutant, monkeypatch):
    monkeypatch.setattr(importlib.import_module(kind.__module__), "with_leaps", mutant)
    mean, error = slope(kind, WEIGHT, leaps=1.0, **SCALES[kind])
    assert abs(mean) > 5 * error + BIAS.get(kind, 0.0)


def test_a_share_outside_its_range_is_named():
    for kind in KINDS:
        with pytest.raises(ValueError, match="leaps"):
            kind(leaps=1.5)


def test_leaps_are_the_default():
    assert {kind().leaps for kind in KINDS} == {neighbours.LEAPS}
