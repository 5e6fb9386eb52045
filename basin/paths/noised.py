"""Down the noise levels of a noise-conditional energy.

    E_t(x) = E(x, sigma(t)),      sigma(t) = ``schedule(t)``, from the largest level to the smallest

Source: Song & Ermon 2019. At t = 1 it is the data blurred by the last level, not the data.
Cost: one energy.
"""

from __future__ import annotations

from dataclasses import dataclass

from basin.core.types import Energy, NoisyEnergy, Path, Schedule
from basin.core.validation import in_unit_interval, positive

__all__ = ["Noised"]


@dataclass(frozen=True, eq=False)
class Noised(Path):
    """``path(t)`` is ``noisy_energy.at(schedule(t))``.

    Args:
        noisy_energy: has ``at(sigma) -> Energy``.
        schedule: sigma along t; ``schedules.Geometric(sigma_max, sigma_min)`` is usual.
    """

    noisy_energy: NoisyEnergy
    schedule: Schedule

    def __post_init__(self) -> None:
        if not hasattr(self.noisy_energy, "at"):
            raise ValueError(
                "noisy_energy must have a method at(sigma), got "
                f"{type(self.noisy_energy).__name__}; see basin.energies.NoiseConditional"
            )

    def __call__(self, t: float, /) -> Energy:
        in_unit_interval(t=t)
        sigma = self.schedule(t)
        positive(sigma=sigma)
        return self.noisy_energy.at(sigma)
