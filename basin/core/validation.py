"""One wording for errors: the name, the rule, the value and what to do.

Validate once, at construction or on entry; never repair in silence.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = [
    "all_finite",
    "batch_of_energies",
    "floating_point",
    "in_unit_interval",
    "kernel_object",
    "non_negative",
    "one_or_each",
    "positive",
    "positive_integer",
    "real_number",
    "same_event_shape",
    "seed_number",
    "true_false_or_none",
]


def positive(**values: float) -> None:
    """Raise ``ValueError`` unless each value is a finite number above zero.

    >>> positive(step_size=-0.1)
    Traceback (most recent call last):
    ValueError: step_size must be positive, got -0.1
    """
    for name, value in values.items():
        if not (_is_number(value) and math.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be positive, got {value!r}")


def non_negative(**values: float) -> None:
    """Raise ``ValueError`` unless each value is a finite number at or above zero."""
    for name, value in values.items():
        if not (_is_number(value) and math.isfinite(value) and value >= 0):
            raise ValueError(f"{name} must be zero or positive, got {value!r}")


def positive_integer(**values: int) -> None:
    """Raise ``ValueError`` unless each value is a whole number of at least one."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be a positive whole number, got {value!r}")


def one_or_each(name: str, value: Any) -> float | tuple[float, ...]:
    """A number, or a tuple of numbers with one for each coordinate, as settings files write both.

    A list becomes a tuple, and one of a single number that number.

    >>> one_or_each("scale", [2.0]), one_or_each("scale", [1, 2]), one_or_each("scale", 3)
    (2.0, (1.0, 2.0), 3.0)
    """
    values = value if isinstance(value, list | tuple) else (value,)
    if not values or not all(_is_number(v) for v in values):
        raise ValueError(f"{name} must be a number or a list of numbers, got {value!r}")
    numbers = tuple(float(v) for v in values)
    return numbers[0] if len(numbers) == 1 else numbers


def seed_number(**values: int) -> None:
    """Raise ``ValueError`` unless each value is a seed: a whole number from 0 to below 2^62.

    Generators take 64 bits; training doubles its seed, so that batches and noise differ.
    """
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**62:
            raise ValueError(f"{name} must be a whole number from 0 to below 2^62, got {value!r}")


def in_unit_interval(**values: float) -> None:
    """Raise ``ValueError`` unless each value lies in [0, 1]."""
    for name, value in values.items():
        if not (_is_number(value) and 0 <= value <= 1):
            raise ValueError(f"{name} must lie between 0 and 1, got {value!r}")


def real_number(**values: object) -> None:
    """Raise ``TypeError`` unless each value is a number; text that looks like one is not."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            raise TypeError(f"{name} must be a number, got {value!r}")


def true_false_or_none(**values: object) -> None:
    """Raise ``TypeError`` unless each value is True, False or None."""
    for name, value in values.items():
        if not (value is None or isinstance(value, bool)):
            raise TypeError(f"{name} must be True, False or None, got {value!r}")


def floating_point(name: str, x: object) -> None:
    """Raise unless ``x`` is a Tensor of real floating-point numbers: others have no gradient."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{name} must be a Tensor, got {type(x)}; take torch.as_tensor({name})")
    if not x.is_floating_point():
        raise ValueError(
            f"{name} must hold real floating-point numbers, got {x.dtype}; use {name}.float()"
        )


def same_event_shape(name: str, x: Tensor, event_shape: Sequence[int]) -> None:
    """Raise ``ValueError`` unless ``x`` is ``[batch, *event_shape]``."""
    if tuple(x.shape[1:]) != tuple(event_shape) or x.ndim == 0:
        raise ValueError(
            f"{name} must have shape (batch, {', '.join(map(str, event_shape))}), "
            f"got {tuple(x.shape)}"
        )


def all_finite(name: str, x: Tensor) -> None:
    """Raise ``ValueError`` naming the first bad rows when ``x`` holds NaN or infinity."""
    bad = ~torch.isfinite(x).flatten(1).all(dim=1) if x.ndim > 1 else ~torch.isfinite(x)
    if bool(bad.any()):
        rows = torch.nonzero(bad).flatten()
        first = ", ".join(str(int(row)) for row in rows[:5])
        raise ValueError(
            f"{name} must be finite, got NaN or infinity in {len(rows)} of {len(x)} rows "
            f"(first: {first}); drop or fill them first"
        )


def batch_of_energies(energy: object, x: Tensor, values: object) -> Tensor:
    """Return ``values`` if it is one energy a row of ``x``, else say how to mend the energy.

    A ``(batch, 1)`` result would broadcast to a matrix in every loss, so it is refused. So are
    whole numbers, whose score would be zero without a word, and complex ones, which have no order.
    """
    name = type(energy).__name__
    if not isinstance(values, Tensor):
        raise TypeError(f"{name} must return a Tensor of shape (batch,), got {type(values)}")
    if values.shape != x.shape[:1]:
        mend = "; end it with .squeeze(-1)" if values.shape == (len(x), 1) else ""
        mend = "; give one energy a row, not their sum or mean" if values.ndim == 0 else mend
        raise ValueError(
            f"{name} must return one energy a row, shape ({len(x)},), "
            f"got {tuple(values.shape)}{mend}"
        )
    if not values.is_floating_point():
        mend = "return its real part" if values.is_complex() else "compute them without rounding"
        raise ValueError(
            f"{name} must return energies that are real floating-point numbers, got "
            f"{values.dtype}; {mend}"
        )
    return values


def kernel_object(**values: object) -> None:
    """Raise ``TypeError`` unless each value is a kernel, made and not its class."""
    for name, value in values.items():
        is_kernel = hasattr(value, "init") and hasattr(value, "step")
        if not is_kernel or isinstance(value, type):
            raise TypeError(f"{name} must be one of basin.samplers, as MALA(0.1), got {value!r}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
