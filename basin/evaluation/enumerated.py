"""KL divergence and total variation between two laws of whole numbers, by summing over every row.

    KL = sum_x p(x) (log p(x) + E(x)) + log Z,      TV = 1/2 sum_x |p(x) - pθ(x)|

``kl_to_truth`` and ``total_variation`` come here when the truth is discrete (it has
``num_states``). Cost: K^d energies and log probabilities, at most about a million.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from basin.core.discrete import energies_of_all_states, states
from basin.core.types import Density
from basin.evaluation.estimate import About, Estimate

__all__ = []  # for kl_to_truth and total_variation


class BothLaws(NamedTuple):
    """log p and log pθ of every row, ``[K^d]`` of float64, and log Z of the model."""

    truth: Tensor
    model: Tensor
    log_z: float


def is_discrete(density: Density) -> bool:
    """Whether a density is a law of whole numbers."""
    return getattr(density, "num_states", None) is not None


def both_laws(energy: Any, density: Any) -> BothLaws:
    """Truth and model on every row."""
    energies = energies_of_all_states(energy, density.event_shape, density.num_states)
    num_coordinates = torch.Size(density.event_shape).numel()
    rows = states(0, len(energies), num_coordinates, density.num_states).double()
    truth = density.log_prob(rows.reshape(-1, *density.event_shape)).double().cpu()
    log_z = float(torch.logsumexp(-energies, 0))
    return BothLaws(truth, -energies - log_z, log_z)


def enumerated_kl(energy: Any, density: Density, about: About | None) -> Estimate:
    """KL(p‖pθ) in nats, exact to rounding; ``details`` has ``log_z``."""
    laws = both_laws(energy, density)
    occurs = torch.isfinite(laws.truth)
    share = laws.truth[occurs].exp()
    value = float((share * (laws.truth - laws.model)[occurs]).sum())
    return Estimate(
        value=value,
        standard_error=0.0,
        floor=0.0,
        p_value=None,
        n=None,
        meaning="KL divergence from the truth to the normalised model, in nats, summed over "
        "every row",
        about=about or About(),
        details={"log_z": laws.log_z, "num_rows": len(laws.truth)},
    )


def enumerated_total_variation(energy: Any, density: Density, about: About | None) -> Estimate:
    """½ Σ |p - pθ|, exact to rounding."""
    laws = both_laws(energy, density)
    return Estimate(
        value=0.5 * float((laws.truth.exp() - laws.model.exp()).abs().sum()),
        standard_error=0.0,
        floor=0.0,
        p_value=None,
        n=None,
        meaning="total variation distance between truth and model, summed over every row",
        about=about or About(),
    )
