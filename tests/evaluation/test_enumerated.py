"""KL and total variation of discrete laws against their definitions on a lattice of four units."""

from __future__ import annotations

import math

import pytest
import torch

from basin.core.discrete import states
from basin.datasets import IsingLattice
from basin.energies import Ising
from basin.evaluation import kl_to_truth, total_variation

LATTICE = IsingLattice(2, coupling=0.5, field=0.2)
EXACT = Ising(4, LATTICE.couplings, LATTICE.field)


def by_definition(energy):
    rows = states(0, 16, 4, 2).double()
    p = [math.exp(value) for value in LATTICE.log_prob(rows).tolist()]
    weights = [math.exp(-value) for value in energy.double()(rows).tolist()]
    q = [weight / sum(weights) for weight in weights]
    kl = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    return kl, 0.5 * sum(abs(a - b) for a, b in zip(p, q, strict=True)), math.log(sum(weights))


@pytest.mark.parametrize("coupling", [0.0, 0.3, -0.5])
def test_both_are_their_definitions(coupling):
    kl, distance, log_z = by_definition(Ising(4, coupling, 0.1))
    found = kl_to_truth(Ising(4, coupling, 0.1), LATTICE)
    assert found.value == pytest.approx(kl, abs=1e-6)
    assert found.details["log_z"] == pytest.approx(log_z, abs=1e-6)
    assert total_variation(Ising(4, coupling, 0.1), LATTICE).value == pytest.approx(
        distance, abs=1e-6
    )


def test_the_truth_has_none_and_a_constant_changes_nothing():
    for energy in (EXACT, lambda x: EXACT(x) + 7):
        assert kl_to_truth(energy, LATTICE).value == pytest.approx(0, abs=1e-6)
        assert total_variation(energy, LATTICE).value == pytest.approx(0, abs=1e-6)
    assert kl_to_truth(lambda x: -EXACT(x), LATTICE).value > 0.1  # the mutant: a flipped sign


def test_rows_that_never_occur_do_not_count():
    class Half(IsingLattice):
        def log_prob(self, x):
            base = torch.where(x[:, 0] == 1, math.log(1 / 8), -math.inf)
            return base.to(x.dtype)

    assert kl_to_truth(Ising(4), Half(2)).value == pytest.approx(math.log(2))
    assert total_variation(Ising(4), Half(2)).value == pytest.approx(0.5)
