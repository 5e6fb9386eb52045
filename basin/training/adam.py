"""Adam with explicit state, on PyTorch's fused kernel.

    m <- b1 m + (1 - b1) g,   v <- b2 v + (1 - b2) g^2
    w <- w - rate m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + 1e-8)

Source: Kingma & Ba 2015, algorithm 1, by the kernel of ``torch.optim.Adam(fused=True)`` (a test
holds the two to the same bits). That class adds hooks, groups, checks and a count for every
parameter at each step, which cost a small network more than the arithmetic; here t is one count.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

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
        device = self.parameters[0].device if self.parameters else torch.device("cpu")
        self.count = torch.zeros((), device=device)

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    def clip_gradient(self, limit: float | None) -> float:
        """Scale the gradient down to norm ``limit``; return the norm that it had."""
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        if not gradients:
            return 0.0
        norms = torch._foreach_norm(gradients)  # pyright: ignore[reportPrivateImportUsage]
        norm = float(torch.linalg.vector_norm(torch.stack(norms)))
        if limit is not None and math.isfinite(norm) and norm > limit:
            torch._foreach_mul_(gradients, limit / norm)  # pyright: ignore[reportPrivateImportUsage]
        return norm

    @torch.no_grad()
    def step(self, learning_rate: float, *, ascend: bool = False) -> None:
        """One step down the gradients, or up; a parameter without one is left alone."""
        used = [i for i, p in enumerate(self.parameters) if p.grad is not None]
        self.count += 1
        torch._fused_adam_(  # pyright: ignore[reportPrivateImportUsage]
            [self.parameters[i] for i in used],
            [_laid_out_like(p, g) for p in self.parameters if (g := p.grad) is not None],
            [self.first[i] for i in used],
            [self.second[i] for i in used],
            [],
            [self.count] * len(used),
            lr=learning_rate,
            beta1=self.betas[0],
            beta2=self.betas[1],
            weight_decay=0.0,
            eps=_EPSILON,
            amsgrad=False,
            maximize=ascend,
        )

    def tensors(self) -> dict[str, Tensor]:
        """Moments and the count by name."""
        moments = {"first": self.first, "second": self.second}
        named = {f"{name}.{i}": t for name, group in moments.items() for i, t in enumerate(group)}
        return {"count": self.count, **named}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what :meth:`tensors` gave."""
        with torch.no_grad():
            for name, mine in self.tensors().items():
                mine.copy_(tensors[name])


def _laid_out_like(parameter: Tensor, gradient: Tensor) -> Tensor:
    """The kernel walks through memory and never looks at strides; autograd takes care of them."""
    if gradient.stride() == parameter.stride():
        return gradient
    return torch.empty_like(parameter).copy_(gradient)
