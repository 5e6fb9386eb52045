"""Persistent contrastive divergence: its buffer, the law of its chains, its gradient.

E(x) = L x^2 / 2 held still, Langevin steps of epsilon: the chains come to rest at variance
    v = 1 / (L (1 - epsilon L / 2)),    dJ/dL = (V - v) / 2 for data of variance V
A visit of k steps moves the variance by  v <- a v + b,  a = (1 - epsilon L)^(2k),
b = (1 - a) v; with new starts of variance w at rate r it rests at (a r w + b) / (1 - a (1 - r)).
"""

from __future__ import annotations

import pytest
import torch

import basin
from basin.core.conditions import Given
from basin.core.describe import build, describe
from basin.objectives.persistent_contrastive_divergence import PersistentContrastiveDivergence
from basin.samplers import MALA, Langevin

PRECISION, STEP, NUM_STEPS, WIDTH, RATE = 2.0, 0.1, 2, 2.0, 0.2
AT_REST = 1 / (PRECISION * (1 - STEP * PRECISION / 2))


def parabola(x):
    return 0.5 * PRECISION * x.square().sum(1)


def rows(n, dim=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, dim, generator=generator, dtype=torch.float64)


def pcd(**changes):
    settings = dict(kernel=Langevin(STEP), num_steps=NUM_STEPS, sigma=0.0, num_chains=4000)
    settings |= dict(buffer_size=8000, reinitialise=0.0, width=WIDTH, restart_at_data=0.0)
    return PersistentContrastiveDivergence(**(settings | changes))


def run(objective, num_calls, seed=100_000):
    generator = torch.Generator().manual_seed(seed)
    state = objective.init(rows(2000), generator)
    for _ in range(num_calls):
        loss = objective(parabola, rows(objective.num_chains), state, generator)
        state = loss.state
    return state, loss


def deviation(buffer, variance):
    """Of the mean square of the chains, in standard errors."""
    square = buffer.square().flatten()
    return float((square.mean() - variance).abs() / (square.std() / len(square) ** 0.5))


@pytest.mark.statistical
def test_the_chains_come_to_rest_at_the_kernels_law_and_not_at_another():
    state, loss = run(pcd(), 60)
    assert deviation(state.buffer, AT_REST) < 3.9
    assert deviation(state.buffer, 1 / PRECISION) > 3.9  # the model's own: ULA has a bias
    assert float(loss.terms["E_model"]) == pytest.approx(PRECISION * AT_REST / 2, abs=0.05)


@pytest.mark.statistical
def test_new_starts_shift_the_law_as_predicted():
    state, _ = run(pcd(reinitialise=RATE, buffer_size=4000), 60)
    a = (1 - STEP * PRECISION) ** (2 * NUM_STEPS)
    start = WIDTH**2 * float(rows(2000).var(correction=0))
    mixed = (a * RATE * start + (1 - a) * AT_REST) / (1 - a * (1 - RATE))
    assert deviation(state.buffer, mixed) < 3.9
    assert deviation(state.buffer, AT_REST) > 3.9  # the mutant: no new starts


@pytest.mark.statistical
def test_every_chain_is_new_when_the_probability_is_one():
    """One step of length zero or nearly: the chains are draws of the wide Gaussian."""
    objective = pcd(kernel=Langevin(1e-12), num_steps=1, reinitialise=1.0)
    state, _ = run(objective, 8)
    start = WIDTH**2 * float(rows(2000).var(correction=0))
    assert deviation(state.buffer - rows(2000).mean(), start) < 3.9


@pytest.mark.statistical
def test_chains_may_start_anew_at_the_rows_of_the_batch():
    """One step of no length: after a few calls most chains are rows, here of mean 7."""
    objective = pcd(kernel=Langevin(1e-12), num_steps=1, restart_at_data=0.5, buffer_size=4000)
    generator = torch.Generator().manual_seed(100_000)
    state = objective.init(rows(2000), generator)
    start = 2 * torch.ones(4000, 1).double()
    state = state._replace(buffer=start)
    after = objective(parabola, 7 * start / 2, state, generator).state.buffer
    share = float((after > 6).double().mean())
    assert abs(share - 0.5) < 3.9 * (0.25 / 4000) ** 0.5
    assert ((after > 6) | (after < 3)).all()


def test_the_old_state_stays_and_only_visited_chains_move():
    objective = pcd(num_chains=10, buffer_size=50)
    generator = torch.Generator().manual_seed(0)
    state = objective.init(rows(100), generator)
    before = state.buffer.clone()
    loss = objective(parabola, rows(30), state, generator)
    assert torch.equal(state.buffer, before)
    assert int((loss.state.buffer != before).any(1).sum()) == 10
    assert not loss.state.buffer.requires_grad


def test_no_more_chains_than_rows_or_places():
    generator = torch.Generator().manual_seed(0)
    for n, places, moved in ((1, 50, 1), (30, 4, 4)):
        objective = pcd(num_chains=10, buffer_size=places)
        state = objective.init(rows(100), generator)
        after = objective(parabola, rows(n), state, generator).state.buffer
        assert int((after != state.buffer).any(1).sum()) == moved


def test_the_buffer_is_in_the_checkpoint_and_a_resumed_run_has_the_same_bits(tmp_path, monkeypatch):
    from basin.training.checkpoint import latest_checkpoint

    objective = PersistentContrastiveDivergence(num_steps=2, num_chains=8, buffer_size=16)
    settings = {"num_steps": 6, "batch_size": 8, "checkpoint_every": 2}
    density = basin.datasets.StandardGaussian(2)
    energy = basin.energies.MLP(2, hidden=(4,))
    basin.fit(energy, density, objective, out=tmp_path / "whole", **settings)
    _, whole, _ = latest_checkpoint(tmp_path / "whole" / "checkpoint")
    assert whole["objective.buffer"].shape == (16, 2)

    original, calls = PersistentContrastiveDivergence.__call__, []

    def killed(self, *arguments):
        calls.append(1)
        if len(calls) == 4:
            raise RuntimeError("the machine is gone")
        return original(self, *arguments)

    monkeypatch.setattr(PersistentContrastiveDivergence, "__call__", killed)
    again = basin.energies.MLP(2, hidden=(4,))
    with pytest.raises(RuntimeError, match="the machine is gone"):
        basin.fit(again, density, objective, out=tmp_path / "killed", **settings)
    monkeypatch.setattr(PersistentContrastiveDivergence, "__call__", original)
    basin.training.resume(tmp_path / "killed")
    _, resumed, _ = latest_checkpoint(tmp_path / "killed" / "checkpoint")
    assert torch.equal(resumed["objective.buffer"], whole["objective.buffer"])
    names = [name for name in whole if name.startswith(("energy.", "average.", "generator."))]
    assert all(torch.equal(resumed[name], whole[name]) for name in names)


def test_conditions_are_refused():
    objective, generator = pcd(), torch.Generator().manual_seed(0)
    state = objective.init(rows(10), generator)
    energy = Given(lambda x, c: parabola(x), torch.zeros(10))
    with pytest.raises(ValueError, match=r"without conditions.*ContrastiveDivergence"):
        objective(energy, rows(10), state, generator)


def test_meanings_blindness_and_description():
    objective = PersistentContrastiveDivergence(MALA(0.02))
    generator = torch.Generator().manual_seed(0)
    state = objective.init(rows(100), generator)
    loss = objective(parabola, rows(20), state, generator)
    assert {*loss.terms, "changed"} == set(objective.meanings)
    assert "far mode" in objective.blindness(state)
    assert objective.alarm({name: float(term) for name, term in loss.terms.items()}) == ""
    assert objective.calmer() == PersistentContrastiveDivergence(
        MALA(0.01), 2 * objective.num_steps
    )
    assert build(describe(objective), [basin.objectives, basin.samplers, basin.mcmc]) == objective


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"buffer_size": 0}, "buffer_size must be"),
        ({"reinitialise": 1.5}, "reinitialise must lie between 0 and 1"),
        ({"width": 0.0}, "width must be"),
        ({"restart_at_data": -0.1}, "restart_at_data must lie between 0 and 1"),
        ({"reinitialise": 0.6, "restart_at_data": 0.6}, "must be at most 1, got 0.6"),
        ({"num_chains": 0}, "num_chains must be"),
    ],
)
def test_bad_settings_are_named(settings, words):
    with pytest.raises(ValueError, match=words):
        PersistentContrastiveDivergence(**settings)
