"""The score and what is made of its derivatives, from one pass: for losses made of both.

    curvature along v    v'Hv        H = d2E/dx2, the Hessian of the energy
    diagonal             H_ii        d products with the unit vectors

One product is a second backward pass through the graph of the energy's gradient. That graph is
recorded by autograd even where the energy offers its score in closed form: the node behind that
score is quick for one backward pass and takes 1.3 to 1.6 times as long for two. Several products
are one batched backward pass: 1.3 to 1.4 times as fast as one by one from d = 8 on; for up to four
they are taken one by one (``benchmarks/score_matching_cost.py`` measures the ways side by side).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from basin.core.gradients import energy_and_score
from basin.core.tensors import num_event_dimensions

__all__ = ["score_and_curvatures", "score_and_hessian_diagonal"]

_ONE_BY_ONE = 4  # products; beyond, the batched pass is faster


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
        leaf = _own_leaf(x)
        _, s = energy_and_score(energy, leaf, create_graph=True)
        products = _products(s, leaf, directions)
        curvatures = -(products * directions).flatten(2).sum(2)
    return s, curvatures


def score_and_hessian_diagonal(energy: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """``(s(x), H_ii)``, both of the shape of ``x``, differentiable in the parameters.

    Cost: one forward and 1 + d backward passes; memory grows with d times that of one product.
    """
    with torch.inference_mode(False), torch.enable_grad():
        leaf = _own_leaf(x)
        _, s = energy_and_score(energy, leaf, create_graph=True)
        d = num_event_dimensions(x)
        units = torch.eye(d, dtype=x.dtype, device=x.device)[:, None].expand(d, len(x), d)
        products = _products(s, leaf, units.reshape(d, *x.shape)).flatten(2)
        diagonal = -torch.diagonal(products, dim1=0, dim2=2).reshape(x.shape)
    return s, diagonal


def _products(s: Tensor, leaf: Tensor, vectors: Tensor) -> Tensor:
    """(ds/dx) v for each of ``[k, batch, *event]`` vectors; zero where s does not depend on x."""
    if not s.requires_grad:
        return torch.zeros_like(vectors)

    def product(vector: Tensor, batched: bool) -> Tensor:
        (found,) = torch.autograd.grad(
            s, leaf, vector, create_graph=True, allow_unused=True, is_grads_batched=batched
        )
        return torch.zeros_like(vector) if found is None else found

    if len(vectors) > _ONE_BY_ONE:
        try:
            return product(vectors, batched=True)
        except RuntimeError as error:
            if "vmap" not in str(error):
                raise
            # An operation that torch cannot batch: the same products, one at a time.
    return torch.stack([product(vector, batched=False) for vector in vectors])


def _own_leaf(x: Tensor) -> Tensor:
    """A point of the graph that is this function's own, so that gradients stop there."""
    return x.clone().detach().requires_grad_(True).view_as(x)
