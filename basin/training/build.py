"""Components from a config: only Basin's own class names are ever built from a file."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

from torch import nn

from basin.core.describe import build
from basin.core.room import at_most
from basin.core.types import Density, Objective
from basin.datasets.load import Dataset, load
from basin.training.errors import RunFolderError

__all__ = ["build_density", "build_energy", "build_objective", "load_data"]


def build_energy(config: dict[str, Any], weights: Path | None = None) -> nn.Module:
    """The energy that a config describes, with fresh weights.

    ``weights`` is the file that will be loaded into it. Nothing larger is allocated than what the
    file holds (a number has a byte at least), whatever sizes an edited config claims.
    """
    from basin import energies

    room = nullcontext()
    if weights is not None:
        room = at_most(weights.stat().st_size, f"the weights in {weights.name}")
    with room:
        return build(config["energy"], [energies])


def build_objective(config: dict[str, Any]) -> Objective:
    """The objective that a config describes."""
    from basin import datasets, energies, objectives, samplers, schedules
    from basin.mcmc import metric

    families = [objectives, samplers, metric, schedules, datasets, energies]
    return build(config["objective"], families)


def build_density(config: dict[str, Any]) -> Density | None:
    """The data's true density, when the run was trained on one of Basin's."""
    from basin import datasets

    description = config["data"]["density"]
    if description is None:
        return None
    density = build(description, [datasets])
    if list(density.event_shape) != config["data"]["event_shape"]:  # before a row is drawn
        raise RunFolderError(
            f"the density of config.json must have rows of shape {config['data']['event_shape']}, "
            f"got {density!r}"
        )
    return density


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
