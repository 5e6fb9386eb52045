"""Activations with their derivatives: what a network needs to write its score in closed form.

    silu      f = a S            f' = S + f (1 - S)        f'' = (1 - S)(2 f' - f)
    softplus  f = log(1 + e^a)   f' = S                    f'' = S (1 - S)
    gelu      f = a Phi          f' = Phi + a phi          f'' = phi (2 - a^2)
    tanh      f = tanh(a)        f' = 1 - f^2              f'' = -2 f f'
    relu      f = max(a, 0)      f' = 1 if a > 0 else 0    f'' = 0

S is the logistic function of a, Phi and phi the standard normal's distribution and density.
Values and slopes are made of ordinary differentiable operations; curvatures serve the hand-written
backward pass of a score. ReLU's slope is a step: its Hessian is zero, and objectives made of
scores refuse it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["ACTIVATIONS", "Activation", "activation_named"]


@dataclass(frozen=True)
class Activation:
    """A function applied to each coordinate, and its derivative.

    Attributes:
        value: ``f(a)``.
        value_and_slope: ``(f(a), f'(a))``, sharing what the two have in common, differentiable.
        jet: ``(f(a), f'(a), f''(a))``, not to be differentiated further.
        is_smooth: whether the second derivative exists and is not zero.
        bend: ``(f'(a), f''(a))`` where that is cheaper than the jet; None takes the jet.
    """

    name: str
    value: Callable[[Tensor], Tensor]
    value_and_slope: Callable[[Tensor], tuple[Tensor, Tensor]]
    jet: Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]
    is_smooth: bool = True
    bend: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None

    def slope_and_curvature(self, a: Tensor) -> tuple[Tensor, Tensor]:
        """``(f'(a), f''(a))``: all that a last layer needs, by ``bend`` where f itself is dear."""
        return self.jet(a)[1:] if self.bend is None else self.bend(a)

    def slope(self, a: Tensor) -> Tensor:
        """``f'(a)``."""
        return self.value_and_slope(a)[1]


def activation_named(name: str) -> Activation:
    """The activation of that name.

    Raises:
        ValueError: there is none.
    """
    if name not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {name!r}")
    return ACTIVATIONS[name]


def _silu(a: Tensor) -> tuple[Tensor, Tensor]:
    gate = torch.sigmoid(a)
    value = a * gate
    return value, torch.addcmul(gate, value, 1 - gate)


def _silu_jet(a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    gate = torch.sigmoid(a)
    value, rest = a * gate, 1 - gate
    slope = torch.addcmul(gate, value, rest)
    return value, slope, torch.sub(slope, value, alpha=0.5).mul_(rest).mul_(2)


def _softplus(a: Tensor) -> tuple[Tensor, Tensor]:
    return functional.softplus(a), torch.sigmoid(a)


def _softplus_jet(a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return functional.softplus(a), *_softplus_bend(a)


def _softplus_bend(a: Tensor) -> tuple[Tensor, Tensor]:
    gate = torch.sigmoid(a)
    return gate, torch.addcmul(gate, gate, gate, value=-1)


def _gelu(a: Tensor) -> tuple[Tensor, Tensor]:
    return _gelu_jet(a)[:2]


def _gelu_jet(a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    distribution = 0.5 * (1 + torch.erf(a * math.sqrt(0.5)))
    density = torch.exp(-0.5 * a.square()) * (1 / math.sqrt(2 * math.pi))
    slope = torch.addcmul(distribution, a, density)
    return a * distribution, slope, density * (2 - a.square())


def _tanh(a: Tensor) -> tuple[Tensor, Tensor]:
    value = torch.tanh(a)
    return value, 1 - value.square()


def _tanh_jet(a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    value, slope = _tanh(a)
    return value, slope, (value * slope).mul_(-2)


def _relu(a: Tensor) -> tuple[Tensor, Tensor]:
    return torch.relu(a), (a > 0).to(a.dtype)


def _relu_jet(a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return *_relu(a), torch.zeros_like(a)


ACTIVATIONS: dict[str, Activation] = {
    activation.name: activation
    for activation in (
        Activation("silu", functional.silu, _silu, _silu_jet),
        Activation("softplus", functional.softplus, _softplus, _softplus_jet, bend=_softplus_bend),
        Activation("gelu", functional.gelu, _gelu, _gelu_jet),
        Activation("tanh", torch.tanh, _tanh, _tanh_jet),
        Activation("relu", torch.relu, _relu, _relu_jet, is_smooth=False),
    )
}
