"""Convergence: p-values under the null with and without memory, chains that disagree, E-BFMI."""

from __future__ import annotations

import importlib
import math

import pytest
import torch
from scipy.stats import kstest

from basin.evaluation import convergence, e_bfmi, split_rhat
from helpers.statistics import THRESHOLD


def chains(num_chains, num_draws, memory, generator):
    """Stationary Gaussian autoregressions of variance 1, ``[chain, draw]``."""
    noise = torch.randn(num_draws, num_chains, generator=generator, dtype=torch.float64)
    states = [noise[0]]
    for z in noise[1:]:
        states.append(memory * states[-1] + math.sqrt(1 - memory**2) * z)
    return torch.stack(states, dim=1)


def false_alarms(memory, num_draws, generator):
    found = [convergence(chains(4, num_draws, memory, generator)) for _ in range(100)]
    return sum(one.p_value <= 0.05 for one in found)


@pytest.mark.parametrize(("memory", "num_draws"), [(0.0, 60), (0.5, 240)])
def test_false_alarms_with_and_without_memory(memory, num_draws, generator):
    assert false_alarms(memory, num_draws, generator) <= 5 + 3.9 * math.sqrt(100 * 0.05 * 0.95)


def test_a_ratio_that_forgets_the_memory_is_a_mutant_that_fails(generator, monkeypatch):
    module = importlib.import_module("basin.evaluation.convergence")  # not the function
    monkeypatch.setattr(module, "_memory", lambda halves: 1.0)
    assert false_alarms(0.5, 240, generator) > 5 + 3.9 * math.sqrt(100 * 0.05 * 0.95)


def test_p_values_of_one_kind_of_ranks_are_uniform(generator):
    from basin.evaluation.convergence import _normal_scores, _Ratio

    found = [
        _Ratio(_normal_scores(chains(8, 100, 0.0, generator).numpy())).p_value for _ in range(300)
    ]
    assert kstest(found, "uniform").pvalue > THRESHOLD


def test_the_memory_is_that_of_the_chain(generator):
    """τ = (1 + ρ) / (1 - ρ)."""
    found = [convergence(chains(4, 1000, 0.8, generator)).details["memory"] for _ in range(10)]
    values = torch.tensor(found)
    assert abs(float(values.mean()) - 9.0) < 3.9 * float(values.std()) / math.sqrt(10)


def test_the_floor_is_the_median_of_chains_that_agree(generator):
    found = [convergence(chains(4, 200, 0.0, generator)) for _ in range(100)]
    below = sum(one.value < one.floor for one in found)
    # Bulk and folded ranks are not independent: the median is a little off one half.
    assert 25 < below < 75


@pytest.mark.parametrize("fault", ["shift", "scale", "jump"])
def test_chains_that_disagree_are_found(fault, generator):
    x = chains(4, 200, 0.3, generator)[..., None].repeat(1, 1, 2)
    x[..., 0] = chains(4, 200, 0.3, generator)
    if fault == "shift":
        x[0, :, 1] += 1.0
    elif fault == "scale":
        x[0, :, 1] *= 3.0
    else:
        x[:, 100:, 1] += 0.8
    found = convergence(x)
    assert found.p_value < 1e-4
    assert found.details["worst_coordinate"] == 1
    assert found.value == float(split_rhat(x)[1]) > found.floor


def test_e_bfmi_of_an_autoregression_in_closed_form(generator):
    """2 (1 - ρ), here 1."""
    found = e_bfmi(chains(50, 500, 0.5, generator))
    error = float(found.std()) / math.sqrt(50)
    assert abs(float(found.mean()) - 1.0) < 3.9 * error + 0.01  # the sample mean takes some
    detail = convergence(chains(4, 50, 0.0, generator), energies=chains(4, 50, 0.9, generator))
    assert detail.details["e_bfmi"] < 0.5
    assert bool(e_bfmi(torch.ones(2, 50)).isnan().all())


def test_bad_arguments(generator):
    with pytest.raises(ValueError, match="two chains and eight draws"):
        convergence(torch.randn(1, 50, generator=generator))
    with pytest.raises(ValueError, match="chains that stand still"):
        convergence(torch.ones(2, 50))
    with pytest.raises(ValueError, match=r"energies must have shape \(chain, draw\)"):
        e_bfmi(torch.ones(5))
