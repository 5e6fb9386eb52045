"""Rows are drawn uniformly with replacement, from memory, from a file and from a density."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from basin.core.types import Density
from basin.datasets.rows import FreshDraws, MemoryMappedRows, TensorRows, as_rows


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


class Line(Density):
    event_shape = (1,)
    is_smooth = True
    bounds = torch.tensor([[-9.0, 9.0]])
    mode_weights = torch.ones(1)

    def sample(self, n, generator):
        return torch.randn(n, 1, generator=generator)

    def log_prob(self, x):
        return -x.square().sum(1)

    def blurred(self, sigma):
        return self

    def mode_of(self, x):
        return torch.zeros(len(x), dtype=torch.int64)


@pytest.fixture
def mapped(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, np.arange(40, dtype=np.float32).reshape(20, 2))
    return path


def uniform_p_value(drawn, num_rows):
    return stats.chisquare(np.bincount(drawn, minlength=num_rows)).pvalue


def test_draws_are_uniform_over_the_kept_rows(mapped):
    left_out = torch.tensor([0, 7, 8, 19])
    for rows, kept in (
        (TensorRows(torch.arange(16).reshape(16, 1)), list(range(16))),
        (
            MemoryMappedRows(mapped, left_out=left_out, columns=[0]),
            [2 * i for i in range(20) if i not in (0, 7, 8, 19)],
        ),
        (MemoryMappedRows(mapped, 4, 20, columns=[0]), [2 * i for i in range(4, 20)]),
    ):
        values = rows.draw(16_000, generator(1)).flatten().long().tolist()
        assert set(values) == set(kept)
        position = {value: index for index, value in enumerate(kept)}
        assert uniform_p_value([position[value] for value in values], 16) > 1e-4
        # mutant: the last row is never drawn (randint one short)
        short = torch.randint(15, (16_000,), generator=generator(1)).tolist()
        assert uniform_p_value(short, 16) < 1e-4


def test_same_generator_state_gives_the_same_batch(mapped):
    for rows in (
        TensorRows(torch.randn(50, 3, generator=generator())),
        MemoryMappedRows(mapped),
        FreshDraws(Line()),
    ):
        g = generator(5)
        first = rows.draw(8, g)
        state = g.get_state()
        second = rows.draw(8, g)
        assert not torch.equal(first, second)
        g.set_state(state)
        assert torch.equal(rows.draw(8, g), second)
        assert second.shape == (8, *rows.event_shape)
        assert second.dtype == torch.float32


def test_memory_mapped_rows_equal_the_array(mapped):
    array = np.load(mapped)
    left_out = torch.tensor([3, 4, 11])
    rows = MemoryMappedRows(mapped, 2, 18, left_out=left_out)
    kept = [i for i in range(2, 18) if i not in (3, 4, 11)]
    assert rows.num_rows == len(rows) == len(kept)
    assert torch.equal(rows.take(0, len(kept)), torch.from_numpy(array[kept]))
    assert torch.equal(rows.take(1, 3), torch.from_numpy(array[[5, 6]]))
    assert torch.equal(rows.at(torch.tensor([8, 0])), torch.from_numpy(array[[kept[8], 2]]))
    assert rows.take(4, 4).shape == (0, 2)


@pytest.mark.parametrize("dtype", ["<f8", ">f4", "<f2", "u1", "<i2", ">i8", "?"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_any_real_dtype_becomes_float32(tmp_path, dtype, order):
    array = np.asarray(np.arange(12).reshape(6, 2) % 2, dtype=dtype, order=order)
    np.save(tmp_path / "x.npy", array)
    for rows in (MemoryMappedRows(tmp_path / "x.npy"), as_rows(array)):
        assert torch.equal(rows.take(0, 6), torch.from_numpy(array.astype(np.float32)))


def test_bytes_stay_bytes_in_memory():
    rows = as_rows(np.full((4, 1, 8, 8), 255, dtype=np.uint8))
    assert isinstance(rows, TensorRows)
    assert rows.values.dtype == torch.uint8
    assert rows.draw(2, generator()).max() == 255.0


def test_float64_on_request():
    x = torch.tensor([[1.0 + 1e-12], [2.0]], dtype=torch.float64)
    assert as_rows(x).take(0, 1).dtype == torch.float32
    assert torch.equal(as_rows(x, dtype=torch.float64).take(0, 2), x)


def test_as_rows_takes_what_it_should(mapped):
    memory_map = np.load(mapped, mmap_mode="r")
    assert isinstance(as_rows(memory_map), MemoryMappedRows)
    assert isinstance(as_rows(np.zeros((3, 2))), TensorRows)
    assert isinstance(as_rows(torch.zeros(3, 1, 4, 4)), TensorRows)
    assert isinstance(as_rows(Line()), FreshDraws)
    rows = as_rows(torch.zeros(3, 2))
    assert as_rows(rows) is rows
    assert as_rows(Line()).num_rows is None


def test_inputs_are_untouched_and_not_copied():
    x = torch.randn(10, 2, generator=generator())
    before = x.clone()
    rows = as_rows(x)
    batch = rows.draw(10, generator())
    batch.zero_()
    assert torch.equal(x, before)
    assert rows.values.data_ptr() == x.data_ptr()
    array = np.random.default_rng(0).normal(size=(5, 1)).astype(np.float32)
    array.flags.writeable = False
    assert torch.equal(as_rows(array).take(0, 5), torch.tensor(array))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e39])
def test_bad_numbers_are_named_by_row(value, tmp_path):
    x = np.zeros((300_000, 2))
    x[[17, 299_999], [0, 1]] = value
    np.save(tmp_path / "x.npy", x)
    for given in (x, torch.from_numpy(x), np.load(tmp_path / "x.npy", mmap_mode="r")):
        with pytest.raises(ValueError, match=r"2 of 300,000 rows \(first: 17, 299999\)"):
            as_rows(given)


@pytest.mark.parametrize(
    ("x", "sentence"),
    [
        (torch.zeros(0, 2), r"must have rows, got none"),
        (torch.zeros(1, 2), r"at least 2 rows, got 1 row"),
        (torch.zeros(5), r"shape \(rows, \*event\), got \(5,\)"),
        (torch.zeros(5, 0), r"at least one column"),
        (torch.zeros(5, 2, dtype=torch.complex64), r"real numbers"),
        (np.array([["a"], ["b"]]), r"real numbers, got text"),
        (np.array([[None], [1]]), r"Python objects.*never unpickles"),
        (np.zeros((2, 2), dtype="M8[s]"), r"dates"),
        (np.zeros((2, 2), dtype=complex), r"complex"),
    ],
)
def test_what_is_no_rows_of_numbers(x, sentence):
    with pytest.raises(ValueError, match=sentence):
        as_rows(x)


def test_other_types_and_ranges():
    with pytest.raises(TypeError, match="Density or Rows, got <class 'list'>"):
        as_rows([[1.0]])
    rows = TensorRows(torch.zeros(4, 2))
    with pytest.raises(ValueError, match="0 <= start <= stop <= 4, got 2, 9"):
        rows.take(2, 9)
    with pytest.raises(ValueError, match="n must be a positive whole number, got 0"):
        rows.draw(0, generator())
    with pytest.raises(ValueError, match="drawn afresh"):
        FreshDraws(Line()).take(0, 3)
    with pytest.raises(TypeError, match="no length"):
        len(FreshDraws(Line()))
