"""A walk from noise to images down the ladder, computed once and kept as grey levels.

    x ~ the Gaussian at sigma_max, then ancestral steps down to sigma        (top row)
    E[X | x] = x + sigma^2 s(x, sigma)                                       (Tweedie; bottom row)

It is the walk that ``Run.sample`` makes, every few steps kept. Each frame is shown on its own grey
levels, those of the data widened by 2 sigma, as else noise is only black and white. Cost:
``NUM_STEPS`` scores of a dozen images; at most ``MAX_BYTES`` in the page.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from basin.core.gradients import score
from basin.energies.composed.standardised import core_energy, restored
from basin.report.collect import RunRecord
from basin.report.figures import as_images, grey_levels
from basin.samplers.reverse_diffusion import ReverseDiffusion
from basin.sampling.run import sample

__all__ = ["ImageWalk", "image_walk"]

NUM_STEPS = 240
NUM_FRAMES = 40
MAX_IMAGES = 12
MAX_BYTES = 900_000


@dataclass(frozen=True)
class ImageWalk:
    """Frames of a walk, all images of a frame at one noise level.

    Attributes:
        sigmas: ``[frames]``, falling.
        noisy: ``[frames, images, H, W, colours]`` of uint8: the walkers; colours is 1 or 3.
        expected: the same for the mean of the image beneath the noise.
    """

    sigmas: np.ndarray
    noisy: np.ndarray
    expected: np.ndarray


def image_walk(record: RunRecord, *, seed: int = 0) -> ImageWalk:
    """Walk a dozen images from noise to the run's noise level.

    Raises:
        ValueError: the rows are no images, the model has no noise levels, or the images are so
            large that a page cannot hold their walk.
    """
    run, pixels = record.run, record.dimension
    if as_images(np.empty((1, *record.event_shape))) is None or record.kind != "images":
        raise ValueError("the walk from noise is drawn for images, and these rows are none")
    if not run.has_noise_levels or record.sigma is None:
        raise ValueError(
            "the walk from noise needs a model of all noise levels, and this one knows a single one"
        )
    num_images = min(MAX_IMAGES, MAX_BYTES // (2 * NUM_FRAMES * pixels))
    if num_images < 1:
        raise ValueError(f"images of {pixels} numbers are too large for a page to hold their walk")
    energy = run.energy
    core = core_energy(energy)
    top, low = float(run.config["noise_levels"]["sigma_max"]), record.sigma
    generator = torch.Generator(next(core.parameters()).device).manual_seed(seed)
    start = core.sample_base(num_images, generator, top)
    path, kernel = ReverseDiffusion.down(core, top, low, NUM_STEPS)
    every = NUM_STEPS // NUM_FRAMES
    chains = sample(path, kernel, start, num_steps=NUM_STEPS, thin=every, seed=generator)
    # Step k leaves the walkers at the level (low / top)^(k / NUM_STEPS) top.
    share = np.arange(NUM_FRAMES + 1) / NUM_FRAMES
    sigmas = top * (low / top) ** share
    frames = [start, *chains.positions.unbind(1)]
    means = [
        x + s**2 * score(core.at(float(s)), x).detach() for x, s in zip(frames, sigmas, strict=True)
    ]
    black, white = grey_levels(record)
    unit = record.scale[0]
    blur = 2 * unit * sigmas
    noisy = [
        _grey(restored(energy, x), black - b, white + b) for x, b in zip(frames, blur, strict=True)
    ]
    expected = [_grey(restored(energy, x), black, white) for x in means]
    return ImageWalk(sigmas, np.stack(noisy), np.stack(expected))


def _grey(x: torch.Tensor, black: float, white: float) -> np.ndarray:
    """``[images, H, W, colours]`` of uint8, cut at black and white."""
    images = as_images(x.detach().cpu().double().numpy())
    assert images is not None
    shown = np.clip((images - black) / (white - black), 0, 1) * 255
    return np.rint(shown if shown.ndim == 4 else shown[..., None]).astype(np.uint8)
