"""The next training steps, computed and not yet taken: by autograd, or by one compiled graph.

    autograd     loss = objective(energy, batch, ...);  loss.backward();  clip
                 take: Adam and the average, in place; one step after the other
    graph        (losses, norms, new weights, new moments, new average)
                     = graph(weights, moments, average, batches, state)    ``basin.core.graph``
                 take: copy the new over the old; a few steps at once

The loop looks at losses and norms in between, so that a step that went wrong is never taken. Both
draw the same random numbers; results differ by rounding. A graph is made at the first step, and
anew when an objective gives way to a calmer one. Objectives are the same for both: pure functions
of energy, batch and state.

Whether it pays is decided before the first step, from the sizes alone, so that a run that is
repeated is compiled again and one that is resumed goes on as it began (``config.json`` tells). So
is how many steps one graph takes: small ones are over before Python has called them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from basin.core.graph import FlatGraph, NotCompilable, flat_graph
from basin.core.trees import mapped, tensors_of
from basin.core.types import Learned, Loss, Objective
from basin.training.adam import Adam, adam_update, clipped
from basin.training.settings import Settings

__all__ = [
    "Asked",
    "Found",
    "Proposal",
    "Propose",
    "by_autograd",
    "by_graph",
    "pays_to_compile",
    "steps_together",
]


class Found(NamedTuple):
    """What a step found.

    Attributes:
        loss: its value.
        terms: that the objective tells besides.
        norms: of the gradients before clipping: the energy's, then each learned part's.
    """

    loss: float
    terms: dict[str, float]
    norms: list[float]


class Proposal(NamedTuple):
    """Steps that can still be refused: of weights and moments nothing has moved yet.

    Attributes:
        found: by each step.
        objective_state: after the last of them.
        take: moves the weights and all that follows them.
    """

    found: list[Found]
    objective_state: Any
    take: Callable[[], None]


class Asked(NamedTuple):
    """Steps that are to be proposed.

    Attributes:
        objective: what is minimised.
        batches: one for each step.
        rates: learning rates, one for each step.
        clip: largest norm of the gradient, or None.
    """

    objective: Objective
    batches: list[Tensor]
    rates: list[float]
    clip: float | None

    def one_by_one(self) -> Iterator[Asked]:
        """Each step for itself."""
        for batch, rate in zip(self.batches, self.rates, strict=True):
            yield self._replace(batches=[batch], rates=[rate])


Bind = Callable[[nn.Module, Tensor], tuple[Any, Tensor]]
Propose = Callable[[Any, Asked], Iterator[Proposal]]  # of the run's state, and what is asked

# A step is taken for a millisecond of Python and autograd beside its arithmetic: six products a
# layer, with both passes and the gradient of both, at the speed of one core.
_OVERHEAD, _PRODUCTS, _OPERATIONS_A_SECOND = 1e-3, 6, 2e10
# Compiling takes half a minute at most and saves about a third of the steps' time (measured:
# benchmarks/speed.py), so this much is paid back a few times over.
_ENOUGH_SECONDS = 300.0
# Around a graph are left 0.4 ms of Python: a third of a step of one millisecond, and of one of ten
# still 8 % (2-128-128-1, batch 1,024). A graph of five steps takes twice as long to compile as one
# of one where the list of a step is short: that of a step with a chain in it is not.
_MOST_TOGETHER, _SHORT_SECONDS, _SHORT_LIST = 5, 12e-3, 300


def pays_to_compile(energy: nn.Module, num_rows: int, num_steps: int) -> bool:
    """Whether a run of that size takes long enough, by a count of operations and not a clock.

    Example:
        >>> import basin
        >>> energy = basin.energies.MLP(2)
        >>> pays_to_compile(energy, 1024, 4000), pays_to_compile(energy, 1024, 1_000_000)
        (False, True)
    """
    seconds = _OVERHEAD + _arithmetic(energy, num_rows)
    return num_steps * seconds >= _ENOUGH_SECONDS


def steps_together(energy: nn.Module, settings: Settings) -> int:
    """How many steps are worth one graph: a divisor of what lies between looks at the run.

    Its end, its evaluations and its checkpoints are where they would be without a graph.

    Example:
        >>> import basin
        >>> energy = basin.energies.MLP(2)
        >>> [steps_together(energy, Settings(batch_size=n)) for n in (100, 4096)]
        [5, 1]
    """
    if _arithmetic(energy, settings.batch_size) > _SHORT_SECONDS:
        return 1
    between = math.gcd(
        settings.num_steps, settings.steps_between_evaluations, settings.steps_between_checkpoints
    )
    return max(n for n in range(1, _MOST_TOGETHER + 1) if between % n == 0)


def _arithmetic(energy: nn.Module, num_rows: int) -> float:
    """Seconds of a step on one core."""
    num_parameters = sum(parameter.numel() for parameter in energy.parameters())
    return 2 * _PRODUCTS * num_rows * num_parameters / _OPERATIONS_A_SECOND


def by_autograd(bind: Bind) -> Propose:
    """Steps by ``backward`` and Adam's own kernel, each proposed when the one before it is taken.

    Args:
        bind: as for the loop.
    """

    def propose(state: Any, asked: Asked) -> Iterator[Proposal]:
        for one in asked.one_by_one():
            yield _autograd_step(bind, state, one)

    return propose


def by_graph(bind: Bind, on_failure: Callable[[NotCompilable], None]) -> Propose:
    """The same by a graph of all of them, compiled at the first call.

    Args:
        bind: as for the loop.
        on_failure: called when the objective, or the energy under it, cannot be written as a graph,
            or there is no compiler; if it returns, autograd does the steps.
    """
    made: dict[tuple[Objective, int], Propose] = {}

    def propose(state: Any, asked: Asked) -> Iterator[Proposal]:
        key = asked.objective, len(asked.batches)
        if key not in made:
            for old in [old for old in made if old[0] != asked.objective]:
                del made[old]
            try:
                made[key] = _graph_steps(bind, state, asked)
            except NotCompilable as error:
                on_failure(error)
                made[key] = by_autograd(bind)
        yield from made[key](state, asked)

    return propose


def _graph_steps(bind: Bind, state: Any, asked: Asked) -> Propose:
    """One graph for all the steps, or where that would be long one for each."""
    if len(asked.batches) == 1:
        return _GraphSteps(bind, state, asked)
    first, *_ = asked.one_by_one()
    if _GraphSteps(bind, state, first, compiled=False).num_operations <= _SHORT_LIST:
        return _GraphSteps(bind, state, asked)
    graph = _GraphSteps(bind, state, first)

    def propose(state: Any, asked: Asked) -> Iterator[Proposal]:
        for one in asked.one_by_one():
            yield from graph(state, one)

    return propose


def _autograd_step(bind: Bind, state: Any, asked: Asked) -> Proposal:
    objective, (batch,), (rate,), clip = asked
    energy, x = bind(state.energy, batch)
    loss = objective(energy, x, state.objective_state, state.generators["noise"])
    optimizers = [optimizer for optimizer, _ in _optimizers(state)]
    for optimizer in optimizers:
        optimizer.zero_grad()
    loss.value.backward()
    norms = [optimizer.clip_gradient(clip) for optimizer in optimizers]
    terms = {name: float(term) for name, term in loss.terms.items()}

    def take() -> None:
        for part in state.learned.values():
            part.optimizer.step(rate * part.how.rate, ascend=part.how.ascends)
        if _moves_energy(objective, state.step):
            state.optimizer.step(rate)
            if state.average is not None:
                state.average.update(state.step)

    return Proposal([Found(float(loss.value.detach()), terms, norms)], loss.state, take)


def _optimizers(state: Any) -> list[tuple[Adam, Learned]]:
    """The energy's, and those of the parts beside it."""
    parts = [(part.optimizer, part.how) for part in state.learned.values()]
    return [(state.optimizer, Learned()), *parts]


def _moves_energy(objective: Objective, step: int) -> bool:
    """Whether the energy moves too at ``step`` (from 0), or only the learned parts do."""
    return (step + 1) % objective.learned_steps == 0


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


class _Kept(NamedTuple):
    """What a step leaves to the next one, by name.

    Attributes:
        weights: and buffers, of the energy and of learned parts.
        moments: Adam's first and second, of what is trained.
        average: of the energy's weights; empty where there is none.
        counts: steps of each optimiser.
        fields: tensors of the objective's state; between graphs the run itself has them.
    """

    weights: dict[str, Tensor]
    moments: dict[str, tuple[Tensor, Tensor]]
    average: dict[str, Tensor]
    counts: list[Tensor]
    fields: dict[str, Tensor]


class _GraphSteps:
    """The graph of a few steps of one objective.

    Attributes:
        num_operations: of its list.
    """

    def __init__(self, bind: Bind, state: Any, asked: Asked, *, compiled: bool = True) -> None:
        objective = asked.objective
        first, generator = state.objective_state, state.generators["noise"]
        self._settled, self._is_settled = _numbers(first), False

        def loss_of(batch: Tensor, fields: dict[str, Tensor]) -> Loss:
            energy, x = bind(state.energy, batch)
            now = first if first is None else first._replace(**fields, **self._settled)
            return objective(energy, x, now, generator)

        parts = {name: getattr(first, name) for name in state.learned}
        self._objective = objective
        self._modules = _Modules(state.energy, parts, loss_of)
        self._optimizers = _optimizers(state)
        names = {parameter: name for name, parameter in self._modules.named_parameters()}
        self._group_of = {
            names[parameter]: group
            for group, (optimizer, _) in enumerate(self._optimizers)
            for parameter in optimizer.parameters
        }
        # Found once: they share their memory with what is trained.
        self._kept = self._now(state, names)
        self._dtype = next(iter(self._kept.moments.values()))[0].dtype
        self._terms: list[str] = []
        self._moved: list[str] = []

        def steps(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
            kept, numbers, *batches = inputs
            found = []
            for batch, numbers_of_step in zip(batches, numbers.unbind(), strict=True):
                kept, told = self._step(kept, batch, numbers_of_step)
                found.append(told)
            return torch.stack(found), self._changing(kept), kept.fields

        inputs = self._inputs(state, asked)
        self._graph: FlatGraph = flat_graph(steps, inputs, generator, compiled=compiled)
        self.num_operations = self._graph.num_operations
        self._old = tensors_of(self._changing(self._kept))

    def __call__(self, state: Any, asked: Asked) -> Iterator[Proposal]:
        told, changed, fields = self._graph(self._inputs(state, asked))
        num_terms = len(self._terms)
        found = [
            Found(value, dict(zip(self._terms, others, strict=False)), others[num_terms:])
            for value, *others in told.tolist()
        ]
        now = state.objective_state
        if now is not None:
            now = now._replace(**fields, **self._settled)

        def take() -> None:
            with torch.no_grad():
                torch._foreach_copy_(self._old, tensors_of(changed))  # pyright: ignore[reportPrivateImportUsage]

        yield Proposal(found, now, take)

    def _step(self, kept: _Kept, batch: Tensor, numbers: Tensor) -> tuple[_Kept, Tensor]:
        """What is left after a step, and the numbers that it tells: loss, terms, norms."""
        limit, pace, moves_energy, *rates = numbers.unbind()
        trained = [name for name in kept.weights if name in kept.moments]
        weights = {
            name: tensor.detach().requires_grad_(name in kept.moments)
            for name, tensor in kept.weights.items()
        }
        with torch.enable_grad():
            loss = functional_call(self._modules, weights, (batch, kept.fields))
            gradients = torch.autograd.grad(
                loss.value, [weights[name] for name in trained], allow_unused=True
            )
        given = {n: g for n, g in zip(trained, gradients, strict=True) if g is not None}
        self._terms, self._moved = list(loss.terms), list(given)
        fields = _fields(loss.state)
        self._require_alike(kept.fields, fields)
        self._settle(_numbers(loss.state))
        with torch.no_grad():
            after, norms = self._updated(kept, given, limit, rates)
            average = {n: a + pace * (after.weights[n] - a) for n, a in kept.average.items()}
            after = after._replace(average=average, fields=fields)
            if self._objective.learned_steps > 1:
                after = self._waiting(kept, after, moves_energy > 0)
        told = [loss.value, *loss.terms.values(), *norms]
        return after, torch.stack([_exact(number, loss.value.device) for number in told])

    def _updated(
        self, kept: _Kept, gradients: dict[str, Tensor], limit: Tensor, rates: list[Tensor]
    ) -> tuple[_Kept, list[Tensor]]:
        """All weights and moments after a step of each optimiser, and the gradients' norms."""
        weights, moments, norms = dict(kept.weights), dict(kept.moments), []
        counts = [count + 1 for count in kept.counts]
        for group, (optimizer, how) in enumerate(self._optimizers):
            names = [name for name in gradients if self._group_of[name] == group]
            scaled, norm = clipped([gradients[name] for name in names], limit)
            norms.append(norm)
            for name, gradient in zip(names, scaled, strict=True):
                down = -gradient if how.ascends else gradient
                weights[name], first, second = adam_update(
                    kept.weights[name],
                    down,
                    *kept.moments[name],
                    counts[group],
                    rates[group],
                    optimizer.betas,
                )
                moments[name] = first, second
        return kept._replace(weights=weights, moments=moments, counts=counts), norms

    def _waiting(self, before: _Kept, after: _Kept, moves_energy: Tensor) -> _Kept:
        """``after``, where the energy moves; else what is its own stays as it was."""

        def chosen(new: Tensor, old: Tensor) -> Tensor:
            return torch.where(moves_energy, new, old)

        weights, moments = dict(after.weights), dict(after.moments)
        for name, group in self._group_of.items():
            if group == 0:
                weights[name] = chosen(weights[name], before.weights[name])
                moments[name] = mapped(chosen, moments[name], before.moments[name])
        average = mapped(chosen, after.average, before.average)
        counts = [chosen(after.counts[0], before.counts[0]), *after.counts[1:]]
        return after._replace(weights=weights, moments=moments, average=average, counts=counts)

    def _changing(self, kept: _Kept) -> tuple[Any, ...]:
        """What steps write over."""
        moved = self._moved
        weights, moments = [kept.weights[n] for n in moved], [kept.moments[n] for n in moved]
        return weights, moments, kept.average, kept.counts

    def _now(self, state: Any, names: dict[nn.Parameter, str]) -> _Kept:
        """Weights, moments and all, as the run has them."""
        modules, average = self._modules, {}
        if state.average is not None:
            average = {f"energy.{n}": p for n, p in state.average.module.named_parameters()}
        return _Kept(
            weights={
                name: tensor.detach()
                for name, tensor in (*modules.named_parameters(), *modules.named_buffers())
            },
            moments={
                names[parameter]: (first, second)
                for optimizer, _ in self._optimizers
                for parameter, first, second in zip(
                    optimizer.parameters, optimizer.first, optimizer.second, strict=True
                )
            },
            average=average,
            counts=[optimizer.count for optimizer, _ in self._optimizers],
            fields={},
        )

    def _require_alike(self, before: dict[str, Tensor], after: dict[str, Tensor]) -> None:
        """What a step leaves must be what the next one begins with, as a graph never looks."""
        first, then = ({n: (t.shape, t.dtype) for n, t in each.items()} for each in (before, after))
        for name in first.keys() | then.keys():
            if first.get(name) != then.get(name):
                raise NotCompilable(
                    f"{type(self._objective).__name__} makes another tensor of {name} in its state "
                    f"({first.get(name)} became {then.get(name)}); keep shape and dtype"
                )

    def _settle(self, after: dict[str, Any]) -> None:
        """A graph holds the numbers of a state as the first step leaves them."""
        before, self._settled = self._settled, after
        for name, value in before.items():
            now = after[name]
            if self._is_settled and now is not value and now != value:
                raise NotCompilable(
                    f"{type(self._objective).__name__} counts in its state ({name} went from "
                    f"{value!r} to {now!r}); keep what changes in tensors"
                )
        self._is_settled = True

    def _inputs(self, state: Any, asked: Asked) -> tuple[Any, ...]:
        """What is kept, the numbers of each step, and the batches.

        Numbers: largest norm, pace of the average, whether the energy moves, learning rates.
        """
        limit = math.inf if asked.clip is None else asked.clip
        numbers = []
        for step, rate in enumerate(asked.rates, state.step):
            pace = 0.0 if state.average is None else state.average.pace(step)
            moves_energy = float(_moves_energy(self._objective, step))
            of_parts = [rate * how.rate for _, how in self._optimizers]
            numbers.append([limit, pace, moves_energy, *of_parts])
        told = torch.tensor(numbers, dtype=self._dtype, device=asked.batches[0].device)
        kept = self._kept._replace(fields=_fields(state.objective_state))
        return (kept, told, *asked.batches)


def _exact(number: Any, device: torch.device) -> Tensor:
    """A number that is told, in double precision where the device has it."""
    wide = torch.float32 if device.type == "mps" else torch.float64
    return torch.as_tensor(number, device=device).reshape(()).to(wide)


def _fields(state: Any) -> dict[str, Tensor]:
    """The tensors of an objective's state."""
    fields = {} if state is None else state._asdict()
    return {name: value for name, value in fields.items() if isinstance(value, Tensor)}


def _numbers(state: Any) -> dict[str, Any]:
    """What else it holds: numbers, words, modules."""
    fields = {} if state is None else state._asdict()
    return {name: value for name, value in fields.items() if not isinstance(value, Tensor)}
