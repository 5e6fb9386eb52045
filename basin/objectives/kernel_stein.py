"""Kernel Stein discrepancy between the data and the model's score, as a training loss.

    J = E_{x, y ~ p} u(x, y)
    u = s(x)'s(y) k + s(x)'grad_y k + s(y)'grad_x k + tr grad_x grad_y' k        s = -dE/dx

Source: Liu, Lee & Jordan 2016, "A kernelized Stein discrepancy for goodness-of-fit tests",
theorem 3.6 and eqs. 14 (U-statistic) and 15 (V-statistic); Chwialkowski, Strathmann & Gretton
2016; the inverse multiquadric kernel is Gorham & Mackey's (2017).
About p itself, no noise added:

    J = E_{x, y ~ p} d(x)' k(x, y) d(y) >= 0,   d = s - grad log p; zero where s is p's score.

Compared with exact score matching, errors d are weighed through k: an error of one sign over a
bandwidth counts, one that swings inside it does not, and no second derivative is asked for.

Cost: one score with its parameter gradient at each row, and n^2 kernel values for n rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from basin.core.gradients import score
from basin.core.kernels import RADIAL_KERNELS, distance_quantile, stein_row_means
from basin.core.references import Reference
from basin.core.types import Loss, Objective
from basin.core.validation import positive
from basin.objectives.meanings import scores_are_blind

__all__ = ["KernelStein", "KernelSteinState", "kernel_stein"]

_STATISTICS = ("u", "v")
_QUANTILES = {"median": 0.5, "auto": 0.02}  # share of the pairs that lie within the bandwidth


def kernel_stein(
    energy: Any,
    x: Tensor,
    *,
    bandwidths: Sequence[float],
    kernel: Literal["imq", "gaussian"] = "gaussian",
    statistic: Literal["u", "v"] = "u",
) -> Tensor:
    """For each row the mean of u(x_i, x_j) over the other rows, ``[batch]``; its mean is J.

    Args:
        energy: callable ``[batch, *event] -> [batch]``.
        x: data, ``[batch, *event]``, two rows or more for the U-statistic.
        bandwidths: lengths h in the units of x, whose kernels are averaged.
        kernel: "imq", (1 + r^2/h^2)^(-1/2), or "gaussian", exp(-r^2/(2 h^2)).
        statistic: "u" leaves the pairs j = i out: unbiased, and may be negative; "v" takes them
            in: never negative, larger by (E[u(x, x)] - J) / batch on average.

    Source: Liu, Lee & Jordan 2016, eqs. 14 and 15. Differentiable in the parameters.

    Example:
        >>> import torch, basin
        >>> g = torch.Generator().manual_seed(0)
        >>> x = torch.randn(2000, 1, generator=g)
        >>> right, wide = (lambda x, v=v: x[:, 0] ** 2 / (2 * v) for v in (1.0, 9.0))
        >>> loss = lambda energy: basin.objectives.kernel_stein(energy, x, bandwidths=(1.0,))
        >>> [round(abs(loss(energy).mean().item()), 2) for energy in (right, wide)]
        [0.0, 0.15]
    """
    loss, _ = _row_means(energy, x, bandwidths, kernel, statistic)
    return loss


class KernelSteinState(NamedTuple):
    """The bandwidths in use, and why; empty when they were given."""

    bandwidths: tuple[float, ...]
    why: str


@dataclass(frozen=True)
class KernelStein(Objective):
    """Kernel Stein discrepancy to the data itself: no noise, no sampling, no second derivatives.

    Args:
        kernel: "imq" (heavy tails) or "gaussian".
        bandwidth: a length in the model's coordinates, or settled once from the data: "median",
            the median distance between two rows, or "auto", the distance within which a row finds
            one other in fifty. The median, common in tests, is too coarse to learn fine detail.
        multiples: the kernel is averaged over these multiples of the bandwidth.
        statistic: "u" (unbiased, two rows a batch or more) or "v" (never negative).

    Source: Liu, Lee & Jordan 2016, eqs. 14 and 15; Gorham & Mackey 2017 for "imq".
    """

    uses_score: ClassVar[bool] = True
    needs_noise_level: ClassVar[bool] = False
    normalises: ClassVar[bool] = False
    mixes_rows: ClassVar[bool] = True
    meanings: ClassVar[Mapping[str, str]] = {
        "discrepancy": "squared kernel Stein discrepancy between data and model; zero is perfect, "
        "and the U-statistic scatters around it",
        "trivial": "what the trivial predictor (score zero) scores on the same rows",
    }
    references: ClassVar[tuple[Reference, ...]] = (
        Reference(
            "A kernelized Stein discrepancy for goodness-of-fit tests",
            ("Qiang Liu", "Jason D. Lee", "Michael Jordan"),
            2016,
            "https://arxiv.org/abs/1602.03253",
        ),
        Reference(
            "A kernel test of goodness of fit",
            ("Kacper Chwialkowski", "Heiko Strathmann", "Arthur Gretton"),
            2016,
            "https://arxiv.org/abs/1602.02964",
        ),
        Reference(
            "Measuring sample quality with kernels",
            ("Jackson Gorham", "Lester Mackey"),
            2017,
            "https://arxiv.org/abs/1703.01717",
        ),
    )

    kernel: Literal["imq", "gaussian"] = "gaussian"
    bandwidth: float | Literal["auto", "median"] = "auto"
    multiples: tuple[float, ...] = (1.0,)
    statistic: Literal["u", "v"] = "u"

    def __post_init__(self) -> None:
        _require_choices(self.kernel, self.statistic)
        if isinstance(self.bandwidth, str):
            if self.bandwidth not in _QUANTILES:
                raise ValueError(
                    f"bandwidth must be positive or one of {', '.join(_QUANTILES)}, "
                    f"got {self.bandwidth!r}"
                )
        else:
            positive(bandwidth=self.bandwidth)
        _require_lengths("multiples", self.multiples)

    def init(self, x: Tensor, generator: torch.Generator) -> KernelSteinState:
        if not isinstance(self.bandwidth, str):
            return KernelSteinState(self._multiplied(self.bandwidth), "")
        quantile = _QUANTILES[self.bandwidth]
        unit = distance_quantile(x.flatten(1), generator, quantile=quantile)
        lengths = ", ".join(f"{bandwidth:.3g}" for bandwidth in self._multiplied(unit))
        why = f"kernel bandwidth {lengths}: within {unit:.3g} lie {quantile:.0%} of the pairs"
        return KernelSteinState(self._multiplied(unit), why)

    def _multiplied(self, unit: float) -> tuple[float, ...]:
        return tuple(multiple * unit for multiple in self.multiples)

    def __call__(
        self, energy: Any, x: Tensor, state: KernelSteinState, generator: torch.Generator
    ) -> Loss:
        del generator
        rows, trivial = _row_means(energy, x, state.bandwidths, self.kernel, self.statistic)
        value = rows.mean()
        terms = {"discrepancy": value.detach(), "trivial": trivial.mean()}
        return Loss(value, terms, state)

    def noise_level(self, state: KernelSteinState) -> None:
        return None

    def explain(self, state: KernelSteinState) -> str:
        return state.why

    def blindness(self, state: KernelSteinState) -> str:
        return scores_are_blind("at the data, however far its kernel reaches,")


def _row_means(
    energy: Any, x: Tensor, bandwidths: Sequence[float], kernel: str, statistic: str
) -> tuple[Tensor, Tensor]:
    _require_choices(kernel, statistic)
    _require_lengths("bandwidths", bandwidths)
    if statistic == "u" and len(x) < 2:
        raise ValueError(
            f"x must have two rows or more for the U-statistic, got {len(x)}; take statistic='v'"
        )
    s = score(energy, x, create_graph=True).flatten(1)
    flat = x.detach().flatten(1)
    flat = flat - flat.mean(dim=0)  # u depends on differences only: fewer digits are lost
    with_diagonal = statistic == "v"
    return stein_row_means(flat, s, RADIAL_KERNELS[kernel], bandwidths, with_diagonal=with_diagonal)


def _require_choices(kernel: str, statistic: str) -> None:
    if kernel not in RADIAL_KERNELS:
        raise ValueError(f"kernel must be one of {', '.join(RADIAL_KERNELS)}, got {kernel!r}")
    if statistic not in _STATISTICS:
        raise ValueError(f"statistic must be one of {', '.join(_STATISTICS)}, got {statistic!r}")


def _require_lengths(name: str, lengths: Sequence[float]) -> None:
    if len(lengths) == 0:
        raise ValueError(f"{name} must name at least one length, got {lengths!r}")
    for length in lengths:
        positive(**{name: length})
