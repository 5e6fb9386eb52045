"""A residual energy for vectors, with its score in closed form.

    E(x) = w' f(h_B) + c/2 ||x||^2
    h_b = h_(b-1) + V_b f(U_b h_(b-1) + u_b) + v_b,      h_0 = W x + b

Residual blocks keep the gradient alive in deep networks (He et al. 2016). Cost: two matrix
products a block for the energy, four for the score.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from basin.core.references import Reference
from basin.core.room import take_room
from basin.core.validation import non_negative, positive_integer, seed_number
from basin.energies.networks.activations import activation_named
from basin.energies.networks.layers import (
    as_event_shape,
    confining_energy,
    flatten_event,
    linear_layer,
    sample_confinement,
)

__all__ = ["ResNet"]


class ResNet(nn.Module):
    """A residual network ``[batch, *event] -> [batch]``, energies in nats.

    Args:
        dim: number of coordinates of a row, or the event's shape; events are flattened inside.
        width: of every hidden layer.
        num_blocks: residual blocks, two linear layers each.
        activation: ``silu``, ``softplus``, ``gelu``, ``tanh`` or ``relu`` (the last has a zero
            Hessian, and objectives made of scores refuse it).
        confinement: c >= 0 of the added c/2 ||x||^2.
        seed: of the initial weights, which follow PyTorch's usual law for linear layers.

    Raises:
        ValueError: a parameter out of its range, or rows of another dimension.

    Example:
        >>> import torch
        >>> ResNet(2, width=16, num_blocks=2)(torch.zeros(3, 2)).shape
        torch.Size([3])
    """

    references: ClassVar[tuple[Reference, ...]] = (
        Reference(
            "Deep residual learning for image recognition",
            ("K. He", "X. Zhang", "S. Ren", "J. Sun"),
            2016,
            "https://arxiv.org/abs/1512.03385",
        ),
    )

    def __init__(
        self,
        dim: int | Sequence[int],
        width: int = 128,
        num_blocks: int = 3,
        activation: str = "silu",
        confinement: float = 0.0,
        *,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.event_shape = as_event_shape("dim", dim)
        self.dim = dim if isinstance(dim, int) else self.event_shape
        positive_integer(width=width, num_blocks=num_blocks)
        take_room("width and num_blocks", 2 * num_blocks, width, width)  # together, at once
        non_negative(confinement=confinement)
        self.width = width
        self.num_blocks = num_blocks
        self.activation = activation
        self.confinement = confinement
        self.seed = seed
        self._activation = activation_named(activation)
        seed_number(seed=seed)
        generator = torch.Generator().manual_seed(seed)
        self.input = linear_layer(torch.Size(self.event_shape).numel(), width, generator)
        self.inner = nn.ModuleList(linear_layer(width, width, generator) for _ in range(num_blocks))
        self.outer = nn.ModuleList(linear_layer(width, width, generator) for _ in range(num_blocks))
        self.output = linear_layer(width, 1, generator, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """E(x), ``[batch]``."""
        flat = flatten_event(self, x, self.event_shape)
        h = self.input(flat)
        for inner, outer in zip(self.inner, self.outer, strict=True):
            h = h + outer(self._activation.value(inner(h)))
        energy = self.output(self._activation.value(h)).squeeze(-1)
        return energy + confining_energy(flat, self.confinement) if self.confinement else energy

    def score(self, x: Tensor) -> Tensor:
        """-dE/dx in closed form, shape of ``x``; differentiable in ``x`` and in the weights."""
        flat = flatten_event(self, x, self.event_shape)
        h = self.input(flat)
        passed: list[tuple[Any, Any, Tensor]] = []
        for inner, outer in zip(self.inner, self.outer, strict=True):
            value, slope = self._activation.value_and_slope(inner(h))
            h = h + outer(value)
            passed.append((inner, outer, slope))
        gradient = self.output.weight * self._activation.slope(h)
        for inner, outer, slope in reversed(passed):
            gradient = gradient + ((gradient @ outer.weight) * slope) @ inner.weight
        score = -(gradient @ self.input.weight)
        if self.confinement:
            score = score - self.confinement * flat
        return score.reshape(x.shape)

    def sample_base(self, n: int, generator: torch.Generator) -> Tensor:
        """``n`` draws of N(0, I/confinement), to start chains from."""
        return sample_confinement(
            self, n, generator, confinement=self.confinement, event_shape=self.event_shape
        )

    def extra_repr(self) -> str:
        """Shown by ``print``."""
        return f"activation={self.activation!r}, confinement={self.confinement}"
