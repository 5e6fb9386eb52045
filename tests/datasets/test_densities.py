"""What every toy density must do: draw from the law it states, and blur it rightly.

Each check that could pass by accident has a mutant here that must fail: a wrong normaliser, a
wrong variance of the blur, a wrong mode weight.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from basin.core.describe import build, describe
from basin.core.gradients import laplacian
from basin.core.types import Density
from basin.datasets.checkerboard import Checkerboard
from basin.datasets.eight_gaussians import EightGaussians
from basin.datasets.mixture_of_gaussians import MixtureOfGaussians
from basin.datasets.pinwheel import Pinwheel
from basin.datasets.rings import Rings
from basin.datasets.standard_gaussian import StandardGaussian
from basin.datasets.swiss_roll import SwissRoll
from basin.datasets.toy_density import ToyDensity, in_chunks
from basin.datasets.two_blobs import TwoBlobs
from basin.datasets.two_moons import TwoMoons
from basin.datasets.two_spirals import TwoSpirals
from helpers.statistics import THRESHOLD

CLASSES = [
    Checkerboard,
    EightGaussians,
    MixtureOfGaussians,
    Pinwheel,
    Rings,
    StandardGaussian,
    SwissRoll,
    TwoBlobs,
    TwoMoons,
    TwoSpirals,
]
every_density = pytest.mark.parametrize("density", [c() for c in CLASSES], ids=repr)


def grid(density: Density, cells: int) -> tuple[Tensor, float]:
    """Middles of cells x cells equal cells of the bounds, row by row, and the area of one."""
    low, high = density.bounds[:, 0], density.bounds[:, 1]
    ticks = (torch.arange(cells, dtype=torch.float64) + 0.5) / cells
    axes = [low[i] + (high[i] - low[i]) * ticks for i in range(2)]
    return torch.cartesian_prod(*axes), float((high - low).prod()) / cells**2


def cell_p_value(truth: Density, drawn_from: Density, n: int = 40_000, cells: int = 40) -> float:
    """Chi-squared p-value of draws of one density in cells of the bounds of another."""
    fine = 6
    x, area = grid(truth, cells * fine)
    mass = (truth.log_prob(x).exp() * area).reshape(cells, fine, cells, fine).sum((1, 3))
    draws = drawn_from.sample(n, torch.Generator().manual_seed(5)).double()
    low, high = truth.bounds[:, 0], truth.bounds[:, 1]
    place = ((draws - low) / (high - low) * cells).floor().clamp(0, cells - 1).long()
    seen = torch.bincount(place[:, 0] * cells + place[:, 1], minlength=cells**2).numpy()
    expected = mass.flatten().numpy() / float(mass.sum()) * n
    rare = expected < 8
    seen = np.append(seen[~rare], seen[rare].sum())
    expected = np.append(expected[~rare], expected[rare].sum())
    keep = expected > 1e-6 * n
    assert seen[~keep].sum() <= 5
    statistic = ((seen[keep] - expected[keep]) ** 2 / expected[keep]).sum()
    return float(stats.chi2.sf(statistic, keep.sum() - 1))


@every_density
def test_is_a_density_with_everything_the_contract_names(density):
    assert isinstance(density, Density)
    assert density.bounds.shape == (*density.event_shape, 2)
    assert bool((density.bounds[..., 1] > density.bounds[..., 0]).all())
    assert float(density.mode_weights.sum()) == pytest.approx(1, abs=1e-9)
    assert density.blurred(0.1).is_smooth
    assert repr(density).startswith(type(density).__name__)
    with pytest.raises(dataclasses.FrozenInstanceError):
        density.sigma = 1.0


@every_density
def test_blurring_twice_adds_variances(density):
    twice = density.blurred(0.3).blurred(0.4)
    assert type(twice) is type(density)
    assert twice.sigma == pytest.approx(0.5)
    x = density.sample(50, torch.Generator().manual_seed(0)).double()
    torch.testing.assert_close(twice.log_prob(x), density.blurred(0.5).log_prob(x))


@every_density
def test_draws_depend_on_the_generator_alone(density):
    for law in (density, density.blurred(0.2)):
        first, again, other = (
            law.sample(200, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
        )
        assert torch.equal(first, again)
        assert not torch.equal(first, other)
        assert first.dtype == torch.float32
        assert first.shape == (200, *law.event_shape)


@every_density
def test_log_prob_keeps_dtype_input_and_rows(density):
    law = density.blurred(0.1)
    x = law.sample(300, torch.Generator().manual_seed(3))
    kept = x.clone()
    values = law.log_prob(x)
    assert torch.equal(x, kept)
    assert values.shape == (300,)
    assert values.dtype == torch.float32
    assert not values.requires_grad
    exact = law.log_prob(x.double())
    assert exact.dtype == torch.float64
    torch.testing.assert_close(values, exact.float())
    torch.testing.assert_close(law.log_prob(x.double()[7:8]), exact[7:8], rtol=1e-9, atol=1e-9)
    assert law.log_prob(x[:0]).shape == (0,)
    assert bool((density.log_prob(x[:20]) > -math.inf).any())
    with torch.inference_mode():
        torch.testing.assert_close(law.log_prob(x), values)


@every_density
def test_no_draw_has_density_zero(density):
    x = density.sample(50_000, torch.Generator().manual_seed(4))
    assert bool(density.log_prob(x).isfinite().all())


@every_density
def test_draws_lie_within_bounds(density):
    for law in (density, density.blurred(0.5)):
        x = law.sample(50_000, torch.Generator().manual_seed(4))
        assert bool(((x >= law.bounds[..., 0]) & (x <= law.bounds[..., 1])).all())


@every_density
def test_bad_input_is_refused_with_the_rule(density):
    x = torch.zeros(3, *density.event_shape)
    with pytest.raises(ValueError, match="x must have shape"):
        density.log_prob(torch.zeros(3, density.event_shape[0] + 1))
    with pytest.raises(ValueError, match="x must be finite"):
        density.log_prob(x.clone().fill_(math.nan))
    with pytest.raises(TypeError, match="x must be floating point"):
        density.log_prob(x.long())
    with pytest.raises(ValueError, match="sigma must be positive, got 0"):
        density.blurred(0.0)
    with pytest.raises(ValueError, match="sigma must be zero or positive"):
        type(density)(sigma=-1.0)
    with pytest.raises(ValueError, match="n must be a positive whole number"):
        density.sample(0, torch.Generator())


@every_density
def test_goes_through_its_description(density):
    import basin.datasets

    law = density.blurred(0.1)
    again = build(describe(law), [basin.datasets])
    assert isinstance(again, type(density))
    x = density.sample(20, torch.Generator().manual_seed(0))
    assert torch.equal(law.log_prob(x), again.log_prob(x))


@every_density
def test_total_mass_is_one(density):
    law = density.blurred(0.1)
    x, area = grid(law, 300)
    values = law.log_prob(x)
    mass = float(values.exp().sum()) * area
    assert mass == pytest.approx(1, abs=1e-6)
    mutant = float((values + 0.001).exp().sum()) * area
    assert mutant != pytest.approx(1, abs=1e-6)


@every_density
def test_draws_follow_log_prob(density):
    assert cell_p_value(density, density) > THRESHOLD


@every_density
def test_blurred_draws_follow_blurred_log_prob(density):
    assert cell_p_value(density.blurred(0.2), density.blurred(0.2)) > THRESHOLD


@every_density
def test_mutant_with_the_wrong_variance_of_blur_is_caught(density):
    """sigma taken for sqrt(2) sigma, as when a variance is added twice."""
    sigma = 0.5 if density.sigma == 0 and isinstance(density, StandardGaussian) else 0.25
    assert cell_p_value(density.blurred(sigma), density.blurred(sigma * 2**0.5)) < THRESHOLD


@every_density
def test_blurred_is_the_mean_of_the_kernel(density):
    """p_sigma(y) = E N(y; X, sigma^2 I) within the standard error; five times sigma^2 is caught."""
    sigma, n = (0.5 if isinstance(density, StandardGaussian) else 0.1), 200_000
    law, wrong = density.blurred(sigma), density.blurred(sigma).blurred(2 * sigma)
    y = law.sample(25, torch.Generator().manual_seed(6)).double()
    x = density.sample(n, torch.Generator().manual_seed(7)).double()
    kernel = [
        (-(point - x).square().sum(1) / (2 * sigma**2)).exp() / (2 * math.pi * sigma**2)
        for point in y
    ]
    mean = torch.stack([k.mean() for k in kernel])
    error = torch.stack([k.std() for k in kernel]) / n**0.5
    difference = (law.log_prob(y).exp() - mean) / error
    assert float(difference.abs().max()) < 5
    assert float(((wrong.log_prob(y).exp() - mean) / error).abs().max()) > 6


@every_density
def test_blur_obeys_the_heat_equation(density):
    """d log p / d sigma^2 = (laplacian of log p + |score|^2) / 2, at every point."""
    variance, step = 0.2**2, 1e-5
    law = density.blurred(variance**0.5)
    x = law.sample(60, torch.Generator().manual_seed(8)).double()
    later, earlier = (
        density.blurred((variance + sign * step) ** 0.5).log_prob(x) for sign in (1, -1)
    )
    trace = -laplacian(lambda y: -law.log_prob(y), x)
    right = 0.5 * (trace + law.score(x).square().sum(1))
    left = (later - earlier) / (2 * step)
    torch.testing.assert_close(left, right, rtol=1e-5, atol=1e-4)
    assert not torch.allclose(left, 2 * right, rtol=1e-5, atol=1e-4)


@every_density
def test_score_is_the_gradient(density):
    law = density.blurred(0.1)
    x = law.sample(40, torch.Generator().manual_seed(9)).double()
    far = x * 3
    for points in (x, far):
        score, step = law.score(points), 1e-6
        for i in range(2):
            shift = torch.zeros(2, dtype=torch.float64)
            shift[i] = step
            rise = (law.log_prob(points + shift) - law.log_prob(points - shift)) / (2 * step)
            torch.testing.assert_close(score[:, i], rise, rtol=1e-5, atol=1e-4)
    with torch.no_grad():
        assert law.score(x.float()).dtype == torch.float32


@every_density
def test_far_away_log_prob_and_score_stay_finite(density):
    x = torch.tensor([[60.0, -60.0], [0.0, 0.0], [1e3, 1.0]])
    for sigma in (0.05, 5.0):
        law = density.blurred(sigma)
        assert bool(law.log_prob(x).isfinite().all())
        assert bool(law.score(x).isfinite().all())


@pytest.mark.parametrize("sigma", [0.0, 0.1, 1.0, 6.0])
@every_density
def test_shares_of_draws_match_mode_weights(density, sigma):
    law = density.blurred(sigma) if sigma else density
    draws = law.sample(100_000, torch.Generator().manual_seed(10))
    modes = law.mode_of(draws)
    assert modes.dtype == torch.int64
    seen = torch.bincount(modes, minlength=len(law.mode_weights)).double()
    assert len(seen) == len(law.mode_weights)
    expected = law.mode_weights * len(draws)
    rare = expected < 1
    assert float(seen[rare].sum()) <= 5
    statistic = float(((seen - expected).square() / expected)[~rare].sum())
    if int((~rare).sum()) > 1:
        assert stats.chi2.sf(statistic, int((~rare).sum()) - 1) > THRESHOLD


def test_weights_of_the_components_are_not_those_of_the_regions():
    """The mutant of the test above: blurred blobs overlap, so a fixed 0.8 would be wrong."""
    law = TwoBlobs().blurred(4.0)
    draws = law.sample(100_000, torch.Generator().manual_seed(11))
    left = int((law.mode_of(draws) == 0).sum())
    assert stats.binomtest(left, 100_000, float(law.mode_weights[0])).pvalue > THRESHOLD
    assert stats.binomtest(left, 100_000, 0.8).pvalue < THRESHOLD


@pytest.mark.parametrize("density", [Checkerboard(), Pinwheel()], ids=repr)
def test_a_density_that_is_not_smooth_refuses_its_score(density):
    assert not density.is_smooth
    with pytest.raises(ValueError, match="has no score everywhere"):
        density.score(torch.zeros(1, 2))


def test_repr_names_what_differs_from_the_defaults():
    assert repr(Rings()) == "Rings()"
    assert repr(Rings(noise=0.1).blurred(0.5)) == "Rings(noise=0.1, sigma=0.5)"
    assert repr(StandardGaussian(10)) == "StandardGaussian(dim=10)"
    assert repr(MixtureOfGaussians([[0.0]])) == "MixtureOfGaussians(1 component in 1-D, sigma=0)"


def test_chunks_change_neither_values_nor_gradients():
    x = torch.randn(10, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x.requires_grad_(True)

    def quartic(rows: Tensor) -> Tensor:
        return rows.pow(4).sum(1)

    (slope,) = torch.autograd.grad(in_chunks(quartic, x, 3).sum(), x, create_graph=True)
    torch.testing.assert_close(slope, 4 * x**3)
    (curvature,) = torch.autograd.grad(slope.sum(), x)
    torch.testing.assert_close(curvature, 12 * x**2)


def test_the_shared_base_is_abstract():
    with pytest.raises(TypeError, match="abstract"):
        ToyDensity()  # type: ignore[abstract]
