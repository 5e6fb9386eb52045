from __future__ import annotations

import dataclasses

import pytest

import basin
from basin.core.references import Reference, cite


def test_frozen_and_readable():
    reference = Reference("A title", ("A. One", "B. Two"), 2021, "https://example.org")
    assert str(reference) == "A. One, B. Two (2021). A title. https://example.org"
    with pytest.raises(dataclasses.FrozenInstanceError):
        reference.year = 2022  # type: ignore[misc]


def test_cite_names_each_once_and_in_order():
    resnet, product = basin.energies.ResNet, basin.energies.Product
    both = (*resnet.references, *product.references)
    assert cite(resnet, product, resnet, object()) == both
