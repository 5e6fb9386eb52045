"""Whole numbers through fit, the run folder, sampling, evaluation, and the shell."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import basin
from basin.cli.job import draw_with
from basin.cli.main import main
from basin.cli.train import _choose
from basin.core.discrete import state_numbers
from basin.datasets import IsingLattice
from basin.energies import (
    MLP,
    CategoricalMLP,
    Ising,
    NoiseConditional,
    RestrictedBoltzmannMachine,
    Standardised,
)
from basin.evaluation import kl_to_truth
from basin.objectives import (
    ConcreteScoreMatching,
    DenoisingScoreMatching,
    PseudoLikelihood,
    RatioMatching,
)
from basin.samplers import MALA, Gibbs, GibbsWithGradients
from basin.training import evaluate
from helpers.statistics import THRESHOLD

LATTICE = IsingLattice(side=2)
FAST = dict(num_steps=150, batch_size=256, learning_rate=0.03, warmup_steps=10)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "lattice"
    return basin.fit(Ising(4), LATTICE, PseudoLikelihood(), out=out, **FAST)


def test_log_z_is_summed_up_so_log_prob_answers(run):
    every = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 4)
    assert run.num_states == 2
    assert run.log_z.kind == "exact"
    assert float(run.log_prob(every).exp().sum()) == pytest.approx(1, abs=1e-5)


@pytest.mark.statistical
def test_samples_are_exact_draws_of_the_model(run):
    from scipy import stats

    every = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 4)
    seen = torch.bincount(state_numbers(run.sample(8000, seed=1), 2), minlength=16)
    expected = 8000 * run.log_prob(every).exp().double()
    result = stats.chisquare(seen.numpy(), (expected / expected.sum() * 8000).numpy())
    assert result.pvalue > THRESHOLD


def test_the_folder_reads_back_to_the_same_run(run):
    again = basin.load(run.folder)
    assert again.num_states == 2
    assert torch.equal(again.sample(20, seed=3), run.sample(20, seed=3))


@pytest.mark.usefixtures("small_ending")
def test_evaluation_is_about_the_law_that_was_learned(run):
    results = evaluate(run, LATTICE, samples=run.sample(300))
    assert results["kl_to_truth"]["value"] < 0.05
    assert results["kl_to_truth"]["about"]["density"] == "p"
    assert "fisher_divergence" not in results
    assert "not_done" not in results
    corrupt = basin.fit(Ising(4), LATTICE, ConcreteScoreMatching(corruption=0.2), **FAST)
    results = evaluate(corrupt, LATTICE, samples=corrupt.sample(300))
    assert results["kl_to_truth"]["about"]["density"] == "p_corrupted"
    assert results["kl_to_truth"]["value"] < 0.05
    assert float(basin.evaluation.kl_to_truth(corrupt.energy, LATTICE)) > 0.05


def test_many_states_are_drawn_by_gibbs_sweeps():
    x = (torch.rand(64, 30, generator=torch.Generator().manual_seed(0)) < 0.8).float()
    energy = Ising(30, fields=0.7)
    run = basin.fit(energy, x, RatioMatching(), num_steps=1, learning_rate=1e-6)
    draws = run.sample(200, seed=0, num_steps=20)
    assert sorted(draws.unique().tolist()) == [0.0, 1.0]
    assert float(draws.mean()) == pytest.approx(1 / (1 + math.exp(-1.4)), abs=0.03)
    with pytest.raises(ValueError, match=r"2\^30 states are too many to sum over"):
        run.log_prob(draws)


def test_rows_and_energies_that_do_not_go_together_are_named():
    x = torch.zeros(40, 2)
    x[17, 1] = 3
    with pytest.raises(ValueError, match="got 3 in row 17, coordinate 1; say num_states=4"):
        basin.fit(CategoricalMLP(2), x, PseudoLikelihood(), num_steps=1)
    with pytest.raises(ValueError, match="validation must hold whole numbers"):
        basin.fit(CategoricalMLP(2), x[:10], PseudoLikelihood(), validation=x, num_steps=1)
    energy = Standardised(CategoricalMLP(2), 0.0, 2.0)
    with pytest.raises(ValueError, match="which Standardised moves"):
        basin.fit(energy, x[:10], PseudoLikelihood(), num_steps=1)
    for energy, objective in ((MLP(4), DenoisingScoreMatching()), (NoiseConditional(4), None)):
        with pytest.raises(ValueError, match=r"a law of whole numbers; take PseudoLikelihood"):
            basin.fit(energy, LATTICE, objective, num_steps=1)


@pytest.mark.usefixtures("small_ending")
def test_the_shell_trains_a_table_of_categories(tmp_path, capsys):
    generator = torch.Generator().manual_seed(0)
    table = torch.randint(0, 3, (300, 2), generator=generator)
    lines = "\n".join(f"{a},{b}" for a, b in table.tolist())
    (tmp_path / "table.csv").write_text(f"left,right\n{lines}\n")
    words = ["train", str(tmp_path / "table.csv"), "--out", str(tmp_path / "run")]
    words += ["--objective", "PseudoLikelihood", "--objective.num_states", "3"]
    words += ["--energy.hidden", "8", "--num_steps", "20", "--num_samples", "50"]
    assert main(words) == 0
    run = basin.load(tmp_path / "run")
    assert isinstance(run.energy, CategoricalMLP)
    assert run.energy.num_states == 3
    assert "held_out_log_likelihood" in capsys.readouterr().out


@pytest.mark.usefixtures("small_ending")
def test_the_shell_trains_a_boltzmann_machine_by_persistent_contrastive_divergence(tmp_path):
    """Rows of a lattice, through train, sample and back, with block Gibbs."""
    lattice = IsingLattice(2, coupling=0.5)
    table = lattice.sample(600, torch.Generator().manual_seed(0)).int().tolist()
    lines = "\n".join(",".join(map(str, row)) for row in table)
    (tmp_path / "table.csv").write_text(f"a,b,c,d\n{lines}\n")
    words = ["train", str(tmp_path / "table.csv"), "--out", str(tmp_path / "run")]
    words += ["--objective", "PersistentContrastiveDivergence", "--objective.kernel", "BlockGibbs"]
    words += ["--objective.num_steps", "1", "--objective.num_chains", "256"]
    words += ["--energy", "RestrictedBoltzmannMachine", "--energy.num_hidden", "3"]
    words += ["--num_steps", "500", "--batch_size", "256", "--learning_rate", "0.05"]
    words += ["--warmup_steps", "10", "--ema_decay", "0.95"]
    words += ["--sampler", "GibbsWithGradients", "--num_samples", "100"]
    assert main(words) == 0
    run = basin.load(tmp_path / "run")
    assert run.config["objective"]["kernel"] == {"class": "BlockGibbs"}
    assert run.num_states == 2
    untrained = RestrictedBoltzmannMachine(4, 3)
    found, before = (float(kl_to_truth(energy, lattice)) for energy in (run.energy, untrained))
    assert found < 0.1 < 0.2 * before
    drawn = torch.from_numpy(np.load(tmp_path / "run" / "samples.npz")["samples"])
    assert drawn.shape == (100, 4)
    assert drawn.unique().tolist() == [0.0, 1.0]


def test_the_default_energy_of_a_kernel_of_whole_numbers_is_one_of_categories():
    words = ["--objective.kernel", "Gibbs", "--objective.kernel.num_states=3"]
    settings = {"objective": {"class": "ContrastiveDivergence"}}
    assert _choose(settings, words)[0]["energy"].kind is CategoricalMLP
    assert _choose(settings, [])[0]["energy"].kind is MLP


@pytest.mark.statistical
def test_many_states_with_hidden_units_are_drawn_exactly_or_by_block_gibbs():
    """Units without couplings: each is a coin of probability 1 / (1 + exp(-0.7))."""
    x = (torch.rand(64, 30, generator=torch.Generator().manual_seed(0)) < 0.5).float()
    for num_hidden in (2, 21):
        energy = RestrictedBoltzmannMachine(30, num_hidden)
        with torch.no_grad():
            energy.weight.zero_()
            energy.visible_bias.fill_(0.7)
        run = basin.fit(energy, x, RatioMatching(), num_steps=1, learning_rate=1e-9)
        draws = run.sample(400, seed=0, num_steps=5)
        p = 1 / (1 + math.exp(-0.7))
        error = math.sqrt(p * (1 - p) / draws.numel())
        assert abs(float(draws.mean()) - p) < 3.9 * error
        assert (run.log_z is None) == (num_hidden > 20)


def test_kernels_of_whole_numbers_draw_in_the_shell_too(run, monkeypatch):
    monkeypatch.setattr("basin.cli.job.CHAIN_STEPS", 100)
    for kernel in (Gibbs(), GibbsWithGradients()):
        assert draw_with(kernel, run, 5, seed=0).unique().tolist() == [0.0, 1.0]
    with pytest.raises(ValueError, match="num_states must be that of Ising, 2, got 3"):
        draw_with(Gibbs(3), run, 5, seed=0)


def test_a_sampler_of_real_numbers_is_refused(run):
    with pytest.raises(ValueError, match=r"must move whole numbers.*got MALA, which moves real"):
        draw_with(MALA(0.1), run, 5, seed=0)
