"""Run folders that were edited, cut or swapped: one sentence, exit code 3, nothing is run."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import basin
from basin.cli.main import main
from helpers.small_ending import small_ending

DROPPED = object()


class Bomb:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "made"
    table = folder.with_name("table.csv")
    rows = np.random.default_rng(0).normal(size=(120, 2))
    np.savetxt(table, rows, delimiter=",", header="a,b", comments="")
    options = ["--num_steps", "10", "--batch_size", "16", "--num_samples", "20"]
    out = ["--out", str(folder), "--energy.hidden", "4"]
    with small_ending():
        assert main(["train", str(table), *out, *options]) == 0
    return folder


@pytest.fixture
def run(made, tmp_path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "run"))


def edit(run: Path, key: str, value: object) -> None:
    config = part = json.loads((run / "config.json").read_text())
    *outer, last = key.split(".")
    for name in outer:
        part = part[name]
    if value is DROPPED:
        del part[last]
    else:
        part[last] = value
    (run / "config.json").write_text(json.dumps(config))


def assert_refused(arguments: list[str], capsys) -> str:
    capsys.readouterr()
    assert main(arguments) == 3
    lines = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
    assert len(lines) == 1
    assert "fault of Basin" not in lines[0]
    return lines[0]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("data", "x"),
        ("data.event_shape", DROPPED),
        ("data.event_shape", [3]),
        ("data.event_shape", [2**70]),
        ("data.columns", 3),
        ("data.columns", ["a"]),
        ("data.kind", "os.system"),
        ("noise_levels", DROPPED),
        ("noise_levels", None),
        ("noise_levels.sigma_min", "x"),
        ("noise_levels.sigma_max", 2**70),
        ("noise_levels.sigma_max", float("nan")),
        ("sigma", None),
        ("sigma", -1),
        ("sigma", float("nan")),
        ("log_z", []),
        ("log_z.log_z", None),
        ("log_z.kind", "os.system"),
        ("training", {}),
        ("training.seed", []),
        ("start", DROPPED),
        ("weights", "best"),
        ("finished", "yes"),
        ("energy.energy.class", "os.system"),
        ("energy.energy.hidden", [4, 4]),
    ],
)
def test_an_edited_config_is_refused(run, capsys, key, value):
    edit(run, key, value)
    assert str(run) in assert_refused(["score", str(run), str(run / "x.csv")], capsys)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("objective.class", "os.system"),
        ("training.num_steps", "x"),
        ("training.learning_rate", DROPPED),
        ("training.batch", 3),
        ("requested_sigma", "x"),
        ("data.source.source", 3),
        ("data.source", {}),
    ],
)
def test_an_edited_config_is_not_resumed(run, capsys, key, value):
    if key == "training.learning_rate":  # a missing key has its default, a renamed one has not
        edit(run, "training.learning_rat", 1e-3)
    edit(run, "finished", None)
    edit(run, key, value)
    assert_refused(["resume", str(run)], capsys)


def test_a_checkpoint_of_another_energy_is_not_resumed(run, tmp_path, capsys):
    rows = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    other = basin.energies.NoiseConditional(2, hidden=(5,))
    basin.fit(other, rows, num_steps=10, batch_size=8, out=tmp_path / "other")
    edit(run, "finished", None)
    for path in (tmp_path / "other" / "checkpoint").iterdir():
        shutil.copy(path, run / "checkpoint")
    assert "must be a checkpoint of this run" in assert_refused(["resume", str(run)], capsys)


@pytest.fixture(scope="module")
def twin(made, tmp_path_factory) -> Path:
    """A run of the same architecture on the same table, from another seed."""
    folder = tmp_path_factory.mktemp("runs") / "twin"
    options = ["--num_steps", "10", "--batch_size", "16", "--num_samples", "20", "--seed", "1"]
    out = ["--out", str(folder), "--energy.hidden", "4"]
    with small_ending():
        assert main(["train", str(made.with_name("table.csv")), *out, *options]) == 0
    return folder


@pytest.mark.parametrize("command", ["sample", "evaluate", "report", "resume"])
def test_the_weights_of_another_run_are_refused(run, twin, capsys, command):
    shutil.copy(twin / "model.safetensors", run)
    sentence = assert_refused([command, str(run)], capsys)
    assert f"{run / 'model.safetensors'} must hold the weights that this run wrote" in sentence


def test_the_two_weights_of_a_run_do_not_change_places(run, capsys):
    other = basin.load(run).config["other_weights"]
    shutil.copy(run / "model.safetensors", run / "model_other.safetensors")
    arguments = ["evaluate", str(run), "--weights", other]
    assert "model_other.safetensors must hold" in assert_refused(arguments, capsys)


def test_the_checkpoints_of_another_run_are_not_resumed(run, twin, capsys):
    edit(run, "finished", None)
    shutil.rmtree(run / "checkpoint")
    shutil.copytree(twin / "checkpoint", run / "checkpoint")
    assert "got one of another run" in assert_refused(["resume", str(run)], capsys)


def test_a_checkpoint_under_the_name_of_another_step_is_not_resumed(run, capsys):
    edit(run, "finished", None)
    newest = max((run / "checkpoint").iterdir())
    shutil.copy(newest, newest.with_name("step-000000099.safetensors"))
    sentence = assert_refused(["resume", str(run)], capsys)
    assert "at the step in its name, got step 10" in sentence
    assert f"delete it to go on from {newest.name}" in sentence


@pytest.mark.usefixtures("small_ending")
def test_runs_of_before_checksums_were_kept_are_read(run):
    edit(run, "weights_sha256", DROPPED)
    edit(run, "identity", DROPPED)
    assert basin.load(run).sample(2).shape == (2, 2)
    edit(run, "finished", None)
    assert main(["resume", str(run), "--num_samples", "20"]) == 0


@pytest.mark.parametrize(
    ("key", "value"),
    [("weights_sha256", []), ("weights_sha256", {"model.safetensors": 3}), ("identity", {})],
)
def test_checksums_of_another_kind(run, capsys, key, value):
    edit(run, key, value)
    assert f"got {key}: " in assert_refused(["sample", str(run)], capsys)


@pytest.mark.parametrize("finished", [True, None])
@pytest.mark.parametrize("hidden", [[10**9], [10**9] * 3, [4] * 10**5, [20_000, 20_000], [2**70]])
def test_enormous_sizes_are_refused_before_memory_is_allocated(
    run, capsys, monkeypatch, finished, hidden
):
    allocated = []
    to_empty = torch.nn.Linear.to_empty

    def watched(self, **options):
        allocated.append(self.weight.numel())
        return to_empty(self, **options)

    monkeypatch.setattr(torch.nn.Linear, "to_empty", watched)
    edit(run, "energy.energy.hidden", hidden)
    edit(run, "finished", finished)
    sentence = assert_refused(["sample" if finished else "resume", str(run)], capsys)
    assert "hidden must fit the weights in " in sentence
    assert str(run) in sentence
    assert sum(allocated) < 100_000


def test_deep_json_and_broken_history(run, capsys):
    for text in ("3\n{}\n", '{"loss": 1}\n{}\n', "[" * 100_000 + "\n{}\n"):
        (run / "history.jsonl").write_text(text)
        assert "in line 1" in assert_refused(["report", str(run)], capsys)
    (run / "config.json").write_text("[" * 100_000)
    assert "config.json must be JSON" in assert_refused(["report", str(run)], capsys)


def test_a_size_of_a_density_that_does_not_fit_its_rows(run, capsys):
    edit(run, "data.source", None)
    edit(run, "data.density", {"class": "StandardGaussian", "dim": 10**9})
    edit(run, "finished", None)
    assert "must have rows of shape [2]" in assert_refused(["resume", str(run)], capsys)


@pytest.mark.usefixtures("small_ending")
def test_no_file_of_a_run_is_unpickled(run, tmp_path, capsys):
    harm = tmp_path / "harm"
    np.savez(run / "samples.npz", samples=np.array([[Bomb(harm)], [1.0]], dtype=object))
    assert "samples.npz must hold samples" in assert_refused(["evaluate", str(run)], capsys)
    for content in (pickle.dumps(Bomb(harm)), b"PK", b""):
        (run / "samples.npz").write_bytes(content)
        assert "samples.npz must hold samples" in assert_refused(["evaluate", str(run)], capsys)
        assert main(["report", str(run)]) == 0  # says on the page what is missing
    for name in ("model.safetensors", "config.json"):
        (run / name).write_bytes(pickle.dumps(Bomb(harm)))
        assert name in assert_refused(["sample", str(run)], capsys)
    assert not harm.exists()
