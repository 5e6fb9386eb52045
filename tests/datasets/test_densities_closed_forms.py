"""Toy densities against values found another way: closed forms, brute quadrature, mpmath."""

from __future__ import annotations

import functools
import math

import mpmath
import numpy as np
import pytest
import torch
from scipy import special, stats

from basin.datasets import curve, pinwheel, swiss_roll, two_moons, two_spirals
from basin.datasets.checkerboard import Checkerboard
from basin.datasets.curve import log_sum, panels
from basin.datasets.eight_gaussians import EightGaussians
from basin.datasets.mixture_of_gaussians import MixtureOfGaussians
from basin.datasets.normal_interval import log_box, log_normal_interval, normal_interval_integral
from basin.datasets.pinwheel import Pinwheel
from basin.datasets.rings import Rings
from basin.datasets.standard_gaussian import StandardGaussian
from basin.datasets.swiss_roll import SwissRoll
from basin.datasets.two_blobs import TwoBlobs
from basin.datasets.two_moons import TwoMoons
from basin.datasets.two_spirals import TwoSpirals

DOUBLE = torch.float64


def scattered(n: int, reach: float, seed: int = 0) -> torch.Tensor:
    uniform = torch.rand(n, 2, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)
    return reach * (2 * uniform - 1)


# normal intervals


@pytest.mark.parametrize("width", [1e-3, 0.5, 2.0, 40.0])
def test_log_normal_interval_matches_fifty_digits(width):
    mpmath.mp.dps = 50
    starts = [-300.0, -45.0, -9.0, -1.0, -0.3, 0.0, 0.7, 8.0, 37.0, 260.0]
    root = mpmath.sqrt(2)
    expected = []
    for a in starts:
        low, high = mpmath.mpf(a), mpmath.mpf(a + width)
        if low > 0:
            low, high = -high, -low
        mass = (mpmath.erfc(-high / root) - mpmath.erfc(-low / root)) / 2
        expected.append(float(mpmath.log(mass)))
    lower = torch.tensor(starts, dtype=DOUBLE)
    found = log_normal_interval(lower, lower + width)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=DOUBLE), rtol=1e-10, atol=1e-10)


def test_log_box_has_two_finite_derivatives_everywhere():
    x = torch.linspace(-20, 20, 401, dtype=DOUBLE, requires_grad=True)
    for sigma in (0.01, 0.1, 1.0, 30.0):
        (slope,) = torch.autograd.grad(log_box(x, -1.0, 1.0, sigma).sum(), x, create_graph=True)
        (curvature,) = torch.autograd.grad(slope.sum(), x)
        assert bool(slope.isfinite().all())
        assert bool(curvature.isfinite().all())
        assert float(curvature.min()) > -1.01 / sigma**2  # what log_sum relies on


def test_normal_interval_integral_is_the_antiderivative_of_the_cdf():
    x = torch.linspace(-6, 6, 50, dtype=DOUBLE, requires_grad=True)
    (slope,) = torch.autograd.grad(normal_interval_integral(x).sum(), x)
    torch.testing.assert_close(slope, torch.special.ndtr(x.detach()))


# closed forms


def test_standard_gaussian():
    x = scattered(20, 3)
    expected = stats.multivariate_normal(np.zeros(2), 1.25 * np.eye(2)).logpdf(x.numpy())
    torch.testing.assert_close(StandardGaussian().blurred(0.5).log_prob(x), torch.tensor(expected))
    torch.testing.assert_close(StandardGaussian().blurred(0.5).score(x), -x / 1.25)


def test_checkerboard_blurred_is_a_sum_of_products_of_cdfs():
    x, sigma = scattered(50, 5).numpy(), 0.3
    total = np.zeros(50)
    for i in range(4):
        for j in range(4):
            if (i + j) % 2 == 0:
                corner = np.array([2 * i - 4, 2 * j - 4])
                above, below = (x - corner) / sigma, (x - corner - 2) / sigma
                total += ((special.ndtr(above) - special.ndtr(below)) / 2).prod(1) / 8
    found = Checkerboard().blurred(sigma).log_prob(torch.tensor(x)).exp()
    torch.testing.assert_close(found, torch.tensor(total), rtol=1e-9, atol=1e-14)


def test_checkerboard_tails_do_not_underflow():
    law = Checkerboard().blurred(0.1)
    x = torch.tensor([[-14.0, -3.0]], dtype=DOUBLE)  # 100 sigma to the left of a black square
    log_tail = -0.5 * 100**2 - math.log(100 * math.sqrt(2 * math.pi)) - math.log(2 * 2 * 8)
    assert float(law.log_prob(x)) == pytest.approx(log_tail, abs=1e-3)


def test_eight_gaussians_at_a_centre():
    far = math.exp(-0.5 * (4 * math.sin(math.pi / 8) / 0.5 * 2) ** 2)
    variance = 0.125
    expected = math.log((1 + 2 * far) / 8 / (2 * math.pi * variance))
    found = EightGaussians().log_prob(torch.tensor([[4 / math.sqrt(2), 0.0]], dtype=DOUBLE))
    assert float(found) == pytest.approx(expected, abs=1e-9)


def test_rings_are_the_average_over_the_angle():
    x, width = scattered(60, 4), math.hypot(0.08, 0.2)
    angle = 2 * math.pi * torch.arange(4000, dtype=DOUBLE) / 4000
    circle = torch.stack([angle.cos(), angle.sin()], 1)
    kernels = [
        (-(x[:, None] - radius * circle).square().sum(2) / (2 * width**2)).exp().mean(1)
        for radius in (0.75, 1.5, 2.25, 3.0)
    ]
    expected = torch.stack(kernels).mean(0) / (2 * math.pi * width**2)
    found = Rings().blurred(0.2).log_prob(x).exp()
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-15)


def test_rings_at_the_centre_have_no_score():
    score = Rings().score(torch.zeros(1, 2, dtype=DOUBLE))
    assert score.abs().max() < 1e-12


@pytest.mark.parametrize("sigma", [0.0, 0.3, 3.0])
def test_ring_regions_follow_rice(sigma):
    law, width = Rings(sigma=sigma), math.hypot(0.08, sigma)
    cuts = np.array([0, 1.125, 1.875, 2.625, np.inf])
    cdf = [stats.rice(radius / width, scale=width).cdf(cuts) for radius in law.radii]
    expected = np.diff(np.mean(cdf, axis=0))
    torch.testing.assert_close(law.mode_weights, torch.tensor(expected), rtol=0, atol=1e-7)


def test_checkerboard_regions_match_a_grid():
    law = Checkerboard().blurred(0.4)
    n = 800
    low, high = law.bounds[0].tolist()
    ticks = low + (high - low) * (torch.arange(n, dtype=DOUBLE) + 0.5) / n
    x = torch.cartesian_prod(ticks, ticks)
    mass = law.log_prob(x).exp() * ((high - low) / n) ** 2
    shares = torch.zeros(8, dtype=DOUBLE).index_add(0, law.mode_of(x), mass)
    torch.testing.assert_close(law.mode_weights, shares, rtol=0, atol=5e-4)
    assert float((law.mode_weights - 1 / 8).abs().max()) > 1e-3


def test_two_blobs():
    law = TwoBlobs().blurred(0.4)
    x = torch.tensor([[-4.0, 0.0], [4.0, 0.0]], dtype=DOUBLE)
    expected = torch.tensor([0.8, 0.2], dtype=DOUBLE) / (2 * math.pi * 0.25)
    torch.testing.assert_close(law.log_prob(x).exp(), expected)
    left = 0.8 * special.ndtr(8.0) + 0.2 * special.ndtr(-8.0)
    assert law.mode_weights.tolist() == pytest.approx([left, 1 - left])


# mixtures of Gaussians


def ten_dimensional() -> MixtureOfGaussians:
    """The 10-D mixture that the issue sets as a target."""
    means = 2 * torch.randn(8, 10, generator=torch.Generator().manual_seed(0))
    return MixtureOfGaussians(means, 0.25, [0.3, 0.2, 0.15, 0.1, 0.1, 0.07, 0.05, 0.03])


def test_full_covariances_agree_with_torch_distributions():
    means = torch.tensor([[0.0, 1.0, 2.0], [-1.0, 0.0, 0.5]], dtype=DOUBLE)
    root = torch.randn(2, 3, 3, generator=torch.Generator().manual_seed(1), dtype=DOUBLE)
    covariances = root @ root.mT + 0.1 * torch.eye(3, dtype=DOUBLE)
    law = MixtureOfGaussians(means, covariances, [0.25, 0.75]).blurred(0.7)
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(2), dtype=DOUBLE)
    reference = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(torch.tensor([0.25, 0.75], dtype=DOUBLE)),
        torch.distributions.MultivariateNormal(means, covariances + 0.49 * torch.eye(3)),
    )
    torch.testing.assert_close(law.log_prob(x), reference.log_prob(x))
    draws = law.sample(200_000, torch.Generator().manual_seed(3)).double()
    mean = 0.25 * means[0] + 0.75 * means[1]
    gap = means[0] - means[1]
    spread = 0.25 * covariances[0] + 0.75 * covariances[1] + 0.49 * torch.eye(3)
    spread = spread + 0.25 * 0.75 * torch.outer(gap, gap)
    torch.testing.assert_close(draws.mean(0), mean, rtol=0, atol=0.05)
    torch.testing.assert_close(draws.T.cov(), spread, rtol=0.05, atol=0.05)


def test_one_variance_for_all_and_one_for_each():
    x = scattered(10, 2)
    means = [[0.0, 0.0], [1.0, 1.0]]
    shared = MixtureOfGaussians(means, 0.3).log_prob(x)
    torch.testing.assert_close(MixtureOfGaussians(means, [0.3, 0.3]).log_prob(x), shared)
    matrices = 0.3 * torch.eye(2).expand(2, 2, 2)
    torch.testing.assert_close(
        MixtureOfGaussians(means, matrices).log_prob(x), shared, rtol=1e-6, atol=1e-6
    )


def test_ten_dimensions():
    law = ten_dimensional()
    assert law.event_shape == (10,)
    assert law.bounds.shape == (10, 2)
    assert law.mode_weights.tolist() == pytest.approx([0.3, 0.2, 0.15, 0.1, 0.1, 0.07, 0.05, 0.03])
    blurred = law.blurred(0.1)
    x = blurred.sample(100_000, torch.Generator().manual_seed(0))
    seen = torch.bincount(law.mode_of(x), minlength=8).numpy()
    assert stats.chisquare(seen, 100_000 * law.mode_weights.numpy()).pvalue > 1e-4
    # for x of one component, |x - m|^2 / (0.25 + 0.01) is chi-squared with 10 degrees of freedom
    distance = (x - torch.as_tensor(law.means).float()[law.mode_of(x)]).square().sum(1) / 0.26
    assert stats.kstest(distance.numpy(), stats.chi2(10).cdf).pvalue > 1e-4
    assert stats.kstest(distance.numpy() * 0.26 / 0.25, stats.chi2(10).cdf).pvalue < 1e-4


def test_regions_of_overlapping_components_on_a_line():
    """Two Gaussians of one variance: the border lies at m + v log(w0 / w1) / (2 gap)."""
    law = MixtureOfGaussians([[-1.0], [1.0]], 1.0, [0.7, 0.3])
    border = math.log(0.7 / 0.3) / 2
    left = 0.7 * special.ndtr(border + 1) + 0.3 * special.ndtr(border - 1)
    assert law.mode_weights.tolist() == pytest.approx([left, 1 - left], abs=1e-5)
    assert abs(left - 0.7) > 1e-2  # component weights would be far off


def test_regions_of_overlapping_components_in_the_plane():
    covariances = torch.tensor(
        [[[1.0, 0.5], [0.5, 1.0]], [[0.5, 0.0], [0.0, 2.0]], [[1.0, 0], [0, 1]]]
    )
    law = MixtureOfGaussians([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]], covariances, [0.5, 0.2, 0.3])
    n = 1200
    axes = [
        float(low) + float(high - low) * (torch.arange(n, dtype=DOUBLE) + 0.5) / n
        for low, high in law.bounds
    ]
    shares, area = torch.zeros(3, dtype=DOUBLE), float((law.bounds[:, 1] - law.bounds[:, 0]).prod())
    for x in torch.cartesian_prod(*axes).split(200_000):
        shares = shares.index_add(0, law.mode_of(x), law.log_prob(x).exp() * area / n**2)
    torch.testing.assert_close(law.mode_weights, shares, rtol=0, atol=1e-4)


def test_a_bad_mixture_is_refused():
    with pytest.raises(ValueError, match=r"means must have shape \(K, d\)"):
        MixtureOfGaussians([0.0, 1.0])
    with pytest.raises(ValueError, match=r"weights must add up to 1, got 0\.7"):
        MixtureOfGaussians([[0.0], [1.0]], 1.0, [0.3, 0.4])
    with pytest.raises(ValueError, match="weights must be 2 non-negative numbers"):
        MixtureOfGaussians([[0.0], [1.0]], 1.0, [1.3, -0.3])
    with pytest.raises(ValueError, match="covariances must be a variance, 2 variances or shape"):
        MixtureOfGaussians([[0.0], [1.0]], [1.0, 1.0, 1.0])
    with pytest.raises(ValueError, match="covariances must be positive definite"):
        MixtureOfGaussians([[0.0], [1.0]], -1.0)
    with pytest.raises(ValueError, match="covariances must be symmetric"):
        MixtureOfGaussians([[0.0, 0.0]], [[[1.0, 0.5], [0.0, 1.0]]])
    with pytest.raises(ValueError, match="means must be finite"):
        MixtureOfGaussians([[math.nan]])


# quadrature along curves


def test_panels_integrate_gaussians_to_rounding():
    t, weight = panels(lambda t: 20 + 0 * t, -2.0, 3.0)
    for centre in (-2.0, -0.37, 1.9, 3.0):
        found = float((weight * (-0.5 * ((t - centre) * 20).square()).exp()).sum())
        expected = (special.ndtr((3 - centre) * 20) - special.ndtr((-2 - centre) * 20)) / 20
        assert found == pytest.approx(expected * math.sqrt(2 * math.pi), rel=1e-11)


CURVES = [
    (two_moons, TwoMoons),
    (swiss_roll, SwissRoll),
    (two_spirals, TwoSpirals),
    (pinwheel, Pinwheel),
]


@pytest.mark.parametrize("sigma", [0.1, 1.0])
@pytest.mark.parametrize(("module", "density"), CURVES, ids=[c[1].__name__ for c in CURVES])
def test_halving_the_panels_changes_nothing(module, density, sigma, monkeypatch):
    """The stated relative error, wherever the density is above e^-40 of its peak.

    The mutant has panels four times as long.
    """
    law = density().blurred(sigma)
    draws = law.sample(300, torch.Generator().manual_seed(0)).double()
    low, high = law.bounds[:, 0], law.bounds[:, 1]
    x = torch.cat([draws, low + (high - low) * (scattered(700, 1) + 1) / 2])
    x = x[law.log_prob(x) > law.log_prob(x).max() - 40]

    def error_with_panels_of(widths):
        other = functools.partial(panels, widths_per_panel=widths)
        monkeypatch.setattr(module, "panels", other)
        return float((density(sigma=law.sigma).log_prob(x) - law.log_prob(x)).abs().max())

    assert error_with_panels_of(2.5) < 1e-6
    monkeypatch.setattr(curve, "LEAST_PANELS", 1)
    assert error_with_panels_of(20.0) > 1e-6


def test_terms_left_out_do_not_matter():
    law = Pinwheel().blurred(0.03)
    x = scattered(3000, 6)
    whole = torch.cat([law.log_prob(part) for part in x.split(100)])  # too few rows to leave out
    torch.testing.assert_close(law.log_prob(x), whole, rtol=0, atol=1e-9)
    law = TwoSpirals().blurred(0.03)
    whole = torch.cat([law.log_prob(part) for part in x.split(100)])
    torch.testing.assert_close(law.log_prob(x), whole, rtol=0, atol=1e-8)


def test_mutant_that_leaves_out_too_much_is_caught():
    """A kernel that claims to be wider than it is voids the bound."""
    centres = scattered(2000, 3)
    x = scattered(3000, 3, seed=1)

    def log_terms(part, which):
        gap = part[:, None] - centres[which]
        return -gap.square().sum(2) / (2 * 0.05**2)

    peaks = torch.zeros(2000, dtype=DOUBLE)
    exact = torch.logsumexp(log_terms(x, slice(None)), 1)
    torch.testing.assert_close(log_sum(x, log_terms, peaks, 0.05), exact, rtol=0, atol=1e-9)
    assert float((log_sum(x, log_terms, peaks, 5.0) - exact).abs().max()) > 1e-3


def test_two_spirals_by_brute_force():
    """Midpoint sums over n, Gauss-Legendre over the little square of (U, U')."""
    law = TwoSpirals().blurred(0.2)
    width, x = math.hypot(0.1, 0.2), scattered(30, 3.5)
    v = (torch.arange(16_000, dtype=DOUBLE) + 0.5) / 16_000
    n = 3 * math.pi * v
    density_of_n = 2 * v / 16_000
    node, weight = (torch.from_numpy(value) for value in np.polynomial.legendre.leggauss(12))
    box = (node + 1) / 2 / 6

    def blurred_box(gap):
        return (-(gap[..., None] - box).square() / (2 * width**2)).exp() @ weight / 2

    total = torch.zeros(30, dtype=DOUBLE)
    for sign in (1, -1):
        first = blurred_box(sign * x[:, None, 0] + n * n.cos() / 3)
        second = blurred_box(sign * x[:, None, 1] - n * n.sin() / 3)
        total += (first * second * density_of_n).sum(1) / 2
    total /= 2 * math.pi * width**2
    torch.testing.assert_close(law.log_prob(x).exp(), total, rtol=1e-4, atol=1e-12)


def test_pinwheel_roots_hold_the_source_of_every_draw():
    """p(x) is at least the term of the (r, q) that x was made from."""
    law = Pinwheel()
    noise = torch.randn(20_000, 2, generator=torch.Generator().manual_seed(1), dtype=DOUBLE)
    r, q = 1 + 0.3 * noise[:, 0], 0.1 * noise[:, 1]
    angle = 0.25 * r.exp() + 2 * math.pi / 5 * 3
    x = 2 * torch.stack([r * angle.cos() + q * angle.sin(), q * angle.cos() - r * angle.sin()], 1)
    jacobian = 4 * (1 + 0.25 * r.exp() * q).abs()
    term = -0.5 * noise.square().sum(1) - (5 * 2 * math.pi * 0.03 * jacobian).log()
    assert bool((law.log_prob(x) > term - 1e-6).all())
    assert float((law.log_prob(x) - term).median()) < 1e-6


def test_pinwheel_blurred_a_little_is_the_pinwheel():
    law, sigma = Pinwheel(), 0.005
    x = law.sample(200, torch.Generator().manual_seed(2)).double()
    difference = law.blurred(sigma).log_prob(x) - law.log_prob(x)
    assert float(difference.abs().median()) < 0.005
    assert float(difference.abs().max()) < 0.05


def test_pinwheel_without_blur_has_a_gradient_almost_everywhere():
    law, step = Pinwheel(), 1e-6
    x = law.sample(50, torch.Generator().manual_seed(3)).double().requires_grad_(True)
    (gradient,) = torch.autograd.grad(law.log_prob(x).sum(), x)
    for i in range(2):
        shift = torch.zeros(2, dtype=DOUBLE)
        shift[i] = step
        with torch.no_grad():
            rise = (law.log_prob(x + shift) - law.log_prob(x - shift)) / (2 * step)
        torch.testing.assert_close(gradient[:, i], rise, rtol=1e-4, atol=1e-3)


@pytest.mark.slow
@pytest.mark.benchmark
@pytest.mark.parametrize("density", [c[1] for c in CURVES] + [Checkerboard, Rings])
def test_a_large_grid_is_fast_and_small(density):
    """160,000 points on one core: seconds of the processor, and memory beyond what was there."""
    import resource
    import time

    law = density().blurred(0.1)
    ticks = torch.linspace(*law.bounds[0].tolist(), 400)
    x = torch.cartesian_prod(ticks, ticks)
    law.log_prob(x[:1000])
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    law.log_prob(x)
    seconds = time.process_time() - start
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert seconds < 3
    assert grown < 300
