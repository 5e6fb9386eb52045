"""The contract of every kernel in basin/samplers, found by scanning the folder.

Builds from defaults; frozen; same seed same bits, other seed other bits; inputs untouched; no
gradient left on parameters; batch of one; float64; thinning is a subsequence; a state is all that
next step needs; any objective with chains takes it.

A kernel around another one builds from that and its defaults. What a kernel declares (it is not
random, its chains see each other) is held to be true of it, and only of it. ``support`` says which
rows it moves: positions and energies depend on it.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import pkgutil

import pytest
import torch

import basin.mcmc
import basin.samplers
from basin.core.describe import build, describe
from basin.core.types import Kernel
from basin.energies import RestrictedBoltzmannMachine
from basin.mcmc.exactness import is_exact, is_reversible
from basin.objectives import ContrastiveDivergence
from basin.samplers import MALA
from basin.sampling.run import sample
from helpers.energies import NoisyGaussian


def kernels():
    """Every concrete kernel that a module of basin/samplers exports."""
    for module_info in pkgutil.iter_modules(basin.samplers.__path__):
        module = importlib.import_module(f"basin.samplers.{module_info.name}")
        for name in module.__all__:
            thing = getattr(module, name)
            if isinstance(thing, type) and issubclass(thing, Kernel):
                yield thing


KERNELS = list(kernels())
pytestmark = pytest.mark.parametrize("kernel_class", KERNELS, ids=lambda kernel: kernel.__name__)


def built(kernel_class, **changes):
    """From its defaults; around MALA where it must be given a kernel."""
    required = [f.name for f in dataclasses.fields(kernel_class) if not has_default(f)]
    assert required in ([], ["kernel"])
    return kernel_class(**{name: MALA() for name in required} | changes)


def has_default(field):
    missing = dataclasses.MISSING
    return field.default is not missing or field.default_factory is not missing


def leaves(state):
    """The tensors of a state, of the states inside it too."""
    for field in state:
        yield from leaves(field) if isinstance(field, tuple) else (field,)


def copied(state):
    parts = (copied(f) if isinstance(f, tuple) else f.clone() for f in state)
    return type(state)(*parts)


def sticky_machine():
    """Units that agree, so that chains with the same random numbers do not meet at once.

    It has hidden units, for the kernels that want some.
    """
    machine = RestrictedBoltzmannMachine(2, num_hidden=3)
    with torch.no_grad():
        machine.weight.fill_(2.5)
        machine.visible_bias.fill_(-3.75)
        machine.hidden_bias.fill_(-2.5)
    return machine


ENERGIES = {
    "real": lambda: NoisyGaussian(dim=2, mean=0.5).at(0.5),
    "discrete": sticky_machine,
}
# Positive where real, for kernels with a wall at zero.
ROWS = {"real": torch.exp, "discrete": lambda z: (z > 0).float()}
ELSEWHERE = {"real": lambda x: x + 1, "discrete": lambda x: 1 - x}


@pytest.fixture
def energy(kernel_class):
    return ENERGIES[kernel_class.support]()


@pytest.fixture
def x0(kernel_class):
    z = torch.randn(6, 2, generator=torch.Generator().manual_seed(1))
    return ROWS[kernel_class.support](z)


def draws(kernel_class, energy, x0, **options):
    return sample(energy, built(kernel_class), x0, **{"num_steps": 12, "seed": 7} | options)


def test_is_exported_by_the_folder(kernel_class):
    assert getattr(basin.samplers, kernel_class.__name__) is kernel_class


def test_is_a_frozen_dataclass_of_hyper_parameters(kernel_class):
    kernel = built(kernel_class)
    assert dataclasses.is_dataclass(kernel)
    assert kernel == built(kernel_class)
    assert hash(kernel) == hash(built(kernel_class))
    fields = dataclasses.fields(kernel)
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(kernel, fields[0].name if fields else "anything", 1.0)
    assert dataclasses.replace(kernel) == kernel


def test_the_docstring_gives_source_and_cost(kernel_class):
    text = importlib.import_module(kernel_class.__module__).__doc__
    assert "Source:" in text
    assert "Cost:" in text


def test_same_seed_same_bits_other_seed_other_bits(kernel_class, energy, x0):
    first = draws(kernel_class, energy, x0)
    again = draws(kernel_class, energy, x0)
    assert torch.equal(first.positions, again.positions)
    for name, value in again.info.items():
        assert torch.equal(first.info[name], value)
    other = draws(kernel_class, energy, x0, seed=8).positions
    assert torch.equal(first.positions, other) == (not kernel_class.is_random)


def test_inputs_are_untouched(kernel_class, energy, x0):
    x0.requires_grad_(True)
    before = x0.detach().clone()
    parameters = [p.detach().clone() for p in energy.parameters()]
    flags = [p.requires_grad for p in energy.parameters()]
    draws(kernel_class, energy, x0, num_warmup=5)
    assert torch.equal(x0, before)
    assert x0.grad is None
    assert x0.requires_grad
    for parameter, old in zip(energy.parameters(), parameters, strict=True):
        assert parameter.grad is None
        assert torch.equal(parameter, old)
    assert [p.requires_grad for p in energy.parameters()] == flags


def test_the_step_leaves_its_state_alone(kernel_class, energy, x0, generator):
    kernel = built(kernel_class)
    state = kernel.init(energy, x0, generator)
    before = [field.clone() for field in leaves(state)]
    moved, _ = kernel.step(energy, state, generator)
    for field, old in zip(leaves(state), before, strict=True):
        assert torch.equal(field, old)
    assert not any(field.requires_grad for field in leaves(moved))


def test_the_state_is_all_that_the_next_step_needs(kernel_class, energy, x0):
    """Stop, keep the state and the generator's state, and go on: the same bits."""
    kernel = built(kernel_class)
    generator = torch.Generator().manual_seed(2)
    state = kernel.init(energy, x0, generator)
    for _ in range(3):
        state, _ = kernel.step(energy, state, generator)
    kept, kept_generator = copied(state), generator.get_state()
    for _ in range(3):
        state, _ = kernel.step(energy, state, generator)
    generator.set_state(kept_generator)
    for _ in range(3):
        kept, _ = built(kernel_class).step(energy, kept, generator)
    assert torch.equal(state.position, kept.position)


def test_info_is_one_row_a_chain(kernel_class, energy, x0, generator):
    """One number a chain, but where a kernel has more to say of each (pairs of replicas)."""
    kernel = built(kernel_class)
    state, info = kernel.step(energy, kernel.init(energy, x0, generator), generator)
    assert state.position.shape == x0.shape
    assert "is_divergent" in info._fields
    assert all(len(value) == 6 for value in info)
    numbers = ("is_divergent", "is_accepted", "acceptance_probability")
    assert all(getattr(info, name).shape == (6,) for name in numbers if name in info._fields)


def test_a_batch_of_one(kernel_class, energy, x0):
    chains = draws(kernel_class, energy, x0[:1])
    assert chains.positions.shape == (1, 12, 2)
    assert chains.positions.isfinite().all()


def test_float64_is_kept(kernel_class, energy, x0):
    # After three steps of adaptation the step size may be anything.
    options = {"num_warmup": 3, "on_divergence": "count"}
    chains = draws(kernel_class, energy.double(), x0.double(), **options)
    assert chains.positions.dtype == torch.float64


def test_thinning_is_a_subsequence(kernel_class, energy, x0):
    every = draws(kernel_class, energy, x0, num_warmup=4)
    for thin in (2, 3, 5, 12):
        thinned = draws(kernel_class, energy, x0, num_warmup=4, thin=thin)
        assert torch.equal(thinned.positions, every.positions[:, thin - 1 :: thin])
        for name, value in thinned.info.items():
            assert torch.equal(value, every.info[name][:, thin - 1 :: thin])


def test_chains_do_not_see_each_other(kernel_class, energy, x0):
    """Moving one chain's start leaves the others' draws as they are, but where it says so."""
    other = x0.clone()
    other[0] = ELSEWHERE[kernel_class.support](other[0])
    first, second = (draws(kernel_class, energy, start).positions for start in (x0, other))
    assert torch.equal(first[1:], second[1:]) == (not kernel_class.mixes_chains)
    assert not torch.equal(first[0], second[0])


def test_whole_numbers_stay_whole_and_other_rows_are_refused(kernel_class, energy, x0):
    if kernel_class.support == "real":
        return
    kernel = built(kernel_class)
    assert kernel.num_states == 2
    assert set(draws(kernel_class, energy, x0).positions.unique().tolist()) == {0.0, 1.0}
    for value in (0.5, 2.0, -1.0):
        with pytest.raises(ValueError, match="x must hold whole numbers from 0 to 1"):
            draws(kernel_class, energy, torch.full((3, 2), value))


def test_step_size_must_be_positive(kernel_class):
    if "step_size" not in {field.name for field in dataclasses.fields(kernel_class)}:
        return
    for step_size in (0.0, -0.1):
        with pytest.raises(ValueError, match=f"step_size must be positive, got {step_size}"):
            built(kernel_class, step_size=step_size)


def test_it_serves_an_objective_with_chains(kernel_class, energy, x0, generator):
    """A gradient for the parameters, finite; a calmer one has half the step, wherever it is."""
    objective = ContrastiveDivergence(built(kernel_class), num_steps=3, sigma=0.0)
    state = objective.init(x0, generator)
    loss = objective(energy, x0, state, generator)
    for gradient in torch.autograd.grad(loss.value, tuple(energy.parameters())):
        assert gradient.isfinite().all()
    calmer, kernel = objective.calmer().kernel, built(kernel_class)
    while hasattr(kernel, "kernel"):
        calmer, kernel = calmer.kernel, kernel.kernel
    if hasattr(kernel, "step_size"):
        assert calmer.step_size == kernel.step_size / 2


def test_it_is_described_and_built_again_through_a_file(kernel_class):
    kernel = built(kernel_class)
    text = json.dumps(describe(kernel))
    assert build(json.loads(text), [basin.samplers, basin.mcmc]) == kernel


def test_what_has_an_accept_step_is_exact_and_what_warns_of_its_step_is_not(
    kernel_class, energy, x0, generator
):
    kernel = built(kernel_class)
    _, info = kernel.step(energy, kernel.init(energy, x0, generator), generator)
    if "acceptance_probability" in info._fields:
        assert is_exact(kernel)
    if hasattr(kernel, "unadjusted_step_size"):
        assert not is_exact(kernel)
    assert is_exact(kernel) or not is_reversible(kernel)
