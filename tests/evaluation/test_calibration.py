"""Calibration of probabilities: a known error, right ones pass, sure and timid ones do not."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import kstest

from basin.evaluation import calibration_error
from helpers.statistics import THRESHOLD


def drawn(n, generator):
    p = torch.rand(n, generator=generator, dtype=torch.float64)
    return p, (torch.rand(n, generator=generator, dtype=torch.float64) < p).long()


def test_a_known_error(generator):
    """Events of probability p called 0.8 p + 0.1: off by |0.2 p - 0.1|, 0.05 on average."""
    p, events = drawn(40_000, generator)
    found = calibration_error(0.8 * p + 0.1, events, generator, num_simulations=50)
    assert abs(found.value - 0.05) < 3.9 * found.standard_error
    assert found.standard_error < 0.005
    assert found.p_value == 1 / 51


def test_reliability_says_what_happened(generator):
    p = torch.tensor([0.1] * 10 + [0.7] * 10)
    events = torch.tensor([0] * 9 + [1] + [1] * 4 + [0] * 6)
    found = calibration_error(p, events, generator, num_bins=2)
    low, high = found.details["reliability"]
    assert (low["probability"], low["share"], low["count"]) == pytest.approx((0.1, 0.1, 10))
    assert (high["probability"], high["share"]) == pytest.approx((0.7, 0.4))
    assert high["standard_error"] == pytest.approx(math.sqrt(0.4 * 0.6 / 10))
    assert found.value == pytest.approx(0.15)
    assert found.details["brier"] == pytest.approx((9 * 0.01 + 0.81 + 4 * 0.09 + 6 * 0.49) / 20)


def p_values(generator, change):
    found = []
    for _ in range(200):
        p, events = drawn(60, generator)
        one = calibration_error(change(p), events, generator, num_simulations=99)
        found.append(one.p_value - float(torch.rand((), generator=generator)) / 100)
    return found


def test_p_values_are_uniform_under_the_null(generator):
    assert kstest(p_values(generator, lambda p: p), "uniform").pvalue > THRESHOLD


def test_overconfidence_is_a_mutant_that_fails(generator):
    def surer(p):
        return torch.sigmoid(2 * torch.logit(p))

    assert kstest(p_values(generator, surer), "uniform").pvalue < THRESHOLD


def test_the_floor_is_the_mean_of_right_probabilities(generator):
    gaps = []
    for _ in range(100):
        p, events = drawn(50, generator)
        found = calibration_error(p, events, generator, num_simulations=50)
        gaps.append(found.value - found.floor)
    gap = torch.tensor(gaps)
    assert abs(float(gap.mean())) < 3.9 * float(gap.std()) / 10
    assert found.floor > 0.03  # far from 0: few events a bin


def test_bad_arguments(generator):
    p, events = drawn(10, generator)
    with pytest.raises(ValueError, match="must lie between 0 and 1"):
        calibration_error(2 * p + 1, events)
    with pytest.raises(ValueError, match="events must be 0 or 1"):
        calibration_error(p, 2 * events + 1)
    with pytest.raises(ValueError, match=r"one shape \[n\]"):
        calibration_error(p, events[:5])
