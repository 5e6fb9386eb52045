"""Layers drawn from a seed of their own, and the parts that every network energy has.

A confining term c/2 ||x||^2 makes exp(-E) integrable when c > 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from basin.core.room import take_room
from basin.core.tensors import event_sum
from basin.core.validation import positive_integer

__all__ = []  # for the networks of this folder, which import by path


BLOCK_ROWS = 2048
"""Rows whose hidden layers fit a processor's cache: what is evaluated at a time without a graph."""


def in_blocks(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """``function(x)`` block of rows by block, where that saves memory traffic.

    Only without a graph and on a CPU: large temporaries then cost a page fault for every page at
    every call (10,000 rows of 128 numbers took up to three times as long in one piece).
    """
    if torch.is_grad_enabled() or x.device.type != "cpu" or len(x) <= BLOCK_ROWS:
        return function(x)
    return torch.cat([function(rows) for rows in x.split(BLOCK_ROWS)])


def linear_layer(
    num_inputs: int,
    num_outputs: int,
    generator: torch.Generator,
    *,
    bias: bool = True,
    name: str = "the layer",
) -> nn.Linear:
    """``nn.Linear`` with PyTorch's usual law U(-1/sqrt(n), 1/sqrt(n)), drawn from ``generator``.

    One that no memory holds is refused by ``name``, the parameter that its size came from.
    """
    take_room(name, num_outputs, num_inputs)
    layer = nn.Linear(num_inputs, num_outputs, bias=bias, device="meta").to_empty(device="cpu")
    _draw_uniform(layer, num_inputs, generator)
    return layer


def convolution_layer(
    num_inputs: int, num_outputs: int, size: int, stride: int, generator: torch.Generator
) -> nn.Conv2d:
    """``nn.Conv2d`` of odd ``size``, padded to keep its grid, drawn from ``generator``."""
    take_room("channels", num_outputs, num_inputs, size, size)
    layer = nn.Conv2d(
        num_inputs, num_outputs, size, stride=stride, padding=size // 2, device="meta"
    ).to_empty(device="cpu")
    _draw_uniform(layer, num_inputs * size * size, generator)
    return layer


def as_event_shape(name: str, value: int | Sequence[int]) -> tuple[int, ...]:
    """``5 -> (5,)``, ``[1, 8, 8] -> (1, 8, 8)``; positive whole numbers only."""
    if not isinstance(value, int | Sequence) or isinstance(value, str):
        raise ValueError(f"{name} must be a whole number or several, got {value!r}")
    shape = (value,) if isinstance(value, int) else tuple(value)
    if not shape:
        raise ValueError(f"{name} must name at least one dimension, got {value!r}")
    for size in shape:
        positive_integer(**{name: size})
    return shape


def flatten_event(energy: object, x: Tensor, event_shape: tuple[int, ...]) -> Tensor:
    """``[batch, *event] -> [batch, d]``, or an error that says which dimension was meant."""
    num_coordinates = math.prod(event_shape)
    if x.ndim == 2 and x.shape[1] == num_coordinates:
        return x
    got = math.prod(x.shape[1:])
    if x.ndim < 2 or got != num_coordinates:
        name = type(energy).__name__
        raise ValueError(
            f"{name} takes x of shape (batch, {', '.join(map(str, event_shape))}), that is "
            f"{num_coordinates} coordinates a row, got {tuple(x.shape)}; give it such rows, or "
            f"build the {name} for {got} coordinates"
        )
    return x.reshape(len(x), num_coordinates)


def confining_energy(x: Tensor, confinement: float) -> Tensor:
    """c/2 ||x||^2 for each row, in nats."""
    return (0.5 * confinement) * event_sum(x.square())


def sample_confinement(
    energy: nn.Module,
    n: int,
    generator: torch.Generator,
    *,
    confinement: float,
    event_shape: tuple[int, ...],
) -> Tensor:
    """``n`` draws of N(0, I/c), the law of the confining term alone: where chains may start.

    Raises:
        ValueError: no confining term, so no such law; give the starting points instead.
    """
    if confinement == 0:
        raise ValueError(
            f"{type(energy).__name__} has no base law to start chains from, as its confinement "
            "is 0; give the starting points x0, or build it with confinement > 0"
        )
    parameter = next(energy.parameters())
    noise = torch.randn(
        (n, *event_shape), generator=generator, dtype=parameter.dtype, device=parameter.device
    )
    return noise / math.sqrt(confinement)


@torch.no_grad()
def _draw_uniform(layer: nn.Linear | nn.Conv2d, fan_in: int, generator: torch.Generator) -> None:
    bound = 1 / math.sqrt(fan_in)
    for parameter in layer.parameters():
        parameter.uniform_(-bound, bound, generator=generator)
