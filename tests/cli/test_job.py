"""The steps of the main job as library calls."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch

from basin.cli.job import build_energy, check_out, default_energy_name, write_rows
from basin.datasets import load
from basin.energies import MLP, NoiseConditional, Standardised
from basin.objectives import DenoisingScoreMatching, DualScoreMatching


def test_a_ladder_of_levels_gets_a_noise_conditional_energy():
    assert default_energy_name(DualScoreMatching) == "NoiseConditional"
    assert default_energy_name(DenoisingScoreMatching) == "MLP"


def test_a_table_is_standardised_and_a_density_is_not():
    table = build_energy(load("wine"), NoiseConditional, {"hidden": (8,)})
    assert isinstance(table, Standardised)
    assert table.event_shape == (13,)
    density = build_energy(load("checkerboard"), MLP, {"hidden": (8,)})
    assert isinstance(density, MLP)
    images = build_energy(load("digits"), MLP, {"hidden": (8,)})
    assert images(torch.zeros(2, *load("digits").event_shape)).shape == (2,)


def test_out_may_be_new_or_empty(tmp_path):
    check_out(tmp_path / "new", overwrite=False)
    check_out(tmp_path, overwrite=False)
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="must be a folder, got the file"):
        check_out(tmp_path / "file", overwrite=False)


def test_a_csv_survives_strange_names_and_large_numbers(tmp_path):
    path = tmp_path / "rows.csv"
    names = ["a,b", 'the "best"', "plain"]
    rows = torch.tensor([[1.5, -2.0, 123456.79], [0.0, 1e-30, 3e30]])
    write_rows(path, {"samples": rows}, names)
    with path.open(newline="") as file:
        header, *lines = list(csv.reader(file))
    assert header == names
    assert torch.equal(torch.tensor([[float(x) for x in line] for line in lines]), rows)


def test_images_are_flattened_in_a_csv_only(tmp_path):
    images = torch.arange(8.0).reshape(2, 1, 2, 2)
    write_rows(tmp_path / "x.csv", {"samples": images}, None)
    assert (tmp_path / "x.csv").read_text().splitlines()[0] == "x0,x1,x2,x3"
    write_rows(tmp_path / "x.npz", {"samples": images}, None, sigma=0.5)
    with np.load(tmp_path / "x.npz") as file:
        assert file["samples"].shape == (2, 1, 2, 2)
        assert file["sigma"] == 0.5


def test_an_unknown_ending_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"must end in \.npz, \.npy or \.csv"):
        write_rows(tmp_path / "x.txt", {"samples": torch.zeros(1, 1)}, None)
    assert list(tmp_path.iterdir()) == []
