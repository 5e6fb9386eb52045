"""The share of each mode, against the truth: of samples, and of the model itself.

    value = max over modes of |share - true weight|

Score matching sees the score alone, and far apart modes tell each other's weights to no score
(Wenliang & Kanagawa 2020, arXiv 2008.10087), so this is checked by itself.

``mode_weights`` counts samples: it judges model and sampler together. ``mode_weights_of_energy``
integrates exp(-E) over each mode on a grid: it judges the model alone (two dimensions).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from basin.core.types import Density
from basin.core.validation import all_finite, positive_integer, same_event_shape
from basin.evaluation.estimate import About, Estimate
from basin.evaluation.grid import Grid, grid_of

__all__ = ["mode_weights", "mode_weights_of_energy"]


def mode_weights(
    samples: Tensor,
    density: Density,
    generator: torch.Generator | None = None,
    *,
    num_simulations: int = 10_000,
    about: About | None = None,
) -> Estimate:
    """Largest error of the share of samples in a mode.

    Args:
        samples: ``[n, *event]``, taken as independent: draws of one chain are not, and make the
            error look smaller than it is.
        density: the truth; its ``mode_of`` and ``mode_weights`` are used.
        generator: source of the simulated shares; a fresh one of seed 0 by default.
        num_simulations: simulated sets of exact draws behind ``floor`` and ``p_value``.
        about: what to state in the result.

    Returns:
        ``floor``: the mean largest error of n exact draws; ``p_value``: share of simulated sets
        of exact draws with an error as large; ``standard_error``: that of the worst share;
        ``details``: ``shares`` and ``truth``.

    Example:
        >>> import torch
        >>> from basin.datasets import TwoBlobs
        >>> truth = TwoBlobs()
        >>> exact = truth.sample(1000, torch.Generator().manual_seed(0))
        >>> mode_weights(exact, truth).p_value > 0.01
        True
    """
    positive_integer(num_simulations=num_simulations)
    same_event_shape("samples", samples, density.event_shape)
    all_finite("samples", samples)
    n = len(samples)
    positive_integer(num_samples=n)
    truth = _weights(density)
    counts = torch.bincount(density.mode_of(samples).flatten().cpu(), minlength=len(truth))
    shares = counts.double().numpy() / n
    errors = np.abs(shares - truth)
    worst = int(errors.argmax())
    generator = generator or torch.Generator().manual_seed(0)
    seed = int(torch.randint(2**31, (1,), generator=generator, device=generator.device))
    simulated = np.random.default_rng(seed).multinomial(n, truth, size=num_simulations) / n
    largest = np.abs(simulated - truth).max(axis=1)
    as_large = int((largest >= errors[worst] - 1e-12).sum())
    return Estimate(
        value=float(errors[worst]),
        standard_error=math.sqrt(max(shares[worst] * (1 - shares[worst]), 1 / (4 * n)) / n),
        floor=float(largest.mean()),
        p_value=(1 + as_large) / (1 + num_simulations),
        n=n,
        meaning="largest error of the share of samples in a mode",
        about=about or About(),
        null="the samples are independent draws whose modes have the true weights",
        details={"shares": shares.tolist(), "truth": truth.tolist(), "worst_mode": worst},
    )


def mode_weights_of_energy(
    energy: Any,
    density: Density,
    *,
    grid: Grid | None = None,
    num_points: int = 408,
    about: About | None = None,
    block: int = 8192,
) -> Estimate:
    """Largest error of the share of exp(-E) in a mode, by quadrature in two dimensions.

    Arguments as those of ``kl_to_truth``. ``floor`` is the error that the truth itself has on the
    same grid (a border that runs through cells), ``standard_error`` the difference between two
    resolutions. The shares are those of the mass inside the box.

    Example:
        >>> from basin.datasets import TwoBlobs
        >>> truth = TwoBlobs().blurred(0.1)
        >>> found = mode_weights_of_energy(lambda x: -truth.log_prob(x), truth)
        >>> found.value < 1e-3
        True
    """
    grid = grid_of(energy, density, num_points=num_points, block=block) if grid is None else grid
    truth = _weights(density)
    points = grid.points.reshape(-1, 2)
    modes = torch.cat([density.mode_of(rows) for rows in points.split(8 * block)]).cpu()
    modes = modes.reshape(grid.side, grid.side)

    def shares(log_values: Tensor, stride: int) -> np.ndarray:
        mass = grid.every(log_values, stride).flatten().softmax(dim=0)
        labels = grid.every(modes, stride).flatten()
        return torch.bincount(labels, weights=mass, minlength=len(truth)).numpy()

    fine, coarse = shares(-grid.energies, 1), shares(-grid.energies, 3)
    errors = np.abs(fine - truth)
    worst = int(errors.argmax())
    return Estimate(
        value=float(errors[worst]),
        standard_error=float(abs(fine[worst] - coarse[worst])),
        floor=float(np.abs(shares(grid.log_truth, 1) - truth).max()),
        p_value=None,
        n=None,
        meaning="largest error of the share of the model's mass in a mode, by quadrature",
        about=about or About(),
        details={"shares": fine.tolist(), "truth": truth.tolist(), "worst_mode": worst},
    )


def _weights(density: Density) -> np.ndarray:
    """True weights in float64, summing to one to the last bit that NumPy asks for."""
    weights = density.mode_weights.double().cpu().numpy()
    if (weights < 0).any() or not abs(weights.sum() - 1) < 1e-4:
        raise ValueError(f"mode_weights must be probabilities, got {weights.tolist()}")
    return weights / weights.sum()
