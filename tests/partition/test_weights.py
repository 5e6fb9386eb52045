"""The interval from weights covers the truth, for light weights and for heavy ones.

200 repetitions; at 95% fewer than 177 successes have p < 1e-4 (binomial), which is the rule of the
whole library.
"""

from __future__ import annotations

import math

import pytest
import torch

from basin.partition.log_z import LogZNotEstimated
from basin.partition.weights import effective_number, log_mean, log_z_of_weights, student_quantile

ENOUGH, REPETITIONS = 177, 200


def coverage(draw, n, ends, generator) -> int:
    """How many of 200 intervals hold log Z = 0."""
    held = 0
    for _ in range(REPETITIONS):
        lower, upper = ends(draw(n, generator))
        held += lower <= 0 <= upper
    return held


def ours(log_weights):
    found = log_z_of_weights(
        log_weights, method="test", raise_what="n", minimum_effective_sample_size=1.0
    )
    return found.lower, found.upper


def delta_method(log_weights):
    """The mutant: the usual interval."""
    n, effective = len(log_weights), effective_number(log_weights)
    half = 1.96 * math.sqrt(1 / effective - 1 / n)
    return log_mean(log_weights) - half, log_mean(log_weights) + half


def log_normal(spread):
    def draw(n, generator):
        z = torch.randn(n, generator=generator, dtype=torch.float64)
        return spread * z - spread**2 / 2

    return draw


def one_side_missing(n, generator):
    """A third of the walks end where there is no mass."""
    weights = log_normal(1.0)(n, generator) - math.log(2 / 3)
    missing = torch.rand(n, generator=generator) < 1 / 3
    return torch.where(missing, torch.full_like(weights, -math.inf), weights)


@pytest.mark.statistical
@pytest.mark.parametrize(
    "draw",
    [*map(log_normal, (0.3, 1.0, 1.5, 2.0)), one_side_missing],
    ids=["0.3", "1.0", "1.5", "2.0", "one side"],
)
@pytest.mark.parametrize("n", [64, 512])
def test_the_interval_covers(draw, n, generator):
    assert coverage(draw, n, ours, generator) >= ENOUGH


@pytest.mark.statistical
def test_the_delta_method_does_not_where_weights_are_heavy(generator):
    assert coverage(log_normal(2.0), 256, delta_method, generator) < ENOUGH


def test_it_is_no_wider_than_the_delta_method_where_weights_are_light(generator):
    log_weights = log_normal(0.3)(1000, generator)
    lower, upper = ours(log_weights)
    narrow = delta_method(log_weights)
    assert upper - lower < 1.05 * (narrow[1] - narrow[0])


def test_the_standard_error_is_that_of_the_mean(generator):
    log_weights = log_normal(0.5)(300, generator)
    weights = log_weights.exp()
    found = log_z_of_weights(log_weights, method="test", raise_what="n")
    expected = float(weights.std() / weights.mean()) / math.sqrt(300)
    assert found.standard_error == pytest.approx(expected, rel=1e-9)
    assert found.log_z == pytest.approx(float(weights.mean().log()), abs=1e-12)


def test_reverse_weights_are_the_mirror_image(generator):
    log_weights = log_normal(1.0)(200, generator)
    up = log_z_of_weights(log_weights, method="test", raise_what="n")
    down = log_z_of_weights(log_weights, method="test", raise_what="n", is_reverse=True)
    assert down.log_z == -up.log_z
    assert (down.lower, down.upper) == (pytest.approx(-up.upper), pytest.approx(-up.lower))


def test_collapsed_weights_are_refused_with_what_to_raise():
    log_weights = torch.tensor([0.0] + [-50.0] * 99)
    with pytest.raises(LogZNotEstimated, match=r"got 1\.0 of 100 weights.*raise num_times"):
        log_z_of_weights(log_weights, method="AIS", raise_what="num_times")
    with pytest.raises(LogZNotEstimated, match=r"got 0\.0 of 3 weights"):
        log_z_of_weights(torch.full((3,), -math.inf), method="AIS", raise_what="n")


def test_huge_logarithms_do_not_overflow():
    log_weights = torch.tensor([1e4, 1e4 + 1, 1e4 - 1] * 10)
    found = log_z_of_weights(log_weights, method="test", raise_what="n")
    assert 1e4 < found.log_z < 1e4 + 1


def test_student_quantiles_are_those_of_the_tables():
    assert student_quantile(0.95, 15) == pytest.approx(2.1314, abs=1e-4)
    assert student_quantile(0.95, 10**6) == pytest.approx(1.95997, abs=1e-4)
