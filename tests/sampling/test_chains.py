"""What a run returns: diagnostics, frozen, and the way to ArviZ."""

from __future__ import annotations

import dataclasses
import importlib.util
import sys

import pytest
import torch

from basin.mcmc.diagnostics import effective_sample_size, split_rhat
from basin.samplers.mala import MALA
from basin.sampling.run import sample
from helpers.energies import DiagonalGaussian


@pytest.fixture(scope="module")
def chains():
    return sample(DiagonalGaussian([1.0, 4.0]), MALA(0.3), 4, num_steps=300, num_warmup=100)


def test_diagnostics_are_those_of_mcmc(chains):
    assert torch.equal(chains.split_rhat(), split_rhat(chains.positions))
    assert torch.equal(chains.effective_sample_size(), effective_sample_size(chains.positions))
    tail = effective_sample_size(chains.positions, "tail")
    assert torch.equal(chains.effective_sample_size("tail"), tail)
    assert (chains.split_rhat() < 1.1).all()


def test_is_frozen(chains):
    with pytest.raises(dataclasses.FrozenInstanceError):
        chains.num_divergent = 3


def test_without_arviz_the_error_says_what_to_install(chains, monkeypatch):
    monkeypatch.setitem(sys.modules, "arviz_base", None)
    monkeypatch.setitem(sys.modules, "arviz", None)
    with pytest.raises(ImportError, match="pip install arviz"):
        chains.to_arviz()


@pytest.mark.skipif(
    importlib.util.find_spec("arviz_base") is None and importlib.util.find_spec("arviz") is None,
    reason="ArviZ is optional and is not installed",
)
def test_to_arviz_keeps_order_and_uses_its_names(chains):
    tree = chains.to_arviz()
    assert tree["posterior"]["x"].dims[:2] == ("chain", "draw")
    assert tree["posterior"]["x"].shape == (4, 300, 2)
    assert {"diverging", "acceptance_rate", "is_accepted"} <= set(tree["sample_stats"].data_vars)
