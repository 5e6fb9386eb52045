"""The steps of a chain, one after another: as the kernel takes them, or several in one graph.

    kernel      state, info = kernel.step(energy, state, generator)            step by step
    compiled    states, infos = graph(state)             as many steps in one call as are worth it

A graph of a few steps (``basin.core.graph``) has no Python and no autograd between them. It draws
the random numbers that the kernel would have drawn, in the same order; positions differ by
rounding, which a chain may carry far, so that two modes agree in law and not in the last digit.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch

from basin.core.graph import FlatGraph, NotCompilable, flat_graph
from basin.core.types import Energy, Kernel, Step, SteppedByGraphs

__all__ = ["chain_graph", "compiled_steps", "kernel_steps"]

_MOST_STEPS = 8  # in one graph
_ENOUGH_OPERATIONS = 400  # a graph of so many spends little of its time on being called


def kernel_steps(
    energy: Energy, kernel: Kernel, state: Any, generator: torch.Generator, num_steps: int
) -> Iterator[tuple[Any, Any]]:
    """``(state, info)`` after each of ``num_steps`` steps."""
    return _steps(partial(kernel.step, energy), state, generator, num_steps)


def compiled_steps(
    energy: Energy, kernel: Kernel, state: Any, generator: torch.Generator, num_steps: int
) -> Iterator[tuple[Any, Any]]:
    """The same from a graph; what is left over from whole graphs the kernel takes itself.

    Raises:
        NotCompilable: the kernel or the energy cannot be written as a graph.
    """
    inner = kernel
    while (inner := getattr(inner, "kernel", None)) is not None:
        if isinstance(inner, SteppedByGraphs):
            raise NotCompilable(f"the numbers decide how long a step of {type(inner).__name__} is")
    if isinstance(kernel, SteppedByGraphs):
        return _steps(kernel.compiled_step(energy, state, generator), state, generator, num_steps)
    graph, together = chain_graph(energy, kernel, state, generator, num_steps)

    def taken(state: Any) -> Iterator[tuple[Any, Any]]:
        for _ in range(num_steps // together):
            for state, info in graph(state):  # noqa: B020 (the last one is where the next begins)
                yield state, info
        yield from kernel_steps(energy, kernel, state, generator, num_steps % together)

    return taken(state)


def _steps(
    step: Step, state: Any, generator: torch.Generator, num_steps: int
) -> Iterator[tuple[Any, Any]]:
    for _ in range(num_steps):
        state, info = step(state, generator)
        yield state, info


def chain_graph(
    energy: Energy, kernel: Kernel, state: Any, generator: torch.Generator, num_steps: int
) -> tuple[FlatGraph, int]:
    """``graph(state) -> [(state, info), ...]`` and how many steps, at most ``num_steps``, it takes.

    Raises:
        NotCompilable: as :func:`compiled_steps`.
    """

    def graph_of(steps: int, compiled: bool = True) -> FlatGraph:
        def chain(state: Any) -> Any:
            return list(kernel_steps(energy, kernel, state, generator, steps))

        return flat_graph(chain, state, generator, compiled=compiled)

    each = graph_of(1, compiled=False).num_operations
    together = max(1, min(_MOST_STEPS, _ENOUGH_OPERATIONS // each, num_steps))
    return graph_of(together), together
