"""An energy of standardised coordinates, seen in the user's units.

    u = (x - shift) / scale,      E(x) = E_u(u) + sum_i log scale_i

The log-determinant makes it a change of variables: when exp(-E_u) integrates to one, so does
exp(-E). A noise level is that of u: in x the blur is diag(sigma * scale)^2.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from basin.core.gradients import dual_score, score
from basin.core.tensors import num_event_dimensions
from basin.core.validation import all_finite

__all__ = ["Standardised", "core_energy", "restored"]


class Standardised(nn.Module):
    """``energy`` seen through ``u = (x - shift) / scale``; the table's or the images' wrapper.

    Args:
        energy: callable on standardised rows, ``u [batch, *event] -> [batch]``; further arguments
            (a noise level) are passed on.
        shift: a number, or one for each coordinate (the event's shape): the mean of the training
            rows.
        scale: the same for their standard deviation; positive.

    Shift and scale are buffers in float64, rounded to the type of ``x`` only when used.

    Raises:
        ValueError: a scale that is not positive, or a shift that is not finite.

    Example:
        >>> import torch
        >>> energy = Standardised(lambda u: 0.5 * u.square().sum(1), shift=[1.0, 2.0], scale=2.0)
        >>> energy(torch.tensor([[3.0, 2.0]]))          # 1/2 + 2 log 2
        tensor([1.8863])
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, energy: Any, shift: Any, scale: Any) -> None:
        super().__init__()
        shift = torch.as_tensor(shift, dtype=torch.float64).clone()
        scale = torch.as_tensor(scale, dtype=torch.float64).clone()
        all_finite("shift", shift.reshape(-1))
        all_finite("scale", scale.reshape(-1))
        if not bool((scale > 0).all()):
            raise ValueError(f"scale must be positive, got {scale.min().item()} among its values")
        if shift.ndim and scale.ndim and shift.shape != scale.shape:
            raise ValueError(
                f"shift and scale must be numbers or of one shape, got {tuple(shift.shape)} "
                f"and {tuple(scale.shape)}"
            )
        self.energy = energy
        self.register_buffer("shift", shift)
        self.register_buffer("scale", scale)

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one row, from shift or scale, else that of the inner energy."""
        if self.shift.ndim or self.scale.ndim:
            return tuple(torch.broadcast_shapes(self.shift.shape, self.scale.shape))
        return self.energy.event_shape

    @property
    def log_scale(self) -> Tensor:
        """Sum over the event of log scale, in nats: E(x) = E_u(u) + log_scale."""
        return self._log_scale(torch.Size(self.event_shape).numel())

    def standardise(self, x: Tensor) -> Tensor:
        """``u = (x - shift) / scale``, ``[batch, *event]``."""
        if self.shift.ndim or self.scale.ndim:
            self._check(x)
        return (x - self.shift.to(x)) / self.scale.to(x)

    def restore(self, u: Tensor) -> Tensor:
        """``x = shift + scale * u``: standardised rows back in the user's units."""
        return self.shift.to(u) + self.scale.to(u) * u

    def forward(self, x: Tensor, *conditions: Any) -> Tensor:
        """E(x), ``[batch]``, log-determinant included."""
        log_scale = self._log_scale(num_event_dimensions(x))
        return self.energy(self.standardise(x), *conditions) + log_scale.to(x)

    def score(self, x: Tensor, *conditions: Any) -> Tensor:
        """-dE/dx = s_u(u) / scale, from the inner closed form where there is one."""
        u = self.standardise(x)
        if conditions and hasattr(self.energy, "score"):
            inner = self.energy.score(u, *conditions)
        else:
            inner = score(
                (lambda v: self.energy(v, *conditions)) if conditions else self.energy,
                u,
                create_graph=torch.is_grad_enabled(),
            )
        return inner / self.scale.to(x)

    def dual_score(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """(-dE/dx, -dE/d log sigma); sigma is the noise of the standardised coordinates."""
        in_space, in_noise = dual_score(
            self.energy, self.standardise(x), sigma, create_graph=torch.is_grad_enabled()
        )
        return in_space / self.scale.to(x), in_noise

    def at(self, sigma: float) -> Standardised:
        """The energy at one noise level of the standardised coordinates, in the user's units."""
        return Standardised(self.energy.at(sigma), self.shift, self.scale)

    def sample_base(self, n: int, generator: torch.Generator) -> Tensor:
        """Draws of the inner energy's base law, in the user's units."""
        if not hasattr(self.energy, "sample_base"):
            raise ValueError(
                f"{type(self.energy).__name__} has no base law to start chains from; "
                "give the starting points x0"
            )
        return self.restore(self.energy.sample_base(n, generator))

    def _log_scale(self, num_coordinates: int) -> Tensor:
        repeats = num_coordinates / self.scale.numel()
        return self.scale.log().sum() * repeats

    def _check(self, x: Tensor) -> None:
        expected = self.event_shape
        if tuple(x.shape[1:]) != expected:
            raise ValueError(
                f"Standardised takes x of shape (batch, {', '.join(map(str, expected))}), the "
                f"columns it was fitted on, got {tuple(x.shape)}"
            )


def core_energy(energy: Any) -> Any:
    """The energy in the model's coordinates: what a ``Standardised`` one holds, else itself.

    Example:
        >>> inner = lambda u: 0.5 * u.square().sum(1)
        >>> core_energy(Standardised(inner, 0.0, 2.0)) is inner, core_energy(inner) is inner
        (True, True)
    """
    return energy.energy if isinstance(energy, Standardised) else energy


def restored(energy: Any, rows: Tensor) -> Tensor:
    """Rows of the model's coordinates in the user's units, shape of ``rows``.

    Example:
        >>> restored(Standardised(lambda u: u.sum(1), 1.0, 2.0), torch.ones(1, 2))
        tensor([[3., 3.]])
    """
    return energy.restore(rows) if isinstance(energy, Standardised) else rows
