"""What every check returns: a number, its error, what a perfect model would get, and about what.

A score without these is a riddle: 0.02 nats may be noise, and an energy trained by denoising
models the blurred data pσ, not the data p.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

__all__ = ["About", "Estimate"]


@dataclass(frozen=True)
class About:
    """What a number is about.

    Args:
        density: ``"p"``, the data, ``"p_sigma"``, the data blurred by N(0, sigma² I), or
            ``"p_corrupted"``, whole numbers of which some were replaced.
        sigma: the noise level of ``"p_sigma"``, in the coordinates of the model.
        weights: which weights of the run were used, ``"ema"`` or ``"raw"``.
    """

    density: Literal["p", "p_sigma", "p_corrupted"] = "p"
    sigma: float | None = None
    weights: str | None = None

    def __post_init__(self) -> None:
        if self.density not in ("p", "p_sigma", "p_corrupted"):
            raise ValueError(
                f"density must be 'p', 'p_sigma' or 'p_corrupted', got {self.density!r}"
            )


@dataclass(frozen=True)
class Estimate:
    """The result of one check.

    Args:
        value: the estimate.
        standard_error: statistical, or for a quadrature numerical, error of ``value``.
        floor: what a perfect model would get.
        p_value: probability, under ``null``, of a value at least as extreme.
        n: sample size.
        meaning: one sentence on what ``value`` is, in words and units.
        about: which density, noise level and weights.
        null: the null hypothesis of ``p_value``, in words.
        details: other numbers of the same check, plain values.

    Example:
        >>> print(Estimate(0.0213, 0.0004, 0.0, None, 5000, "KL divergence in nats"))
        0.0213 ± 0.0004 (perfect: 0) KL divergence in nats, n = 5000
    """

    value: float
    standard_error: float | None
    floor: float | None
    p_value: float | None
    n: int | None
    meaning: str
    about: About = About()
    null: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    def __float__(self) -> float:
        return self.value

    def __str__(self) -> str:
        text = f"{self.value:.4g}"
        if self.standard_error is not None:
            text += f" ± {self.standard_error:.1g}"
        if self.floor is not None:
            text += f" (perfect: {self.floor:.4g})"
        text += f" {self.meaning}"
        if self.p_value is not None:
            text += f", p = {self.p_value:.3g}"
        return text if self.n is None else f"{text}, n = {self.n}"

    def to_json(self) -> dict[str, Any]:
        """Plain values for ``evaluation.json``; what is not finite becomes ``None``."""
        return _plain(asdict(self))

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Estimate:
        """The inverse of :meth:`to_json`; a missing value comes back as NaN."""
        values = dict(values)
        if values["value"] is None:
            values["value"] = math.nan
        return cls(**{**values, "about": About(**values["about"])})


def _plain(value: Any) -> Any:
    """``value`` in types that JSON has."""
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
