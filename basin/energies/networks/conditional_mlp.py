"""A fully connected energy of x under a condition c, numbers or a class.

    E(x | c) = MLP([x, c]),        p(x | c) = exp(-E(x | c)) / Z(c)

A class enters as its indicator vector. Z(c) is another number for every c, and nothing here fixes
it: energies are comparable between rows of one condition only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from basin.core.validation import positive_integer
from basin.energies.composed.at_condition import AtCondition
from basin.energies.networks.layers import as_event_shape, flatten_event
from basin.energies.networks.mlp import MLP

__all__ = ["ConditionalMLP"]


class ConditionalMLP(nn.Module):
    """A network ``(x [batch, *event], condition [batch, ...]) -> [batch]``, energies in nats.

    Args:
        dim: number of coordinates of a row, or the event's shape.
        condition_dim: numbers in a condition, ``[batch, condition_dim]`` (best of order one); for
            classes give ``num_classes`` instead.
        num_classes: a condition is a class 0 .. num_classes - 1, ``[batch]`` of int64.
        hidden: widths of the hidden layers.
        activation: as in :class:`MLP`.
        seed: of the initial weights.

    Raises:
        ValueError: not exactly one of the two kinds of condition, or a condition of another shape
            or outside the classes.

    Example:
        >>> import torch
        >>> energy = ConditionalMLP(2, num_classes=3, hidden=(16,))
        >>> x, c = torch.zeros(5, 2), torch.tensor([0, 1, 2, 0, 1])
        >>> energy(x, c).shape, energy.given(torch.tensor(1))(x).shape
        (torch.Size([5]), torch.Size([5]))
    """

    def __init__(
        self,
        dim: int | Sequence[int],
        condition_dim: int | None = None,
        num_classes: int | None = None,
        hidden: Sequence[int] = (128, 128),
        activation: str = "silu",
        *,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if (condition_dim is None) == (num_classes is None):
            raise ValueError(
                "one of condition_dim and num_classes must be given, got "
                f"condition_dim={condition_dim}, num_classes={num_classes}"
            )
        self.event_shape = as_event_shape("dim", dim)
        self.dim = dim if isinstance(dim, int) else self.event_shape
        self.condition_dim = condition_dim
        self.num_classes = num_classes
        self.hidden = as_event_shape("hidden", hidden)
        self.activation = activation
        self.seed = seed
        width = num_classes if condition_dim is None else condition_dim
        assert width is not None  # one of the two is given
        positive_integer(**{"num_classes" if condition_dim is None else "condition_dim": width})
        self._width = width
        num_inputs = math.prod(self.event_shape) + width
        self.network = MLP(num_inputs, self.hidden, activation, seed=seed)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """E(x | c), ``[batch]``."""
        return self.network(self._joined(x, condition))

    def score(self, x: Tensor, condition: Tensor) -> Tensor:
        """-dE/dx in closed form, shape of ``x``."""
        joined = self.network.score(self._joined(x, condition))
        return joined[:, : -self._width].reshape(x.shape)

    def given(self, condition: Tensor | float) -> AtCondition:
        """The energy of x alone under one condition, for samplers and quadratures."""
        return AtCondition(self, condition)

    def extra_repr(self) -> str:
        """Shown by ``print``."""
        return f"condition_dim={self.condition_dim}, num_classes={self.num_classes}"

    def _joined(self, x: Tensor, condition: Tensor) -> Tensor:
        flat = flatten_event(self, x, self.event_shape)
        if self.num_classes is None:
            if tuple(condition.shape) != (len(x), self._width):
                raise ValueError(
                    f"condition must have shape ({len(x)}, {self._width}), one for each row of x, "
                    f"got {tuple(condition.shape)}"
                )
            return torch.cat([flat, condition.to(flat)], dim=1)
        if tuple(condition.shape) != (len(x),) or condition.is_floating_point():
            raise ValueError(
                f"condition must be {len(x)} classes of dtype int64, one for each row of x, got "
                f"{condition.dtype} of shape {tuple(condition.shape)}"
            )
        if len(condition) and not 0 <= int(condition.min()) <= int(condition.max()) < self._width:
            raise ValueError(
                f"condition must be classes 0 to {self._width - 1}, got "
                f"{int(condition.min())} to {int(condition.max())}"
            )
        indicators = functional.one_hot(condition.long(), self._width)
        return torch.cat([flat, indicators.to(flat)], dim=1)
