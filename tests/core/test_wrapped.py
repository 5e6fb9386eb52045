"""What a penalty takes from the objective inside: every fact of it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import ClassVar

import pytest
import torch

import basin
from basin.core.describe import build, describe
from basin.core.types import Learned, Loss, Objective, Watched
from basin.core.wrapped import Penalised
from basin.objectives import (
    DenoisingScoreMatching,
    DualScoreMatching,
    EnergyPenalty,
    GradientPenalty,
    NoiseContrastiveEstimation,
)

FACTS = (
    "uses_score",
    "needs_noise_level",
    "normalises",
    "is_a_score_of_fit",
    "mixes_rows",
    "support",
    "learned",
    "learned_steps",
)


@dataclass(frozen=True)
class Odd(Objective, Watched):
    """An objective whose every fact differs from the usual."""

    uses_score: ClassVar[bool] = True
    needs_noise_level: ClassVar[bool] = False
    normalises: ClassVar[bool] = True
    is_a_score_of_fit: ClassVar[bool] = False
    mixes_rows: ClassVar[bool] = True
    support: ClassVar = "non-negative"
    learned: ClassVar = {"critic": Learned(ascends=True, rate=3.0)}
    meanings: ClassVar = {"odd": "one"}
    learned_steps: int = 7
    size: float = 2.0
    extra: str = "known to this one alone"

    def init(self, x, generator):
        return ("state", len(x))

    def __call__(self, energy, x, state, generator):
        return Loss(energy(x).mean(), {"odd": torch.ones(())}, (*state, "next"))

    def noise_level(self, state):
        return 0.25

    def explain(self, state):
        return f"explained {state}"

    def blindness(self, state):
        return "blind"

    def alarm(self, terms):
        return "alarmed" if terms["odd"] > 0 else ""

    def calmer(self):
        return Odd(size=self.size / 2)


@dataclass(frozen=True)
class Constant(Penalised):
    """Adds 3 a row."""

    own_meanings: ClassVar = {"three": "3"}
    objective: Objective = field(default_factory=Odd)
    weight: float = 0.5

    def penalty(self, energy, x, state, generator):
        return torch.full((len(x),), 3.0)


def test_every_fact_is_that_of_the_objective_inside():
    outside, inside = Constant(Odd()), Odd()
    assert {name: getattr(outside, name) for name in FACTS} == {
        name: getattr(inside, name) for name in FACTS
    }
    assert outside.meanings == {"odd": "one", "three": "3"}
    assert outside.noise_level(None) == 0.25
    assert outside.explain(1) == "explained 1"
    assert outside.blindness(None) == "blind"
    assert outside.extra == "known to this one alone"
    assert outside.init(torch.zeros(4, 2), torch.Generator()) == ("state", 4)


def test_facts_differ_from_object_to_object():
    plain, dual = EnergyPenalty(DenoisingScoreMatching(0.1)), EnergyPenalty(DualScoreMatching())
    assert (plain.needs_noise_level, dual.needs_noise_level) == (False, True)
    assert (plain.normalises, dual.normalises) == (False, True)
    assert EnergyPenalty(NoiseContrastiveEstimation()).learned["log_z"].rate > 1
    assert plain.learned == {}


def test_the_class_has_the_facts_of_its_default():
    assert EnergyPenalty.support == "real"
    assert EnergyPenalty.needs_noise_level is False
    assert "energy_square" in EnergyPenalty.meanings
    assert "log_z" in EnergyPenalty.meanings


def test_the_penalty_is_added_to_the_loss_and_the_state_goes_on():
    loss = Constant(Odd())(lambda x: x[:, 0], torch.ones(4, 2), ("state", 4), torch.Generator())
    assert float(loss.value) == 1 + 0.5 * 3
    assert loss.state == ("state", 4, "next")
    assert {name: float(term) for name, term in loss.terms.items()} == {"odd": 1.0, "three": 3.0}


def test_the_watch_is_that_of_the_objective_inside():
    watched = Constant(Odd())
    assert watched.alarm({"odd": 1.0}) == "alarmed"
    assert watched.calmer() == Constant(Odd(size=1.0))
    quiet = Constant(DenoisingScoreMatching(0.1))
    assert quiet.alarm({}) == ""
    assert quiet.calmer() is quiet


def test_penalties_nest_and_make_a_round_trip():
    objective = GradientPenalty(
        EnergyPenalty(DenoisingScoreMatching(sigma=0.3, antithetic=False), weight=0.2), weight=0.1
    )
    description = json.loads(json.dumps(describe(objective)))
    assert build(description, [basin.objectives]) == objective
    x, generator = torch.ones(4, 2), torch.Generator().manual_seed(0)
    terms = objective(basin.energies.MLP(2), x, objective.init(x, generator), generator).terms
    assert set(terms) == {"space", "trivial", "energy_square", "gradient_square"}
    assert len(objective.references) == 2 + 1 + len(DenoisingScoreMatching.references)


@pytest.mark.parametrize("inside", [NoiseContrastiveEstimation, "CD", None])
def test_the_objective_inside_must_be_one(inside):
    with pytest.raises(TypeError, match="objective must be one, as ContrastiveDivergence"):
        EnergyPenalty(inside)


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan")])
def test_a_bad_weight_is_named(weight):
    with pytest.raises(ValueError, match="weight must be positive"):
        EnergyPenalty(weight=weight)


def test_an_unknown_attribute_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nowhere"):
        _ = EnergyPenalty().nowhere
