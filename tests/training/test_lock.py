"""One process at a time trains in a folder; a process that was killed holds nothing."""

from __future__ import annotations

import errno
import fcntl
import os
import platform
import subprocess
import sys

import pytest
import torch

import basin
from basin.cli.main import main
from basin.training.errors import RunFolderError
from basin.training.folder import claim
from basin.training.lock import LOCK, locked

HOLDER = """
import sys
from pathlib import Path
from basin.training.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds the lock of ``tmp_path`` until it is ended."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()


def unfinished(folder):
    """A run that broke off at its 20th step."""

    class Broken(basin.datasets.TensorRows):
        count = 0

        def draw(self, n, generator):
            self.count += 1
            if self.count == 20:
                raise RuntimeError("power cut")
            return super().draw(n, generator)

    x = torch.randn(100, 2, generator=torch.Generator().manual_seed(0))
    options = dict(num_steps=30, batch_size=16, checkpoint_every=5)
    with pytest.raises(RuntimeError, match="power cut"):
        basin.fit(basin.energies.NoiseConditional(2, hidden=(4,)), Broken(x), out=folder, **options)
    return x


def test_a_second_process_is_told_who_holds_the_folder_until_kill_9_releases_it(tmp_path, holder):
    sentence = f"{tmp_path} must be trained by one process at a time, got it held by process "
    with (
        pytest.raises(RunFolderError, match=f"{sentence}{holder.pid} on {platform.node()}"),
        locked(tmp_path),
    ):
        pass
    holder.kill()
    holder.wait()
    assert (tmp_path / LOCK).exists()
    with locked(tmp_path):
        assert (tmp_path / LOCK).read_text().split()[0] == str(os.getpid())
    assert list(tmp_path.iterdir()) == []


def test_an_error_inside_releases_it_too(tmp_path):
    with pytest.raises(RuntimeError), locked(tmp_path):
        raise RuntimeError
    with locked(tmp_path):
        pass


def test_twice_in_one_process(tmp_path):
    with (
        locked(tmp_path),
        pytest.raises(RunFolderError, match="held by this process itself"),
        locked(tmp_path),
    ):
        pass


def test_a_lock_on_a_file_that_its_holder_removed_is_not_held(tmp_path, monkeypatch):
    """Between opening and locking the holder ends, and a third process makes a new file."""
    calls = []
    real = fcntl.flock

    def flock(file, operation):
        if not calls:
            (tmp_path / LOCK).unlink()
            (tmp_path / LOCK).touch()
        calls.append(operation)
        real(file, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    with locked(tmp_path):
        assert len(calls) == 2
        assert (tmp_path / LOCK).read_text()


def test_a_disk_without_locks_warns_and_goes_on(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with (
        pytest.warns(RuntimeWarning, match="is on a disk without locks"),
        locked(tmp_path),
    ):
        pass


def test_resume_is_refused_while_another_process_trains(tmp_path, capsys):
    folder = tmp_path / "run"
    x = unfinished(folder)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with locked(folder):
        with pytest.raises(RunFolderError, match="one process at a time"):
            basin.training.resume(folder, x)
        assert main(["resume", str(folder)]) == 3
        assert "one process at a time" in capsys.readouterr().err
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert basin.training.resume(folder, x).history[-1]["step"] == 30
    assert not (folder / LOCK).exists()


def test_training_holds_the_lock_and_overwriting_waits_for_nobody(tmp_path):
    folder = tmp_path / "run"
    seen = []

    class Curious(basin.datasets.TensorRows):
        def draw(self, n, generator):
            with pytest.raises(RunFolderError, match="held by this process itself"):
                claim(folder, overwrite=True)
            seen.append((folder / LOCK).exists())
            return super().draw(n, generator)

    x = torch.randn(100, 2, generator=torch.Generator().manual_seed(0))
    energy = basin.energies.NoiseConditional(2, hidden=(4,))
    basin.fit(energy, Curious(x), out=folder, num_steps=3, batch_size=16)
    assert seen == [True] * 3
    assert not (folder / LOCK).exists()
    claim(folder, overwrite=True)
    assert [path.name for path in folder.iterdir()] == ["config.json"]
