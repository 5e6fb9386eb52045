"""Nearest training rows: found exactly, in blocks; copies are told from draws."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from basin.evaluation.memorisation import memorisation
from basin.evaluation.nearest import nearest_distances


def _normal(n: int, generator: torch.Generator, dim: int = 2) -> Tensor:
    return torch.randn(n, dim, generator=generator)


@pytest.mark.parametrize("row_block", [7, 100_000])
def test_nearest_distances(row_block: int, generator: torch.Generator) -> None:
    queries, rows = _normal(53, generator, 5), _normal(211, generator, 5)
    found = nearest_distances(queries, rows, query_block=10, row_block=row_block)
    assert torch.allclose(found, torch.cdist(queries.double(), rows.double()).amin(dim=1))


def test_copies_far_from_the_origin_have_distance_zero(generator: torch.Generator) -> None:
    rows = 1e4 + _normal(300, generator)
    assert float(nearest_distances(rows[:50], rows).max()) == 0.0


def test_many_rows_along_a_line_are_told_apart(generator: torch.Generator) -> None:
    """Float32 products tell rows apart to 3e-4 of the spread; these are 2e-5 from each other."""
    rows = torch.rand(50_000, 1, generator=generator, dtype=torch.float64)
    queries = torch.rand(200, 1, generator=generator, dtype=torch.float64)
    assert float(nearest_distances(rows[:200], rows).max()) == 0.0
    ordered = rows.flatten().sort().values
    place = torch.searchsorted(ordered, queries.flatten()).clamp(1, len(rows) - 1)
    beside = torch.stack([ordered[place - 1], ordered[place]], dim=1)
    exact = (beside - queries).abs().amin(dim=1)
    assert torch.equal(nearest_distances(queries, rows), exact)


class _Streamed:
    """The interface of basin.datasets.Rows that is used here."""

    def __init__(self, rows: Tensor) -> None:
        self._rows, self.num_rows, self.largest = rows, len(rows), 0

    def take(self, start: int, stop: int) -> Tensor:
        self.largest = max(self.largest, stop - start)
        return self._rows[start:stop]


def test_rows_may_be_streamed(generator: torch.Generator) -> None:
    queries, rows = _normal(20, generator), _normal(500, generator)
    streamed = _Streamed(rows)
    found = nearest_distances(queries, streamed, row_block=64)
    assert torch.equal(found, nearest_distances(queries, rows, row_block=64))
    assert streamed.largest == 64


def test_fresh_draws_are_not_called_memorised(generator: torch.Generator) -> None:
    ratios, alarms = [], 0
    for _ in range(100):
        train, held_out, samples = (_normal(200, generator) for _ in range(3))
        found = memorisation(samples, train, held_out, generator)
        ratios.append(found.value)
        alarms += (found.p_value or 0) < 0.05
    assert alarms <= 5 + 3.9 * (100 * 0.05 * 0.95) ** 0.5
    spread = float(torch.tensor(ratios).std())
    assert spread == pytest.approx(found.standard_error or 0, rel=0.4)
    assert abs(sum(ratios) / 100 - 1) < 0.05


def test_copies_with_a_little_noise_are(generator: torch.Generator) -> None:
    train, held_out = _normal(500, generator), _normal(300, generator)
    copies = train[:300] + 0.01 * _normal(300, generator)
    found = memorisation(copies, train, held_out, generator)
    assert found.value < 0.3
    assert (found.p_value or 1) < 1e-4
    assert found.details["verdict"].startswith("memorises")
    exact = memorisation(train[:300], train, held_out, generator)
    assert exact.details["share_of_copies"] == 1.0
    swapped = memorisation(held_out, train, copies, generator)  # mutant: sets exchanged
    assert (swapped.p_value or 0) > 0.99


def test_samples_far_from_everything_do_not_memorise_and_do_not_fit(
    generator: torch.Generator,
) -> None:
    train, held_out = _normal(500, generator), _normal(300, generator)
    found = memorisation(3 * _normal(300, generator), train, held_out, generator)
    assert "farther" in found.details["verdict"]


def test_bad_arguments(generator: torch.Generator) -> None:
    x = _normal(10, generator)
    with pytest.raises(ValueError, match="samples must have shape"):
        memorisation(x[:, :1], x, x, generator)
    with pytest.raises(ValueError, match="rows must have shape"):
        memorisation(x, x[:, :1], x, generator)
    with pytest.raises(ValueError, match="at least one row"):
        memorisation(x, x[:0], x, generator)
