"""A noise-conditional energy: a Gaussian at every noise level, and a network on top of it.

With the data's mean m and covariance S = U diag(l) U', c = U'(x - m), d coordinates,

    E(x, sigma) = -log sum_k w_k N(x; m_k, C_k + sigma^2 I)
                + network( c_i / sqrt(l_i + sigma^2),  c_i / sqrt(r^2 + sigma^2) for each r,
                           log sigma,  sin and cos(k log sigma / 2) for k = 1, 2, 3 )

The first line, the base, is a Gaussian (rows) or a mixture of them (images), blurred: exact for
such data, and for any data as sigma grows beyond their diameter, where the network has nothing left
to say. The features are of order one at every level; r are lengths of detail, given as fractions of
the data's standard deviation. Used with dual score matching (Guth, Kadkhodaie & Simoncelli 2025)
and ladders of denoising score matching (Song & Ermon 2019).

The network's last layer has no bias: it is not identifiable from scores. Cost: two d x d products
for the rotation and two for each component, one product a layer for the energy and twice that for
both derivatives, which are in closed form: a loss on them takes one ordinary backward pass.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from basin.core.room import take_room
from basin.core.streams import stream
from basin.core.validation import positive, seed_number
from basin.energies.analytic.noised_gaussian_mixture import NoisedGaussianMixture
from basin.energies.composed.at_noise_level import AtNoiseLevel
from basin.energies.networks.activations import activation_named
from basin.energies.networks.input_gradient import input_gradient
from basin.energies.networks.layers import as_event_shape, flatten_event, linear_layer
from basin.energies.networks.mlp import hidden_layers

__all__ = ["NoiseConditional"]

_NUM_WAVES = 3
_NUM_IMAGE_COMPONENTS = 20
_COMPONENT_NUMBERS = 2**22  # of the axes of all components of an image's base
_LOG_SIGMA_SCALE = 0.5  # log sigma spans about +-4 over a ladder; half of it is of order one
_WITHOUT_AXES = (
    "an energy of all noise levels holds the axes of the data's covariance; take fewer columns, or "
    "the objective DenoisingScoreMatching, whose energy of one level (MLP) does without them"
)


class _Features(NamedTuple):
    """Inputs of the network, and the factors that lead its gradient back to x and log sigma."""

    centred: Tensor  # c, [batch, d]
    factors: list[Tensor]  # 1/sqrt(. + sigma^2), each [batch, d] or [batch, 1]
    values: Tensor  # [batch, features]
    level_slopes: Tensor  # d(level features)/d log sigma, [batch, level features]


class NoiseConditional(nn.Module):
    """E(x, sigma), energies in nats ``[batch]``, for every noise level at once.

    Args:
        dim: number of coordinates of a row, or the event's shape; events are flattened inside.
        hidden: widths of the hidden layers; None: three of 128 up to 4 coordinates, of 256 beyond.
        activation: ``silu``, ``softplus``, ``gelu`` or ``tanh``.
        detail: lengths r of the features, as fractions of the data's standard deviation.
        num_components: Gaussians of the base, at most; None: one for rows, and for images 20, or
            fewer from 21 x 21 on, where they would cost more than the network. Images of one kind
            look alike, and a network takes long to find out: docs/measured.md has digits both ways.
        seed: of the initial weights, and of the search for the components.

    The base starts as N(0, I); :func:`basin.fit` fits it once to the training rows (``fit_base``)
    and the model's file keeps it.

    Raises:
        ValueError: a parameter out of its range, rows of another dimension.

    Example:
        >>> import torch
        >>> energy = NoiseConditional(2, hidden=(16,))
        >>> x = torch.zeros(3, 2)
        >>> energy(x, 0.5).shape, energy.at(0.5).score(x).shape
        (torch.Size([3]), torch.Size([3, 2]))
    """

    mean: Tensor
    rotation: Tensor
    variance: Tensor
    is_base_fitted: Tensor

    def __init__(
        self,
        dim: int | Sequence[int],
        hidden: Sequence[int] | None = None,
        activation: str = "silu",
        detail: Sequence[float] = (0.4, 0.12),
        num_components: int | None = None,
        *,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.event_shape = as_event_shape("dim", dim)
        self.dim = dim if isinstance(dim, int) else self.event_shape
        d = torch.Size(self.event_shape).numel()
        self.hidden = as_event_shape("hidden", _default_widths(d) if hidden is None else hidden)
        self.activation = activation
        self.detail = tuple(float(length) for length in detail)
        for length in self.detail:
            positive(detail=length)
        self.seed = seed
        self._activation = activation_named(activation)
        if not self._activation.is_smooth:
            raise ValueError(
                f"activation must be smooth, got {activation!r}: its Hessian is zero, and this "
                "energy is trained by its derivatives; take silu"
            )
        seed_number(seed=seed)
        generator = torch.Generator().manual_seed(seed)
        take_room("dim", d, d, mend=_WITHOUT_AXES)
        if num_components is None:
            num_components = _default_components(self.event_shape)
        self.base = NoisedGaussianMixture(d, num_components)
        self.num_components = num_components
        num_features = d * (1 + len(self.detail)) + 1 + 2 * _NUM_WAVES
        self.layers = hidden_layers(num_features, self.hidden, generator)
        self.output = linear_layer(self.hidden[-1], 1, generator, bias=False)
        with torch.no_grad():
            self.output.weight.mul_(0.1)  # starts close to its base
        self.register_buffer("mean", torch.zeros(d))
        self.register_buffer("rotation", torch.eye(d))
        self.register_buffer("variance", torch.ones(d))
        self.register_buffer("is_base_fitted", torch.tensor(False))

    def forward(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """E(x, sigma), ``[batch]``; ``sigma`` is a positive number or ``[batch]``."""
        flat = flatten_event(self, x, self.event_shape)
        h = self._features(flat, sigma).values
        for layer in self.layers:
            h = self._activation.value(layer(h))
        return self.output(h).squeeze(-1) + self.base(flat, sigma)

    def score(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """-dE/dx in closed form, shape of ``x``."""
        flat = flatten_event(self, x, self.event_shape)
        features = self._features(flat, sigma)
        in_centred, _ = self._feature_gradients(features)
        base = self.base.score(flat, sigma)
        return (base - self._space_gradient(features, in_centred)).reshape(x.shape)

    def dual_score(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """``(-dE/dx, -dE/d log sigma)`` in closed form, shapes of ``x`` and ``[batch]``."""
        flat = flatten_event(self, x, self.event_shape)
        features = self._features(flat, sigma)
        in_centred, in_level = self._feature_gradients(features)
        noise_variance = sigma.square()[:, None]
        # d(c f)/d log sigma = -sigma^2 f^3 c for a factor f = (. + sigma^2)^(-1/2)
        in_noise = (in_level * features.level_slopes).sum(1)
        for gradient, factor in zip(in_centred, features.factors, strict=True):
            in_noise = in_noise - (gradient * features.centred * (noise_variance * factor**3)).sum(
                1
            )
        base, base_in_noise = self.base.dual_score(flat, sigma)
        in_space = base - self._space_gradient(features, in_centred)
        return in_space.reshape(x.shape), base_in_noise - in_noise

    def at(self, sigma: float) -> AtNoiseLevel:
        """The energy at one level, which samplers and quadratures take."""
        return AtNoiseLevel(self, sigma)

    @torch.no_grad()
    def fit_base(self, x: Tensor) -> None:
        """Fit the base to the rows ``x`` ``[n, *event]``, n >= 2, and the features' axes to it."""
        rows = flatten_event(self, x, self.event_shape)
        self.base.fit(rows, stream(self.seed, "base"))
        mean, covariance = self.base.moments(0)
        variance, rotation = torch.linalg.eigh(covariance.double())
        self.mean.copy_(mean)
        self.rotation.copy_(rotation)
        self.variance.copy_(variance.clamp_min(0))
        self.is_base_fitted.fill_(True)

    def base_law(self, sigma: float) -> tuple[Tensor, Tensor]:
        """Mean ``[d]`` and covariance ``[d, d]`` of the base at a level."""
        return self.base.moments(sigma)

    def sample_base(self, n: int, generator: torch.Generator, sigma: float) -> Tensor:
        """``n`` draws of the base at a level, ``[n, *event]``: where chains may start."""
        return self.base.sample_base(n, generator, sigma).reshape(n, *self.event_shape)

    def extra_repr(self) -> str:
        """Shown by ``print``."""
        return f"activation={self.activation!r}, detail={self.detail}"

    def _features(self, flat: Tensor, sigma: Tensor | float) -> _Features:
        if not isinstance(sigma, Tensor):
            positive(sigma=sigma)
        level = torch.as_tensor(sigma, dtype=flat.dtype, device=flat.device)
        if level.ndim > 1 or level.numel() not in (1, len(flat)):
            raise ValueError(
                f"sigma must be a number or one for each of the {len(flat)} rows of x, got the "
                f"shape {tuple(level.shape)}"
            )
        level = level.reshape(-1, 1).expand(len(flat), 1)
        centred = (flat - self.mean.to(flat)) @ self.rotation.to(flat)
        noise_variance = level.square()
        mean_variance = self.variance.mean().to(flat)
        factors = [(self.variance.to(flat) + noise_variance).rsqrt()]
        factors += [(r**2 * mean_variance + noise_variance).rsqrt() for r in self.detail]
        log_level = level.log()
        waves = torch.arange(1, _NUM_WAVES + 1, dtype=flat.dtype, device=flat.device) / 2
        sine, cosine = torch.sin(waves * log_level), torch.cos(waves * log_level)
        values = torch.cat(
            [*(centred * f for f in factors), _LOG_SIGMA_SCALE * log_level, sine, cosine], dim=1
        )
        slopes = torch.cat(
            [torch.full_like(log_level, _LOG_SIGMA_SCALE), waves * cosine, -waves * sine], dim=1
        )
        return _Features(centred, factors, values, slopes)

    def _feature_gradients(self, features: _Features) -> tuple[list[Tensor], Tensor]:
        """Gradient of the network in each block of space features, and in the level features."""
        gradient = input_gradient(
            features.values, self.layers, self.output.weight, self._activation
        )
        d = features.centred.shape[1]
        num_blocks = len(features.factors)
        blocks = list(gradient[:, : num_blocks * d].split(d, dim=1))
        return blocks, gradient[:, num_blocks * d :]

    def _space_gradient(self, features: _Features, in_centred: list[Tensor]) -> Tensor:
        """Gradient of the network in ``x``, ``[batch, d]``."""
        gradient = torch.zeros_like(features.centred)
        for block, factor in zip(in_centred, features.factors, strict=True):
            gradient = gradient + block * factor
        return gradient @ self.rotation.to(gradient).T


def _default_widths(num_coordinates: int) -> tuple[int, ...]:
    """What the benchmarks of toy densities and of a 10-dimensional mixture need, and no more."""
    return (128, 128, 128) if num_coordinates <= 4 else (256, 256, 256)


def _default_components(event_shape: tuple[int, ...]) -> int:
    """One for rows: with 20, the 10-dimensional mixture of 8 was learned worse."""
    if len(event_shape) == 1:
        return 1
    return max(1, min(_NUM_IMAGE_COMPONENTS, _COMPONENT_NUMBERS // math.prod(event_shape) ** 2))
