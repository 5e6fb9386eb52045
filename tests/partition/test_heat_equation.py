"""The heat residual finds a planted drift of log Z along the ladder, exactly and with noise.

Energy of N(0, s²I) blurred to σ, plus c(σ): log Z(σ) = -c(σ), so the drift from the top is
c(σ_max) - c(σ) and the residual is -dc/d log σ at every point.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from basin.core.gradients import dual_score, laplacian
from basin.partition import heat_equation
from basin.partition.heat_equation import heat_residual, noise_ladder

_S = 0.7


def _planted(c: Callable[[Tensor], Tensor]):
    def energy(y: Tensor, sigma: Tensor) -> Tensor:
        variance = _S**2 + sigma**2
        dim = y[0].numel()
        quadratic = y.flatten(1).square().sum(1) / (2 * variance)
        return quadratic + 0.5 * dim * torch.log(2 * math.pi * variance) + c(sigma)

    return energy


def _wave(sigma: Tensor) -> Tensor:
    return 0.4 * torch.sin(sigma.log()) - 0.2 * sigma.log()


def _data(n: int, *shape: int, generator: torch.Generator) -> Tensor:
    return _S * torch.randn(n, *shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("shape", [(1,), (3,), (2, 2)])
def test_a_planted_drift_is_recovered(shape: tuple[int, ...], generator: torch.Generator) -> None:
    x = _data(200, *shape, generator=generator)
    ladder = noise_ladder(0.05, 20.0, 25)
    found = heat_residual(_planted(_wave), x, ladder, generator)
    level = torch.tensor(ladder, dtype=torch.float64)
    truth = _wave(level[-1]) - _wave(level)
    slope = -(0.4 * torch.cos(level.log()) - 0.2)
    assert torch.allclose(torch.tensor(found.residual).double(), slope, atol=1e-9)
    assert max(found.standard_error) < 1e-9  # constant in y for a perfect model
    assert float((torch.tensor(found.drift).double() - truth).abs().max()) < 0.01
    log_z = found.log_z()
    assert log_z.lower <= float(truth[0]) <= log_z.upper
    assert found.log_z(ladder[3], log_z_at_top=2.0).log_z == pytest.approx(found.drift[3] + 2.0)
    assert found.drift[-1] == 0.0


def test_a_perfect_energy_has_no_drift(generator: torch.Generator) -> None:
    x = _data(100, 2, generator=generator)
    found = heat_residual(_planted(torch.zeros_like), x, noise_ladder(0.1, 5.0), generator)
    assert max(map(abs, found.drift)) < 1e-12


@pytest.mark.parametrize("mutant", ["no_sigma_squared", "wrong_sign", "no_laplacian"])
def test_mutants_fail(
    mutant: str, generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test above is not passed by a residual with a term dropped or turned round."""
    x = _data(500, 2, generator=generator)
    ladder = noise_ladder(0.05, 20.0, 25)
    energy = _planted(_wave)

    def residual(energy, x: Tensor, sigma: float, generator, num_probes, block) -> Tensor:
        del num_probes, block
        y = x + sigma * torch.randn(x.shape, generator=generator, dtype=x.dtype)
        level = torch.full((len(y),), sigma, dtype=y.dtype)
        in_space, in_noise = dual_score(energy, y, level)
        square = in_space.square().flatten(1).sum(1)
        trace = laplacian(lambda points: energy(points, level), y)
        if mutant == "no_sigma_squared":
            return (in_noise - (square - trace))[None]
        if mutant == "wrong_sign":
            return (in_noise - sigma**2 * (square + trace))[None]
        return (in_noise - sigma**2 * square)[None]

    monkeypatch.setattr(heat_equation, "_residual_of_rows", residual)
    found = heat_residual(energy, x, ladder, generator)
    if mutant == "no_sigma_squared":
        # E(‖s‖² - ΔE) is zero under the truth, so a wrong factor shows in the scatter only:
        # the residual of a perfect model is constant in y.
        assert max(found.standard_error) > 1e-2
        return
    level = torch.tensor(ladder, dtype=torch.float64)
    truth = _wave(level[-1]) - _wave(level)
    log_z = found.log_z()
    assert not log_z.lower <= float(truth[0]) <= log_z.upper


def test_many_dimensions_use_probes_and_stay_unbiased(generator: torch.Generator) -> None:
    x = _data(200, 20, generator=generator)
    scales = torch.linspace(0.5, 1.5, 20, dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(20, 20, generator=generator, dtype=torch.float64))[0]

    def energy(y: Tensor, sigma: Tensor) -> Tensor:  # a full covariance, so that probes have noise
        variance = scales**2 + sigma[:, None] ** 2
        z = y @ rotation
        log_det = torch.log(2 * math.pi * variance).sum(1)
        return 0.5 * (z.square() / variance).sum(1) + 0.5 * log_det + _wave(sigma)

    ladder = noise_ladder(0.2, 10.0, 9)
    found = heat_residual(energy, x, ladder, generator, num_probes=8)
    level = torch.tensor(ladder, dtype=torch.float64)
    slope = -(0.4 * torch.cos(level.log()) - 0.2)
    z = (torch.tensor(found.residual).double() - slope) / torch.tensor(found.standard_error)
    assert max(found.standard_error) > 0
    assert float(z.abs().max()) < 4.5  # nine levels


@pytest.mark.parametrize("excess", [0.03, 0.8])
def test_what_an_imperfect_energy_leaves_out(excess: float, generator: torch.Generator) -> None:
    """E of a Gaussian whose variance is too large by a share that falls with σ, not normalised.

    log Z is known; the drift misses KL at σ - KL at the top - ∫ σ² F d log σ, all in closed form.
    """

    def variance_of(sigma: Tensor) -> Tensor:
        return (_S**2 + sigma**2) * (1 + excess / (1 + 4 * sigma**2))

    def energy(y: Tensor, sigma: Tensor) -> Tensor:
        true_constant = torch.log(2 * math.pi * (_S**2 + sigma**2))
        return y.square().sum(1) / (2 * variance_of(sigma)) + true_constant

    ladder = noise_ladder(0.05, 20.0, 49)
    x = _data(6000, 2, generator=generator)
    found = heat_residual(energy, x, ladder, generator)
    level = torch.tensor(ladder, dtype=torch.float64)
    true, model = _S**2 + level**2, variance_of(level)
    log_z = torch.log(model / true)
    divergence = log_z + true / model - 1
    fisher = 2 * true * (1 / true - 1 / model) ** 2
    left_out = divergence[0] - divergence[-1] - torch.trapezoid(level**2 * fisher, level.log())
    truth = float(log_z[0] - log_z[-1])
    error = 4 * found.drift_standard_error[0] + found.discretisation[0]
    assert abs(found.drift[0] + float(left_out) - truth) < error
    if excess == 0.8:  # mutant: the drift alone
        assert abs(found.drift[0] - truth) > error


def test_the_interval_allows_for_an_uneven_residual(generator: torch.Generator) -> None:
    """Weights of two far modes that drift with σ: the drift is off to second order, the interval
    is not, and without its allowance it would be."""
    centre = 6.0

    def energy(y: Tensor, sigma: Tensor) -> Tensor:
        variance = 1 + sigma**2
        tilt = 0.5 / (1 + 0.05 * sigma**2)  # log odds of the modes, where there should be none
        left = -0.5 * (y[:, 0] + centre).square() / variance
        right = -0.5 * (y[:, 0] - centre).square() / variance
        mixture = torch.logaddexp(left, right + tilt)
        return 0.5 * torch.log(2 * math.pi * variance) + math.log(2) - mixture

    side = 2 * torch.randint(0, 2, (4000, 1), generator=generator).double() - 1
    x = centre * side + torch.randn(4000, 1, generator=generator, dtype=torch.float64)
    found = heat_residual(energy, x, noise_ladder(0.1, 60.0, 33), generator)
    truth = math.log((1 + math.exp(0.5 / (1 + 0.05 * 0.01))) / 2)
    top = math.log((1 + math.exp(0.5 / (1 + 0.05 * 3600))) / 2)
    log_z = found.log_z(log_z_at_top=top)
    assert log_z.lower <= truth <= log_z.upper
    assert abs(log_z.log_z - truth) > 4 * log_z.standard_error + found.discretisation[0]


def test_an_error_that_is_odd_in_the_noise_is_allowed_for(generator: torch.Generator) -> None:
    """Data at a point and an energy tilted by b y: log Z(σ) = b²σ²/2, and r = -2by - b²σ².

    In the mean of y and -y the residual is the same number everywhere, so pairs alone show no
    spread at all, and the drift, which has the wrong sign here, would be called exact.
    """
    tilt = 0.5

    def energy(y: Tensor, sigma: Tensor) -> Tensor:
        gaussian = y[:, 0].square() / (2 * sigma**2) + 0.5 * torch.log(2 * math.pi * sigma**2)
        return gaussian + tilt * y[:, 0]

    x = torch.zeros(2000, 1, dtype=torch.float64)
    ladder = noise_ladder(0.5, 5.0, 33)
    found = heat_residual(energy, x, ladder, generator)
    log_z = [0.5 * (tilt * level) ** 2 for level in ladder]
    at_bottom = found.log_z(log_z_at_top=log_z[-1])
    assert at_bottom.lower <= log_z[0] <= at_bottom.upper
    assert abs(at_bottom.log_z - log_z[0]) > 1.0  # mutant: without the allowance it is far off
    assert max(found.standard_error) < 1e-9
    # ∫ sd(r) d log σ = 2b (σ_max - σ)
    assert found.second_order[0] == pytest.approx((2 * tilt * 4.5) ** 2, rel=0.05)


def test_energies_with_at_and_a_closed_form_are_used(generator: torch.Generator) -> None:
    plain = _planted(_wave)

    class Noisy:
        calls = 0

        def __call__(self, y: Tensor, sigma: Tensor) -> Tensor:
            return plain(y, sigma)

        def at(self, sigma: float):
            self.calls += 1
            return lambda y: plain(y, torch.full((len(y),), sigma, dtype=y.dtype))

    x = _data(20, 2, generator=generator)
    noisy = Noisy()
    one = heat_residual(noisy, x, [0.1, 1.0], torch.Generator().manual_seed(1))
    two = heat_residual(plain, x, [1.0, 0.1], torch.Generator().manual_seed(1))
    assert one == two
    assert noisy.calls == 2


def test_bad_arguments(generator: torch.Generator) -> None:
    x = _data(5, 2, generator=generator)
    energy = _planted(_wave)
    with pytest.raises(ValueError, match=r"sigma must be positive, got -1\.0"):
        heat_residual(energy, x, [-1.0, 1.0], generator)
    with pytest.raises(ValueError, match="two different levels"):
        heat_residual(energy, x, [1.0, 1.0], generator)
    with pytest.raises(ValueError, match="x must be finite"):
        heat_residual(energy, x * math.nan, [0.1, 1.0], generator)
    with pytest.raises(ValueError, match="sigma must be one of the ladder"):
        heat_residual(energy, x, [0.1, 1.0], generator).log_z(0.5)
