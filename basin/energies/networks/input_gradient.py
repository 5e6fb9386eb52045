"""The gradient of a fully connected network in its input, as one node of the graph.

    E = w' h_L,   h_l = f(a_l),   a_l = W_l h_(l-1) + b_l,   h_0 = x          forward
    p_L = w,   q_l = p_l * f'(a_l),   p_(l-1) = W_l' q_l,   dE/dx = p_0        backward

A loss L on p_0 needs dL/dW, which runs through both sweeps. With P_l = dL/dp_l and so on,

    Q_l = W_l P_(l-1),   P_l = Q_l * f'(a_l)                                  up, from P_0
    A_l = H_l * f'(a_l) + Q_l * p_l * f''(a_l),   H_(l-1) = W_l' A_l           down, from H_L = 0
    dL/dW_l = q_l P_(l-1)' + A_l h_(l-1)',   dL/db_l = A_l,   dL/dw = P_L,   dL/dx = H_0

Writing these lines out takes half the elementwise operations that autograd would record for them:
forward and backward together take about 15 % less time (batch 100, 2-128-128-1, one core). When
the gradient is itself to be differentiated again, autograd does it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from basin.energies.networks.activations import Activation
from basin.energies.networks.layers import in_blocks
from basin.energies.networks.product import (
    add_product_over_rows_,
    product,
    product_over_rows,
)

__all__ = ["hidden_backward", "hidden_forward", "input_gradient"]


def input_gradient(x: Tensor, layers: Any, output: Tensor, activation: Activation) -> Tensor:
    """d(w' h_L)/dx, ``[batch, d]``; a loss on it reaches the weights by one ordinary backward pass.

    Args:
        x: ``[batch, d]``.
        layers: the hidden layers, ``nn.Linear`` with biases.
        output: w, ``[1, width of the last hidden layer]``.
        activation: f with its derivatives.

    Not for ``torch.func`` transforms, which differentiate the energy itself just as well.
    """
    by_hand = not torch.compiler.is_compiling() and not torch.is_autocast_enabled(x.device.type)
    if by_hand and torch.is_grad_enabled():
        parameters = [p for layer in layers for p in (layer.weight, layer.bias)]
        return _InputGradient.apply(activation, x, output, *parameters)

    def sweeps(rows: Tensor) -> Tensor:
        _, slopes = hidden_forward(rows, layers, activation)
        return hidden_backward(output, layers, slopes)

    return in_blocks(sweeps, x)


def hidden_forward(x: Tensor, layers: Any, activation: Activation) -> tuple[Tensor, list[Tensor]]:
    """``(h_L, [f'(a_1), ..., f'(a_L)])`` for inputs ``[batch, d]``; autograd sees each step."""
    return _forward(x, [(layer.weight, layer.bias) for layer in layers], activation)


def hidden_backward(gradient: Tensor, layers: Any, slopes: list[Tensor]) -> Tensor:
    """dE/dx ``[batch, d]`` from dE/dh_L (``[batch, width]`` or one row for all); likewise."""
    return _backward(gradient, [layer.weight for layer in layers], slopes)


def _forward(
    x: Tensor, layers: list[tuple[Tensor, Tensor]], activation: Activation
) -> tuple[Tensor, list[Tensor]]:
    slopes: list[Tensor] = []
    for weight, bias in layers:
        x, slope = activation.value_and_slope(functional.linear(x, weight, bias))
        slopes.append(slope)
    return x, slopes


def _backward(gradient: Tensor, weights: list[Tensor], slopes: list[Tensor]) -> Tensor:
    for weight, slope in zip(reversed(weights), reversed(slopes), strict=True):
        gradient = product(gradient * slope, weight)
    return gradient


class _InputGradient(torch.autograd.Function):
    """Symbols as in the module's docstring; lists run over the layers, from the input up."""

    @staticmethod
    def forward(ctx: Any, activation: Activation, x: Tensor, w: Tensor, *wb: Tensor) -> Tensor:
        weights, biases = wb[::2], wb[1::2]
        h, slopes, curvatures = [x], [], []
        for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
            value, slope, curvature = activation.jet(torch.addmm(bias, h[-1], weight.t()))
            h.append(value)
            slopes.append(slope)
            curvatures.append(curvature)
        # The last hidden value has no part in the gradient.
        last = torch.addmm(biases[-1], h[-1], weights[-1].t())
        slope, curvature = activation.slope_and_curvature(last)
        slopes.append(slope)
        curvatures.append(curvature)
        p, q = [w], []
        for weight, slope in zip(reversed(weights), reversed(slopes), strict=True):
            q.append(p[-1] * slope)
            p.append(product(q[-1], weight))
        ctx.activation, ctx.num_layers = activation, len(weights)
        ctx.save_for_backward(x, w, *wb)
        # Neither inputs nor outputs, so free of the checks (and cost) of save_for_backward.
        ctx.hidden = h[1:], slopes, curvatures, p[-2::-1], q[::-1]
        return p[-1]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        n = ctx.num_layers
        x, w, *wb = ctx.saved_tensors
        if torch.is_grad_enabled():
            return None, *_differentiable_backward(ctx, x, w, wb, gradients[0])
        hidden, slopes, curvatures, p, q = ctx.hidden
        h = [x, *hidden]
        weights = wb[::2]
        in_weights, bends = [], []
        in_p = gradients[0]
        for k in range(n):
            in_weights.append(product_over_rows(q[k], in_p))
            in_q = in_p @ weights[k].t()
            in_p = in_q * slopes[k]
            bends.append(in_q.mul_(p[k]).mul_(curvatures[k]))
        in_biases: list[Tensor] = []
        in_a = bends[-1]
        for k in reversed(range(n)):
            add_product_over_rows_(in_weights[k], in_a, h[k])
            in_biases.insert(0, in_a.sum(0))
            if k > 0:
                in_a = bends[k - 1].addcmul_(in_a @ weights[k], slopes[k - 1])
        in_x = product(in_a, weights[0]) if ctx.needs_input_grad[1] else None
        pairs = zip(in_weights, in_biases, strict=True)
        return None, in_x, in_p.sum(0, keepdim=True), *(g for pair in pairs for g in pair)


def _differentiable_backward(
    ctx: Any, x: Tensor, w: Tensor, wb: list[Tensor], in_p: Tensor
) -> list[Tensor | None]:
    """The same gradients with a graph of their own, by autograd through the plain formulas."""
    weights = wb[::2]
    _, slopes = _forward(x, list(zip(weights, wb[1::2], strict=True)), ctx.activation)
    result = _backward(w, weights, slopes)
    inputs = [x, w, *wb]
    wanted = [t for t, is_needed in zip(inputs, ctx.needs_input_grad[1:], strict=True) if is_needed]
    found = iter(torch.autograd.grad(result, wanted, in_p, create_graph=True, allow_unused=True))
    return [next(found) if is_needed else None for is_needed in ctx.needs_input_grad[1:]]
