"""Known failures of other samplers, each as a test that Basin passes.

A docstring names the thread, or the fact measured in torchebm 0.8.9 and ebmkit 0.16.0 (their
versions of 2026). Where a failure is one of law, the wrong version stands beside the right one as
a mutant that the same test must reject.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch

import basin
import basin.samplers.hmc as hmc_module
from basin.core.types import Kernel
from basin.energies import Gaussian, Tempered
from basin.mcmc.gradient_state import gradient_state
from basin.mcmc.langevin_proposal import langevin_log_ratio, langevin_proposal
from basin.mcmc.leapfrog import PhasePoint, leapfrog
from basin.mcmc.metropolis import metropolis, select
from basin.samplers import (
    HMC,
    MALA,
    NUTS,
    Barker,
    Langevin,
    ParallelTempering,
    ProbabilityFlow,
    Reflected,
    UnderdampedLangevin,
)
from basin.sampling import DivergenceError, DivergenceWarning, sample
from helpers.energies import NoisyGaussian, log_gamma_energy
from helpers.exact_start import TARGETS, exact_start
from helpers.statistics import GridLaw, assert_different_law, assert_same_law, normal_cdf

NUM_CHAINS = 20_000
ADJUSTED = (MALA(0.3), Barker(0.3), HMC(0.3, num_leapfrog_steps=3), NUTS(0.3, max_depth=3))
names = {"ids": lambda kernel: type(kernel).__name__}


def square(x):
    return 0.5 * x.flatten(1).square().sum(1)


class Counting:
    """An energy that counts the rows it was asked for."""

    def __init__(self, energy: Any = square) -> None:
        self.energy, self.num_calls, self.num_rows = energy, 0, 0

    def __call__(self, x):
        self.num_calls += 1
        self.num_rows += len(x)
        return self.energy(x)


# NaN and infinity


def walled(x):
    """-log p of exp(-x²/2 + sqrt(2 - x)), x < 2; NaN on the other side."""
    return (0.5 * x.square() - (2 - x).sqrt()).sum(1)


WALLED = GridLaw(walled, -9.0, 2.0)


def from_exact_draws_of_walled(generator):
    start = WALLED.draw(NUM_CHAINS, generator)
    kernel = HMC(0.3, num_leapfrog_steps=10, jitter=0.0)
    return sample(walled, kernel, start, num_steps=20, keep="last", on_divergence="count")


def test_hmc_does_not_make_a_proposal_of_a_position_that_is_not_a_number(generator):
    """torchebm: NaN becomes 0 inside the trajectory; variance 0.443 for 0.875, acceptance 0.999."""
    chains = from_exact_draws_of_walled(generator)
    assert_same_law(chains.last[:, 0], WALLED.cdf)
    assert chains.num_divergent > 0
    assert chains.acceptance_rate is not None
    assert chains.acceptance_rate < 1 - chains.num_divergent / (20 * NUM_CHAINS) + 1e-9


def test_zero_in_the_place_of_nan_moves_the_law(generator, monkeypatch):
    def repairing(energy, point, *rest):
        end = leapfrog(energy, point, *rest)
        at = gradient_state(energy, end.state.position.nan_to_num(nan=0.0))
        return PhasePoint(at, end.momentum.nan_to_num(nan=0.0))

    monkeypatch.setattr(hmc_module, "leapfrog", repairing)
    chains = from_exact_draws_of_walled(generator)
    assert_different_law(chains.last[:, 0], WALLED.cdf)


def without_gradient(x):
    """Finite, and its gradient is not: the root of zero, as in the norm of a difference."""
    return square(x) + (x - x.detach()).square().sqrt().sum(1)


@pytest.mark.parametrize(
    "kernel",
    [*ADJUSTED, ParallelTempering(MALA(0.3)), Reflected(MALA(0.3), lower=-9.0)],
    **names,
)
def test_where_no_gradient_is_a_number_nobody_moves_and_all_is_counted(kernel):
    """torchebm: 1000 of 1000 chains go to x = 0 with acceptance 1; blackjax#969, #973, #974: the
    tuner never saw the NaN. So the acceptance that it sees is zero, through wrappers too."""
    x0 = torch.linspace(0.5, 2.0, 12).unsqueeze(1)
    with pytest.warns(DivergenceWarning, match="36 of 36 transitions"):
        chains = sample(without_gradient, kernel, x0, num_steps=3)
    torch.testing.assert_close(chains.last, x0)
    assert chains.num_divergent == 36
    assert (chains.info["acceptance_probability"] == 0).all()


@pytest.mark.parametrize("kernel", [Langevin(0.03), UnderdampedLangevin(0.3)], **names)
def test_chains_that_diverge_are_reported(kernel):
    """ULA on a quartic: 983 of 1000 chains end as NaN in both peers, and nothing is said.
    Some leave, some stay; then all leave."""
    start = 3 * torch.randn(1000, 1, generator=torch.Generator().manual_seed(0))
    with pytest.warns(DivergenceWarning, match="the chain is lost"):
        sample(lambda x: x.pow(4).sum(1), kernel, start, num_steps=12, check_step_size=False)
    with pytest.raises(DivergenceError, match="none of the 100 chains is finite any more"):
        sample(lambda x: -x.pow(4).sum(1), kernel, 1 + start[:100].abs(), num_steps=64)


def test_a_start_that_is_not_a_number_is_refused():
    """Both peers return NaN from a NaN start."""
    with pytest.raises(ValueError, match="x0 must be finite, got NaN or infinity in 1 of 2 rows"):
        sample(square, MALA(), torch.tensor([[0.0], [math.nan]]), num_steps=1)
    with pytest.raises(ValueError, match="energy at x0 must be finite"):
        sample(walled, MALA(), torch.tensor([[0.0], [3.0]]), num_steps=1)


@pytest.mark.parametrize(
    "kernel", [pytest.param(NUTS(), marks=pytest.mark.slow), HMC(), MALA()], **names
)
def test_warm_up_at_the_end_of_a_support_keeps_a_step_size(kernel):
    """ebmkit: on Gamma(3, 1), NaN below zero, NUTS and AdaptiveMALA come out of warm-up with the
    step NaN, and 0 of 5000 chains move, without an error."""

    def gamma(x):
        return (x - 2 * x.log()).sum(1)

    start = torch.ones(400, 1)
    chains = sample(gamma, kernel, start, num_steps=25, num_warmup=150, on_divergence="count")
    assert 0.01 < chains.kernel.step_size < 10
    assert (chains.positions > 0).all()
    assert (chains.last != start).all()
    # 400 draws of standard deviation sqrt(3), or fewer effective ones: five standard errors
    assert abs(float(chains.positions.mean()) - 3) < 5 * math.sqrt(3 / 400)


def test_the_progress_line_shows_divergences(capsys):
    """pymc#7278: a user watches the bar, and it does not say that transitions diverge."""
    with pytest.warns(DivergenceWarning):
        sample(without_gradient, MALA(), torch.ones(4, 1), num_steps=64, progress=True)
    assert "256 divergent" in capsys.readouterr().err


# Laws


class Reversed(MALA):
    """q(x' | x) / q(x | x') in the place of its inverse."""

    def step(self, energy, state, generator):
        noise = torch.randn(state.position.shape, generator=generator, dtype=state.position.dtype)
        position = langevin_proposal(state.position, state.score, self.step_size, noise)
        proposed = gradient_state(energy, position)
        ratio = langevin_log_ratio(state.score, proposed.score, self.step_size, noise)
        decision = metropolis(state.energy - proposed.energy - ratio, generator)
        pairs = zip(proposed, state, strict=True)
        return type(state)(*(select(decision.is_accepted, *pair) for pair in pairs)), decision


def test_the_ratio_of_mala_is_not_reversed(generator):
    """blackjax#653: the acceptance ratio of a released MALA was upside down. On a symmetric target
    it hardly shows; here the target leans."""
    start, cdf = exact_start("log-gamma", generator), TARGETS["log-gamma"].cdf
    run = {"num_steps": 20, "keep": "last"}
    assert_same_law(sample(log_gamma_energy, MALA(0.5), start, **run).last[:, 0], cdf)
    assert_different_law(sample(log_gamma_energy, Reversed(0.5), start, **run).last[:, 0], cdf)


def test_the_ratio_of_mala_is_that_of_two_normal_densities(generator):
    """needs.md, N18: the ratio computed in two ways."""
    x, noise = torch.randn(2, 50, 3, generator=generator, dtype=torch.float64)
    epsilon = 0.2
    here = basin.score(log_gamma_energy, x)
    moved = langevin_proposal(x, here, epsilon, noise)
    there = basin.score(log_gamma_energy, moved)
    width = math.sqrt(2 * epsilon)
    onward = torch.distributions.Normal(x + epsilon * here, width).log_prob(moved).sum(1)
    back = torch.distributions.Normal(moved + epsilon * there, width).log_prob(x).sum(1)
    torch.testing.assert_close(langevin_log_ratio(here, there, epsilon, noise), back - onward)


@dataclass(frozen=True)
class Heun(Kernel):
    """The drift averaged over both ends of the step, where the far end was found without noise."""

    step_size: float = 0.5

    def init(self, energy, x, generator):
        return Langevin(self.step_size).init(energy, x, generator)

    def step(self, energy, state, generator):
        x, h = state.position, self.step_size
        first = basin.score(energy, x)
        drift = (first + basin.score(energy, x + h * first)) / 2
        noise = torch.randn(x.shape, generator=generator)
        moved = x + h * drift + math.sqrt(2 * h) * noise
        return Langevin(h).init(energy, moved, generator), Langevin(h).step(
            energy, state, torch.Generator()
        )[1]


def test_the_law_of_langevin_is_its_closed_form_and_not_that_of_a_heun_without_noise(generator):
    """torchebm integrator="heun": N(0, 1), step 0.5: variance 1.634 at twice the cost, where Euler
    has 1 / (1 - 0.25) = 1.333."""
    law = normal_cdf(0.0, math.sqrt(4 / 3))
    start = math.sqrt(4 / 3) * torch.randn(NUM_CHAINS, 1, generator=generator)
    run = {"num_steps": 15, "keep": "last"}
    assert_same_law(sample(square, Langevin(0.5), start, **run).last[:, 0], law)
    assert_different_law(sample(square, Heun(0.5), start, **run).last[:, 0], law)


def test_a_step_and_a_noise_that_do_not_belong_together_are_a_temperature(generator):
    """openai/ebm_code_release#2, point0bar1/ebm-anatomy#1, swyoon/normalized-autoencoders#12: is
    x - 10 dE/dx + 0.005 z Langevin at all? Of E/T with T = 0.005² / 20, and only by that name."""
    drift, noise_std = 10.0, 0.005
    temperature = noise_std**2 / (2 * drift)
    assert temperature == pytest.approx(1.25e-6)
    x = torch.randn(20, 2, generator=generator)
    kernel, energy = Langevin(drift * temperature), Tempered(square, temperature)
    seeds = [torch.Generator().manual_seed(4) for _ in range(2)]
    moved, _ = kernel.step(energy, kernel.init(energy, x, seeds[0]), seeds[0])
    by_hand = x + drift * basin.score(square, x)
    by_hand = by_hand + noise_std * torch.randn(x.shape, generator=seeds[1])
    torch.testing.assert_close(moved.position, by_hand, rtol=1e-4, atol=1e-5)
    assert {"step_size"} == set(Langevin.__dataclass_fields__)  # no noise to mismatch


def test_tempered_langevin_has_the_law_of_its_temperature(generator):
    """The same for a step that has a law: variance T / (1 - epsilon / (2 T)) on N(0, 1)."""
    temperature, epsilon = 0.25, 0.05
    law = math.sqrt(temperature / (1 - epsilon / (2 * temperature)))
    start = law * torch.randn(NUM_CHAINS, 1, generator=generator)
    kernel = Langevin(epsilon)
    ends = [
        sample(energy, kernel, start, num_steps=20, keep="last").last[:, 0]
        for energy in (Tempered(square, temperature), square)
    ]
    assert_same_law(ends[0], normal_cdf(0.0, law))
    assert_different_law(ends[1], normal_cdf(0.0, law))


def test_chains_in_half_precision_are_refused_and_would_have_the_wrong_law(generator):
    """needs.md 0.5: ULA on N(3, 1), step 1e-3: standard deviation 1.9 in bfloat16, 1.2 in
    float16."""
    for dtype in (torch.bfloat16, torch.float16):
        with pytest.raises(ValueError, match="half precision have the wrong law"):
            sample(square, Langevin(1e-3), torch.zeros(4, 1, dtype=dtype), num_steps=1)

    def at_three(x):
        return 0.5 * (x - 3).square().sum(1)

    law = math.sqrt(1 / (1 - 1e-3 / 2))
    start = 3 + law * torch.randn(NUM_CHAINS, 1, generator=generator)
    kept = sample(at_three, Langevin(1e-3), start, num_steps=300, keep="last").last
    assert_same_law(kept[:, 0], normal_cdf(3.0, law))
    half = start.bfloat16()
    for _ in range(300):
        noise = torch.randn(half.shape, generator=generator).bfloat16()
        half = langevin_proposal(half, 3 - half, 1e-3, noise)
    assert_different_law(half[:, 0], normal_cdf(3.0, law))


def test_an_energy_in_half_precision_does_not_put_the_chains_in_it(generator):
    """needs.md T4: energies under autocast come out in bfloat16; the state must not follow."""
    weight = torch.randn(2, 2, generator=generator)

    def energy(x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return (x @ weight).square().sum(1)

    for kernel in ADJUSTED:
        state = kernel.init(energy, torch.randn(5, 2, generator=generator), generator)
        state, _ = kernel.step(energy, state, generator)
        assert {field.dtype for field in state} == {torch.float32}


CORRELATED = Gaussian([0.0, 0.0], [[1.0, 0.9], [0.9, 1.0]])


class SharedVelocity(UnderdampedLangevin):
    """One velocity for all."""

    def init(self, energy, x, generator):
        state = super().init(energy, x, generator)
        return state._replace(velocity=state.velocity[:1].expand_as(x))


def test_replicas_of_parallel_tempering_share_no_velocity(generator):
    """ebmkit ParallelTempering(UnderdampedLangevin): one velocity for all replicas: variance 0.532
    for 1 on a correlated Gaussian. Replicas start at rest, so that the law may not move at all."""
    temperatures = (1.0, 2.0, 4.0)
    start = CORRELATED.sample(3 * NUM_CHAINS, generator).view(3, NUM_CHAINS, 2).float()
    start = start * torch.tensor(temperatures).sqrt()[:, None, None]

    def first_coordinate(inner):
        kernel = ParallelTempering(inner, temperatures)
        state = kernel.init_at(CORRELATED, start, torch.zeros((), dtype=torch.int64), generator)
        for _ in range(10):
            state, _ = kernel.step(CORRELATED, state, generator)
        return state.position[:, 0]

    assert_same_law(first_coordinate(UnderdampedLangevin(0.3)), normal_cdf(0.0, 1.0))
    assert_different_law(first_coordinate(SharedVelocity(0.3)), normal_cdf(0.0, 1.0))


def test_the_tempered_sampler_on_offer_leaves_an_uneven_mixture_alone(generator):
    """ebmkit TemperedTransitions: not reversible as coded; P(x < 0) 0.26 for 0.273, -9 to -11
    standard errors. Parallel tempering is the one that Basin offers; the mutant trades places
    without regard to the energies. Each replica starts at the law of its own temperature."""
    target, temperatures = TARGETS["mixture"], (1.0, 3.0, 9.0)

    def first(x):
        """The energy along the first coordinate."""
        return target.energy(torch.cat([x, torch.zeros_like(x)], dim=1))

    replicas = [
        torch.cat(
            [
                GridLaw(lambda x, t=t: first(x) / t, -30.0, 30.0).draw(NUM_CHAINS, generator),
                2 * math.sqrt(t) * torch.randn(NUM_CHAINS, 1, generator=generator),
            ],
            dim=1,
        ).float()
        for t in temperatures
    ]

    def ends(kernel):
        parity = torch.zeros((), dtype=torch.int64)
        state = kernel.init_at(target.energy, torch.stack(replicas), parity, generator)
        for _ in range(6):
            state, _ = kernel.step(target.energy, state, generator)
        return state.position[:, 0]

    assert_same_law(ends(ParallelTempering(MALA(0.5), temperatures)), target.cdf)

    class Careless(ParallelTempering):
        def step(self, energy, state, generator):
            state, info = super().step(energy, state, generator)
            traded = torch.rand(NUM_CHAINS, generator=generator) < 0.1
            replicas = state.replicas.clone()
            replicas[0, traded], replicas[1, traded] = replicas[1, traded], state.position[traded]
            return self.init_at(energy, replicas, state.parity, generator), info

    assert_different_law(ends(Careless(MALA(0.5), temperatures)), target.cdf)


@pytest.mark.parametrize("num_steps", [20, 100])
def test_the_probability_flow_ends_at_the_width_of_the_data(num_steps, generator):
    """ebmkit ProbabilityFlowODE (Euler) with the exact score of N(0, 1), from 50 to 0.01: variance
    4.43 with 20 rungs and 1.35 with 100, exact 1.00."""
    start = math.sqrt(1 + 50.0**2) * torch.randn(NUM_CHAINS, 1, generator=generator)
    noisy = NoisyGaussian(dim=1)
    path, kernel = ProbabilityFlow.down(noisy, 50.0, 0.01, num_steps)
    ends = sample(path, kernel, start, num_steps=num_steps, keep="last").last
    levels = torch.logspace(math.log10(50), -2, num_steps + 1, dtype=torch.float64)
    heun, euler = stretch_by_heun(levels), stretch_by_euler(levels)
    torch.testing.assert_close(ends, heun * start, rtol=1e-4, atol=1e-5)
    # Of the variance 1 + 0.01²; Heun's error is of second order, Euler's of first.
    widths = [(1 + 50.0**2) * stretch**2 / (1 + 0.01**2) for stretch in (heun, euler)]
    assert abs(widths[0] - 1) < (0.06 if num_steps == 20 else 0.002)
    assert abs(widths[1] - 1) > (0.06 if num_steps == 20 else 0.002)


def stretch_by_heun(levels):
    """Of all steps together: on N(0, 1) each multiplies x by a number."""
    upper, lower = levels[:-1], levels[1:]
    slope, below = upper / (1 + upper**2), lower / (1 + lower**2)
    fall = lower - upper
    return float((1 + fall / 2 * (slope + (1 + fall * slope) * below)).prod())


def stretch_by_euler(levels):
    """The peer's rule: in sigma², with the slope of the upper level alone."""
    upper, lower = levels[:-1], levels[1:]
    return float((1 - 0.5 * (upper**2 - lower**2) / (1 + upper**2)).prod())


# State, seeds, cost, shapes


def test_a_run_leaves_no_trace_on_its_kernel():
    """ebmkit: a run overwrites NUTS.step_size (0.1 to 1.06), and two runs of one sampler
    interact; ParallelTempering.step before sample fails."""
    for kernel in (*ADJUSTED, ParallelTempering(MALA(0.3))):
        before = repr(kernel), hash(kernel)
        first, second = (
            sample(square, kernel, torch.ones(8, 2), num_steps=4, num_warmup=100, seed=1)
            for _ in range(2)
        )
        assert (repr(kernel), hash(kernel)) == before
        assert torch.equal(first.positions, second.positions)
        generator = torch.Generator().manual_seed(0)
        state, _ = kernel.step(square, kernel.init(square, torch.ones(3, 2), generator), generator)
        assert state.position.isfinite().all()


def test_a_tuned_kernel_is_not_tuned_again():
    """ebmkit NUTS and AdaptiveMALA repeat their warm-up at each sample(): 4,078 energies for ten
    draws, and 4,060 for the next ten."""
    tuned = sample(square, MALA(), torch.zeros(6, 2), num_steps=1, num_warmup=50).kernel
    energy = Counting()
    again = sample(energy, tuned, torch.zeros(6, 2), num_steps=10)
    assert again.kernel == tuned
    assert energy.num_calls == 11


@pytest.mark.parametrize(
    ("kernel", "num_calls"),
    [(MALA(0.1), 1), (Barker(0.1), 1), (HMC(0.1, num_leapfrog_steps=10), 10), (Langevin(0.1), 1)],
    ids=["MALA", "Barker", "HMC", "Langevin"],
)
def test_no_gradient_is_computed_twice(kernel, num_calls):
    """torchebm: 22 energy passes for ten leapfrog steps; ebmkit: two for a step of MALA."""
    energy = Counting()
    sample(energy, kernel, torch.ones(4, 2), num_steps=7, check_step_size=False)
    at_the_start = 0 if isinstance(kernel, Langevin) else 1
    assert energy.num_calls == 7 * num_calls + at_the_start


def test_the_gradients_that_nuts_says_are_those_that_it_made(generator):
    """A benchmark per gradient is worth what its count is worth: rows asked for, chain by chain.

    At most an eighth of a batch has stopped and is carried along to the next departure.
    """
    energy = Counting()
    kernel = NUTS(0.4)
    state = kernel.init(energy, torch.randn(50, 3, generator=generator), generator)
    energy.num_rows, said = 0, 0
    for _ in range(20):
        state, info = kernel.step(energy, state, generator)
        said += int(info.num_gradient_evaluations.sum())
    assert said <= energy.num_rows <= said * 8 / 7


def test_images_are_sampled_as_vectors_are():
    """torchebm HMC on (16, 1, 8, 8): RuntimeError, its kinetic energy sums the last axis only."""
    x0 = torch.randn(16, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    for kernel in ADJUSTED:
        images = sample(square, kernel, x0, num_steps=3, seed=5)
        vectors = sample(square, kernel, x0.flatten(1), num_steps=3, seed=5)
        torch.testing.assert_close(images.positions.flatten(2), vectors.positions)


@pytest.mark.parametrize("kernel", [*ADJUSTED, Langevin(), ParallelTempering(MALA())], **names)
def test_an_energy_of_one_column_is_refused_in_words(kernel):
    """ebmkit: (B, 1) energies become (B, B) ratios, "size of tensor a (65536)..."."""
    with pytest.raises(ValueError, match=r"one energy a row.*end it with .squeeze\(-1\)"):
        sample(lambda x: square(x)[:, None], kernel, torch.zeros(5, 2), num_steps=1)


def test_wrong_settings_are_refused_in_words():
    """ebmkit: step_size = 0 is accepted, -1 a "math domain error", no leapfrog steps an
    UnboundLocalError."""
    for wrong, message in (
        (lambda: MALA(0.0), "step_size must be positive, got 0.0"),
        (lambda: Langevin(-1.0), "step_size must be positive, got -1.0"),
        (lambda: HMC(num_leapfrog_steps=0), "num_leapfrog_steps must be a positive whole number"),
    ):
        with pytest.raises(ValueError, match=message):
            wrong()


@pytest.mark.parametrize("kernel", [*ADJUSTED, Langevin()], **names)
def test_global_random_numbers_are_neither_used_nor_moved(kernel):
    """ebmkit draws from the global generator in some 40 places; torchebm's data sets reset it."""
    ends = []
    with torch.random.fork_rng():
        for seed in (1, 2):
            torch.manual_seed(seed)
            before = torch.random.get_rng_state()
            chains = sample(square, kernel, torch.zeros(5, 2), num_steps=5, num_warmup=5, seed=3)
            assert torch.equal(torch.random.get_rng_state(), before)
            ends.append(chains.positions)
    assert torch.equal(*ends)


@pytest.mark.parametrize("kernel", [*ADJUSTED, Langevin(), UnderdampedLangevin()], **names)
def test_sampling_works_inside_inference_mode(kernel):
    """Lightning-AI/pytorch-lightning#13948, #14497, #17653: no gradients in a validation loop."""
    with torch.inference_mode():
        x0 = torch.ones(4, 2)
        chains = sample(square, kernel, x0, num_steps=3)
    assert not torch.equal(chains.last, x0)
