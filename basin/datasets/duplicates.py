"""How many held-out rows also stand in the training part: they make a test score look too good.

Rows are compared bit for bit as float32 (0 and -0 alike). Training rows stream by; a multilinear
64-bit hash, and a table of its first bits, leave few to compare in full, and a row that was found
is not looked for again.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from basin.datasets.raw import chunks
from basin.datasets.rows import Rows

__all__ = ["num_repeated"]

TABLE_BITS = 20


def num_repeated(rows: Rows, held_out: Tensor) -> int:
    """Number of rows of ``held_out`` ``[n, *event]`` that occur in ``rows``.

    Cost: one pass over ``rows``, a chunk at a time; about 40 ns a row of two numbers.

    Example:
        >>> import torch
        >>> from basin.datasets.rows import TensorRows
        >>> num_repeated(TensorRows(torch.eye(3)), torch.tensor([[0.0, 1.0, 0.0], [1.0, 1.0, 0.0]]))
        1
    """
    held = _bits(held_out)
    wanted = np.unique(held, axis=0)
    multipliers = np.random.default_rng(0).integers(
        1, 2**63, size=wanted.shape[1] + 1, dtype=np.uint64
    )
    hashes, in_table = _hash(wanted, multipliers), np.zeros(2**TABLE_BITS, dtype=bool)
    in_table[_slot(hashes)] = True
    found: set[bytes] = set()
    for start, stop in chunks(len(rows), wanted.shape[1]):
        here = _bits(rows.take(start, stop))
        hashed = _hash(here, multipliers)
        near = np.flatnonzero(in_table[_slot(hashed)])
        near = near[np.isin(hashed[near], hashes)]
        if len(near) == 0:
            continue
        near = near[np.unique(hashed[near], return_index=True)[1]]
        found.update(row.tobytes() for row in here[near])
        is_wanted = np.array([row.tobytes() not in found for row in wanted])
        wanted, hashes = wanted[is_wanted], hashes[is_wanted]
        if len(wanted) == 0:
            break
        in_table[:] = False
        in_table[_slot(hashes)] = True
    return sum(row.tobytes() in found for row in held) if found else 0


def _slot(hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    return hashes >> np.uint64(64 - TABLE_BITS)


def _bits(rows: Tensor) -> NDArray[np.uint32]:
    """The 32 bits of every number, ``[n, d]``; -0 becomes 0."""
    return (rows.flatten(1).float() + 0.0).contiguous().numpy().view(np.uint32)


def _hash(bits: NDArray[np.uint32], multipliers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """m_1 b_1 + ... + m_d b_d + m_(d+1) modulo 2^64 of each row b, in as few steps as there are."""
    hashed = np.full(len(bits), multipliers[-1])
    if len(bits) < bits.shape[1]:  # a chunk of a wide table holds few rows
        hashed += np.array([np.sum(row * multipliers[:-1]) for row in bits], dtype=np.uint64)
        return hashed
    for column, multiplier in zip(bits.T, multipliers, strict=False):
        hashed += column * multiplier
    return hashed
