"""log Z of runs by other methods: found where it is known, refused where it is not known well."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch
from torch import nn

import basin
from basin.cli.main import main
from basin.energies import RestrictedBoltzmannMachine
from basin.energies.analytic.noised_gaussian_mixture import NoisedGaussianMixture
from basin.energies.composed.at_noise_level import AtNoiseLevel
from basin.energies.composed.standardised import Standardised
from basin.partition.annealing import AnnealingSchedule
from basin.partition.log_z import LogZ, LogZNotEstimated
from basin.samplers import MALA, ParallelTempering
from basin.training.check_log_z import LogZCheck, _levels, _Way
from basin.training.run import NotNormalisedError, Run

LOG_Z = -0.7


class Off(nn.Module):
    """An exact blurred mixture plus a constant and a drift: log Z(σ) = -0.7 - drift log(σ/10)."""

    def __init__(self, dim: int, drift: float = 0.0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.inner = NoisedGaussianMixture(dim, 2)
        self.inner.weights.copy_(torch.tensor([0.7, 0.3]))
        self.inner.means.copy_(2 * torch.randn(2, dim, generator=generator))
        self.inner.variances.mul_(0.3)
        self.constant = nn.Parameter(torch.tensor(-LOG_Z))
        self.drift, self.event_shape = drift, (dim,)

    def forward(self, x, sigma):
        level = torch.as_tensor(sigma, dtype=x.dtype)
        return self.inner(x, sigma) + self.constant + self.drift * torch.log(level / 10)

    def at(self, sigma):
        return AtNoiseLevel(self, sigma)

    def base_law(self, sigma):
        return self.inner.moments(sigma)

    def sample_base(self, n, generator, sigma):
        return self.inner.sample_base(n, generator, sigma)


def run_of(energy: nn.Module, shape: tuple[int, ...], **changes: Any) -> Run:
    config: dict[str, Any] = {
        "sigma": 0.3,
        "weights": "ema",
        "log_z": LogZ.unchecked(0.0, "tied to the largest noise level").to_json(),
        "noise_levels": {"sigma_min": 0.1, "sigma_max": 10.0},
        "objective": {"class": "DualScoreMatching"},
        "data": {"event_shape": list(shape)},
        "start": {"mean": [0.0] * math.prod(shape), "standard_deviation": 1.5},
        **changes,
    }
    return Run(energy, [], config)


@pytest.mark.parametrize("method", ["smc", "ais", "bridge", "probability_flow", "quadrature"])
def test_every_method_finds_log_z_and_does_not_agree_with_a_wrong_claim(method):
    run = run_of(Off(2), (2,))
    check = run.check_log_z(method, num_particles=200 if method != "smc" else 256)
    rounding = 1e-6  # of energies in float32, for the quadrature
    assert check.log_z.lower - rounding < LOG_Z < check.log_z.upper + rounding
    assert check.log_z.error < 0.4
    assert check.difference == pytest.approx(-check.log_z.log_z)
    assert not check.agrees
    assert "does not agree" in str(check)
    assert LogZCheck(check.log_z, check.log_z).agrees


def test_a_standardised_energy_has_the_log_z_of_the_users_units():
    run = run_of(Standardised(Off(2), [5.0, -3.0], [10.0, 0.1]), (2,))
    check = run.check_log_z("smc", num_particles=256)
    assert check.log_z.lower < LOG_Z < check.log_z.upper


def test_levels_on_the_way_down_show_where_the_constant_drifts():
    run = run_of(Off(2, drift=0.5), (2,))
    for method in ("smc", "ais"):
        check = run.check_log_z(method, num_particles=256)
        sigmas = [level.sigma for level in check.levels]
        assert sigmas == sorted(sigmas, reverse=True)
        assert sigmas[-1] == pytest.approx(0.3)
        for level in check.levels[:: max(1, len(sigmas) // 5)]:
            truth = LOG_Z - 0.5 * math.log(level.sigma / 10)
            half = 2 * max(level.log_z.error, 0.02)
            assert abs(level.log_z.log_z - truth) < half


def test_a_run_of_one_level_goes_from_the_gaussian_of_its_rows():
    energy = basin.energies.MLP(3, hidden=(8,), confinement=0.5, seed=1)
    run = run_of(energy, (3,), noise_levels=None, log_z=None)
    with pytest.raises(NotNormalisedError, match="check_log_z"):
        run.log_prob(torch.zeros(1, 3))
    check = run.check_log_z("smc", num_particles=512)
    truth = run.check_log_z("quadrature").log_z
    assert check.log_z.lower < truth.log_z < check.log_z.upper
    assert check.claimed is None
    assert math.isnan(check.difference)
    with pytest.raises(ValueError, match="probability_flow needs an energy of all noise levels"):
        run.check_log_z("probability_flow")


def test_a_boltzmann_machine_goes_from_the_rates_of_its_draws():
    machine = RestrictedBoltzmannMachine(14, num_hidden=6, seed=2)
    with torch.no_grad():
        machine.weight.mul_(5)
    run = run_of(machine, (14,), noise_levels=None, log_z=None, num_states=2, sigma=None)
    for method in ("smc", "ais"):
        found = run.check_log_z(method, num_particles=512).log_z
        assert found.lower < machine.log_z < found.upper
    other = run_of(basin.energies.Ising(2), (2, 2), noise_levels=None, num_states=2, sigma=None)
    with pytest.raises(ValueError, match="must have a restricted Boltzmann machine, got Ising"):
        other.check_log_z("ais")


def test_a_likelihood_is_refused_when_log_z_is_not_known_so_well():
    run = run_of(Off(2), (2,))
    x = torch.zeros(1, 2)
    assert run.log_prob(x).shape == (1,)
    with pytest.raises(NotNormalisedError, match=r"known to 0\.5 nats.*nobody has checked it"):
        run.log_prob(x, tolerance=0.5)
    known = run.with_log_z(LogZ(LOG_Z, 0.1, LOG_Z - 0.2, LOG_Z + 0.2, 100.0, "smc", "interval"))
    assert torch.isfinite(known.log_prob(x, tolerance=0.25)).all()
    with pytest.raises(NotNormalisedError, match=r"-0\.900 to -0\.500.*raise tolerance"):
        known.log_prob(x, tolerance=0.1)
    with pytest.raises(LogZNotEstimated, match=r"log Z must be known to 0\.1 nats"):
        known.log_z.within(0.1)
    assert known.log_z.within(0.25) == known.log_z


def test_wrong_arguments_say_what_is_wrong():
    run = run_of(Off(2), (2,))
    with pytest.raises(ValueError, match=r"method must be one of smc, ais.*got 'mcmc'"):
        run.check_log_z("mcmc")
    with pytest.raises(ValueError, match="sigma must lie within the trained levels"):
        run.check_log_z("smc", sigma=0.01)


@pytest.mark.slow
def test_the_shell_states_it_beside_the_claim(tmp_path, capsys):
    folder = str(tmp_path / "run")
    truth = basin.datasets.StandardGaussian(2)
    energy = basin.energies.NoiseConditional(2, hidden=(8,))
    basin.fit(energy, truth, num_steps=30, batch_size=64, progress=False, out=folder)
    assert main(["sample", folder, "--num_samples", "100"]) == 0
    command = ["evaluate", folder, "--log_z", "smc", "--num_particles", "256"]
    assert main([*command, "--tolerance", "1e-9"]) == 0
    shown = capsys.readouterr().out
    assert "log_z_check" in shown
    assert "not done: held_out_log_likelihood: log Z must be known to 1e-09 nats" in shown
    assert main([*command, "--json"]) == 0
    results = json.loads(capsys.readouterr().out)
    found = results["log_z_check"]["details"]
    assert found["by_sigma"][0]["sigma"] > found["by_sigma"][-1]["sigma"]
    stated = results["held_out_log_likelihood"]["details"]
    assert stated["log_z_lower"] == found["found"]["lower"]
    assert results == json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert main(["evaluate", folder, "--log_z", "mcmc"]) == 2
    assert "--log_z must be one of smc, ais" in capsys.readouterr().err


def test_levels_that_the_particles_do_not_agree_on_are_left_out():
    """One bad level on the way down is no reason to refuse the answer at its end."""
    schedule = AnnealingSchedule.even(MALA(), 10)
    way = _Way(path=None, kernel=MALA(), sigma_at=lambda t: 1 - t)  # type: ignore[arg-type]

    def log_z(stage):
        if stage == 5:
            raise LogZNotEstimated("the islands do not agree")
        return LogZ(float(stage), 0.1, stage - 0.2, stage + 0.2, None, "test", "interval")

    found = [level.log_z.log_z for level in _levels(schedule, way, log_z)]
    assert found == [1.0, 2.0, 3.0, 4.0, 6.0, 7.0, 8.0, 9.0, 10.0]


def test_a_bridge_of_a_run_refuses_a_kernel_that_is_not_reversible():
    run = run_of(Off(2), (2,))
    with pytest.raises(ValueError, match="kernel must be reversible"):
        run.check_log_z("bridge", kernel=ParallelTempering(MALA()))
