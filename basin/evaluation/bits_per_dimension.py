"""Bits per dimension of held-out rows: what one coordinate costs to write down.

    value = -(1/n) Σ [ log p(x_i) + log |det| + d log Δ ] / (d log 2)

Units. ``log p`` is in nats and a density in some coordinates y. Δ is the spacing of the numbers in
the data (1 for grey levels 0..255, 1/255 for the same divided by 255): p Δ^d is the probability of
a cell, and its bits are those that one pays for the data as they are, whatever units they are in.
If y = f(x) is not the data's own coordinate, log |det ∂y/∂x| has to be added: for standardised rows
-Σ log scale, once a coordinate (``run.log_prob`` has done it: give 0). With Δ = 1 and data that are
not whole numbers the value is a differential entropy, which moves with the units and may be
negative: compare it with nothing but its own floor.

Dequantisation. Rows of whole multiples of Δ are points, and a density can be as high as it likes
on points. So uniform noise u spreads each over its cell, and by Jensen's inequality

    log P(x) = log ∫ p(x + Δu) du + d log Δ  >=  E log p(x + Δu) + d log Δ

(Theis, van den Oord & Bethge 2016, arXiv 1511.01844, section 3.1): the value is an upper bound of
the bits, by the mean of ``num_draws`` densities ever closer to them (Burda, Grosse & Salakhutdinov
2016, theorem 1). Without it the value of a continuous density at whole numbers bounds nothing.
Cost: ``num_draws`` log densities a row.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from basin.core.types import Density
from basin.core.validation import all_finite, positive, positive_integer, same_event_shape
from basin.evaluation.estimate import About, Estimate

__all__ = ["bits_per_dimension"]


def bits_per_dimension(
    log_prob: Callable[[Tensor], Tensor],
    held_out: Tensor,
    generator: torch.Generator | None = None,
    *,
    dequantise: Literal["none", "upper cell", "centred cell"],
    spacing: float = 1.0,
    log_determinant: float = 0.0,
    num_draws: int = 1,
    num_levels: int | None = None,
    log_z_standard_error: float = 0.0,
    density: Density | None = None,
    about: About | None = None,
) -> Estimate:
    """Bits that one coordinate of a held-out row costs under the model.

    Args:
        log_prob: ``[n, *event] -> [n]`` in nats, normalised.
        held_out: rows not trained on, ``[n, *event]``, two or more, without noise.
        generator: source of the dequantisation noise; a fresh one of seed 0 by default.
        dequantise: "none" for real numbers (or a model of whole numbers, whose ``log_prob`` is a
            probability); "upper cell" for a model of x + Δu, "centred cell" for one of
            x + Δ(u - ½), as it was trained.
        spacing: Δ, in the units of ``held_out``.
        log_determinant: log |det ∂y/∂x|, when ``log_prob`` is a density of y.
        num_draws: noises a row, whose densities are averaged; more make the bound tighter.
        num_levels: how many values a coordinate takes; ``details["uniform"]`` is then what knowing
            nothing costs, log2 of it.
        log_z_standard_error: of the log Z in ``log_prob``, in nats.
        density: the truth of ``held_out`` in the same coordinates, where it is known; the floor is
            then its own value on the same rows and noise.
        about: what to state in the result.

    Returns:
        ``value``; ``standard_error``: over the rows, and of log Z; ``details``: ``dequantise``,
        ``spacing``, ``nats_per_row`` (the mean of log p Δ^d) and ``is_upper_bound``.

    Example:
        >>> import torch
        >>> x = torch.randint(256, (500, 4), generator=torch.Generator().manual_seed(0)).float()
        >>> flat = lambda x: torch.full((len(x),), -4 * torch.log(torch.tensor(256.0)))
        >>> found = bits_per_dimension(flat, x, dequantise="upper cell", num_levels=256)
        >>> round(found.value, 3), found.details["uniform"]
        (8.0, 8.0)
    """
    positive(spacing=spacing)
    positive_integer(num_draws=num_draws)
    all_finite("held_out", held_out)
    if dequantise not in _OFFSETS:
        raise ValueError(f"dequantise must be one of {', '.join(_OFFSETS)}, got {dequantise!r}")
    if dequantise == "none" and num_draws != 1:
        raise ValueError(f"num_draws must be 1 without dequantisation, got {num_draws}")
    if dequantise != "none":
        _check_whole(held_out, spacing)
    if len(held_out) < 2:
        raise ValueError(f"held_out must have two rows or more, got {len(held_out)}")
    generator = generator or torch.Generator().manual_seed(0)
    n, dim = len(held_out), math.prod(held_out.shape[1:])
    constant = log_determinant + dim * math.log(spacing)
    models = [log_prob] if density is None else [log_prob, density.log_prob]
    per_row = [
        constant + log_mean
        for log_mean in _log_means(models, held_out, spacing, dequantise, num_draws, generator)
    ]
    bits = [-values / (dim * math.log(2)) for values in per_row]
    error = math.hypot(
        float(bits[0].std()) / math.sqrt(n), log_z_standard_error / (dim * math.log(2))
    )
    details = {
        "dequantise": dequantise,
        "spacing": spacing,
        "num_draws": num_draws,
        "nats_per_row": float(per_row[0].mean()),
        "is_upper_bound": dequantise != "none",
    }
    if num_levels is not None:
        positive_integer(num_levels=num_levels)
        details["uniform"] = math.log2(num_levels)
    if density is not None:
        excess = bits[0] - bits[1]
        details |= {
            "excess": float(excess.mean()),
            "excess_standard_error": float(excess.std()) / math.sqrt(n),
        }
    return Estimate(
        value=float(bits[0].mean()),
        standard_error=error,
        floor=None if density is None else float(bits[1].mean()),
        p_value=None,
        n=n,
        meaning="bits per dimension of held-out rows"
        + (", an upper bound (uniform dequantisation)" if dequantise != "none" else "")
        + ("" if spacing == 1 else f", at a spacing of {spacing:g}"),
        about=about or About(),
        details=details,
    )


_OFFSETS = {"none": 0.0, "upper cell": 0.0, "centred cell": -0.5}


def _log_means(
    models: list[Callable[[Tensor], Tensor]],
    x: Tensor,
    spacing: float,
    dequantise: str,
    num_draws: int,
    generator: torch.Generator,
) -> list[Tensor]:
    """log of the mean over draws of p(x + noise), ``[n]``, for each model on the same noise."""
    logs: list[list[Tensor]] = [[] for _ in models]
    for _ in range(num_draws):
        rows = x
        if dequantise != "none":
            u = torch.rand(x.shape, generator=generator, device=generator.device).to(x)
            rows = x + spacing * (u + _OFFSETS[dequantise])
        for found, model in zip(logs, models):
            with torch.no_grad():
                values = model(rows).detach().double().cpu()
            same_event_shape("log_prob(held_out)", values, ())
            found.append(values)
    return [torch.stack(found).logsumexp(dim=0) - math.log(num_draws) for found in logs]


def _check_whole(x: Tensor, spacing: float) -> None:
    """Dequantisation is of numbers on a grid: noise on others would blur them instead."""
    places = x.double() / spacing
    worst = float((places - places.round()).abs().max())
    if worst > 1e-3:  # 255 levels in float32 are 1e-5 off their places
        raise ValueError(
            f"held_out must hold whole multiples of spacing = {spacing:g} to be dequantised, got a "
            f"number {worst:.2g} spacings away from one; take dequantise='none' for real numbers"
        )
