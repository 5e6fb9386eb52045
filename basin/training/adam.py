"""Adam with explicit state, on PyTorch's fused kernel.

    m <- b1 m + (1 - b1) g,   v <- b2 v + (1 - b2) g^2
    w <- w - rate m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + 1e-8)

Source: Kingma & Ba 2015, algorithm 1, as ``torch.optim.adam.adam(..., fused=True)`` computes it
(a test holds the two to the same bits). The class ``torch.optim.Adam`` adds hooks, parameter groups
and checks at each step, which cost a small network more than the arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

__all__ = ["Adam"]

_EPSILON = 1e-8


class Adam:
    """The optimiser of the training loop; ``tensors`` and ``restore`` are its checkpoint.

    Args:
        parameters: what is trained, in a fixed order.
        betas: b1 and b2.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], betas: tuple[float, float]) -> None:
        self.parameters = list(parameters)
        self.betas = betas
        self.first = [torch.zeros_like(p) for p in self.parameters]
        self.second = [torch.zeros_like(p) for p in self.parameters]
        self.counts = [torch.zeros((), device=p.device) for p in self.parameters]

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    def clip_gradient(self, limit: float | None) -> float:
        """Scale the gradient down to norm ``limit``; return the norm that it had."""
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norm = float(torch.nn.utils.get_total_norm(gradients))
        if limit is not None and math.isfinite(norm) and norm > limit:
            torch._foreach_mul_(gradients, limit / norm)  # pyright: ignore[reportPrivateImportUsage]
        return norm

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """One step along the gradients; a parameter without one is left alone."""
        used = [i for i, p in enumerate(self.parameters) if p.grad is not None]
        adam(
            [self.parameters[i] for i in used],
            [g for p in self.parameters if (g := p.grad) is not None],
            [self.first[i] for i in used],
            [self.second[i] for i in used],
            [],
            [self.counts[i] for i in used],
            fused=True,
            amsgrad=False,
            beta1=self.betas[0],
            beta2=self.betas[1],
            lr=learning_rate,
            weight_decay=0.0,
            eps=_EPSILON,
            maximize=False,
        )

    def tensors(self) -> dict[str, Tensor]:
        """Moments and counts by name."""
        named = {"first": self.first, "second": self.second, "count": self.counts}
        return {f"{name}.{i}": t for name, group in named.items() for i, t in enumerate(group)}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what :meth:`tensors` gave."""
        with torch.no_grad():
            for name, mine in self.tensors().items():
                mine.copy_(tensors[name])
