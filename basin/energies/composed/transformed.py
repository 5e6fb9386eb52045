"""An energy on a constrained space, seen from an unconstrained one.

    x = T(u),      E_u(u) = E(T(u)) - log |det dT/du|

Change of variables: if u has the law exp(-E_u) / Z then x = T(u) has exp(-E) / Z, with the same Z.
Without the determinant it would not. T is a bijection of ``torch.distributions.transforms``; for a
constraint (positive numbers, a box, a simplex) PyTorch has a standard one.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.distributions import biject_to
from torch.distributions.constraints import Constraint
from torch.distributions.transforms import Transform

from basin.core.tensors import event_sum
from basin.energies.composed.members import member_energy

__all__ = ["Transformed"]


class Transformed(nn.Module):
    """``energy`` of x = T(u) as an energy of u: ``[batch, *event of u] -> [batch]``.

    Any kernel samples it without walls; ``restore`` gives the draws in the user's coordinates. A
    simplex of d numbers has a u of d - 1, and densities on it are with respect to its first d - 1.

    Args:
        energy: any energy, asked for values inside the constraint only.
        transform: a bijection T from ``torch.distributions.transforms`` (``ExpTransform()``, ...).

    Raises:
        TypeError: it is not a transform.
        ValueError: it is not a bijection, so that it has no determinant.

    Example:
        >>> import torch, basin
        >>> gamma = Transformed.onto(torch.distributions.constraints.positive,
        ...                          lambda x: (x - 1.5 * x.log()).sum(1))
        >>> chains = basin.sample(
        ...     gamma, basin.samplers.MALA(0.5), torch.zeros(2_000, 1), num_steps=50, keep="last")
        >>> 2.3 < float(gamma.restore(chains.last).mean()) < 2.7
        True
    """

    def __init__(self, energy: Any, transform: Transform) -> None:
        super().__init__()
        if not isinstance(transform, Transform):
            raise TypeError(
                "transform must be one of torch.distributions.transforms, as ExpTransform(), got "
                f"{transform!r}"
            )
        if not transform.bijective:
            raise ValueError(f"transform must be a bijection, got {transform!r}")
        self.energy = energy
        self.transform: Any = transform

    @classmethod
    def onto(cls, constraint: Constraint, energy: Any) -> Transformed:
        """With PyTorch's own bijection onto a constraint of ``torch.distributions.constraints``.

        ``positive`` takes the exponential, ``interval(a, b)`` the logistic function, ``simplex``
        stick breaking.
        """
        return cls(energy, biject_to(constraint))

    def restore(self, u: Tensor) -> Tensor:
        """x = T(u): draws in the user's coordinates."""
        return self.transform(u)

    def unconstrain(self, x: Tensor) -> Tensor:
        """u with T(u) = x: where a chain at x starts."""
        return self.transform.inv(x)

    def forward(self, u: Tensor) -> Tensor:
        """E(T(u)) - log |det dT/du|, ``[batch]``."""
        x = self.transform(u)
        log_determinant = self.transform.log_abs_det_jacobian(u, x)
        return member_energy(self.energy, x) - event_sum(log_determinant)
