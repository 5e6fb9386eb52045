"""Product, Mixture and Tempered: algebra on densities whose truth is known."""

from __future__ import annotations

import copy
import math

import pytest
import torch

import basin
from basin.core.gradients import energy_and_score
from basin.energies import MLP, Conv, Gaussian, GaussianMixture, Mixture, Product, Tempered

FIRST = ([1.0, 0.0], [[2.0, 0.3], [0.3, 1.0]])
SECOND = ([-1.0, 2.0], [[0.5, 0.0], [0.0, 1.5]])


@pytest.fixture
def x(generator):
    return 2 * torch.randn(40, 2, generator=generator, dtype=torch.float64)


def gaussians():
    return Gaussian(*FIRST), Gaussian(*SECOND)


def assert_same_up_to_a_constant(found, expected):
    torch.testing.assert_close(found - found[0], expected - expected[0])


def test_product_of_gaussians_is_a_gaussian(x):
    one, other = (
        torch.linalg.inv(torch.tensor(c, dtype=torch.float64)) for _, c in (FIRST, SECOND)
    )
    covariance = torch.linalg.inv(one + other)
    mean = covariance @ (
        one @ torch.tensor(FIRST[0], dtype=torch.float64)
        + other @ torch.tensor(SECOND[0], dtype=torch.float64)
    )
    truth = Gaussian(mean, covariance)
    product = Product(gaussians())
    assert_same_up_to_a_constant(product(x), truth(x))
    torch.testing.assert_close(product.score(x), truth.score(x))
    with pytest.raises(AssertionError):  # the mutant: their mixture
        torch.testing.assert_close(Mixture(gaussians()).score(x), truth.score(x))


def test_mixture_of_gaussians_is_normalised(x):
    weights = [0.3, 0.7]
    truth = GaussianMixture([FIRST[0], SECOND[0]], [FIRST[1], SECOND[1]], weights)
    mixture = Mixture(gaussians(), weights)
    torch.testing.assert_close(mixture(x), truth(x))
    torch.testing.assert_close(mixture.score(x), truth.score(x))
    torch.testing.assert_close(Mixture(gaussians(), [3.0, 7.0])(x), truth(x))
    with pytest.raises(AssertionError):  # the mutant: the weights swapped
        torch.testing.assert_close(Mixture(gaussians(), [0.7, 0.3])(x), truth(x))


def test_weights_of_unnormalised_members_count_their_z(x):
    """Member 0 with Z = e^2: its probability is 0.3 e^2 / (0.3 e^2 + 0.7)."""
    first, second = gaussians()
    lifted = Mixture([lambda y: first(y) - 2.0, second], [0.3, 0.7])
    share = 0.3 * math.exp(2) / (0.3 * math.exp(2) + 0.7)
    assert_same_up_to_a_constant(lifted(x), Mixture(gaussians(), [share, 1 - share])(x))


def test_tempered_gaussian_is_a_wider_one(x):
    truth = Gaussian(FIRST[0], 4 * torch.tensor(FIRST[1]))
    tempered = Tempered(Gaussian(*FIRST), temperature=4.0)
    assert_same_up_to_a_constant(tempered(x), truth(x))
    torch.testing.assert_close(tempered.score(x), truth.score(x))


def networks():
    return [MLP(2, hidden=(8,), seed=1), Conv((1, 2), channels=(3,), seed=2)]


COMPOSED = {
    "product": lambda: Product(networks()),
    "mixture": lambda: Mixture(networks(), [0.2, 0.8]),
    "tempered": lambda: Tempered(networks()[0], 2.0),
    "tempered without closed form": lambda: Tempered(networks()[1], 2.0),
    "nested": lambda: Product([Mixture(networks()), Tempered(MLP(2, hidden=(4,)), 3.0)]),
}
every = pytest.mark.parametrize("make", COMPOSED.values(), ids=COMPOSED.keys())


@every
def test_score_and_its_gradient_equal_autograd(make, x):
    energy = make().double()
    parameters = list(energy.parameters())
    found = basin.score(energy, x, create_graph=True)
    expected = energy_and_score(lambda y: energy(y), x, create_graph=True)[1]
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    one = torch.autograd.grad(found.square().sum(), parameters, allow_unused=True)
    other = torch.autograd.grad(expected.square().sum(), parameters, allow_unused=True)
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)
    with pytest.raises(AssertionError):  # the mutant: the energy's own gradient
        torch.testing.assert_close(-found, expected)


@every
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_scores_in_every_mode(make, mode, x):
    energy = make().double()
    expected = basin.score(energy, x)
    assert not expected.requires_grad
    with mode():
        torch.testing.assert_close(basin.score(energy, x.clone()), expected)
    assert all(p.grad is None for p in energy.parameters())


@every
def test_each_weight_is_held_once(make):
    energy = make()
    tensors = list(energy.state_dict(keep_vars=True).values())
    assert len({id(tensor) for tensor in tensors}) == len(tensors)
    storages = [t.untyped_storage().data_ptr() for t in tensors]
    assert len(set(storages)) == len(storages)


@every
def test_event_shape_and_float32(make, x):
    energy = make()
    assert math.prod(energy.event_shape) == 2
    assert energy(x.float()).dtype == torch.float32
    assert basin.score(energy, x.float()).dtype == torch.float32
    assert energy(x[:1].float()).shape == (1,)


@pytest.mark.parametrize("family", [Product, Mixture])
def test_shared_weights_are_refused(family):
    energy = MLP(2, hidden=(4,))
    for pair in ([energy, energy], [energy, Tempered(energy, 2.0)]):
        with pytest.raises(ValueError, match="energies 0 and 1 with weights in common"):
            family(pair)
    family([energy, copy.deepcopy(energy)])


@pytest.mark.parametrize("family", [Product, Mixture])
def test_members_are_checked(family, x):
    with pytest.raises(ValueError, match="at least one energy"):
        family([])
    with pytest.raises(TypeError, match="takes energies, callables"):
        family([3.0])
    with pytest.raises(ValueError, match=r"one energy a row.*squeeze\(-1\)"):
        family([lambda y: y[:, :1], lambda y: y.sum(1)])(x)


def test_one_member_is_itself(x):
    energy = Gaussian(*FIRST)
    torch.testing.assert_close(Product([energy])(x), energy(x))
    torch.testing.assert_close(Mixture([energy], [5.0])(x), energy(x))


def test_far_out_the_mixture_stays_finite(x):
    mixture = Mixture(gaussians(), [0.5, 0.5])
    far = 1e4 * x
    assert bool(torch.isfinite(mixture(far)).all())
    assert bool(torch.isfinite(mixture.score(far)).all())


@pytest.mark.parametrize(
    ("weights", "match"),
    [
        ([1.0], r"weights must have shape \(2,\)"),
        ([1.0, 0.0], "weights must be positive"),
        ([1.0, float("nan")], "weights must be finite"),
    ],
)
def test_weights_are_checked(weights, match):
    with pytest.raises(ValueError, match=match):
        Mixture(gaussians(), weights)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("inf")])
def test_temperature_is_checked(temperature):
    with pytest.raises(ValueError, match="temperature must be positive"):
        Tempered(Gaussian(*FIRST), temperature)


def test_base_law_passes_through(generator):
    energy = Gaussian(*FIRST)
    seeded = lambda: torch.Generator().manual_seed(5)  # noqa: E731
    tempered = Tempered(energy, 2.0)
    assert torch.equal(tempered.sample_base(4, seeded()), energy.sample_base(4, seeded()))
    with pytest.raises(ValueError, match="give the starting points x0"):
        Tempered(lambda y: y.sum(1), 2.0).sample_base(4, generator)
