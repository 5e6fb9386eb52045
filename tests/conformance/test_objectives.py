"""One contract for every objective, found by scanning ``basin.objectives``."""

from __future__ import annotations

import dataclasses

import pytest
import torch

import basin
from basin.core.describe import build, describe
from basin.core.types import Loss, Objective

OBJECTIVES = sorted(
    (
        kind
        for name in basin.objectives.__all__
        if isinstance(kind := getattr(basin.objectives, name), type)
        and issubclass(kind, Objective)
        and kind is not Objective
    ),
    key=lambda kind: kind.__name__,
)


def energy_for(objective, dtype=torch.float32, dim=2):
    if objective.needs_noise_level:
        return basin.energies.NoiseConditional(dim, hidden=(8,)).to(dtype)
    return basin.energies.MLP(dim, hidden=(8,)).to(dtype)


def rows(n=32, dtype=torch.float32, seed=0):
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def value(kind, seed, dtype=torch.float32, n=32):
    objective = kind()
    generator = torch.Generator().manual_seed(seed)
    state = objective.init(rows(64, dtype), generator)
    return objective(energy_for(objective, dtype), rows(n, dtype), state, generator)


@pytest.fixture(params=OBJECTIVES, ids=lambda kind: kind.__name__)
def kind(request):
    return request.param


def test_there_are_objectives():
    assert {"DenoisingScoreMatching", "DualScoreMatching"} <= {k.__name__ for k in OBJECTIVES}


def test_builds_from_defaults_and_is_frozen(kind):
    objective = kind()
    assert dataclasses.is_dataclass(objective)
    field = dataclasses.fields(objective)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(objective, field, 1)


def test_returns_a_scalar_loss_with_detached_terms(kind):
    loss = value(kind, seed=0)
    assert isinstance(loss, Loss)
    assert loss.value.shape == ()
    assert loss.value.requires_grad
    assert all(not torch.as_tensor(term).requires_grad for term in loss.terms.values())


def test_same_seed_same_bits_other_seed_other_bits(kind):
    assert torch.equal(value(kind, seed=1).value, value(kind, seed=1).value)
    assert not torch.equal(value(kind, seed=1).value, value(kind, seed=2).value)


def test_leaves_rows_and_the_global_generator_untouched(kind):
    objective, x = kind(), rows()
    before, state_before = x.clone(), torch.get_rng_state()
    generator = torch.Generator().manual_seed(0)
    objective(energy_for(objective), x, objective.init(x, generator), generator)
    assert torch.equal(x, before)
    assert torch.equal(torch.get_rng_state(), state_before)


def test_every_parameter_gets_a_gradient_and_none_is_left_by_the_call(kind):
    objective = kind()
    energy, generator = energy_for(objective), torch.Generator().manual_seed(0)
    loss = objective(energy, rows(), objective.init(rows(), generator), generator)
    assert all(parameter.grad is None for parameter in energy.parameters())
    loss.value.backward()
    # The first bias of an MLP and all weights take part in the score.
    assert all(parameter.grad is not None for parameter in energy.parameters())


def test_a_batch_of_one_and_float64(kind):
    assert torch.isfinite(value(kind, seed=0, n=1).value)
    assert value(kind, seed=0, dtype=torch.float64).value.dtype == torch.float64


def test_works_inside_no_grad_only_where_no_gradient_is_asked(kind):
    with torch.no_grad():
        assert torch.isfinite(value(kind, seed=0).value)


def test_describes_itself_and_is_built_again(kind):
    objective = kind()
    assert build(describe(objective), [basin.objectives]) == objective


def test_says_what_it_is_from(kind):
    assert kind.references
    assert all(reference.year > 1900 for reference in kind.references)
