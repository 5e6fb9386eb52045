"""A fully connected network with several outputs, and its directional derivatives.

    y = W h_L + b,   h_l = f(a_l),   a_l = W_l h_(l-1) + b_l,   h_0 = x
    J v:   v_0 = v,   v_l = f'(a_l) * (W_l v_(l-1)),   J v = W v_L          forward mode

No energy: the critics and generators that objectives train beside one. Derivatives are sums and
products along the way up, so that a loss on them takes one ordinary backward pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from basin.core.validation import positive_integer
from basin.energies.networks.activations import activation_named
from basin.energies.networks.layers import linear_layer
from basin.energies.networks.mlp import hidden_layers

__all__ = []  # for the objectives, which import by path


def check_widths(hidden: Sequence[int]) -> None:
    """Refuse ``hidden`` that names no width, or one that is no positive whole number."""
    if len(hidden) == 0:
        raise ValueError("hidden must name at least one width, got ()")
    positive_integer(**{f"hidden[{i}]": width for i, width in enumerate(hidden)})


class VectorNetwork(nn.Module):
    """``[batch, num_inputs] -> [batch, num_outputs]``.

    Args:
        num_inputs: coordinates of a row.
        num_outputs: coordinates of the result.
        hidden: widths of the hidden layers.
        generator: source of the initial weights, by PyTorch's usual law for linear layers.
        activation: as for :class:`MLP`.
    """

    def __init__(
        self,
        num_inputs: int,
        num_outputs: int,
        hidden: Sequence[int],
        generator: torch.Generator,
        *,
        activation: str = "silu",
    ) -> None:
        super().__init__()
        positive_integer(num_inputs=num_inputs, num_outputs=num_outputs)
        self._activation = activation_named(activation)
        self.layers = hidden_layers(num_inputs, hidden, generator)
        self.output = linear_layer(hidden[-1], num_outputs, generator)

    def forward(self, x: Tensor) -> Tensor:
        """The value, ``[batch, num_outputs]``."""
        for layer in self.layers:
            x = self._activation.value(layer(x))
        return self.output(x)

    def with_derivatives(self, x: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """The value, and J v for several directions v of each row.

        Args:
            x: ``[batch, num_inputs]``.
            directions: ``[batch, k, num_inputs]``, or ``[k, num_inputs]`` for all rows alike.

        Returns:
            ``[batch, num_outputs]`` and ``[batch, k, num_outputs]``.

        Cost: that of 1 + k evaluations.
        """
        v, layers = directions, cast("list[nn.Linear]", list(self.layers))
        for layer in layers:
            x, slope = self._activation.value_and_slope(layer(x))
            weight: Any = layer.weight
            v = functional.linear(v, weight) * slope[:, None]
        return self.output(x), functional.linear(v, self.output.weight)
