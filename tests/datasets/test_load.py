"""``load``: names, paths, configurations that load the same again, and data that changed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from basin.core.types import Density
from basin.datasets.catalogue import canonical_name, catalogue, snake_case, toy_densities
from basin.datasets.load import load
from basin.datasets.rows import FreshDraws, MemoryMappedRows, TensorRows

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason=f"no real data at {SHARED}")

TOYS = [
    "checkerboard",
    "eight_gaussians",
    "pinwheel",
    "rings",
    "standard_gaussian",
    "swiss_roll",
    "two_blobs",
    "two_moons",
    "two_spirals",
]


@pytest.fixture
def table(tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(60, 2)))
    return tmp_path / "x.npy"


@pytest.mark.parametrize("name", [entry.name for entry in catalogue()])
def test_everything_in_the_catalogue_loads(name):
    entry = next(entry for entry in catalogue() if entry.name == name)
    dataset = load(name)
    assert dataset.kind == entry.kind
    assert entry.description
    batch = dataset.train.draw(16, torch.Generator().manual_seed(0))
    assert batch.shape == (16, *dataset.event_shape)
    assert batch.dtype == torch.float32
    assert torch.isfinite(batch).all()
    config = json.loads(json.dumps(dataset.to_config()))
    again = load(**config)
    assert torch.equal(again.train.draw(16, torch.Generator().manual_seed(0)), batch)
    assert again.to_config() == dataset.to_config()


@pytest.mark.parametrize("name", TOYS)
def test_toy_densities(name):
    dataset = load(name)
    assert isinstance(dataset.density, Density)
    assert isinstance(dataset.train, FreshDraws)
    assert dataset.validation is None
    assert dataset.test is None
    assert (float(dataset.shift), float(dataset.scale)) == (0.0, 1.0)
    assert dataset.num_rows is None
    assert dataset.train.num_rows is None


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("8gaussians", "eight_gaussians"),
        ("2spirals", "two_spirals"),
        ("8_gaussians", "eight_gaussians"),
        ("EightGaussians", "eight_gaussians"),
        ("two-moons", "two_moons"),
        ("Checkerboard", "checkerboard"),
        ("gaussian", "standard_gaussian"),
        ("breast-cancer", "breast_cancer"),
        ("nothing", None),
        ("", None),
    ],
)
def test_other_spellings(word, name):
    assert canonical_name(word) == name


def test_snake_case_is_the_inverse_of_camel_case():
    for name, density in toy_densities().items():
        assert name == snake_case(density.__name__)
        assert "".join(part.title() for part in name.split("_")) == density.__name__


@pytest.mark.parametrize(
    ("name", "num_columns"), [("iris", 4), ("wine", 13), ("breast_cancer", 30)]
)
def test_scikit_learn_tables(name, num_columns):
    dataset = load(name)
    assert dataset.kind == "table"
    assert len(dataset.columns) == num_columns == len(dataset.shift)
    assert isinstance(dataset.train, TensorRows)
    parts = len(dataset.train) + len(dataset.validation) + len(dataset.test)
    assert parts == dataset.num_rows
    standard = (dataset.train.take(0, len(dataset.train)) - dataset.shift) / dataset.scale
    torch.testing.assert_close(standard.mean(0), torch.zeros(num_columns), atol=1e-4, rtol=0)
    torch.testing.assert_close(
        standard.std(0, correction=0), torch.ones(num_columns), atol=1e-4, rtol=0
    )


def test_chosen_columns_of_scikit_learn():
    dataset = load("iris", columns=["petal width (cm)"])
    assert dataset.event_shape == (1,)
    with pytest.raises(ValueError, match="did you mean 'petal width"):
        load("iris", columns=["petal width"])


def test_nothing_held_out(table):
    dataset = load(table, validation_fraction=0, test_fraction=0)
    assert dataset.validation is None
    assert dataset.test is None
    assert dataset.train.num_rows == 60


def test_configuration_survives_another_working_directory(table, monkeypatch):
    monkeypatch.chdir(table.parent)
    dataset = load("x.npy", seed=5, columns=["x1"])
    monkeypatch.chdir("/")
    again = load(**dataset.to_config())
    assert torch.equal(again.test, dataset.test)
    assert again.name == dataset.name == "x.npy"


def test_a_changed_file_is_noticed(table):
    config = load(table).to_config()
    x = np.load(table)
    x[3, 1] += 1
    np.save(table, x)
    with pytest.raises(
        ValueError, match="changed: its content differs; restore it, or use it as it is now"
    ):
        load(**config)
    assert load(**{**config, "fingerprint": None}).num_rows == 60
    with pytest.raises(ValueError, match="changed"):
        load("iris", fingerprint=config["fingerprint"])
    with pytest.raises(ValueError, match="changed"):
        load("checkerboard", fingerprint=config["fingerprint"])


def test_a_large_file_is_sampled(tmp_path, monkeypatch):
    """As if 10 MB were 100 MB."""
    module = sys.modules["basin.datasets.fingerprint"]  # its name is that of its function
    assert module.WHOLE_BELOW == 100_000_000
    monkeypatch.setattr(module, "WHOLE_BELOW", 10_000_000)
    path = tmp_path / "large.npy"
    np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(1_010_000, 10))[::2] = 1
    dataset = load(path)
    config = dataset.to_config()
    assert config["fingerprint"].startswith("sampled:10100128:")
    assert (len(dataset.validation), len(dataset.test)) == (10_000, 10_000)
    os.utime(path, ns=(1, 1))
    with pytest.raises(ValueError, match="size and samples agree, but it was written since"):
        load(**config)
    with path.open("r+b") as file:
        file.seek(200)
        file.write(b"\7")
    os.utime(path, ns=(1, 1))
    with pytest.raises(ValueError, match="its content differs"):
        load(**config)
    with path.open("ab") as file:
        file.write(b"more")
    with pytest.raises(ValueError, match="it had 10,100,128 bytes and has 10,100,132"):
        load(**config)


def test_memory_map_is_chosen_by_size_or_by_hand(table):
    assert isinstance(load(table).train, TensorRows)
    mapped = load(table, memory_map=True)
    assert isinstance(mapped.train, MemoryMappedRows)
    assert "memory-mapped" in mapped.description
    (table.parent / "x.csv").write_text("a\n1\n2\n")
    with pytest.raises(ValueError, match="memory_map needs a NPY file"):
        load(table.parent / "x.csv", memory_map=True)


@pytest.mark.parametrize(
    ("source", "error", "sentence"),
    [
        ("chekerboard", ValueError, r"got 'chekerboard'; did you mean 'checkerboard'\?"),
        ("qqq", ValueError, r"known: .*'checkerboard'.*`basin data` lists"),
        ("", ValueError, r"known name or a path, got ''"),
        ("{folder}/y.npy", FileNotFoundError, r"y.npy: no such file; did you mean 'x.npy'\?"),
        ("{folder}/no/x.npy", FileNotFoundError, r"no such file \(nor a folder .*/no\)"),
        ("{folder}/x.h5", ValueError, r"format that is known by its ending.*\.parquet"),
        ("/dev/null", ValueError, r"must be a file or a folder, got /dev/null"),
    ],
)
def test_sources_that_are_not_there(table, source, error, sentence):
    (table.parent / "x.h5").write_bytes(b"\x89HDF")
    with pytest.raises(error, match=sentence):
        load(source.format(folder=table.parent))


def test_options_that_do_not_apply(table):
    with pytest.raises(ValueError, match="for the density checkerboard"):
        load("checkerboard", columns=["x"])
    with pytest.raises(ValueError, match="header is for text files"):
        load(table, header=True)


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        ({"validation_fraction": "x"}, TypeError, "validation_fraction must be a number, got 'x'"),
        ({"test_fraction": "0.1"}, TypeError, "test_fraction must be a number, got '0.1'"),
        ({"test_fraction": True}, TypeError, "test_fraction must be a number, got True"),
        ({"test_fraction": 1.5}, ValueError, "test_fraction must be at least 0 and below 1"),
        ({"test_fraction": float("nan")}, ValueError, "at least 0 and below 1, got nan"),
        ({"header": "x"}, TypeError, "header must be True, False or None, got 'x'"),
        ({"memory_map": 1}, TypeError, "memory_map must be True, False or None, got 1"),
        ({"columns": "ab"}, TypeError, "columns must be a list of column names, got 'ab'"),
        ({"columns": 3}, TypeError, "columns must be a list of column names, got 3"),
        ({"max_held_out": "x"}, ValueError, "max_held_out must be a positive whole number"),
        ({"seed": "x"}, ValueError, "seed must be a whole number"),
    ],
)
@pytest.mark.parametrize("source", ["checkerboard", "iris", "no/such.csv"])
def test_options_of_another_type_are_named_before_a_row_is_read(source, options, error, sentence):
    with pytest.raises(error, match=sentence):
        load(source, **options)


def test_a_source_of_another_type_is_named():
    with pytest.raises(TypeError, match="source must be a name or a path, got 3"):
        load(3)


def test_a_fraction_may_be_any_real_number():
    assert len(load("iris", test_fraction=np.float32(0.2)).test) == 30


@pytest.mark.slow
def test_a_mapped_file_is_never_in_memory(tmp_path):
    script = Path(__file__).resolve().parents[2] / "benchmarks" / "memory_mapped_training.py"
    command = [sys.executable, script, "--rows", "10000000", "--num_steps", "200"]
    done = subprocess.run(
        [*command, "--folder", tmp_path], capture_output=True, text=True, check=True
    )
    at_import, _, after_draws, after_fit = map(
        float, re.findall(r"peak +([0-9.]+) MB +file", done.stdout)
    )
    assert after_draws - at_import < 60 < 80  # the file has 80 MB
    assert after_fit < 1500


@needs_shared
@pytest.mark.parametrize(
    ("path", "num_rows", "num_columns"),
    [
        ("uci/winequality-red.csv", 1599, 12),
        ("uci/parkinsons_updrs.data", 5875, 22),
        ("adbench/32_shuttle.npz", 49097, 9),
    ],
)
def test_real_tables(path, num_rows, num_columns):
    dataset = load(SHARED / path)
    assert dataset.num_rows == num_rows
    assert dataset.event_shape == (num_columns,)


@needs_shared
def test_real_images():
    dataset = load(SHARED / "mnist" / "notmnist-t10k-images-idx3-ubyte.gz")
    assert (dataset.num_rows, dataset.event_shape) == (10_000, (1, 28, 28))
    with pytest.raises(ValueError, match=r"mnist\.npz:x_train"):
        load(SHARED / "mnist" / "mnist.npz")
