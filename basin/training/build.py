"""Components from a config: only Basin's own class names are ever built from a file."""

from __future__ import annotations

from typing import Any

from torch import nn

from basin.core.describe import build
from basin.core.types import Density, Objective
from basin.datasets.load import Dataset, load
from basin.training.errors import RunFolderError

__all__ = ["build_density", "build_energy", "build_objective", "load_data"]


def build_energy(config: dict[str, Any]) -> nn.Module:
    """The energy that a config describes, with fresh weights."""
    from basin import energies

    return build(config["energy"], [energies])


def build_objective(config: dict[str, Any]) -> Objective:
    """The objective that a config describes."""
    from basin import objectives

    return build(config["objective"], [objectives])


def build_density(config: dict[str, Any]) -> Density | None:
    """The data's true density, when the run was trained on one of Basin's."""
    from basin import datasets

    description = config["data"]["density"]
    return None if description is None else build(description, [datasets])


def load_data(config: dict[str, Any]) -> Dataset | Density:
    """The data that a config names; an error says when only the caller has them."""
    source = config["data"]["source"]
    if source is not None:
        try:
            return load(**source)
        except (TypeError, AttributeError) as error:
            raise RunFolderError(
                f"config.json must say where the data came from, got {str(source)[:200]}: {error}"
            ) from error
    density = build_density(config)
    if density is None:
        raise RunFolderError(
            "the config does not say where the data came from (they were a tensor in memory); "
            "give the same rows again as x"
        )
    return density
