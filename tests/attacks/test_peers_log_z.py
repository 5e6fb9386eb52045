"""Known failures of other estimates of log Z and likelihoods, each as a test that Basin passes.

A docstring names the thread, or the fact measured in torchebm 0.8.9 and ebmkit 0.16.0. True values
are closed forms.
"""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from basin.core.gradients import score
from basin.energies import Gaussian, Ising, Standardised
from basin.energies.analytic.noised_gaussian_mixture import NoisedGaussianMixture
from basin.partition import (
    LogZNotEstimated,
    annealed_importance_sampling,
    bridge_sampling,
    enumeration,
    forward_annealing,
    gaussian_reference,
    probability_flow_likelihood,
    quadrature,
    reverse_annealing,
    sequential_monte_carlo,
)
from basin.partition.annealing import AnnealingSchedule
from basin.paths import Geometric
from basin.samplers import MALA, NUTS

ENOUGH, REPETITIONS = 177, 200  # at 95%: fewer have p < 1e-4
LOG_2_PI = math.log(2 * math.pi)
BASE = Gaussian([0.0, 0.0], [[1.0, 0.0], [0.0, 1.0]])
TRUTH = math.log(math.pi / 2)


def narrow(x):
    """N(0, 1/4) in two dimensions: log Z = log(pi / 2)."""
    return 2 * x.square().sum(1)


ESTIMATES = {
    "quadrature": lambda energy, g: quadrature(energy, [[-6.0, 6.0], [-6.0, 6.0]]),
    "gaussian_reference": lambda energy, g: gaussian_reference(
        energy, [0.0, 0.0], 0.6, num_samples=2000, generator=g
    ),
    "annealed": lambda energy, g: annealed_importance_sampling(
        energy, MALA(), base=BASE, num_chains=128, num_times=20, generator=g
    ),
    "smc": lambda energy, g: sequential_monte_carlo(
        energy, MALA(), base=BASE, num_particles=256, generator=g
    ),
    "bridge": lambda energy, g: bridge_sampling(
        energy, torch.randn(500, 2, generator=g) / 2, base=BASE, generator=g
    ),
}
methods = pytest.mark.parametrize("method", ESTIMATES)


@methods
@pytest.mark.parametrize("offset", [-1e4, 1e4])
def test_energies_far_from_zero_overflow_nothing(method, offset):
    """google/qhbm-library#231: exp(1e4) overflows, exp(-1e4) is zero, without log-sum-exp. The
    offset passes through to log Z, and the interval stays as narrow (float32 knows such energies
    to a thousandth of a nat)."""
    found = ESTIMATES[method](lambda x: narrow(x) + offset, torch.Generator().manual_seed(3))
    assert abs(found.log_z - (TRUTH - offset)) < 2 * found.error + 1e-3  # 3.9 standard errors
    assert found.error < 0.5


@methods
def test_an_energy_of_one_column_is_refused_in_words(method, generator):
    """ebmkit log_likelihood: an energy (B, 1) returns (256, 1), or broadcasts to (B, B)."""
    with pytest.raises(ValueError, match=r"one energy a row.*squeeze"):
        ESTIMATES[method](lambda x: narrow(x)[:, None], generator)


@methods
def test_global_random_numbers_are_neither_used_nor_moved(method):
    """ebmkit AIS draws from the global generator: no two answers are the same."""
    found = []
    with torch.random.fork_rng():
        for seed in (1, 2):
            torch.manual_seed(seed)
            found.append(ESTIMATES[method](narrow, torch.Generator().manual_seed(7)).log_z)
    assert found[0] == found[1]


def test_flat_and_single_state_energies_by_enumeration():
    """dwavesystems/dwave-samplers#74: the small cases that a maintainer asks for: no couplings
    (N log 2), one state that is far below the others (minus its energy), and 2^N states at all."""
    free = Ising(6)
    assert enumeration(free).log_z == pytest.approx(6 * math.log(2), abs=1e-6)
    strong = Ising(6, fields=50.0)
    lowest = -float(strong(torch.ones(1, 6)).detach())
    assert enumeration(strong).log_z == pytest.approx(lowest, abs=1e-4)


def test_weights_are_averaged_over_chains(generator):
    """tensorflow/probability#267: the mean over the wrong axis, log Z off by 1.2 nats. The mean of
    the weights over chains is Z; the mean of their logarithms is lower."""
    schedule = AnnealingSchedule.even(MALA(0.2), 3)
    weights = forward_annealing(Geometric(BASE, narrow), schedule, 20_000, generator)
    found = weights.log_z()
    assert weights.log_weights.shape == (20_000,)
    assert abs(found.log_z - TRUTH) < 3.9 * found.standard_error
    mutant = float(weights.log_weights.mean())
    assert abs(mutant - TRUTH) > 3.9 * found.standard_error


def test_forward_is_low_reverse_is_high_and_both_say_so(generator):
    """needs.md, N5: a direction of bias must be stated. Over repetitions of few short walks the
    forward estimate is low in the mean and the reverse one is high: they bracket log Z."""
    path = Geometric(BASE, narrow)
    schedule = AnnealingSchedule.even(MALA(0.2), 2)
    up, down = [], []
    for _ in range(300):
        up.append(forward_annealing(path, schedule, 8, generator).log_weights)
        draws = torch.randn(8, 2, generator=generator) / 2
        down.append(reverse_annealing(path, schedule, draws, generator).log_weights)
    forward = torch.stack(up).logsumexp(1) - math.log(8) - TRUTH
    reverse = -(torch.stack(down).logsumexp(1) - math.log(8)) - TRUTH
    assert float(forward.mean()) < -3 * float(forward.std()) / math.sqrt(300)
    assert float(reverse.mean()) > 3 * float(reverse.std()) / math.sqrt(300)
    one = forward_annealing(path, schedule, 500, generator).log_z()
    other = reverse_annealing(
        path, schedule, torch.randn(500, 2, generator=generator) / 2, generator
    )
    careful = other.log_z()
    # the end that the bias runs away from is the farther one
    assert one.upper - one.log_z >= one.log_z - one.lower
    assert careful.log_z - careful.lower >= careful.upper - careful.log_z


def tilted(x):
    """Its weights under N(0, 1) are exp(2 x) times a constant: log-normal, of variance e^4 - 1."""
    return (0.5 * x.square() - 2 * x).sum(1)


def test_intervals_cover_where_the_weights_are_heavy(generator):
    """The usual interval of importance sampling covers 79% instead of 95 with 256 such weights,
    since the heaviest are rare and mostly unseen. The same holds for AIS on few chains."""
    truth = 0.5 * LOG_2_PI + 2.0
    ours, usual = 0, 0
    for _ in range(REPETITIONS):
        found = gaussian_reference(
            tilted,
            [0.0],
            1.0,
            num_samples=256,
            generator=generator,
            minimum_effective_sample_size=1.0,
        )
        ours += found.lower <= truth <= found.upper
        usual += abs(found.log_z - truth) <= 1.96 * found.standard_error
    assert ours >= ENOUGH
    assert usual < ENOUGH  # the mutant


def test_a_log_likelihood_without_a_known_log_z_is_refused(generator):
    """needs.md, N5 and N7: no number from collapsed weights, and none below the user's tolerance;
    the message says what to raise."""
    far = torch.full((30,), 4.0)
    with pytest.raises(LogZNotEstimated, match="raise num_samples"):
        gaussian_reference(lambda x: 0.5 * x.square().sum(1), far, 1.0, generator=generator)
    found = ESTIMATES["smc"](narrow, generator)
    with pytest.raises(LogZNotEstimated, match=r"known to 0.0001 nats.*num_particles"):
        found.within(1e-4)
    assert found.within(1.0) is found


def test_disjoint_laws_are_refused_and_not_bridged(generator):
    """Bridge sampling without common points has an answer, and it is noise."""
    draws = 0.1 * torch.randn(200, 2, generator=generator) + 50
    with pytest.raises(LogZNotEstimated, match="overlap"):
        bridge_sampling(
            lambda x: 50 * (x - 50).square().sum(1), draws, base=BASE, generator=generator
        )


@pytest.mark.parametrize("kernel", [MALA(0.3), NUTS(0.3, max_depth=2)], ids=["MALA", "NUTS"])
def test_annealing_leaves_the_kernel_alone_and_does_not_warm_up_at_each_temperature(
    kernel, generator
):
    """ebmkit AIS changes the user's sampler, and with NUTS repeats its warm-up at each temperature:
    1,034 energies against 28 with HMC, for four temperatures."""
    calls = []

    def counted(x):
        calls.append(len(x))
        return narrow(x)

    before = repr(kernel)
    schedule = AnnealingSchedule.even(kernel, 4)
    annealed_importance_sampling(
        counted, kernel, base=BASE, schedule=schedule, num_chains=64, generator=generator
    )
    assert repr(kernel) == before
    # four weights; at three stages a start and a move (of at most three leapfrog steps)
    assert len(calls) <= 4 + 3 * (1 + (1 if isinstance(kernel, MALA) else 3))


def test_the_flow_likelihood_is_of_high_order_and_states_its_error():
    """ebmkit pf_ode_log_likelihood, "exact": Euler; N(0, I) in 20 dimensions, 50 to 0.01: 1.4 nats
    too high with 200 rungs."""
    exact = NoisedGaussianMixture(20)
    x = torch.randn(2, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    truth = -exact(x, 0.01)
    g = torch.Generator().manual_seed(1)
    # a probe is exact here, where all directions curve alike
    found = probability_flow_likelihood(
        exact, x, 0.01, 50.0, num_steps=40, num_probes=1, generator=g
    )
    assert float((found.log_prob - truth).abs().max()) < 0.01
    assert ((found.log_prob - truth).abs() <= found.numerical_error + 1e-6).all()
    levels = torch.logspace(-2, math.log10(50), 201, dtype=torch.float64).tolist()
    y, total = x, torch.zeros(2, dtype=torch.float64)
    for low, high in itertools.pairwise(levels):  # the mutant: Euler's rule
        step = math.log(high / low)
        total = total + step * low**2 * 20 / (1 + low**2)
        y = y - step * low**2 * score(exact.at(low), y)
    euler = -exact(y, 50.0) + total
    assert float((euler - truth).abs().max()) > 0.5


@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_log_z_does_not_depend_on_units_and_densities_do(factor):
    """needs.md, N6; yang-song/score_sde#24, Kim-Dongjun/Soft-Truncation#2: a term of the change of
    units was missing, and published numbers were withdrawn. The determinant is in the energy."""
    scale = torch.full((2,), factor)
    energy = Standardised(narrow, torch.zeros(2), scale)
    box = torch.tensor([[-6.0, 6.0], [-6.0, 6.0]]) * factor
    assert quadrature(energy, box).log_z == pytest.approx(TRUTH, abs=1e-4)
    x = torch.tensor([[0.3, -0.2]])
    there, here = -float(energy(factor * x)), -float(narrow(x))
    assert there == pytest.approx(here - 2 * math.log(factor), abs=1e-4)
