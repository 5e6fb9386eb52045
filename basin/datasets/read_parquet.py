"""Tables in Parquet, by pyarrow (an extra: ``pip install basin[parquet]``)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from basin.datasets.raw import BadCells, RawData, positions_of, unique_names

__all__ = ["read_parquet"]


def read_parquet(path: Path, *, columns: Sequence[str] | None = None) -> RawData:
    """Read numeric columns of a Parquet file.

    Args:
        path: the file.
        columns: names of the columns to read, in order; all when None.

    Raises:
        ImportError: pyarrow is not installed.
        ValueError: no Parquet file, cut short, columns of text or dates, missing values.
    """
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError:
        raise ImportError(
            f"reading {path} needs pyarrow: pip install basin[parquet] (or save it as CSV or NPY)"
        ) from None
    try:
        with parquet.ParquetFile(path) as file:
            names = list(file.schema_arrow.names)
            if not names:
                raise ValueError(f"{path} must have at least one column, got none")
            if columns is None:
                unique_names(str(path), names)
                chosen = names
            else:
                chosen = [names[position] for position in positions_of(str(path), names, columns)]
            table = file.read(columns=chosen)
    except (arrow.ArrowException, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ValueError(
            f"{path} must be a whole Parquet file, got one that cannot be read "
            f"({str(error).splitlines()[0][:100]}): copy or make it again"
        ) from None
    text, missing = BadCells(), BadCells()
    parts: list[NDArray[Any]] = []
    for name in chosen:
        column = table.column(name)
        if not _is_numeric(arrow.types, column.type):
            text.add(name, "all", str(column.type))
            continue
        for row in np.flatnonzero(column.is_null().to_numpy()) if column.null_count else ():
            missing.add(name, str(row))
        if arrow.types.is_decimal(column.type):
            column = column.cast(arrow.float64())
        parts.append(column.to_numpy())
    if text.count:
        raise ValueError(
            f"{path} must hold numbers, got "
            + "; ".join(f"column {name!r} of {text.first[name][0][5:-1]}" for name in text.count)
            + ": turn it into numbers, or choose other columns with columns=[...]"
        )
    if missing.count:
        raise ValueError(
            f"{path} must have no missing values, got: {missing.in_words('row')} (from 0); "
            "fill them or drop those rows first, or choose other columns with columns=[...]"
        )
    return RawData(str(path), np.column_stack(parts), tuple(chosen), "Parquet")


def _is_numeric(types: Any, kind: Any) -> bool:
    return (
        types.is_integer(kind)
        or types.is_floating(kind)
        or types.is_boolean(kind)
        or types.is_decimal(kind)
    )
