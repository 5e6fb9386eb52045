"""A posterior as an energy: a prior, and a sum over rows that may be estimated from a few of them.

    E(x) = E_0(x) + sum_i l(x, y_i)                            i = 1, ..., N;  l = -log p(y_i | x)

    stochastic score with n rows i_1, ..., i_n drawn with replacement, for each chain its own:

    s^(x) = -dE_0/dx - N/n sum_j dl(x, y_ij)/dx
    s^(x) = -dE_0/dx - sum_i dl(c, y_i)/dx - N/n sum_j [dl(x, y_ij)/dx - dl(c, y_ij)/dx]

Source: Welling & Teh 2011, equation 4, for the first; Baker, Fearnhead, Fox & Nemeth 2019 (SGLD-CV)
for the second, whose control variate at a ``centre`` c near the mode shrinks the noise with the
distance from it. Both are unbiased for the score; their noise is that of single rows times N.

Cost: N rows for the energy and its score, n (2n with a centre) for a stochastic score, and N once
when a centre is given. Memory: chains x rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from basin.core.gradients import score
from basin.core.references import Reference
from basin.core.validation import all_finite, floating_point, positive_integer
from basin.energies.composed.members import member_energy

__all__ = ["Posterior"]


class Posterior(nn.Module):
    """Parameters x given rows y: ``[chains, *event] -> [chains]``.

    Args:
        prior: energy of x, ``[chains, *event] -> [chains]``.
        row_energy: l, callable ``(x: [chains, *event], rows: [chains, n, *row]) -> [chains, n]``,
            the negative log-likelihood of each row in nats, differentiable in x.
        rows: the data, ``[N, *row]``.
        centre: c, one point ``[*event]`` near the mode; None for no control variate.

    Raises:
        ValueError: rows that are not finite or none; a row energy of another shape when called.

    Example:
        >>> import torch, basin
        >>> rows = torch.tensor([1.0, 2.0, 6.0])
        >>> posterior = Posterior(
        ...     prior=lambda x: 0.5 * x.square().sum(1),                      # x ~ N(0, 1)
        ...     row_energy=lambda x, rows: 0.5 * (rows - x).square(),         # y ~ N(x, 1)
        ...     rows=rows)
        >>> basin.score(posterior, torch.zeros(1, 1))                         # their sum
        tensor([[9.]])
    """

    references: ClassVar[tuple[Reference, ...]] = (
        Reference(
            "Control variates for stochastic gradient MCMC",
            ("Jack Baker", "Paul Fearnhead", "Emily B. Fox", "Christopher Nemeth"),
            2019,
            "https://arxiv.org/abs/1706.05439",
        ),
    )

    rows: Tensor
    centre: Tensor | None
    score_at_centre: Tensor | None

    def __init__(
        self,
        prior: Any,
        row_energy: Callable[[Tensor, Tensor], Tensor],
        rows: Tensor,
        centre: Tensor | None = None,
    ) -> None:
        super().__init__()
        floating_point("rows", rows)
        if rows.ndim == 0 or len(rows) == 0:
            raise ValueError(f"rows must have shape (rows, ...), one at least, got {rows.shape}")
        all_finite("rows", rows)
        self.prior = prior
        self.row_energy = row_energy
        self.register_buffer("rows", rows.detach().clone())
        self.register_buffer("centre", None if centre is None else centre.detach().clone())
        self.register_buffer("score_at_centre", self._score_at_centre())

    def forward(self, x: Tensor) -> Tensor:
        """E(x) with all rows, ``[chains]``."""
        every = self.rows.expand(len(x), *self.rows.shape)
        return member_energy(self.prior, x) + self._row_energies(x, every).sum(dim=1)

    def stochastic_score(self, x: Tensor, batch_size: int, generator: torch.Generator) -> Tensor:
        """An unbiased estimate of s(x), shape of ``x``, from ``batch_size`` rows for each chain."""
        positive_integer(batch_size=batch_size)
        size = (len(x), batch_size)
        places = torch.randint(len(self.rows), size, generator=generator, device=generator.device)
        rows = self.rows[places.to(self.rows.device)]
        factor = len(self.rows) / batch_size
        of_rows = factor * score(lambda x: self._row_energies(x, rows).sum(dim=1), x)
        if self.centre is not None and self.score_at_centre is not None:
            centre = self.centre.to(x).expand_as(x)
            at_centre = score(lambda x: self._row_energies(x, rows).sum(dim=1), centre)
            of_rows = of_rows + self.score_at_centre.to(x) - factor * at_centre
        return score(self.prior, x) + of_rows

    def _score_at_centre(self) -> Tensor | None:
        """Of all rows, without the prior, ``[*event]``."""
        if self.centre is None:
            return None
        every = self.rows.unsqueeze(0)
        of_rows = score(lambda x: self._row_energies(x, every).sum(dim=1), self.centre.unsqueeze(0))
        return of_rows[0]

    def _row_energies(self, x: Tensor, rows: Tensor) -> Tensor:
        values = self.row_energy(x, rows)
        if values.shape != rows.shape[:2]:
            raise ValueError(
                f"row_energy must return one energy for each chain and row, shape "
                f"{tuple(rows.shape[:2])}, got {tuple(values.shape)}"
            )
        return values
