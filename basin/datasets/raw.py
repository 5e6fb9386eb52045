"""What a reader of files hands over: numbers as the file has them, names for rows and columns.

Nothing is converted, dropped or filled here. :func:`basin.datasets.load` checks the numbers, holds
rows out and turns the rest into float32.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["RawData"]

CHUNK_VALUES = 2**19
"""Numbers looked at together when a file is streamed: 4 MiB as float64."""

ROWS_SHOWN = 5
COLUMNS_SHOWN = 5


@dataclass(frozen=True, eq=False)
class RawData:
    """Rows of a table (``columns`` named) or of images (``columns`` is None) as a file has them.

    Args:
        name: what errors call it, a path or a name.
        values: ``[rows, columns]``, or ``[rows, channels, height, width]``; may be memory-mapped.
        columns: one name a column, or None for images.
        description: the format, in words.
        lines: line of the file that each row ends on, where the file has lines.

    Raises:
        ValueError: when ``values`` are not real numbers or have no row or no column.
    """

    name: str
    values: NDArray[Any]
    columns: tuple[str, ...] | None
    description: str
    lines: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        numeric(self.name, self.values.dtype)
        if 0 in self.values.shape[1:]:
            raise ValueError(f"{self.name} must have at least one column, got none")
        if len(self.values) == 0:
            raise ValueError(f"{self.name} must have rows, got none")

    @property
    def is_memory_mapped(self) -> bool:
        """Whether the numbers stay in the file until they are asked for."""
        return isinstance(self.values, np.memmap)

    def keep_columns(self, positions: Sequence[int]) -> RawData:
        """The same rows with some of the columns; a copy in memory."""
        assert self.columns is not None
        if list(positions) == list(range(len(self.columns))):
            return self
        names = tuple(self.columns[position] for position in positions)
        return replace(self, values=np.asarray(self.values[:, list(positions)]), columns=names)

    def where(self, rows: Sequence[int]) -> str:
        """Rows in words: lines of a text file, else row numbers that count from 0."""
        shown = [int(row) for row in rows[:ROWS_SHOWN]]
        if self.lines is not None:
            return "lines " + ", ".join(str(self.lines[row]) for row in shown)
        return "rows " + ", ".join(map(str, shown)) + " counting from 0"


@dataclass
class BadCells:
    """Collects what is wrong cell by cell, so that one error can name columns and first rows."""

    count: dict[str, int] = field(default_factory=dict)
    first: dict[str, list[str]] = field(default_factory=dict)

    def add(self, column: str, place: str, example: str = "") -> None:
        """Note one bad cell; only the first few places are kept."""
        self.count[column] = self.count.get(column, 0) + 1
        places = self.first.setdefault(column, [])
        if len(places) < ROWS_SHOWN:
            places.append(f"{place} ({example})" if example else place)

    def in_words(self, unit: str) -> str:
        """For example ``column 'age' in 2 rows (line 3, line 7)``; the first columns only."""
        parts = [
            f"column {column!r} in {counted(number, 'row')} "
            f"({'first: ' if number > ROWS_SHOWN else ''}{unit} {', '.join(self.first[column])})"
            for column, number in list(self.count.items())[:COLUMNS_SHOWN]
        ]
        more = len(self.count) - COLUMNS_SHOWN
        return "; ".join(parts) + (f"; and {counted(more, 'more column')}" if more > 0 else "")


def numeric(name: str, dtype: np.dtype[Any]) -> None:
    """Raise ``ValueError`` unless ``dtype`` is bool, whole or real numbers."""
    if dtype.kind in "biuf":
        return
    kinds = {
        "O": "Python objects",
        "S": "text",
        "U": "text",
        "c": "complex numbers",
        "V": "records",
    }
    what = kinds.get(dtype.kind, "dates" if dtype.kind in "mM" else "bytes")
    mend = {
        "O": "Basin never unpickles; save it again with .astype('float32')",
        "V": "save one plain array (rows, columns) of numbers",
        "c": "save real and imaginary part as two columns",
    }.get(dtype.kind, "turn it into numbers, or leave it out, first")
    raise ValueError(f"{name} must hold real numbers, got {what} (dtype {dtype}): {mend}")


def chunks(num_rows: int, values_a_row: int) -> Iterator[tuple[int, int]]:
    """(start, stop) of consecutive ranges of rows, each about half a million numbers."""
    step = max(1, CHUNK_VALUES // max(1, values_a_row))
    for start in range(0, num_rows, step):
        yield start, min(start + step, num_rows)


def positions_of(name: str, available: Sequence[str], wanted: Sequence[str]) -> list[int]:
    """Where each wanted column is; ``ValueError`` with close matches when one is not there."""
    if isinstance(wanted, str) or not all(isinstance(column, str) for column in wanted):
        raise ValueError(f"columns must be a list of column names, got {wanted!r}")
    if not wanted:
        raise ValueError("columns must name at least one column, got none")
    positions = []
    for column in wanted:
        found = [index for index, other in enumerate(available) if other == column]
        if len(found) != 1:
            problem = "more than once" if found else "not at all"
            raise ValueError(
                f"columns must be in {name} once, got {column!r}, which is there {problem}"
                + did_you_mean(column, available)
            )
        positions += found
    if len(set(positions)) < len(positions):
        raise ValueError(f"columns must not repeat, got {list(wanted)}")
    return positions


def unique_names(name: str, columns: Sequence[str]) -> None:
    """Raise ``ValueError`` when a column has no name or two have the same one."""
    unnamed = [index + 1 for index, column in enumerate(columns) if not column]
    if unnamed:
        raise ValueError(
            f"{name} must name every column, got no name for column {unnamed[0]} of "
            f"{len(columns)} (often a saved row index): name it, or choose with columns=[...]"
        )
    repeated = sorted({column for column in columns if columns.count(column) > 1})
    if repeated:
        raise ValueError(
            f"{name} must name every column differently, got {repeated[0]!r} "
            f"{columns.count(repeated[0])} times: rename it, or choose others with columns=[...]"
        )


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """``"; did you mean 'rings'?"``, or the known names when none is close."""
    close = difflib.get_close_matches(word, known, n=3, cutoff=0.6)
    if close:
        return "; did you mean " + " or ".join(map(repr, close)) + "?"
    listed = ", ".join(map(repr, known[:20])) + (", ..." if len(known) > 20 else "")
    return f"; known: {listed}" if listed else ""


def counted(number: int, noun: str) -> str:
    """``"1 row"``, ``"2,000 rows"``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
