"""What an energy must be before it is trained by its scores, found out on a few rows.

    one energy a row      E: [batch, *event] -> [batch]
    rows on their own     dE_i/dx_j = 0 for i != j          BatchNorm in train mode breaks it
    curvature             d2E/dx2 not zero, no steps        ReLU breaks it
    two derivatives       dE/dx can be differentiated       fused attention breaks it
    no output bias        every parameter has a say in the score

Each check refuses with a sentence that says why and what to do. Cost: a handful of forward and
backward passes on at most 16 rows, once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from basin.core.gradients import score
from basin.core.validation import batch_of_energies

__all__ = ["require_no_output_bias", "require_score_trainable"]

_MAXIMUM_ROWS = 16
_TOLERANCE = 1e-4  # relative; float32 rounding of two backward passes stays below 1e-5

_KINKED = (
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.PReLU,
    nn.RReLU,
    nn.Hardtanh,
    nn.Threshold,
    nn.Hardshrink,
    nn.Softshrink,
)
_SMOOTH_ADVICE = "take a smooth activation instead (silu, softplus, gelu, tanh)"


def require_score_trainable(energy: Any, x: Tensor) -> None:
    """Refuse an energy that an objective made of scores cannot train.

    Args:
        energy: any energy; a noise-conditional one is given as ``energy.at(sigma)``.
        x: at least two rows of training data, ``[batch, *event]``; the first 16 are used.

    Buffers (running averages) and random numbers are left as they were.

    Raises:
        ValueError: rows coupled, no curvature, kinks, a wrong shape, no second derivative, or
            energies that are not finite.
    """
    rows = x[:_MAXIMUM_ROWS].detach().clone()
    if len(rows) < 2:
        raise ValueError(f"x must have at least two rows to inspect an energy on, got {len(x)}")
    name = type(energy).__name__
    with torch.inference_mode(False), torch.enable_grad(), _untouched(energy):
        leaf = rows.clone().requires_grad_(True)
        values = batch_of_energies(energy, leaf, energy(leaf))
        if not bool(torch.isfinite(values).all()):
            raise ValueError(f"{name} must give finite energies on the data, got {values.tolist()}")
        if not values.requires_grad:
            raise ValueError(
                f"{name} must be differentiable in x, but its energies do not depend on x through "
                "differentiable operations (a .detach(), .data or no_grad inside?)"
            )
        _require_separate_rows(energy, name, leaf, values)
        _require_smooth_modules(energy, name)
        _require_curvature(energy, name, rows)


def require_no_output_bias(energy: Any, x: Tensor) -> None:
    """Refuse an energy with a parameter that no score depends on, such as an output bias.

    Its gradient is nil; several processes that share an energy then wait for it, or disagree
    without a word. A constant is not identifiable from scores in any case.

    Args:
        energy: any energy; only ``nn.Module`` ones have parameters to check.
        x: rows of training data.

    Raises:
        ValueError: naming the parameters.
    """
    if not isinstance(energy, nn.Module):
        return
    named = [(name, p) for name, p in energy.named_parameters() if p.requires_grad]
    if not named:
        return
    rows = x[:_MAXIMUM_ROWS].detach().clone()
    with torch.inference_mode(False), torch.enable_grad(), _untouched(energy):
        total = score(energy, rows, create_graph=True).square().sum()
        if not total.requires_grad:
            raise ValueError(f"{type(energy).__name__} has a score that no parameter changes")
        gradients = torch.autograd.grad(total, [p for _, p in named], allow_unused=True)
    idle = [name for (name, _), gradient in zip(named, gradients, strict=True) if gradient is None]
    if idle:
        raise ValueError(
            f"{type(energy).__name__} must have no parameter that scores ignore, got "
            f"{', '.join(idle)}; build its last layer with bias=False, and freeze the others "
            "(requires_grad_(False))"
        )


def _require_separate_rows(energy: Any, name: str, leaf: Tensor, values: Tensor) -> None:
    (gradient,) = torch.autograd.grad(values[0], leaf, retain_graph=True)
    own, others = gradient[0].abs().max(), gradient[1:].abs().max()
    if not bool(others > _TOLERANCE**2 * own):
        return
    modules = energy.modules() if isinstance(energy, nn.Module) else ()
    culprits = [m for m in modules if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training]
    why = f": {type(culprits[0]).__name__} in train mode shares statistics" if culprits else ""
    raise ValueError(
        f"{name} must treat each row on its own, but the energy of row 0 changes with the other "
        f"rows (derivative {others.item():.2g}){why}; the score of a row would depend on its "
        "batch. Use LayerNorm or GroupNorm, or no normalisation"
    )


def _require_smooth_modules(energy: Any, name: str) -> None:
    for path, module in energy.named_modules() if isinstance(energy, nn.Module) else ():
        activation = getattr(module, "_activation", None)
        kink = type(module).__name__ if isinstance(module, _KINKED) else None
        if activation is not None and getattr(activation, "is_smooth", True) is False:
            kink = f"activation={activation.name!r}"
        if kink is not None:
            raise ValueError(
                f"{name} must be smooth, got {kink}{f' at {path}' if path else ''}: its second "
                f"derivative is zero, so its score is a step function; {_SMOOTH_ADVICE}"
            )


def _require_curvature(energy: Any, name: str, rows: Tensor) -> None:
    """A Hessian that is the same in every row belongs to a quadratic or to a piecewise one."""
    direction = torch.linspace(1.0, 2.0, rows[0].numel(), dtype=rows.dtype, device=rows.device)
    direction = direction.reshape(rows.shape[1:]).expand_as(rows)
    points = rows.clone().requires_grad_(True)
    try:
        scores = score(energy, points, create_graph=True)
        if scores.requires_grad:
            (products,) = torch.autograd.grad(
                (scores * direction).sum(), points, allow_unused=True, materialize_grads=True
            )
        else:
            products = torch.zeros_like(points)
    except RuntimeError as error:
        raise ValueError(
            f"{name} must have a second derivative, but autograd cannot take one: "
            f"{str(error).splitlines()[0]}; with attention, run it under "
            "torch.nn.attention.sdpa_kernel(SDPBackend.MATH)"
        ) from error
    scores, products = scores.detach(), products.detach()
    spread = (products - products[:1]).abs().max()
    if bool(spread > _TOLERANCE * products.abs().max()):
        return
    if _is_affine(energy, rows, scores):
        if bool((products == 0).all()) and bool((scores != 0).any()):
            raise ValueError(
                f"{name} must have curvature, but its second derivative is zero at the data: it "
                f"is a linear function there; {_SMOOTH_ADVICE}"
            )
        return
    size = "zero" if bool((products == 0).all()) else "constant"
    raise ValueError(
        f"{name} must be smooth, but its second derivative is {size} while its score jumps "
        f"between rows: it is made of straight pieces, as with ReLU; {_SMOOTH_ADVICE}"
    )


def _is_affine(energy: Any, rows: Tensor, scores: Tensor) -> bool:
    """Whether the score half-way between two rows is the mean of theirs, for all neighbours."""
    half_way = 0.5 * (rows + rows.roll(1, 0))
    expected = 0.5 * (scores + scores.roll(1, 0))
    difference = (score(energy, half_way) - expected).abs().max()
    return bool(difference <= 10 * _TOLERANCE * scores.abs().max())


@contextmanager
def _untouched(energy: Any) -> Iterator[None]:
    """Give buffers and the random state back as they were: an inspection must leave no trace."""
    buffers = list(energy.buffers()) if isinstance(energy, nn.Module) else []
    kept = [buffer.clone() for buffer in buffers]
    devices = {buffer.device for buffer in buffers if buffer.is_cuda}
    try:
        with torch.random.fork_rng(devices=list(devices)):
            yield
    finally:
        with torch.no_grad():
            for buffer, value in zip(buffers, kept, strict=True):
                buffer.copy_(value)
