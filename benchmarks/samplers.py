"""Every sampler on targets whose moments are known: how wrong, how mixed, and at what cost.

    python benchmarks/samplers.py [--target ...] [--kernel ...] [--page_only]

One process, one thread. Goes on where it was stopped: what benchmarks/results/samplers.json holds
is not run again (delete the file to begin anew). docs/samplers.md is written from it.

    off      the largest error of a mean (in true standard deviations) and of a standard deviation
             (in percent) over the statistics of the target
    in s.e.  the larger of their t statistics. Chains are independent, so the spread of the chains'
             own averages is the Monte Carlo error, whether they mix or not
    p        of the worst t statistic (Student, chains - 1 degrees of freedom), times the number of
             statistics looked at (Bonferroni): small, the answer is wrong by more than noise
    ESS      the smallest bulk ESS over the statistics
    energies rows given to the energy, with or without a gradient, warm-up left out where the kernel
             adapts and in proportion where it does not; seconds of the processor likewise

Chains start wide and not at the target, but for the walks down the noise levels, which start at
exact draws of the widest one and count as one independent draw a chain. A kernel of basin/samplers
that no case names is an error.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import math
import pkgutil
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from scipy import stats
from torch.distributions.constraints import positive

import basin
from basin.core.discrete import energies_of_all_states, states
from basin.core.types import Kernel
from basin.mcmc import effective_sample_size, split_rhat
from basin.mcmc.metric import DenseMetric
from basin.samplers import (
    HMC,
    MALA,
    NUTS,
    AnnealedLangevin,
    Barker,
    BlockGibbs,
    Gibbs,
    GibbsWithGradients,
    Langevin,
    ParallelTempering,
    PreconditionedLangevin,
    PredictorCorrector,
    ProbabilityFlow,
    Reflected,
    ReverseDiffusion,
    SteinVariational,
    StochasticGradientLangevin,
    UnderdampedLangevin,
)
from basin.sampling.adapt import is_adaptable

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "samplers.json"
PEER_RESULTS = ROOT / "benchmarks" / "results" / "nuts_blackjax.json"
PAGE = ROOT / "docs" / "samplers.md"

SEED, THRESHOLD = 0, 1e-4
MIXED, HARDLY_MIXED = 1.01, 1.1  # R-hat
SIGMA_MAX, SIGMA = 20.0, 0.1


# Targets ----------------------------------------------------------------------------------------


class Target(NamedTuple):
    """An energy, where chains start, and statistics of x with their true moments."""

    energy: Any
    start: Callable[[int, torch.Generator], torch.Tensor]
    mean: torch.Tensor
    deviation: torch.Tensor
    statistics: Callable[[torch.Tensor], torch.Tensor] = lambda x: x
    draw: Callable[[int, torch.Generator], torch.Tensor] | None = None


def wide(dim, scale=2.0):
    """N(0, scale^2 I)."""
    return lambda n, generator: scale * torch.randn(n, dim, generator=generator)


def gaussian(dim=10, condition=100.0):
    """Variances from 1 to 100 evenly in the logarithm, along axes at random, in 10 dimensions."""
    generator = torch.Generator().manual_seed(1)
    axes = torch.linalg.qr(torch.randn(dim, dim, generator=generator, dtype=torch.float64))[0]
    variances = torch.logspace(0, math.log10(condition), dim, dtype=torch.float64)
    covariance = (axes * variances) @ axes.T
    precision, mean = torch.linalg.inv(covariance).float(), torch.arange(dim) / dim

    def energy(x):
        centred = x - mean
        return 0.5 * ((centred @ precision) * centred).sum(1)

    def draw(n, generator):
        return mean + torch.randn(n, dim, generator=generator) @ (axes * variances.sqrt()).T.float()

    return Target(energy, wide(dim, 5.0), mean, covariance.diagonal().sqrt(), draw=draw)


def mixture():
    """0.7 N((-3, 0), I) + 0.3 N((3, 0), I/4): a barrier of 8 nats from the wide mode."""
    energy = basin.energies.GaussianMixture(
        [[-3.0, 0.0], [3.0, 0.0]], torch.stack([torch.eye(2), torch.eye(2) / 4]), [0.7, 0.3]
    ).float()
    mean, covariance = mixture_moments(0.0)
    return Target(energy, wide(2), mean, covariance.diagonal().sqrt(), draw=energy.sample)


def funnel(dim=10, scale=3.0):
    """Neal's: v ~ N(0, 3^2), nine others N(0, e^v). The statistic is v: the others' are too heavy
    in the tails to be measured."""

    def energy(x):
        v, rest = x[:, 0], x[:, 1:]
        inner = 0.5 * rest.square().sum(1) * (-v).exp() + 0.5 * (dim - 1) * v
        return 0.5 * (v / scale).square() + inner

    def draw(n, generator):
        z = torch.randn(n, dim, generator=generator)
        return torch.cat([scale * z[:, :1], (0.5 * scale * z[:, :1]).exp() * z[:, 1:]], dim=1)

    return Target(
        energy, wide(dim, 1.0), torch.zeros(1), torch.tensor([scale]), lambda x: x[..., :1], draw
    )


def banana(bend=1.0, width=0.5):
    """x_0 ~ N(0, 1), x_1 ~ N(x_0^2 - 1, 1/4)."""

    def energy(x):
        ridge = bend * (x[:, 0].square() - 1)
        return 0.5 * x[:, 0].square() + 0.5 * ((x[:, 1] - ridge) / width).square()

    def draw(n, generator):
        z = torch.randn(n, 2, generator=generator)
        return torch.stack([z[:, 0], bend * (z[:, 0].square() - 1) + width * z[:, 1]], dim=1)

    deviation = torch.tensor([1.0, math.sqrt(2 * bend**2 + width**2)])
    return Target(energy, wide(2), torch.zeros(2), deviation, draw=draw)


def gamma(shape=2.5):
    """Gamma(2.5) on x > 0, with a wall at zero."""
    moments = torch.tensor([shape]), torch.tensor([math.sqrt(shape)])

    def start(n, generator):
        return 5 * torch.rand(n, 1, generator=generator) + 0.01

    def draw(n, generator):
        uniform = torch.rand(n, 1, generator=generator, dtype=torch.float64)
        return torch.from_numpy(stats.gamma(shape).ppf(uniform.numpy())).float()

    return Target(lambda x: (x - (shape - 1) * x.log()).sum(1), start, *moments, draw=draw)


def log_gamma(shape=2.5):
    """The same through ``Transformed``: chains move log x, statistics are of x."""
    walled = gamma(shape)
    free = basin.energies.Transformed.onto(positive, walled.energy)

    def start(n, generator):
        return free.unconstrain(walled.start(n, generator))

    def draw(n, generator):
        return free.unconstrain(walled.draw(n, generator))

    return Target(free, start, walled.mean, walled.deviation, free.restore, draw)


def logistic_posterior(num_rows=500, with_centre=True):
    """Intercept and slope of a logistic regression on 500 rows, N(0, I) before; by quadrature."""
    generator = torch.Generator().manual_seed(2)
    inputs = torch.randn(num_rows, generator=generator)
    chance = torch.sigmoid(0.5 + inputs)
    sign = 2 * (torch.rand(num_rows, generator=generator) < chance).float() - 1
    rows = torch.stack([sign, sign * inputs], dim=1)

    def row_energy(x, rows):
        return torch.nn.functional.softplus(-(rows * x.unsqueeze(1)).sum(-1))

    def prior(x):
        return 0.5 * x.square().sum(1)

    def plain(x):
        return prior(x) + torch.nn.functional.softplus(-x @ rows.to(x).T).sum(1)

    side = torch.linspace(-0.5, 2.5, 241, dtype=torch.float64)
    grid = torch.cartesian_prod(side, side)
    weights = torch.softmax(-plain(grid), 0)
    mean = weights @ grid
    deviation = (weights @ (grid - mean).square()).sqrt()
    centre = mean.float() if with_centre else None
    energy = basin.energies.Posterior(prior, row_energy, rows, centre)

    def draw(n, generator):
        chosen = torch.multinomial(weights, n, replacement=True, generator=generator)
        return grid[chosen].float()

    return Target(energy, wide(2, 0.5), mean, deviation, draw=draw)


def whole_numbers(energy):
    """Mean of a row and its energy as the statistics, by enumeration of every row."""
    dim = math.prod(energy.event_shape)
    every = states(0, 2**dim, dim, 2)
    energies = energies_of_all_states(energy, energy.event_shape, 2)
    weights = torch.softmax(-energies, 0)

    def statistics(x):
        with torch.no_grad():
            values = energy(x.flatten(0, -2)).view(x.shape[:-1])
        return torch.stack([x.mean(-1), values], dim=-1)

    of_all = statistics(every.float()).double()
    mean = weights @ of_all
    deviation = (weights @ (of_all - mean).square()).sqrt()
    return Target(energy, energy.sample_base, mean, deviation, statistics, energy.sample)


def ising(side=4, coupling=0.25, field=0.1):
    """16 spins on a square lattice with open edges, in a field."""
    place = torch.cartesian_prod(torch.arange(side), torch.arange(side))
    distance = (place[:, None] - place[None]).abs().sum(-1)
    couplings = coupling * (distance == 1).double()
    return whole_numbers(basin.energies.Ising(side**2, couplings, field))


def machine():
    """A restricted Boltzmann machine, 12 visible and 6 hidden units, weights N(0, 1)."""
    energy = basin.energies.RestrictedBoltzmannMachine(12, num_hidden=6, seed=3)
    with torch.no_grad():
        energy.weight.mul_(math.sqrt(12))
        energy.visible_bias.copy_(-0.5 * energy.weight.sum(0))
        energy.hidden_bias.copy_(-0.5 * energy.weight.sum(1))
    return whole_numbers(energy)


def mixture_moments(sigma):
    """Mean and covariance of the two modes of :func:`mixture`, blurred."""
    energy = noised_mixture()
    mean, covariance = energy.moments(sigma)
    return mean.double(), covariance.double()


def noised_mixture():
    """The same two modes at every noise level."""
    energy = basin.energies.NoisedGaussianMixture(2, num_components=2)
    energy.weights.copy_(torch.tensor([0.7, 0.3]))
    energy.means.copy_(torch.tensor([[-3.0, 0.0], [3.0, 0.0]]))
    energy.variances.copy_(torch.tensor([[1.0, 1.0], [0.25, 0.25]]))
    return energy


def walk():
    """From exact draws at sigma = 20 down to the mixture blurred by 0.1."""
    energy = noised_mixture()
    mean, covariance = energy.moments(SIGMA)
    return Target(
        energy,
        lambda n, generator: energy.sample_base(n, generator, SIGMA_MAX),
        mean,
        covariance.diagonal().sqrt(),
        draw=lambda n, generator: energy.sample_base(n, generator, SIGMA),
    )


TARGETS: dict[str, tuple[str, Callable[[], Target]]] = {
    "gaussian": ("Gaussian, 10 dimensions, correlated, condition number 100", gaussian),
    "mixture": ("Two far modes of unequal weight and width, 2 dimensions", mixture),
    "funnel": ("Neal's funnel, 10 dimensions; the statistic is v; without NUTS: slow", funnel),
    "banana": ("Banana, 2 dimensions", banana),
    "gamma": ("Gamma(2.5) on the half line, as it is", gamma),
    "log_gamma": ("Gamma(2.5) through `Transformed`", log_gamma),
    "posterior": ("Logistic regression on 500 rows", logistic_posterior),
    "posterior_plain": (
        "The same without a control variate",
        lambda: logistic_posterior(with_centre=False),
    ),
    "ising": ("Ising lattice, 4 by 4; statistics are magnetisation and energy", ising),
    "machine": ("Restricted Boltzmann machine, 12 and 6 units; the same statistics", machine),
    "walk": ("Two far modes down the noise levels, from 20 to 0.1", walk),
}


# Kernels and the work of each -------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Case:
    """A kernel on a target. ``make(target, x0)`` builds it, with a pilot run where it needs one."""

    kernel: type[Kernel]
    target: str
    make: Callable[[Target, torch.Tensor], Kernel]
    label: str
    num_steps: int
    num_warmup: int = 500
    thin: int = 1
    num_chains: int = 50
    num_repetitions: int = 1
    """More than one where the chains of a run depend on each other."""


class Facts(NamedTuple):
    """What a reader should know of a kernel before the numbers."""

    targets: str
    tuned: str


FACTS: dict[str, Facts] = {
    "AnnealedLangevin": Facts(
        "biased as Langevin, at each level; modes must still exchange draws", "by hand"
    ),
    "Barker": Facts("exact", "step size"),
    "BlockGibbs": Facts("exact", "nothing to tune"),
    "Gibbs": Facts("exact", "nothing to tune"),
    "GibbsWithGradients": Facts("exact", "nothing to tune"),
    "HMC": Facts("exact", "step size, metric; path length by hand"),
    "Langevin": Facts("biased: on N(0, 1/λ) the variance is 1/(λ(1 − ελ/2))", "by hand"),
    "MALA": Facts("exact", "step size; a metric if asked for"),
    "NUTS": Facts("exact", "step size, metric, path length"),
    "ParallelTempering": Facts("exact if its kernel is", "ladder by hand, kernel before"),
    "PreconditionedLangevin": Facts("biased as Langevin in x/m", "by hand; m from a pilot run"),
    "PredictorCorrector": Facts("biased: steps down of order r², Langevin's between", "by hand"),
    "ProbabilityFlow": Facts("biased: Heun's rule, of order r²", "number of steps"),
    "Reflected": Facts("what its kernel does, between walls", "as its kernel, before"),
    "ReverseDiffusion": Facts("biased: of order r² a step", "number of steps"),
    "SteinVariational": Facts("biased for a finite number of particles; no noise", "by hand"),
    "StochasticGradientLangevin": Facts(
        "biased as Langevin, and by the noise of few rows", "by hand"
    ),
    "UnderdampedLangevin": Facts("biased: of order h², none on Gaussians", "by hand"),
}


def fixed(kernel):
    """The same kernel wherever it goes."""
    return lambda target, x0: kernel


def tuned(kernel, energy, x0):
    """The kernel with the step size that 500 steps of warm-up give it."""
    options = {"num_steps": 1, "num_warmup": 500, "seed": SEED, "on_divergence": "count"}
    return basin.sample(energy, kernel, x0, **options).kernel


def tempered(target, x0):
    ladder = tuple(1.5**k for k in range(7))
    return ParallelTempering(tuned(MALA(), target.energy, x0), ladder)


def reflected(kernel):
    def make(target, x0):
        return Reflected(tuned(kernel, basin.energies.Folded(target.energy, 0.0, math.inf), x0))

    return make


def preconditioned(step_size):
    """Scales from the draws of a pilot run of MALA."""

    def make(target, x0):
        chains = basin.sample(target.energy, MALA(), x0, num_steps=400, num_warmup=400, seed=SEED)
        scale = tuple(chains.pooled().double().std(0).tolist())
        return PreconditionedLangevin(step_size, scale)

    return make


def down(kernel, num_steps):
    """Onto the step that ``num_steps`` from SIGMA_MAX to SIGMA take; Annealed keeps its own."""

    def make(target, x0):
        if isinstance(kernel, AnnealedLangevin):
            return kernel
        return kernel.down(target.energy, SIGMA_MAX, SIGMA, num_steps).kernel

    return make


HAND_TUNED = {
    "gaussian": (Langevin(0.1), 0.005, UnderdampedLangevin(0.7, 0.2), SteinVariational(0.5)),
    "mixture": (Langevin(0.05), 0.003, UnderdampedLangevin(0.4, 0.5), SteinVariational(0.2)),
    "funnel": (Langevin(0.02), 0.002, UnderdampedLangevin(0.1, 0.3), SteinVariational(0.05)),
    "banana": (Langevin(0.01), 0.005, UnderdampedLangevin(0.15, 1.0), SteinVariational(0.1)),
}
"""The number is the step size of PreconditionedLangevin, whose scales are from a pilot run."""


def real_cases(name):
    """Everything that moves real numbers by a plain energy."""
    # The Gaussian has the longest memory, and nothing else that is hard.
    long = 10 if name == "gaussian" else 3
    for kernel, label in (
        (MALA(), "MALA"),
        (MALA(inverse_mass=DenseMetric()), "MALA, dense metric"),
        (Barker(), "Barker"),
    ):
        yield Case(type(kernel), name, fixed(kernel), label, 500 * long, 100 * long, thin=2)
    # Without a wide jitter paths of a whole period of some coordinate never move it.
    hmc = HMC(num_leapfrog_steps=10, jitter=0.3)
    yield Case(HMC, name, fixed(hmc), "HMC, 10 steps", 100 * long, 500)
    if name != "funnel":  # in its mouth paths are hundreds of steps long: too slow for this page
        yield Case(NUTS, name, fixed(NUTS()), "NUTS", 50 * long, max(200, 50 * long))
    if name == "gaussian":
        dense = fixed(NUTS(inverse_mass=DenseMetric()))
        yield Case(NUTS, name, dense, "NUTS, dense metric", 500, 500)
    label = "ParallelTempering(MALA)"
    yield Case(ParallelTempering, name, tempered, label, 200 * long, 50 * long)
    langevin, scaled, underdamped, stein = HAND_TUNED[name]
    work = {"num_steps": 1000 * long, "num_warmup": 200 * long, "thin": 5}
    yield Case(Langevin, name, fixed(langevin), f"Langevin({langevin.step_size})", **work)
    label = f"PreconditionedLangevin({scaled})"
    yield Case(PreconditionedLangevin, name, preconditioned(scaled), label, **work)
    label = f"UnderdampedLangevin({underdamped.step_size}, {underdamped.friction})"
    yield Case(UnderdampedLangevin, name, fixed(underdamped), label, **work)
    yield Case(
        SteinVariational,
        name,
        fixed(stein),
        f"SteinVariational({stein.step_size})",
        num_steps=1,
        num_warmup=400,
        num_repetitions=5,
    )


def cases():
    """Every kernel of the folder on the targets that are for it.

    Raises:
        LookupError: a kernel without a case or without facts.
    """
    found = [case for name in HAND_TUNED for case in real_cases(name)]
    for kernel in (MALA(), Barker(), HMC(num_leapfrog_steps=3, jitter=0.3)):
        name = f"Reflected({type(kernel).__name__})"
        found.append(Case(Reflected, "gamma", reflected(kernel), name, 1000))
    for kernel in (MALA(), Barker(), HMC(num_leapfrog_steps=3, jitter=0.3), NUTS()):
        name, short = type(kernel).__name__, isinstance(kernel, NUTS)
        found.append(Case(type(kernel), "log_gamma", fixed(kernel), name, 250 if short else 1000))
    for name in ("posterior", "posterior_plain"):
        kernel = StochasticGradientLangevin(0.001, batch_size=25)
        found.append(
            Case(
                StochasticGradientLangevin,
                name,
                fixed(kernel),
                "StochasticGradientLangevin(0.001, 25 rows)",
                num_steps=2000,
                num_warmup=200,
                thin=2,
            )
        )
    found.append(Case(MALA, "posterior", fixed(MALA(0.01)), "MALA", 1000))
    for name in ("ising", "machine"):
        found.append(Case(Gibbs, name, fixed(Gibbs()), "Gibbs", 300, 30))
        found.append(
            Case(
                GibbsWithGradients,
                name,
                fixed(GibbsWithGradients()),
                "GibbsWithGradients",
                3000,
                300,
            )
        )
    found.append(Case(BlockGibbs, "machine", fixed(BlockGibbs()), "BlockGibbs", 1000, 50))
    for kernel in (
        AnnealedLangevin(0.2),
        ReverseDiffusion(),
        PredictorCorrector(),
        ProbabilityFlow(),
    ):
        for num_steps in (30, 200):
            found.append(
                Case(
                    type(kernel),
                    "walk",
                    down(kernel, num_steps),
                    f"{type(kernel).__name__}, {num_steps} steps",
                    num_steps,
                    num_warmup=0,
                    thin=num_steps,
                    num_chains=5000,
                )
            )
    missing = {kernel.__name__ for kernel in kernels()} - {case.kernel.__name__ for case in found}
    if missing:
        raise LookupError(f"no target for {sorted(missing)}: add a case to {Path(__file__).name}")
    unknown = {kernel.__name__ for kernel in kernels()} - set(FACTS)
    if unknown:
        raise LookupError(f"no facts for {sorted(unknown)}: add them to {Path(__file__).name}")
    return found


def kernels():
    """Every concrete kernel that a module of basin/samplers exports."""
    for module_info in pkgutil.iter_modules(basin.samplers.__path__):
        module = importlib.import_module(f"basin.samplers.{module_info.name}")
        for name in module.__all__:
            thing = getattr(module, name)
            if isinstance(thing, type) and issubclass(thing, Kernel):
                yield thing


# Measuring --------------------------------------------------------------------------------------


class Counted:
    """The energy, counting the rows that it is given in ``calls["rows"]``."""

    def __init__(self, energy, calls=None):
        self.inner = energy
        self.calls = Counter() if calls is None else calls

    def __call__(self, x):
        self.calls["rows"] += len(x)
        return self.inner(x)

    def __getattr__(self, name):
        found = getattr(self.inner, name)
        if name == "at":
            return lambda sigma: Counted(found(sigma), self.calls)
        if name == "stochastic_score":
            return self._counting(found, lambda x, n, *_: len(x) * n / len(self.inner.rows))
        if name == "conditional_energies":  # those of both values of a unit
            return self._counting(found, lambda x, _: 2 * len(x))
        if name in ("score", "hidden_probability", "visible_probability"):
            return self._counting(found, lambda x: len(x))
        return found

    def _counting(self, function, rows):
        def counted(*arguments):
            self.calls["rows"] += rows(*arguments)
            return function(*arguments)

        return counted


def measure(case):
    """One row of the table."""
    target = TARGETS[case.target][1]()
    runs = [_run(case, target, SEED + k) for k in range(case.num_repetitions)]
    values = torch.cat([run.values for run in runs])
    rows, seconds = sum(run.rows for run in runs), sum(run.seconds for run in runs)
    kernel, acceptance = runs[0].kernel, runs[0].acceptance_rate
    steps = case.num_steps * case.num_chains * case.num_repetitions
    row = {
        "kernel": case.kernel.__name__,
        "label": case.label,
        "target": case.target,
        "step_size": getattr(getattr(kernel, "kernel", kernel), "step_size", None),
        "is_adapted": is_adaptable(getattr(kernel, "kernel", kernel)),
        "chains": case.num_chains * case.num_repetitions,
        "steps": case.num_steps,
        "acceptance_rate": acceptance,
        "energies_per_step": rows / steps,
        "seconds": seconds,
    }
    lost = int((~values.flatten(1).isfinite().all(1)).sum())
    if lost:
        return row | {"lost": lost}
    row |= errors(values, target)
    row |= {"lost": 0, "rhat": None, "ess": None}
    if case.num_chains >= 1000:
        row["ess"] = float(len(values))  # walks: one draw each
    elif case.num_repetitions == 1:
        row["rhat"] = float(split_rhat(values).max())
        row["ess"] = float(effective_sample_size(values).min())
    return row


class Run(NamedTuple):
    """Statistics ``[unit, draw, k]`` of a run, units independent, and what it cost."""

    values: torch.Tensor
    rows: float
    seconds: float
    kernel: Any
    acceptance_rate: float | None


def _run(case, target, seed):
    generator = torch.Generator().manual_seed(seed)
    x0 = target.start(case.num_chains, generator)
    kernel = case.make(target, x0)
    energy = Counted(target.energy)
    options = {"seed": generator, "on_divergence": "count", "check_step_size": False}
    num_steps, dropped = case.num_steps, 0
    if is_adaptable(kernel):
        work = {"num_steps": 1, "num_warmup": case.num_warmup}
        warm = basin.sample(energy, kernel, x0, **work, **options)
        kernel, x0 = warm.kernel, warm.last
    else:  # every step costs the same: warm-up is the share of the steps that is thrown away
        num_steps, dropped = case.num_steps + case.num_warmup, case.num_warmup
    path = energy
    if case.target == "walk":
        path = down_path(case, energy)
    energy.calls.clear()
    began = time.process_time()
    chains = basin.sample(path, kernel, x0, num_steps=num_steps, thin=case.thin, **options)
    seconds, share = time.process_time() - began, case.num_steps / num_steps
    positions = chains.positions[:, dropped // case.thin :]
    values = target.statistics(positions).double()
    if case.kernel.mixes_chains and case.num_repetitions > 1:
        values = values.flatten(0, 1).unsqueeze(0)  # the particles of a run are one unit
    cost = share * energy.calls["rows"], share * seconds
    return Run(values, *cost, chains.kernel, chains.acceptance_rate)


def down_path(case, energy):
    """The levels of a walk: those of :func:`basin.paths.walk_down`, or all for Annealed."""
    if case.kernel is AnnealedLangevin:
        return basin.paths.Noised(energy, basin.schedules.Geometric(SIGMA_MAX, SIGMA))
    return basin.paths.walk_down(energy, SIGMA_MAX, SIGMA, case.num_steps)[0]


def errors(values, target):
    """How far means and deviations are off, in t statistics of independent units as well.

    Args:
        values: statistics ``[unit, draw, k]`` in float64.
        target: has their true ``mean`` and ``deviation`` ``[k]``.
    """
    mean, deviation = target.mean.double(), target.deviation.double()
    averages = values.mean(1)
    squares = (values - mean).square().mean(1)
    of_mean = stats.ttest_1samp(averages.numpy(), mean.numpy())
    of_square = stats.ttest_1samp(squares.numpy(), deviation.square().numpy())
    off = ((averages.mean(0) - mean) / deviation).tolist()
    wide = (squares.mean(0).sqrt() / deviation - 1).tolist()
    p_values = [*of_mean.pvalue.tolist(), *of_square.pvalue.tolist()]
    return {
        "mean_off": max(off, key=abs),
        "deviation_off": max(wide, key=abs),
        "t_mean": float(abs(of_mean.statistic).max()),
        "t_deviation": float(abs(of_square.statistic).max()),
        "p_value": min(1.0, len(p_values) * min(p_values)),
    }


def verdict(row):
    """In words: what p and R-hat say."""
    if row["lost"]:
        return f"**lost {row['lost']} of {row['chains']} chains**"
    is_mixed = row["rhat"] is None or row["rhat"] < MIXED
    is_right = row["p_value"] > THRESHOLD
    if is_mixed:
        return "right" if is_right else "**off**"
    if not is_right:
        return "**off, not mixed**"
    return "not yet mixed" if row["rhat"] < HARDLY_MIXED else "**not mixed**"


# The page ---------------------------------------------------------------------------------------

HEAD = """# Which sampler, and what each one does on known targets

Written by `python benchmarks/samplers.py` from `benchmarks/results/samplers.json`, not by hand; the
first lines of the script say how it is measured.

## Which one to take

- **Real numbers, a smooth energy**: `NUTS()`. Warm-up tunes all of it; where coordinates are
  correlated give it `inverse_mass=DenseMetric()` (from `basin.mcmc`). `HMC` does the same for less
  overhead when you know a path length.
- **Many chains, short runs, a step a call**, as in training: `MALA()`; with `DenseMetric()` on
  correlated targets; `Barker()` where scores are steep (near a wall, far from the target).
- **A curved ridge** (the banana): chains stick in its arms, where one step size is too long, and
  R-hat says so; raise `target_acceptance` to 0.95, and run longer.
- **Far modes**: `ParallelTempering(MALA())`. Every other kernel here stays in the mode where it
  starts, and its own chain looks fine: start several, wide, and look at R-hat.
- **A funnel** (a scale that is itself unknown): no kernel with one step size is right at both ends.
  Write the energy in other coordinates (x = e^(v/2) z), as Stan's users do.
- **Walls**: `energies.Transformed` and any kernel. `Reflected` where the density does not vanish at
  the wall; with `Barker`, not MALA, where its score is infinite there.
- **Whole numbers**: `Gibbs()`; `BlockGibbs()` for a restricted Boltzmann machine;
  `GibbsWithGradients()` where there are too many units to ask the energy about each one.
- **An energy at all noise levels** (the default objective's): `ProbabilityFlow` or
  `ReverseDiffusion` down the levels, some 200 steps, which keep the weights of far modes.
- **Unadjusted kernels** (`Langevin` and its relatives, `SteinVariational`) are for training, where
  a bias is cheap; of them `UnderdampedLangevin` has the least. `StochasticGradientLangevin` for
  posteriors of very many rows, always with a control variate (`Posterior(centre=...)`).

## What each one targets

"""

READING = """
## On known targets

*says*: right, unless p < 1e-4 (off: wrong by more than noise) or R-hat ≥ 1.01 (the chains do not
agree: not yet mixed; from 1.1 on not mixed). *mean off*: the largest error of a mean, in true
standard deviations; *sd off*: of a standard deviation; *s.e.*: the larger of both in Monte Carlo
standard errors, from the spread of independent chains; *p*: of the worst, Bonferroni. *energies*:
rows given to the energy, with or without gradient, for a chain and step. *ESS*: the smallest bulk
ESS, for a thousand energies and for a second of one thread of a busy machine, which is no more than
a hint. Chains start wide and not at the target. The runs of `SteinVariational` have no R-hat: right
means only that five runs of 50 particles are not told from the truth.
"""

PEER = """
## NUTS and HMC beside BlackJAX

`python benchmarks/nuts_blackjax.py --rounds {rounds} --chains {chains} --num_warmup {num_warmup}
--num_steps {num_steps}` (torch {torch}, jax {jax}, blackjax {blackjax}; one thread): the same
target, starts and lengths of warm-up, taking turns. Ratios are Basin's smallest ESS over
BlackJAX's, geometric means over the rounds, with the factor of one standard error. BlackJAX adapts
each chain alone and compiles the whole run; Basin pools the chains, and runs any Python energy as
it is: a second is worth far less on energies as small as these. HMC takes ten
steps in both, Basin's with the jitter that is its default: without it a path may be a whole period
of some coordinate, and what warm-up happens to find decides. Rows whose settings differ say so in
`benchmarks/results/nuts_blackjax.json` (8 chains). A comparison that is not in the
table was not run to its end.

"""


def page(rows, peer=None):
    """docs/samplers.md."""
    lines = [HEAD, *kernel_table(), READING]
    for name, (title, _) in TARGETS.items():
        mine = [row for row in rows if row["target"] == name]
        if mine:
            lines += ["", f"### {title}", "", *target_table(mine)]
    if peer is not None:
        lines += [PEER.format(**peer["settings"], **peer["versions"]), *peer_table(peer)]
    return "\n".join(line.removesuffix("\n") for line in lines) + "\n"


def kernel_table():
    yield from _head("kernel", "targets exp(−E)/Z", "what warm-up tunes")
    for name, facts in sorted(FACTS.items()):
        yield _line(f"`{name}`", facts.targets, facts.tuned)


def target_table(rows):
    yield from _head(
        "kernel", "says", "mean off", "sd off", "s.e.", "p", "R-hat", "accepted", "step size",
        "energies", "ESS / 1,000 energies", "ESS / s",
    )  # fmt: skip
    for row in rows:
        label = f"`{row['label']}`"
        if row["lost"]:
            yield _line(label, verdict(row), *["–"] * 10)
            continue
        ess, energies = row["ess"], row["energies_per_step"] * row["steps"] * row["chains"]
        yield _line(
            label,
            verdict(row),
            f"{row['mean_off']:+.3f}",
            f"{100 * row['deviation_off']:+.1f}%",
            _short(max(row["t_mean"], row["t_deviation"])),
            _p_value(row["p_value"]),
            "–" if row["rhat"] is None else f"{row['rhat']:.3f}",
            "–" if row["acceptance_rate"] is None else f"{row['acceptance_rate']:.2f}",
            "–" if row["step_size"] is None else f"{row['step_size']:.2g}",
            f"{row['energies_per_step']:.3g}",
            "–" if ess is None else _short(1000 * ess / energies),
            "–" if ess is None else _short(ess / row["seconds"]),
        )


def peer_table(peer):
    yield from _head(
        "", "per gradient, means", "per gradient, squares", "per second, means", "gradients a draw"
    )
    for name, found in peer["comparisons"].items():
        settings = found.get("settings", peer["settings"])
        draws = settings["chains"] * settings["num_steps"]
        fields = ("means_per_gradient", "squares_per_gradient", "means_per_second")
        ratios = (found["ratios"][field] for field in fields)
        paths = [
            sum(row["gradients"] for row in found["rows"][who]) / len(found["rows"][who]) / draws
            for who in ("basin", "blackjax")
        ]
        yield _line(
            name,
            *(f"{value:.3g} (×/ {error:.2f})" for value, error in ratios),
            f"{paths[0]:.1f} and {paths[1]:.1f}",
        )


def _head(*cells):
    return [_line(*cells), _line(*["---"] * len(cells))]


def _line(*cells):
    return "| " + " | ".join(cells) + " |"


def _p_value(value):
    return f"{value:.0e}" if value < 0.001 else f"{value:.2g}"


def _short(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--target", nargs="+", default=list(TARGETS), choices=list(TARGETS))
    parser.add_argument("--kernel", nargs="+", default=sorted(FACTS), choices=sorted(FACTS))
    parser.add_argument("--page_only", action="store_true", help="write the page, run nothing")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = json.loads(RESULTS.read_text()) if RESULTS.is_file() else []
    done = {(row["target"], row["label"]) for row in rows}
    every = cases()
    order = {(case.target, case.label): place for place, case in enumerate(every)}
    wanted = [
        case
        for case in every
        if case.target in arguments.target and case.kernel.__name__ in arguments.kernel
    ]
    for case in wanted:
        if arguments.page_only or (case.target, case.label) in done:
            continue
        row = measure(case)
        rows.append(row)
        shown = {k: round(v, 4) for k, v in row.items() if isinstance(v, float)}
        print(f"{case.target:16} {case.label:40} {verdict(row):18} {shown}", flush=True)
        rows.sort(key=lambda row: order[row["target"], row["label"]])
        RESULTS.write_text(json.dumps(rows, indent=1) + "\n")
    peer = json.loads(PEER_RESULTS.read_text()) if PEER_RESULTS.is_file() else None
    PAGE.write_text(page(rows, peer), encoding="utf-8")


if __name__ == "__main__":
    main()
