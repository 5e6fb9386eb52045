"""Rows of whole numbers: their check, their neighbours, every state there is.

    x in {0, ..., K-1}^d        K = num_states; binary rows are 0 and 1
    N(x)                        the d (K-1) neighbours of x: the rows that differ in one coordinate

A row is a float tensor like any other, so that energies, batches and conditions need no second
kind of tensor. Energies of neighbours are differences E(x) - E(y), where Z drops out as it does
in a score: this is what the discrete objectives are made of.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from basin.core.conditions import repeated
from basin.core.precision import evaluated
from basin.core.validation import batch_of_energies, floating_point, positive_integer

__all__ = [
    "corrupted",
    "declared_states",
    "draw_states",
    "energies_of_all_states",
    "energy_drops",
    "independent_coordinates",
    "is_enumerable",
    "number_of_states",
    "one_hot",
    "random_coordinates",
    "require_same_states",
    "state_numbers",
    "states",
    "uniform_states",
    "whole_numbers",
]

MOST_STATES = 2**20
"""States that are enumerated at most: 20 binary coordinates, a second of a small network."""

NUMBERS_AT_ONCE = 2**22
"""Coordinates of neighbours given to an energy in one call: 16 MB of float32."""

ROWS_AT_ONCE = 2**17
"""Neighbours given to an energy in one call: 64 MB a hidden layer of 128 units."""


def number_of_states(num_states: int) -> None:
    """Raise ``ValueError`` unless ``num_states`` is a whole number of at least two."""
    if isinstance(num_states, bool) or not isinstance(num_states, int) or num_states < 2:
        raise ValueError(f"num_states must be a whole number of at least 2, got {num_states!r}")


def whole_numbers(name: str, x: Tensor, num_states: int, *, first_row: int = 0) -> None:
    """Raise ``ValueError`` unless ``x`` holds whole numbers from 0 to ``num_states - 1``.

    The sentence names the first value that is none; ``first_row`` is the number of x's first row.
    Cost: one pass over x.
    """
    floating_point(name, x)
    is_bad = (x != x.round()) | (x < 0) | (x > num_states - 1)
    if not bool(is_bad.any()):
        return
    first = is_bad.reshape(-1).nonzero()[0, 0]
    value = float(x.reshape(-1)[first])
    is_whole = math.isfinite(value) and value == round(value)
    width = max(1, math.prod(x.shape[1:]))
    row, coordinate = divmod(int(first), width)
    mend = ""
    if is_whole and value >= num_states:
        mend = f"; say num_states={int(value) + 1} or more if there are so many values"
    elif value == -1 and num_states == 2:
        mend = "; spins of -1 and 1 become 0 and 1 by (x + 1) / 2"
    elif math.isfinite(value) and not is_whole:
        mend = "; rows must not be standardised"
    raise ValueError(
        f"{name} must hold whole numbers from 0 to {num_states - 1} (num_states={num_states}), "
        f"got {value:g} in row {first_row + row}, coordinate {coordinate}{mend}"
    )


def one_hot(x: Tensor, num_states: int) -> Tensor:
    """``[...] -> [..., num_states]``: 1 at each value's own place, in the dtype of x."""
    values = torch.arange(num_states, dtype=x.dtype, device=x.device)
    return (x.unsqueeze(-1) == values).to(x.dtype)


def states(start: int, stop: int, num_coordinates: int, num_states: int) -> Tensor:
    """The states numbered ``start`` to ``stop - 1``, ``[stop - start, d]`` of int64.

    A state's number is the row read as a number of d digits in base K, the first digit highest.

    Example:
        >>> states(0, 4, num_coordinates=2, num_states=2).tolist()
        [[0, 0], [0, 1], [1, 0], [1, 1]]
    """
    powers = _powers(num_coordinates, num_states)
    return torch.arange(start, stop).unsqueeze(1) // powers % num_states


def state_numbers(x: Tensor, num_states: int) -> Tensor:
    """The number of each row, ``[batch]`` of int64; the inverse of :func:`states`."""
    flat = x.flatten(1).long()
    return (flat * _powers(flat.shape[1], num_states).to(flat.device)).sum(1)


def energies_of_all_states(
    energy: Any, event_shape: Sequence[int], num_states: int, *, dtype: torch.dtype | None = None
) -> Tensor:
    """E of every state in the order of :func:`states`, ``[K^d]`` of float64, without a graph.

    Args:
        energy: callable ``[batch, *event] -> [batch]``.
        event_shape: shape of one row.
        num_states: values of a coordinate.
        dtype: of the rows; None takes that of the energy's parameters or buffers.

    Raises:
        ValueError: more states than can be enumerated.

    Cost: K^d energies, at most about a million, in blocks.
    """
    number_of_states(num_states)
    num_coordinates = math.prod(event_shape)
    total = require_enumerable(type(energy).__name__, num_coordinates, num_states)
    example = _first_tensor(energy)
    device = torch.device("cpu") if example is None else example.device
    if dtype is None:
        dtype = torch.get_default_dtype() if example is None else example.dtype
    rows = max(1, NUMBERS_AT_ONCE // max(num_coordinates, 64))
    parts = []
    with torch.no_grad():
        for start in range(0, total, rows):
            block = states(start, min(start + rows, total), num_coordinates, num_states)
            x = block.to(device=device, dtype=dtype).reshape(-1, *event_shape)
            parts.append(batch_of_energies(energy, x, evaluated(energy, energy, x)).double())
    return torch.cat(parts).cpu()


def draw_states(
    energies: Tensor,
    n: int,
    event_shape: Sequence[int],
    num_states: int,
    generator: torch.Generator,
) -> Tensor:
    """``n`` independent exact draws ``[n, *event]`` from exp(-E) / Z, of PyTorch's default type.

    Args:
        energies: of all states, ``[K^d]``, as :func:`energies_of_all_states` gives them.
    """
    positive_integer(n=n)
    device = generator.device
    edges = torch.softmax(-energies.double(), 0).cumsum(0).to(device)
    uniform = torch.rand(n, generator=generator, dtype=torch.float64, device=device)
    drawn = torch.searchsorted(edges[:-1].contiguous(), uniform, right=True)
    powers = _powers(math.prod(event_shape), num_states).to(device)
    rows = drawn.unsqueeze(1) // powers % num_states
    return rows.reshape(n, *event_shape).to(torch.get_default_dtype())


def uniform_states(
    n: int, event_shape: Sequence[int], num_states: int, generator: torch.Generator
) -> Tensor:
    """``n`` rows of independent uniform values, ``[n, *event]``, of PyTorch's default type."""
    positive_integer(n=n)
    shape = (n, *event_shape)
    drawn = torch.randint(num_states, shape, generator=generator, device=generator.device)
    return drawn.to(torch.get_default_dtype())


def is_enumerable(num_coordinates: int, num_states: int) -> bool:
    """Whether the K^d states are at most :data:`MOST_STATES`."""
    return num_coordinates * math.log2(num_states) <= math.log2(MOST_STATES)


def require_enumerable(name: str, num_coordinates: int, num_states: int) -> int:
    """K^d, or a ``ValueError`` where that is more than :data:`MOST_STATES`."""
    if not is_enumerable(num_coordinates, num_states):
        raise ValueError(
            f"{name} must have at most {MOST_STATES:,} states to sum over all of them, got "
            f"{num_states}^{num_coordinates}"
        )
    return num_states**num_coordinates


def energy_drops(
    energy: Any, x: Tensor, num_states: int, coordinates: Tensor | None = None
) -> Tensor:
    """E(x) - E(y) = log p(y)/p(x) for neighbours y of each row, ``[batch, coordinates, K-1]``.

    Entry [b, j, k-1] is about the row b whose coordinate i = coordinates[b, j] became
    (x_i + k) mod K.

    Args:
        energy: callable ``[batch, *event] -> [batch]``, or one bound to the rows' conditions.
        x: whole numbers, ``[batch, *event]``.
        num_states: K.
        coordinates: which coordinates of each row to change, ``[batch, m]`` of int64; None is all.

    Raises:
        ValueError: x holds something else, or the energy is one of other numbers of states.

    Cost: 1 + m (K-1) energies a row, in one call of the energy where they are at most
    ``ROWS_AT_ONCE`` of ``NUMBERS_AT_ONCE`` coordinates. Beyond, in blocks of whole batches, and
    with a graph each block keeps its inputs only and is computed once more on the way back: memory
    does not grow with d K, time does by a third.
    """
    whole_numbers("x", x, num_states)
    require_same_states(energy, num_states)
    if coordinates is None:
        num_coordinates = math.prod(x.shape[1:])
        coordinates = torch.arange(num_coordinates, device=x.device).expand(len(x), -1)
    total = 1 + coordinates.shape[1] * (num_states - 1)
    copies = max(1, min(NUMBERS_AT_ONCE // max(1, x.numel()), ROWS_AT_ONCE // max(1, len(x))))

    def energies(x: Tensor, start: int, stop: int) -> Tensor:
        """Of copies of the batch, ``[copies, batch]``: copy 0 as it is, copy c with change c."""
        rows = _changed(x, coordinates, num_states, start, stop)
        bound = repeated(energy, stop - start)
        values = evaluated(bound, energy, rows)
        return batch_of_energies(energy, rows, values).view(stop - start, len(x))

    if total <= copies:
        every = energies(x, 0, total)
    else:
        blocks = [(start, min(start + copies, total)) for start in range(0, total, copies)]
        every = torch.cat([_bounded(energies, x, start, stop) for start, stop in blocks])
    return (every[0] - every[1:]).t().reshape(len(x), -1, num_states - 1)


def random_coordinates(
    x: Tensor, num_coordinates: int | None, generator: torch.Generator
) -> Tensor | None:
    """``num_coordinates`` different coordinates of each row, ``[batch, m]``; None where all are."""
    total = math.prod(x.shape[1:])
    if num_coordinates is None or num_coordinates >= total:
        return None
    order = torch.rand(len(x), total, generator=generator, device=x.device).argsort(dim=1)
    return order[:, :num_coordinates]


def independent_coordinates(x: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """``n`` rows with every coordinate from a row of ``x`` of its own, ``[n, *event]``.

    Each coordinate has its own law in x, and none depends on another.
    """
    flat = x.flatten(1)
    shape = (n, flat.shape[1])
    row = torch.randint(len(x), shape, generator=generator, device=generator.device)
    return flat.gather(0, row.to(x.device)).reshape(n, *x.shape[1:])


def corrupted(x: Tensor, rate: float, num_states: int, generator: torch.Generator) -> Tensor:
    """Each coordinate replaced, with probability ``rate``, by one of the K-1 others at random."""
    is_replaced = torch.rand(x.shape, generator=generator, device=x.device) < rate
    shift = torch.randint(1, num_states, x.shape, generator=generator, device=x.device)
    return torch.where(is_replaced, (x + shift.to(x.dtype)) % num_states, x)


def declared_states(energy: Any) -> tuple[str, int] | None:
    """Who says how many values a coordinate has, and how many; None where nobody does.

    The energy itself, or one that it wraps and holds as ``.energy``.
    """
    inner = energy
    for _ in range(8):
        declared = getattr(inner, "num_states", None)
        if declared is not None:
            return type(inner).__name__, declared
        inner = getattr(inner, "energy", None)
        if inner is None:
            break
    return None


def require_same_states(energy: Any, num_states: int) -> None:
    """Raise ``ValueError`` where the energy says another number of states than ``num_states``."""
    declared = declared_states(energy)
    if declared is not None and declared[1] != num_states:
        raise ValueError(
            f"num_states must be that of {declared[0]}, {declared[1]}, got {num_states}"
        )


def _changed(x: Tensor, coordinates: Tensor, num_states: int, start: int, stop: int) -> Tensor:
    """Copies ``start`` to ``stop - 1`` of the batch, one after the other; copy 0 has no change.

    Copy 1 + j (K-1) + (k-1) adds k, modulo K, to the j-th of the given coordinates of each row.
    """
    copy = torch.arange(start, stop, device=x.device)
    which = [max(0, c - 1) // (num_states - 1) for c in range(start, stop)]
    shift = torch.where(copy == 0, 0, (copy - 1) % (num_states - 1) + 1)[:, None, None]
    place = coordinates[:, which].t().unsqueeze(-1)
    rows = x.flatten(1).repeat(stop - start, 1).view(stop - start, len(x), -1)
    rows.scatter_(2, place, (rows.gather(2, place) + shift) % num_states)
    return rows.view(-1, *x.shape[1:])


def _bounded(function: Any, x: Tensor, start: int, stop: int) -> Tensor:
    if not torch.is_grad_enabled():
        return function(x, start, stop)
    values = checkpoint(function, x, start, stop, use_reentrant=False)
    assert isinstance(values, Tensor)
    return values


def _powers(num_coordinates: int, num_states: int) -> Tensor:
    return torch.tensor([num_states**i for i in reversed(range(num_coordinates))])


def _first_tensor(energy: Any) -> Tensor | None:
    def tensors() -> Iterator[Tensor]:
        if isinstance(energy, torch.nn.Module):
            yield from energy.parameters()
            yield from energy.buffers()

    return next((t for t in tensors() if t.is_floating_point()), None)
