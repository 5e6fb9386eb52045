"""Bits per dimension: entropies, units, log-determinants, and the bound by dequantisation."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import norm

from basin.datasets import StandardGaussian
from basin.evaluation import bits_per_dimension


def log_normal(scale):
    """log N(x; 0, scale² I)."""

    def log_prob(x):
        z = x.double() / scale
        constant = x.shape[1] * (0.5 * math.log(2 * math.pi) + math.log(scale))
        return -0.5 * z.square().sum(1) - constant

    return log_prob


def normal(n, dim, generator):
    return torch.randn(n, dim, generator=generator, dtype=torch.float64)


def test_the_entropy_of_a_gaussian_in_bits(generator):
    x = 3 * normal(20_000, 2, generator)
    found = bits_per_dimension(log_normal(3.0), x, dequantise="none")
    truth = 0.5 * math.log2(2 * math.pi * math.e * 9)
    assert abs(found.value - truth) < 3.9 * found.standard_error
    assert found.standard_error < 0.01
    assert abs(found.value * math.log(2) - truth) > 3.9 * found.standard_error  # mutant: nats


def test_units_do_not_matter_when_the_spacing_moves_with_them(generator):
    """Grey levels as 0..255 with Δ = 1, and divided by 255 with Δ = 1/255: the same cells."""
    levels = (20 * normal(50, 4, generator)).round()
    options = {"dequantise": "centred cell", "num_draws": 3}
    seeds = [torch.Generator().manual_seed(1) for _ in range(3)]
    whole = bits_per_dimension(log_normal(20.0), levels, seeds[0], **options)
    small = bits_per_dimension(
        log_normal(20 / 255), levels / 255, seeds[1], spacing=1 / 255, **options
    )
    assert small.value == pytest.approx(whole.value)
    forgotten = bits_per_dimension(
        log_normal(20 / 255), levels / 255, seeds[2], spacing=1 / 255, **options
    ).details["nats_per_row"]
    assert forgotten == pytest.approx(-whole.value * 4 * math.log(2))


def test_the_log_determinant_of_standardised_rows(generator):
    """A density of y = x / 20 is one of x with log |det| = -d log 20."""
    x = 20 * normal(50, 4, generator)
    direct = bits_per_dimension(log_normal(20.0), x, dequantise="none")
    standard = log_normal(1.0)
    moved = bits_per_dimension(
        lambda x: standard(x / 20), x, dequantise="none", log_determinant=-4 * math.log(20)
    )
    assert moved.value == pytest.approx(direct.value)


def cell_bits(scale):
    """Bits of rounded N(0, scale²) numbers under its cells' exact probabilities."""
    places = torch.arange(-60, 61).double()
    edges = norm.cdf((torch.cat([places - 0.5, places[-1:] + 0.5]) / scale).numpy())
    cells = torch.from_numpy(edges).diff()
    return -float((cells[cells > 0] * cells[cells > 0].log2()).sum())


def test_dequantisation_bounds_the_bits_of_whole_numbers(generator):
    """N(0, 0.5²) rounded: one draw a row costs more than the truth, many draws come down to it."""
    x = (0.5 * normal(20_000, 1, generator)).round()
    truth = cell_bits(0.5)
    one, many = (
        bits_per_dimension(
            log_normal(0.5), x, generator, dequantise="centred cell", num_draws=num_draws
        )
        for num_draws in (1, 100)
    )
    assert one.value > truth + 3.9 * one.standard_error
    # The bias of the logarithm of a mean of K is its relative variance over 2K: below 0.01 bits.
    assert abs(many.value - truth) < 3.9 * many.standard_error + 0.01
    assert one.details["is_upper_bound"]
    # The mutants: the upper cell for rounded numbers, and no noise at all.
    upper = bits_per_dimension(
        log_normal(0.5), x, generator, dequantise="upper cell", num_draws=100
    )
    assert upper.value > truth + 0.1
    same = torch.zeros(10, 1)  # cost nothing, and cannot cost less
    assert bits_per_dimension(log_normal(0.1), same, dequantise="none").value < -1
    sure = bits_per_dimension(log_normal(0.1), same, generator, dequantise="centred cell")
    assert sure.value > 0


def test_the_floor_is_the_truth_on_the_same_rows_and_noise(generator):
    x = normal(2000, 2, generator)
    found = bits_per_dimension(
        log_normal(2.0), x, dequantise="none", density=StandardGaussian(2), log_z_standard_error=0.2
    )
    excess = (math.log(2) + 0.5 / 4 - 0.5) / math.log(2)  # KL of one coordinate, in bits
    assert abs(found.details["excess"] - excess) < 3.9 * found.details["excess_standard_error"]
    assert found.value - found.floor == pytest.approx(found.details["excess"])
    assert found.standard_error > 0.2 / (2 * math.log(2))


def test_bad_arguments(generator):
    x = normal(10, 2, generator)
    with pytest.raises(ValueError, match="whole multiples of spacing = 1 to be dequantised"):
        bits_per_dimension(log_normal(1.0), x, dequantise="upper cell")
    with pytest.raises(ValueError, match="dequantise must be one of none"):
        bits_per_dimension(log_normal(1.0), x, dequantise="noise")
    with pytest.raises(ValueError, match="num_draws must be 1 without dequantisation"):
        bits_per_dimension(log_normal(1.0), x, dequantise="none", num_draws=2)
    with pytest.raises(ValueError, match="spacing must be positive"):
        bits_per_dimension(log_normal(1.0), x, dequantise="none", spacing=0.0)
