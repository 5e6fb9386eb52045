"""The score and what is made of its derivatives, from one pass: for losses made of both.

    curvature along v    v'Hv        H = d2E/dx2, the Hessian of the energy
    diagonal             H_ii        d products with the unit vectors

An energy with a method ``score_and_curvatures(x, directions)`` in closed form is asked for it
(``basin.energies.MLP`` has one). For any other, one product is a second backward pass through the
graph of the energy's gradient. That graph is recorded by autograd even where the energy offers its
score in closed form: the node behind that score is quick for one backward pass and takes 1.6 to 2
times as long for two. Several products are taken by batched backward passes of about 2,048 rows in
all, which fit a processor's cache: up to 2.4 times as fast as one by one for small batches, and no
slower for large ones (``benchmarks/score_matching_cost.py`` has the ways side by side).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from basin.core.gradients import energy_and_score
from basin.core.precision import evaluated
from basin.core.tensors import num_event_dimensions

__all__ = ["score_and_curvatures", "score_and_hessian_diagonal"]

_ONE_BY_ONE = 4  # products; from there on a batched pass is faster
_BLOCK_ROWS = 2048  # rows times products of one batched pass on a CPU


def score_and_curvatures(energy: Any, x: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """``(s(x), v'Hv)`` for every direction v, differentiable in the parameters.

    Args:
        energy: callable ``[batch, *event] -> [batch]``.
        x: points, ``[batch, *event]``.
        directions: ``[k, batch, *event]``, a vector for each row, k times.

    Returns:
        ``s`` of the shape of ``x`` and the curvatures ``[k, batch]``.

    Cost: one forward and 1 + k backward passes; the graph of each is kept for the parameters.

    Example:
        >>> import torch
        >>> x, v = torch.tensor([[1.0, 2.0]]), torch.tensor([[[1.0, -1.0]]])
        >>> score_and_curvatures(lambda x: (x[:, 0] * x[:, 1]) ** 2, x, v)[1].item()
        -6.0
    """
    with torch.inference_mode(False), torch.enable_grad():
        if hasattr(energy, "score_and_curvatures"):
            return evaluated(energy.score_and_curvatures, energy, _point(x), _point(directions))
        leaf = _own_leaf(x)
        _, s = energy_and_score(energy, leaf, create_graph=True)
        curvatures = -torch.cat(
            [
                (products * vectors).flatten(2).sum(2)
                for vectors, products in _products(s, leaf, directions)
            ]
        )
    return s, curvatures


def score_and_hessian_diagonal(energy: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """``(s(x), H_ii)``, both of the shape of ``x``, differentiable in the parameters.

    Cost: one forward and 1 + d backward passes; memory grows with d times that of one product.
    """
    with torch.inference_mode(False), torch.enable_grad():
        d = num_event_dimensions(x)
        units = torch.eye(d, dtype=x.dtype, device=x.device)[:, None]
        if hasattr(energy, "score_and_curvatures"):
            unit_events = units.reshape(d, 1, *x.shape[1:])
            s, curvatures = evaluated(energy.score_and_curvatures, energy, _point(x), unit_events)
            return s, curvatures.t().reshape(x.shape)
        leaf = _own_leaf(x)
        _, s = energy_and_score(energy, leaf, create_graph=True)
        units = units.expand(d, len(x), d)
        columns, start = [], 0
        for _, products in _products(s, leaf, units.reshape(d, *x.shape)):
            end = start + len(products)
            block = products.flatten(2)[:, :, start:end]
            columns.append(torch.diagonal(block, dim1=0, dim2=2))
            start = end
        diagonal = -torch.cat(columns, 1).reshape(x.shape)
    return s, diagonal


def _products(s: Tensor, leaf: Tensor, vectors: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Blocks of ``[k, batch, *event]`` vectors v, and (ds/dx) v for each: zero where s is flat."""
    size = len(vectors)
    if leaf.device.type == "cpu" and size >= _ONE_BY_ONE:
        size = max(_ONE_BY_ONE, _BLOCK_ROWS // max(1, len(leaf)))
    for block in vectors.split(max(1, size)):
        yield block, _products_of_block(s, leaf, block)


def _products_of_block(s: Tensor, leaf: Tensor, vectors: Tensor) -> Tensor:
    if not s.requires_grad:
        return torch.zeros_like(vectors)

    def product(vector: Tensor, batched: bool) -> Tensor:
        (found,) = torch.autograd.grad(
            s, leaf, vector, create_graph=True, allow_unused=True, is_grads_batched=batched
        )
        return torch.zeros_like(vector) if found is None else found

    if len(vectors) >= _ONE_BY_ONE:
        try:
            return product(vectors, batched=True)
        except RuntimeError as error:
            if "vmap" not in str(error):
                raise
            # An operation that torch cannot batch: the same products, one at a time.
    return torch.stack([product(vector, batched=False) for vector in vectors])


def _own_leaf(x: Tensor) -> Tensor:
    """A point of the graph that is this function's own, so that gradients stop there."""
    return _point(x).requires_grad_(True).view_as(x)


def _point(x: Tensor) -> Tensor:
    """``x`` without a graph, whatever mode it was made in."""
    return x.clone().detach()
