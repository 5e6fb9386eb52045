"""Rows of training data, wherever they are: in memory, in a file, or drawn afresh.

A batch is ``draw(n, generator)``: row numbers uniform with replacement, straight from the
generator. No permutation is kept, so 10^8 rows cost nothing but their file.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from basin.core.types import Density
from basin.core.validation import positive_integer
from basin.datasets.raw import ROWS_SHOWN, chunks, counted, numeric
from basin.datasets.read_numpy import open_npy
from basin.datasets.split import kept_row, leave_out

__all__ = ["FreshDraws", "MemoryMappedRows", "Rows", "TensorRows", "as_rows"]

LARGEST_FLOAT32 = float(np.finfo(np.float32).max)


class Rows(ABC):
    """A source of rows ``[n, *event]``.

    Attributes:
        event_shape: shape of one row.
        num_rows: how many there are; None when they are drawn afresh.
    """

    event_shape: tuple[int, ...]
    num_rows: int | None

    @abstractmethod
    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """``n`` random rows, ``[n, *event]``, independent and with replacement."""

    @abstractmethod
    def take(self, start: int, stop: int) -> Tensor:
        """Rows ``start`` to ``stop - 1``, ``[stop - start, *event]``."""

    def at(self, positions: Tensor) -> Tensor:
        """Rows of these numbers, ``[k, *event]``, where rows have numbers."""
        raise ValueError(f"{self!r} has no numbered rows to take {len(positions)} of")

    def __len__(self) -> int:
        if self.num_rows is None:
            raise TypeError(f"{self!r} has no length: its rows are drawn afresh")
        return self.num_rows

    def __repr__(self) -> str:
        rows = "fresh" if self.num_rows is None else self.num_rows
        return f"{type(self).__name__}(num_rows={rows}, event_shape={self.event_shape})"


class TensorRows(Rows):
    """Rows of a tensor ``[rows, *event]`` in memory, on its device; it is not copied.

    Args:
        values: numbers of any real dtype; whole numbers are kept as they are (an image of bytes
            stays one byte a pixel) and converted when drawn.
        dtype: floating-point type of what is drawn.

    Example:
        >>> rows = TensorRows(torch.arange(6).reshape(3, 2))
        >>> rows.take(1, 3)
        tensor([[2., 3.],
                [4., 5.]])
        >>> rows.draw(4, torch.Generator().manual_seed(0)).shape
        torch.Size([4, 2])
    """

    def __init__(self, values: Tensor, *, dtype: torch.dtype = torch.float32) -> None:
        _row_shape("values", tuple(values.shape))
        self.values = values.detach()
        self.dtype = dtype
        self.event_shape = tuple(values.shape[1:])
        self.num_rows: int | None = len(values)

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        positive_integer(n=n)
        rows = torch.randint(len(self.values), (n,), generator=generator, device=generator.device)
        return self.at(rows)

    def at(self, positions: Tensor) -> Tensor:
        return self.values.index_select(0, positions.to(self.values.device)).to(self.dtype)

    def take(self, start: int, stop: int) -> Tensor:
        _range(start, stop, len(self.values))
        return self.values[start:stop].to(self.dtype)


class MemoryMappedRows(Rows):
    """Rows of a NPY file that stay in the file until they are drawn.

    Only pages of the file come into memory, where the kernel may drop them again: resident, but
    not anonymous memory. The file must not be cut while it is used (the process would get a bus
    error); :func:`basin.datasets.load` records a fingerprint of it.

    Args:
        source: path of a NPY file, or the array of one, ``[rows, *event]``.
        start: first row.
        stop: one after the last row; None for the end of the file.
        left_out: sorted numbers of rows (of the file) to leave out, ``[k]`` of int64.
        columns: positions of the columns to keep, in order; all when None.
        event_shape: shape to give each row (an image without a channel dimension gets one).
        dtype: floating-point type of what is drawn.

    Cost: ``draw(n)`` touches at most n pages of the file and makes one copy of n rows.
    """

    def __init__(
        self,
        source: str | Path | NDArray[Any],
        start: int = 0,
        stop: int | None = None,
        *,
        left_out: Tensor | None = None,
        columns: Sequence[int] | None = None,
        event_shape: Sequence[int] | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        values = source if isinstance(source, np.ndarray) else open_npy(Path(source))
        _row_shape("source", values.shape)
        numeric("source", values.dtype)
        stop = len(values) if stop is None else stop
        _range(start, stop, len(values))
        self.values = values
        self.start, self.stop = start, stop
        self.left_out = torch.empty(0, dtype=torch.int64) if left_out is None else left_out - start
        self.columns = None if columns is None else list(columns)
        kept = values.shape[1:] if self.columns is None else (len(self.columns),)
        self.event_shape = tuple(kept if event_shape is None else event_shape)
        self.dtype = dtype
        self.num_rows: int | None = stop - start - len(self.left_out)
        if self.num_rows < 1:
            raise ValueError(f"source must have rows between start={start} and stop={stop}")

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        positive_integer(n=n)
        positions = torch.randint(len(self), (n,), generator=generator, device=generator.device)
        return self.at(positions.cpu())

    def take(self, start: int, stop: int) -> Tensor:
        _range(start, stop, len(self))
        if start == stop:
            return torch.empty(0, *self.event_shape, dtype=self.dtype)
        first, last = kept_row(torch.tensor([start, stop - 1]), self.left_out).tolist()
        part = self.values[self.start + first : self.start + last + 1]
        return self._convert(leave_out(part, first, self.left_out))

    def at(self, positions: Tensor) -> Tensor:
        """The rows at ``positions`` ``[n]`` of int64, each from 0 to ``num_rows - 1``."""
        rows = self.start + kept_row(positions, self.left_out).numpy()
        return self._convert(self.values[rows])

    def _convert(self, values: NDArray[Any]) -> Tensor:
        values = np.asarray(values)
        if self.columns is not None:
            values = values[:, self.columns]
        kind = np.float64 if self.dtype == torch.float64 else np.float32
        values = np.ascontiguousarray(values, dtype=kind).reshape(-1, *self.event_shape)
        return torch.from_numpy(values).to(self.dtype)


class FreshDraws(Rows):
    """Independent draws of a :class:`~basin.core.types.Density`, new ones every time."""

    def __init__(self, density: Density, *, dtype: torch.dtype = torch.float32) -> None:
        self.density = density
        self.dtype = dtype
        self.event_shape = tuple(density.event_shape)
        self.num_rows: int | None = None

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        positive_integer(n=n)
        return self.density.sample(n, generator).to(self.dtype)

    def take(self, start: int, stop: int) -> Tensor:
        raise ValueError(
            f"rows {start} to {stop} do not exist: {type(self.density).__name__} is drawn afresh; "
            "use draw(n, generator)"
        )


def as_rows(x: Any, *, dtype: torch.dtype = torch.float32) -> Rows:
    """Make :class:`Rows` of a tensor, array, memory map or density; check that all is finite.

    Args:
        x: ``[rows, *event]`` with at least two rows of real numbers, a Density, or Rows (returned
            as they are). A tensor of whole numbers keeps its memory; floats become ``dtype``.
        dtype: floating-point type of what is drawn.

    Raises:
        ValueError: NaN or infinite rows, values that ``dtype`` cannot hold, fewer than two rows,
            rows of no numbers, objects or text.
        TypeError: ``x`` is none of those.

    Cost: one pass over the data, in chunks.

    Example:
        >>> as_rows(torch.zeros(5, 2))
        TensorRows(num_rows=5, event_shape=(2,))
    """
    if isinstance(x, Rows):
        return x
    if isinstance(x, Density):
        return FreshDraws(x, dtype=dtype)
    if isinstance(x, np.ndarray):
        numeric("x", x.dtype)
        rows_of_numbers("x", x.shape)
        check_finite("x", x, dtype=dtype)
        if isinstance(x, np.memmap):
            return MemoryMappedRows(x, dtype=dtype)
        return TensorRows(_tensor(x, dtype), dtype=dtype)
    if isinstance(x, Tensor):
        if x.is_complex():
            raise ValueError(f"x must hold real numbers, got {x.dtype}")
        rows_of_numbers("x", tuple(x.shape))
        check_finite("x", x.detach(), dtype=dtype)
        return TensorRows(x.to(dtype) if x.is_floating_point() else x, dtype=dtype)
    hint = "; give x.to_numpy()" if hasattr(x, "to_numpy") else ""
    raise TypeError(f"x must be a Tensor, an array, a Density or Rows, got {type(x)}{hint}")


def rows_of_numbers(name: str, shape: tuple[int, ...]) -> None:
    """Raise ``ValueError`` unless ``shape`` is at least two rows of at least one number."""
    _row_shape(name, shape)
    if shape[0] == 1:
        raise ValueError(f"{name} must have at least 2 rows, got 1 row: a density needs more data")


def check_finite(name: str, values: Any, *, dtype: torch.dtype = torch.float32) -> None:
    """Raise ``ValueError`` naming the first rows with NaN, infinity or too large a number.

    Streams: a tensor or array ``[rows, *event]`` is looked at in chunks.
    """
    if not (values.is_floating_point() if isinstance(values, Tensor) else values.dtype.kind == "f"):
        return
    largest = LARGEST_FLOAT32 if dtype != torch.float64 else float(np.finfo(np.float64).max)
    bad: list[int] = []
    count = 0
    for start, stop in chunks(len(values), int(np.prod(values.shape[1:]))):
        part = values[start:stop]
        part = part if isinstance(part, Tensor) else np.asarray(part)
        if not (float(part.min()) >= -largest and float(part.max()) <= largest):
            numbers = part if isinstance(part, Tensor) else torch.from_numpy(_native(part))
            is_good = (numbers >= -largest) & (numbers <= largest)
            rows = torch.nonzero(~is_good.flatten(1).all(dim=1)).flatten()
            count += len(rows)
            bad += [start + int(row) for row in rows[: ROWS_SHOWN - len(bad)]]
    if count:
        raise ValueError(
            f"{name} must be finite (and fit {str(dtype).removeprefix('torch.')}), got NaN, "
            f"infinity or too large a number in {count:,} of {counted(len(values), 'row')} "
            f"(first: {', '.join(map(str, bad))}); drop or fill them first"
        )


def _tensor(values: NDArray[Any], dtype: torch.dtype) -> Tensor:
    """A tensor that shares memory where it can: bytes stay bytes, floats become ``dtype``."""
    if values.dtype in (np.dtype(np.uint8), np.dtype(np.bool_)):
        return torch.from_numpy(np.ascontiguousarray(values))
    kind = np.float64 if dtype == torch.float64 else np.float32
    return torch.from_numpy(_writeable(np.ascontiguousarray(values, dtype=kind))).to(dtype)


def _native(values: NDArray[Any]) -> NDArray[Any]:
    return values.astype(np.float64)


def _writeable(values: NDArray[Any]) -> NDArray[Any]:
    return values if values.flags.writeable else values.copy()


def _row_shape(name: str, shape: tuple[int, ...]) -> None:
    if len(shape) < 2:
        raise ValueError(
            f"{name} must have shape (rows, *event), got {shape}; "
            "one number a row is the shape (rows, 1)"
        )
    if shape[0] == 0:
        raise ValueError(f"{name} must have rows, got none (shape {shape})")
    if 0 in shape[1:]:
        raise ValueError(f"{name} must have at least one column, got none (shape {shape})")


def _range(start: int, stop: int, num_rows: int) -> None:
    if not 0 <= start <= stop <= num_rows:
        raise ValueError(
            f"start and stop must satisfy 0 <= start <= stop <= {num_rows}, got {start}, {stop}"
        )
