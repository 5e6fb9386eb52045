"""``load(source)``: a toy density, scikit-learn's data, or a file, ready for training.

    z = (x - shift) / scale

shift and scale are the mean and the standard deviation of the training part: for a table one a
column, for images one for all pixels, for a density 0 and 1. Nothing is rescaled here; they are
what ``Standardised(energy, shift, scale)`` takes. Rows are held out before any statistic.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from basin.core.types import Density
from basin.core.validation import true_false_or_none
from basin.datasets.catalogue import canonical_name, toy_densities
from basin.datasets.duplicates import num_repeated
from basin.datasets.fingerprint import check_fingerprint
from basin.datasets.fingerprint import fingerprint as fingerprint_of
from basin.datasets.moments import Moments, moments
from basin.datasets.raw import (
    COLUMNS_SHOWN,
    RawData,
    chunks,
    counted,
)
from basin.datasets.read import check_numbers, choose, find, read
from basin.datasets.rows import (
    FreshDraws,
    MemoryMappedRows,
    Rows,
    TensorRows,
    rows_of_numbers,
)
from basin.datasets.scikit_learn import SCIKIT_LEARN, read_scikit_learn
from basin.datasets.split import Split, check_held_out, leave_out, split_rows

__all__ = ["Dataset", "load"]

LARGEST_ROUNDING = 0.01
"""A column is refused when float32 rounds it by more than this share of its deviation."""
ROUNDING_OF_A_CONSTANT = 1e-12
"""A column whose numbers differ by less than this share of their size has one value."""
SMALLEST_DEVIATION, LARGEST_DEVIATION = 1e-18, 1e18
"""Beyond these a variance is no normal float32."""


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Training, validation and test rows in the user's units, and how to standardise them.

    Attributes:
        name: short name for titles.
        kind: ``"density"``, ``"table"`` or ``"images"``.
        density: the truth, for a density.
        train: rows to draw batches from.
        validation: held-out rows, ``[v, *event]`` of float32; None when none are held out.
        test: held-out rows, ``[t, *event]`` of float32, in no other part.
        event_shape: shape of one row.
        columns: names of a table's columns.
        shift: mean of the training part, ``[columns]`` for a table, else a scalar.
        scale: its standard deviation, same shape; 1 for a constant column that is kept.
        description: one sentence: format, rows, split, duplicates.
        num_rows: rows in all; None for a density.
        num_duplicates: held-out rows that also occur in the training part (they are kept).
        config: the arguments that load the same again; see :meth:`to_config`.
    """

    name: str
    kind: Literal["density", "table", "images"]
    density: Density | None
    train: Rows
    validation: Tensor | None
    test: Tensor | None
    event_shape: tuple[int, ...]
    columns: tuple[str, ...] | None
    shift: Tensor
    scale: Tensor
    description: str
    num_rows: int | None = None
    num_duplicates: int = 0
    config: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Dataset({self.description})"

    def to_config(self) -> dict[str, Any]:
        """Arguments for ``load(**config)``, fit for JSON; the fingerprint finds changed data.

        Example:
            >>> dataset = load("iris", seed=3)
            >>> torch.equal(load(**dataset.to_config()).test, dataset.test)
            True
        """
        return dict(self.config)


def load(
    source: str | os.PathLike[str],
    *,
    columns: Sequence[str] | None = None,
    header: bool | None = None,
    constant_columns: Literal["error", "keep", "drop"] = "error",
    validation_fraction: float = 0.1,
    test_fraction: float = 0.1,
    max_held_out: int = 10_000,
    seed: int = 0,
    memory_map: bool | None = None,
    fingerprint: str | None = None,
) -> Dataset:
    """Load a named data set or a file, check it, hold rows out, and measure shift and scale.

    Args:
        source: a name of :func:`catalogue` (``"checkerboard"``, ``"digits"``), or a path: text
            (.csv, .tsv, .txt, .data), .parquet, .npy, .npz (``"path.npz:key"`` chooses an array),
            IDX, or a folder of images.
        columns: names of the columns of a table to use, in order; all when None. Columns of arrays
            are called x0, x1, ...
        header: whether the first line of a text file names the columns; None looks at it.
        constant_columns: what a table's columns without variation get: an error, scale 1
            (``"keep"``), or removal (``"drop"``).
        validation_fraction: share of the rows held out for validation, in [0, 1).
        test_fraction: share of the rows held out for the test.
        max_held_out: neither held-out part has more rows than this.
        seed: what the split is drawn from.
        memory_map: leave the rows of a NPY file in the file; None does so from 256 MiB on.
        fingerprint: what :meth:`Dataset.to_config` recorded; an error when the data changed.

    Returns:
        Dataset. Nothing of a density is held out.

    Raises:
        TypeError: an argument of another type, named.
        FileNotFoundError: no such file.
        ValueError: an unknown name, or data that cannot be used as they are; says where and why.
        ImportError: a package that reads this format is not installed; says which.

    Cost: files are read once (memory-mapped ones three times, in chunks).

    Example:
        >>> iris = load("iris")
        >>> iris.train, iris.columns[0]
        (TensorRows(num_rows=120, event_shape=(4,)), 'sepal length (cm)')
    """
    if not isinstance(source, str | os.PathLike):
        raise TypeError(f"source must be a name or a path, got {source!r}")
    if columns is not None and (isinstance(columns, str) or not isinstance(columns, Sequence)):
        raise TypeError(f"columns must be a list of column names, got {columns!r}")
    true_false_or_none(header=header, memory_map=memory_map)
    if constant_columns not in ("error", "keep", "drop"):
        raise ValueError(
            f"constant_columns must be 'error', 'keep' or 'drop', got {constant_columns!r}"
        )
    check_held_out(validation_fraction, test_fraction, max_held_out, seed)
    options: dict[str, Any] = {
        "columns": None if columns is None else list(columns),
        "header": header,
        "constant_columns": constant_columns,
        "validation_fraction": float(validation_fraction),
        "test_fraction": float(test_fraction),
        "max_held_out": max_held_out,
        "seed": seed,
        "memory_map": memory_map,
    }
    text = os.fspath(source)
    name = canonical_name(text) if isinstance(source, str) else None
    if name is not None and name not in SCIKIT_LEARN:
        if columns is not None or header is not None:
            raise ValueError(f"columns and header are for tables, got them for the density {name}")
        return _of_density(name, options, fingerprint)
    if name is not None:
        raw, found, where = read_scikit_learn(name), None, name
        if columns is not None:
            raw = choose(raw, columns)
    else:
        path, key = find(text)
        found = fingerprint_of(path)
        if fingerprint is not None:
            check_fingerprint(text, fingerprint, found)
        raw = read(path, key, columns, header, memory_map)
        where = str(path.resolve()) + (f":{key}" if key else "")
        name = path.name + (f":{key}" if key else "")
    if found is None:
        found = fingerprint_of(raw)
        if fingerprint is not None:
            check_fingerprint(text, fingerprint, found)
    return _of_rows(name, raw, {"source": where, **options, "fingerprint": found})


def _of_density(name: str, options: Mapping[str, Any], recorded: str | None) -> Dataset:
    density = toy_densities()[name]()
    if recorded is not None:
        check_fingerprint(name, recorded, "density")
    return Dataset(
        name=name,
        kind="density",
        density=density,
        train=FreshDraws(density),
        validation=None,
        test=None,
        event_shape=tuple(density.event_shape),
        columns=None,
        shift=torch.zeros(()),
        scale=torch.ones(()),
        description=f"{name}: fresh draws of {density!r} at every step",
        config={"source": name, **options, "fingerprint": "density"},
    )


def _of_rows(name: str, raw: RawData, config: Mapping[str, Any]) -> Dataset:
    """Check, split, measure, convert, in this order: no statistic may see a held-out row."""
    rows_of_numbers(raw.name, raw.values.shape)
    check_numbers(raw)
    split = split_rows(
        len(raw.values),
        validation_fraction=config["validation_fraction"],
        test_fraction=config["test_fraction"],
        max_held_out=config["max_held_out"],
        seed=config["seed"],
    )
    measured = moments(_training_parts(raw, split))
    scale = measured.standard_deviation.copy()
    kept = _varying(raw, measured, scale, config["constant_columns"])
    _check_resolution(raw, measured, scale, kept)
    train, validation, test = _parts(raw, split, None if raw.columns is None else kept)
    held_out = torch.cat([validation, test])
    repeated = num_repeated(train, held_out) if len(held_out) else 0
    is_table = raw.columns is not None
    shift_scale = [torch.tensor(v[kept], dtype=torch.float32) for v in (measured.mean, scale)]
    shift, scale_ = shift_scale if is_table else [value.reshape(()) for value in shift_scale]
    columns = tuple(raw.columns[i] for i in kept) if raw.columns is not None else None
    return Dataset(
        name=name,
        kind="table" if is_table else "images",
        density=None,
        train=train,
        validation=validation if len(validation) else None,
        test=test if len(test) else None,
        event_shape=train.event_shape,
        columns=columns,
        shift=shift,
        scale=scale_,
        description=_describe(name, raw, split, train, repeated, columns),
        num_rows=split.num_rows,
        num_duplicates=repeated,
        config=config,
    )


# -- checking --------------------------------------------------------------------------------------


def _varying(raw: RawData, measured: Moments, scale: NDArray[np.float64], rule: str) -> list[int]:
    """Positions of the columns to use; the scale of a constant one that is kept becomes 1."""
    low, size = measured.smallest, np.maximum(abs(measured.smallest), abs(measured.largest))
    # Up to the rounding of float64: what float32 alone would round away is another matter.
    constant = np.flatnonzero(measured.largest - low <= ROUNDING_OF_A_CONSTANT * size)
    everything = list(range(len(scale)))
    if len(constant) == 0:
        return everything
    if raw.columns is None:
        raise ValueError(f"{raw.name} must vary, got {low[0]:g} in every pixel of every image")
    if rule == "keep":
        scale[constant] = 1.0
        return everything
    if rule == "drop":
        kept = [column for column in everything if column not in set(constant.tolist())]
        if not kept:
            raise ValueError(f"{raw.name} must have a column that varies, got none")
        return kept
    listed = ", ".join(f"{raw.columns[i]!r} (always {low[i]:g})" for i in constant[:COLUMNS_SHOWN])
    more = f" and {len(constant) - COLUMNS_SHOWN} more" if len(constant) > COLUMNS_SHOWN else ""
    raise ValueError(
        f"{raw.name} must have columns that vary in the training part, got the constant "
        f"{listed}{more}: say constant_columns='drop' or 'keep'"
    )


def _check_resolution(
    raw: RawData, measured: Moments, scale: NDArray[np.float64], kept: Sequence[int]
) -> None:
    """Raise ``ValueError`` for a column whose variation float32 would round away or not hold."""
    size = np.maximum(np.abs(measured.smallest), np.abs(measured.largest))
    is_rounded = raw.values.dtype not in (np.dtype(np.float32), np.dtype(np.float16))
    for column in kept:
        deviation = float(scale[column])
        label = raw.name if raw.columns is None else f"column {raw.columns[column]!r} of {raw.name}"
        if not SMALLEST_DEVIATION <= deviation <= LARGEST_DEVIATION:
            raise ValueError(
                f"{label} must have a standard deviation between {SMALLEST_DEVIATION:g} and "
                f"{LARGEST_DEVIATION:g}, got {deviation:.3g}: change its unit"
            )
        rounding = float(np.spacing(np.float32(size[column])))
        is_constant = measured.smallest[column] == measured.largest[column]
        if is_rounded and not is_constant and rounding > LARGEST_ROUNDING * deviation:
            raise ValueError(
                f"{label} must fit float32, got values near {size[column]:.6g} that differ by only "
                f"{deviation:.3g} (float32 steps there are {rounding:.3g}): subtract a constant"
            )


# -- splitting and measuring -----------------------------------------------------------------------


def _training_parts(raw: RawData, split: Split) -> Iterator[NDArray[np.float64]]:
    """Numbers of the training part, chunk by chunk; every pixel of images is one column."""
    held_out = split.held_out
    for start, stop in chunks(len(raw.values), int(np.prod(raw.values.shape[1:]))):
        part = np.asarray(leave_out(raw.values[start:stop], start, held_out), dtype=np.float64)
        yield part if raw.columns is not None else part.reshape(-1, 1)


def _parts(
    raw: RawData, split: Split, columns: Sequence[int] | None
) -> tuple[Rows, Tensor, Tensor]:
    """Training rows, validation and test: three sets of rows that share none."""
    if raw.is_memory_mapped:
        shape = raw.values.shape[1:] if columns is None else (len(columns),)
        is_all = columns is None or len(columns) == raw.values.shape[1]
        chosen = None if is_all else columns
        train = MemoryMappedRows(
            raw.values, left_out=split.held_out, columns=chosen, event_shape=shape
        )
        everything = MemoryMappedRows(raw.values, columns=chosen, event_shape=shape)
        return train, everything.at(split.validation), everything.at(split.test)
    values = raw.values if columns is None else raw.values[:, list(columns)]
    keeps_bytes = values.dtype in (np.dtype(np.uint8), np.dtype(np.bool_))
    tensor = torch.from_numpy(
        values.astype(values.dtype if keeps_bytes else np.float32, copy=not values.flags.writeable)
    )
    validation, test = tensor[split.validation].float(), tensor[split.test].float()
    return TensorRows(tensor[split.train()]), validation, test


def _describe(
    name: str,
    raw: RawData,
    split: Split,
    train: Rows,
    repeated: int,
    columns: tuple[str, ...] | None,
) -> str:
    size = (
        counted(len(columns), "column")
        if columns is not None
        else "x".join(map(str, train.event_shape)) + " pixels"
    )
    said = (
        f"{name} ({raw.description}): {counted(split.num_rows, 'row')} of {size}; "
        f"{split.num_train:,} for training, {len(split.validation):,} for validation, "
        f"{len(split.test):,} for the test (seed {split.seed})"
    )
    if columns is not None and raw.columns is not None and len(columns) < len(raw.columns):
        dropped = [column for column in raw.columns if column not in columns]
        said += f"; constant columns dropped: {', '.join(dropped)}"
    if repeated:
        said += f"; {counted(repeated, 'held-out row')} also in the training part"
    return said
