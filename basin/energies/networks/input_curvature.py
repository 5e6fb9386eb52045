"""Curvatures of a fully connected network in its input, from one sweep up and one down.

    E = w' h_L,   h_l = f(a_l),   a_l = W_l h_(l-1) + b_l,   h_0 = x
    t_1 = W_1 v,   t_l = W_l (f'(a_(l-1)) * t_(l-1))             da_l along v            up
    p_L = w,       p_(l-1) = W_l' (p_l * f'(a_l)),   dE/dx = p_0    dE/dh_l              down
    v'Hv = sum_l (p_l * f''(a_l))' t_l^2

The second derivative of the activation is all that bends: the rest is linear in the layer below,
so the Hessian is a sum of squares of the tangents. Autograd would differentiate the gradient once
more for every v, through a graph of twice the size; here a v costs one product a layer, and a loss
on the result one ordinary backward pass. The first products are shared by all rows where the
directions are (the unit vectors of a trace).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from basin.energies.networks.activations import Activation

__all__ = ["gradient_and_curvatures"]


def gradient_and_curvatures(
    x: Tensor, layers: Any, output: Tensor, activation: Activation, directions: Tensor
) -> tuple[Tensor, Tensor]:
    """``(dE/dx [batch, d], v'Hv [k, batch])``; autograd sees each step.

    Args:
        x: ``[batch, d]``.
        layers: the hidden layers, ``nn.Linear`` with biases.
        output: w, ``[1, width of the last hidden layer]``.
        activation: f with its derivatives.
        directions: ``[k, batch, d]``, or ``[k, 1, d]`` for the same ones at every row.
    """
    h, tangent = x, directions
    slopes, bends, tangents = [], [], []
    for layer in layers:
        h, slope, bend = activation.jet(layer(h))
        tangent = functional.linear(tangent, layer.weight)
        slopes.append(slope)
        bends.append(bend)
        tangents.append(tangent)
        tangent = tangent * slope
    p, curvatures = output, torch.zeros((), dtype=x.dtype, device=x.device)
    for layer, slope, bend, tangent in zip(
        reversed(layers), reversed(slopes), reversed(bends), reversed(tangents), strict=True
    ):
        curvatures = curvatures + (tangent.square() * (p * bend)).sum(-1)
        p = (p * slope) @ layer.weight
    return p, curvatures
