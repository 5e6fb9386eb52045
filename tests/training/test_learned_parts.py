"""Modules in an objective's state train beside the energy, with a sign and a pace of their own."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import pytest
import torch
from torch import nn

import basin
from basin.core.types import Learned, Loss, Objective, Watched


class Number(nn.Module):
    def __init__(self, value=0.0):
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value))

    def forward(self, x):
        return self.value * x.sum(1)


class State(NamedTuple):
    critic: Number


class Plain(Objective):
    """What every objective must answer and these need not."""

    uses_score: ClassVar[bool] = False
    needs_noise_level: ClassVar[bool] = False
    normalises: ClassVar[bool] = False

    def noise_level(self, state: Any) -> None:
        return None

    def explain(self, state: Any) -> str:
        return ""

    def blindness(self, state: Any) -> str:
        return "it sees nothing"


@dataclass(frozen=True)
class Saddle(Plain):
    """(w - 1)^2 + (w - 1) c - (c - 2)^2, least in w and largest in c: w = 0.2, c = 1.6."""

    learned: ClassVar[Mapping[str, Learned]] = {"critic": Learned(ascends=True, rate=2.0)}
    is_a_score_of_fit: ClassVar[bool] = False

    learned_steps: int = 1

    def init(self, x, generator):
        return State(Number())

    def __call__(self, energy, x, state, generator):
        w, c = energy.value, state.critic.value
        value = (w - 1) ** 2 + (w - 1) * c - (c - 2) ** 2
        return Loss(value, {"critic": c.detach()}, state)


def rows(n=64):
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(0))


def trained(objective, energy=None, **settings):
    energy = Number() if energy is None else energy
    defaults = {"num_steps": 600, "batch_size": 4, "learning_rate": 0.05, "ema_decay": None}
    return basin.fit(energy, rows(), objective, **{**defaults, **settings}), energy


def test_a_saddle_is_found():
    run, energy = trained(Saddle())
    assert energy.value.item() == pytest.approx(0.2, abs=0.02)
    assert run.history[-1]["terms"]["critic"] == pytest.approx(1.6, abs=0.02)


def test_mutant_that_descends_with_its_critic_does_not_find_it():
    @dataclass(frozen=True)
    class Mutant(Saddle):
        learned: ClassVar[Mapping[str, Learned]] = {}

    run, _ = trained(Mutant(), num_steps=300)
    assert run.history[-1]["terms"]["critic"] < -2


def test_the_energy_waits_for_its_critic():
    one = trained(Saddle(learned_steps=1), num_steps=1, warmup_steps=0)[1]
    first = trained(Saddle(learned_steps=3), num_steps=2, warmup_steps=0)[1]
    third = trained(Saddle(learned_steps=3), num_steps=3, warmup_steps=0)[1]
    assert one.value.item() != 0
    assert first.value.item() == 0
    assert third.value.item() != 0


def test_resume_brings_back_the_critic_and_its_optimiser(tmp_path):
    whole, _ = trained(Saddle(), num_steps=40, evaluate_every=10)

    class Interrupt(Exception):
        pass

    calls = 0
    original = Saddle.__call__

    def interrupted(self, *arguments):
        nonlocal calls
        calls += 1
        if calls == 26:
            raise Interrupt
        return original(self, *arguments)

    out = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Saddle, "__call__", interrupted)
        with pytest.raises(Interrupt):
            trained(Saddle(), num_steps=40, evaluate_every=10, checkpoint_every=10, out=out)
        patch.setattr(Saddle, "__call__", original)
        module = importlib.import_module("basin.training.fit")
        patch.setattr(module, "build_objective", lambda config: Saddle())
        energy = Number()
        again = basin.training.resume(out, rows(), energy=energy)
    assert energy.value.item() == next(whole.energy.parameters()).item()
    assert again.history[-1]["terms"] == whole.history[-1]["terms"]


@dataclass(frozen=True)
class Wandering(Plain, Watched):
    """The gap grows by one at each step of this size: astray with finite numbers."""

    step_size: float = 1.0

    def init(self, x, generator):
        return None

    def __call__(self, energy, x, state, generator):
        gap = 100 * self.step_size * energy.value.detach().abs()
        return Loss(-energy.value, {"gap": gap}, state)

    def alarm(self, terms):
        return f"the energy gap is {terms['gap']:.3g}" if terms["gap"] > 50 else ""

    def calmer(self):
        return replace(self, step_size=self.step_size / 10)


def test_an_alarm_stops_the_run_and_says_what_to_do():
    with pytest.raises(basin.training.TrainingDiverged, match=r"energy gap is .*step_size=0\.1"):
        trained(Wandering())


@pytest.mark.parametrize("in_folder", [True, False])
def test_recovery_goes_back_and_on_with_the_calmer_objective(tmp_path, in_folder):
    out = tmp_path / "run" if in_folder else None
    run, _ = trained(Wandering(), recover=1, num_steps=60, warmup_steps=0, out=out)
    events = [row["event"] for row in run.history if "event" in row]
    assert len(events) == 1
    assert "step_size=0.1" in events[0]
    assert "recovery 1 of 1" in events[0]


def test_a_blind_objective_and_a_loss_that_measures_nothing_are_said(tmp_path):
    run, _ = trained(Saddle(), num_steps=20)
    assert run.config["blindness"] == "it sees nothing"
    assert run.config["verdict"]["word"] == "cannot tell"
