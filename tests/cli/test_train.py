"""The main job from a shell on small data: files, exit codes, and what bad input gets."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import basin
from basin.cli.main import main
from basin.mcmc.metric import DiagonalMetric
from basin.samplers.hmc import HMC
from basin.training.build import build_objective

QUICK = ["--num_steps", "40", "--batch_size", "256", "--num_samples", "200"]
SMALL = ["--energy.hidden", "8,8"]
COLUMNS = ["length", "width (cm)", "label"]


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> Path:
    """A CSV of correlated numbers, with a column of text that is not to be used."""
    path = tmp_path_factory.mktemp("data") / "table.csv"
    random = np.random.default_rng(0)
    length = random.normal(5.0, 2.0, 300)
    width = 100 * length + random.normal(0.0, 30.0, 300)
    lines = [f"{a:.6f},{b:.6f},row{i}" for i, (a, b) in enumerate(zip(length, width))]
    path.write_text("\n".join([",".join(COLUMNS), *lines]) + "\n")
    return path


@pytest.fixture(scope="module")
def run_folder(table, tmp_path_factory) -> Path:
    """A run on the table."""
    folder = tmp_path_factory.mktemp("runs") / "table"
    columns = ["--columns", ",".join(COLUMNS[:2])]
    assert main(["train", str(table), "--out", str(folder), *columns, *QUICK, *SMALL]) == 0
    return folder


def error_of(capsys) -> str:
    shown = capsys.readouterr().err.splitlines()
    lines = [line for line in shown if line.startswith("basin: error: ")]
    assert len(lines) == 1, shown
    assert "Traceback" not in "\n".join(shown)
    return lines[0]


def test_a_run_folder_holds_what_design_promises(run_folder):
    for name in (
        "config.json",
        "model.safetensors",
        "history.jsonl",
        "samples.npz",
        "evaluation.json",
        "report.html",
    ):
        assert (run_folder / name).stat().st_size > 0, name
    assert list(run_folder.glob("events.out.tfevents*"))
    assert list((run_folder / "checkpoint").iterdir())
    config = json.loads((run_folder / "config.json").read_text())
    assert config["data"]["columns"] == COLUMNS[:2]
    assert config["energy"]["class"] == "Standardised"
    assert config["energy"]["energy"]["hidden"] == [8, 8]
    assert config["training"]["num_steps"] == 40
    with np.load(run_folder / "samples.npz", allow_pickle=False) as file:
        assert file["samples"].shape == (200, 2)
        assert file["sigma"] == config["sigma"]


@pytest.mark.usefixtures("small_ending")
def test_the_seed_reaches_the_initial_weights(tmp_path, capsys):
    arguments = ["train", "rings", "--energy", "MLP", "--objective", "DenoisingScoreMatching"]
    out = tmp_path / "run"
    assert main([*arguments, "--out", str(out), "--seed", "7", *QUICK, *SMALL]) == 0
    assert basin.load(out).config["energy"]["seed"] == 7
    shown = capsys.readouterr().out
    assert f"report: {out / 'report.html'}" in shown


def test_samples_are_in_the_users_units_and_named(run_folder, tmp_path):
    file = tmp_path / "draws.csv"
    options = ["--num_samples", "50", "--out", str(file)]
    assert main(["sample", str(run_folder), *options]) == 0
    assert file.read_text().splitlines()[0] == "length,width (cm)"
    draws = np.loadtxt(file, delimiter=",", skiprows=1)
    assert draws.shape == (50, 2)
    assert 200 < draws[:, 1].mean() < 800


def test_same_seed_same_draws(run_folder, tmp_path):
    files = [tmp_path / f"{name}.npy" for name in ("one", "two", "other")]
    for file, seed in zip(files, ("3", "3", "4")):
        options = ["--num_samples", "20", "--seed", seed, "--out", str(file)]
        assert main(["sample", str(run_folder), *options]) == 0
    one, two, other = (np.load(file) for file in files)
    assert np.array_equal(one, two)
    assert not np.array_equal(one, other)


def test_scores_are_the_runs_log_densities_in_the_tables_order(run_folder, table, tmp_path):
    file = tmp_path / "scores.npz"
    assert main(["score", str(run_folder), str(table), "--out", str(file)]) == 0
    rows = np.loadtxt(table, delimiter=",", skiprows=1, usecols=(0, 1), dtype=np.float32)
    expected = basin.load(run_folder).log_prob(torch.from_numpy(rows))
    with np.load(file) as scores:
        assert np.allclose(scores["log_density"], expected, atol=1e-4)
        assert np.array_equal(scores["anomaly_score"], -scores["log_density"])


def test_a_stranger_row_has_a_higher_anomaly_score(run_folder, tmp_path, capsys):
    file = tmp_path / "two.csv"
    file.write_text("width (cm),length\n500,5\n-500,5\n")
    assert main(["score", str(run_folder), str(file)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "log_density,anomaly_score"
    usual, strange = (float(line.split(",")[1]) for line in lines[1:])
    assert strange > usual + 2


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("missing.csv", "length,height\n1,2\n", "width (cm)"),
        ("text.csv", "length,width (cm)\n1,two\n", "two"),
        ("narrow.csv", "1\n2\n", "column"),
        ("empty.csv", "", "empty"),
    ],
)
def test_a_table_that_does_not_fit_is_exit_code_2(
    run_folder, tmp_path, capsys, name, text, message
):
    file = tmp_path / name
    file.write_text(text)
    assert main(["score", str(run_folder), str(file)]) == 2
    assert message in error_of(capsys)


def test_evaluate_prints_json_and_nothing_else(run_folder, capsys):
    assert main(["evaluate", str(run_folder), "--json"]) == 0
    results = json.loads(capsys.readouterr().out)
    assert results == json.loads((run_folder / "evaluation.json").read_text())
    assert results["relative_loss"]["about"]["density"] == "p_sigma"


def test_evaluate_prints_a_table(run_folder, capsys):
    assert main(["evaluate", str(run_folder)]) == 0
    assert "relative_loss" in capsys.readouterr().out


def test_named_checks_are_printed_and_not_written(run_folder, capsys):
    before = (run_folder / "evaluation.json").read_bytes()
    words = [
        "evaluate",
        str(run_folder),
        "--checks",
        "energy_distance,long_run",
        "--long_run",
        "10",
    ]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "null hypothesis of energy_distance: samples and held-out data have one law" in printed
    assert "long_run: " in printed
    assert "mmd" not in printed
    assert (run_folder / "evaluation.json").read_bytes() == before
    assert main(["evaluate", str(run_folder), "--checks", "fid"]) == 2
    assert "--checks must be among kl_to_truth" in error_of(capsys)


def test_the_other_weights_are_measured_without_writing(run_folder, capsys):
    chosen = json.loads((run_folder / "config.json").read_text())["weights"]
    other = {"raw": "ema", "ema": "raw"}[chosen]
    before = (run_folder / "evaluation.json").read_bytes()
    assert main(["evaluate", str(run_folder), "--weights", other, "--json"]) == 0
    results = json.loads(capsys.readouterr().out)
    assert results["relative_loss"]["about"]["weights"] == other
    assert (run_folder / "evaluation.json").read_bytes() == before


def test_report_is_written_again(run_folder, capsys):
    (run_folder / "report.html").unlink()
    assert main(["report", str(run_folder)]) == 0
    assert capsys.readouterr().out.strip() == str(run_folder / "report.html")
    assert "<html" in (run_folder / "report.html").read_text()[:500]


def test_out_with_another_run_is_refused_and_left_alone(run_folder, capsys):
    before = {path: path.stat().st_mtime_ns for path in run_folder.rglob("*")}
    assert main(["train", "rings", "--out", str(run_folder), *QUICK]) == 2
    message = error_of(capsys)
    assert "holds another run" in message
    assert "--overwrite" in message
    assert before == {path: path.stat().st_mtime_ns for path in run_folder.rglob("*")}


def test_overwrite_removes_a_run_and_nothing_else(run_folder, tmp_path):
    from basin.cli.job import check_out
    from basin.training.folder import claim

    copy = tmp_path / "run"
    shutil.copytree(run_folder, copy)
    (copy / ".evaluation.json.writing").touch()  # what a kill may leave
    check_out(copy, overwrite=True)
    (copy / "thesis.tex").write_text("years of work")
    before = sorted(copy.rglob("*"))
    with pytest.raises(ValueError, match=r"got thesis\.tex"):
        check_out(copy, overwrite=True)
    with pytest.raises(basin.training.RunFolderError):
        claim(copy, overwrite=True)
    assert sorted(copy.rglob("*")) == before
    (copy / "thesis.tex").unlink()
    claim(copy, overwrite=True)
    assert [path.name for path in copy.iterdir()] == ["config.json"]
    with pytest.raises(basin.training.RunFolderError):  # of two that start at once
        claim(copy)


@pytest.mark.parametrize(
    "arguments",
    [
        ["no/such.csv"],
        ["rings", "--batch_size", "0"],
        ["rings", "--sigma", "1e9"],
        ["rings", "--objective.sigma_min", "9", "--objective.sigma_max", "1"],
        ["rings", "--num_samples", "0"],
    ],
)
def test_overwrite_keeps_the_old_run_until_the_new_one_has_passed_its_checks(
    run_folder, tmp_path, capsys, arguments
):
    copy = tmp_path / "run"
    shutil.copytree(run_folder, copy)
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*")}
    assert main(["train", *arguments, "--out", str(copy), "--overwrite"]) == 2
    error_of(capsys)
    assert before == {path: path.stat().st_mtime_ns for path in copy.rglob("*")}


@pytest.mark.usefixtures("small_ending")
def test_overwrite_replaces_a_run(run_folder, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(run_folder, copy)
    arguments = ["rings", "--out", str(copy), "--overwrite", *QUICK, *SMALL]
    assert main(["train", *arguments]) == 0
    assert basin.load(copy).config["data"]["name"] == "rings"


def test_sample_draws_as_many_rows_as_the_data_ask_for(run_folder, tmp_path, monkeypatch):
    from basin.cli import sample

    monkeypatch.setitem(sample.NUM_SAMPLES, "table", 30)
    file = tmp_path / "draws.npy"
    assert main(["sample", str(run_folder), "--out", str(file)]) == 0
    assert np.load(file).shape == (30, 2)


def test_score_does_not_write_over_its_table(run_folder, table, capsys):
    before = table.read_bytes()
    assert main(["score", str(run_folder), str(table), "--out", str(table)]) == 2
    assert "another file than TABLE" in error_of(capsys)
    assert table.read_bytes() == before


@pytest.mark.parametrize("command", ["sample", "evaluate"])
@pytest.mark.parametrize("seed", ["-1", str(2**70)])
def test_seeds_out_of_range(run_folder, capsys, command, seed):
    assert main([command, str(run_folder), "--seed", seed]) == 2
    assert f"seed must be a whole number from 0 to below 2^62, got {seed}" in error_of(capsys)


def test_a_full_disk_names_the_file_and_leaves_nothing_beside_it(
    run_folder, tmp_path, capsys, monkeypatch
):
    copy = tmp_path / "run"
    shutil.copytree(run_folder, copy)
    before = (copy / "evaluation.json").read_bytes()
    names = sorted(path.name for path in copy.iterdir())

    def full(self, *_, **__):
        self.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    assert main(["evaluate", str(copy)]) == 1
    assert "evaluation.json could not be written: the disk is full" in error_of(capsys)
    assert sorted(path.name for path in copy.iterdir()) == names
    assert (copy / "evaluation.json").read_bytes() == before


def start(*arguments: str, **options) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "basin", *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1", **options.pop("env", {})},
        **options,
    )


def test_a_reader_that_leaves_or_a_plain_locale_does_not_end_a_run(table, tmp_path):
    """``basin train ... 2>&1 | head -1`` in a locale that knows no ±."""
    out = tmp_path / "run"
    process = start(
        *["train", str(table), "--out", str(out), "--columns", COLUMNS[0], *QUICK, *SMALL],
        env={"PYTHONIOENCODING": "ascii"},
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stderr is not None
    assert process.stdout is not None
    process.stderr.close()
    with process.stdout:
        shown = process.stdout.read()
    assert process.wait(timeout=120) == 0
    assert b"\\xb1 error" in shown
    assert (out / "report.html").exists()


def break_nothing(folder: Path) -> None:
    shutil.rmtree(folder)


def truncate_model(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:100])


def foreign_config(folder: Path) -> None:
    (folder / "config.json").write_text('{"name": "a web page"}')


def torn_config(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(path.read_text()[:200])


def unknown_energy(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["energy"]["energy"]["class"] = "os.system"
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    "damage", [break_nothing, truncate_model, foreign_config, torn_config, unknown_energy]
)
@pytest.mark.parametrize("command", ["sample", "evaluate"])
def test_a_damaged_run_folder_is_exit_code_3(run_folder, tmp_path, capsys, damage, command):
    copy = tmp_path / "run"
    shutil.copytree(run_folder, copy)
    damage(copy)
    assert main([command, str(copy)]) == 3
    assert str(copy) in error_of(capsys)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rings"], "--out DIR must be given"),
        (["--out", "x"], "DATA must be given"),
        (["rings", "--out", "x", "--num_stepz", "3"], "did you mean --num_steps?"),
        (["rings", "--out", "x", "--num_steps", "many"], "must be a whole number, got many"),
        (["rings", "--out", "x", "--num_steps", "0"], "num_steps must be a positive whole number"),
        (["rings", "--out", "x", "--learning_rate_schedule", "step"], "'cosine' or 'constant'"),
        (["rings", "--out", "x", "--energy", "MPL"], "did you mean MLP?"),
        (["rings", "--out", "x", "--energy.hiden", "3"], "did you mean --energy.hidden?"),
        (["rings", "--out", "x", "--objective.sigma_min", "-1"], "sigma_min must be positive"),
        (["rinks", "--out", "x"], "did you mean 'rings'"),
        (["no/such.csv", "--out", "x"], "no such file"),
        (["rings", "more", "--out", "x"], "'more' is one word too many"),
        (
            ["rings", "--out", "x", "--sampler", "MALA", "--sampler.step_size", "0"],
            "step_size must be positive, got 0",
        ),
    ],
)
def test_bad_usage_is_one_line_and_exit_code_2(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", *arguments]) == 2
    assert message in error_of(capsys)
    assert list(tmp_path.iterdir()) == []


def test_print_config_repeats_the_settings(tmp_path, capsys):
    arguments = ["--preset", "course", "--energy.hidden", "32,32", "--seed", "5"]
    assert main(["train", "rings", *arguments, "--print_config"]) == 0
    first = capsys.readouterr().out
    file = tmp_path / "run.yaml"
    file.write_text(first)
    assert main(["train", "--config", str(file), "--print_config"]) == 0
    assert capsys.readouterr().out == first
    assert "gradient_clip: null" in first
    assert "hidden: [32, 32]" in first


def test_data_on_the_command_line_wins_over_a_file(tmp_path, capsys):
    file = tmp_path / "run.yaml"
    file.write_text("data: rings\nnum_steps: 5\n")
    options = ["--config", str(file), "--print_config"]
    for words, expected in ((["two_moons", *options], "two_moons"), (options, "rings")):
        assert main(["train", *words]) == 0
        assert capsys.readouterr().out.splitlines()[0] == f"data: {expected}"
    assert main(["train", "two_moons", "rings", *options]) == 2
    assert "'rings' is one word too many" in error_of(capsys)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("-4", "hidden must be a positive whole number, got -4"),
        ("-4,3", "hidden must be a positive whole number, got -4"),
        ("4,-3", "hidden must be a positive whole number, got -3"),
        ("", "--energy.hidden must be a list like [64,64] or null, got nothing"),
        ("x", "--energy.hidden must be a whole number or null, got x"),
        ("1000000000,1000000000", "hidden must fit this machine's memory"),
    ],
)
def test_widths_that_cannot_be_are_refused_in_words(value, message, tmp_path, capsys):
    for words in ([f"--energy.hidden={value}"], ["--energy.hidden", value]):
        assert main(["train", "rings", "--out", str(tmp_path / "x"), *words]) == 2
        assert message in error_of(capsys)
        assert list(tmp_path.iterdir()) == []


def test_an_out_that_is_no_utf8_is_one_line(tmp_path, capsys):
    out = os.fsdecode(os.fsencode(tmp_path / "run") + b"\xff")
    assert main(["train", "rings", "--out", out]) == 2
    assert rf"--out must be a name in UTF-8, got {tmp_path}/run\xff" in error_of(capsys)
    energy = basin.energies.NoiseConditional(2, hidden=(4,))
    with pytest.raises(ValueError, match="out must be a name in UTF-8"):
        basin.fit(energy, basin.datasets.Rings(), num_steps=1, out=out)
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_draws_may_have_any_name(run_folder, tmp_path):
    out = os.fsdecode(os.fsencode(tmp_path / "draws") + b"\xff.npz")
    assert main(["sample", str(run_folder), "--num_samples", "5", "--out", out]) == 0
    with np.load(out) as draws:
        assert draws["samples"].shape == (5, 2)


def test_help_follows_the_chosen_classes(capsys):
    assert main(["train", "--objective", "DenoisingScoreMatching", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "--objective.posterior_mean" in shown
    assert "--energy.confinement" in shown
    assert "--objective.sigma_max" not in shown
    assert "default: null" not in shown


@pytest.mark.slow
def test_a_sampler_of_choice_draws_the_samples(tmp_path):
    arguments = ["--sampler", "MALA", "--sampler.step_size", "0.05", *QUICK, *SMALL]
    out = tmp_path / "run"
    assert main(["train", "two_moons", "--out", str(out), *arguments]) == 0
    with np.load(out / "samples.npz") as file:
        assert np.isfinite(file["samples"]).all()


@pytest.mark.slow
def test_a_kernel_with_a_metric_inside_an_objective_is_kept_in_the_run(tmp_path):
    """Named in the shell, written to config.json, and built from it."""
    kernel = ["--objective.kernel", "HMC", "--objective.kernel.num_leapfrog_steps", "2"]
    metric = ["--objective.kernel.inverse_mass.variances", "0.5,2"]
    few = ["--num_steps", "3", "--batch_size", "64", "--num_samples", "20", *SMALL]
    out, objective = tmp_path / "run", ["--objective", "ContrastiveDivergence"]
    words = [*objective, *kernel, *metric, "--objective.num_steps", "2", *few]
    assert main(["train", "two_moons", "--out", str(out), *words]) == 0
    built = build_objective(basin.load(out).config)
    assert built.kernel == HMC(num_leapfrog_steps=2, inverse_mass=DiagonalMetric([0.5, 2.0]))


@pytest.mark.usefixtures("small_ending")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_exits_130_and_can_be_resumed(tmp_path, number):
    out = tmp_path / "run"
    options = ["--num_steps", "300", "--evaluate_every", "10", "--batch_size", "512", *SMALL]
    process = subprocess.Popen(
        [sys.executable, "-m", "basin", "train", "rings", "--out", str(out), *options],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    history = out / "history.jsonl"
    while process.poll() is None and not (history.exists() and history.stat().st_size):
        time.sleep(0.05)
    process.send_signal(number)
    _, shown = process.communicate(timeout=120)
    assert process.returncode == 130, shown
    assert f"basin resume {out}" in shown.splitlines()[-1]
    assert list((out / "checkpoint").iterdir())
    assert main(["sample", str(out)]) == 3  # not finished: says so
    if number == signal.SIGTERM:
        return
    assert main(["resume", str(out), "--num_samples", "50"]) == 0
    assert basin.load(out).history[-1]["step"] == 300
    assert (out / "report.html").exists()


class Mine(torch.nn.Module):
    """A network that Basin does not know."""

    def __init__(self, dim: int, width: int = 4) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(dim, width), torch.nn.SiLU(), torch.nn.Linear(width, 1)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x).squeeze(1) + 0.5 * x.square().sum(1)


@pytest.mark.usefixtures("small_ending")
def test_a_network_of_ones_own_is_used_by_every_command(table, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "my_networks", sys.modules[__name__])
    monkeypatch.setattr(Mine, "__module__", "my_networks")
    out, own = str(tmp_path / "run"), ["--energy", "my_networks.Mine"]
    objective = ["--objective", "NoiseContrastiveEstimation"]
    columns = ["--columns", ",".join(COLUMNS[:2])]
    words = ["train", str(table), "--out", out, *QUICK, *objective, *columns]
    assert main([*words, *own, "--energy.width", "6"]) == 0
    shown = capsys.readouterr().out
    assert "--out draws.csv --energy my_networks.Mine" in shown
    for command in (
        ["sample", out, "--out", str(tmp_path / "x.csv")],
        ["evaluate", out, "--checks", "mmd"],
        ["score", out, str(table), "--out", str(tmp_path / "s.csv")],
        ["report", out],
        ["resume", out],
    ):
        if command[0] != "resume":
            assert main(command) == 3  # nothing that a folder names is imported
            assert "my_networks.Mine" in error_of(capsys)
        assert main([*command, *own]) == 0, command
    capsys.readouterr()
    assert main(["sample", out, "--energy", "json.JSONDecoder"]) == 2
    assert "must name the class that the run was trained with, my_networks.Mine" in error_of(capsys)


@pytest.mark.slow
def test_how_to_draw_is_kept_for_resume_and_can_be_changed_by_sample(tmp_path, monkeypatch):
    out = tmp_path / "run"
    words = ["--sampler", "Langevin", "--sampler.step_size", "0.01", *QUICK, *SMALL]
    drawn = []
    real = basin.cli.job.draw

    def draw(run, path, **options):
        drawn.append((options["kernel"], options["num_samples"]))
        return real(run, path, **options)

    monkeypatch.setattr("basin.cli.job.draw", draw)
    monkeypatch.setattr("basin.cli.sample.draw", draw)
    monkeypatch.setattr("basin.cli.job.CHAIN_STEPS", 20)
    assert main(["train", "two_moons", "--out", str(out), *words]) == 0
    assert main(["resume", str(out)]) == 0
    assert drawn == [(basin.samplers.Langevin(0.01), 200)] * 2
    sample = ["sample", str(out), "--out", str(tmp_path / "x.npy"), "--num_samples", "5"]
    assert main([*sample, "--sampler", "MALA", "--sampler.step_size=0.2"]) == 0
    assert drawn[-1] == (basin.samplers.MALA(0.2), 5)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--sampler", "Gibbs"], "--sampler must move real numbers"),
        (
            ["--sampler", "ReverseDiffusion", "--objective", "SlicedScoreMatching"],
            "--sampler must do without noise levels",
        ),
        (
            ["--sampler", "MALA", "--objective", "PseudoLikelihood", "--energy", "Ising"],
            "--sampler must move whole numbers",
        ),
    ],
)
def test_a_sampler_that_does_not_fit_is_refused_before_training(words, message, tmp_path, capsys):
    out = tmp_path / "run"
    assert main(["train", "rings", "--out", str(out), *words]) == 2
    assert message in error_of(capsys)
    assert not out.exists()


def test_a_link_that_leads_nowhere_and_a_file_are_no_run_folders(tmp_path, capsys):
    (tmp_path / "link").symlink_to("link")
    assert main(["train", "rings", "--out", str(tmp_path / "link")]) == 2
    assert "a link that leads nowhere" in error_of(capsys)
    (tmp_path / "file").touch()
    assert main(["report", str(tmp_path / "file")]) == 3
    assert "run folder must be a folder, got the file" in error_of(capsys)
