"""The check by kernel Stein: its value in closed form, false alarms and planted faults."""

from __future__ import annotations

import math

import pytest
import torch

import basin
from basin.core.kernels import gaussian_kernel, stein_kernel
from basin.evaluation.kernel_stein_discrepancy import kernel_stein_discrepancy


def standard(x):
    """Energy of N(0, I)."""
    return 0.5 * x.square().sum(1)


def normal(n, dim, generator):
    return torch.randn(n, dim, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("block", [7, 1024])
def test_the_definition(block, generator):
    x = normal(40, 3, generator) + 0.3
    found = kernel_stein_discrepancy(
        standard, x, kernel="gaussian", bandwidth=1.3, num_bootstraps=10, block=block
    )
    matrix = stein_kernel(x, -x, x, -x, gaussian_kernel, (1.3,))
    unbiased = (matrix.sum() - matrix.trace()) / (40 * 39)
    assert found.value == pytest.approx(float(unbiased), abs=1e-12)
    assert found.details["v_statistic"] == pytest.approx(float(matrix.mean()), abs=1e-12)
    flat = kernel_stein_discrepancy(
        lambda x: 0 * x.sum(1), x, kernel="gaussian", bandwidth=1.3, num_bootstraps=10
    )
    assert found.details["of_zero_score"] == pytest.approx(flat.value, abs=1e-12)


def test_a_shifted_gaussian_in_closed_form(generator):
    """Rows of N(m, I): the score is wrong by m everywhere, so KSD^2 = |m|^2 E k(x, x')."""
    shift, dim, h = 0.5, 2, 1.5
    x = normal(1500, dim, generator) + shift / math.sqrt(dim)
    found = kernel_stein_discrepancy(standard, x, kernel="gaussian", bandwidth=h, num_bootstraps=50)
    truth = shift**2 * (h**2 / (h**2 + 2)) ** (dim / 2)
    assert abs(found.value - truth) < 3.9 * (found.standard_error or 0)
    assert (found.standard_error or 1) < 0.2 * truth
    assert found.p_value == pytest.approx(1 / 51)


def false_alarms(repetitions, generator, **kwargs):
    alarms = 0
    for _ in range(repetitions):
        x = normal(60, 2, generator)
        found = kernel_stein_discrepancy(standard, x, generator, num_bootstraps=99, **kwargs)
        alarms += (found.p_value or 0) <= 0.05
    return alarms


def test_false_alarms_quickly(generator):
    assert false_alarms(100, generator) <= 5 + 3.9 * math.sqrt(100 * 0.05 * 0.95)


@pytest.mark.slow
@pytest.mark.parametrize("kernel", ["imq", "gaussian"])
def test_false_alarms_at_five_per_cent(kernel, generator):
    repetitions = 1000
    spread = math.sqrt(repetitions * 0.05 * 0.95)
    alarms = false_alarms(repetitions, generator, kernel=kernel)
    assert abs(alarms - 0.05 * repetitions) < 3.9 * spread


def test_the_v_statistic_is_a_mutant_that_fails(generator):
    """Under the null the unbiased statistic is zero on average; with the diagonal it is not."""
    found = [
        kernel_stein_discrepancy(standard, normal(40, 2, generator), num_bootstraps=2)
        for _ in range(60)
    ]
    for values, is_unbiased in (
        ([estimate.value for estimate in found], True),
        ([estimate.details["v_statistic"] for estimate in found], False),
    ):
        sample = torch.tensor(values)
        error = float(sample.std()) / math.sqrt(len(values))
        assert (abs(float(sample.mean())) < 3.9 * error) == is_unbiased


def test_the_standard_error_under_the_null_is_the_spread_of_the_values(generator):
    found = [
        kernel_stein_discrepancy(standard, normal(80, 2, generator), num_bootstraps=100)
        for _ in range(100)
    ]
    spread = float(torch.tensor([estimate.value for estimate in found]).std())
    stated = sum(estimate.standard_error or 0 for estimate in found) / len(found)
    assert 0.7 * spread < stated < 2 * spread  # the larger of two errors, so rather too large


@pytest.mark.parametrize("fault", ["shift", "scale", "correlation", "skew"])
def test_planted_faults_are_found(fault, generator):
    x = normal(500, 2, generator)
    if fault == "shift":
        x = x + 0.25
    elif fault == "scale":
        x = 1.3 * x
    elif fault == "correlation":
        x = x @ torch.tensor([[1.0, 0.6], [0.0, 0.8]]).double()
    else:
        x = (0.5 * x).exp()
        x = (x - x.mean(0)) / x.std(0)
    found = kernel_stein_discrepancy(standard, x, generator, num_bootstraps=200)
    assert found.p_value == pytest.approx(1 / 201)
    assert found.value > found.details["null_95"]


def test_far_modes_of_wrong_weights_are_not_seen(generator):
    """What the docstring warns of: 0.5/0.5 rows pass for a model of 0.9/0.1."""
    means = torch.tensor([[-8.0, 0.0], [8.0, 0.0]]).double()
    covariances = torch.eye(2).double().expand(2, 2, 2)
    model = basin.energies.GaussianMixture(means, covariances, torch.tensor([0.9, 0.1]).double())
    x = normal(400, 2, generator) + means[torch.arange(400) % 2]
    assert (kernel_stein_discrepancy(model, x, generator).p_value or 0) > 0.01


def chain(n, memory, generator):
    """A Gaussian autoregression with law N(0, 1)."""
    noise, states = normal(n, 1, generator), []
    for z in noise:
        states.append(memory * states[-1] + math.sqrt(1 - memory**2) * z if states else z)
    return torch.stack(states)


def test_successive_states_of_a_chain_need_fewer_flips(generator):
    """Taken for independent they raise false alarms; with rare flips far fewer."""
    alarms = {0.5: 0, 0.02: 0}
    for _ in range(40):
        x = chain(200, 0.9, generator)
        for flip_probability in alarms:
            found = kernel_stein_discrepancy(
                standard, x, generator, num_bootstraps=99, flip_probability=flip_probability
            )
            alarms[flip_probability] += (found.p_value or 0) <= 0.05
    assert alarms[0.5] > 20
    assert alarms[0.02] < 10


def test_same_seed_same_value_inputs_untouched_and_no_gradient_left():
    energy = basin.energies.MLP(4, hidden=(8,))
    x = torch.randn(50, 1, 4, generator=torch.Generator().manual_seed(0))
    before = x.clone()
    with torch.inference_mode():
        first = kernel_stein_discrepancy(energy, x.flatten(1), num_bootstraps=20)
    assert first == kernel_stein_discrepancy(energy, x.flatten(1), num_bootstraps=20)
    assert torch.equal(x, before)
    assert all(parameter.grad is None for parameter in energy.parameters())
    assert first.to_json()["details"]["kernel"] == "imq"


def test_bad_arguments(generator):
    x = normal(10, 2, generator)
    with pytest.raises(ValueError, match="kernel must be one of"):
        kernel_stein_discrepancy(standard, x, kernel="rbf")
    with pytest.raises(ValueError, match="bandwidth must be positive"):
        kernel_stein_discrepancy(standard, x, bandwidth=-1.0)
    with pytest.raises(ValueError, match="flip_probability must lie above 0"):
        kernel_stein_discrepancy(standard, x, flip_probability=0.9)
    with pytest.raises(ValueError, match="two rows or more, got 1"):
        kernel_stein_discrepancy(standard, x[:1])
    with pytest.raises(ValueError, match="x must be finite"):
        kernel_stein_discrepancy(standard, x * torch.nan)
    with pytest.raises(ValueError, match="median distance must be positive"):
        kernel_stein_discrepancy(standard, torch.ones(10, 2))
