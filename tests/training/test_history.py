"""The history of a run on disk: what TensorBoard reads, and a disk that is full."""

from __future__ import annotations

import errno

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from basin.training.event_file import EventFile
from basin.training.history import History, read_history


def record(step, loss):
    return {"step": step, "loss": loss, "terms": {"a": 2 * loss}, "note": "x", "bad": float("nan")}


def scalars(folder, tag):
    board = EventAccumulator(str(folder))
    board.Reload()
    return [(event.step, event.value) for event in board.Scalars(tag)]


def test_tensorboard_reads_what_was_written(tmp_path):
    history = History(tmp_path)
    for step in (1, 2, 3):
        history.append(record(step, step / 2))
        assert scalars(tmp_path, "loss")[-1] == (step, step / 2)  # at once
    history.close()
    assert scalars(tmp_path, "terms/a") == [(1, 1.0), (2, 2.0), (3, 3.0)]
    assert [r["step"] for r in read_history(tmp_path)] == [1, 2, 3]


def test_a_resumed_run_takes_the_place_of_what_came_after_its_checkpoint(tmp_path):
    first = History(tmp_path)
    for step in (1, 2, 3):
        first.append(record(step, 1.0))
    first.close()
    second = History(tmp_path, read_history(tmp_path, until_step=1))
    second.append(record(2, 5.0))
    second.close()
    assert scalars(tmp_path, "loss") == [(1, 1.0), (2, 5.0)]
    assert [r["loss"] for r in read_history(tmp_path)] == [1.0, 5.0]


def test_a_full_disk_is_an_error_of_the_step_that_names_the_file(tmp_path, monkeypatch):
    history = History(tmp_path)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(EventFile, "add", full)
    with pytest.raises(OSError, match=r"history.jsonl could not be written: the disk is full"):
        history.append(record(1, 1.0))
    history.close()
