"""CSV, Parquet, NPY and NPZ tables: what is read, and one clear error for what cannot be."""

from __future__ import annotations

import gzip
import sys

import numpy as np
import pytest
import torch

from basin.datasets.load import load
from basin.datasets.moments import moments
from basin.datasets.read_csv import read_csv
from basin.datasets.read_rows import read_rows

pytest.importorskip("pyarrow")
import pyarrow
import pyarrow.parquet

HELD = {"validation_fraction": 0.2, "test_fraction": 0.2}


def write(path, text):
    path.write_text(text)
    return path


def numbers(num_rows=20, num_columns=3, seed=0):
    return np.random.default_rng(seed).normal(size=(num_rows, num_columns))


def csv_text(x, header="a,b,c", separator=","):
    lines = [separator.join(f"{value:.9g}" for value in row) for row in x]
    return "\n".join(([header] if header else []) + lines) + "\n"


# -- reading ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("separator", "header"),
    [(",", "a,b,c"), (";", '"a";"b";"c"'), ("\t", "a\tb\tc"), ("|", "a|b|c"), (" ", "a b c")],
)
def test_separators(tmp_path, separator, header):
    x = numbers()
    raw = read_csv(write(tmp_path / "x.csv", csv_text(x, header, separator)))
    assert raw.columns == ("a", "b", "c")
    np.testing.assert_allclose(raw.values, x, rtol=1e-8)


def test_a_csv_without_header_says_so(tmp_path):
    dataset = load(write(tmp_path / "x.csv", csv_text(numbers(), header="")))
    assert dataset.columns == ("x0", "x1", "x2")
    assert dataset.num_rows == 20
    assert "no header, so columns are x0, x1" in dataset.description


def test_numbers_that_may_be_names_need_to_be_told(tmp_path):
    path = write(tmp_path / "x.csv", csv_text(numbers(), header="0,1,2"))
    with pytest.raises(ValueError, match="column names or a row: say header=True or header=False"):
        load(path)
    assert load(path, header=True).columns == ("0", "1", "2")
    assert load(path, header=False).num_rows == 21


def test_csv_details(tmp_path):
    text = '\ufeff"a, b", c\r\n\r\n 1 ,"2"\r\n+3e0, -.5\r\n\r\n'
    path = tmp_path / "x.csv"
    path.write_bytes(text.encode())
    raw = read_csv(path)
    assert raw.columns == ("a, b", "c")
    assert raw.values.tolist() == [[1.0, 2.0], [3.0, -0.5]]
    assert raw.lines.tolist() == [3, 4]


def test_gzip_and_one_column(tmp_path):
    with gzip.open(tmp_path / "x.csv.gz", "wt") as file:
        file.write("height\n" + "\n".join(map(str, range(10))))
    dataset = load(tmp_path / "x.csv.gz")
    assert dataset.columns == ("height",)
    assert dataset.event_shape == (1,)


def test_columns_are_chosen_in_order_and_others_are_not_looked_at(tmp_path):
    text = "name,a,b\n" + "".join(f"n{i},{i},{i * i}\n" for i in range(10))
    dataset = load(write(tmp_path / "x.csv", text), columns=["b", "a"])
    assert dataset.columns == ("b", "a")
    row = dataset.train.take(0, 1)[0]
    assert row[0] == row[1] ** 2
    with pytest.raises(ValueError, match=r"'nme', which is there not at all; did you mean 'name'"):
        load(tmp_path / "x.csv", columns=["nme"])
    with pytest.raises(ValueError, match="must not repeat"):
        load(tmp_path / "x.csv", columns=["a", "a"])
    with pytest.raises(ValueError, match="list of column names, got"):
        load(tmp_path / "x.csv", columns=[0])
    with pytest.raises(ValueError, match="at least one column"):
        load(tmp_path / "x.csv", columns=[])


def test_parquet_equals_csv_equals_npy_equals_npz(tmp_path):
    x = numbers(50)
    write(
        tmp_path / "x.csv",
        "\n".join(["x0,x1,x2"] + [",".join(map(repr, map(float, row))) for row in x]),
    )
    table = pyarrow.table({f"x{i}": x[:, i] for i in range(3)})
    pyarrow.parquet.write_table(table, tmp_path / "x.parquet")
    np.save(tmp_path / "x.npy", x)
    np.savez_compressed(tmp_path / "x.npz", X=x, y=np.zeros(50))
    sets = [load(tmp_path / f"x.{ending}", seed=2) for ending in ("csv", "parquet", "npy", "npz")]
    sets.append(load(tmp_path / "x.npy", seed=2, memory_map=True))
    for dataset in sets:
        assert dataset.kind == "table"
        assert dataset.columns == ("x0", "x1", "x2")
        assert torch.equal(dataset.test, sets[0].test)
        assert torch.equal(dataset.validation, sets[0].validation)
        torch.testing.assert_close(dataset.shift, sets[0].shift, rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(dataset.scale, sets[0].scale, rtol=1e-6, atol=1e-7)


def test_parquet_types(tmp_path):
    table = pyarrow.table(
        {
            "flag": [True, False] * 5,
            "whole": pyarrow.array(range(10), pyarrow.int64()),
            "money": pyarrow.array([f"{i}.25" for i in range(10)]).cast(pyarrow.decimal128(5, 2)),
        }
    )
    pyarrow.parquet.write_table(table, tmp_path / "x.parquet")
    dataset = load(tmp_path / "x.parquet")
    rows = dataset.train.take(0, 8)
    assert set(rows[:, 0].tolist()) <= {0.0, 1.0}
    assert torch.equal(rows[:, 2], rows[:, 1] + 0.25)
    assert load(tmp_path / "x.parquet", columns=["money", "flag"]).columns == ("money", "flag")


def test_npz_keys(tmp_path):
    x = numbers()
    np.savez(tmp_path / "usual.npz", samples=x, sigma=0.1)
    np.savez(tmp_path / "only.npz", whatever=x)
    np.savez(tmp_path / "several.npz", train=x, test=x[:5])
    assert load(tmp_path / "usual.npz").num_rows == 20
    assert load(tmp_path / "only.npz").num_rows == 20
    with pytest.raises(
        ValueError, match=r"got train, test: choose with a colon, several.npz:train"
    ):
        load(tmp_path / "several.npz")
    dataset = load(f"{tmp_path}/several.npz:train")
    assert dataset.num_rows == 20
    assert load(**dataset.to_config()).num_rows == 20
    with pytest.raises(ValueError, match=r"no array 'tran'; did you mean 'train'"):
        load(f"{tmp_path}/several.npz:tran")


@pytest.mark.parametrize("dtype", ["u1", "i4", ">i8", "?", "f2", "f4", ">f8"])
def test_dtypes_become_float32(tmp_path, dtype):
    x = np.random.default_rng(0).integers(0, 2, size=(40, 2)).astype(dtype)
    np.save(tmp_path / "x.npy", x)
    for memory_map in (False, True):
        dataset = load(tmp_path / "x.npy", memory_map=memory_map)
        batch = dataset.train.draw(8, torch.Generator().manual_seed(0))
        assert batch.dtype == dataset.test.dtype == dataset.shift.dtype == torch.float32
        assert set(batch.unique().tolist()) <= {0.0, 1.0}


# -- standardisation -------------------------------------------------------------------------------


def test_shift_and_scale_come_from_the_training_part_only(tmp_path):
    x = numbers(200, 2)
    np.save(tmp_path / "x.npy", x)
    for memory_map in (False, True):
        dataset = load(tmp_path / "x.npy", memory_map=memory_map, **HELD)
        train = dataset.train.take(0, 120).double()
        torch.testing.assert_close(dataset.shift.double(), train.mean(0), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(
            dataset.scale.double(), train.std(0, correction=0), rtol=1e-5, atol=1e-6
        )
        # mutant: statistics of all rows leak the held-out ones
        assert np.abs(dataset.shift.numpy() - x.mean(0)).max() > 1e-3


def test_held_out_rows_do_not_move_the_statistics(tmp_path):
    x = numbers(100, 2)
    np.save(tmp_path / "x.npy", x)
    before = load(tmp_path / "x.npy")
    held_out = {tuple(row) for row in torch.cat([before.validation, before.test]).tolist()}
    is_held = np.array([tuple(row) in held_out for row in x.astype(np.float32).tolist()])
    assert is_held.sum() == 20
    x[is_held] += 1000.0
    np.save(tmp_path / "x.npy", x)
    after = load(tmp_path / "x.npy")
    assert torch.equal(before.shift, after.shift)
    assert torch.equal(before.scale, after.scale)


def test_moments_are_stable_far_from_zero():
    x = np.random.default_rng(0).normal(size=(10_000, 1)) + 1e8
    before = x.copy()
    measured = moments(x[i : i + 700] for i in range(0, len(x), 700))
    assert np.array_equal(x, before)
    assert measured.num_rows == 10_000
    np.testing.assert_allclose(measured.standard_deviation, x.std(axis=0), rtol=1e-9)
    # mutant: E x^2 - (E x)^2 cancels to nonsense
    assert abs(np.sqrt(abs((x**2).mean() - x.mean() ** 2)) - x.std()) > 1e-3


def test_constant_columns(tmp_path):
    x = numbers(30, 4)
    x[:, 1] = 7.0
    np.save(tmp_path / "x.npy", x)
    with pytest.raises(ValueError, match=r"constant 'x1' \(always 7\): say constant_columns="):
        load(tmp_path / "x.npy")
    for memory_map in (False, True):
        kept = load(tmp_path / "x.npy", constant_columns="keep", memory_map=memory_map)
        assert kept.scale[1] == 1.0
        assert kept.shift[1] == 7.0
        dropped = load(tmp_path / "x.npy", constant_columns="drop", memory_map=memory_map)
        assert dropped.columns == ("x0", "x2", "x3")
        assert "constant columns dropped: x1" in dropped.description
        assert torch.equal(dropped.test, kept.test[:, [0, 2, 3]])
        assert dropped.train.take(0, 5).shape == (5, 3)
        assert dropped.event_shape == dropped.shift.shape == (3,)
        again = load(**dropped.to_config())
        assert again.columns == dropped.columns
    np.save(tmp_path / "x.npy", np.ones((30, 2)))
    with pytest.raises(ValueError, match="column that varies, got none"):
        load(tmp_path / "x.npy", constant_columns="drop")
    with pytest.raises(ValueError, match="'error', 'keep' or 'drop', got 'ignore'"):
        load(tmp_path / "x.npy", constant_columns="ignore")


def test_a_column_that_is_constant_only_up_to_rounding_is_constant(tmp_path):
    x = numbers(30, 2)
    x[:, 0] = 0.1 + 1e-17 * np.arange(30)
    x[::2, 0] += 1e-16
    np.save(tmp_path / "x.npy", x)
    with pytest.raises(ValueError, match="constant 'x0'"):
        load(tmp_path / "x.npy")


def test_a_column_that_float32_would_round_away(tmp_path):
    x = numbers(30, 2)
    x[:, 1] = 1.7e9 + 100 * x[:, 1]
    np.save(tmp_path / "time.npy", x)
    with pytest.raises(ValueError, match=r"column 'x1' of .* \(float32 steps there are 128\)"):
        load(tmp_path / "time.npy")
    x[:, 1] = 1e-25 * (1 + np.arange(30))
    np.save(tmp_path / "tiny.npy", x)
    with pytest.raises(ValueError, match=r"'x1' of .* change its unit"):
        load(tmp_path / "tiny.npy")


def test_duplicates_across_parts_are_counted_and_kept(tmp_path):
    x = numbers(100, 2).round(3)
    x = np.concatenate([x, x])
    np.save(tmp_path / "x.npy", x)
    for memory_map in (False, True):
        dataset = load(tmp_path / "x.npy", memory_map=memory_map)
        train = {tuple(row) for row in dataset.train.take(0, 160).tolist()}
        held_out = torch.cat([dataset.validation, dataset.test]).tolist()
        expected = sum(tuple(row) in train for row in held_out)
        assert expected > 20
        assert dataset.num_duplicates == expected
        assert dataset.num_rows == 200
        assert f"{expected} held-out rows also in the training part" in dataset.description
    np.save(tmp_path / "y.npy", numbers(100, 2))
    assert load(tmp_path / "y.npy").num_duplicates == 0


# -- what cannot be read ---------------------------------------------------------------------------

GOOD = "".join(f"{i},{i * i % 7}\n" for i in range(12))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", r"is empty \(0 bytes\)"),
        ("\n\n  \n", r"is empty: it must have"),
        ("a,b\n", r"must have rows, got only a header \(line 1\)"),
        ("a,b\n1,2\n", r"at least 2 rows, got 1 row"),
        ("a,b\n1,2\n3,5\n4,4\n", r"validation_fraction must make at least one row"),
        ("a,b\n" + GOOD + "1,2,3\n4\n", r"2 cells in every line.*2 lines.*line 14 has 3, line 15"),
        (
            "age,city\n" + GOOD + "30,Bonn\n31,Rome\n",
            r"got text: column 'city' in 2 rows \(line 14 \('Bonn'\), 15 \('Rome'\)\).*columns=\[",
        ),
        (
            "a,b\n" + GOOD + "1,\nNA,2\n3,?\n",
            r"no missing values, got: column 'b' in 2 rows \(line 14, 16\); column 'a' in 1 row",
        ),
        ("a,b\n" + GOOD + "1,NaN\n", r"missing values, got: column 'b' in 1 row \(line 14\)"),
        ("a,b\n" + GOOD + "1,-inf\n", r"finite numbers.*column 'b' in 1 row \(line 14 \(-inf\)\)"),
        ("a,b\n" + GOOD + "1,1e39\n", r"3.4e38.*column 'b' in 1 row \(first: lines 14\)"),
        ("a,b\n" + GOOD + "1,1e400\n", r"finite numbers.*column 'b'"),
        ("a;b\n1,5;2\n2,5;3\n", r"decimal commas must be points"),
        (",b\n" + GOOD, r"no name for column 1 of 2 \(often a saved row index\)"),
        ("a,a\n" + GOOD, r"got 'a' 2 times"),
        ("a,b\n" + "".join(f"{i},5\n" for i in range(12)), r"constant 'b' \(always 5\)"),
        ('a,b\n1,"2\n3,4\n', r"must be a table in text"),
        ("hello\nworld\n", r"got text: column 'hello'"),
    ],
)
def test_csv_that_cannot_be_used(tmp_path, text, sentence):
    path = write(tmp_path / "x.csv", text)
    with pytest.raises(ValueError, match=sentence) as caught:
        load(path)
    assert "x.csv" in str(caught.value) or "fraction" in str(caught.value)


def test_many_bad_cells_make_a_short_error(tmp_path):
    text = ",".join(f"c{i}" for i in range(30)) + "\n" + (",".join(["x"] * 30) + "\n") * 500
    with pytest.raises(ValueError, match="and 25 more columns") as caught:
        load(write(tmp_path / "x.csv", text))
    assert "in 500 rows (first: line 2 ('x')" in str(caught.value)
    assert len(str(caught.value)) < 1200


@pytest.mark.parametrize("content", [b"a,b\n1,\xff\n", b"\xff\xfea\x00,\x00b\x00", b"\x80PK"])
def test_csv_in_another_encoding(tmp_path, content):
    (tmp_path / "x.csv").write_bytes(content)
    with pytest.raises(ValueError, match="must be UTF-8 text, got byte"):
        load(tmp_path / "x.csv")


def test_nan_in_arrays_names_column_and_rows(tmp_path):
    x = numbers(300_000, 3).astype(np.float32)
    x[[4, 250_000], 1] = np.nan
    x[9, 2] = np.inf
    np.save(tmp_path / "x.npy", x)
    pyarrow.parquet.write_table(
        pyarrow.table({f"x{i}": x[:, i] for i in range(3)}), tmp_path / "x.parquet"
    )
    for name, memory_map in (("x.npy", False), ("x.npy", True), ("x.parquet", None)):
        with pytest.raises(
            ValueError,
            match=r"NaN or infinity: column 'x1' in 2 rows \(first: rows 4, 250000 counting from 0"
            r"\); column 'x2' in 1 row \(first: rows 9 ",
        ):
            load(tmp_path / name, memory_map=memory_map)


def test_parquet_that_cannot_be_used(tmp_path):
    def saved(**columns):
        pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "x.parquet")
        return tmp_path / "x.parquet"

    with pytest.raises(ValueError, match=r"missing values, got: column 'b' in 2 rows \(row 1, 3\)"):
        load(saved(a=[1.0, 2, 3, 4], b=[1, None, 2, None]))
    with pytest.raises(ValueError, match=r"column 'city' of string"):
        load(saved(a=[1, 2], city=["Bonn", "Rome"]))
    with pytest.raises(ValueError, match=r"column 'v' of list"):
        load(saved(v=[[1.0], [2.0]]))
    with pytest.raises(ValueError, match="must have rows, got none"):
        load(saved(a=pyarrow.array([], pyarrow.float64())))
    with pytest.raises(ValueError, match="'c', which is there not at all"):
        load(saved(a=[1, 2]), columns=["c"])


def test_a_missing_reader_says_what_to_install(tmp_path, monkeypatch):
    pyarrow.parquet.write_table(pyarrow.table({"a": [1, 2, 3]}), tmp_path / "x.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"pip install basin\[parquet\]"):
        load(tmp_path / "x.parquet")


@pytest.mark.parametrize(
    ("x", "sentence"),
    [
        (np.zeros(5), r"got \(5,\); one number a row is the shape \(rows, 1\)"),
        (np.zeros((2, 2, 2, 2, 2)), r"must have shape \(rows, columns\)"),
        (np.zeros((0, 3)), r"must have rows, got none"),
        (np.zeros((9, 0)), r"at least one column"),
        (np.array([["a", "b"]] * 9), r"real numbers, got text"),
        (np.zeros((9, 2), dtype=complex), r"complex numbers"),
        (np.zeros(9, dtype=[("a", "f4")]), r"records"),
        (np.zeros((9, 2), dtype="M8[D]"), r"dates"),
        (np.full((9, 2), 1e300), r"3.4e38.*divide by a constant"),
    ],
)
def test_arrays_that_cannot_be_used(tmp_path, x, sentence):
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "x.npz", x)
    for name in ("x.npy", "x.npz"):
        with pytest.raises(ValueError, match=sentence):
            load(tmp_path / name)


# -- rows for a trained model ----------------------------------------------------------------------


def test_rows_to_score(tmp_path):
    text = "c,name,b,a\n" + "".join(f"{i},n{i},{i * 2},{i * 3}\n" for i in range(5))
    path = write(tmp_path / "x.csv", text)
    rows = read_rows(path, (2,), columns=("a", "b"))
    assert torch.equal(rows.take(1, 3), torch.tensor([[3.0, 2.0], [6.0, 4.0]]))
    assert len(rows) == 5
    np.save(tmp_path / "x.npy", np.arange(6.0).reshape(3, 2))
    rows = read_rows(tmp_path / "x.npy", (2,), columns=("a", "b"))
    assert torch.equal(rows.take(0, 3), torch.arange(6.0).reshape(3, 2))
    one = write(tmp_path / "one.csv", "a,b\n1,2\n")
    assert len(read_rows(one, (2,), columns=("a", "b"))) == 1
    assert read_rows("digits", (1, 8, 8)).num_rows == 1797
    with pytest.raises(ValueError, match=r"got 'age', which is there not at all"):
        read_rows(path, (2,), columns=("a", "age"))
    with pytest.raises(
        ValueError, match=r"must have rows of shape \(3,\), which the model .*\(2,\)"
    ):
        read_rows(tmp_path / "x.npy", (3,))
    with pytest.raises(ValueError, match=r"must have rows of shape \(3,\)|not at all"):
        read_rows(tmp_path / "x.npy", (3,), columns=("a", "b", "c"))
    with pytest.raises(ValueError, match="drawn afresh"):
        read_rows("checkerboard", (2,))
    np.save(tmp_path / "x.npy", np.array([[1.0, np.nan]]))
    with pytest.raises(ValueError, match=r"column 'x1' in 1 row \(first: rows 0"):
        read_rows(tmp_path / "x.npy", (2,))


def test_a_column_that_float32_would_round_away_is_not_called_constant(tmp_path):
    rows = np.random.default_rng(0).normal(size=(50, 2))
    rows[:, 1] = 1.7e9 + np.arange(50) / 10  # times, in seconds
    np.save(tmp_path / "x.npy", rows)
    with pytest.raises(ValueError, match=r"'x1' of .*must fit float32.*subtract a constant"):
        load(tmp_path / "x.npy")
