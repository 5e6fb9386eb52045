"""What every test shares: one seeded generator, one thread, no pictures on a screen."""

from __future__ import annotations

import os

import pytest
import torch

from helpers.small_ending import small_ending

os.environ.setdefault("MPLBACKEND", "Agg")


@pytest.fixture
def generator() -> torch.Generator:
    """A generator with the one fixed seed of the suite."""
    return torch.Generator().manual_seed(20210109)


@pytest.fixture(name="small_ending")
def _small_ending():
    """Checks on few rows, reports without their drawings."""
    with small_ending():
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The build of the site takes minutes: begun first, it ends beside the other tests."""
    items.sort(key=lambda item: item.path.name != "test_site.py")


@pytest.fixture(autouse=True)
def _global_generator_is_left_alone(request: pytest.FixtureRequest):
    """Randomness is an argument: no code of ours may draw from torch's global generator.

    A test that must call a third party which does is marked ``@pytest.mark.global_generator``.
    """
    before = torch.get_rng_state()
    yield
    if request.node.get_closest_marker("global_generator") is None:
        assert torch.equal(before, torch.get_rng_state()), "drew from torch's global generator"
