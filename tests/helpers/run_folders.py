"""Run folders made without training: what a report needs, with every part known.

The energy is the truth with a chosen error, so that a page can be judged before a trainer exists.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

import basin
from basin.energies import GaussianMixture
from basin.partition import LogZ

WEIGHTS = (0.5, 0.3, 0.2)


def mixture(dim: int, sd: float = 0.4) -> GaussianMixture:
    """Three Gaussians on a ring in the first two coordinates."""
    means = torch.zeros(3, dim)
    for i in range(3):
        means[i, 0] = 2 * math.cos(2.1 * i)
        if dim > 1:
            means[i, 1] = 2 * math.sin(2.1 * i)
    return GaussianMixture(means, torch.eye(dim).expand(3, dim, dim) * sd**2, torch.tensor(WEIGHTS))


class Known(basin.core.Density):
    """The mixture as a Density."""

    is_smooth = True

    def __init__(self, dim: int, sd: float = 0.4) -> None:
        self.dim, self.sd = dim, sd
        self.event_shape = (dim,)
        self.bounds = torch.tensor([[-6.0, 6.0]] * dim)
        self.mode_weights = torch.tensor(WEIGHTS)
        self.energy = mixture(dim, sd)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        return self.energy.sample(n, generator)

    def energy_at(self, sigma: float | None = None) -> Any:
        return self.energy

    def log_prob(self, x: Tensor) -> Tensor:
        return -self.energy(x.to(torch.float32))

    def score(self, x: Tensor) -> Tensor:
        return self.energy.score(x.to(torch.float32))

    def blurred(self, sigma: float) -> Known:
        return Known(self.dim, math.sqrt(self.sd**2 + sigma**2))

    def mode_of(self, x: Tensor) -> Tensor:
        return torch.zeros(len(x), dtype=torch.int64)


@dataclass
class FakeRun:
    """What a report asks of a run."""

    energy: Any
    config: dict[str, Any]
    history: list[dict[str, Any]]
    folder: Path | None = None
    log_z: LogZ | None = None
    draws: Any = None

    def energy_at(self, sigma: float | None = None) -> Any:
        return self.energy

    def log_prob(self, x: Tensor, sigma: float | None = None) -> Tensor:
        assert self.log_z is not None
        return -self.energy(x) - self.log_z.log_z

    def sample(self, n: int, seed: int, sigma: float | None = None) -> Tensor:
        return self.draws(n, torch.Generator().manual_seed(seed))


@dataclass
class Made:
    """A run folder and what would be loaded from it."""

    folder: Path
    run: FakeRun | None
    dataset: Any
    config: dict[str, Any] = field(default_factory=dict)


def history(num_steps: int = 4000, every: int = 20) -> list[dict[str, Any]]:
    """A loss that falls and settles, with noise; validation every 200 steps."""
    random = np.random.default_rng(0)
    rows = []
    for step in range(every, num_steps + 1, every):
        relative = 0.42 + 0.5 * math.exp(-step / 300)
        batch = relative + 0.02 * random.standard_normal()
        row: dict[str, Any] = {
            "step": step,
            "loss": 2 * batch,
            "relative_loss": batch,
            "learning_rate": 2e-3 * (1 + math.cos(math.pi * step / num_steps)),
            "gradient_norm": math.exp(random.standard_normal() * 0.3 - step / 2000),
            "seconds": step * 0.01,
            "terms": {"space": 1.4 * batch, "noise": 0.6 * batch},
        }
        if step % 200 == 0:
            row["validation_loss"] = 2 * relative + 0.004 * random.standard_normal()
            row["validation_relative"] = row["validation_loss"] / 2
            row["validation_loss_ema"] = 2 * (0.415 + 0.55 * math.exp(-step / 350))
        rows.append(row)
    return rows


def evaluation(sigma: float = 0.1) -> dict[str, Any]:
    about = {"density": "p_sigma", "sigma": sigma, "weights": "ema"}
    return {
        "kl_to_truth": {
            "value": 0.00813,
            "standard_error": 0.00117,
            "floor": 0.0,
            "p_value": None,
            "n": None,
            "meaning": "KL divergence of the model from the truth, in nats, by quadrature",
            "about": about,
        },
        "log_z_error": {"value": -0.0312, "standard_error": 2e-5, "floor": 0.0, "about": about},
        "mode_weights": {
            "value": 0.021,
            "standard_error": 0.011,
            "floor": 0.013,
            "p_value": 0.22,
            "n": 2000,
            "meaning": "largest error of the share of samples in a mode",
            "null": "the samples are independent draws whose modes have the true weights",
            "about": about,
            "details": {"shares": [0.521, 0.289, 0.19], "truth": list(WEIGHTS)},
        },
    }


def config(dim_or_shape: Any, kind: str = "density", **data: Any) -> dict[str, Any]:
    shape = [dim_or_shape] if isinstance(dim_or_shape, int) else list(dim_or_shape)
    return {
        "format": 1,
        "basin_version": basin.__version__,
        "torch_version": torch.__version__,
        "python_version": "3.11.7",
        "command": "basin train three_blobs --out runs/blobs --seed 3",
        "data": {
            "name": "three_blobs",
            "source": {"source": "three_blobs", "fingerprint": "sha256:0123456789abcdef"},
            "kind": kind,
            "event_shape": shape,
            "columns": None,
            "num_rows": None,
            **data,
        },
        "energy": {"class": "NoiseConditional", "dim": 2, "hidden": [128, 128, 128]},
        "objective": {"class": "DualScoreMatching"},
        "training": {
            "num_steps": 4000,
            "batch_size": 512,
            "learning_rate": 4e-3,
            "ema_decay": 0.999,
            "seed": 3,
        },
        "sigma": 0.1,
        "weights": "ema",
        "log_z": LogZ.unchecked(0.031, "tied at the largest noise level").to_json(),
    }


def write(
    folder: Path,
    settings: dict[str, Any],
    rows: list[dict[str, Any]] | None,
    samples: np.ndarray | None,
    checks: dict[str, Any] | None,
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(settings))
    if rows is not None:
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / "history.jsonl").write_text(text)
    if samples is not None:
        np.savez(folder / "samples.npz", samples=samples, sigma=np.array(0.1))
    if checks is not None:
        (folder / "evaluation.json").write_text(json.dumps(checks))


def known_run(folder: Path, dim: int = 2, **changes: Any) -> Made:
    """A run on the known mixture whose energy is the truth at sigma, slightly too warm."""
    generator = torch.Generator().manual_seed(1)
    settings = {**config(dim), **changes}
    truth = Known(dim)
    model = mixture(dim, 1.05 * math.sqrt(0.4**2 + 0.1**2))
    samples = model.sample(2000, generator).numpy()
    write(folder, settings, history(), samples, evaluation())
    log_z = LogZ.unchecked(0.031, "tied at the largest noise level")
    run = FakeRun(model, settings, history(), folder, log_z, model.sample)
    return Made(folder, run, SimpleNamespace(density=truth), settings)


def rows_run(
    folder: Path,
    data: np.ndarray,
    samples: np.ndarray | None,
    kind: str = "table",
    **described: Any,
) -> Made:
    """A run on rows, without a model that can be drawn."""
    settings = config(
        data.shape[1:], kind, **{"name": "rows.csv", "num_rows": len(data), **described}
    )
    write(folder, settings, history(), samples, {})
    train = basin.datasets.TensorRows(torch.as_tensor(data, dtype=torch.float32))
    return Made(folder, None, SimpleNamespace(density=None, train=train), settings)
