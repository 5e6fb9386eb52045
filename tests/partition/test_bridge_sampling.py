"""Bridge sampling: closed forms, coverage where ends hardly overlap, refusal where they do not."""

from __future__ import annotations

import math

import pytest
import torch

from basin.energies import Gaussian
from basin.partition.bridge_sampling import bennett_acceptance_ratio, bridge_sampling
from basin.partition.log_z import LogZNotEstimated


def works(mean, n, m, generator):
    """Gaussian works of a reversible walk: forward N(-s²/2, s²), backward too (Crooks), Z = 1."""
    forward = torch.randn(n, generator=generator, dtype=torch.float64) * mean - mean**2 / 2
    reverse = torch.randn(m, generator=generator, dtype=torch.float64) * mean - mean**2 / 2
    return forward, reverse


@pytest.mark.statistical
@pytest.mark.parametrize("spread", [0.5, 3.5])
@pytest.mark.parametrize(("n", "m"), [(60, 60), (200, 50)])
def test_the_interval_covers_also_where_both_ends_hardly_overlap(spread, n, m, generator):
    held = 0
    for _ in range(200):
        found = bennett_acceptance_ratio(*works(spread, n, m, generator))
        held += found.lower <= 0 <= found.upper
    assert held >= 177


@pytest.mark.statistical
def test_without_the_logarithm_of_the_counts_it_is_wrong(generator):
    """The mutant: the two means set equal, without n_0 and n_1."""
    forward, reverse = works(2.0, 4000, 400, generator)
    found = bennett_acceptance_ratio(forward, reverse)
    assert abs(found.log_z) < 3.9 * found.standard_error
    c = torch.linspace(-3, 3, 6001, dtype=torch.float64)[:, None]
    shift = math.log(400 / 4000)
    wrong = torch.sigmoid(forward - c + shift).mean(1)
    wrong = wrong - torch.sigmoid(c + reverse - shift).mean(1)
    root = float(c[wrong.abs().argmin()])
    assert abs(root) > 10 * found.standard_error


@pytest.mark.statistical
def test_the_standard_error_is_the_spread_of_repetitions(generator):
    found = [bennett_acceptance_ratio(*works(2.0, 200, 200, generator)) for _ in range(300)]
    values = torch.tensor([one.log_z for one in found])
    stated = torch.tensor([one.standard_error for one in found]).square().mean().sqrt()
    assert float(values.std() / stated) == pytest.approx(1.0, abs=3.9 / math.sqrt(2 * 300))
    assert abs(float(values.mean())) < 3.9 * float(values.std()) / math.sqrt(300)


def test_two_gaussians(generator):
    covariance = torch.tensor([[2.0, 0.5], [0.5, 1.0]], dtype=torch.float64)
    target = Gaussian([0.5, 0.0], covariance)
    found = bridge_sampling(
        lambda x: target(x) + 1.5,
        target.sample(2000, generator),
        base=Gaussian([0.0, 0.0], 2 * torch.eye(2)),
        generator=generator,
    )
    assert found.lower < -1.5 < found.upper
    assert found.standard_error < 0.02
    assert "bridge sampling" in found.method


@pytest.mark.statistical
def test_chains_whose_draws_repeat_need_to_say_so(generator):
    """Each draw twenty times over: the error must be that of a twentieth of the draws."""
    target = Gaussian([0.5], [[0.5]])
    held = {1: 0, 20: 0}
    for _ in range(200):
        draws = target.sample(50, generator).repeat_interleave(20, 0)
        for draws_per_chain in held:
            found = bridge_sampling(
                target,
                draws,
                base=Gaussian([0.0], [[1.0]]),
                draws_per_chain=draws_per_chain,
                generator=generator,
            )
            held[draws_per_chain] += found.lower <= 0 <= found.upper
    assert held[20] >= 177
    assert held[1] < 177


def test_no_overlap_is_refused():
    apart = torch.full((50,), -900.0)
    with pytest.raises(LogZNotEstimated, match=r"must overlap.*raise"):
        bennett_acceptance_ratio(apart, apart)


def test_wrong_arguments_say_what_is_wrong(generator):
    energy = Gaussian([0.0], [[1.0]])
    with pytest.raises(ValueError, match="draws_per_chain must divide"):
        bridge_sampling(
            energy, torch.zeros(7, 1), base=energy, draws_per_chain=2, generator=generator
        )
    with pytest.raises(ValueError, match="two walks at least"):
        bennett_acceptance_ratio(torch.zeros(1), torch.zeros(5))
