"""Long chains: right models stay, short-run generators are called so, lost chains are counted."""

from __future__ import annotations

import json
import math

import pytest
import torch
from scipy.stats import kstest

from basin.evaluation import long_run
from basin.samplers import MALA, Langevin
from helpers.statistics import THRESHOLD

STEP = 0.5


def standard(x):
    """Energy of N(0, I)."""
    return 0.5 * x.square().sum(1)


def normal(n, dim, generator):
    return torch.randn(n, dim, generator=generator, dtype=torch.float64)


def verdict(found):
    return found.details["verdict"].split(":")[0]


def test_a_right_model_stays(generator):
    rows, noise = normal(400, 2, generator), 4 * normal(150, 2, generator)
    found = long_run(standard, MALA(STEP), rows, noise, generator, num_steps=10)
    assert verdict(found) == "stays"
    assert found.details["lost"] == 0
    assert [at["step"] for at in found.details["trace"]] == [10, 20, 50, 100]
    energies = [at["energy_from_noise"] for at in found.details["trace"]]
    assert energies[0] > energies[-1]
    json.dumps(found.to_json(), allow_nan=False)


def short_run_generator(num_steps):
    """An energy whose ``num_steps`` ULA steps from N(0, 9 I) end in N(0, I), and which is wrong.

    x <- (1 - ελ) x + √(2ε) z has variance a^{2k} 9 + 2ε (1 - a^{2k}) / (1 - a²), a = 1 - ελ. The λ
    that makes it 1 after k steps has a law at rest that is much narrower.
    """
    epsilon, low, high = 0.02, 0.01, 49.0

    def variance(rate):
        a = (1 - epsilon * rate) ** 2
        return 9 * a**num_steps + 2 * epsilon * (1 - a**num_steps) / (1 - a)

    while high - low > 1e-9:
        middle = 0.5 * (low + high)
        low, high = (middle, high) if variance(middle) > 1 else (low, middle)
    assert variance(low) == pytest.approx(1)
    return Langevin(epsilon), lambda x: low * standard(x)


def test_a_short_run_generator_is_called_one(generator):
    kernel, energy = short_run_generator(num_steps=10)
    rows, noise = normal(600, 2, generator), 3 * normal(300, 2, generator)
    found = long_run(energy, kernel, rows, noise, generator, num_steps=10)
    first, *_, last = found.details["trace"]
    # After training's own steps, from noise, it generates the data: D² is noise about 0.
    assert first["distance_from_noise"] < 0.02 < last["distance_from_noise"]
    assert verdict(found) == "short-run generator, not a density"
    assert found.details["leaves"]
    assert found.details["tv_lower"] > 0.316


def test_a_small_error_is_a_drift_and_not_more(generator):
    rows, noise = normal(1600, 2, generator), normal(400, 2, generator)
    found = long_run(lambda x: 0.6 * standard(x), MALA(STEP), rows, noise, generator, num_steps=10)
    assert verdict(found) == "drifts"
    assert not found.details["leaves"]
    # KL(N(0, I) || N(0, I / 0.6)) = 0.6 - 1 - log 0.6 = 0.11 nats: within the fair ones.
    assert 0.6 - 1 - math.log(0.6) < 0.2


def test_far_modes_that_chains_do_not_cross_mix_slowly(generator):
    def two_modes(x):
        return -torch.logaddexp(-standard(x - 8), -standard(x + 8))

    sign = 2.0 * (torch.rand(400, 1, generator=generator) < 0.5) - 1
    rows, noise = normal(400, 1, generator) + 8 * sign, normal(150, 1, generator) + 8
    found = long_run(two_modes, MALA(STEP), rows, noise, generator, num_steps=10)
    assert verdict(found) == "stays, but mixes slowly"


def test_lost_chains_are_counted_and_condemn(generator):
    rows, noise = normal(100, 2, generator), normal(50, 2, generator)
    found = long_run(lambda x: -standard(x), Langevin(0.9), rows, noise, generator, num_steps=100)
    assert found.details["lost"] == 1.0
    assert found.value == math.inf
    assert found.details["leaves"]
    json.dumps(found.to_json(), allow_nan=False)


@pytest.mark.parametrize("precision", [1.0, 4.0])
def test_p_values_are_uniform_for_a_right_model_alone(precision, generator):
    found = []
    for _ in range(60):
        rows, noise = normal(80, 1, generator), normal(20, 1, generator)
        one = long_run(
            lambda x: precision * standard(x),
            MALA(STEP),
            rows,
            noise,
            generator,
            num_steps=2,
            factor=5,
            num_permutations=39,
        )
        found.append(one.p_value - float(torch.rand((), generator=generator)) / 40)
    assert (kstest(found, "uniform").pvalue > THRESHOLD) == (precision == 1.0)


def test_bad_arguments(generator):
    x = normal(100, 2, generator)
    with pytest.raises(ValueError, match="held_out must have 40 rows and noise 20 or more"):
        long_run(standard, MALA(STEP), x[:30], x, num_steps=1)
    with pytest.raises(ValueError, match="factor must be at most 1000"):
        long_run(standard, MALA(STEP), x, x, num_steps=1, factor=2000)
    with pytest.raises(ValueError, match="num_steps must be a positive whole number"):
        long_run(standard, MALA(STEP), x, x, num_steps=0)
    with pytest.raises(ValueError, match="num_chains must be 20 or more and leave as many"):
        long_run(standard, MALA(STEP), x, x, num_steps=1, num_chains=90)
