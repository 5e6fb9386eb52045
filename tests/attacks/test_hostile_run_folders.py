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


def test_deep_json_and_broken_history(run, capsys):
    for text in ("3\n{}\n", '{"loss": 1}\n{}\n', "[" * 100_000 + "\n{}\n"):
        (run / "history.jsonl").write_text(text)
        assert "in line 1" in assert_refused(["report", str(run)], capsys)
    (run / "config.json").write_text("[" * 100_000)
    assert "config.json must be JSON" in assert_refused(["report", str(run)], capsys)


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
