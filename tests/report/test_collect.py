import sys

import numpy as np
import pytest
import torch

from basin.report.collect import MAX_ROWS, Missing, RunRecord, collect
from helpers.run_folders import config, known_run, rows_run, write


def read(made):
    return collect(made.folder, run=made.run, dataset=made.dataset)


def test_everything_of_a_whole_run(tmp_path):
    record = read(known_run(tmp_path))
    assert record.missing == ()
    assert record.samples.shape == record.data.shape == (2000, 2)
    assert (record.sigma, record.samples_sigma, record.weights) == (0.1, 0.1, "ema")
    assert (record.source, record.kind, record.dimension) == ("three_blobs", "density", 2)
    assert len(record.history) == 200
    assert record.truth.sd == pytest.approx(np.hypot(0.4, 0.1))


def test_the_truth_is_blurred_in_the_users_units(tmp_path):
    made = known_run(tmp_path, energy={"class": "Standardised", "scale": 3.0})
    assert read(made).truth.sd == pytest.approx(np.hypot(0.4, 0.3))
    write(tmp_path, {**made.config, "energy": {"scale": [1.0, 2.0]}}, [], None, {})
    record = read(made)
    assert record.truth is None
    assert any("blur differs" in missing.sentence for missing in record.missing)


@pytest.mark.parametrize(
    ("write_samples", "words"),
    [
        (lambda path: np.savez(path, samples=np.array([object()])), "could not be read"),
        (lambda path: path.write_bytes(b"PK\x03\x04 cut"), "could not be read"),
        (lambda path: path.write_bytes(b""), "could not be read"),
        (lambda path: np.savez(path, other=np.zeros(3)), "could not be read"),
        (lambda path: np.savez(path, samples=np.array(["a"])), "an array of numbers is needed"),
        (lambda path: np.savez(path, samples=np.zeros((4, 3))), "not (n, 2)"),
        (lambda path: np.savez(path, samples=np.zeros((0, 2))), "not (n, 2)"),
        (lambda path: np.savez(path, samples=np.full((4, 2), np.nan)), "4 of 4 samples are not"),
        (lambda path: None, "There are no samples"),
    ],
)
def test_samples_that_cannot_be_shown(tmp_path, write_samples, words):
    made = rows_run(tmp_path, np.zeros((50, 2), np.float32), None)
    write_samples(tmp_path / "samples.npz")
    record = read(made)
    assert record.samples is None
    assert any(words in missing.sentence for missing in record.missing)


def test_a_small_file_with_a_huge_array_is_not_unpacked(tmp_path, monkeypatch):
    made = rows_run(tmp_path, np.zeros((50, 2), np.float32), np.zeros((50, 2), np.float32))
    assert read(made).samples is not None
    module = sys.modules["basin.report.collect"]  # the package names the function the same
    monkeypatch.setattr(module, "MAX_BYTES", 400)
    record = read(made)
    assert record.samples is None
    assert any("unpacks to more" in missing.sentence for missing in record.missing)


def test_samples_that_diverged_are_counted_and_dropped(tmp_path):
    samples = np.zeros((10, 2), np.float32)
    samples[3] = np.inf
    record = read(rows_run(tmp_path, np.zeros((50, 2), np.float32), samples))
    assert len(record.samples) == 9
    assert any("1 of 10 samples are not finite" in missing.sentence for missing in record.missing)


def test_large_arrays_are_thinned(tmp_path):
    record = read(rows_run(tmp_path, np.zeros((30_000, 2)), np.zeros((9_000, 2))))
    assert len(record.samples) == MAX_ROWS
    assert len(record.data) == 20_000


def test_a_history_cut_by_a_kill(tmp_path):
    made = known_run(tmp_path)
    with (tmp_path / "history.jsonl").open("a") as file:
        file.write('{"step": 4020, "lo')
    record = read(made)
    assert len(record.history) == 200
    assert record.missing == (Missing("history", "1 lines of history.jsonl could not be read."),)


def test_a_broken_evaluation(tmp_path):
    made = known_run(tmp_path)
    (tmp_path / "evaluation.json").write_text("{")
    (missing,) = read(made).missing
    assert missing.about == "checks"
    assert "evaluation.json could not be read" in missing.sentence


def test_data_that_changed_their_shape(tmp_path):
    made = rows_run(tmp_path, np.zeros((50, 2)), None)
    made.dataset.train = rows_run(tmp_path / "other", np.zeros((50, 3)), None).dataset.train
    record = read(made)
    assert record.data is None
    assert any("rows of shape (3,)" in missing.sentence for missing in record.missing)


@pytest.mark.parametrize("content", [None, "", "{", "[1, 2]", "\xff\xfe", "[" * 100_000])
def test_a_folder_that_is_no_run_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "config.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(ValueError, match="must hold a Basin run"):
        collect(tmp_path)


def test_nothing_is_drawn_from_the_global_generator(tmp_path):
    before = torch.get_rng_state()
    read(known_run(tmp_path))
    assert torch.equal(before, torch.get_rng_state())


def test_columns_have_names():
    record = RunRecord(None, config(3, columns=["a", "<b>"]))
    assert [record.column(i) for i in range(3)] == ["a", "<b>", "x₃"]
    assert RunRecord(None, {"data": {"name": "/home/me/rows.csv"}}).source == "rows.csv"
