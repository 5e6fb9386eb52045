"""The rows of a file in their order, for a model that is already trained.

:func:`basin.datasets.load` splits, shuffles and measures; rows that are to be scored need none of
that: they keep their order, one row is enough, and a constant column is no fault.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

import numpy as np
import torch

from basin.datasets.catalogue import canonical_name
from basin.datasets.raw import RawData
from basin.datasets.read import check_numbers, choose, find, read
from basin.datasets.rows import MemoryMappedRows, Rows, TensorRows
from basin.datasets.scikit_learn import SCIKIT_LEARN, read_scikit_learn

__all__ = ["read_rows"]


def read_rows(
    source: str | os.PathLike[str],
    event_shape: Sequence[int],
    *,
    columns: Sequence[str] | None = None,
) -> Rows:
    """Rows ``[n, *event_shape]`` of a file, in the user's units and in the file's order.

    Args:
        source: a path in a format that :func:`basin.datasets.load` reads, or a name of
            scikit-learn's data.
        event_shape: shape of one row that the model takes.
        columns: names of the columns that it was trained on; a file may have others besides. An
            array without names (NPY, NPZ) gives them by position, when there are exactly so many.

    Raises:
        FileNotFoundError: no such file.
        ValueError: cells that are no finite numbers, a missing column, rows of another shape.

    Cost: one read of the file; a large NPY file stays in the file.

    Example:
        >>> read_rows("iris", (4,))
        TensorRows(num_rows=150, event_shape=(4,))
    """
    text = os.fspath(source)
    name = canonical_name(text) if isinstance(source, str) else None
    if name is not None and name not in SCIKIT_LEARN:
        raise ValueError(f"source must have rows, got the density {name}, which is drawn afresh")
    if name is not None:
        raw = read_scikit_learn(name)
        raw = raw if columns is None else choose(raw, columns)
    else:
        path, key = find(text)
        is_array = path.suffix.lower() in (".npy", ".npz")
        if len(event_shape) == 1 and columns is not None and not is_array:
            raw = read(path, key, columns, None, None)
        else:
            raw = _by_position(read(path, key, None, None, None), columns)
    check_numbers(raw)
    shape, found = tuple(event_shape), tuple(raw.values.shape[1:])
    if math.prod(found) != math.prod(shape):
        raise ValueError(
            f"{raw.name} must have rows of shape {shape}, which the model was trained on, got rows "
            f"of shape {found}"
        )
    if raw.is_memory_mapped:
        return MemoryMappedRows(raw.values, event_shape=shape)
    return TensorRows(torch.from_numpy(raw.values.astype(np.float32).reshape(-1, *shape)))


def _by_position(raw: RawData, columns: Sequence[str] | None) -> RawData:
    """The named columns; all of an array without these names that has as many."""
    if raw.columns is None or columns is None:
        return raw
    has_names = any(column in raw.columns for column in columns)
    return choose(raw, columns) if has_names or len(columns) != len(raw.columns) else raw
