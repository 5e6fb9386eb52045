"""A convolutional energy for images.

    E(x) = w' h_L + c/2 ||x||^2,      h_l = f(convolution of stride 2 of h_(l-1)),  h_0 = x

    dE/dx = C_1' (f'(a_1) * ... C_L' (f'(a_L) * w)) + c x,      a_l = C_l h_(l-1) + b_l

Each layer halves the grid (rounding up), so the last is small enough for one linear layer without
a bias. Strides, not pooling: max-pooling has kinks. C_l' is the transposed convolution. Cost: the
first layers carry most of it; a score costs twice an energy.

Between the layers the channels of a pixel lie side by side in memory, which processors take at
about two thirds of the time; the first layer, which has few channels to add over, is a matrix
product over patches of the image and leaves them so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from basin.core.validation import non_negative, seed_number
from basin.energies.networks.activations import activation_named
from basin.energies.networks.layers import (
    as_event_shape,
    confining_energy,
    convolution_layer,
    flatten_event,
    linear_layer,
    sample_confinement,
)

__all__ = ["Conv"]

_KERNEL_SIZE, _STRIDE, _PADDING = 3, 2, 1


class Conv(nn.Module):
    """A convolutional network ``[batch, *event] -> [batch]``, energies in nats.

    Args:
        event_shape: ``(channels, height, width)``, or ``(height, width)`` for one channel.
        channels: of the layers, each of which halves the grid.
        activation: ``silu``, ``softplus``, ``gelu``, ``tanh`` or ``relu`` (the last has a zero
            Hessian, and objectives made of scores refuse it).
        confinement: c >= 0 of the added c/2 ||x||^2.
        seed: of the initial weights, which follow PyTorch's usual laws.

    Raises:
        ValueError: a parameter out of its range, or images of another shape.

    Example:
        >>> import torch
        >>> Conv((1, 8, 8), channels=(4, 8))(torch.zeros(3, 1, 8, 8)).shape
        torch.Size([3])
    """

    def __init__(
        self,
        event_shape: Sequence[int] = (1, 28, 28),
        channels: Sequence[int] = (32, 64, 128),
        activation: str = "silu",
        confinement: float = 0.0,
        *,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.event_shape = as_event_shape("event_shape", event_shape)
        if len(self.event_shape) not in (2, 3):
            raise ValueError(
                "event_shape must be (channels, height, width) or (height, width), "
                f"got {self.event_shape}"
            )
        self.channels = as_event_shape("channels", channels)
        non_negative(confinement=confinement)
        self.activation = activation
        self.confinement = confinement
        self.seed = seed
        self._activation = activation_named(activation)
        self._image_shape = (1, *self.event_shape)[-3:]
        seed_number(seed=seed)
        generator = torch.Generator().manual_seed(seed)
        sizes = (self._image_shape[0], *self.channels)
        self.layers = nn.ModuleList(
            convolution_layer(before, after, _KERNEL_SIZE, _STRIDE, generator)
            for before, after in pairwise(sizes)
        )
        reduction = _STRIDE ** len(self.channels)
        height, width = (math.ceil(side / reduction) for side in self._image_shape[1:])
        self.output = linear_layer(self.channels[-1] * height * width, 1, generator, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """E(x), ``[batch]``."""
        flat = flatten_event(self, x, self.event_shape)
        first, *others = self.layers
        h = self._activation.value(_first(first, self._images(flat)))
        for layer in others:
            h = self._activation.value(layer(h))
        energy = self.output(h.flatten(1)).squeeze(-1)
        return energy + confining_energy(flat, self.confinement) if self.confinement else energy

    def score(self, x: Tensor) -> Tensor:
        """-dE/dx in closed form, shape of ``x``; differentiable in ``x`` and in the weights."""
        flat = flatten_event(self, x, self.event_shape)
        first, *others = self.layers
        images = self._images(flat)
        h, slope = self._activation.value_and_slope(_first(first, images))
        grids, slopes = [images.shape[2:]], [slope]
        for layer in others:
            grids.append(h.shape[2:])
            h, slope = self._activation.value_and_slope(layer(h))
            slopes.append(slope)
        gradient = slopes[-1] * self.output.weight.reshape(1, *h.shape[1:])
        for layer, grid, slope in zip(others[::-1], grids[:0:-1], slopes[-2::-1], strict=True):
            gradient = _transposed(layer, gradient, grid) * slope
        gradient = _first_transposed(first, gradient, grids[0])
        score = -gradient.reshape(flat.shape)
        if self.confinement:
            score = score - self.confinement * flat
        return score.reshape(x.shape)

    def _images(self, flat: Tensor) -> Tensor:
        return flat.reshape(len(flat), *self._image_shape)

    def sample_base(self, n: int, generator: torch.Generator) -> Tensor:
        """``n`` draws of N(0, I/confinement), to start chains from."""
        return sample_confinement(
            self, n, generator, confinement=self.confinement, event_shape=self.event_shape
        )

    def extra_repr(self) -> str:
        """Shown by ``print``."""
        return f"activation={self.activation!r}, confinement={self.confinement}"


def _first(layer: Any, images: Tensor) -> Tensor:
    """``layer(images)`` by one matrix product over patches."""
    patches = functional.unfold(images, _KERNEL_SIZE, padding=_PADDING, stride=_STRIDE)
    found = functional.linear(patches.transpose(1, 2), layer.weight.flatten(1), layer.bias)
    height, width = ((side + 1) // _STRIDE for side in images.shape[2:])
    return found.transpose(1, 2).unflatten(2, (height, width))


def _first_transposed(layer: Any, gradient: Tensor, grid: torch.Size) -> Tensor:
    """The gradient in the images from that in ``_first(layer, images)``."""
    patches = (gradient.flatten(2).transpose(1, 2) @ layer.weight.flatten(1)).transpose(1, 2)
    return functional.fold(patches, grid, _KERNEL_SIZE, padding=_PADDING, stride=_STRIDE)


def _transposed(layer: Any, gradient: Tensor, grid: torch.Size) -> Tensor:
    """The gradient in ``h`` of that grid from that in ``layer(h)``."""
    rest = [
        side + 1 - _STRIDE * below for side, below in zip(grid, gradient.shape[2:], strict=True)
    ]
    return functional.conv_transpose2d(
        gradient, layer.weight, None, _STRIDE, _PADDING, output_padding=rest
    )
