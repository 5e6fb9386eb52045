"""Repeated rows are found whatever the shape of the table."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from basin.datasets.duplicates import _hash, num_repeated
from basin.datasets.rows import TensorRows


@pytest.mark.parametrize("width", [1, 2, 3_000])
def test_repeated_rows_are_counted(width):
    """The widest has fewer rows than columns, the others more."""
    train = torch.arange(6.0)[:, None].expand(6, width).contiguous()
    held_out = train[[1, 4, 4, 5]].clone()
    held_out[3, -1] = 7.0  # the mutant: one number off in the last column
    assert num_repeated(TensorRows(train), held_out) == 3


def test_a_row_has_one_hash_beside_few_rows_and_beside_many():
    """Few rows are summed row by row, many column by column."""
    random = np.random.default_rng(0)
    bits = random.integers(0, 2**32, size=(50, 20), dtype=np.uint32)
    multipliers = random.integers(1, 2**63, size=21, dtype=np.uint64)
    together = _hash(bits, multipliers)
    alone = [_hash(row[None], multipliers).item() for row in bits]
    exact = [
        (sum(int(b) * int(m) for b, m in zip(row, multipliers[:-1])) + int(multipliers[-1])) % 2**64
        for row in bits
    ]
    assert together.tolist() == alone == exact
