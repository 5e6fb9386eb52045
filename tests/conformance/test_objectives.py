"""One contract for every objective, found by scanning ``basin.objectives``.

Rows and energies depend on what an objective declares: ``support`` says which rows it is for,
``needs_noise_level`` which energy.
"""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import basin
from basin.core.conditions import Given
from basin.core.describe import build, describe
from basin.core.graph import NotCompilable
from basin.core.types import Loss, Objective
from basin.training.adam import Adam
from basin.training.average import WeightAverage
from basin.training.loop import learned_parts
from basin.training.step import Asked, _GraphSteps, by_autograd

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

# What an objective may hold: a sampler, a schedule, a noise energy or density.
FAMILIES = [
    basin.objectives,
    basin.samplers,
    basin.mcmc,
    basin.schedules,
    basin.energies,
    basin.datasets,
]

SUPPORTS = {
    "real": lambda objective, z: z,
    "non-negative": lambda objective, z: z.abs(),
    "discrete": lambda objective, z: (z * 1000).floor() % objective.num_states,
}


def energy_for(objective, dtype=torch.float32, dim=2):
    if objective.needs_noise_level:
        return basin.energies.NoiseConditional(dim, hidden=(8,)).to(dtype)
    if objective.support == "discrete":
        return basin.energies.CategoricalMLP(dim, objective.num_states, hidden=(8,)).to(dtype)
    return basin.energies.MLP(dim, hidden=(8,)).to(dtype)


def rows_for(objective, n=32, dtype=torch.float32, seed=0):
    z = torch.randn(n, 2, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    return SUPPORTS[objective.support](objective, z)


def run(kind, seed, dtype=torch.float32, n=32):
    """The loss of one batch after ``init``, and whether each of the two drew random numbers."""
    objective = kind()
    generator = torch.Generator().manual_seed(seed)
    places = [generator.get_state()]
    state = objective.init(rows_for(objective, 64, dtype), generator)
    places.append(generator.get_state())
    x = rows_for(objective, n, dtype)
    loss = objective(energy_for(objective, dtype), x, state, generator)
    places.append(generator.get_state())
    return loss, [not torch.equal(*places[i : i + 2]) for i in (0, 1)]


def value(kind, seed, dtype=torch.float32, n=32):
    return run(kind, seed, dtype, n)[0]


@pytest.fixture(params=OBJECTIVES, ids=lambda kind: kind.__name__)
def kind(request):
    return request.param


def test_there_are_objectives():
    assert {"DenoisingScoreMatching", "DualScoreMatching"} <= {k.__name__ for k in OBJECTIVES}


def test_builds_from_defaults_and_is_frozen(kind):
    objective = kind()
    assert dataclasses.is_dataclass(objective)
    fields = dataclasses.fields(objective)
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(objective, fields[0].name if fields else "anything", 1)


def test_says_which_rows_it_is_for(kind):
    assert kind().support in SUPPORTS


def test_returns_a_scalar_loss_with_detached_terms(kind):
    loss = value(kind, seed=0)
    assert isinstance(loss, Loss)
    assert loss.value.shape == ()
    assert loss.value.requires_grad
    assert all(not torch.as_tensor(term).requires_grad for term in loss.terms.values())


def test_says_what_each_term_means(kind):
    assert set(value(kind, seed=0).terms) <= set(kind.meanings)


def test_same_seed_same_bits_other_seed_other_bits(kind):
    """What draws nothing is the same for every seed; ``init`` may draw what one batch hides."""
    first, (init_draws, call_draws) = run(kind, seed=1)
    assert torch.equal(first.value, value(kind, seed=1).value)
    is_same = torch.equal(first.value, value(kind, seed=2).value)
    if call_draws:
        assert not is_same
    elif not init_draws:
        assert is_same


def test_leaves_rows_and_the_global_generator_untouched(kind):
    objective = kind()
    x = rows_for(objective)
    before, state_before = x.clone(), torch.get_rng_state()
    generator = torch.Generator().manual_seed(0)
    objective(energy_for(objective), x, objective.init(x, generator), generator)
    assert torch.equal(x, before)
    assert torch.equal(torch.get_rng_state(), state_before)


def test_every_parameter_gets_a_gradient_and_none_is_left_by_the_call(kind):
    objective = kind()
    energy, generator = energy_for(objective), torch.Generator().manual_seed(0)
    x = rows_for(objective)
    loss = objective(energy, x, objective.init(x, generator), generator)
    assert all(parameter.grad is None for parameter in energy.parameters())
    loss.value.backward()
    # The first bias of an MLP and all weights take part in the score.
    assert all(parameter.grad is not None for parameter in energy.parameters())


def test_a_batch_of_one_or_one_clear_refusal(kind):
    try:
        loss = value(kind, seed=0, n=1)
    except ValueError as refusal:
        if "two rows" not in str(refusal):
            raise
        loss = value(kind, seed=0, n=2)
    assert torch.isfinite(loss.value)


def test_float64(kind):
    assert value(kind, seed=0, dtype=torch.float64).value.dtype == torch.float64


def test_works_inside_no_grad_only_where_no_gradient_is_asked(kind):
    with torch.no_grad():
        assert torch.isfinite(value(kind, seed=0).value)


class Conditional(nn.Module):
    """An energy of one more argument, which shifts it: E(x, c) = E(x) + c."""

    def __init__(self, energy):
        super().__init__()
        self.energy = energy

    def forward(self, x, *sigma_and_condition):
        *sigma, condition = sigma_and_condition
        assert len(condition) == len(x)
        return self.energy(x, *sigma) + condition


def test_takes_an_energy_under_conditions(kind):
    """Whatever rows it evaluates, each has its condition; one that all share changes nothing.

    An objective that keeps rows from step to step, without their conditions, may refuse; to one
    that mixes the rows of a batch, fit gives no conditions.
    """
    objective = kind()
    if objective.mixes_rows:
        return
    energy, x = energy_for(objective, torch.float64), rows_for(objective, dtype=torch.float64)
    condition = torch.zeros(len(x), dtype=x.dtype)
    losses = []
    for bound in (Given(Conditional(energy), condition), energy):
        generator = torch.Generator().manual_seed(0)
        state = objective.init(rows_for(objective, 64, torch.float64), generator)
        try:
            losses.append(objective(bound, x, state, generator).value)
        except ValueError as refusal:
            if "without conditions" not in str(refusal):
                raise
            return
    torch.testing.assert_close(*losses)


def test_describes_itself_and_is_built_again(kind):
    objective = kind()
    assert build(describe(objective), FAMILIES) == objective


def test_says_what_it_is_from(kind):
    assert kind.references
    assert all(reference.year > 1900 for reference in kind.references)


# Their sampler has an accept step, whose rate it hands on as a number.
TAKES_NUMBERS_OUT = {"RecoveryLikelihood"}


def test_a_step_can_be_one_graph(kind):
    """The first loss to the same bits as by autograd, see ``basin.core.graph``, and all that two
    steps leave to rounding; or one clear refusal from those that take numbers out of tensors."""
    first_losses, left = [], []
    for is_graph in (False, True):
        energy, objective = energy_for(kind()), kind()
        x, generator = rows_for(objective, 16), torch.Generator().manual_seed(0)
        first = objective.init(x, generator)
        state = SimpleNamespace(
            energy=energy,
            objective_state=first,
            generators={"noise": generator},
            learned=learned_parts(objective, first, (0.9, 0.99)),
            optimizer=Adam(energy.parameters(), (0.9, 0.99)),
            average=WeightAverage(energy, 0.5),
            step=0,
        )
        asked, propose = Asked(objective, [x, x], [1e-2, 1e-2], None), by_autograd(itself)
        if is_graph:
            try:
                propose = _GraphSteps(itself, state, asked, compiled=False)
            except NotCompilable:
                assert kind.__name__ in TAKES_NUMBERS_OUT
                return
        found = []
        for proposal in propose(state, asked):
            found += proposal.found
            proposal.take()
            state.objective_state = proposal.objective_state
            state.step += len(proposal.found)
        first_losses.append(found[0].loss)
        optimizers = [state.optimizer, *(part.optimizer for part in state.learned.values())]
        numbers = [[one.loss, *one.terms.values(), *one.norms] for one in found]
        moved = [tensor for adam in optimizers for tensor in (*adam.parameters, *adam.first)]
        moved += [tensor for adam in optimizers for tensor in (*adam.second, adam.count)]
        moved += [f for f in (state.objective_state or ()) if isinstance(f, torch.Tensor)]
        left.append([torch.tensor(numbers), *moved, *state.average.module.parameters()])
    assert kind.__name__ not in TAKES_NUMBERS_OUT
    assert first_losses[0] == first_losses[1]
    torch.testing.assert_close(*left)


def itself(energy, rows):
    return energy, rows
