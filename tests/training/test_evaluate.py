"""Which checks apply to a run, on energies that are exact by construction."""

from __future__ import annotations

import importlib.util
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import basin
from basin.datasets.load import Dataset
from basin.datasets.rows import FreshDraws, TensorRows
from basin.energies.composed.standardised import Standardised
from basin.partition.log_z import LogZ
from basin.training.evaluate import CHECKS, evaluate
from basin.training.run import Run
from helpers.known_densities import IsotropicMixture, two_blobs

_SIGMA = 0.2
LIKELIHOOD = "held_out_log_likelihood"


class _Exact(nn.Module):
    """-log pσ of a known density at every level, plus a constant."""

    def __init__(self, density: IsotropicMixture, constant: float = 0.0) -> None:
        super().__init__()
        self.density = density
        self.event_shape = density.event_shape
        self.constant = nn.Parameter(torch.tensor(constant, dtype=torch.float64))

    def forward(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        level = float(torch.as_tensor(sigma).flatten()[0])
        return self.constant - self.density.blurred(level).log_prob(x)

    def at(self, sigma: float) -> nn.Module:
        return _AtLevel(self, sigma)


class _AtLevel(nn.Module):
    def __init__(self, energy: _Exact, sigma: float) -> None:
        super().__init__()
        self.energy, self.sigma = energy, sigma

    def forward(self, x: Tensor) -> Tensor:
        return self.energy(x, self.sigma)


def _run(energy: nn.Module, shape: tuple[int, ...], folder: Path | None = None) -> Run:
    log_z = LogZ(0.0, 0.01, -0.02, 0.02, None, "by construction", "interval")
    config: dict[str, Any] = {
        "sigma": _SIGMA,
        "weights": "ema",
        "log_z": log_z.to_json(),
        "noise_levels": {"sigma_min": 0.05, "sigma_max": 10.0},
        "objective": {"class": "DualScoreMatching"},
        "data": {"event_shape": list(shape)},
    }
    return Run(energy, [], config, folder)


def _table(density: IsotropicMixture, generator: torch.Generator) -> Dataset:
    train = density.sample(500, generator)
    return Dataset(
        name="table",
        kind="table",
        density=None,
        train=TensorRows(train, dtype=torch.float64),
        validation=density.sample(300, generator),
        test=density.sample(300, generator),
        event_shape=density.event_shape,
        columns=("a", "b"),
        shift=torch.zeros(2),
        scale=torch.ones(2),
        description="",
    )


def test_a_perfect_run_against_a_known_truth(generator: torch.Generator) -> None:
    truth = two_blobs()
    samples = truth.blurred(_SIGMA).sample(1000, generator)
    results = evaluate(_run(_Exact(truth), (2,)), truth, samples=samples, seed=1)
    assert "not_done" not in results
    needs_more = {"bits_per_dimension", "log_z_check", "memorisation", "long_run"}
    if importlib.util.find_spec("ot") is None:
        needs_more |= {"wasserstein"}
    assert set(results) == set(CHECKS) - needs_more
    for name in ("kl_to_truth", "log_z_error", "mode_weights_of_energy", "fisher_divergence"):
        assert abs(results[name]["value"]) < 1e-6, name
    tested = [name for name, result in results.items() if result["p_value"] is not None]
    assert len(tested) >= 13
    for name in tested:
        assert results[name]["p_value"] > 1e-4, name
        assert results[name]["null"], name
        assert results[name]["n"] > 0, name
        assert results[name]["floor"] is not None, name
    assert results["held_out_log_likelihood"]["details"]["mean_absolute_gap"] < 1e-6
    assert results["relative_loss"]["value"] == pytest.approx(results["relative_loss"]["floor"])
    for result in results.values():
        assert result["about"] == {"density": "p_sigma", "sigma": _SIGMA, "weights": "ema"}
    json.dumps(results, allow_nan=False)


def test_named_checks_are_made_and_no_others(generator: torch.Generator) -> None:
    truth = two_blobs()
    samples = truth.blurred(_SIGMA).sample(200, generator)
    names = ["energy_distance", "total_variation", "memorisation"]
    results = evaluate(_run(_Exact(truth), (2,)), truth, samples=samples, checks=names)
    assert set(results) == {"energy_distance", "total_variation", "not_done"}
    assert results["not_done"] == {"memorisation": "needs a finite table of training rows"}
    with pytest.raises(ValueError, match=r"checks must be among kl_to_truth, .* got 'fid'"):
        evaluate(_run(_Exact(truth), (2,)), truth, samples=samples, checks=["fid"])


def test_long_chains_of_a_run_that_was_not_trained_by_sampling(generator: torch.Generator) -> None:
    truth = two_blobs()
    run = _run(_Exact(truth), (2,))
    results = evaluate(run, truth, checks=["long_run"], long_run=10)
    details = results["long_run"]["details"]
    assert details["verdict"].startswith("stays")
    assert details["kernel"].startswith("MALA")
    assert details["trained_by_sampling"] is False
    # The mutant: the energy of data that lie elsewhere.
    moved = replace(run, energy=_Moved(truth))
    found = evaluate(moved, truth, checks=["long_run"], long_run=10)["long_run"]
    assert found["details"]["verdict"].startswith("short-run generator, not a density")


class _Moved(_Exact):
    def forward(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        return super().forward(x - 1, sigma)


def test_training_s_own_kernel_makes_the_long_chains_where_it_had_one(
    generator: torch.Generator,
) -> None:
    objective = basin.objectives.ContrastiveDivergence(num_steps=3)
    run = basin.fit(
        basin.energies.MLP(2, hidden=(8,)),
        basin.datasets.StandardGaussian(2),
        objective,
        num_steps=20,
        batch_size=64,
        progress=False,
    )
    truth = basin.datasets.StandardGaussian(2)
    details = evaluate(run, truth, checks=["long_run"])["long_run"]["details"]
    assert details["kernel"] == repr(objective.kernel)
    assert (details["num_steps"], details["factor"]) == (3, 10)
    assert details["trained_by_sampling"] is True


def test_bits_per_dimension_at_a_spacing(generator: torch.Generator) -> None:
    truth = IsotropicMixture([[20.0, 0.0], [-20.0, 0.0]], [0.5, 0.5], 8.0)
    table = _table(truth, generator)
    assert table.test is not None
    whole = Dataset(**{**vars(table), "test": table.test.round()})
    found = evaluate(_run(_Exact(truth), (2,)), whole, checks=["bits_per_dimension"], spacing=1.0)
    found = found["bits_per_dimension"]
    # Entropy of well separated Gaussians, and of which one: 1 bit over two coordinates.
    entropy = 0.5 * math.log2(2 * math.pi * math.e * 64) + 0.5
    # The upper cell of a rounded number is half a step off, a shift of 1/16 of the scale.
    assert abs(found["value"] - entropy) < 3.9 * found["standard_error"] + 0.01
    assert found["details"]["dequantise"] == "upper cell"


def test_a_wrong_constant_is_seen_by_log_z_alone(generator: torch.Generator) -> None:
    truth = two_blobs()
    samples = truth.blurred(_SIGMA).sample(500, generator)
    names = "log_z_error", "kl_to_truth", LIKELIHOOD
    results = evaluate(_run(_Exact(truth, 0.3), (2,)), truth, samples=samples, checks=names)
    assert results["log_z_error"]["value"] == pytest.approx(0.3, abs=1e-6)
    assert abs(results["kl_to_truth"]["value"]) < 1e-6
    gap = results["held_out_log_likelihood"]["details"]["gap_to_truth"]
    assert gap == pytest.approx(0.3, abs=1e-6)


def test_samples_without_the_noise_of_the_model_are_found(generator: torch.Generator) -> None:
    """The mutant of blurring: draws of p against a model of pσ."""
    truth = two_blobs()
    samples = truth.sample(2000, generator)
    results = evaluate(_run(_Exact(truth), (2,)), truth, samples=samples, checks=["energy_gap"])
    assert results["energy_gap"]["p_value"] < 1e-4
    assert results["energy_gap"]["value"] < 0


def test_a_standardised_table(generator: torch.Generator) -> None:
    """Noise is added in standardised coordinates, log Z found there: all exact again."""
    shift, scale = torch.tensor([5.0, -3.0]), torch.tensor([10.0, 0.1])
    inner = IsotropicMixture([[-1.0, 0.0], [1.0, 0.0]], [0.5, 0.5], 0.5)
    energy = Standardised(_Exact(inner), shift, scale)
    table = _table(inner, generator)
    assert table.test is not None
    train = energy.restore(table.train.take(0, 500))
    moved = Dataset(
        **{
            **vars(table),
            "train": TensorRows(train, dtype=torch.float64),
            "test": energy.restore(table.test),
        }
    )
    samples = energy.restore(inner.blurred(_SIGMA).sample(1000, generator))
    results = evaluate(_run(energy, (2,)), moved, samples=samples)
    assert "not_done" not in results
    assert abs(results["log_z_error"]["value"]) < 1e-4
    for name in ("mmd", "energy_gap", "memorisation"):
        assert results[name]["p_value"] > 1e-4, name
    assert results["memorisation"]["details"]["training_rows"] == 500
    assert "kl_to_truth" not in results
    copies = evaluate(_run(energy, (2,)), moved, samples=train, checks=["memorisation"])
    assert copies["memorisation"]["details"]["verdict"].startswith("memorises")


def test_held_out_rows_say_which_part_they_are_and_whether_they_are_blurred(
    generator: torch.Generator,
) -> None:
    truth = two_blobs()
    run, samples = _run(_Exact(truth), (2,)), truth.blurred(_SIGMA).sample(300, generator)
    table = _table(truth, generator)
    without_test = Dataset(**{**vars(table), "test": None})
    names = "relative_loss", "held_out_log_likelihood", "mmd", "energy_gap", "memorisation"
    for dataset, part in ((table, "test"), (without_test, "validation")):
        results = evaluate(run, dataset, samples=samples, checks=names)
        assert {results[name]["details"]["rows"] for name in names} == {part}
        assert results["held_out_log_likelihood"]["details"]["noise_added"] is False
    of_density = evaluate(run, truth, samples=samples, checks=names)
    assert of_density["held_out_log_likelihood"]["details"]["noise_added"] is True
    assert of_density["mmd"]["details"]["rows"] == "fresh draws"


def test_the_error_of_log_z_is_in_that_of_the_held_out_log_likelihood(
    generator: torch.Generator,
) -> None:
    truth = two_blobs()
    run = _run(_Exact(truth), (2,)).with_log_z(
        LogZ(0.0, 3.0, -6.0, 6.0, None, "a guess", "interval")
    )
    samples = truth.blurred(_SIGMA).sample(300, generator)
    for data in (truth, _table(truth, generator)):
        found = evaluate(run, data, samples=samples, checks=[LIKELIHOOD])[LIKELIHOOD]
        assert found["standard_error"] == pytest.approx(3.0, rel=0.01)
        assert found["details"]["gain_standard_error"] == pytest.approx(3.0, rel=0.01)
        assert (found["details"]["log_z_lower"], found["details"]["log_z_upper"]) == (-6.0, 6.0)
        assert found["details"]["lower"] == pytest.approx(found["value"] - 6)
        assert found["details"]["upper"] == pytest.approx(found["value"] + 6)
    unchecked = run.with_log_z(LogZ.unchecked(0.0, "nobody looked"))
    found = evaluate(unchecked, truth, samples=samples, checks=[LIKELIHOOD])[LIKELIHOOD]
    assert found["standard_error"] < 0.1
    assert found["details"]["log_z_standard_error"] is None


def test_log_z_of_a_table_with_a_far_group_of_rows(generator: torch.Generator) -> None:
    """The mass of a group 200 times as far out as the rest is 2% of it: log Z off by 0.02."""
    truth = IsotropicMixture([[0.0, 0.0], [200.0, 0.0]], [0.98, 0.02], 0.5)
    samples = truth.blurred(_SIGMA).sample(300, generator)
    table = _table(truth, generator)
    results = evaluate(_run(_Exact(truth), (2,)), table, samples=samples, checks=["log_z_error"])
    assert abs(results["log_z_error"]["value"]) < 1e-3


@pytest.mark.usefixtures("small_ending")
@pytest.mark.parametrize("seed", [0, 1])
def test_held_out_draws_share_nothing_with_draws_of_the_same_seed(seed: int) -> None:
    """``run.sample(seed=s)`` begins with the normal numbers of seed s, and so may a Density: a
    two-sample test of the two would compare samples that are correlated row by row."""
    drawn: list[Tensor] = []

    class Recorded(IsotropicMixture):
        def sample(self, n: int, generator: torch.Generator) -> Tensor:
            drawn.append(torch.randn(n, *self.event_shape, generator=generator))
            return drawn[-1].double()

    truth = Recorded([[0.0, 0.0]], [1.0], 1.0)
    same = torch.randn(2000, 2, generator=torch.Generator().manual_seed(seed))
    evaluate(_run(_Exact(truth), (2,)), truth, samples=same.double(), seed=seed)
    for rows in (rows[:2000] for rows in drawn):
        correlation = torch.corrcoef(torch.stack([rows.flatten(), same.flatten()]))[0, 1]
        assert abs(float(correlation)) < 3.9 / 4000**0.5


@pytest.mark.usefixtures("small_ending")
def test_more_dimensions_and_fresh_draws_from_a_dataset(generator: torch.Generator) -> None:
    truth = IsotropicMixture([[0.0] * 5, [3.0] * 5], [0.7, 0.3], 0.5)
    dataset = Dataset(
        **{
            **vars(_table(truth, generator)),
            "kind": "density",
            "density": truth,
            "train": FreshDraws(truth),
            "test": None,
            "validation": None,
        }
    )
    samples = truth.blurred(_SIGMA).sample(500, generator)
    results = evaluate(_run(_Exact(truth), (5,)), dataset, samples=samples)
    assert "kl_to_truth" not in results
    assert results["fisher_divergence"]["value"] < 1e-9
    assert results["held_out_log_likelihood"]["details"]["mean_absolute_gap"] < 1e-6


def test_a_check_that_cannot_be_made_is_named_and_the_others_go_on() -> None:
    truth = two_blobs()
    samples = torch.full((10, 2), math.nan, dtype=torch.float64)
    results = evaluate(_run(_Exact(truth), (2,)), truth, samples=samples)
    assert "samples must be finite" in results["not_done"]["mode_weights"]
    assert {"mmd", "energy_gap"} <= set(results["not_done"])
    assert abs(results["kl_to_truth"]["value"]) < 1e-6
    json.dumps(results, allow_nan=False)


def test_samples_of_the_folder_are_used_at_their_own_level(
    tmp_path: Path, generator: torch.Generator
) -> None:
    truth = two_blobs()
    rows = truth.blurred(_SIGMA).sample(321, generator)
    np.savez(tmp_path / "samples.npz", samples=rows.numpy(), sigma=_SIGMA)
    run = _run(_Exact(truth), (2,), tmp_path)
    results = evaluate(run, truth, checks=["mode_weights"])
    assert results["mode_weights"]["n"] == 321


def test_data_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"rows of the shape that the run was trained on, \(2,\)"):
        evaluate(_run(_Exact(two_blobs()), (2,)), IsotropicMixture([[0.0]], [1.0], 1.0))
