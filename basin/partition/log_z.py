"""What every estimate of a partition function returns: the number and how far to trust it.

    log Z = log ∫ exp(-E(x)) dx        in nats

One type for all methods, because a log Z without its error is not an answer: a quadrature is exact
to a stated numerical error, importance sampling gives a confidence interval, annealed importance
sampling gives bounds that hold in expectation only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from basin.core.validation import positive

__all__ = ["LogZ", "LogZNotEstimated"]

NORMAL_95 = 1.959964
"""Two-sided 95% quantile of the standard normal."""

_KINDS = ("exact", "interval", "bounds")


class LogZNotEstimated(RuntimeError):
    """A method was run and its answer would mean nothing; the message says why and what to do."""


@dataclass(frozen=True)
class LogZ:
    """An estimate of log Z in nats.

    Args:
        log_z: the estimate.
        standard_error: its standard error; 0 for a quadrature, ``nan`` when nobody has checked.
        lower, upper: the range of ``kind``; infinite where nothing bounds it.
        effective_sample_size: of the importance weights, where there are some.
        method: how it was found, in words.
        kind: ``"exact"``: up to a numerical error, which ``lower`` and ``upper`` enclose;
            ``"interval"``: a confidence interval of probability ``level``;
            ``"bounds"``: stochastic bounds, below and above log Z in expectation only.
        level: probability of an interval.

    Example:
        >>> print(LogZ(1.234, 0.005, 1.224, 1.244, 812.0, "importance sampling", "interval"))
        log Z = 1.234 ± 0.005 (importance sampling, 95% interval 1.224 to 1.244, effective sample size 812)
        >>> print(LogZ(1.2345678, 0.0, 1.2345, 1.2346, None, "quadrature", "exact"))
        log Z = 1.2346 (quadrature, exact to 7e-05)
    """  # noqa: E501

    log_z: float
    standard_error: float
    lower: float
    upper: float
    effective_sample_size: float | None
    method: str
    kind: Literal["exact", "interval", "bounds"]
    level: float = 0.95

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise ValueError(f"kind must be one of {', '.join(_KINDS)}, got {self.kind!r}")
        if self.lower > self.log_z or self.upper < self.log_z:
            raise ValueError(
                f"log_z must lie between lower and upper, got {self.log_z!r} outside "
                f"[{self.lower!r}, {self.upper!r}]"
            )

    @classmethod
    def unchecked(cls, log_z: float, method: str) -> LogZ:
        """A value that no quadrature and no sampling has checked: error unknown, no bounds."""
        return cls(log_z, math.nan, -math.inf, math.inf, None, method, "interval")

    @property
    def is_checked(self) -> bool:
        """Whether the error is known."""
        return math.isfinite(self.standard_error)

    @property
    def error(self) -> float:
        """Half width of the range, the larger side when they differ."""
        return max(self.upper - self.log_z, self.log_z - self.lower)

    def within(self, tolerance: float) -> LogZ:
        """This value, if its range reaches at most ``tolerance`` nats to either side.

        Raises:
            LogZNotEstimated: it does not, or nobody has checked it; says what to raise.

        Example:
            >>> LogZ(0.0, 0.1, -0.2, 0.2, None, "annealing", "interval").within(0.1)
            Traceback (most recent call last):
            basin.partition.log_z.LogZNotEstimated: log Z must be known to 0.1 nats ...
        """
        positive(tolerance=tolerance)
        if self.error <= tolerance and self.is_checked:
            return self
        known = f"it reaches from {self.lower:.3f} to {self.upper:.3f}"
        if not self.is_checked:
            known = "nobody has checked it"
        raise LogZNotEstimated(
            f"log Z must be known to {tolerance:g} nats, got log Z = {self.log_z:.3f} by "
            f"{self.method}: {known}; estimate it again with more (num_particles or num_chains of "
            "smc, num_times of ais, max_evaluations of quadrature), or raise tolerance"
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON file; what is not finite becomes ``None``."""
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in asdict(self).items()
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> LogZ:
        """The inverse of :meth:`to_json`."""
        values = dict(values)
        for name, unknown in (
            ("log_z", math.nan),
            ("standard_error", math.nan),
            ("lower", -math.inf),
            ("upper", math.inf),
        ):
            if values.get(name) is None:
                values[name] = unknown
        return cls(**values)

    def __str__(self) -> str:
        """One line for people: the value, its error and what kind of error that is."""
        if not self.is_checked:
            return f"log Z = {self.log_z:.3f} ({self.method}, unchecked)"
        if self.kind == "exact":
            if not math.isfinite(self.upper):
                below = self.log_z - self.lower
                return (
                    f"log Z = {self.log_z:.4f} ({self.method}, exact to {below:.0e} inside the "
                    "box; outside it exp(-E) does not fall off, so that Z may be infinite)"
                )
            return f"log Z = {self.log_z:.4f} ({self.method}, exact to {self.error:.0e})"
        what = f"{self.level:.0%} interval" if self.kind == "interval" else "bounds in expectation"
        text = (
            f"log Z = {self.log_z:.3f} ± {self.standard_error:.3f} "
            f"({self.method}, {what} {self.lower:.3f} to {self.upper:.3f}"
        )
        if self.effective_sample_size is not None:
            text += f", effective sample size {self.effective_sample_size:.0f}"
        return text + ")"
