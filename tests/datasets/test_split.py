"""Parts are disjoint, cover everything, are uniformly random, and need no permutation."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch
from scipy import stats

from basin.datasets.split import kept_row, leave_out, split_rows


@pytest.mark.parametrize("num_rows", [5, 6, 20, 150, 1797, 50_000])
@pytest.mark.parametrize("seed", [0, 7])
def test_parts_are_disjoint_and_cover_everything(num_rows, seed):
    split = split_rows(num_rows, seed=seed)
    parts = torch.cat([split.train(), split.validation, split.test])
    assert torch.equal(parts.sort().values, torch.arange(num_rows))
    assert split.num_train == len(split.train())
    assert len(split.validation) == len(split.test) == int(num_rows * 0.1 + 0.5)


def test_same_seed_same_split_other_seed_other():
    one, again, other = (split_rows(1000, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(one.test, again.test)
    assert torch.equal(one.train(), again.train())
    assert not torch.equal(one.test, other.test)


def test_a_hundred_million_rows_need_no_memory():
    tracemalloc.start()
    split = split_rows(10**8, seed=1)
    held_out = split.held_out
    last = kept_row(torch.tensor([0, split.num_train - 1]), held_out)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(held_out.unique()) == 20_000 == 10**8 - split.num_train
    assert 0 <= last[0] <= last[1] < 10**8
    assert peak < 20e6
    position = held_out.double() / 10**8
    assert stats.kstest(position.numpy(), "uniform").pvalue > 1e-4
    # mutant: the first rows of the file are held out
    assert stats.kstest(np.arange(20_000) / 10**8, "uniform").pvalue < 1e-4


def test_kept_row_skips_exactly_the_rows_left_out():
    left_out = torch.tensor([0, 1, 5, 9])
    expected = [2, 3, 4, 6, 7, 8, 10, 11]
    assert kept_row(torch.arange(8), left_out).tolist() == expected
    # mutant: searchsorted without right=True lands on left-out rows
    gaps = left_out - torch.arange(4)
    mutant = torch.arange(8) + torch.searchsorted(gaps, torch.arange(8), right=False)
    assert set(mutant.tolist()) & set(left_out.tolist())


def test_leave_out_of_a_chunk():
    part = np.arange(10, 20)[:, None]
    kept = leave_out(part, 10, torch.tensor([3, 10, 13, 14, 19, 25])).flatten().tolist()
    assert kept == [11, 12, 15, 16, 17, 18]
    assert leave_out(part, 10, torch.arange(10, 20)).shape == (0, 1)


def test_fractions():
    split = split_rows(100, validation_fraction=0.0, test_fraction=0.25)
    assert (len(split.validation), len(split.test), split.num_train) == (0, 25, 75)
    split = split_rows(2, validation_fraction=0, test_fraction=0)
    assert split.num_train == 2
    split = split_rows(1000, max_held_out=7)
    assert (len(split.validation), len(split.test)) == (7, 7)


@pytest.mark.parametrize(
    ("num_rows", "options", "sentence"),
    [
        (4, {}, r"validation_fraction must make at least one row, got 0.1 of 4 rows"),
        (10, {"test_fraction": 0.01}, r"test_fraction must make at least one row"),
        (10, {"validation_fraction": 0.5, "test_fraction": 0.5}, r"at least 2 rows, got 0 of 10"),
        (1, {}, r"at least 2 rows, got 1 of 1"),
        (10, {"validation_fraction": 1.0}, r"below 1, got 1.0"),
        (10, {"validation_fraction": -0.1}, r"at least 0 and below 1, got -0.1"),
        (10, {"test_fraction": float("nan")}, r"below 1, got nan"),
        (10, {"seed": -1}, r"seed must be a whole number"),
        (10, {"seed": 0.5}, r"seed must be a whole number"),
        (10, {"max_held_out": 0}, r"max_held_out must be a positive whole number"),
    ],
)
def test_bad_splits(num_rows, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        split_rows(num_rows, **options)
