"""The energies that another one is made of: kept once each, called alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from basin.core.gradients import energy_and_score, score
from basin.core.validation import batch_of_energies

__all__ = []  # for the energies of this folder, which import by path


def members(owner: str, energies: Sequence[Any]) -> nn.ModuleList:
    """The energies as a module list: at least one, each callable, no weight in two of them.

    Raises:
        ValueError: none given, or two that share weights, which a file would then hold twice.
        TypeError: one is not callable.
    """
    energies = list(energies)
    if not energies:
        raise ValueError(f"{owner} must have at least one energy, got none")
    for energy in energies:
        if not callable(energy):
            raise TypeError(
                f"{owner} takes energies, callables (batch, ...) -> (batch,), got {energy!r}"
            )
    modules = [e if isinstance(e, nn.Module) else _FunctionEnergy(e) for e in energies]
    holder: dict[int, int] = {}
    for index, module in enumerate(modules):
        for tensor in {id(t): t for t in (*module.parameters(), *module.buffers())}.values():
            first = holder.setdefault(id(tensor), index)
            if first != index:
                raise ValueError(
                    f"{owner} must hold each weight once, got energies {first} and {index} with "
                    "weights in common; give copy.deepcopy(energy) for one of them, or "
                    "Tempered(energy, 1 / 2) for an energy counted twice"
                )
    return nn.ModuleList(modules)


def member_energy(energy: Any, x: Tensor) -> Tensor:
    """E(x), ``[batch]``, checked: a ``(batch, 1)`` result would broadcast in a sum."""
    return batch_of_energies(energy, x, energy(x))


def member_score(energy: Any, x: Tensor) -> Tensor:
    """s(x): closed form where offered; keeps the graph when gradients are on."""
    return score(energy, x, create_graph=torch.is_grad_enabled())


def member_energy_and_score(energy: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """Both at once; see :func:`member_score`."""
    if hasattr(energy, "score"):
        return member_energy(energy, x), member_score(energy, x)
    return energy_and_score(energy, x, create_graph=torch.is_grad_enabled())


def event_shape_of(energies: Sequence[Any]) -> tuple[int, ...]:
    """The event shape that the first energy with one states.

    Raises:
        AttributeError: none states one.
    """
    for energy in energies:
        shape = getattr(energy, "event_shape", None)
        if shape is not None:
            return tuple(shape)
    raise AttributeError("event_shape: none of the energies states one")


class _FunctionEnergy(nn.Module):
    """A plain function in a module's clothes, so that a module list can hold it."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)
