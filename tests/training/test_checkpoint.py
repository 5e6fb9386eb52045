"""Checkpoints: whole or not there, checked when read, the last two kept."""

from __future__ import annotations

import errno
import json

import pytest
import safetensors.torch
import torch

from basin.training.checkpoint import (
    checkpoints,
    checksum,
    latest_checkpoint,
    read_tensors,
    write_checkpoint,
    write_tensors,
)
from basin.training.errors import RunFolderError

TENSORS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(True), "c": torch.tensor([])}


def test_tensors_and_record_come_back(tmp_path):
    record = {"step": 3, "loss": 0.1 + 0.2, "best": float("inf")}
    write_tensors(tmp_path / "x.safetensors", TENSORS, record)
    tensors, read = read_tensors(tmp_path / "x.safetensors")
    assert read == record
    assert all(torch.equal(tensors[name], value) for name, value in TENSORS.items())


def test_the_last_two_are_kept(tmp_path):
    for step in (1, 2, 30):
        write_checkpoint(tmp_path, step, TENSORS, {"step": step})
    assert [path.name for path in checkpoints(tmp_path)] == [
        "step-000000002.safetensors",
        "step-000000030.safetensors",
    ]
    assert latest_checkpoint(tmp_path)[2] == {"step": 30}


def flip_a_bit(path):
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)


def cut_in_half(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def make_a_pickle(path):
    torch.save(TENSORS, path)


def make_empty(path):
    path.write_bytes(b"")


def make_foreign(path):
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(2)}, path)


@pytest.mark.parametrize(
    "harm",
    [flip_a_bit, cut_in_half, make_a_pickle, make_empty, make_foreign],
    ids=lambda f: f.__name__,
)
def test_damage_is_found_and_the_older_one_named(tmp_path, harm):
    write_checkpoint(tmp_path, 1, TENSORS, {"step": 1})
    harm(write_checkpoint(tmp_path, 2, TENSORS, {"step": 2}))
    with pytest.raises(RunFolderError, match="step-000000001"):
        latest_checkpoint(tmp_path)


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "x.safetensors"
    write_tensors(path, TENSORS, {"step": 1})

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(OSError, match="disk is full"):
        write_tensors(path, TENSORS, {"step": 2})
    assert read_tensors(path)[1] == {"step": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["x.safetensors"]


def test_no_checkpoint_at_all(tmp_path):
    with pytest.raises(RunFolderError, match="must hold a checkpoint"):
        latest_checkpoint(tmp_path)


def test_equal_tensors_are_equal_files_and_anyone_may_read_them(tmp_path):
    paths = [tmp_path / f"{name}.safetensors" for name in "abcdef"]
    for path in paths:
        write_tensors(path, TENSORS, {"step": 1, "other": [1, 2]})
    assert len({path.read_bytes() for path in paths}) == 1
    (tmp_path / "usual").touch()
    assert paths[0].stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_files_with_two_entries_of_metadata_are_read(tmp_path):
    path, record = tmp_path / "old.safetensors", {"step": 1}
    metadata = {"record": json.dumps(record), "sha256": checksum(TENSORS, record)}
    safetensors.torch.save_file(TENSORS, path, metadata=metadata)
    assert read_tensors(path)[1] == record
