"""What a run trains on: rows to draw from, held-out rows, and a description for the config."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from basin.core.describe import describe
from basin.core.streams import stream
from basin.core.types import Density
from basin.core.validation import all_finite, same_event_shape
from basin.datasets.conditioned import ConditionedRows
from basin.datasets.load import Dataset
from basin.datasets.rows import FreshDraws, Rows, TensorRows, as_rows
from basin.datasets.weighted import WeightedRows
from basin.training.checkpoint import checksum

__all__ = ["TrainingData"]

# Fresh draws of a Density that serve as held-out rows.
_NUM_VALIDATION_DRAWS = 4096
_VALIDATION_SEED = 2**31 - 1
# Rows whose checksum tells one table from another of the same shape.
_NUM_CHECKED_ROWS = 1024


@dataclass(frozen=True, eq=False)
class TrainingData:
    """Rows, held-out rows in the same units, and what ``config.json`` says about them."""

    rows: Rows
    validation: Tensor | None
    density: Density | None
    description: dict[str, Any]
    conditioned: ConditionedRows | None = None

    @classmethod
    def of(
        cls,
        x: Any,
        validation: Tensor | None,
        *,
        condition: Tensor | None = None,
        sample_weight: Tensor | None = None,
    ) -> TrainingData:
        """From what :func:`basin.fit` takes: tensor, array, Density, Rows or loaded data set."""
        if isinstance(x, Dataset):
            rows, density = x.train, x.density
            validation = x.validation if validation is None else validation
            name, kind, columns, source = x.name, x.kind, x.columns, x.to_config()
        else:
            rows, density = as_rows(x), x if isinstance(x, Density) else None
            name, columns, source = type(x).__name__, None, None
            kind = "table" if density is None else "density"
        if isinstance(rows, FreshDraws) and validation is None:
            generator = torch.Generator().manual_seed(_VALIDATION_SEED)
            validation = rows.draw(_NUM_VALIDATION_DRAWS, generator)
        if validation is not None:
            if not isinstance(validation, Tensor):
                raise TypeError(f"validation must be a Tensor, got {type(validation)}")
            if not len(validation):
                raise ValueError("validation must have rows, got none; None holds none out")
            validation = validation.to(torch.float32)
            same_event_shape("validation", validation, rows.event_shape)
            all_finite("validation", validation)
        event_shape = rows.event_shape
        conditioned = None
        if condition is not None:
            if not isinstance(rows, TensorRows):
                raise ValueError(
                    "condition needs rows in memory, as a tensor or an array, got "
                    f"{type(x).__name__}"
                )
            if validation is not None:
                raise ValueError("validation must be None with a condition: it has none of its own")
            rows = conditioned = ConditionedRows(rows.values.to(torch.float32), condition)
        if sample_weight is not None:
            rows = WeightedRows(rows, sample_weight)
        description = {
            "name": name,
            "kind": kind,
            "source": source,
            "density": None if density is None else describe(density),
            "event_shape": list(event_shape),
            "columns": None if columns is None else list(columns),
            "num_rows": rows.num_rows,
            "num_validation_rows": None if validation is None else len(validation),
            "is_conditional": conditioned is not None,
            "is_weighted": sample_weight is not None,
            "rows_sha256": _rows_sha256(rows),
        }
        return cls(rows, validation, density, description, conditioned)

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one row of x, without its condition."""
        return tuple(self.description["event_shape"])

    def split(self, batch: Tensor) -> tuple[Tensor, Tensor | None]:
        """Rows of x and their conditions, where there are any."""
        return (batch, None) if self.conditioned is None else self.conditioned.split(batch)

    def initial_rows(self, most: int, seed: int) -> Tensor:
        """A random sample for what is settled before the first step: all rows when they are few."""
        generator = stream(seed, "initial rows")
        rows = self.rows
        if rows.num_rows is None or rows.num_rows > most or isinstance(rows, WeightedRows):
            return rows.draw(most, generator)
        return rows.take(0, rows.num_rows)[torch.randperm(rows.num_rows, generator=generator)]

    @property
    def is_finite_table(self) -> bool:
        """Whether the rows can be learned by heart."""
        return self.rows.num_rows is not None


def _rows_sha256(rows: Rows) -> str | None:
    """SHA-256 of the first rows of a table, as they are trained on; None for fresh draws."""
    if rows.num_rows is None:
        return None
    return checksum({"rows": rows.take(0, min(rows.num_rows, _NUM_CHECKED_ROWS))}, {})
