"""A fully connected energy, with its score in closed form.

    E(x) = w' h_L + c/2 ||x||^2,      h_l = f(a_l),  a_l = W_l h_(l-1) + b_l,  h_0 = x
    dE/dx = W_1' (f'(a_1) * ... W_L' (f'(a_L) * w)) + c x

The last layer has no bias: a constant cancels in exp(-E)/Z and has no gradient in a loss made of
scores. Cost: one matrix product a layer for the energy, twice that for the score; a loss on the
score then takes one ordinary backward pass instead of a double one.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from basin.core.validation import non_negative, positive_integer, seed_number
from basin.energies.networks.activations import activation_named
from basin.energies.networks.input_curvature import gradient_and_curvatures
from basin.energies.networks.input_gradient import input_gradient
from basin.energies.networks.layers import (
    as_event_shape,
    confining_energy,
    flatten_event,
    linear_layer,
    sample_confinement,
)

__all__ = ["MLP", "hidden_layers"]


def hidden_layers(
    num_inputs: int, hidden: Sequence[int], generator: torch.Generator
) -> nn.ModuleList:
    """The linear layers ``num_inputs -> hidden[0] -> ... -> hidden[-1]``, with biases."""
    sizes = (num_inputs, *hidden)
    return nn.ModuleList(
        linear_layer(before, after, generator, name="hidden") for before, after in pairwise(sizes)
    )


class MLP(nn.Module):
    """A fully connected network ``[batch, *event] -> [batch]``, energies in nats.

    Args:
        dim: number of coordinates of a row, or the event's shape; events are flattened inside.
        hidden: widths of the hidden layers.
        activation: ``silu``, ``softplus``, ``gelu``, ``tanh`` or ``relu`` (the last has a zero
            Hessian, and objectives made of scores refuse it).
        confinement: c >= 0 of the added c/2 ||x||^2; above zero exp(-E) is integrable whenever the
            network grows at most linearly, as these do.
        seed: of the initial weights, which follow PyTorch's usual law for linear layers.

    Raises:
        ValueError: a parameter out of its range, or rows of another dimension.

    Example:
        >>> import torch
        >>> energy = MLP(2, hidden=(16, 16))
        >>> energy(torch.zeros(5, 2)).shape, energy.score(torch.zeros(5, 2)).shape
        (torch.Size([5]), torch.Size([5, 2]))
    """

    def __init__(
        self,
        dim: int | Sequence[int],
        hidden: Sequence[int] = (128, 128),
        activation: str = "silu",
        confinement: float = 0.0,
        *,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.event_shape = as_event_shape("dim", dim)
        self.dim = dim if isinstance(dim, int) else self.event_shape
        self.hidden = as_event_shape("hidden", hidden)
        non_negative(confinement=confinement)
        self.activation = activation
        self.confinement = confinement
        self.seed = seed
        self._activation = activation_named(activation)
        seed_number(seed=seed)
        generator = torch.Generator().manual_seed(seed)
        num_inputs = torch.Size(self.event_shape).numel()
        positive_integer(dim=num_inputs)
        self.layers = hidden_layers(num_inputs, self.hidden, generator)
        self.output = linear_layer(self.hidden[-1], 1, generator, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """E(x), ``[batch]``."""
        flat = flatten_event(self, x, self.event_shape)
        h = flat
        for layer in self.layers:
            h = self._activation.value(layer(h))
        energy = self.output(h).squeeze(-1)
        return energy + confining_energy(flat, self.confinement) if self.confinement else energy

    def score(self, x: Tensor) -> Tensor:
        """-dE/dx in closed form, shape of ``x``; differentiable in ``x`` and in the weights."""
        flat = flatten_event(self, x, self.event_shape)
        score = -input_gradient(flat, self.layers, self.output.weight, self._activation)
        if self.confinement:
            score = score - self.confinement * flat
        return score if x.ndim == 2 else score.reshape(x.shape)

    def score_and_curvatures(self, x: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """``(-dE/dx, v'Hv)`` in closed form, shapes of ``x`` and ``[k, batch]``; differentiable.

        ``directions``: ``[k, batch, *event]``, or ``[k, 1, *event]`` for all rows the same.
        """
        flat = flatten_event(self, x, self.event_shape)
        v = directions.flatten(2)
        gradient, curvatures = gradient_and_curvatures(
            flat, self.layers, self.output.weight, self._activation, v
        )
        if self.confinement:
            gradient = gradient + self.confinement * flat
            curvatures = curvatures + self.confinement * v.square().sum(2)
        return -gradient.reshape(x.shape), curvatures

    def sample_base(self, n: int, generator: torch.Generator) -> Tensor:
        """``n`` draws of N(0, I/confinement), to start chains from."""
        return sample_confinement(
            self, n, generator, confinement=self.confinement, event_shape=self.event_shape
        )

    def extra_repr(self) -> str:
        """Shown by ``print``."""
        return f"activation={self.activation!r}, confinement={self.confinement}"
