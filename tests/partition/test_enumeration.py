"""log Z by summation against closed forms, and its mutant."""

from __future__ import annotations

import math

import pytest
import torch

from basin.energies import CategoricalMLP, Ising
from basin.partition import enumeration


def test_independent_coordinates_have_a_product_for_z():
    found = enumeration(lambda x: -0.7 * x.flatten(1).sum(1), event_shape=(2, 3), num_states=3)
    expected = 6 * math.log(sum(math.exp(0.7 * v) for v in range(3)))
    assert found.lower < expected < found.upper
    assert found.kind == "exact"
    assert found.standard_error == 0
    with_another_sign = enumeration(
        lambda x: 0.7 * x.flatten(1).sum(1), event_shape=(2, 3), num_states=3
    )
    assert not with_another_sign.lower < expected < with_another_sign.upper


def test_an_energy_that_knows_its_rows_needs_no_more():
    energy = Ising(4, 0.5, 0.1)
    assert enumeration(energy).log_z == pytest.approx(energy.log_z)
    other = CategoricalMLP(3, num_states=4, hidden=(8,))
    probabilities = (
        -other(torch.cartesian_prod(*[torch.arange(4.0)] * 3)).detach() - other.log_z
    ).exp()
    assert float(probabilities.sum()) == pytest.approx(1, abs=1e-5)
    assert enumeration(other).log_z == pytest.approx(other.log_z)


def test_what_is_missing_is_named():
    with pytest.raises(ValueError, match="event_shape must be given, as function does not say it"):
        enumeration(lambda x: x.sum(1), num_states=2)
    with pytest.raises(ValueError, match="num_states must be given"):
        enumeration(lambda x: x.sum(1), event_shape=(2,))
    with pytest.raises(ValueError, match=r"at most 1,048,576 states .*got 2\^30"):
        enumeration(Ising(30))
