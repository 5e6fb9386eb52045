"""Expectations over Gaussian data and Gaussian steps by quadrature, for losses of neighbours.

The step z that a loss draws is replaced by each node of a Gauss-Hermite rule in turn, so that the
expectation of the very function under test is had to ten digits, and limits can be followed.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

NUM_NODES = 60


def normal_nodes(n=NUM_NODES):
    """Nodes and weights of a standard normal expectation."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(n)
    return torch.from_numpy(nodes), torch.from_numpy(weights / math.sqrt(2 * math.pi))


def expectation(function, module, variance):
    """E over x ~ N(0, variance) and one z of ``function(x, generator) -> [batch]``, in 1-D.

    ``module`` is where the function finds ``normal_like``.
    """
    nodes, weights = normal_nodes()
    x = (math.sqrt(variance) * nodes).unsqueeze(1)
    total = torch.zeros((), dtype=torch.float64)
    for z, weight in zip(nodes, weights, strict=True):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "normal_like", lambda rows, _, z=z: torch.full_like(rows, z))
            total = total + weight * (weights * function(x, torch.Generator())).sum()
    return total


class Wavy:
    """E = a x^2/2 + b sin 2x: a score that is not linear, so that limits have a rate to show."""

    def __init__(self, a=0.7, b=0.3):
        self.a, self.b = a, b

    def __call__(self, x):
        return (self.a * x.square() / 2 + self.b * (2 * x).sin()).squeeze(1)

    def score_matching(self, variance):
        """E[ E'^2 - 2 E'' ] under N(0, variance)."""
        nodes, weights = normal_nodes()
        x = math.sqrt(variance) * nodes
        slope = self.a * x + 2 * self.b * (2 * x).cos()
        curvature = self.a - 4 * self.b * (2 * x).sin()
        return float((weights * (slope.square() - 2 * curvature)).sum())
