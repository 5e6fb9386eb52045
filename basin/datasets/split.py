"""Which rows are held out: validation and test, before anything is computed from the data.

A uniformly random set of rows, from ``seed`` alone. The training part is everything else. It needs
no list of its own: with g_j = L_j - j for the sorted left-out rows L_0 < L_1 < ...,

    row(p) = p + #{j : g_j <= p}

is the p-th row that is not left out, so 10^8 rows split in the memory of the rows held out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from basin.core.validation import positive_integer, real_number, seed_number

__all__ = ["Split", "check_held_out", "split_rows"]

PERMUTE_UP_TO = 1_000_000
"""Below this a whole permutation is drawn; above, row numbers until enough differ."""


@dataclass(frozen=True, eq=False)
class Split:
    """Row numbers of the parts; ``validation`` and ``test`` in random order.

    Attributes:
        num_rows: rows in all.
        validation: row numbers, ``[v]`` of int64.
        test: row numbers, ``[t]`` of int64.
        seed: what they were drawn from.
    """

    num_rows: int
    validation: Tensor
    test: Tensor
    seed: int

    @property
    def num_train(self) -> int:
        """Rows in the training part."""
        return self.num_rows - len(self.validation) - len(self.test)

    @property
    def held_out(self) -> Tensor:
        """Sorted row numbers of validation and test together."""
        return torch.cat([self.validation, self.test]).sort().values

    def train(self) -> Tensor:
        """Row numbers of the training part in random order; 8 bytes a row."""
        generator = torch.Generator().manual_seed(self.seed + 1)
        order = torch.randperm(self.num_train, generator=generator)
        return kept_row(order, self.held_out)


def split_rows(
    num_rows: int,
    *,
    validation_fraction: float = 0.1,
    test_fraction: float = 0.1,
    seed: int = 0,
    max_held_out: int = 10_000,
) -> Split:
    """Hold out a random part of ``num_rows`` rows for validation and another for test.

    Args:
        num_rows: rows in all, at least 2.
        validation_fraction: share of the rows, in [0, 1); 0 holds none out.
        test_fraction: the same for the test part; the two must leave at least 2 training rows.
        seed: same seed, same rows.
        max_held_out: neither part is larger than this, whatever the fraction.

    Raises:
        TypeError: a fraction that is no number.
        ValueError: when a fraction that is not 0 would be no row, or training has under 2 rows.

    Example:
        >>> split = split_rows(10, seed=3)
        >>> len(split.validation), len(split.test), split.num_train
        (1, 1, 8)
    """
    check_held_out(validation_fraction, test_fraction, max_held_out, seed)
    sizes = []
    for name, fraction in (
        ("validation_fraction", validation_fraction),
        ("test_fraction", test_fraction),
    ):
        size = min(int(num_rows * fraction + 0.5), max_held_out)
        if size == 0 and fraction > 0 and num_rows > 1:
            raise ValueError(
                f"{name} must make at least one row, got {fraction} of {num_rows} rows: "
                f"give more rows, a larger {name}, or 0 to hold none out"
            )
        sizes.append(size)
    held_out = sum(sizes)
    if num_rows - held_out < 2:
        raise ValueError(
            f"training needs at least 2 rows, got {max(num_rows - held_out, 0)} of {num_rows} "
            f"(validation_fraction={validation_fraction}, test_fraction={test_fraction}): "
            "give more rows, or hold fewer out"
        )
    rows = _distinct(num_rows, held_out, torch.Generator().manual_seed(seed))
    return Split(num_rows, rows[: sizes[0]], rows[sizes[0] :], seed)


def check_held_out(
    validation_fraction: object, test_fraction: object, max_held_out: Any, seed: Any
) -> None:
    """Raise ``TypeError`` or ``ValueError`` for what can be seen before a row is read."""
    fractions = {"validation_fraction": validation_fraction, "test_fraction": test_fraction}
    for name, fraction in fractions.items():
        real_number(**{name: fraction})
        if not 0 <= float(fraction) < 1:  # type: ignore[arg-type]
            raise ValueError(f"{name} must be at least 0 and below 1, got {fraction!r}")
    positive_integer(max_held_out=max_held_out)
    seed_number(seed=seed)


def kept_row(position: Tensor, left_out: Tensor) -> Tensor:
    """Row number of each ``position`` among the rows that are not in the sorted ``left_out``."""
    if len(left_out) == 0:
        return position
    kept_before = left_out.numpy() - np.arange(len(left_out))
    # NumPy's search: torch's starts its threads for a few hundred numbers, at ms on a busy machine
    skipped = np.searchsorted(kept_before, position.numpy(), side="right")
    return position + torch.from_numpy(skipped)


def leave_out(part: NDArray[Any], start: int, left_out: Tensor) -> NDArray[Any]:
    """A copy of ``part`` without the sorted rows ``left_out``; its first row is row ``start``."""
    low, high = np.searchsorted(left_out.numpy(), [start, start + len(part)]).tolist()
    cuts = (left_out[low:high] - start).tolist()
    pieces = zip([0, *(cut + 1 for cut in cuts)], [*cuts, len(part)], strict=True)
    return np.concatenate([part[begin:end] for begin, end in pieces])


def _distinct(num_rows: int, count: int, generator: torch.Generator) -> Tensor:
    """``count`` different row numbers, every set equally likely, in random order."""
    if num_rows <= PERMUTE_UP_TO:
        return torch.randperm(num_rows, generator=generator)[:count]
    drawn = np.empty(0, dtype=np.int64)
    while len(drawn) < count:
        more = torch.randint(num_rows, (count + 16,), generator=generator).numpy()
        drawn = np.concatenate([drawn, more])
        _, first = np.unique(drawn, return_index=True)
        drawn = drawn[np.sort(first)]
    return torch.from_numpy(drawn[:count])
