"""A fully connected energy of rows of whole numbers, binary or categorical.

    E(x) = w' h_L,      h_l = f(W_l h_(l-1) + b_l),      h_0 = code of x,  x in {0, ..., K-1}^d

The code of a binary coordinate is the spin 2x - 1, differentiable in x; that of a categorical one
is one-hot, K numbers: categories have no order, and no distance. The last layer has no bias: a
constant cancels in exp(-E)/Z. Cost: one matrix product a layer.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from basin.core.discrete import (
    number_of_states,
    one_hot,
    whole_numbers,
)
from basin.core.validation import seed_number
from basin.energies.discrete.enumerated import Enumerated
from basin.energies.networks.activations import activation_named
from basin.energies.networks.layers import as_event_shape, flatten_event, linear_layer
from basin.energies.networks.mlp import hidden_layers

__all__ = ["CategoricalMLP"]


class CategoricalMLP(Enumerated):
    """A fully connected network on whole numbers, ``[batch, *event] -> [batch]``, in nats.

    Args:
        dim: number of coordinates of a row, or the event's shape; events are flattened inside.
        num_states: K, values that each coordinate may take: 0, 1, ..., K - 1.
        hidden: widths of the hidden layers.
        activation: ``silu``, ``softplus``, ``gelu``, ``tanh`` or ``relu``.
        seed: of the initial weights, which follow PyTorch's usual law for linear layers.

    Raises:
        ValueError: a parameter out of its range, rows of another dimension, or, for more than two
            states, rows that hold anything but whole numbers in their range.

    Example:
        >>> import torch
        >>> CategoricalMLP(2, num_states=3, hidden=(16,))(torch.tensor([[0.0, 2.0]])).shape
        torch.Size([1])
    """

    def __init__(
        self,
        dim: int | Sequence[int],
        num_states: int = 2,
        hidden: Sequence[int] = (128, 128),
        activation: str = "silu",
        *,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.event_shape = as_event_shape("dim", dim)
        self.dim = dim if isinstance(dim, int) else self.event_shape
        number_of_states(num_states)
        self.num_states = num_states
        self.hidden = as_event_shape("hidden", hidden)
        self.activation = activation
        self.seed = seed
        self._activation = activation_named(activation)
        seed_number(seed=seed)
        generator = torch.Generator().manual_seed(seed)
        size = torch.Size(self.event_shape).numel()
        num_inputs = size if num_states == 2 else size * num_states
        self.layers = hidden_layers(num_inputs, self.hidden, generator)
        self.output = linear_layer(self.hidden[-1], 1, generator, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """E(x), ``[batch]``."""
        return self._of_code(self._code(flatten_event(self, x, self.event_shape)))

    def of_one_hot(self, rows: Tensor) -> Tensor:
        """E of rows as one-hot vectors ``[batch, *event, K]``, ``[batch]``; defined between them.

        Its gradient is what samplers look at to choose a change.
        """
        hot = rows.reshape(len(rows), -1, self.num_states)
        code = hot[..., 1] - hot[..., 0] if self.num_states == 2 else hot.flatten(1)
        return self._of_code(code)

    def extra_repr(self) -> str:
        """Shown by ``print``."""
        return f"num_states={self.num_states}, activation={self.activation!r}"

    def _of_code(self, h: Tensor) -> Tensor:
        for layer in self.layers:
            h = self._activation.value(layer(h))
        return self.output(h).squeeze(-1)

    def _code(self, flat: Tensor) -> Tensor:
        if self.num_states == 2:
            return 2 * flat - 1
        whole_numbers("x", flat, self.num_states)
        return one_hot(flat, self.num_states).flatten(1)
