"""Any objective, with the squares of the energies of the data kept small.

    J + weight * E[ E(x)^2 ]

Source: Du & Mordatch 2019, "Implicit generation and modeling with energy-based models", NeurIPS,
section 3.3 (there also on the energies of the samples: contrastive divergence here has an option
of its own for both). It holds the constant that objectives leave free, and bounds how far energies
can run away from zero. It is a bias: the minimiser is p less peaked, the more the larger the
weight; with noise-contrastive estimation, log Z takes up the constant and only the spread is felt.

For a noise-conditional energy the rows are noised, at levels log-uniform over the ladder.

Cost: one more energy a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from basin.core.references import Reference
from basin.core.types import Objective
from basin.core.wrapped import Penalised, penalised_rows
from basin.objectives.noise_contrastive_estimation import NoiseContrastiveEstimation

__all__ = ["EnergyPenalty"]

_INSIDE = NoiseContrastiveEstimation()  # frozen: one serves all


@dataclass(frozen=True)
class EnergyPenalty(Penalised):
    """Adds the mean squared energy of the data to any objective.

    Args:
        objective: the one inside, whose state and facts it has.
        weight: factor on the penalty, positive; 0.01 to 1 in the literature.

    Source: Du & Mordatch 2019, section 3.3.

    Example:
        >>> import basin
        >>> objective = EnergyPenalty(basin.objectives.DenoisingScoreMatching(0.1), weight=0.1)
        >>> objective.uses_score, objective.noise_level(objective.init(None, None))
        (True, 0.1)
    """

    own_meanings: ClassVar[Mapping[str, str]] = {
        "energy_square": "mean of E(x)^2 over the batch, before the weight of the penalty",
    }
    own_references: ClassVar[tuple[Reference, ...]] = (
        Reference(
            "Implicit generation and modeling with energy-based models",
            ("Yilun Du", "Igor Mordatch"),
            2019,
            "https://arxiv.org/abs/1903.08689",
        ),
    )

    objective: Objective = _INSIDE
    weight: float = 0.01

    def penalty(self, energy: Any, x: Tensor, state: Any, generator: torch.Generator) -> Tensor:
        rows, level = penalised_rows(self.objective, x, state, generator)
        return energy(rows, *level).square()
