"""What score-based objectives refuse, and the sentence that says why."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from basin.core.inspect import require_no_output_bias, require_score_trainable
from basin.energies import (
    MLP,
    AtNoiseLevel,
    Conv,
    Gaussian,
    GaussianMixture,
    Mixture,
    NoiseConditional,
    Product,
    ResNet,
    Tempered,
)

# PyTorch's own layers draw their weights from the global generator
pytestmark = pytest.mark.global_generator


@pytest.fixture
def x(generator):
    return torch.randn(20, 2, generator=generator)


class Last(nn.Module):
    """A network of PyTorch's layers that ends with one number a row."""

    def __init__(self, *layers, bias=False):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 8), *layers, nn.Linear(8, 1, bias=bias))

    def forward(self, x):
        return self.net(x).squeeze(-1)


GOOD = {
    "mlp": lambda: MLP(2, hidden=(8, 8)),
    "resnet": lambda: ResNet(2, width=8),
    "conv": lambda: Conv((1, 2), channels=(4,)),
    "gaussian": lambda: Gaussian([0.0, 0.0], [[1.0, 0.2], [0.2, 1.0]]),
    "mixture of gaussians": lambda: GaussianMixture([[0.0, 1.0], [1.0, 0.0]], torch.eye(2)),
    "product": lambda: Product([MLP(2, hidden=(8,)), Gaussian([0.0, 0.0], torch.eye(2))]),
    "mixture": lambda: Mixture([MLP(2, hidden=(8,)), Gaussian([0.0, 0.0], torch.eye(2))]),
    "tempered": lambda: Tempered(MLP(2, hidden=(8,)), 2.0),
    "noise conditional": lambda: AtNoiseLevel(NoiseConditional(2, hidden=(8,)), 0.2),
    "function": lambda: lambda x: x.pow(4).sum(1),
    "batch norm at rest": lambda: Last(nn.BatchNorm1d(8), nn.SiLU()).eval(),
    "layer norm": lambda: Last(nn.LayerNorm(8), nn.SiLU()),
    "dropout": lambda: Last(nn.SiLU(), nn.Dropout(0.2)),
    "spectral norm": lambda: Last(nn.SiLU(), nn.utils.parametrizations.spectral_norm(
        nn.Linear(8, 8)), nn.SiLU()),
    "zero so far": lambda: _zeroed(MLP(2, hidden=(8,))),
}  # fmt: skip


def _zeroed(energy):
    nn.init.zeros_(energy.output.weight)
    return energy


@pytest.mark.parametrize("make", GOOD.values(), ids=GOOD.keys())
def test_accepts(make, x):
    require_score_trainable(make(), x)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)

    def forward(self, x):
        return self.inner(x.repeat(1, 4).reshape(len(x), 2, 4)).sum((1, 2))


BAD = {
    "batch norm": (lambda: Last(nn.BatchNorm1d(8), nn.SiLU()), "BatchNorm1d in train mode"),
    "centred over the batch": (lambda: lambda x: (x - x.mean(0)).pow(4).sum(1), "each row on its"),
    "relu": (lambda: Last(nn.ReLU()), r"got ReLU at net\.1"),
    "leaky relu": (lambda: Last(nn.LeakyReLU()), "got LeakyReLU"),
    "our relu": (lambda: MLP(2, hidden=(8,), activation="relu"), "activation='relu'"),
    "our relu, confined": (
        lambda: Product([MLP(2, hidden=(8,), activation="relu", confinement=1.0)]),
        "activation='relu'",
    ),
    "relu as a function": (
        lambda: lambda x: functional.relu(x @ torch.eye(2) - 0.1).sum(1),
        "second derivative is zero",
    ),
    "relu as a function, confined": (
        lambda: lambda x: functional.relu(x - 0.1).sum(1) + x.square().sum(1),
        "second derivative is constant while its score jumps",
    ),
    "linear": (lambda: lambda x: x.sum(1), "is a linear function"),
    "one column": (lambda: lambda x: x[:, :1], r"squeeze\(-1\)"),
    "a sum": (lambda: lambda x: x.square().sum(), "not their sum"),
    "detached": (lambda: lambda x: x.detach().square().sum(1), "differentiable in x"),
    "not finite": (lambda: lambda x: x.square().sum(1) / 0, "finite energies"),
    "one derivative": (lambda: Attention().eval(), "second derivative, but autograd"),
}


@pytest.mark.parametrize(("make", "match"), BAD.values(), ids=BAD.keys())
def test_refuses(make, match, x):
    with pytest.raises(ValueError, match=match):
        require_score_trainable(make(), x)


def test_refuses_inside_no_grad_and_inference_mode(x):
    good, bad = MLP(2, hidden=(8,)), MLP(2, hidden=(8,), activation="relu")
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            require_score_trainable(good, x.clone())
            require_no_output_bias(good, x.clone())
            with pytest.raises(ValueError, match="activation='relu'"):
                require_score_trainable(bad, x.clone())


def test_needs_two_rows(x):
    with pytest.raises(ValueError, match="at least two rows"):
        require_score_trainable(MLP(2), x[:1])


def test_large_values_are_no_trouble(x):
    require_score_trainable(MLP(2, hidden=(8,)), 1e3 * x)
    require_score_trainable(Gaussian([0.0, 0.0], 1e4 * torch.eye(2)), 1e3 * x)


def test_leaves_no_trace(x):
    energy = Last(nn.BatchNorm1d(8), nn.SiLU(), nn.Dropout(0.5))
    before = {name: value.clone() for name, value in energy.state_dict().items()}
    state, kept = torch.get_rng_state(), x.clone()
    with pytest.raises(ValueError, match="BatchNorm"):
        require_score_trainable(energy, x)
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(x, kept)
    for name, value in energy.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(p.grad is None for p in energy.parameters())
    assert energy.training


@pytest.mark.parametrize("name", ["mlp", "resnet", "conv", "product", "noise conditional"])
def test_our_networks_have_no_output_bias(name, x):
    require_no_output_bias(GOOD[name](), x)


def test_an_output_bias_is_named(x):
    with pytest.raises(ValueError, match=r"got net\.2\.bias; build its last layer with bias=False"):
        require_no_output_bias(Last(nn.SiLU(), bias=True), x)
    require_no_output_bias(Last(nn.SiLU()), x)
    frozen = Last(nn.SiLU(), bias=True)
    frozen.net[-1].bias.requires_grad_(False)
    require_no_output_bias(frozen, x)
    require_no_output_bias(lambda y: y.square().sum(1), x)
