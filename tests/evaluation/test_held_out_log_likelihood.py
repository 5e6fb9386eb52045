"""Held-out log-likelihood: entropy of a Gaussian, the Gaussian beside it, units."""

from __future__ import annotations

import math

import pytest
import torch

from basin.evaluation.held_out_log_likelihood import held_out_log_likelihood
from helpers.known_densities import standard_gaussian, two_blobs


def test_minus_the_entropy_of_a_gaussian(generator: torch.Generator) -> None:
    truth = standard_gaussian(2)
    x, train = truth.sample(20_000, generator), truth.sample(20_000, generator)
    found = held_out_log_likelihood(truth.log_prob, x, train=train, density=truth)
    entropy = 1 + math.log(2 * math.pi)
    assert abs(found.value + entropy) < 3.9 * (found.standard_error or 0)
    assert abs(found.details["gain_over_gaussian"]) < 1e-3
    assert found.floor == found.value
    assert found.details["gap_to_truth"] == 0.0
    mutant = found.value + 0.5 * math.log(2 * math.pi) * 2  # forgets the normaliser
    assert abs(mutant + entropy) > 3.9 * (found.standard_error or 0)


def test_a_gaussian_is_beaten_by_the_truth_of_two_blobs(generator: torch.Generator) -> None:
    truth = two_blobs()
    found = held_out_log_likelihood(
        truth.log_prob, truth.sample(2000, generator), train=truth.sample(2000, generator)
    )
    assert found.details["gain_over_gaussian"] > 10 * found.details["gain_standard_error"]


def test_added_variance_makes_the_gaussian_one_of_the_blurred_density(
    generator: torch.Generator,
) -> None:
    truth, sigma = standard_gaussian(2), 2.0
    blurred = truth.blurred(sigma)
    y = blurred.sample(20_000, generator)
    found = held_out_log_likelihood(
        blurred.log_prob, y, train=truth.sample(20_000, generator), added_variance=sigma**2
    )
    assert abs(found.details["gain_over_gaussian"]) < 1e-3


def test_the_error_of_log_z_is_in_the_error_of_the_value(generator: torch.Generator) -> None:
    """200 estimates of log Z, each with its error: the values scatter as is stated. The error over
    rows alone (the mutant) is a tenth of that."""
    truth, error = standard_gaussian(2), 0.2
    train = truth.sample(1000, generator)
    off, gains, stated = [], [], []
    for shift in (error * torch.randn(200, generator=generator)).tolist():
        found = held_out_log_likelihood(
            lambda x, shift=shift: truth.log_prob(x) - shift,
            truth.sample(2000, generator),
            train=train,
            log_z_standard_error=error,
        )
        off.append(found.value + 1 + math.log(2 * math.pi))
        gains.append(found.details["gain_over_gaussian"])
        stated.append((found.standard_error or 0, found.details["gain_standard_error"]))
    of_value, of_gain = torch.tensor(stated).mean(dim=0).tolist()
    assert float(torch.tensor(off).std()) == pytest.approx(of_value, rel=0.15)
    assert float(torch.tensor(gains).std()) == pytest.approx(of_gain, rel=0.15)
    with pytest.raises(ValueError, match="log_z_standard_error must"):
        held_out_log_likelihood(truth.log_prob, train, log_z_standard_error=-1.0)


def test_a_singular_covariance_is_named(generator: torch.Generator) -> None:
    x = torch.randn(50, 2, generator=generator) * torch.tensor([1.0, 0.0])
    found = held_out_log_likelihood(lambda rows: rows.sum(1), x, train=x)
    assert found.details["gaussian"] is None
    assert "singular" in found.details["gaussian_reason"]


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="held_out must have two rows or more, got 1"):
        held_out_log_likelihood(lambda x: x.sum(1), torch.zeros(1, 2))
    with pytest.raises(ValueError, match=r"log_prob\(held_out\) must have shape"):
        held_out_log_likelihood(lambda x: x, torch.zeros(5, 2))
