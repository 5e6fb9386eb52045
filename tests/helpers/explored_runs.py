"""Run folders for the explorer: models of all noise levels in closed form, no training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

import basin
from basin.energies import Standardised
from basin.energies.analytic.noised_gaussian_mixture import NoisedGaussianMixture
from helpers.run_folders import FakeRun, Made, config, history, write


@dataclass
class LadderRun(FakeRun):
    """A run whose energy knows every noise level."""

    has_noise_levels: bool = True

    def energy_at(self, sigma: float | None = None) -> Any:
        sigma = self.config["sigma"] if sigma is None else sigma
        energy: Any = self.energy
        return energy.at(sigma)


def gaussian_run(
    folder: Path,
    shape: tuple[int, ...] = (2,),
    *,
    kind: str = "density",
    spread: np.ndarray | None = None,
    has_samples: bool = True,
    **data: Any,
) -> Made:
    """Data of N(0, I) times ``spread``, the model exactly right at every level; sigma is 0.1."""
    dim = int(np.prod(shape))
    settings = config(shape, kind, **data)
    settings["noise_levels"] = {"sigma_min": 0.05, "sigma_max": 20.0}
    settings["sigma"] = 0.1
    energy: Any = NoisedGaussianMixture(dim)
    generator = torch.Generator().manual_seed(1)
    if spread is not None:
        energy = Standardised(energy, torch.zeros(shape), torch.as_tensor(spread).reshape(shape))
        settings["energy"] = {"scale": np.ravel(spread).tolist()}
    elif shape != (dim,):
        energy = _Flat(energy)
    rows = torch.randn((2000, *shape), generator=generator).numpy().astype(np.float32)
    rows *= 1 if spread is None else np.reshape(spread, shape).astype(np.float32)
    write(folder, settings, history(), rows[1000:] if has_samples else None, {})
    run = LadderRun(energy, settings, history(), folder)
    density = basin.datasets.StandardGaussian(dim) if kind == "density" else None
    train = basin.datasets.TensorRows(torch.as_tensor(rows[:1000]))
    return Made(folder, run, SimpleNamespace(density=density, train=train), settings)


class _Flat(torch.nn.Module):
    """An energy of flat rows, taken for one of images."""

    def __init__(self, energy: NoisedGaussianMixture) -> None:
        super().__init__()
        self.energy = energy

    def at(self, sigma: float) -> Any:
        level = self.energy.at(sigma)
        flat: Any = _FlatLevel()
        flat.energy, flat.sigma = level, sigma
        return flat

    def sample_base(self, n: int, generator: torch.Generator, sigma: float) -> torch.Tensor:
        side = int(self.energy.means.shape[1] ** 0.5)
        return self.energy.sample_base(n, generator, sigma).reshape(n, 1, side, side)

    def parameters(self, recurse: bool = True) -> Any:  # a mixture has buffers only
        return iter((self.energy.means,))


class _FlatLevel:
    energy: Any
    sigma: float

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return self.energy(x.flatten(1))

    def score(self, x: torch.Tensor) -> torch.Tensor:
        return self.energy.score(x.flatten(1)).reshape(x.shape)
