"""A noise-conditional energy held at one level: E_sigma(x) = E(x, sigma).

Samplers never learn about conditions: they are given this. Cost: that of the inner energy.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from basin.core.gradients import score
from basin.core.validation import positive

__all__ = ["AtNoiseLevel"]


class AtNoiseLevel(nn.Module):
    """``energy.at(sigma)``: an energy ``[batch, *event] -> [batch]`` from a noise-conditional one.

    Args:
        energy: callable ``(x, sigma) -> [batch]``.
        sigma: noise standard deviation, positive, in the coordinates of ``x``.

    The weights are those of ``energy`` itself, not copies.

    Example:
        >>> import basin, torch
        >>> energy = AtNoiseLevel(lambda x, sigma: x.square().sum(1) / (2 * sigma**2), sigma=0.5)
        >>> energy(torch.ones(1, 2)), basin.score(energy, torch.ones(1, 2))
        (tensor([4.]), tensor([[-4., -4.]]))
    """

    def __init__(self, energy: Any, sigma: float) -> None:
        super().__init__()
        positive(sigma=sigma)
        self.energy = energy
        self.sigma = sigma

    @property
    def event_shape(self) -> tuple[int, ...]:
        """That of the inner energy."""
        return self.energy.event_shape

    def forward(self, x: Tensor) -> Tensor:
        """E(x, sigma), ``[batch]``."""
        return self.energy(x, self.sigma)

    def score(self, x: Tensor) -> Tensor:
        """-dE/dx at this level: the inner energy's closed form, or autograd where it has none."""
        if hasattr(self.energy, "score"):
            return self.energy.score(x, self.sigma)
        return score(self.forward, x, create_graph=torch.is_grad_enabled())

    def at(self, sigma: float) -> AtNoiseLevel:
        """The same energy at another level: a step between two levels looks at both."""
        return AtNoiseLevel(self.energy, sigma)

    def sample_base(self, n: int, generator: torch.Generator) -> Tensor:
        """Where chains may start: ``energy.sample_base(n, generator, sigma)``."""
        if not hasattr(self.energy, "sample_base"):
            raise ValueError(
                f"{type(self.energy).__name__} has no base law to start chains from; "
                "give the starting points x0"
            )
        return self.energy.sample_base(n, generator, self.sigma)

    def extra_repr(self) -> str:
        """Shown by ``print``."""
        return f"sigma={self.sigma}"
