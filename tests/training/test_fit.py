"""``basin.fit``: what it refuses, what it hands back, and what its log density is worth."""

from __future__ import annotations

import errno
import json
import sys

import numpy as np
import pytest
import torch
from torch import nn

import basin
from basin.energies.composed.standardised import Standardised
from basin.training.errors import RunFolderError, TrainingDiverged
from basin.training.run import NotNormalisedError

SMALL = dict(num_steps=20, batch_size=32)


def noise_conditional(dim=2, **kwargs):
    return basin.energies.NoiseConditional(dim, hidden=(8,), **kwargs)


def table(n=300, dim=2, seed=0):
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed))


def test_a_gaussian_is_learned_with_its_normalised_density():
    """The base law is the answer here: little training, a density right to a hundredth."""
    truth = basin.datasets.StandardGaussian(3)
    run = basin.fit(noise_conditional(3), truth, num_steps=150, batch_size=256)
    x = truth.blurred(run.sigma).sample(2000, torch.Generator().manual_seed(1))
    error = run.log_prob(x) - truth.blurred(run.sigma).log_prob(x)
    assert error.abs().mean() < 0.05
    assert run.log_z.lower <= run.log_z.log_z <= run.log_z.upper
    draws = run.sample(4000, seed=2)
    assert draws.mean(0).abs().max() < 0.1
    assert (draws.var(0) - (1 + run.sigma**2)).abs().max() < 0.12


def test_a_standardised_table_gives_densities_in_the_users_units():
    """Rescaling the data moves log p by minus log of the scale, whatever the training did."""
    rows = table(400)
    shift, scale = torch.tensor([10.0, -5.0]), torch.tensor([100.0, 0.01])
    runs = []
    for a, b in ((torch.zeros(2), torch.ones(2)), (shift, scale)):
        energy = Standardised(noise_conditional(), a, b)
        runs.append(
            basin.fit(energy, rows * b + a, validation=(rows * b + a)[:50], sigma=0.5, **SMALL)
        )
    plain, scaled = (
        run.log_prob(rows * b + a)
        for run, a, b in zip(runs, (0.0, shift), (1.0, scale), strict=True)
    )
    assert torch.allclose(plain - scale.log().sum(), scaled, atol=2e-3)


def test_history_names_both_weights_and_the_trivial_predictor():
    run = basin.fit(noise_conditional(), basin.datasets.StandardGaussian(2), **SMALL)
    last = run.history[-1]
    assert {"loss", "relative_loss", "validation_loss", "validation_loss_ema"} <= last.keys()
    assert {"space", "noise"} <= last["terms"].keys()
    assert run.config["weights"] in ("raw", "ema")


def test_the_same_seed_gives_the_same_bits_and_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    runs = [
        basin.fit(noise_conditional(), basin.datasets.StandardGaussian(2), seed=seed, **SMALL)
        for seed in (0, 0, 1)
    ]
    assert torch.equal(torch.get_rng_state(), before)
    x = table(10)
    assert torch.equal(runs[0].log_prob(x), runs[1].log_prob(x))
    assert not torch.equal(runs[0].log_prob(x), runs[2].log_prob(x))
    assert torch.equal(runs[0].sample(5, seed=3), runs[1].sample(5, seed=3))


def test_a_finished_run_is_read_back_whole(tmp_path):
    run = basin.fit(
        noise_conditional(), table(), validation=table(50, seed=1), out=tmp_path / "r", **SMALL
    )
    again = basin.load(tmp_path / "r")
    x = table(10)
    assert torch.equal(run.log_prob(x), again.log_prob(x))
    assert again.history == run.history
    assert again.config["training"]["num_steps"] == 20
    assert not list((tmp_path / "r").rglob("*.pt"))
    other = basin.load(tmp_path / "r", weights=again.config["other_weights"])
    assert not torch.equal(other.log_prob(x), run.log_prob(x))
    assert other.config["weights"] != again.config["weights"]


def test_early_stopping_keeps_the_best_weights():
    """Forty rows and a constant rate: the held-out loss turns round, the run stops there."""
    run = basin.fit(
        basin.energies.MLP(2, hidden=(64, 64)),
        table(40),
        basin.objectives.DenoisingScoreMatching(0.1),
        validation=table(200, seed=1),
        num_steps=5000,
        batch_size=40,
        learning_rate=1e-2,
        learning_rate_schedule="constant",
        evaluate_every=20,
        patience=5,
    )
    held_out = [r for r in run.history if "validation_loss" in r]
    best = min(min(r["validation_loss"], r["validation_loss_ema"]) for r in held_out)
    assert "stopped at step" in run.config["training_ended"]
    assert run.history[-1]["step"] < 5000
    weights = "" if run.config["weights"] == "raw" else "_ema"
    assert best == min(r[f"validation_loss{weights}"] for r in held_out)


def test_sigma_of_a_table_is_chosen_by_held_out_likelihood():
    run = basin.fit(noise_conditional(), table(), validation=table(100, seed=1), **SMALL)
    curve = {p["sigma"]: p["held_out_log_likelihood"] for p in run.config["sigma_curve"]}
    assert curve[run.sigma] == max(curve.values())


def test_a_run_without_log_z_says_how_to_get_one():
    objective = basin.objectives.DenoisingScoreMatching(0.5)
    run = basin.fit(
        basin.energies.MLP(2, hidden=(8,), confinement=0.1), table(), objective, **SMALL
    )
    with pytest.raises(NotNormalisedError, match="quadrature"):
        run.log_prob(table(3))
    bounds = [(-12.0, 12.0), (-12.0, 12.0)]
    normalised = run.with_log_z(basin.partition.quadrature(run.energy_at(), bounds))
    assert torch.isfinite(normalised.log_prob(table(3))).all()


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"num_steps": 0}, "num_steps must be a positive whole number"),
        ({"batch_size": -1}, "batch_size must be a positive"),
        ({"learning_rate": 0.0}, "learning_rate must be positive"),
        ({"learning_rate_schedule": "linear"}, "learning_rate_schedule must be one of"),
        ({"gradient_clip": -1.0}, "gradient_clip must be positive"),
        ({"ema_decay": 1.5}, "ema_decay must lie between 0 and 1"),
        ({"sigma": 0.0}, "sigma must be positive"),
        ({"sigma": 1e4}, "sigma must lie within the ladder"),
    ],
)
def test_bad_settings_are_named_before_any_work(kwargs, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        basin.fit(noise_conditional(), table(), **{**SMALL, **kwargs}, out=tmp_path / "r")
    assert not (tmp_path / "r" / "checkpoint").exists()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (torch.tensor([[1.0, float("nan")], [1.0, 2.0]]), "finite"),
        (torch.zeros(0, 2), "row"),
        (torch.zeros(50, 2), "all the same"),
        (table(50, dim=3), "coordinates"),
    ],
)
def test_bad_rows_are_refused(rows, message):
    with pytest.raises(ValueError, match=message):
        basin.fit(noise_conditional(), rows, **SMALL)


class Column(nn.Module):
    """An energy that forgets to squeeze."""

    def __init__(self, reduce):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 8), nn.SiLU(), nn.Linear(8, 1, bias=False))
        self.reduce = reduce

    def forward(self, x):
        return self.reduce(self.net(x))


@pytest.mark.global_generator
@pytest.mark.parametrize(
    ("reduce", "message"),
    [(lambda e: e, r"squeeze\(-1\)"), (lambda e: e.mean(), "one energy a row")],
)
def test_energies_of_a_wrong_shape_are_refused(reduce, message):
    objective = basin.objectives.DenoisingScoreMatching(0.5)
    with pytest.raises(ValueError, match=message):
        basin.fit(Column(reduce), table(), objective, **SMALL)


def test_an_objective_and_an_energy_that_do_not_fit_are_told_apart():
    with pytest.raises(ValueError, match="needs a noise-conditional energy"):
        basin.fit(basin.energies.MLP(2), table(), **SMALL)
    with pytest.raises(ValueError, match="energy\\(x\\) of one argument"):
        basin.fit(
            noise_conditional(), table(), basin.objectives.DenoisingScoreMatching(0.5), **SMALL
        )


class Overflowing(nn.Module):
    """Finite at weight 1; its score overflows once a step of 5 has taken the weight to -4."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(1.0))

    def forward(self, x):
        return torch.exp(self.weight.abs() * 18) * x.square().sum(1)


def test_a_loss_that_is_not_finite_stops_at_once_and_names_the_step(tmp_path):
    with pytest.raises(TrainingDiverged, match=r"step \d+: .*learning_rate"):
        basin.fit(
            Overflowing(),
            table(),
            basin.objectives.DenoisingScoreMatching(0.5),
            num_steps=50,
            batch_size=32,
            learning_rate=5.0,
            gradient_clip=None,
            warmup_steps=0,
            checkpoint_every=1,
            out=tmp_path / "r",
        )
    with pytest.raises(RunFolderError, match="basin resume"):
        basin.load(tmp_path / "r")


def test_recovery_halves_the_learning_rate_and_is_logged(tmp_path):
    with pytest.raises(TrainingDiverged):
        basin.fit(
            Overflowing(),
            table(),
            basin.objectives.DenoisingScoreMatching(0.5),
            num_steps=50,
            batch_size=32,
            learning_rate=5.0,
            gradient_clip=None,
            warmup_steps=0,
            checkpoint_every=1,
            recover=1,
            out=tmp_path / "r",
        )
    events = [
        record["event"]
        for record in map(json.loads, (tmp_path / "r" / "history.jsonl").read_text().splitlines())
        if "event" in record
    ]
    assert len(events) == 2
    assert events[1].startswith("stopped: ")
    assert "learning rate halved" in events[0]


def test_a_folder_that_holds_something_is_left_as_it_is(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(RunFolderError, match="other files"):
        basin.fit(noise_conditional(), table(), out=tmp_path, **SMALL)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]
    basin.fit(noise_conditional(), table(), out=tmp_path / "r", **SMALL)
    with pytest.raises(RunFolderError, match="another run"):
        basin.fit(noise_conditional(), table(), out=tmp_path / "r", **SMALL)


def test_rows_of_a_wrong_dimension_are_refused_by_a_loaded_model(tmp_path):
    basin.fit(noise_conditional(), table(), out=tmp_path / "r", **SMALL)
    with pytest.raises(ValueError, match=r"x must have shape \(batch, 2\), got \(5, 3\)"):
        basin.load(tmp_path / "r").log_prob(torch.zeros(5, 3))


@pytest.mark.parametrize(
    ("energy", "objective", "kwargs", "error", "message"),
    [
        ("MLP", None, {}, TypeError, "energy must be a torch.nn.Module"),
        (None, basin.objectives.DualScoreMatching, {}, TypeError, "objective must be one"),
        (None, "DSM", {}, TypeError, "objective must be one"),
        (None, None, {"validation": torch.zeros(0, 2)}, ValueError, "must have rows, got none"),
        (None, None, {"validation": [[0.0, 0.0]]}, TypeError, "validation must be a Tensor"),
        (None, None, {"adam_betas": (0.9,)}, ValueError, "adam_betas must be two numbers"),
        (None, None, {"num_threads": 10**6}, ValueError, "num_threads must be at most"),
        (None, None, {"seed": 2**63}, ValueError, "seed must be a whole number from 0 to"),
    ],
)
def test_things_of_the_wrong_kind_are_named(energy, objective, kwargs, error, message):
    with pytest.raises(error, match=message):
        basin.fit(energy or noise_conditional(), table(), objective, **{**SMALL, **kwargs})


def test_rows_in_double_precision_are_scored():
    run = basin.fit(noise_conditional(), table(), validation=table(50, seed=1).double(), **SMALL)
    x = table(5)
    assert torch.equal(run.log_prob(x.double()), run.log_prob(x))
    with pytest.raises(TypeError, match="x must be a Tensor"):
        run.log_prob(x.tolist())
    with pytest.raises(ValueError, match="x must be finite"):
        run.log_prob(torch.full((1, 2), 1e300, dtype=torch.float64))


def test_divergence_names_a_checkpoint_only_where_there_is_one(tmp_path):
    with pytest.raises(TrainingDiverged) as caught:
        basin.fit(noise_conditional(), table(), learning_rate=1e30, out=tmp_path / "r", **SMALL)
    kept = list((tmp_path / "r").glob("checkpoint/*"))
    assert ("checkpoint is kept" in str(caught.value)) == bool(kept)


def test_rows_on_a_plane_drive_sigma_down_the_ladder_and_the_run_says_so():
    """A third column that is the sum of the others: across the plane no blur is the likeliest."""

    def planar(n, seed):
        rows = table(n, seed=seed)
        return torch.cat([rows, rows.sum(1, keepdim=True)], dim=1)

    run = basin.fit(noise_conditional(3), planar(300, 0), validation=planar(100, 1), **SMALL)
    assert run.sigma == run.config["noise_levels"]["sigma_min"]
    assert "lowest level of the ladder" in run.config["sigma_choice"]


def test_a_run_whose_log_z_cannot_be_estimated_is_kept_without_one(tmp_path):
    energy = basin.energies.NoiseConditional(8, hidden=(16,))
    with torch.no_grad():
        energy.output.weight.mul_(3000)  # far from its Gaussian at every level
    x = torch.randn(200, 8, generator=torch.Generator().manual_seed(0))
    with pytest.warns(UserWarning, match="log Z is not known"):
        run = basin.fit(energy, x, num_steps=2, learning_rate=1e-9, out=tmp_path / "run")
    assert run.log_z is None
    assert torch.isfinite(run.sample(3, num_steps=5)).all()
    assert basin.load(tmp_path / "run").log_z is None
    with pytest.raises(ValueError, match="log Z"):
        run.log_prob(x[:2])


@pytest.mark.parametrize("num_rows", [6, 10, 14])
def test_a_handful_of_rows_trains_to_the_end(num_rows, tmp_path):
    rows = tmp_path / "x.npy"
    np.save(rows, table(num_rows).numpy())
    data = basin.datasets.load(rows)
    energy = Standardised(noise_conditional(), data.shift, data.scale)
    assert basin.fit(energy, data, **SMALL).log_z is not None


def test_an_energy_that_draws_random_numbers_is_refused():
    with torch.random.fork_rng():
        layers = nn.Linear(2, 8), nn.Dropout(0.5), nn.SiLU(), nn.Linear(8, 1), nn.Flatten(0)
    noisy = nn.Sequential(*layers)
    before = torch.get_rng_state()
    with pytest.raises(ValueError, match=r"Sequential must be a function of x alone.*dropout"):
        basin.fit(noisy, table(), basin.objectives.NoiseContrastiveEstimation(), **SMALL)
    assert torch.equal(before, torch.get_rng_state())


def test_notes_of_ones_own_are_kept(tmp_path):
    run = basin.fit(noise_conditional(), table(), out=tmp_path / "r", extra={"why": "x"}, **SMALL)
    assert run.config["extra"] == basin.load(tmp_path / "r").config["extra"] == {"why": "x"}
    with pytest.raises(TypeError, match="not JSON serializable"):
        basin.fit(noise_conditional(), table(), extra={"why": object()}, **SMALL)


def test_a_start_that_fails_leaves_the_folder_to_the_next(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(sys.modules["basin.training.fit"], "write_config", full)
        with pytest.raises(OSError, match="No space"):
            basin.fit(noise_conditional(), table(), out=tmp_path / "r", **SMALL)
    basin.fit(noise_conditional(), table(), out=tmp_path / "r", **SMALL)


def test_a_config_without_a_word_says_that_nothing_was_trained(tmp_path):
    (tmp_path / "config.json").touch()
    with pytest.raises(RunFolderError, match=r"got an empty file.*nothing was trained"):
        basin.load(tmp_path)


def test_weights_that_were_not_kept_are_named(tmp_path):
    basin.fit(noise_conditional(), table(), out=tmp_path / "r", ema_decay=None, **SMALL)
    with pytest.raises(ValueError, match="'raw', the only ones that this run kept"):
        basin.load(tmp_path / "r", weights="ema")
