"""Every energy goes to JSON and back; nothing else is ever built from a file."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass

import pytest
import torch

import basin
from basin import energies
from basin.core.describe import build, describe, is_own
from basin.energies import (
    MLP,
    AtNoiseLevel,
    ConditionalMLP,
    Conv,
    Folded,
    Gaussian,
    GaussianMixture,
    Mixture,
    NoiseConditional,
    NoisedGaussianMixture,
    Product,
    ResNet,
    Standardised,
    Tempered,
)

COVARIANCE = [[1.0, 0.3], [0.3, 2.0]]


def mlp(seed=0):
    return MLP(2, hidden=(4, 5), activation="tanh", confinement=0.25, seed=seed)


EXAMPLES = {
    "mlp": mlp,
    "mlp of images": lambda: MLP((1, 2, 1), hidden=(4,)),
    "conv": lambda: Conv((1, 2, 1), channels=(2, 3), activation="softplus", confinement=0.1),
    "resnet": lambda: ResNet(2, width=4, num_blocks=2, activation="gelu", seed=7),
    "noise conditional": lambda: AtNoiseLevel(NoiseConditional(2, hidden=(4,)), 0.3),
    "blurred mixture": lambda: AtNoiseLevel(NoisedGaussianMixture(2, 3), 0.3),
    "gaussian": lambda: Gaussian([1.0, 1 / 3], COVARIANCE),
    "mixture of gaussians": lambda: GaussianMixture(
        [[0.0, 1.0], [0.1, -1.0]], [COVARIANCE, COVARIANCE], [0.2, 0.8]
    ),
    "product": lambda: Product([mlp(1), Gaussian([0.0, 0.0], COVARIANCE)]),
    "mixture": lambda: Mixture([mlp(1), mlp(2)], weights=[0.3, 0.7]),
    "tempered": lambda: Tempered(mlp(), temperature=2.5),
    "standardised": lambda: Standardised(mlp(), shift=[1.0, 2.0], scale=[0.1, 10.0]),
    "conditional": lambda: ConditionalMLP(2, num_classes=3, hidden=(4,)).given(1),
    "between walls": lambda: Folded(mlp(), lower=-1.0, upper=[2.0, 3.0]),
    "nested": lambda: Standardised(
        Tempered(Product([mlp(1), Mixture([mlp(2), mlp(3)])]), temperature=0.5), 1.0, 3.0
    ),
}


@pytest.mark.parametrize("make", EXAMPLES.values(), ids=EXAMPLES.keys())
def test_round_trip_through_json(make, generator):
    energy = make()
    description = describe(energy)
    again = build(json.loads(json.dumps(description, allow_nan=False)), [energies])
    assert type(again) is type(energy)
    assert describe(again) == description
    again.load_state_dict(energy.state_dict(), strict=True)
    x = torch.randn(5, *energy.event_shape, generator=generator)
    assert torch.equal(again(x), energy(x))
    assert torch.equal(basin.score(again, x), basin.score(energy, x))


def test_every_public_energy_is_among_the_examples():
    written = json.dumps([describe(make()) for make in EXAMPLES.values()])
    modules = [
        name
        for name in energies.__all__
        if isinstance(getattr(energies, name), type)
        and issubclass(getattr(energies, name), torch.nn.Module)
    ]
    assert len(modules) >= 10
    # Energies of whole numbers have their round trip in tests/energies/test_discrete.py. What
    # Transformed and Posterior hold, a bijection of torch and a function of rows, is no data.
    elsewhere = {*energies.discrete.__all__, "Transformed", "Posterior"}
    assert [name for name in modules if name not in elsewhere and f'"{name}"' not in written] == []


def test_same_seed_same_weights_without_a_file():
    again = build(describe(mlp(3)), [energies])
    for one, other in zip(again.parameters(), mlp(3).parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    "name",
    ["os.system", "subprocess.Popen", "torch.nn.Linear", "Linear", "antigravity", "this", "",
     "basin.energies.MLP", "__class__", "activation_named", None, 3, ["MLP"], {"class": "MLP"}],
)  # fmt: skip
def test_foreign_and_unknown_classes_are_refused_and_nothing_is_imported(name):
    before = set(sys.modules)
    with pytest.raises(ValueError, match="class must be one of Basin's own"):
        build({"class": name, "dim": 2}, [energies])
    assert set(sys.modules) == before


def test_a_foreign_class_inside_is_refused():
    description = describe(EXAMPLES["nested"]())
    description["energy"]["energy"]["energies"][0]["class"] = "os.system"
    with pytest.raises(ValueError, match=r"got 'os\.system'"):
        build(description, [energies])


def test_a_foreign_module_of_a_family_is_not_a_way_in():
    class Family:
        __all__ = ("Popen", "MLP")
        from subprocess import Popen

        MLP = MLP

    with pytest.raises(ValueError, match=r"one of Basin's own \(MLP\)"):
        build({"class": "Popen", "args": ["true"]}, [Family])  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"depth": 3}, "unknown depth"),
        ({"dim": None}, "dim|cannot be built"),
        ({"hidden": "wide"}, "hidden|cannot be built"),
        ({"hidden": []}, "hidden must name at least one"),
        ({"activation": "swish"}, "activation must be one of silu"),
        ({"activation": ["silu"]}, "cannot be built|activation"),
        ({"confinement": "x"}, "confinement must be zero or positive"),
        ({"seed": "x"}, "cannot be built|seed"),
    ],
)
def test_wrong_parameters_are_named(change, match):
    with pytest.raises(ValueError, match=match):
        build({**describe(mlp()), **change}, [energies])


def test_a_missing_parameter_is_named():
    with pytest.raises(ValueError, match="missing dim"):
        build({"class": "MLP"}, [energies])


def test_a_bottomless_description_is_refused():
    description = describe(mlp())
    for _ in range(200):
        description = {"class": "Tempered", "energy": description, "temperature": 1.0}
    with pytest.raises(ValueError, match="nest at most"):
        build(description, [energies])
    lists: object = 1
    for _ in range(5000):
        lists = [lists]
    with pytest.raises(ValueError, match="nest at most"):
        build({**describe(mlp()), "hidden": lists}, [energies])


def test_not_a_mapping():
    with pytest.raises(ValueError, match="a description must be"):
        build(["MLP"], [energies])  # type: ignore[arg-type]


def test_a_foreign_object_is_named_by_its_place_and_cannot_be_built():
    description = describe(torch.nn.Identity())
    assert description == {"class": "torch.nn.modules.linear.Identity"}
    with pytest.raises(ValueError, match="make the object yourself"):
        build(description, [energies])


def test_what_json_cannot_hold_is_refused():
    energy = mlp()
    energy.confinement = object()  # type: ignore[assignment]
    with pytest.raises(TypeError, match=r"MLP\.confinement must be a number"):
        describe(energy)


def test_a_parameter_that_is_not_kept_is_refused(monkeypatch):
    @dataclass
    class Forgetful:
        width: int

    monkeypatch.setattr(Forgetful, "__module__", "basin.forgetful")
    forgetful = Forgetful(3)
    del forgetful.width
    with pytest.raises(TypeError, match="'width' as an attribute"):
        describe(forgetful)


def test_is_own():
    assert is_own(MLP)
    assert not is_own(torch.nn.Linear)
    assert not is_own(type("Basinlike", (), {"__module__": "basinlike"}))
