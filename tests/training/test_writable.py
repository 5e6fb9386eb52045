"""A folder that cannot be written to is named as the user named it, before any work.

Tests may run as root, whom permissions do not stop: what the system answers is put in its place.
"""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

import basin
from basin.cli.main import main
from basin.report import write_report
from basin.training.writable import in_words, require_writable
from helpers.small_ending import small_ending

RULE = "must be a folder that can be written to, got one that cannot"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "made"
    arguments = ["--num_steps", "5", "--batch_size", "16", "--num_samples", "20"]
    words = ["train", "rings", "--out", str(folder), "--energy.hidden", "4", *arguments]
    with small_ending():
        assert main(words) == 0
    return folder


@pytest.fixture
def run(made, tmp_path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "run"))


@pytest.fixture
def read_only(run, monkeypatch):
    """The system denies access to ``run`` when it is asked."""
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != run and access(path, mode))
    return run


def no_work(*_, **__):
    raise AssertionError("work was done before the folder was looked at")


@pytest.mark.parametrize("command", ["report", "evaluate", "sample", "resume"])
def test_every_command_names_the_folder_before_any_work(read_only, command, capsys, monkeypatch):
    capsys.readouterr()
    monkeypatch.setattr(basin.training.Run, "sample", no_work)
    monkeypatch.setattr("basin.training.evaluate", no_work)
    monkeypatch.setattr("basin.report.html.render_report", no_work)
    before = {path: path.read_bytes() for path in read_only.rglob("*") if path.is_file()}
    assert main([command, str(read_only)]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
    assert lines == [line for line in lines if f"error: {read_only} {RULE}" in line]
    assert len(lines) == 1
    assert ".writing" not in lines[0]
    assert before == {path: path.read_bytes() for path in read_only.rglob("*") if path.is_file()}


def test_a_model_in_a_read_only_folder_can_be_used(read_only, tmp_path, monkeypatch):
    monkeypatch.setitem(basin.cli.job.NUM_SAMPLES, "density", 200)
    out = tmp_path / "draws.csv"
    assert main(["sample", str(read_only), "--num_samples", "5", "--out", str(out)]) == 0
    assert basin.load(read_only).sample(2).shape == (2, 2)
    assert main(["evaluate", str(read_only), "--weights", other_weights(read_only)]) == 0


def other_weights(folder: Path) -> str:
    return basin.load(folder).config["other_weights"]


@pytest.mark.parametrize("command", ["train", "sample", "score"])
def test_out_in_a_read_only_folder(read_only, tmp_path, command, capsys, monkeypatch):
    monkeypatch.setattr(basin.training.Run, "sample", no_work)
    if command == "train":
        arguments = ["rings", "--out", str(read_only / "new")]
        shown = read_only / "new"
    else:
        table = [str(tmp_path / "x.csv")] if command == "score" else []
        arguments = [str(read_only), *table, "--out", str(read_only / "new" / "x.csv")]
        shown = read_only / "new"
    capsys.readouterr()
    assert main([command, *arguments]) == 2
    assert f"{shown} {RULE}" in capsys.readouterr().err


def test_the_library_refuses_too(read_only):
    with pytest.raises(PermissionError, match=RULE):
        write_report(read_only)
    energy = basin.energies.NoiseConditional(2, hidden=(4,))
    with pytest.raises(PermissionError, match=RULE):
        basin.fit(energy, basin.datasets.Rings(), out=read_only / "new", num_steps=1)


def denied(*_, **__):
    raise OSError(errno.EROFS, "Read-only file system", "/somewhere/.hidden.writing")


@pytest.mark.usefixtures("small_ending")
def test_a_refusal_that_comes_when_writing_names_the_folder_as_well(run, monkeypatch):
    """Some disks say yes when asked and no when written to."""
    sentence = rf"^{run} {RULE} \(Read-only file system\)"
    with monkeypatch.context() as patch:
        patch.setattr("tempfile.mkstemp", denied)
        with pytest.raises(PermissionError, match=sentence):
            write_report(run)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", denied)
        with pytest.raises(PermissionError, match=sentence):
            basin.cli.job.evaluate(basin.load(run), basin.datasets.Rings())
        with pytest.raises(PermissionError, match=sentence):
            basin.training.write_config(run, {})
    with monkeypatch.context() as patch:
        patch.setattr("safetensors.torch.save_file", denied)
        with pytest.raises(PermissionError, match=sentence):
            basin.training.write_tensors(run / "x.safetensors", {}, {})
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", denied)
        with pytest.raises(PermissionError, match=sentence), basin.training.locked(run):
            pass
    assert not list(run.glob("*writing*"))


def test_a_folder_that_is_not_there_is_judged_by_the_one_above(read_only, tmp_path):
    require_writable(tmp_path / "a" / "b" / "c")
    with pytest.raises(PermissionError, match="run/a/b must be a folder"):
        require_writable(read_only / "a" / "b")


def test_other_errors_stay_as_they_are():
    error = OSError(errno.EIO, "Input/output error", "x")
    assert in_words(Path("run"), error) is error
