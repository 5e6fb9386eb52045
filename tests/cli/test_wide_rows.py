"""Wide rows: fewer of them at once, and it is said how many; what the user asks for is done."""

from __future__ import annotations

import json

import numpy as np
import pytest

import basin
from basin.cli import train
from basin.cli.main import main
from basin.cli.wide_rows import rows_that_fit
from basin.core import wide_rows
from basin.report.explorer import plane

WIDTH = 250
OPTIONS = ["--objective", "DenoisingScoreMatching", "--energy.hidden", "8", "--num_steps", "2"]


@pytest.fixture
def table(tmp_path, monkeypatch):
    """As if 250 columns were 100,000, which no test can bear: 40 rows fit, no map is drawn."""
    monkeypatch.setattr(wide_rows, "MAX_NUMBERS", 40 * WIDTH)
    monkeypatch.setattr(plane, "MAX_COLUMNS", WIDTH - 1)
    path = tmp_path / "wide.npy"
    rows = np.random.default_rng(0).normal(size=(200, WIDTH)).astype(np.float32)
    np.save(path, rows)
    return path


@pytest.mark.parametrize(
    ("usual", "shape", "rows", "said"),
    [
        (2_000, (13,), 2_000, ""),
        (2_000, (10_000,), 2_000, ""),  # the widest with the usual rows
        (2_000, (100, 100, 2), 1_000, "things: 1,000 rows, not 2,000, as each has 20,000 numbers"),
        (2_000, (100_000,), 200, "things: 200 rows, not 2,000, as each has 100,000 numbers"),
        (2_000, (10**9,), 1, "--things 2000 takes them all"),
        (7, (), 7, ""),
    ],
)
def test_rows_times_columns_are_bounded_and_it_is_said(usual, shape, rows, said, capsys):
    assert rows_that_fit(usual, shape, "things", "--things") == rows
    error = capsys.readouterr().err
    assert said in error
    assert bool(error) == bool(said)


def test_a_run_on_wide_rows_ends_with_pages_that_say_what_they_leave_out(table, tmp_path, capsys):
    out = tmp_path / "run"
    assert main(["train", str(table), "--out", str(out), *OPTIONS]) == 0
    said = capsys.readouterr().err
    assert "a batch: 40 rows, not 1,024, as each has 250 numbers; --batch_size 1024" in said
    assert "samples: 40 rows, not 2,000, as each has 250 numbers; --num_samples 2000" in said
    assert basin.load(out).config["training"]["batch_size"] == 40
    with np.load(out / "samples.npz") as file:
        assert file["samples"].shape == (40, WIDTH)
    results = json.loads((out / "evaluation.json").read_text())
    assert results["mmd"]["n"] <= 40
    assert results["memorisation"]["details"]["training_rows_compared"] == 40
    assert results["memorisation"]["details"]["training_rows"] == 160
    assert (out / "report.html").is_file()
    assert main(["explore", str(out), "--no_open"]) == 0
    page = (out / "explore.html").read_text("utf-8")
    assert f"explore draws planes of models of up to {WIDTH - 1} dimensions, got {WIDTH}" in page


def test_what_the_user_asks_for_is_done(table, tmp_path, capsys, monkeypatch):
    class Asked(Exception):
        """Instead of training."""

    def ask(*_, **settings):
        raise Asked(settings)

    monkeypatch.setattr("basin.cli.train.train", ask)
    asked = ["--batch_size", "50", "--num_samples", "60"]
    with pytest.raises(Asked) as found:
        train.run([str(table), "--out", str(tmp_path / "run"), *OPTIONS, *asked])
    (settings,) = found.value.args
    assert (settings["batch_size"], settings["num_samples"]) == (50, 60)
    assert "rows, not" not in capsys.readouterr().err
