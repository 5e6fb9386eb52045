"""Dual averaging finds the step at which a known acceptance curve crosses the target."""

from __future__ import annotations

import math

import pytest

from basin.mcmc.dual_averaging import DualAveraging


def acceptance(step_size: float) -> float:
    return math.exp(-3.0 * step_size)


@pytest.mark.parametrize("start", [1e-4, 0.1, 50.0])
def test_finds_the_step_of_the_target_acceptance(start):
    rule = DualAveraging(0.574)
    state = rule.init(start)
    for _ in range(500):
        state = rule.update(state, acceptance(rule.step_size(state)))
    assert acceptance(rule.averaged_step_size(state)) == pytest.approx(0.574, abs=0.02)


def test_mutant_with_the_error_reversed_does_not(monkeypatch):
    rule = DualAveraging(0.574)
    state = rule.init(0.1)
    for _ in range(500):
        state = rule.update(state, 2 * 0.574 - acceptance(rule.step_size(state)))
    assert abs(acceptance(rule.averaged_step_size(state)) - 0.574) > 0.3


def test_a_flat_energy_does_not_overflow():
    rule = DualAveraging(0.574)
    state = rule.init(0.1)
    for _ in range(20_000):
        state = rule.update(state, 1.0)
    assert math.isfinite(rule.step_size(state))


@pytest.mark.parametrize("target", [0.0, -0.1, 1.2])
def test_refuses_a_target_outside_the_unit_interval(target):
    with pytest.raises(ValueError, match="target_acceptance"):
        DualAveraging(target)
