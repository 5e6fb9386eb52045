"""Energies of held-out data against those of samples and of noise.

    value = mean E(samples) - mean E(held-out)        0 for a perfect model with a perfect sampler

Samples with lower energies than data were drawn too cold, or memorise; with higher ones the chains
did not arrive, or the energy has no room for the data. Beside it the area under the ROC curve,
P(E(data) < E(samples)), 0.5 when perfect; and against noise (by default independent normal
coordinates with the mean and standard deviation of the held-out data), where 1 says that the energy
knows the data from its first two moments.
Source: Mann & Whitney 1947; DeLong, DeLong & Clarke-Pearson 1988 (see ``ranks``).
Cost: one energy for each row.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from basin.core.tensors import normal_like
from basin.core.validation import all_finite, same_event_shape
from basin.evaluation.estimate import About, Estimate
from basin.evaluation.ranks import rank_against
from basin.partition.blocks import energies_in_blocks

__all__ = ["energy_gap"]


def energy_gap(
    energy: Any,
    held_out: Tensor,
    samples: Tensor,
    generator: torch.Generator | None = None,
    *,
    noise: Tensor | None = None,
    about: About | None = None,
    block: int = 8192,
) -> Estimate:
    """Mean energy of samples minus that of held-out data, in nats, with both AUCs.

    Args:
        energy: ``[batch, *event] -> [batch]``.
        held_out: rows that were not trained on, ``[n, *event]``; for an energy at noise level
            sigma **with that noise added**, for that is what it models.
        samples: draws of the model, ``[m, *event]``, independent.
        generator: source of the noise rows; a fresh one of seed 0 by default.
        noise: the noise rows, ``[k, *event]``, where normal ones are none (whole numbers).
        about: what to state in the result.
        block: rows at a time.

    Returns:
        ``p_value``: two-sided Mann-Whitney of the energies; ``details``: ``auc_samples`` and
        ``auc_noise`` with standard errors, and the three mean energies.

    Example:
        >>> import torch
        >>> g = torch.Generator().manual_seed(0)
        >>> data, cold = torch.randn(500, 2, generator=g), 0.5 * torch.randn(500, 2, generator=g)
        >>> found = energy_gap(lambda x: 0.5 * x.square().sum(1), data, cold, g)
        >>> round(found.value, 1), found.p_value < 1e-4  # (0.25 - 1) · d/2
        (-0.8, True)
    """
    same_event_shape("samples", samples, held_out.shape[1:])
    all_finite("samples", samples)
    all_finite("held_out", held_out)
    generator = generator or torch.Generator().manual_seed(0)
    if len(held_out) < 2 or len(samples) < 2:
        raise ValueError(
            f"held_out and samples must have two rows or more, got {len(held_out)}, {len(samples)}"
        )
    if noise is None:
        rows = held_out.double().cpu()
        noise = rows.mean(dim=0) + rows.std(dim=0) * normal_like(rows, generator)
    same_event_shape("noise", noise, held_out.shape[1:])
    of_data = energies_in_blocks(energy, held_out, block=block)
    of_samples = energies_in_blocks(energy, samples, block=block)
    of_noise = energies_in_blocks(energy, noise.to(held_out.dtype), block=block)
    for name, values in (("held_out", of_data), ("samples", of_samples)):
        all_finite(f"energies of {name}", values)
    against_samples = rank_against(of_data, of_samples)
    against_noise = rank_against(of_data, of_noise)
    return Estimate(
        value=float(of_samples.mean() - of_data.mean()),
        standard_error=math.sqrt(
            float(of_samples.var()) / len(of_samples) + float(of_data.var()) / len(of_data)
        ),
        floor=0.0,
        p_value=against_samples.p_value,
        n=min(len(of_data), len(of_samples)),
        meaning="mean energy of samples minus mean energy of held-out data, in nats",
        about=about or About(),
        null="energies of samples and of held-out data have one law",
        details={
            "auc_samples": against_samples.area,
            "auc_samples_standard_error": against_samples.standard_error,
            "auc_noise": against_noise.area,
            "auc_noise_standard_error": against_noise.standard_error,
            "mean_held_out": float(of_data.mean()),
            "mean_samples": float(of_samples.mean()),
            "mean_noise": float(of_noise.mean()),
        },
    )
