"""Steps in one graph are the kernel's steps: same random numbers, same law, same counts."""

from __future__ import annotations

import pytest
import torch

from basin.core import graph as graphs
from basin.energies import MLP, Gaussian, GaussianMixture
from basin.paths import Geometric
from basin.samplers import (
    HMC,
    MALA,
    NUTS,
    Barker,
    Langevin,
    ParallelTempering,
    Reflected,
    UnderdampedLangevin,
    nuts,
)
from basin.sampling import sample, steps
from basin.sampling.steps import compiled_steps, kernel_steps
from tests.helpers.statistics import assert_different_law, assert_same_law, normal_cdf

GAUSSIAN = Gaussian([1.0, -1.0], [[1.0, 0.6], [0.6, 2.0]])
MIXTURE = GaussianMixture([[-2.0, 0.0], [2.0, 0.0]], torch.eye(2), [0.7, 0.3])


@pytest.fixture
def uncompiled(monkeypatch):
    def plain(function, inputs, generator, compiled=True):
        return graphs.flat_graph(function, inputs, generator, compiled=False)

    for module in (steps, nuts):
        monkeypatch.setattr(module, "flat_graph", plain)


def chain(take, kernel, energy, num_steps=7):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(20, 2, generator=generator)
    state = kernel.init(energy, x, generator)
    taken = list(take(energy, kernel, state, generator, num_steps))
    return taken, generator.get_state()


def assert_same_steps(kernel, energy):
    mine, theirs = (chain(take, kernel, energy) for take in (compiled_steps, kernel_steps))
    assert torch.equal(mine[1], theirs[1])
    for (state, info), (expected, expected_info) in zip(mine[0], theirs[0], strict=True):
        torch.testing.assert_close(state.position, expected.position)
        assert info._fields == expected_info._fields
        torch.testing.assert_close(tuple(info), tuple(expected_info))


@pytest.mark.parametrize("energy", [GAUSSIAN, MIXTURE, MLP(2, (8,))], ids=["gauss", "mix", "mlp"])
@pytest.mark.parametrize(
    "kernel",
    [Langevin(0.1), MALA(0.3), HMC(0.3, 3), Barker(0.3), UnderdampedLangevin(0.1)],
    ids=lambda kernel: type(kernel).__name__,
)
def test_the_graph_takes_the_steps_of_the_kernel(uncompiled, kernel, energy):
    assert_same_steps(kernel, energy)


@pytest.mark.parametrize(
    "energy",
    [GAUSSIAN, pytest.param(MIXTURE, marks=pytest.mark.slow)],
    ids=["gauss", "mix"],
)
@pytest.mark.parametrize(
    "kernel",
    [NUTS(0.15), NUTS(0.1, max_depth=3), NUTS(0.3, max_depth=1), NUTS(1.0)],
    ids=["long paths", "paths cut short", "one point", "short paths"],
)
def test_graphs_of_several_points_grow_the_paths_of_the_kernel(uncompiled, kernel, energy):
    assert_same_steps(kernel, energy)


def test_a_kernel_that_holds_one_whose_paths_have_their_own_lengths_is_refused():
    kernel = ParallelTempering(NUTS(0.3), (1.0, 2.0))
    with pytest.raises(ValueError, match="compile must be False for ParallelTempering on Gaussian"):
        sample(GAUSSIAN, kernel, torch.zeros(4, 2), num_steps=4, compile=True)
    with pytest.raises(ValueError, match="compile must be False for Reflected on Gaussian"):
        sample(GAUSSIAN, Reflected(kernel), torch.ones(4, 2), num_steps=4, compile=True)


def test_a_path_is_refused():
    path = Geometric(GAUSSIAN, MIXTURE)
    with pytest.raises(ValueError, match="compile must be False on a path"):
        sample(path, Langevin(0.1), torch.zeros(4, 2), num_steps=4, compile=True)


def test_another_word_is_refused():
    with pytest.raises(ValueError, match="compile must be True or False, got 'auto'"):
        sample(GAUSSIAN, Langevin(0.1), torch.zeros(4, 2), num_steps=4, compile="auto")


@pytest.mark.slow
def test_compiled_draws_keep_the_law_and_the_record():
    """Exact start: MALA leaves the law alone, each coordinate by a Kolmogorov-Smirnov test."""
    generator = torch.Generator().manual_seed(1)
    x0 = GAUSSIAN.sample(20_000, generator)
    found = sample(GAUSSIAN, MALA(0.5), x0, num_steps=19, thin=5, seed=2, compile=True)
    plain = sample(GAUSSIAN, MALA(0.5), x0, num_steps=19, thin=5, seed=2)
    assert found.positions.shape == (20_000, 3, 2)
    assert found.acceptance_rate == pytest.approx(plain.acceptance_rate, abs=1e-3)
    assert found.num_divergent == 0
    assert found.info.keys() == plain.info.keys()
    assert_same_law(found.last[:, 0], normal_cdf(1.0, 1.0))
    assert_same_law(found.last[:, 1], normal_cdf(-1.0, 2.0**0.5))
    mutant = sample(GAUSSIAN, Langevin(0.5), x0, num_steps=19, keep="last")
    assert_different_law(mutant.last[:, 0], normal_cdf(1.0, 1.0))
