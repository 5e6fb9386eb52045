"""Resuming gives the bits of an uninterrupted run: after an error, Ctrl-C and ``kill -9``."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import basin
from basin.training.checkpoint import checkpoints
from basin.training.errors import TrainingInterrupted

STEPS = dict(num_steps=40, batch_size=32, checkpoint_every=7, evaluate_every=10)


def energy():
    return basin.energies.NoiseConditional(2, hidden=(8,))


def rows():
    return torch.randn(300, 2, generator=torch.Generator().manual_seed(0))


class InterruptedRows(basin.datasets.TensorRows):
    """Raises while batch number ``number`` is drawn."""

    def __init__(self, values, number, error):
        super().__init__(values)
        self.number, self.error, self.count = number, error, 0

    def draw(self, n, generator):
        self.count += 1
        if self.count == self.number:
            self.error()
        return super().draw(n, generator)


def without_times(history):
    return [{k: v for k, v in record.items() if k != "seconds"} for record in history]


def assert_same(first, second):
    for name, value in first.energy.state_dict().items():
        assert torch.equal(value, second.energy.state_dict()[name]), name
    assert without_times(first.history) == without_times(second.history)
    assert first.log_z == second.log_z
    assert first.sigma == second.sigma


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The run that nothing interrupts, with a folder."""
    return basin.fit(energy(), rows(), out=tmp_path_factory.mktemp("runs") / "whole", **STEPS)


def crash():
    raise RuntimeError("power cut")


@pytest.mark.parametrize("with_validation", [False, True])
def test_resume_after_a_crash_is_bit_identical(tmp_path, with_validation):
    # The rows' validation part is fresh draws of a Density, or none for bare rows.
    x = basin.datasets.StandardGaussian(2) if with_validation else rows()
    whole = basin.fit(energy(), x, out=tmp_path / "whole", **STEPS)

    source = basin.datasets.as_rows(x)
    original, count = source.draw, 0

    def draw(n, generator):
        nonlocal count
        count += 1
        if count == 28:
            crash()
        return original(n, generator)

    broken = energy()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(source), "draw", lambda self, n, generator: draw(n, generator))
        with pytest.raises(RuntimeError, match="power cut"):
            basin.fit(broken, x, out=tmp_path / "broken", **STEPS)
    resumed = basin.training.resume(tmp_path / "broken", None if with_validation else x)
    assert_same(whole, resumed)
    assert_same(whole, basin.load(tmp_path / "broken"))


@pytest.fixture
def ctrl_c_interrupts():
    """Python's own handler, which a shell takes away from what it runs in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c_interrupts")
def test_ctrl_c_finishes_the_step_and_leaves_a_checkpoint(whole, tmp_path):
    stopping = InterruptedRows(rows(), 20, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(TrainingInterrupted, match="basin resume"):
        basin.fit(energy(), stopping, out=tmp_path / "r", **STEPS)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert_same(whole, basin.training.resume(tmp_path / "r", rows()))


SCRIPT = """
import sys, torch, basin
sys.path.insert(0, {tests!r})
x = torch.randn(300, 2, generator=torch.Generator().manual_seed(0))
energy = basin.energies.NoiseConditional(2, hidden=(8,))
basin.fit(energy, x, out={out!r}, num_steps=300, batch_size=32, checkpoint_every=7,
          evaluate_every=10)
"""


def test_kill_9_at_any_moment_can_be_resumed(tmp_path):
    out = tmp_path / "killed"
    script = SCRIPT.format(tests=str(Path(__file__).parent), out=str(out))
    process = subprocess.Popen([sys.executable, "-c", script])
    deadline = time.monotonic() + 120
    while not checkpoints(out / "checkpoint") and time.monotonic() < deadline:
        time.sleep(0.05)
    process.kill()
    process.wait()
    config = json.loads((out / "config.json").read_text())
    assert config["finished"] is None
    found = checkpoints(out / "checkpoint")
    assert 1 <= len(found) <= 3  # two are kept; a third may have been about to be dropped
    config["training"]["num_steps"] = 300
    resumed = basin.training.resume(out, rows())
    whole = basin.fit(
        energy(), rows(), num_steps=300, batch_size=32, checkpoint_every=7, evaluate_every=10
    )
    assert_same(whole, resumed)


@pytest.mark.parametrize("name", ["model_other.safetensors", "model.safetensors", "config.json"])
def test_a_crash_while_the_result_is_written_can_be_resumed(whole, tmp_path, monkeypatch, name):
    """Weights first, then the config with their checksums: at no moment do the two disagree."""
    replace, num_configs = os.replace, 0

    def crash_at(aside, path):
        nonlocal num_configs
        num_configs += Path(path).name == "config.json"
        if Path(path).name == name and (name != "config.json" or num_configs == 2):
            os.unlink(aside)
            crash()
        replace(aside, path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", crash_at)
        with pytest.raises(RuntimeError, match="power cut"):
            basin.fit(energy(), rows(), out=tmp_path / "r", **STEPS)
    assert_same(whole, basin.training.resume(tmp_path / "r", rows()))
    assert_same(whole, basin.load(tmp_path / "r"))


def test_equal_runs_have_equal_sums_and_others_have_not(whole, tmp_path):
    """Nothing that identifies a run is random."""
    again = basin.fit(energy(), rows(), out=tmp_path / "again", **STEPS)
    different = basin.fit(energy(), 2 * rows(), out=tmp_path / "other", **STEPS)
    one, two, other = (
        json.loads((run.folder / "config.json").read_text()) for run in (whole, again, different)
    )
    for key in ("identity", "weights_sha256"):
        assert one[key] == two[key]
        assert one[key] != other[key]


def test_a_finished_run_is_returned_as_it_is(whole):
    assert_same(whole, basin.training.resume(whole.folder))


def test_other_rows_than_before_are_refused(tmp_path):
    stopping = InterruptedRows(rows(), 20, crash)
    with pytest.raises(RuntimeError):
        basin.fit(energy(), stopping, out=tmp_path / "r", **STEPS)
    with pytest.raises(ValueError, match="must be the data that the run was started with"):
        basin.training.resume(tmp_path / "r", rows()[:100])
    with pytest.raises(ValueError, match="with other numbers in them"):
        basin.training.resume(tmp_path / "r", rows() + 1)


def test_held_out_rows_are_given_again_and_are_the_same_in_number(tmp_path):
    held_out = rows()[:50] + 0.1
    whole = basin.fit(energy(), rows(), validation=held_out, **STEPS)
    stopping = InterruptedRows(rows(), 20, crash)
    with pytest.raises(RuntimeError):
        basin.fit(energy(), stopping, validation=held_out, out=tmp_path / "r", **STEPS)
    for other in (None, held_out[:40]):
        with pytest.raises(ValueError, match=r"num_validation_rows was 50.*give resume the valid"):
            basin.training.resume(tmp_path / "r", rows(), validation=other)
    assert_same(whole, basin.training.resume(tmp_path / "r", rows(), validation=held_out))
