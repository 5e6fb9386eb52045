"""Contrastive divergence against its closed forms on Gaussians.

Data N(0, V) (blur included) in one dimension, E(x) = L x^2 / 2, k Langevin steps of epsilon:
    x~ has variance v_k,   v_0 = V,   v_{j+1} = (1 - epsilon L)^2 v_j + 2 epsilon
    J = L (V - v_k) / 2,   dJ/dL = (V - v_k) / 2    (x~ is a constant)
It is zero where L (1 - epsilon L / 2) = 1 / V: the law at rest of the kernel is then the data's.
With exact draws v = 1/L, and dJ/dL is the gradient of the negative log-likelihood.
"""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import pytest
import torch
from torch import nn

import basin
from basin.core.conditions import Given
from basin.core.describe import build, describe
from basin.objectives.contrastive_divergence import ContrastiveDivergence, contrastive_divergence
from basin.objectives.sampled import DataLaw, contrast, draws, watched_terms
from basin.samplers import MALA, Langevin

SIGMA, VARIANCE = 0.5, 1.75  # the data's own variance; blurred 2
BLURRED = VARIANCE + SIGMA**2
STEP, NUM_STEPS = 0.2, 3


class Parabola(nn.Module):
    """E(x) = L x^2 / 2."""

    def __init__(self, precision):
        super().__init__()
        self.precision = nn.Parameter(torch.tensor(float(precision), dtype=torch.float64))

    def forward(self, x):
        return 0.5 * self.precision * x.square().sum(1)


class State(NamedTuple):
    position: torch.Tensor


@dataclasses.dataclass(frozen=True)
class ExactDraws:
    """A kernel that forgets where it was: draws of N(0, 1/L)."""

    def init(self, energy, x, generator):
        return State(x)

    def step(self, energy, state, generator):
        z = torch.randn(state.position.shape, generator=generator, dtype=torch.float64)
        return State(z / energy.precision.detach().sqrt()), State(state.position[:, 0])


@dataclasses.dataclass(frozen=True)
class HalfTheNoise(Langevin):
    """Mutant: the noise sqrt(epsilon) of other papers with this drift."""

    def step(self, energy, state, generator):
        x = state.position
        moved = x - self.step_size * energy.precision.detach() * x
        z = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        moved = moved + math.sqrt(self.step_size) * z
        return state._replace(position=moved), State(moved[:, 0])


def rows(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return VARIANCE**0.5 * torch.randn(n, 1, generator=generator, dtype=torch.float64)


def variance_after(num_steps, precision, start=BLURRED):
    variance = start
    for _ in range(num_steps):
        variance = (1 - STEP * precision) ** 2 * variance + 2 * STEP
    return variance


def mean_gradient(objective, precision, num_batches=80, batch=1000):
    """Mean gradient in L over fresh batches, and its standard error."""
    generator = torch.Generator().manual_seed(100_000)
    energy = Parabola(precision)
    state = objective.init(rows(1000), generator)
    gradients = []
    for index in range(num_batches):
        loss = objective(energy, rows(batch, seed=index), state, generator)
        gradients.append(torch.autograd.grad(loss.value, energy.precision)[0])
    values = torch.stack(gradients)
    return float(values.mean()), float(values.std() / num_batches**0.5)


def cd(kernel, **changes):
    settings = dict(num_steps=NUM_STEPS, sigma=SIGMA, num_chains=None, energy_l2=0.0)
    settings |= changes
    return ContrastiveDivergence(kernel, **settings)


def deviation(objective, precision, truth):
    mean, error = mean_gradient(objective, precision)
    return abs(mean - truth) / error


@pytest.mark.statistical
@pytest.mark.parametrize("precision", [0.25, 0.5, 1.5])
def test_with_exact_draws_the_gradient_is_that_of_the_likelihood(precision):
    of_likelihood = (BLURRED - 1 / precision) / 2  # d/dL of E[L x^2/2] - log(L)/2
    assert deviation(cd(ExactDraws()), precision, of_likelihood) < 3.9


@pytest.mark.statistical
def test_the_gradient_of_cd_k_is_the_closed_form_and_mutants_miss_it():
    precision = 1.5
    truth = (BLURRED - variance_after(NUM_STEPS, precision)) / 2
    assert deviation(cd(Langevin(STEP)), precision, truth) < 3.9
    assert deviation(cd(HalfTheNoise(STEP)), precision, truth) > 3.9
    assert deviation(cd(Langevin(STEP), num_steps=NUM_STEPS - 1), precision, truth) > 3.9
    assert deviation(cd(Langevin(STEP), sigma=0.0), precision, truth) > 3.9  # the blur left out


@pytest.mark.statistical
def test_the_optimum_makes_the_kernels_law_at_rest_the_blurred_data():
    optimum = (1 - math.sqrt(1 - 2 * STEP / BLURRED)) / STEP
    assert optimum * (1 - STEP * optimum / 2) == pytest.approx(1 / BLURRED)
    assert deviation(cd(Langevin(STEP)), optimum, 0.0) < 3.9
    assert deviation(cd(Langevin(STEP)), 1.1 * optimum, 0.0) > 3.9
    assert deviation(cd(MALA(STEP)), 1 / BLURRED, 0.0) < 3.9  # no bias with an accept step


@pytest.mark.statistical
def test_the_pure_function_has_the_value_of_the_closed_form():
    generator, precision = torch.Generator().manual_seed(100_000), 1.5
    loss = contrastive_divergence(
        Parabola(precision),
        rows(100_000),
        kernel=Langevin(STEP),
        num_steps=NUM_STEPS,
        generator=generator,
    ).detach()
    truth = precision / 2 * (VARIANCE - variance_after(NUM_STEPS, precision, VARIANCE))
    assert loss.shape == (100_000,)
    assert abs(float(loss.mean()) - truth) < 3.9 * float(loss.std()) / 100_000**0.5


def test_the_contrast_and_its_squares():
    value, terms = contrast(torch.tensor([1.0, 3.0]), torch.tensor([5.0]), 0.1)
    assert float(value) == pytest.approx(2 - 5 + 0.1 * (5 + 25))
    assert {name: float(term) for name, term in terms.items()} == {
        "E_data": 2.0,
        "E_model": 5.0,
        "gap": -3.0,
    }


def test_every_term_has_a_meaning_and_the_blur_is_stated():
    objective = ContrastiveDivergence()
    generator = torch.Generator().manual_seed(0)
    state = objective.init(rows(50), generator)
    loss = objective(Parabola(1.0), rows(20), state, generator)
    assert {*loss.terms, "changed"} == set(objective.meanings)
    assert objective.noise_level(state) == 0.1
    assert ContrastiveDivergence(sigma=0.0).noise_level(state) is None
    assert "far mode" in objective.blindness(state)
    assert objective.explain(state) == ""


def test_each_row_keeps_its_condition():
    """E(x | c) = (x - c)^2 / 2 with a chain for the first rows only."""
    condition = torch.tensor([-3.0, 0.0, 4.0]).double()
    energy = Given(lambda x, c: 0.5 * (x[:, 0] - c).square(), condition)
    objective = ContrastiveDivergence(Langevin(0.5), 8, sigma=0.0, num_chains=2, energy_l2=0.0)
    generator = torch.Generator().manual_seed(0)
    state = objective.init(rows(10), generator)
    total = 0.0
    for _ in range(100):
        loss = objective(energy, condition[:, None], state, generator)
        total += float(loss.terms["E_model"]) / 100
    assert total == pytest.approx(0.5 / (1 - 0.25), abs=0.3)  # ULA's variance, over two


# --- the watch -----------------------------------------------------------------------------------

FINE = {
    "E_data": 0.0,
    "E_model": 0.1,
    "gap": -0.1,
    "gap_per_dimension": -0.05,
    "sampler_gradient": 1.0,
    "moved": 0.2,
    "outside": 0.0,
    "lost": 0.0,
}


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("gap_per_dimension", 101.0, "energy gap is out of band.*101 a dimension"),
        ("gap_per_dimension", -101.0, "out of band"),
        ("gap_per_dimension", math.nan, "out of band"),
        ("sampler_gradient", 2000.0, "gradients explode: 2000"),
        ("sampler_gradient", math.inf, "explode"),
        ("outside", 0.75, "have left the data: 0.75"),
        ("moved", 0.0, "stuck"),
        ("lost", 0.5, "0.5 of the chains are not finite"),
    ],
)
def test_the_alarm_names_what_is_wrong_with_its_number(name, value, words):
    import re

    objective = ContrastiveDivergence()
    assert objective.alarm(FINE) == ""
    assert re.search(words, objective.alarm({**FINE, name: value}))


def test_lost_and_far_and_stuck_chains_are_seen_in_the_terms():
    law = DataLaw.of(torch.randn(500, 2, generator=torch.Generator().manual_seed(0)))
    start, end = torch.zeros(4, 2), torch.zeros(4, 2)
    end[0], end[1], end[2] = math.nan, 1e6, 1.0
    terms = watched_terms(lambda x: 0.5 * x.square().sum(1), start, end, torch.tensor(0.0), law)
    assert float(terms["lost"]) == 0.25
    assert float(terms["outside"]) == 0.25
    still = watched_terms(lambda x: x.sum(1), start, start, torch.tensor(0.0), law)
    assert ContrastiveDivergence().alarm(
        {"gap": 0.0, **{name: float(term) for name, term in still.items()}}
    )


def test_a_step_too_large_is_a_loss_that_is_not_finite_and_no_exception():
    """The loop stops it, and may go back: an error from inside could not be survived."""
    objective = ContrastiveDivergence(Langevin(10.0), 200)
    generator = torch.Generator().manual_seed(0)
    loss = objective(Parabola(1e6), rows(8), objective.init(rows(10), generator), generator)
    assert not torch.isfinite(loss.value)
    assert float(loss.terms["lost"]) == 1.0
    assert "not finite" in objective.alarm({n: float(t) for n, t in loss.terms.items()})


def test_calmer_takes_half_the_step_and_twice_the_steps():
    calmer = ContrastiveDivergence(Langevin(0.02), 10).calmer()
    assert calmer == ContrastiveDivergence(Langevin(0.01), 20)
    assert cd(ExactDraws()).calmer() == cd(ExactDraws(), num_steps=2 * NUM_STEPS)


def test_the_kernel_is_described_and_built_again():
    objective = ContrastiveDivergence(MALA(0.05), 7)
    assert build(describe(objective), [basin.objectives, basin.samplers, basin.mcmc]) == objective


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"kernel": "Langevin"}, "kernel must be one of basin.samplers"),
        ({"kernel": Langevin}, "kernel must be one of basin.samplers"),
        ({"num_steps": 0}, "num_steps must be"),
        ({"num_chains": 0}, "num_chains must be"),
        ({"sigma": -0.1}, "sigma must be"),
        ({"energy_l2": -1.0}, "energy_l2 must be"),
    ],
)
def test_bad_settings_are_named(settings, words):
    with pytest.raises(ValueError, match=words):
        ContrastiveDivergence(**settings)


def test_rows_that_are_all_the_same_are_refused():
    with pytest.raises(ValueError, match="x must vary to train by sampling"):
        ContrastiveDivergence().init(torch.ones(5, 2), torch.Generator())


# --- the data's Gaussian -------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "dim"), [(300, 3), (4, 6)])
def test_the_gaussian_of_the_rows_has_their_moments(n, dim):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, dim, generator=generator, dtype=torch.float64) * 2 + 5
    law = DataLaw.of(x)
    covariance = (x - x.mean(0)).T @ (x - x.mean(0)) / n
    assert torch.allclose(law.factor.T @ law.factor, covariance)
    drawn = law.draw(200_000, x, generator, width=2.0)
    assert torch.allclose(drawn.mean(0), x.mean(0), atol=0.05)
    assert torch.allclose(drawn.T.cov(), 4 * covariance, atol=0.3)


def test_draws_are_detached_and_leave_no_gradient():
    energy, generator = Parabola(1.0), torch.Generator().manual_seed(0)
    x = draws(energy, Langevin(0.1), rows(5), 3, generator)
    assert not x.requires_grad
    assert energy.precision.grad is None
