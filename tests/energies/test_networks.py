"""What MLP, Conv and ResNet share, and the closed-form scores against autograd."""

from __future__ import annotations

import dataclasses

import pytest
import torch

import basin
from basin.core.gradients import energy_and_score, hessian_vector_product, laplacian
from basin.energies import ACTIVATIONS, MLP, Conv, ResNet

NETWORKS = {
    "mlp": lambda **k: MLP(4, hidden=(16, 12), **k),
    "mlp of images": lambda **k: MLP((1, 2, 2), hidden=(16,), **k),
    "resnet": lambda **k: ResNet(4, width=12, num_blocks=3, **k),
    "conv": lambda **k: Conv((1, 5, 3), channels=(4, 6), **k),
    "conv of colours": lambda **k: Conv((3, 6, 7), channels=(4, 3, 5), **k),
    "conv of one layer": lambda **k: Conv((4, 4), channels=(5,), **k),
}
every_network = pytest.mark.parametrize("name", NETWORKS)


def rows(energy, generator, n=7, dtype=torch.float32):
    return torch.randn(n, *energy.event_shape, generator=generator, dtype=dtype)


def parameter_gradients(energy, score):
    return torch.autograd.grad(score.square().sum(), list(energy.parameters()), allow_unused=True)


def assert_closed_form(energy, x, tolerance):
    """Score and gradient of ||s||^2 in the weights equal those of autograd."""
    x = x.clone()
    found = energy.score(x)
    leaf = x.clone().requires_grad_(True)
    _, expected = energy_and_score(energy, leaf, create_graph=True)
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
    for one, other in zip(
        parameter_gradients(energy, found), parameter_gradients(energy, expected), strict=True
    ):
        if other is None:  # an output bias would be one
            assert one is None
        else:
            scale = other.abs().max()
            torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance * float(scale))


@every_network
@pytest.mark.parametrize("activation", [n for n, f in ACTIVATIONS.items() if f.is_smooth])
@pytest.mark.parametrize("confinement", [0.0, 0.7])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_closed_form_score(name, activation, confinement, dtype, tolerance, generator):
    energy = NETWORKS[name](activation=activation, confinement=confinement).to(dtype)
    assert_closed_form(energy, rows(energy, generator, dtype=dtype), tolerance)


@every_network
def test_closed_form_score_of_a_kinked_network(name, generator):
    energy = NETWORKS[name](activation="relu").double()
    x = rows(energy, generator, dtype=torch.float64)
    torch.testing.assert_close(energy.score(x), energy_and_score(energy, x)[1])


@every_network
def test_mutants_of_the_closed_form_fail(name, generator):
    x = rows(NETWORKS[name](), generator, dtype=torch.float64)

    def crippled(value_and_slope, jet):
        energy = NETWORKS[name](confinement=0.3).double()
        energy._activation = dataclasses.replace(
            energy._activation, value_and_slope=value_and_slope, jet=jet
        )
        return energy

    silu, jet = ACTIVATIONS["silu"].value_and_slope, ACTIVATIONS["silu"].jet
    assert_closed_form(crippled(silu, jet), x, 1e-12)
    mutants = [
        # a term of the slope dropped
        (
            lambda a: (silu(a)[0], torch.sigmoid(a)),
            lambda a: (jet(a)[0], torch.sigmoid(a), jet(a)[2]),
        ),
        # the right score with a wrong gradient
        (lambda a: (silu(a)[0], silu(a)[1].detach()), lambda a: (*jet(a)[:2], 0 * a)),
    ]
    for mutant in mutants:
        with pytest.raises(AssertionError):
            assert_closed_form(crippled(*mutant), x, 1e-12)
    unconfined = NETWORKS[name](confinement=0.3).double()
    forget = lambda x: type(unconfined).score(unconfined, x) + 0.3 * x  # noqa: E731
    unconfined.score = forget
    with pytest.raises(AssertionError):
        assert_closed_form(unconfined, x, 1e-12)


@every_network
def test_basin_score_takes_the_closed_form_and_one_backward(name, generator, monkeypatch):
    energy = NETWORKS[name]()
    x = rows(energy, generator)
    monkeypatch.setattr(torch.autograd, "grad", None)  # whoever calls it falls
    loss = basin.score(energy, x, create_graph=True).square().sum()
    loss.backward()
    assert energy.output.weight.grad is not None


@every_network
def test_hessians_agree_with_finite_differences(name, generator):
    energy = NETWORKS[name]().double()
    x = rows(energy, generator, n=3, dtype=torch.float64)
    v = rows(energy, generator, n=3, dtype=torch.float64)
    step = 1e-5
    difference = basin.score(energy, x - step * v) - basin.score(energy, x + step * v)
    product = hessian_vector_product(energy, x, v)
    torch.testing.assert_close(product, difference / (2 * step), rtol=1e-6, atol=1e-8)
    traces = laplacian(energy, x)
    torch.testing.assert_close(traces, laplacian(lambda y: energy(y), x))


@every_network
def test_no_output_bias(name):
    energy = NETWORKS[name]()
    assert energy.output.bias is None
    assert "output.bias" not in dict(energy.named_parameters())


@every_network
def test_same_seed_same_bits(name):
    def weights(seed):
        return torch.cat([p.flatten() for p in NETWORKS[name](seed=seed).parameters()])

    before = torch.get_rng_state()
    assert torch.equal(weights(3), weights(3))
    assert not torch.equal(weights(3), weights(4))
    assert torch.equal(before, torch.get_rng_state())


@every_network
def test_weights_follow_the_usual_law(name):
    for layer in NETWORKS[name]().modules():
        if isinstance(layer, torch.nn.Linear | torch.nn.Conv2d):
            bound = layer.weight[0].numel() ** -0.5
            assert layer.weight.abs().max() <= bound
            assert layer.weight.requires_grad


def test_the_law_fills_its_range():
    weight = MLP(2, hidden=(400, 400)).layers[1].weight
    assert abs(weight.var() * 400 - 1 / 3) < 0.01  # of U(-1/20, 1/20)


@every_network
def test_batch_of_one_and_of_none(name, generator):
    energy = NETWORKS[name](confinement=1.0)
    x = rows(energy, generator)
    for i in range(len(x)):
        torch.testing.assert_close(energy(x[i : i + 1]), energy(x)[i : i + 1])
    assert energy(x[:0]).shape == (0,)
    assert basin.score(energy, x[:0]).shape == x[:0].shape


@every_network
def test_input_untouched_and_no_gradient_left(name, generator):
    energy = NETWORKS[name]()
    x = rows(energy, generator)
    kept = x.clone()
    energy(x)
    basin.score(energy, x)
    assert torch.equal(x, kept)
    assert all(p.grad is None for p in energy.parameters())


@every_network
def test_confinement_adds_half_c_times_the_square(name, generator):
    free, confined = NETWORKS[name](), NETWORKS[name](confinement=0.5)
    x = rows(free, generator)
    square = x.flatten(1).square().sum(1)
    torch.testing.assert_close(confined(x), free(x) + 0.25 * square)
    torch.testing.assert_close(basin.score(confined, x), basin.score(free, x) - 0.5 * x)
    assert bool((confined(1e4 * x) > 1e4 * free(1e4 * x).abs().sqrt()).all())


@pytest.mark.statistical
@every_network
def test_base_law_is_that_of_the_confining_term(name, generator):
    energy = NETWORKS[name](confinement=4.0)
    draws = energy.sample_base(20_000, generator)
    assert draws.shape == (20_000, *energy.event_shape)
    n = draws.numel()
    assert abs(draws.mean()) < 4 * 0.5 / n**0.5
    assert abs(draws.var() / 0.25 - 1) < 4 * (2 / n) ** 0.5


@every_network
def test_no_base_law_without_confinement(name, generator):
    with pytest.raises(ValueError, match="give the starting points x0, or build it with confine"):
        NETWORKS[name]().sample_base(3, generator)


@every_network
def test_a_wrong_dimension_says_what_to_do(name, generator):
    energy = NETWORKS[name]()
    x = torch.randn(5, 3, generator=generator)
    for call in (energy, lambda y: basin.score(energy, y)):
        with pytest.raises(ValueError, match=r"got \(5, 3\); give it such rows, or build the"):
            call(x)
    with pytest.raises(ValueError, match="coordinates a row"):
        energy(torch.zeros(4))


def test_events_are_flattened_inside(generator):
    flat, image = MLP(4, hidden=(8,)), MLP((2, 2), hidden=(8,))
    x = torch.randn(3, 2, 2, generator=generator)
    torch.testing.assert_close(flat(x), image(x))
    torch.testing.assert_close(image(x.flatten(1)), image(x))
    assert flat.score(x).shape == x.shape
    assert image.event_shape == (2, 2)
    assert flat.event_shape == (4,)
    plane = Conv((4, 4), channels=(2,))
    assert plane(torch.zeros(3, 4, 4)).shape == (3,)


@pytest.mark.parametrize("side", [1, 2, 7, 8, 28])
def test_conv_fits_any_grid(side):
    energy = Conv((1, side, side))
    assert energy(torch.zeros(2, 1, side, side)).shape == (2,)


def test_conv_is_its_convolutions_one_after_the_other(generator):
    """Its first layer is a product over patches, and its pixels lie otherwise in memory."""
    energy = NETWORKS["conv of colours"](activation="tanh").double()
    x = rows(energy, generator, dtype=torch.float64)

    def plain(h, layers):
        for layer in layers:
            h = torch.tanh(torch.nn.functional.conv2d(h, layer.weight, layer.bias, 2, 1))
        return energy.output(h.flatten(1)).squeeze(-1)

    torch.testing.assert_close(energy(x), plain(x, energy.layers), rtol=1e-12, atol=1e-12)
    turned = x.transpose(2, 3).reshape(x.shape)  # what a patch holds in another order
    assert not torch.allclose(energy(x), plain(turned, energy.layers))


def test_conv_halves_the_grid():
    assert Conv((3, 28, 28), channels=(8, 16, 32)).output.in_features == 32 * 4 * 4


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: MLP(0), "dim must be a positive whole number, got 0"),
        (lambda: MLP(()), "dim must name at least one dimension"),
        (lambda: MLP(2.0), "dim must be a whole number or several, got 2.0"),
        (lambda: MLP(2, hidden=()), "hidden must name at least one"),
        (lambda: MLP(2, hidden=(8, 0)), "hidden must be a positive whole number, got 0"),
        (lambda: MLP(2, confinement=-1.0), "confinement must be zero or positive, got -1.0"),
        (lambda: MLP(2, activation="swish"), "activation must be one of"),
        (lambda: ResNet(2, width=0), "width must be a positive whole number"),
        (lambda: ResNet(2, num_blocks=0), "num_blocks must be a positive whole number"),
        (lambda: Conv((8,)), r"event_shape must be \(channels, height, width\)"),
        (lambda: Conv((1, 8, 8), channels=()), "channels must name at least one"),
        (lambda: Conv((1, 8, 8), confinement=float("nan")), "confinement must be zero or pos"),
    ],
)
def test_parameters_out_of_range(make, match):
    with pytest.raises(ValueError, match=match):
        make()


@every_network
def test_state_dict_round_trip_and_deep_copy(name, generator):
    import copy

    energy, other = NETWORKS[name](seed=1), NETWORKS[name](seed=2)
    x = rows(energy, generator)
    other.load_state_dict(energy.state_dict())
    assert torch.equal(other(x), energy(x))
    assert torch.equal(copy.deepcopy(energy)(x), energy(x))
    assert "seed" not in repr(energy)
    assert "silu" in repr(energy)
