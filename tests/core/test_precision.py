"""Two floating-point types are one error with both names; what energies reconcile is left alone."""

from __future__ import annotations

import pytest
import torch

import basin
from basin.core.precision import evaluated

DOUBLE = torch.zeros(3, 2, dtype=torch.float64)
SENTENCE = (
    r"x must have the dtype of the weights of MLP, torch.float32, got torch.float64; convert one "
    r"of them: x.to\(torch.float32\) \(x0 of basin.sample\) or energy.to\(torch.float64\)"
)


@pytest.fixture
def network():
    return basin.energies.MLP(2, hidden=(4,))


@pytest.mark.parametrize("kernel", [basin.samplers.Langevin(0.1), basin.samplers.MALA(0.1)])
@pytest.mark.parametrize("check_step_size", [True, False])
def test_sample_names_both_types(network, kernel, check_step_size):
    with pytest.raises(ValueError, match=SENTENCE):
        basin.sample(network, kernel, DOUBLE, num_steps=2, check_step_size=check_step_size)


def test_score_names_both_types_with_and_without_a_closed_form(network):
    with pytest.raises(ValueError, match=SENTENCE):
        basin.score(network, DOUBLE)
    with pytest.raises(ValueError, match=SENTENCE):
        basin.core.energy_and_score(network, DOUBLE)
    convolution = basin.energies.Conv((1, 4, 4), channels=(2,))
    with pytest.raises(ValueError, match=r"weights of Conv, torch.float32, got torch.float64"):
        basin.score(convolution, torch.zeros(2, 1, 4, 4, dtype=torch.float64))
    noisy = basin.energies.NoiseConditional(2, hidden=(4,))
    with pytest.raises(ValueError, match=r"weights of AtNoiseLevel, torch.float32"):
        basin.score(noisy.at(0.5), DOUBLE)
    with pytest.raises(ValueError, match=r"weights of NoiseConditional, torch.float32"):
        basin.core.dual_score(noisy, DOUBLE, torch.ones(3, dtype=torch.float64))


def test_a_function_around_a_network_has_torchs_sentence_inside(network):
    with pytest.raises(ValueError, match=r"weights inside function, got torch.float64 \(mat1 and"):
        basin.score(lambda x: network(x), DOUBLE)


def test_training_names_both_types():
    energy = basin.energies.NoiseConditional(2, hidden=(4,)).double()
    with pytest.raises(ValueError, match=r"torch.float64, got torch.float32"):
        basin.fit(energy, torch.randn(50, 2, generator=torch.Generator().manual_seed(0)))


def test_what_works_still_works(network):
    assert basin.score(network.double(), DOUBLE).dtype == torch.float64
    gaussian = basin.energies.Gaussian(torch.zeros(2), torch.eye(2))
    assert basin.score(gaussian, DOUBLE).dtype == torch.float64


def test_other_failures_keep_their_own_words(network):
    def broken(x):
        raise RuntimeError("the disk of weights is gone")

    with pytest.raises(RuntimeError, match="disk of weights"):
        evaluated(broken, broken, DOUBLE)

    def misnamed(x):
        raise RuntimeError("unknown type of noise")  # speaks of a type, and the two agree

    misnamed.energy = network
    with pytest.raises(RuntimeError, match="unknown type of noise"):
        evaluated(misnamed, misnamed, DOUBLE.float())
