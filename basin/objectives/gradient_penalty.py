"""Any objective, with the slope of the energy at the data kept small.

    J + weight * E[ || grad E(x) ||^2 ]

Source: Mescheder, Geiger & Nowozin 2018, "Which training methods for GANs do actually converge?",
ICML, eq. 9 (R1, there with a factor 1/2); for energies Kumar et al. 2019, "Maximum entropy
generators for energy-based models". It keeps the landscape smooth where the data are, so that
samplers can follow it. It is a bias: the minimiser is p smoothed, the more the larger the weight.

For a noise-conditional energy the rows are noised, at levels log-uniform over the ladder.

Cost: one score with its parameter gradient a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from basin.core.gradients import score
from basin.core.references import Reference
from basin.core.tensors import event_sum
from basin.core.types import Objective
from basin.core.wrapped import Penalised, penalised_rows
from basin.objectives.noise_contrastive_estimation import NoiseContrastiveEstimation

__all__ = ["GradientPenalty"]

_INSIDE = NoiseContrastiveEstimation()  # frozen: one serves all


@dataclass(frozen=True)
class GradientPenalty(Penalised):
    """Adds the mean squared norm of the energy's gradient at the data to any objective.

    Args:
        objective: the one inside, whose state and facts it has; not one for discrete rows.
        weight: factor on the penalty, positive.

    Source: Mescheder, Geiger & Nowozin 2018, eq. 9, without its factor 1/2; Kumar et al. 2019.

    Example:
        >>> import basin
        >>> GradientPenalty(basin.objectives.DenoisingScoreMatching(0.1), weight=0.1).mixes_rows
        True
    """

    own_meanings: ClassVar[Mapping[str, str]] = {
        "gradient_square": "mean of ||grad E(x)||^2 over the batch, before the weight of the "
        "penalty",
    }
    own_references: ClassVar[tuple[Reference, ...]] = (
        Reference(
            "Which training methods for GANs do actually converge?",
            ("Lars Mescheder", "Andreas Geiger", "Sebastian Nowozin"),
            2018,
            "https://arxiv.org/abs/1801.04406",
        ),
        Reference(
            "Maximum entropy generators for energy-based models",
            ("Rithesh Kumar", "Sherjil Ozair", "Anirudh Goyal", "Aaron Courville", "Yoshua Bengio"),
            2019,
            "https://arxiv.org/abs/1901.08508",
        ),
    )

    objective: Objective = _INSIDE
    weight: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.objective.support == "discrete":
            raise ValueError(
                "objective must be for rows with gradients, got "
                f"{type(self.objective).__name__} for discrete ones; take EnergyPenalty"
            )

    def penalty(self, energy: Any, x: Tensor, state: Any, generator: torch.Generator) -> Tensor:
        rows, level = penalised_rows(self.objective, x, state, generator)

        def at_level(points: Tensor) -> Tensor:
            return energy(points, *level)

        # The energy itself where it can be: it may have its score in closed form.
        s = score(at_level if level else energy, rows, create_graph=True)
        return event_sum(s.square())
