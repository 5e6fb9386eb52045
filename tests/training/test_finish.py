"""log Z as it is settled after training: the value of the top, with the errors of the way down."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from basin.partition.log_z import LogZ
from basin.training.finish import log_z_down_the_ladder


class _Drifting(nn.Module):
    """N(0, 1) blurred to sigma, with log Z(sigma) = slope log sigma."""

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(slope, dtype=torch.float64))

    def forward(self, y: Tensor, sigma: Tensor) -> Tensor:
        variance = 1 + sigma**2
        gaussian = 0.5 * y[:, 0].square() / variance + 0.5 * torch.log(2 * math.pi * variance)
        return gaussian - self.slope * sigma.log()


@pytest.mark.parametrize("slope", [0.3, -0.3])
def test_the_interval_holds_the_error_of_the_top_and_the_drift(
    slope: float, generator: torch.Generator
) -> None:
    """log Z at the top is at one end of its own interval, and it drifts on in that direction."""
    rows = torch.randn(200, 1, generator=generator, dtype=torch.float64)
    bottom, top = 0.1, 10.0
    at_top = slope * math.log(top)  # the truth there
    drift = slope * math.log(bottom / top)
    stated = at_top - math.copysign(0.5, drift)  # off by the whole half width
    claimed = LogZ(stated, 0.25, stated - 0.5, stated + 0.5, 200.0, "importance", "interval")
    found = log_z_down_the_ladder(_Drifting(slope), rows, bottom, top, claimed, generator)
    assert found.log_z == stated
    assert found.lower - 1e-9 <= slope * math.log(bottom) <= found.upper + 1e-9
    assert abs(stated + drift - slope * math.log(bottom)) == pytest.approx(0.5)  # the drift alone
    assert found.standard_error == pytest.approx(math.hypot(0.25, drift), rel=1e-3)


class _Tilted(_Drifting):
    """The same energy tilted by slope y: imperfect, so that the heat equation leaves something out.

    log Z(sigma) = slope^2 (1 + sigma^2) / 2.
    """

    def forward(self, y: Tensor, sigma: Tensor) -> Tensor:
        return super().forward(y, sigma) + self.slope * (sigma.log() + y[:, 0])


@pytest.mark.parametrize("tilt", [0.02, 0.1])
def test_the_standard_error_says_no_less_than_the_interval(
    tilt: float, generator: torch.Generator
) -> None:
    rows = torch.randn(2000, 1, generator=generator, dtype=torch.float64)
    bottom, top = 0.1, 10.0
    stated = 0.5 * tilt**2 * (1 + top**2)
    at_top = LogZ(stated, 0.0, stated, stated, None, "exact", "interval")
    found = log_z_down_the_ladder(_Tilted(tilt), rows, bottom, top, at_top, generator)
    wide = max(found.upper - found.log_z, found.log_z - found.lower)
    assert 1.96 * found.standard_error >= 0.999 * wide
    truth = 0.5 * tilt**2 * (1 + bottom**2)
    assert found.lower <= truth <= found.upper
    assert abs(stated - truth) < 3.9 * found.standard_error
