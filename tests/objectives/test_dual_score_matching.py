"""Dual score matching: both derivatives, one constant, the top level.

Closed form: data N(m, s^2) in each of d coordinates give
    -log p_sigma(y) = |y - m|^2 / 2(s^2 + sigma^2) + d/2 log 2 pi (s^2 + sigma^2),
and the loss of an energy a * (that) is, at every sigma, a known polynomial in a with its minimum
at a = 1.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from basin.core.gradients import dual_score
from basin.core.posterior_mean import single_draw_targets
from basin.objectives.dual_score_matching import DualScoreMatching, dual_score_matching
from basin.partition.quadrature import quadrature
from basin.training.finish import log_z_at_top

DIMENSION, MEAN, VARIANCE = 3, 1.5, 0.8


class ScaledGaussian(nn.Module):
    """a (-log p_sigma) + c log sigma for N(MEAN, VARIANCE I): exact at a = 1, c = 0."""

    def __init__(self, scale=1.0, drift=0.0):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale).double())
        self.drift = nn.Parameter(torch.tensor(drift).double())

    def forward(self, x, sigma):
        variance = VARIANCE + sigma**2
        quadratic = (x - MEAN).square().sum(1) / (2 * variance)
        gaussian = quadratic + DIMENSION / 2 * torch.log(2 * math.pi * variance)
        return self.scale * gaussian + self.drift * torch.log(sigma)


def rows(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(n, DIMENSION, generator=generator, dtype=torch.float64)
    return MEAN + VARIANCE**0.5 * z


def closed_form(scale, sigma, drift=0.0):
    """Mean of the plain loss at one level.

    With r = sigma^2/(VARIANCE + sigma^2) and q = |y - m|^2/(VARIANCE + sigma^2) ~ chi^2_d,
    -dE/d log sigma is a r (q - d) - c, its target |z|^2 - d, and Cov(q, |z|^2) = 2 d r:
    space  a^2 r - 2 a r + 1        noise  (a^2 r^2 - 2 a r^2 + 1) + c^2 / 2d
    """
    ratio = sigma**2 / (VARIANCE + sigma**2)
    space = scale**2 * ratio - 2 * scale * ratio + 1
    noise = (scale**2 - 2 * scale) * ratio**2 + 1 + drift**2 / (2 * DIMENSION)
    return space + noise


@pytest.mark.statistical
@pytest.mark.parametrize("sigma", [0.2, 1.0, 5.0])
@pytest.mark.parametrize(("scale", "drift"), [(1.0, 0.0), (0.5, 0.0), (1.3, 0.7), (0.0, 0.0)])
def test_value_is_the_closed_form(sigma, scale, drift):
    x = rows(100_000)
    loss = dual_score_matching(
        ScaledGaussian(scale, drift),
        x,
        sigma=torch.full((len(x),), sigma).double(),
        generator=torch.Generator().manual_seed(1),
    ).detach()
    error = loss.std() / len(loss) ** 0.5
    assert (loss.mean() - closed_form(scale, sigma, drift)).abs() < 3.9 * error


def no_dimension(energy, x, *, sigma, generator):
    """Mutant: the noise target |z|^2 without - d."""
    z = torch.randn(x.shape, generator=generator, dtype=x.dtype)
    in_space, in_noise = dual_score(energy, x + sigma[:, None] * z, sigma, create_graph=True)
    space = sigma**2 * (in_space + z / sigma[:, None]).square().mean(1)
    return space + (in_noise - z.square().sum(1)).square() / (2 * x.shape[1])


def wrong_noise_sign(energy, x, *, sigma, generator):
    """Mutant: + dE/d log sigma."""
    z = torch.randn(x.shape, generator=generator, dtype=x.dtype)
    in_space, in_noise = dual_score(energy, x + sigma[:, None] * z, sigma, create_graph=True)
    space = sigma**2 * (in_space + z / sigma[:, None]).square().mean(1)
    return space + (in_noise + z.square().sum(1) - x.shape[1]).square() / (2 * x.shape[1])


def space_only(energy, x, *, sigma, generator):
    """Mutant: a ladder of plain denoising score matching."""
    z = torch.randn(x.shape, generator=generator, dtype=x.dtype)
    in_space, _ = dual_score(energy, x + sigma[:, None] * z, sigma, create_graph=True)
    return sigma**2 * (in_space + z / sigma[:, None]).square().mean(1)


@pytest.mark.statistical
@pytest.mark.parametrize("mutant", [no_dimension, wrong_noise_sign, space_only])
def test_mutants_miss_the_closed_form(mutant):
    x = rows(100_000)
    sigma = torch.full((len(x),), 1.0).double()
    generator = torch.Generator().manual_seed(1)
    loss = mutant(ScaledGaussian(1.3, 0.7), x, sigma=sigma, generator=generator).detach()
    error = loss.std() / len(loss) ** 0.5
    assert (loss.mean() - closed_form(1.3, 1.0, 0.7)).abs() > 3.9 * error


def mean_gradient(objective, num_batches=150):
    generator = torch.Generator().manual_seed(3)
    energy = ScaledGaussian(0.7, 0.4)
    state = objective.init(rows(500), generator)
    values = []
    for index in range(num_batches):
        loss = objective(energy, rows(64, seed=index), state, generator)
        gradient = torch.autograd.grad(loss.value, [energy.scale, energy.drift])
        values.append(torch.stack(gradient))
    values = torch.stack(values)
    return values.mean(0), values.std(0) / num_batches**0.5


@pytest.mark.statistical
def test_the_objective_has_the_gradient_of_the_plain_loss():
    """Four noises a row, stratified levels and posterior means leave the mean as it is."""
    objective = DualScoreMatching(sigma_min=0.2, sigma_max=4.0, num_noised=32)
    mean, error = mean_gradient(objective)
    levels = torch.exp(torch.linspace(math.log(0.2), math.log(4.0), 20_001)).double()
    scale = torch.tensor(0.7).double().requires_grad_(True)
    drift = torch.tensor(0.4).double().requires_grad_(True)
    exact = torch.autograd.grad(closed_form(scale, levels, drift).mean(), [scale, drift])
    assert ((mean - torch.stack(exact)).abs() < 3.9 * error).all(), (mean, exact, error)


@pytest.mark.statistical
def test_a_constant_of_the_noise_level_is_seen_and_a_constant_is_not():
    """One constant for all levels: c log sigma raises the loss by c^2/2d, a number does not."""
    x, sigma = rows(100_000), torch.full((100_000,), 0.5).double()
    exact, drift = ScaledGaussian(), 0.5

    def loss(energy):
        generator = torch.Generator().manual_seed(1)
        return dual_score_matching(energy, x, sigma=sigma, generator=generator).detach()

    assert torch.allclose(loss(lambda y, s: exact(y, s) + 17.0), loss(exact), atol=1e-9)
    raised = loss(ScaledGaussian(drift=drift)) - loss(exact)
    error = raised.std() / len(raised) ** 0.5
    assert (raised.mean() - drift**2 / (2 * DIMENSION)).abs() < 3.9 * error


class Mixture(nn.Module):
    """-log p_sigma of 0.3 N(-1, 0.4^2 I) + 0.7 N(1.5, 0.9^2 I) in two dimensions, plus a number.

    ``at_level`` off by a factor is a mutant: the right law at the wrong noise.
    """

    event_shape = (2,)

    def __init__(self, constant=0.0, at_level=1.0):
        super().__init__()
        self.constant, self.at_level = constant, at_level

    def forward(self, y, sigma):
        sigma = torch.as_tensor(sigma).to(y) * self.at_level
        parts = []
        for weight, centre, deviation in ((0.3, -1.0, 0.4), (0.7, 1.5, 0.9)):
            variance = deviation**2 + sigma**2
            square = (y - centre).square().sum(1) / (2 * variance)
            parts.append(math.log(weight) - square - torch.log(2 * math.pi * variance))
        return self.constant - torch.logsumexp(torch.stack(torch.broadcast_tensors(*parts)), 0)

    def at(self, sigma):
        return lambda y: self(y, torch.as_tensor(sigma).to(y))

    def base_law(self, sigma):
        """Mean and covariance of the blurred mixture, which a Gaussian of them is near."""
        spread = 0.3 * 0.4**2 + 0.7 * 0.9**2 + sigma**2
        between = 0.3 * 0.7 * 2.5**2 * torch.ones(2, 2, dtype=torch.float64)
        mean = torch.full((2,), 0.3 * -1.0 + 0.7 * 1.5, dtype=torch.float64)
        return mean, spread * torch.eye(2, dtype=torch.float64) + between


def mixture_rows(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    right = torch.rand(n, 1, generator=generator, dtype=torch.float64) < 0.7
    z = torch.randn(n, 2, generator=generator, dtype=torch.float64)
    return torch.where(right, 1.5 + 0.9 * z, -1.0 + 0.4 * z)


class Wrong(nn.Module):
    """An energy that is right in neither derivative."""

    def forward(self, y, sigma):
        return 0.3 * y.square().sum(1) / (1 + sigma**2) + torch.tanh(y[:, 0] * sigma)


def excess_less_the_two_divergences(exact, sigma, n=100_000):
    """loss(E) - loss(exact) - [ s^2/d |grad E - grad exact|^2 + (dE - d exact)^2 / 2d ], by rows.

    Its mean is zero if and only if both targets have the derivatives of ``exact`` as their means
    given y: the loss then is the two Fisher divergences to it, up to a constant.
    """
    generator = torch.Generator().manual_seed(1)
    z = torch.randn(n, 2, generator=generator, dtype=torch.float64)
    levels = torch.full((n,), sigma, dtype=torch.float64)
    y = mixture_rows(n) + sigma * z
    space_target, noise_target = single_draw_targets(z, levels)
    of_exact, of_wrong = dual_score(exact, y, levels), dual_score(Wrong(), y, levels)

    def weighted(space, noise):
        return sigma**2 * space.square().sum(1) / 2 + noise.square() / 4

    def loss(derivatives):
        return weighted(derivatives[0] - space_target, derivatives[1] - noise_target)

    divergences = weighted(of_wrong[0] - of_exact[0], of_wrong[1] - of_exact[1])
    return loss(of_wrong) - loss(of_exact) - divergences


@pytest.mark.statistical
@pytest.mark.parametrize("sigma", [0.2, 1.0, 5.0])
def test_both_derivatives_recover_log_p_sigma(sigma):
    """The loss of any energy is its two Fisher divergences from log p_sigma, up to a constant."""
    for exact, is_right in ((Mixture(), True), (Mixture(at_level=2.0), False)):
        rest = excess_less_the_two_divergences(exact, sigma)
        error = rest.std() / len(rest) ** 0.5
        assert (rest.mean().abs() < 3.9 * error) == is_right


@pytest.mark.statistical
@pytest.mark.parametrize("wrong", [lambda s: 0.0, lambda s: 0.2 * math.log(s / 30.0)])
def test_the_largest_level_ties_the_constant_of_every_level(wrong):
    """log Z told at the top by importance sampling is log Z at each level, by quadrature.

    The mutant's constant drifts with the level: its top says nothing of the others, which is what
    the derivative in the noise level is for.
    """
    top, generator = 30.0, torch.Generator().manual_seed(0)
    energy = Mixture(constant=17.0)
    at_top = log_z_at_top(energy, top, generator)
    assert abs(at_top.log_z + 17.0) < 3.9 * at_top.standard_error < 0.1
    is_right = wrong(1.0) == 0.0
    for sigma in (0.1, 1.0, 6.0):
        reach = 6 * (1.0 + sigma)
        bounds = torch.tensor([[-1.0 - reach, 1.5 + reach]] * 2)

        def level(y, sigma=sigma):
            return energy.at(sigma)(y) + wrong(sigma)

        log_z = quadrature(level, bounds).log_z
        assert (abs(log_z - at_top.log_z) < 3.9 * at_top.standard_error + 1e-3) == is_right


class Shells:
    """N(0, I) and N(0, 16 I) in 100 dimensions, blurred; their log odds may change with the level.

    The true ones are log 4 at every level. ``drift`` is added below sigma = 0.5, smoothly.
    """

    def __init__(self, drift=0.0):
        self.drift = drift
        self.variances = torch.tensor([1.0, 16.0]).double()

    def sample(self, n, generator):
        wide = torch.rand(n, 1, generator=generator) < 0.2
        z = torch.randn(n, 100, generator=generator, dtype=torch.float64)
        return torch.where(wide, 4.0, 1.0) * z

    def __call__(self, y, sigma):
        odds = math.log(4) + self.drift * torch.sigmoid((math.log(0.5) - sigma.log()) / 0.2)
        log_weights = torch.stack([odds, torch.zeros_like(odds)], 1).log_softmax(1)
        variances = self.variances + sigma.square()[:, None]
        log_normal = -0.5 * (y.square().sum(1, keepdim=True) / variances + 100 * variances.log())
        return -torch.logsumexp(log_weights + log_normal, 1)


@pytest.mark.parametrize("shell", [0, 1])
def test_shells_in_a_hundred_dimensions_whose_weights_only_the_noise_derivative_sees(shell):
    """Guth et al. 2025, figure 1: scores agree at every level, and log densities do not.

    What tells them apart is the noise derivative: its difference, summed along the ladder, is the
    error of the log density below.
    """
    truth, wrong = Shells(), Shells(drift=-2 * math.log(4))  # 0.8 and 0.2 the other way round
    generator = torch.Generator().manual_seed(0)
    x, z = torch.randn(2, 20, 100, generator=generator, dtype=torch.float64)
    ladder = torch.logspace(math.log10(2.0), -2, 401, dtype=torch.float64)
    differences = []
    for sigma in ladder:
        y = truth.variances[shell].sqrt() * x + sigma * z
        levels = sigma.expand(len(y))
        (in_space, in_noise), (wrong_space, wrong_noise) = (
            dual_score(energy, y, levels) for energy in (truth, wrong)
        )
        # Relative to the score of noise, which is what the loss divides by: a ladder of scores
        # loses nothing by the wrong weights.
        assert (sigma * (wrong_space - in_space)).abs().max() < 1e-9
        differences.append((wrong_noise - in_noise).mean())
    summed = torch.trapezoid(torch.stack(differences), ladder.log())
    low = ladder[-1].expand(len(x))
    y = truth.variances[shell].sqrt() * x + ladder[-1] * z
    error = (truth(y, low) - wrong(y, low)).mean()  # of log p_sigma
    expected = math.log(0.2 / 0.8) if shell == 0 else math.log(0.8 / 0.2)
    assert float(error) == pytest.approx(expected, abs=1e-3)
    assert float(summed) == pytest.approx(expected, abs=1e-2)


def test_trivial_predictor_has_relative_loss_one():
    class Flat(nn.Module):
        def forward(self, x, sigma):
            return 0 * x.sum(1) + 0 * sigma

    objective = DualScoreMatching()
    generator = torch.Generator().manual_seed(0)
    state = objective.init(rows(100), generator)
    loss = objective(Flat(), rows(128), state, generator)
    assert float(loss.value.detach()) == pytest.approx(float(loss.terms["trivial"]))


@pytest.mark.parametrize(
    "bad", [{"sigma_min": 0.0}, {"sigma_max": -1.0}, {"num_noised": 0}, {"sigma_min": float("nan")}]
)
def test_bad_settings_are_named(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        DualScoreMatching(**bad)


def test_a_ladder_upside_down_is_refused():
    with pytest.raises(ValueError, match="sigma_min must lie below sigma_max"):
        DualScoreMatching(sigma_min=5.0, sigma_max=1.0).init(rows(50), torch.Generator())
