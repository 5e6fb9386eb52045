"""Energies between coins and a restricted Boltzmann machine: block Gibbs keeps the law of each."""

from __future__ import annotations

import pytest
import torch
from scipy import stats

from basin.core.discrete import draw_states, energies_of_all_states, state_numbers
from basin.energies import RestrictedBoltzmannMachine
from basin.paths.joint_geometric import JointGeometric, Machine
from basin.samplers.block_gibbs import BlockGibbs
from helpers.statistics import THRESHOLD

D, N = 4, 40_000


@pytest.fixture
def machine():
    machine = RestrictedBoltzmannMachine(D, num_hidden=3, seed=1)
    with torch.no_grad():
        machine.weight.mul_(3)
        machine.visible_bias.copy_(torch.tensor([0.5, -1.0, 0.3, 0.0]))
        machine.hidden_bias.copy_(torch.tensor([0.4, -0.6, 0.1]))
    return machine


def p_value(target, moved_by):
    """Of exact draws of ``target`` after one step of ``moved_by``, under ``target``."""
    g = torch.Generator().manual_seed(0)
    energies = energies_of_all_states(target, (D,), 2, dtype=torch.float32)
    x = draw_states(energies, N, (D,), 2, g)
    kernel = BlockGibbs()
    state, _ = kernel.step(moved_by, kernel.init(moved_by, x, g), g)
    seen = torch.bincount(state_numbers(state.position, 2), minlength=2**D).numpy()
    return stats.chisquare(seen, (N * torch.softmax(-energies, 0)).numpy()).pvalue


@pytest.mark.statistical
@pytest.mark.parametrize("t", [0.0, 0.3, 1.0])
def test_exact_draws_keep_their_law_along_the_path(machine, t):
    at = JointGeometric(machine, torch.tensor([1.0, 0.0, -1.0, 0.5]))(t)
    assert p_value(at, at) > THRESHOLD


@pytest.mark.statistical
def test_a_wrong_scale_moves_it(machine):
    """The mutant: hidden units driven by the whole weight at t = 0.3."""
    at = JointGeometric(machine)(0.3)
    wrong = Machine(at.weight, at.visible_bias, at.hidden_bias)
    assert p_value(at, wrong) < THRESHOLD


def test_the_machine_itself_is_the_end_of_its_path(machine, generator):
    path = JointGeometric(machine, torch.zeros(D))
    x = torch.bernoulli(torch.full((6, D), 0.5), generator=generator)
    assert torch.allclose(path(1.0)(x), machine(x), atol=1e-6)
    for t in (0.0, 0.4, 1.0):
        assert torch.allclose(path.along(x)(t), path(t)(x), atol=1e-5)
    start = path(0.0)
    total = torch.logsumexp(-energies_of_all_states(start, (D,), 2, dtype=torch.float32), 0)
    assert float(total) == pytest.approx(start.log_z, abs=1e-5)
    assert p_value(machine, machine) > THRESHOLD
