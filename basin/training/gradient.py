"""The loss of a batch and its gradient: by autograd, or by one compiled graph of the whole step.

    autograd     loss = objective(energy, batch, ...);  loss.backward()
    compiled     (loss, gradient) = graph(parameters, batch, state)      ``basin.core.graph``

Both draw the same random numbers and leave the gradient where the optimisers look for it. Their
results differ by rounding. A graph is made at the first step, and anew when an objective gives way
to a calmer one. Objectives are the same for both: pure functions of energy, batch and state.

Whether it pays is decided before the first step, from the sizes alone, so that a run that is
repeated is compiled again and one that is resumed goes on as it began (``config.json`` tells).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from basin.core.graph import FlatGraph, NotCompilable, flat_graph
from basin.core.types import Loss, Objective

__all__ = ["Gradient", "by_autograd", "compiled_gradient", "pays_to_compile"]

Bind = Callable[[nn.Module, Tensor], tuple[Any, Tensor]]
Gradient = Callable[[Objective, Any, Tensor], Loss]

# A step is taken for a millisecond of Python and autograd beside its arithmetic: six products a
# layer, with both passes and the gradient of both, at the speed of one core.
_OVERHEAD, _PRODUCTS, _OPERATIONS_A_SECOND = 1e-3, 6, 2e10
# Compiling takes half a minute at most and saves about a third of the steps' time (measured:
# benchmarks/speed.py), so this much is paid back a few times over.
_ENOUGH_SECONDS = 300.0


def pays_to_compile(energy: nn.Module, num_rows: int, num_steps: int) -> bool:
    """Whether a run of that size takes long enough, by a count of operations and not a clock.

    Example:
        >>> import basin
        >>> energy = basin.energies.MLP(2)
        >>> pays_to_compile(energy, 1024, 4000), pays_to_compile(energy, 1024, 1_000_000)
        (False, True)
    """
    num_parameters = sum(parameter.numel() for parameter in energy.parameters())
    operations = 2 * _PRODUCTS * num_rows * num_parameters
    return num_steps * (_OVERHEAD + operations / _OPERATIONS_A_SECOND) >= _ENOUGH_SECONDS


def by_autograd(bind: Bind) -> Gradient:
    """``gradient(objective, state, batch)``: the loss, its gradient left in ``.grad``."""

    def gradient(objective: Objective, state: Any, batch: Tensor) -> Loss:
        energy, x = bind(state.energy, batch)
        loss = objective(energy, x, state.objective_state, state.generators["noise"])
        for optimizer in [state.optimizer, *(part.optimizer for part in state.learned.values())]:
            optimizer.zero_grad()
        loss.value.backward()
        return loss

    return gradient


def compiled_gradient(bind: Bind, on_failure: Callable[[NotCompilable], None]) -> Gradient:
    """The same by a graph, compiled at the first call.

    Args:
        bind: as for the loop.
        on_failure: called when the objective, or the energy under it, cannot be written as a graph,
            or there is no compiler; if it returns, autograd does the steps.
    """
    made: dict[Objective, Gradient] = {}

    def gradient(objective: Objective, state: Any, batch: Tensor) -> Loss:
        if objective not in made:
            made.clear()
            try:
                made[objective] = _Step(objective, bind, state, batch)
            except NotCompilable as error:
                on_failure(error)
                made[objective] = by_autograd(bind)
        return made[objective](objective, state, batch)

    return gradient


class _Modules(nn.Module):
    """The energy and the learned parts under one roof, so that all weights can be handed in."""

    def __init__(
        self, energy: nn.Module, parts: dict[str, nn.Module], loss: Callable[..., Loss]
    ) -> None:
        super().__init__()
        self.energy, self.parts = energy, nn.ModuleDict(parts)
        self._loss = loss

    def forward(self, batch: Tensor, fields: dict[str, Tensor]) -> Loss:
        return self._loss(batch, fields)


class _Step:
    """The graph of one objective, and what goes into it and comes out."""

    def __init__(
        self,
        objective: Objective,
        bind: Bind,
        state: Any,
        batch: Tensor,
        *,
        compiled: bool = True,
    ) -> None:
        first, generator = state.objective_state, state.generators["noise"]
        parts = {name: getattr(first, name) for name in state.learned}

        self._numbers, self._is_settled = _numbers(first), False

        def loss_of(batch: Tensor, fields: dict[str, Tensor]) -> Loss:
            energy, x = bind(state.energy, batch)
            now = first if first is None else first._replace(**fields, **self._numbers)
            return objective(energy, x, now, generator)

        self._modules = _Modules(state.energy, parts, loss_of)
        self._trained = {n: p for n, p in self._modules.named_parameters() if p.requires_grad}
        # Found once: they share their memory with what the optimisers move. Flat, as the tree of
        # a step's inputs and results is gone through at every step.
        named = [*self._modules.named_parameters(), *self._modules.named_buffers()]
        self._weights = {name: tensor.detach() for name, tensor in named}
        self._with_gradient: list[str] = []
        self._terms: list[str] = []

        def step(inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            weights = {
                name: tensor.detach().requires_grad_(name in self._trained)
                for name, tensor in zip(self._weights, inputs, strict=False)
            }
            batch, *fields = inputs[len(weights) :]
            fields = dict(zip(_fields(first), fields, strict=True))
            with torch.enable_grad():
                loss = functional_call(self._modules, weights, (batch, fields))
                found = torch.autograd.grad(
                    loss.value, [weights[name] for name in self._trained], allow_unused=True
                )
            gradients = dict(zip(self._trained, found, strict=True))
            self._with_gradient = [name for name, g in gradients.items() if g is not None]
            self._terms = list(loss.terms)
            self._settle(objective, _numbers(loss.state))
            return (
                loss.value,
                *(torch.as_tensor(term) for term in loss.terms.values()),
                *(gradients[name].contiguous() for name in self._with_gradient),
                *_fields(loss.state).values(),
            )

        self._graph: FlatGraph = flat_graph(
            step, self._inputs(state, batch), generator, compiled=compiled
        )

    def __call__(self, objective: Objective, state: Any, batch: Tensor) -> Loss:
        value, *found = self._graph(self._inputs(state, batch))
        terms = dict(zip(self._terms, found, strict=False))
        del found[: len(terms)]
        for parameter in self._trained.values():
            parameter.grad = None
        for name, gradient in zip(self._with_gradient, found, strict=False):
            self._trained[name].grad = gradient
        del found[: len(self._with_gradient)]
        now = state.objective_state
        if now is not None:
            now = now._replace(**dict(zip(_fields(now), found, strict=True)), **self._numbers)
        return Loss(value, terms, now)

    def _settle(self, objective: Objective, after: dict[str, Any]) -> None:
        """A graph holds the numbers of a state as the first step leaves them."""
        before, self._numbers = self._numbers, after
        for name, value in before.items():
            now = after[name]
            if self._is_settled and now is not value and now != value:
                raise NotCompilable(
                    f"{type(objective).__name__} counts in its state ({name} went from {value!r} "
                    f"to {now!r}); keep what changes in tensors"
                )
        self._is_settled = True

    def _inputs(self, state: Any, batch: Tensor) -> tuple[Tensor, ...]:
        return (*self._weights.values(), batch, *_fields(state.objective_state).values())


def _fields(state: Any) -> dict[str, Tensor]:
    """The tensors of an objective's state."""
    fields = {} if state is None else state._asdict()
    return {name: value for name, value in fields.items() if isinstance(value, Tensor)}


def _numbers(state: Any) -> dict[str, Any]:
    """What else it holds: numbers, words, modules."""
    fields = {} if state is None else state._asdict()
    return {name: value for name, value in fields.items() if not isinstance(value, Tensor)}
