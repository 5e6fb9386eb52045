"""The contract of every kernel in basin/samplers, found by scanning the folder.

Builds from defaults; frozen; same seed same bits, other seed other bits; inputs untouched; no
gradient left on parameters; batch of one; float64; thinning is a subsequence; a state is all that
the next step needs.

Positions and energies depend on what a kernel declares: ``support`` says which rows it moves.
"""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil

import pytest
import torch

import basin.samplers
from basin.core.types import Kernel
from basin.energies import RestrictedBoltzmannMachine
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
ROWS = {"real": lambda z: z, "discrete": lambda z: (z > 0).float()}
ELSEWHERE = {"real": lambda x: x + 1, "discrete": lambda x: 1 - x}


@pytest.fixture
def energy(kernel_class):
    return ENERGIES[kernel_class.support]()


@pytest.fixture
def x0(kernel_class):
    z = torch.randn(6, 2, generator=torch.Generator().manual_seed(1))
    return ROWS[kernel_class.support](z)


def draws(kernel_class, energy, x0, **options):
    return sample(energy, kernel_class(), x0, **{"num_steps": 12, "seed": 7} | options)


def test_is_exported_by_the_folder(kernel_class):
    assert getattr(basin.samplers, kernel_class.__name__) is kernel_class


def test_is_a_frozen_dataclass_of_hyper_parameters(kernel_class):
    kernel = kernel_class()
    assert dataclasses.is_dataclass(kernel)
    assert kernel == kernel_class()
    assert hash(kernel) == hash(kernel_class())
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
    assert torch.equal(first.positions, draws(kernel_class, energy, x0).positions)
    for name, value in draws(kernel_class, energy, x0).info.items():
        assert torch.equal(first.info[name], value)
    assert not torch.equal(first.positions, draws(kernel_class, energy, x0, seed=8).positions)


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
    kernel = kernel_class()
    state = kernel.init(energy, x0, generator)
    before = [field.clone() for field in state]
    moved, _ = kernel.step(energy, state, generator)
    for field, old in zip(state, before, strict=True):
        assert torch.equal(field, old)
    assert not any(field.requires_grad for field in moved)


def test_the_state_is_all_that_the_next_step_needs(kernel_class, energy, x0):
    """Stop, keep the state and the generator's state, and go on: the same bits."""
    kernel = kernel_class()
    generator = torch.Generator().manual_seed(2)
    state = kernel.init(energy, x0, generator)
    for _ in range(3):
        state, _ = kernel.step(energy, state, generator)
    kept, kept_generator = type(state)(*(f.clone() for f in state)), generator.get_state()
    for _ in range(3):
        state, _ = kernel.step(energy, state, generator)
    generator.set_state(kept_generator)
    for _ in range(3):
        kept, _ = kernel_class().step(energy, kept, generator)
    assert torch.equal(state.position, kept.position)


def test_info_is_one_number_a_chain(kernel_class, energy, x0, generator):
    kernel = kernel_class()
    state, info = kernel.step(energy, kernel.init(energy, x0, generator), generator)
    assert state.position.shape == x0.shape
    assert "is_divergent" in info._fields
    assert all(value.shape == (6,) for value in info)


def test_a_batch_of_one(kernel_class, energy, x0):
    chains = draws(kernel_class, energy, x0[:1])
    assert chains.positions.shape == (1, 12, 2)
    assert chains.positions.isfinite().all()


def test_float64_is_kept(kernel_class, energy, x0):
    chains = draws(kernel_class, energy.double(), x0.double(), num_warmup=3)
    assert chains.positions.dtype == torch.float64


def test_thinning_is_a_subsequence(kernel_class, energy, x0):
    every = draws(kernel_class, energy, x0, num_warmup=4)
    for thin in (2, 3, 5, 12):
        thinned = draws(kernel_class, energy, x0, num_warmup=4, thin=thin)
        assert torch.equal(thinned.positions, every.positions[:, thin - 1 :: thin])
        for name, value in thinned.info.items():
            assert torch.equal(value, every.info[name][:, thin - 1 :: thin])


def test_chains_do_not_see_each_other(kernel_class, energy, x0):
    """Moving one chain's start leaves the others' draws as they are."""
    other = x0.clone()
    other[0] = ELSEWHERE[kernel_class.support](other[0])
    first, second = (draws(kernel_class, energy, start).positions for start in (x0, other))
    assert torch.equal(first[1:], second[1:])
    assert not torch.equal(first[0], second[0])


def test_whole_numbers_stay_whole_and_other_rows_are_refused(kernel_class, energy, x0):
    if kernel_class.support == "real":
        return
    kernel = kernel_class()
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
            kernel_class(step_size=step_size)
