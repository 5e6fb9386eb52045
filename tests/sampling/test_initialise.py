"""Where chains start."""

from __future__ import annotations

import pytest
import torch

from basin.sampling.initialise import device_of, initial_positions
from helpers.energies import DiagonalGaussian, NoisyGaussian


def test_given_positions_are_copied(generator):
    x0 = torch.zeros(3, 2, dtype=torch.float64, requires_grad=True)
    copy = initial_positions(DiagonalGaussian([1.0, 1.0]), x0, generator)
    assert copy.dtype == torch.float64
    assert not copy.requires_grad
    assert copy.data_ptr() != x0.data_ptr()


def test_a_number_draws_from_the_base_law_with_the_generator():
    draws = [
        initial_positions(DiagonalGaussian([1.0]), 5, torch.Generator().manual_seed(seed))
        for seed in (1, 1, 2)
    ]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_a_base_law_that_cannot_be_drawn_from_speaks_for_itself(generator):
    class Improper:
        def sample_base(self, n, generator):
            raise ValueError("exp(-E) has no base law; give x0")

    with pytest.raises(ValueError, match="has no base law; give x0"):
        initial_positions(Improper(), 3, generator)


def test_device_of_looks_through_wrappers():
    class Wrapper:
        energy = NoisyGaussian().at(0.5)

    assert device_of(Wrapper()).type == "cpu"
    assert device_of(torch.nn.Linear(2, 1, device="meta")).type == "meta"
    assert device_of(torch.nn.Sequential(torch.nn.BatchNorm1d(1, affine=False, device="meta"))).type
    assert device_of(lambda x: x).type == "cpu"
