"""HMC, NUTS and MALA give the means and standard deviations of posteriordb's reference draws.

The p-value of each number takes both Monte-Carlo errors into account, ours and the references'.
"""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from scipy import stats
from torch.nn.functional import logsigmoid

from basin.mcmc.diagnostics import effective_sample_size, split_rhat
from basin.mcmc.metric import DenseMetric
from basin.samplers import HMC, MALA, NUTS
from basin.sampling.run import sample
from helpers.posteriors import FOLDER, POSTERIORS, observations, posterior
from helpers.statistics import THRESHOLD

pytestmark = [
    pytest.mark.slow,
    pytest.mark.statistical,
    pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no reference posteriors at {FOLDER}"),
    pytest.mark.filterwarnings("ignore::basin.sampling.chains.DivergenceWarning"),
]

NUM_CHAINS = 20
# So near to a Gaussian paths of half a period only mirror x: the jitter is wide.
RUNS = {
    "HMC": (HMC(num_leapfrog_steps=3, inverse_mass=DenseMetric(), jitter=0.4), 500, 1),
    "NUTS": (NUTS(), 500, 1),
    "NUTS, dense": (NUTS(inverse_mass=DenseMetric()), 500, 1),
    "MALA, dense": (MALA(inverse_mass=DenseMetric()), 10_000, 10),
}
# Along two thin ridges NUTS with a diagonal metric needs hundreds of gradients a step.
THIN = ("kidiq-kidscore_momiq", "earnings-logearn_height")
CASES = [
    (name, run)
    for name in POSTERIORS
    for run in ("HMC", "NUTS, dense" if name in THIN else "NUTS", "MALA, dense")
]


def draw(target, kernel, num_steps, thin, seed=0):
    """``[chain, draw]`` of each parameter, from starts as wide as Stan's."""
    generator = torch.Generator().manual_seed(seed)
    x0 = target.start(NUM_CHAINS, generator)
    options = {"num_steps": num_steps, "thin": thin, "num_warmup": 1000, "seed": generator}
    return target.constrain(sample(target.energy, kernel, x0, **options).positions)


def mean_and_error(values):
    error = values.std() / effective_sample_size(values).clamp(max=values.numel()).sqrt()
    return float(values.mean()), float(error)


def deviation_and_error(values):
    """The standard deviation, and its error from that of the mean square about the mean."""
    square, error = mean_and_error((values - values.mean()).square())
    return math.sqrt(square), error / (2 * math.sqrt(square))


def p_values(ours, reference):
    """Of each parameter's mean and standard deviation."""
    found = {}
    for name, values in ours.items():
        for statistic in (mean_and_error, deviation_and_error):
            (a, error_a), (b, error_b) = statistic(values), statistic(reference[name])
            z = (a - b) / math.hypot(error_a, error_b)
            found[f"{statistic.__name__} of {name}"] = 2 * float(stats.norm.sf(abs(z)))
    return found


@pytest.mark.parametrize(("name", "run"), CASES)
def test_means_and_deviations_are_the_references(name, run):
    target = posterior(name)
    kernel, num_steps, thin = RUNS[run]
    ours = draw(target, kernel, num_steps, thin)
    found = p_values(ours, target.reference())
    assert set(ours) == set(target.reference())
    assert min(found.values()) > THRESHOLD, found
    worst = max(float(split_rhat(values)) for values in ours.values())
    assert worst < 1.01


MUTANTS = {
    "sblrc-blr": lambda u: u[:, 5],  # no Jacobian of log sigma
    # Of 1,000 rows a scale is known too well for its Jacobian to be missed: no prior of theta.
    "low_dim_gauss_mix-low_dim_gauss_mix": lambda u: (
        5 * (logsigmoid(u[:, 4]) + logsigmoid(-u[:, 4]))
    ),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_wrong_energy_is_seen(name):
    """The mutants: a term of the energy is missing."""
    target = posterior(name)
    mutant = dataclasses.replace(target, energy=lambda u: target.energy(u) + MUTANTS[name](u))
    ours = draw(mutant, RUNS["HMC"][0], 500, 1)
    assert min(p_values(ours, target.reference()).values()) < THRESHOLD


def test_the_plateau_of_the_mixture_has_no_mass():
    """Both components on all the data: e^-300 of the mass, though a chain can stay there long.

    It is why chains of this posterior start around the clusters and not at Stan's starts.
    """
    target = posterior("low_dim_gauss_mix-low_dim_gauss_mix")
    reference = {name: values.flatten() for name, values in target.reference().items()}
    gap = (reference["mu[2]"] - reference["mu[1]"]).log()
    log_scales = [reference[f"sigma[{k}]"].log() for k in (1, 2)]
    draws = torch.stack([reference["mu[1]"], gap, *log_scales, reference["theta"].logit()], dim=1)
    y = observations(target.name)["y"]
    mean, log_deviation = float(y.mean()), float(y.std().log())
    plateau = torch.tensor([[mean, -3.0, log_deviation, log_deviation, 0.0]], dtype=torch.float64)
    assert float(target.energy(plateau)) - float(target.energy(draws).max()) > 300
