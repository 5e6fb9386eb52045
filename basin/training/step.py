"""One training step, computed and not yet taken: by autograd, or by one compiled graph.

    autograd     loss = objective(energy, batch, ...);  loss.backward();  clip
                 take: Adam and the average, in place
    graph        (loss, norm, gradient, new weights, new moments, new average)
                     = graph(weights, moments, average, batch, state)      ``basin.core.graph``
                 take: copy the new over the old

The loop looks at loss and norm in between, so that a step that went wrong is never taken. Both draw
the same random numbers and leave the clipped gradient in ``.grad``; results differ by rounding. A
graph is made at the first step, and anew when an objective gives way to a calmer one. Objectives
are the same for both: pure functions of energy, batch and state.

Whether it pays is decided before the first step, from the sizes alone, so that a run that is
repeated is compiled again and one that is resumed goes on as it began (``config.json`` tells).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from basin.core.graph import FlatGraph, NotCompilable, flat_graph
from basin.core.trees import rebuilder, tensors_of
from basin.core.types import Learned, Loss, Objective
from basin.training.adam import Adam, adam_update, clipped

__all__ = ["Proposal", "Propose", "by_autograd", "by_graph", "pays_to_compile"]


class Proposal(NamedTuple):
    """A step that can still be refused: of weights and moments nothing has moved yet.

    Attributes:
        loss: with the objective's next state.
        norms: of the gradients before clipping: the energy's, then each learned part's.
        take: moves the weights and all that follows them.
    """

    loss: Loss
    norms: list[float]
    take: Callable[[], None]


Bind = Callable[[nn.Module, Tensor], tuple[Any, Tensor]]
# objective, state, batch, learning rate, largest norm of the gradient
Propose = Callable[[Objective, Any, Tensor, float, float | None], Proposal]

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


def by_autograd(bind: Bind) -> Propose:
    """``propose(objective, state, batch, rate, clip)``: by ``backward``, and Adam's own kernel.

    Args:
        bind: as for the loop.
    """

    def propose(
        objective: Objective, state: Any, batch: Tensor, rate: float, clip: float | None
    ) -> Proposal:
        energy, x = bind(state.energy, batch)
        loss = objective(energy, x, state.objective_state, state.generators["noise"])
        optimizers = [optimizer for optimizer, _ in _optimizers(state)]
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.value.backward()

        def take() -> None:
            for part in state.learned.values():
                part.optimizer.step(rate * part.how.rate, ascend=part.how.ascends)
            if _moves_energy(objective, state):
                state.optimizer.step(rate)
                if state.average is not None:
                    state.average.update(state.step)

        return Proposal(loss, [optimizer.clip_gradient(clip) for optimizer in optimizers], take)

    return propose


def by_graph(bind: Bind, on_failure: Callable[[NotCompilable], None]) -> Propose:
    """The same by a graph, compiled at the first call.

    Args:
        bind: as for the loop.
        on_failure: called when the objective, or the energy under it, cannot be written as a graph,
            or there is no compiler; if it returns, autograd does the steps.
    """
    made: dict[Objective, Propose] = {}

    def propose(
        objective: Objective, state: Any, batch: Tensor, rate: float, clip: float | None
    ) -> Proposal:
        if objective not in made:
            made.clear()
            try:
                made[objective] = _GraphStep(objective, bind, state, batch)
            except NotCompilable as error:
                on_failure(error)
                made[objective] = by_autograd(bind)
        return made[objective](objective, state, batch, rate, clip)

    return propose


def _optimizers(state: Any) -> list[tuple[Adam, Learned]]:
    """The energy's, and those of the parts beside it."""
    parts = [(part.optimizer, part.how) for part in state.learned.values()]
    return [(state.optimizer, Learned()), *parts]


def _moves_energy(objective: Objective, state: Any) -> bool:
    """Whether the energy moves too, or this step is only its learned parts'."""
    return (state.step + 1) % objective.learned_steps == 0


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


class _Trained(NamedTuple):
    """A weight as the graph's step moves it: which optimiser's, and what is written over."""

    group: int
    weight: Tensor
    first: Tensor
    second: Tensor


class _GraphStep:
    """The graph of one objective's step, and what goes into it and comes out."""

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

        self._settled, self._is_settled = _numbers(first), False

        def loss_of(batch: Tensor, fields: dict[str, Tensor]) -> Loss:
            energy, x = bind(state.energy, batch)
            now = first if first is None else first._replace(**fields, **self._settled)
            return objective(energy, x, now, generator)

        self._modules = _Modules(state.energy, parts, loss_of)
        self._parameters = {n: p for n, p in self._modules.named_parameters() if p.requires_grad}
        self._optimizers = _optimizers(state)
        names = {parameter: name for name, parameter in self._parameters.items()}
        self._trained = _weights_of(self._optimizers, names)
        # Found once: they share their memory with what is trained. Flat, as a tree of inputs would
        # be gone through at every step.
        named = [*self._modules.named_parameters(), *self._modules.named_buffers()]
        averaged = {} if state.average is None else dict(state.average.module.named_parameters())
        self._dtype = next(iter(self._parameters.values())).dtype
        counts = [optimizer.count for optimizer, _ in self._optimizers]
        kept = (
            {name: tensor.detach() for name, tensor in named},
            {name: (one.first, one.second) for name, one in self._trained.items()},
            {f"energy.{name}": tensor for name, tensor in averaged.items()},
            counts,
        )
        self._kept, rebuilt = tensors_of(kept), rebuilder(kept)
        self._terms: list[str] = []
        self._with_gradient: list[str] = []

        def step(inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            kept = inputs[: len(self._kept)]
            numbers, batch, *fields = inputs[len(self._kept) :]
            given, moments, average, counts = rebuilt(iter(kept))
            weights = {
                name: tensor.detach().requires_grad_(name in self._parameters)
                for name, tensor in given.items()
            }
            with torch.enable_grad():
                named_fields = dict(zip(_fields(first), fields, strict=True))
                loss = functional_call(self._modules, weights, (batch, named_fields))
                found = torch.autograd.grad(
                    loss.value, [weights[name] for name in self._parameters], allow_unused=True
                )
            pairs = zip(self._parameters, found, strict=True)
            gradients = {n: g for n, g in pairs if g is not None and n in self._trained}
            self._terms, self._with_gradient = list(loss.terms), list(gradients)
            self._settle(objective, _numbers(loss.state))
            with torch.no_grad():
                gradients, norms, moved = self._updated(weights, gradients, moments, numbers)
                after = {**weights, **{name: weight for name, (weight, *_) in moved.items()}}
                average = [a + numbers[1] * (after[name] - a) for name, a in average.items()]
                counts = [count + 1 for count in counts]
            return (
                loss.value,
                *(torch.as_tensor(term) for term in loss.terms.values()),
                *norms,
                *gradients.values(),
                *self._in_order(moved, average, counts),
                *_fields(loss.state).values(),
            )

        self._graph: FlatGraph = flat_graph(
            step, self._inputs(state, batch, 0.0, None), generator, compiled=compiled
        )
        old = {name: self._trained[name][1:] for name in self._with_gradient}
        self._old = self._in_order(old, list(averaged.values()), counts)
        num_moved = sum(self._trained[name].group == 0 for name in old)
        self._num_of_energy = 3 * num_moved + len(averaged) + 1

    def __call__(
        self, objective: Objective, state: Any, batch: Tensor, rate: float, clip: float | None
    ) -> Proposal:
        found = iter(self._graph(self._inputs(state, batch, rate, clip)))
        value = next(found)
        terms = dict(zip(self._terms, found, strict=False))
        norms = [float(norm) for norm in islice(found, len(self._optimizers))]
        for parameter in self._parameters.values():
            parameter.grad = None
        for name, gradient in zip(self._with_gradient, found, strict=False):
            self._parameters[name].grad = gradient
        new = list(islice(found, len(self._old)))
        now = state.objective_state
        if now is not None:
            now = now._replace(**dict(zip(_fields(now), found, strict=True)), **self._settled)

        def take() -> None:
            start = 0 if _moves_energy(objective, state) else self._num_of_energy
            with torch.no_grad():
                torch._foreach_copy_(self._old[start:], new[start:])  # pyright: ignore[reportPrivateImportUsage]

        return Proposal(Loss(value, terms, now), norms, take)

    def _updated(
        self,
        weights: dict[str, Tensor],
        gradients: dict[str, Tensor],
        moments: dict[str, tuple[Tensor, Tensor]],
        numbers: Tensor,
    ) -> tuple[dict[str, Tensor], list[Tensor], dict[str, tuple[Tensor, Tensor, Tensor]]]:
        """Gradients clipped, norms they had, and ``(weight, first, second)`` after the step."""
        limit, _, *paces = numbers.unbind()
        after, norms, moved = dict(gradients), [], {}
        for group, (optimizer, how) in enumerate(self._optimizers):
            names = [name for name in gradients if self._trained[name].group == group]
            scaled, norm = clipped([gradients[name] for name in names], limit)
            norms.append(norm)
            pace = paces[2 * group], paces[2 * group + 1]
            for name, gradient in zip(names, scaled, strict=True):
                down = -gradient if how.ascends else gradient
                after[name] = gradient
                moved[name] = adam_update(
                    weights[name], down, *moments[name], pace, optimizer.betas
                )
        return after, norms, moved

    def _in_order(
        self, moved: dict[str, Any], average: list[Tensor], counts: list[Tensor]
    ) -> list[Tensor]:
        """What a step writes over: the energy's, which may have to wait, and then the parts'."""
        of_group: list[list[Tensor]] = [[] for _ in counts]
        for name, three in moved.items():
            of_group[self._trained[name].group] += three
        of_group[0] += average
        return [
            t for tensors, count in zip(of_group, counts, strict=True) for t in (*tensors, count)
        ]

    def _settle(self, objective: Objective, after: dict[str, Any]) -> None:
        """A graph holds the numbers of a state as the first step leaves them."""
        before, self._settled = self._settled, after
        for name, value in before.items():
            now = after[name]
            if self._is_settled and now is not value and now != value:
                raise NotCompilable(
                    f"{type(objective).__name__} counts in its state ({name} went from {value!r} "
                    f"to {now!r}); keep what changes in tensors"
                )
        self._is_settled = True

    def _inputs(
        self, state: Any, batch: Tensor, rate: float, clip: float | None
    ) -> tuple[Tensor, ...]:
        """What is kept; then the numbers of this step: largest norm, paces of average and Adams."""
        numbers = [math.inf if clip is None else clip]
        numbers.append(0.0 if state.average is None else state.average.pace(state.step))
        for optimizer, how in self._optimizers:
            numbers += optimizer.pace(rate * how.rate)
        told = torch.tensor(numbers, dtype=self._dtype, device=batch.device)
        return (*self._kept, told, batch, *_fields(state.objective_state).values())


def _fields(state: Any) -> dict[str, Tensor]:
    """The tensors of an objective's state."""
    fields = {} if state is None else state._asdict()
    return {name: value for name, value in fields.items() if isinstance(value, Tensor)}


def _numbers(state: Any) -> dict[str, Any]:
    """What else it holds: numbers, words, modules."""
    fields = {} if state is None else state._asdict()
    return {name: value for name, value in fields.items() if not isinstance(value, Tensor)}


def _weights_of(
    optimizers: list[tuple[Adam, Learned]], names: dict[nn.Parameter, str]
) -> dict[str, _Trained]:
    """Every weight that an optimiser moves, by its name; they share their memory with it."""
    return {
        names[parameter]: _Trained(group, parameter.detach(), first, second)
        for group, (optimizer, _) in enumerate(optimizers)
        for parameter, first, second in zip(
            optimizer.parameters, optimizer.first, optimizer.second, strict=True
        )
    }
