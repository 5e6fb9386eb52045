"""Scores, Hessian-vector products and traces of an energy E.

    score           s(x) = -dE/dx                                    Z drops out
    noise score     -dE(x, sigma)/d log sigma                        (dual score matching)
    laplacian       tr d2E/dx2, exactly (d products) or by Hutchinson (num_probes products)

Everything here may be called inside ``no_grad`` and ``inference_mode``, leaves no gradient on
parameters and does not touch its input. With ``create_graph=True`` the result can be
differentiated with respect to the parameters.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from basin.core.directions import random_signs_like
from basin.core.precision import evaluated
from basin.core.tensors import event_sum
from basin.core.validation import batch_of_energies, floating_point, positive_integer

__all__ = [
    "dual_score",
    "energy_and_score",
    "hessian_vector_product",
    "hutchinson_laplacian",
    "laplacian",
    "score",
]


def score(energy: Any, x: Tensor, *, create_graph: bool = False) -> Tensor:
    """s(x) = -dE/dx, the gradient of log p(x), shape of ``x``.

    An energy that has a method ``score(x)`` in closed form is asked for it; any other callable
    goes through autograd.

    Args:
        energy: callable ``[batch, *event] -> [batch]``.
        x: points, ``[batch, *event]``, floating point.
        create_graph: keep the graph, so that a loss made of scores trains the parameters.

    Raises:
        ValueError: x and the weights differ in dtype, or the energies are not one real number a
            row, or they change with x but carry no gradient.

    Cost: one forward and one backward pass of the energy.

    Example:
        >>> import torch, basin
        >>> basin.score(lambda x: 0.5 * x.square().sum(1), torch.tensor([[1.0, -2.0]]))
        tensor([[-1.,  2.]])
    """
    floating_point("x", x)
    with _outside_inference_mode(), torch.set_grad_enabled(create_graph):
        x = _ordinary(x, create_graph)
        if hasattr(energy, "score"):
            return evaluated(energy.score, energy, x)
    return energy_and_score(energy, x, create_graph=create_graph)[1]


def energy_and_score(
    energy: Any, x: Tensor, *, create_graph: bool = False
) -> tuple[Tensor, Tensor]:
    """``(E(x), -dE/dx)`` from one forward and one backward pass; see :func:`score`."""
    floating_point("x", x)
    with _outside_inference_mode(), torch.enable_grad():
        leaf = _differentiable(x, create_graph)
        values = batch_of_energies(energy, leaf, evaluated(energy, energy, leaf))
        gradient = None
        if values.requires_grad:
            (gradient,) = torch.autograd.grad(
                values.sum(), leaf, create_graph=create_graph, allow_unused=True
            )
        if gradient is None:
            _require_constant(energy, leaf, values)
            gradient = torch.zeros_like(leaf)
    return (values, -gradient) if create_graph else (values.detach(), -gradient.detach())


def dual_score(
    energy: Any, x: Tensor, sigma: Tensor, *, create_graph: bool = False
) -> tuple[Tensor, Tensor]:
    """Both derivatives of log p(x; sigma): ``(-dE/dx, -dE/d log sigma)``, shapes of x and [batch].

    An energy with a method ``dual_score(x, sigma)`` in closed form is asked for it.

    Args:
        energy: noise-conditional energy ``(x, sigma) -> [batch]``.
        x: ``[batch, *event]``.
        sigma: noise standard deviations, ``[batch]``, positive.
    """
    with _outside_inference_mode(), torch.set_grad_enabled(create_graph):
        if hasattr(energy, "dual_score"):
            x, sigma = _ordinary(x, create_graph), _ordinary(sigma, create_graph)
            return evaluated(energy.dual_score, energy, x, sigma)
    with _outside_inference_mode(), torch.enable_grad():
        leaf = _differentiable(x, create_graph)
        log_sigma = _differentiable(sigma, create_graph).log()
        if not log_sigma.requires_grad:
            log_sigma = log_sigma.requires_grad_(True)
        values = evaluated(energy, energy, leaf, log_sigma.exp())
        values = batch_of_energies(energy, leaf, values)
        in_space, in_noise = torch.autograd.grad(
            values.sum(), (leaf, log_sigma), create_graph=create_graph
        )
    return -in_space, -in_noise


def hessian_vector_product(
    energy: Any, x: Tensor, vector: Tensor, *, create_graph: bool = False
) -> Tensor:
    """(d2E/dx2) v for each row, shape of ``x``: reverse over reverse, two backward passes."""
    with _outside_inference_mode(), torch.enable_grad():
        leaf = _differentiable(x, create_graph)
        gradient = -score(energy, leaf, create_graph=True)
        if not gradient.requires_grad:
            return torch.zeros_like(leaf)
        (product,) = torch.autograd.grad(
            (gradient * _ordinary(vector, create_graph)).sum(),
            leaf,
            create_graph=create_graph,
            allow_unused=True,
        )
    return torch.zeros_like(leaf) if product is None else product


def laplacian(energy: Any, x: Tensor, *, create_graph: bool = False) -> Tensor:
    """tr d2E/dx2 exactly, ``[batch]``. Cost: d backward passes, memory of one when no graph."""
    with _outside_inference_mode(), torch.enable_grad():
        leaf = _differentiable(x, create_graph)
        gradient = -score(energy, leaf, create_graph=True)
        flat = gradient.flatten(1)
        trace = torch.zeros(len(leaf), dtype=leaf.dtype, device=leaf.device)
        if not gradient.requires_grad:
            return trace
        for i in range(flat.shape[1]):
            (row,) = torch.autograd.grad(
                flat[:, i].sum(),
                leaf,
                create_graph=create_graph,
                retain_graph=True,
                allow_unused=True,
            )
            if row is not None:
                trace = trace + row.flatten(1)[:, i]
    return trace


def hutchinson_laplacian(
    energy: Any,
    x: Tensor,
    generator: torch.Generator,
    *,
    num_probes: int = 1,
    create_graph: bool = False,
) -> Tensor:
    """Unbiased estimate of tr d2E/dx2, ``[batch]``: the mean of v'(d2E/dx2)v over Rademacher v.

    Source: Hutchinson 1990. Its variance is 2 (||H||_F^2 - sum H_ii^2) / num_probes, zero for a
    diagonal Hessian. Cost: ``num_probes`` Hessian-vector products.
    """
    positive_integer(num_probes=num_probes)
    trace = torch.zeros(len(x), dtype=x.dtype, device=x.device)
    for _ in range(num_probes):
        probe = random_signs_like(x, generator)
        product = hessian_vector_product(energy, x, probe, create_graph=create_graph)
        trace = trace + event_sum(probe * product)
    return trace / num_probes


def _require_constant(energy: Any, x: Tensor, values: Tensor) -> None:
    """Energies that no graph joins to x are flat, with score zero, or were cut off from it.

    Only the second ones change when x moves. Cost: one more evaluation, in this rare case.
    """
    with torch.no_grad():
        moved = energy(1.25 * x + 0.375)
    if not torch.equal(values, moved):
        raise ValueError(
            f"{type(energy).__name__} must be differentiable in x, got energies that change with x "
            "but carry no gradient (a .detach(), .data, .item(), NumPy or no_grad inside?); "
            "compute them from x by torch operations"
        )


def _outside_inference_mode() -> AbstractContextManager[Any]:
    """Leaves inference mode where the caller is in it; entering nothing costs 8 us less a score."""
    return torch.inference_mode(False) if torch.is_inference_mode_enabled() else nullcontext()


def _ordinary(x: Tensor, keep_graph: bool) -> Tensor:
    """A tensor that autograd may record, whatever mode the caller is in."""
    if x.is_inference():
        return x.clone()
    return x if keep_graph else x.detach()


def _differentiable(x: Tensor, keep_graph: bool) -> Tensor:
    """``x`` if a graph leads to it and is wanted, else a fresh leaf; never the caller's leaf."""
    if keep_graph and x.requires_grad and not x.is_leaf:
        return x
    if keep_graph and x.requires_grad:
        return x.view_as(x)
    return _ordinary(x, keep_graph).detach().requires_grad_(True)
