"""Adam with explicit state, on PyTorch's fused kernel.

    m <- b1 m + (1 - b1) g,   v <- b2 v + (1 - b2) g^2
    w <- w - rate m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + 1e-8)

Source: Kingma & Ba 2015, algorithm 1, by the kernel of ``torch.optim.Adam(fused=True)`` (a test
holds the two to the same bits). That class adds hooks, groups, checks and a count for every
parameter at each step, which cost a small network more than the arithmetic; here t is one count.

:func:`adam_update` and :func:`clipped` are the same two lines as pure functions, for a graph that
holds the whole step (``basin.training.step``): equal to the kernel to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from basin.core.tensors import laid_out

__all__ = ["Adam", "adam_update", "clipped"]

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
            # The kernel walks through memory; autograd takes care of strides.
            [laid_out(g, p.stride()) for p in self.parameters if (g := p.grad) is not None],
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


def clipped(gradients: list[Tensor], limit: Tensor) -> tuple[list[Tensor], Tensor]:
    """The gradients scaled down together to norm ``limit`` (``[]``), and the norm that they had.

    Example:
        >>> clipped([torch.tensor([3.0]), torch.tensor([4.0])], torch.tensor(1.0))
        ([tensor([0.6000]), tensor([0.8000])], tensor(5.))
    """
    if not gradients:
        return [], torch.zeros_like(limit)
    norm = torch.linalg.vector_norm(torch.stack([g.norm() for g in gradients]))
    factor = torch.where(norm > limit, limit / norm, 1.0)
    return [gradient * factor for gradient in gradients], norm


def adam_update(
    parameter: Tensor,
    gradient: Tensor,
    first: Tensor,
    second: Tensor,
    count: Tensor,
    rate: Tensor,
    betas: tuple[float, float],
) -> tuple[Tensor, Tensor, Tensor]:
    """``(w, m, v)`` after step t = ``count`` (from 1) down ``gradient``.

    Example:
        >>> w, zero, one = torch.tensor([1.0]), torch.tensor([0.0]), torch.tensor(1.0)
        >>> rate, betas = torch.tensor(0.1), (0.9, 0.99)
        >>> adam_update(w, torch.tensor([7.0]), zero, zero, one, rate, betas)[0]  # a step of 0.1
        tensor([0.9000])
    """
    first = first + (1 - betas[0]) * (gradient - first)
    second = betas[1] * second + (1 - betas[1]) * gradient * gradient
    count, rate = count.to(parameter.dtype), rate.to(parameter.dtype)
    rate = rate / _one_less_power(betas[0], count)
    root = _one_less_power(betas[1], count).sqrt()
    return parameter - rate * first / (second.sqrt() / root + _EPSILON), first, second


def _one_less_power(beta: float, count: Tensor) -> Tensor:
    """``1 - beta^t``, to the last digit of float32 too, where ``beta^t`` is nearly one."""
    return -torch.expm1(count * math.log(beta)) if beta else torch.ones_like(count)
