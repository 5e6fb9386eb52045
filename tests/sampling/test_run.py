"""The one loop: what it keeps, counts, refuses and leaves alone."""

from __future__ import annotations

import math
import warnings

import pytest
import torch

import basin
from basin.paths.geometric import Geometric
from basin.samplers.langevin import Langevin
from basin.samplers.mala import MALA
from basin.sampling.chains import DivergenceError, DivergenceWarning
from basin.sampling.run import sample
from helpers.energies import AsymmetricMixture, DiagonalGaussian, NoisyGaussian
from helpers.statistics import assert_different_law, assert_same_law, normal_cdf

GAUSSIAN = DiagonalGaussian([1.0, 4.0])


def test_shapes_names_and_counts():
    chains = sample(GAUSSIAN, MALA(0.2), torch.zeros(3, 2), num_steps=20, num_warmup=5, thin=4)
    assert chains.positions.shape == (3, 5, 2)
    assert chains.num_chains == 3
    assert chains.num_draws == 5
    names = {"is_accepted", "acceptance_probability", "is_divergent"}
    assert set(chains.info) == names
    assert all(value.shape == (3, 5) for value in chains.info.values())
    assert torch.equal(chains.last, chains.positions[:, -1])
    assert torch.equal(chains.pooled()[5], chains.positions[1, 0])
    assert "3 chains x 5 draws" in repr(chains)


def test_the_public_name_is_the_same_function():
    assert basin.sample is sample


def test_acceptance_rate_counts_every_step_not_only_the_kept_ones():
    options = {"num_steps": 40, "seed": 3}
    every = sample(GAUSSIAN, MALA(0.9), torch.zeros(10, 2), **options)
    thinned = sample(GAUSSIAN, MALA(0.9), torch.zeros(10, 2), thin=40, **options)
    rate = float(every.info["is_accepted"].double().mean())
    assert every.acceptance_rate == thinned.acceptance_rate == pytest.approx(rate)
    assert sample(GAUSSIAN, Langevin(0.1), 4, num_steps=3).acceptance_rate is None


def test_keep_last_is_the_last_draw_of_all():
    options = {"num_steps": 7, "num_warmup": 2, "seed": 1}
    every = sample(GAUSSIAN, MALA(0.2), torch.zeros(3, 2), **options)
    last = sample(GAUSSIAN, MALA(0.2), torch.zeros(3, 2), keep="last", **options)
    assert last.positions.shape == (3, 1, 2)
    assert torch.equal(last.last, every.last)
    assert torch.equal(last.info["is_accepted"][:, 0], every.info["is_accepted"][:, -1])
    assert last.acceptance_rate == every.acceptance_rate


def test_a_number_of_chains_starts_from_the_base_law():
    first = sample(GAUSSIAN, MALA(0.1), 200, num_steps=1, seed=5)
    assert first.positions.shape == (200, 1, 2)
    spread = first.last.std(dim=0)
    assert torch.allclose(spread, torch.tensor([1.0, 0.5]), rtol=0.2)
    path = Geometric(GAUSSIAN, AsymmetricMixture())
    assert sample(path, MALA(0.1), 6, num_steps=2).positions.shape == (6, 2, 2)
    with pytest.raises(ValueError, match="give x0, a tensor of positions"):
        sample(AsymmetricMixture(), MALA(0.1), 6, num_steps=2)


def test_seed_may_be_a_generator_which_moves_on():
    generator = torch.Generator().manual_seed(3)
    first = sample(GAUSSIAN, Langevin(0.1), torch.zeros(2, 2), num_steps=4, seed=generator)
    by_number = sample(GAUSSIAN, Langevin(0.1), torch.zeros(2, 2), num_steps=4, seed=3)
    again = sample(GAUSSIAN, Langevin(0.1), torch.zeros(2, 2), num_steps=4, seed=generator)
    assert torch.equal(first.positions, by_number.positions)
    assert not torch.equal(first.positions, again.positions)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_works_where_gradients_are_switched_off(mode):
    usual = sample(GAUSSIAN, MALA(0.2), torch.zeros(3, 2), num_steps=5).positions
    with mode():
        x0 = torch.zeros(3, 2)
        chains = sample(GAUSSIAN, MALA(0.2), x0, num_steps=5)
    assert torch.equal(chains.positions, usual)
    assert not chains.positions.is_inference()
    assert not chains.positions.requires_grad


def test_events_of_any_shape():
    def energy(x):
        return 0.5 * x.square().flatten(1).sum(dim=1) if x.ndim > 1 else 0.5 * x.square()

    for shape in ((), (3,), (1, 4, 4)):
        chains = sample(energy, MALA(0.1), torch.zeros(5, *shape), num_steps=4, num_warmup=4)
        assert chains.positions.shape == (5, 4, *shape)
        assert chains.split_rhat().shape == shape


# --- paths ---------------------------------------------------------------------------------------


class Recorded(Geometric):
    """A path that remembers where it was asked."""

    def __init__(self, base, target):
        super().__init__(base, target)
        object.__setattr__(self, "seen", [])

    def __call__(self, t, /):
        self.seen.append(t)
        return super().__call__(t)


def test_step_k_runs_on_the_path_at_k_over_num_steps():
    path = Recorded(GAUSSIAN, AsymmetricMixture())
    sample(path, MALA(0.1), torch.zeros(3, 2), num_steps=4, num_warmup=2)
    assert path.seen == [0.0, 0.25, 0.5, 0.75, 1.0]


@pytest.mark.statistical
def test_a_walk_along_a_path_arrives_at_the_target(generator):
    """MALA from N(0, 9) to N(2, 1); the mutant keeps the score of the energy before."""
    base, target = DiagonalGaussian([1 / 9]), DiagonalGaussian([1.0], [2.0])
    path, kernel = Geometric(base, target), MALA(0.5)
    x0 = 3 * torch.randn(20_000, 1, generator=generator)
    last = sample(path, kernel, x0, num_steps=60, keep="last").last[:, 0]
    law = normal_cdf(2.0, 1.0)
    settled = sample(target, kernel, last.unsqueeze(1), num_steps=30, keep="last").last[:, 0]
    assert_same_law(settled, law)
    assert float((last.mean() - 2).abs()) < 0.1
    state = kernel.init(base, x0, generator)  # never made anew: energy and score of path(0) live on
    for k in range(1, 16):
        state, _ = kernel.step(path(k / 15), state, generator)
    assert_different_law(state.position[:, 0], law)


def test_thinning_on_a_path_must_keep_the_last_step():
    path = Geometric(GAUSSIAN, AsymmetricMixture())
    with pytest.raises(ValueError, match="multiple of thin = 3"):
        sample(path, MALA(0.1), torch.zeros(2, 2), num_steps=10, thin=3)


# --- divergence ----------------------------------------------------------------------------------


class LostBeyond:
    """A Gaussian whose score is not finite beyond a distance."""

    def __init__(self, distance):
        self.distance = distance

    def __call__(self, x):
        return 0.5 * x.square().sum(dim=1)

    def score(self, x):
        return torch.where(x.abs() < self.distance, -x, math.nan)


def test_a_lost_chain_is_counted_once_and_reported():
    x0 = torch.tensor([[0.0], [50.0], [0.0], [60.0]])
    with pytest.warns(DivergenceWarning, match="Langevin: 2 of 400 .* in 2 of 4 chains"):
        chains = sample(LostBeyond(10.0), Langevin(0.1), x0, num_steps=100, thin=10)
    assert chains.num_divergent == 2
    assert chains.positions[[0, 2]].isfinite().all()
    assert chains.positions[[1, 3]].isnan().all()  # nothing is mended
    assert math.isnan(float(chains.split_rhat()))


def test_a_chain_lost_in_warm_up_is_counted_too():
    x0 = torch.tensor([[0.0], [50.0]])
    with pytest.warns(DivergenceWarning):
        chains = sample(LostBeyond(10.0), Langevin(0.1), x0, num_steps=5, num_warmup=5)
    assert chains.num_divergent == 1


def test_when_every_chain_is_lost_it_stops_and_names_the_step():
    x0 = torch.tensor([[1.0], [1.0], [100.0]])
    steep = DiagonalGaussian(
        [100.0]
    )  # |1 - 0.5 * 100| = 49 per step: float32 ends at about step 23
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kernel, generator = Langevin(0.5), torch.Generator().manual_seed(0)
        state = kernel.init(steep, x0, generator)
        lost_at = 0
        while state.is_finite.any():
            state, _ = kernel.step(steep, state, generator)
            lost_at += 1
        words = rf"none of the 3 chains .* sampling step {lost_at} of 10000.*smaller step_size"
        with pytest.raises(DivergenceError, match=words):
            sample(steep, Langevin(0.5), x0, num_steps=10_000)
        with pytest.raises(DivergenceError, match="warm-up step"):
            sample(steep, Langevin(0.5), x0, num_steps=10, num_warmup=200)


def test_divergence_may_be_left_to_the_caller_who_counts():
    """Training looks at every step's chains itself: no warning, no error, nothing mended."""
    x0 = torch.tensor([[0.0], [50.0]])
    chains = sample(LostBeyond(10.0), Langevin(0.1), x0, num_steps=5, on_divergence="count")
    assert chains.num_divergent == 1
    assert chains.positions[0].isfinite().all()
    assert chains.positions[1].isnan().all()
    steep, all_lost = DiagonalGaussian([100.0]), torch.full((2, 1), 100.0)
    how = dict(num_warmup=64, check_step_size=False, on_divergence="count")
    lost = sample(steep, Langevin(0.5), all_lost, num_steps=64, **how)
    assert lost.num_divergent == 2
    assert not lost.last.isfinite().any()

    def half_line(x):
        return torch.where(x > 0, x, math.inf).sum(dim=1)

    stuck = sample(half_line, MALA(0.1), -torch.ones(2, 1), num_steps=3, on_divergence="count")
    assert stuck.num_divergent == 6
    with pytest.raises(ValueError, match='on_divergence must be "report" or "count"'):
        sample(GAUSSIAN, MALA(0.1), torch.zeros(2, 2), num_steps=1, on_divergence="hide")


# --- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x0", "error", "words"),
    [
        (torch.tensor([[0.0], [math.nan]]), ValueError, "x0 must be finite, got NaN"),
        (torch.zeros(2, 1, dtype=torch.bfloat16), ValueError, "float32 or float64"),
        (torch.zeros(2, 1, dtype=torch.float16), ValueError, "float32 or float64"),
        (torch.zeros(2, 1, dtype=torch.long), ValueError, "float32 or float64"),
        (torch.zeros(0, 1), ValueError, "one chain at least"),
        (torch.tensor(1.0), ValueError, r"shape \(chains"),
        (0, ValueError, "num_chains must be a positive"),
        (True, TypeError, "a number of chains, got bool"),
        ([[0.0]], TypeError, "got list"),
    ],
)
def test_refuses_bad_starts(x0, error, words):
    with pytest.raises(error, match=words):
        sample(DiagonalGaussian([1.0]), MALA(0.1), x0, num_steps=1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"num_steps": 0}, "num_steps must be a positive whole number, got 0"),
        ({"num_steps": 2.5}, "num_steps must be a positive whole number"),
        ({"num_steps": 5, "num_warmup": -1}, "num_warmup must be"),
        ({"num_steps": 5, "thin": 0}, "thin must be a positive"),
        ({"num_steps": 5, "thin": 6}, "at least thin = 6, got 5"),
        ({"num_steps": 5, "seed": -1}, "seed must be"),
        ({"num_steps": 5, "seed": 1.5}, "seed must be"),
        ({"num_steps": 5, "keep": "some"}, "keep must be"),
    ],
)
def test_refuses_bad_arguments(arguments, words):
    with pytest.raises(ValueError, match=words):
        sample(GAUSSIAN, MALA(0.1), torch.zeros(2, 2), **arguments)


def test_refuses_what_is_no_energy_or_no_kernel():
    with pytest.raises(TypeError, match="energy_or_path must be a callable"):
        sample(3, MALA(0.1), torch.zeros(2, 2), num_steps=1)
    with pytest.raises(TypeError, match="kernel must have init and step"):
        sample(GAUSSIAN, "MALA", torch.zeros(2, 2), num_steps=1)


@pytest.mark.parametrize("kernel", [Langevin(0.1), MALA(0.1)])
def test_an_energy_of_the_wrong_shape_is_refused(kernel):
    with pytest.raises(ValueError, match=r"squeeze\(-1\)"):
        sample(lambda x: x.sum(1, keepdim=True), kernel, torch.zeros(3, 2), num_steps=1)
    with pytest.raises(ValueError, match="one energy a row"):
        sample(lambda x: x.sum(), kernel, torch.zeros(3, 2), num_steps=1)


def test_a_start_where_the_energy_is_not_finite_is_refused_by_adjusted_kernels():
    def half_line(x):
        return torch.where(x > 0, x, math.inf).sum(dim=1)

    with pytest.raises(ValueError, match="energy at x0 must be finite"):
        sample(half_line, MALA(0.1), torch.tensor([[1.0], [-1.0]]), num_steps=1)


def test_the_base_law_is_drawn_on_the_device_of_the_energy():
    chains = sample(NoisyGaussian().at(0.5), MALA(0.1), 4, num_steps=2)
    assert chains.positions.device.type == "cpu"


def test_autocast_of_the_energy_leaves_the_state_in_full_precision():
    weight = torch.nn.Parameter(torch.eye(2))

    def energy(x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return 0.5 * (x @ weight).square().sum(dim=1)

    for kernel in (Langevin(0.1), MALA(0.1)):
        assert (
            sample(energy, kernel, torch.ones(3, 2), num_steps=3).positions.dtype == torch.float32
        )


def test_a_class_and_an_energy_of_all_levels_are_told_apart_from_what_is_wanted():
    energy = basin.energies.NoiseConditional(2, hidden=(4,))
    with pytest.raises(TypeError, match=r"got <class .*MALA'>; make one: MALA\(\)"):
        basin.sample(energy.at(0.1), basin.samplers.MALA, torch.zeros(3, 2), num_steps=2)
    with pytest.raises(TypeError, match=r"noise-conditional NoiseConditional.*energy.at\(0.1\)"):
        basin.sample(energy, basin.samplers.MALA(), torch.zeros(3, 2), num_steps=2)
