"""A change of variables keeps Z, and without its determinant it does not."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import AffineTransform, ExpTransform, constraints
from torch.distributions.transforms import SoftmaxTransform

import basin
from basin.energies import Transformed


def gamma(x):
    """Gamma(2.5, 1), not normalised: Z = Gamma(2.5)."""
    return (x - 1.5 * x.log()).sum(dim=1)


def truncated(x):
    return 0.5 * (x - 0.5).square().sum(dim=1)


def log_z(energy, low=-30.0, high=30.0):
    u = torch.linspace(low, high, 200_001, dtype=torch.float64).unsqueeze(1)
    with torch.no_grad():
        return float(torch.trapezoid((-energy(u)).exp(), u[:, 0]).log())


CASES = {
    "half line": (gamma, constraints.positive, math.lgamma(2.5)),
    "box": (
        truncated,
        constraints.interval(-1.0, 2.0),
        math.log(math.sqrt(2 * math.pi) * math.erf(1.5 / math.sqrt(2))),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_z_is_kept(name):
    energy, constraint, truth = CASES[name]
    transformed = Transformed.onto(constraint, energy)
    assert log_z(transformed) == pytest.approx(truth, abs=1e-6)

    def mutant(u):  # no determinant
        return energy(transformed.restore(u).clamp(1e-12 if name == "half line" else -1, None))

    assert abs(log_z(mutant) - truth) > 0.1


def test_on_the_simplex_it_is_the_jacobian_of_autograd(generator):
    """Stick breaking from two numbers to three that sum to one, d first two with respect to u."""

    def dirichlet(x):
        return -(torch.tensor([1.0, 2.0, 0.5]) * x.log()).sum(dim=1)

    energy = Transformed.onto(constraints.simplex, dirichlet)
    u = torch.randn(5, 2, generator=generator, dtype=torch.float64)
    x = energy.restore(u)
    torch.testing.assert_close(x.sum(1), torch.ones(5, dtype=torch.float64))
    for row in range(5):
        jacobian = torch.autograd.functional.jacobian(lambda v: energy.restore(v)[:2], u[row])
        expected = dirichlet(x[row : row + 1]) - torch.linalg.slogdet(jacobian).logabsdet
        torch.testing.assert_close(energy(u[row : row + 1]), expected)


def test_there_and_back_and_any_transform(generator):
    energy = Transformed(gamma, ExpTransform())
    x = torch.rand(4, 3, generator=generator) + 0.1
    torch.testing.assert_close(energy.restore(energy.unconstrain(x)), x)
    shifted = Transformed(gamma, AffineTransform(2.0, 3.0))
    torch.testing.assert_close(shifted(x), gamma(2 + 3 * x) - 3 * math.log(3))


def test_it_has_a_score():
    u = torch.tensor([[0.3]], dtype=torch.float64)
    x = u.exp()
    expected = -(x - 1.5) + 1  # d/du of -(x - 1.5 log x) + u
    torch.testing.assert_close(
        basin.score(Transformed.onto(constraints.positive, gamma), u), expected
    )


def test_refuses_what_is_no_bijection():
    with pytest.raises(TypeError, match="transform must be one of torch"):
        Transformed(gamma, torch.exp)
    with pytest.raises(ValueError, match="transform must be a bijection"):
        Transformed(gamma, SoftmaxTransform())
