"""The one training loop: any objective, any energy.

    draw batches -> propose: loss, gradient, clipped -> take: Adam, average        until num_steps

The state is explicit (:class:`TrainingState`) and all of it goes into a checkpoint, so a resumed
run is bit-identical to an uninterrupted one on the same machine.
"""

from __future__ import annotations

import copy
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from basin.core.types import Learned, Objective, Watched
from basin.training.adam import Adam
from basin.training.average import WeightAverage
from basin.training.checkpoint import checkpoints, latest_checkpoint, write_checkpoint
from basin.training.errors import TrainingDiverged, TrainingInterrupted
from basin.training.history import History
from basin.training.settings import Settings
from basin.training.step import Asked, Found, Propose

__all__ = ["LearnedPart", "Loop", "TrainingState", "learned_parts"]

Draw = Callable[[int, torch.Generator], Tensor]

_HELD_OUT_ROWS = 1024  # at a time, where batches are smaller
_VALIDATION_SEED = 20_261_123  # fixed noise: validation losses of two steps are comparable


class LearnedPart(NamedTuple):
    """The optimiser of a module in the objective's state, and how it is to be stepped."""

    optimizer: Adam
    how: Learned


def learned_parts(
    objective: Objective, objective_state: Any, betas: tuple[float, float]
) -> dict[str, LearnedPart]:
    """An optimiser for every module that an objective's first state holds, by field."""
    fields = {} if objective_state is None else objective_state._asdict()
    modules = {name: part for name, part in fields.items() if isinstance(part, nn.Module)}
    return {
        name: LearnedPart(
            Adam((p for p in module.parameters() if p.requires_grad), betas),
            objective.learned.get(name, Learned()),
        )
        for name, module in modules.items()
    }


@dataclass
class TrainingState:
    """All that the next step needs; :meth:`tensors` and :meth:`record` are what is saved."""

    energy: nn.Module
    average: WeightAverage | None
    optimizer: Adam
    objective_state: Any
    generators: dict[str, torch.Generator]
    learned: dict[str, LearnedPart] = field(default_factory=dict)
    step: int = 0
    learning_rate_factor: float = 1.0
    recoveries: int = 0
    best_loss: float = math.inf
    best_step: int = 0
    best_weights: str = "raw"
    best: dict[str, Tensor] = field(default_factory=dict)
    sums: dict[str, float] = field(default_factory=dict)
    num_summed: int = 0

    _RECORDED = (
        "step",
        "learning_rate_factor",
        "recoveries",
        "best_loss",
        "best_step",
        "best_weights",
        "sums",
        "num_summed",
    )

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor of the state under a dotted name."""
        named = {f"energy.{name}": t for name, t in self.energy.state_dict().items()}
        if self.average is not None:
            named |= {f"average.{n}": t for n, t in self.average.module.state_dict().items()}
        named |= {f"optimizer.{name}": t for name, t in self.optimizer.tensors().items()}
        for part, learned in self.learned.items():
            named |= {f"learned.{part}.{n}": t for n, t in learned.optimizer.tensors().items()}
        named |= {f"generator.{n}": g.get_state() for n, g in self.generators.items()}
        named |= {f"best.{name}": t for name, t in self.best.items()}
        named |= {f"objective.{name}": t for name, t in _state_tensors(self.objective_state)}
        return named

    def record(self) -> dict[str, Any]:
        """Every number of the state, as JSON."""
        return {name: getattr(self, name) for name in self._RECORDED}

    def restore(self, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
        """Become the state that was saved."""
        self.energy.load_state_dict(_under("energy.", tensors))
        if self.average is not None:
            self.average.module.load_state_dict(_under("average.", tensors))
        self.optimizer.restore(_under("optimizer.", tensors))
        for part, learned in self.learned.items():
            learned.optimizer.restore(_under(f"learned.{part}.", tensors))
        for name, generator in self.generators.items():
            generator.set_state(tensors[f"generator.{name}"])
        self.best = _under("best.", tensors)
        self.objective_state = _restored(self.objective_state, _under("objective.", tensors))
        for name in self._RECORDED:
            setattr(self, name, copy.deepcopy(record[name]))


@dataclass
class Loop:
    """Runs the steps. Parts that do not change during a run.

    Args:
        objective: what is minimised.
        propose: ``propose(state, asked)``: the next steps, one after the other or some at once, not
            yet taken.
        draw: ``draw(n, generator) -> [n, *event]`` in the energy's coordinates, on its device.
        validation: fixed held-out rows in the same coordinates, or None.
        is_finite_table: early stopping and best weights apply (a table can be learned by heart).
        settings: numbers.
        history: where records go.
        checkpoint_folder: where checkpoints go, or None.
        report: called with (steps done, last record) for a progress bar.
        bind: the energy and the rows that the objective sees, from the module and a batch: takes
            the conditions of a batch out of it.
        on_evaluation: called after each evaluation with the module whose weights would be used
            now and the record; its time is not counted in ``seconds``.
        together: steps that are proposed at once; a divisor of what ``settings`` says of the run's
            length and of its evaluations and checkpoints.
    """

    objective: Objective
    propose: Propose
    draw: Draw
    validation: Tensor | None
    is_finite_table: bool
    settings: Settings
    history: History
    checkpoint_folder: Path | None
    report: Callable[[int, dict[str, Any]], None]
    bind: Callable[[nn.Module, Tensor], tuple[Any, Tensor]] = lambda energy, rows: (energy, rows)
    on_evaluation: Callable[[nn.Module, dict[str, Any]], None] | None = None
    together: int = 1

    def __post_init__(self) -> None:
        self._objective = self.objective  # or a calmer one, after a recovery
        self._kept: tuple[dict[str, Tensor], dict[str, Any]] | None = None
        self._seconds_elsewhere = 0.0

    def run(self, state: TrainingState) -> str:
        """Train to the end; return why it ended, in words."""
        started = time.perf_counter()
        last: dict[str, Any] = {}
        to_evaluation = self.settings.steps_between_evaluations
        to_checkpoint = self.settings.steps_between_checkpoints
        self._calm_down(state.recoveries)
        if self.settings.recover and state.step == 0:
            self._save(state)
        with _deferred_interrupt() as interrupted:
            while state.step < self.settings.num_steps:
                if not self._advance(state):
                    continue  # went back to the last good state
                if state.step % to_evaluation == 0:
                    last = self._evaluate(state, time.perf_counter() - started)
                if interrupted.is_set():
                    self._save(state)
                    raise TrainingInterrupted(self._interruption(state))
                if state.step % to_checkpoint == 0:
                    self._save(state)
                self.report(state.step, last)
                if self._has_stopped_improving(state):
                    self._save(state)
                    return (
                        f"stopped at step {state.step}: no better held-out loss since step "
                        f"{state.best_step}"
                    )
        if state.num_summed:
            self._evaluate(state, time.perf_counter() - started)
        self._save(state)
        return f"ran all {state.step} steps"

    def _advance(self, state: TrainingState) -> bool:
        """The next steps; False when one went wrong and the last good state came back."""
        settings, objective = self.settings, self._objective
        # A run that another version left in between finds its way back one by one.
        steps = range(self.together if state.step % self.together == 0 else 1)
        batches = [self.draw(settings.batch_size, state.generators["rows"]) for _ in steps]
        rates = [self._learning_rate(state, ahead) for ahead in steps]
        asked = Asked(objective, batches, rates, settings.gradient_clip)
        for found, objective_state, take in self.propose(state, asked):
            for step, of_step in enumerate(found, state.step + 1):
                fault = _fault(objective, of_step)
                if fault:
                    self._recover_or_stop(state, step, fault)
                    return False
            take()
            state.objective_state = objective_state
            state.step += len(found)
            for of_step in found:
                self._sum_up(state, of_step)
        return True

    @staticmethod
    def _sum_up(state: TrainingState, found: Found) -> None:
        sums = state.sums
        for name, number in (("loss", found.loss), ("gradient_norm", found.norms[0])):
            sums[name] = sums.get(name, 0.0) + number
        for name, number in found.terms.items():
            key = f"terms.{name}"
            sums[key] = sums.get(key, 0.0) + number
        state.num_summed += 1

    def _learning_rate(self, state: TrainingState, ahead: int = 0) -> float:
        return self.settings.learning_rate_at(state.step + ahead) * state.learning_rate_factor

    def _evaluate(self, state: TrainingState, seconds: float) -> dict[str, Any]:
        """Means since the last record, and the held-out loss of both weights on fixed noise."""
        means = {name: total / state.num_summed for name, total in state.sums.items()}
        terms = {n.removeprefix("terms."): v for n, v in means.items() if n.startswith("terms.")}
        trivial = terms.pop("trivial", None)
        record: dict[str, Any] = {
            "step": state.step,
            "loss": means["loss"],
            "relative_loss": _relative(means["loss"], trivial),
            "learning_rate": self._learning_rate(state),
            "gradient_norm": means["gradient_norm"],
            "seconds": seconds - self._seconds_elsewhere,
            "terms": terms,
        }
        state.sums, state.num_summed = {}, 0
        if self.validation is not None:
            losses = {"raw": self.held_out(state.energy, state.objective_state)}
            if state.average is not None:
                losses["ema"] = self.held_out(state.average.module, state.objective_state)
            for weights, suffix in (("raw", ""), ("ema", "_ema")):
                if weights in losses:
                    record[f"validation_loss{suffix}"], record[f"validation_relative{suffix}"] = (
                        losses[weights]
                    )
            if self._objective.is_a_score_of_fit:
                self._remember_best(state, {name: value for name, (value, _) in losses.items()})
        self.history.append(record)
        if self.on_evaluation is not None:
            started = time.perf_counter()
            is_raw = state.average is None or state.best_weights == "raw"
            self.on_evaluation(state.energy if is_raw else _module_of(state.average), record)
            self._seconds_elsewhere += time.perf_counter() - started
        return record

    def held_out(self, energy: nn.Module, objective_state: Any) -> tuple[float, float | None]:
        """Loss on the held-out rows with fixed noise, and relative to the trivial predictor."""
        assert self.validation is not None
        generator = torch.Generator(self.validation.device).manual_seed(_VALIDATION_SEED)
        total, trivial, count = 0.0, 0.0, 0
        has_trivial = True
        for rows in self.validation.split(max(self.settings.batch_size, _HELD_OUT_ROWS)):
            bound, rows = self.bind(energy, rows)
            loss = self._objective(bound, rows, objective_state, generator)
            total += float(loss.value.detach()) * len(rows)
            count += len(rows)
            has_trivial = has_trivial and "trivial" in loss.terms
            trivial += float(loss.terms.get("trivial", 0.0)) * len(rows)
        return total / count, _relative(total, trivial if has_trivial else None)

    def _remember_best(self, state: TrainingState, losses: Mapping[str, float]) -> None:
        """Best weights so far on held-out rows; with fresh draws the last step's are the best."""
        weights = min(losses, key=lambda name: losses[name])
        if not self.is_finite_table or losses[weights] < state.best_loss:
            state.best_loss, state.best_step = losses[weights], state.step
            state.best_weights = weights
            chosen = state.energy if weights == "raw" or state.average is None else None
            source = chosen if chosen is not None else _module_of(state.average)
            if self.is_finite_table:
                state.best = {n: t.detach().clone() for n, t in source.state_dict().items()}

    def _has_stopped_improving(self, state: TrainingState) -> bool:
        patience = self.settings.patience
        if not self.is_finite_table or self.validation is None or patience is None:
            return False
        if not self._objective.is_a_score_of_fit:
            return False
        return state.step - state.best_step >= patience * self.settings.steps_between_evaluations

    def _save(self, state: TrainingState) -> None:
        """Keep the state to come back to: in the folder, or in memory where it may be needed."""
        if self.checkpoint_folder is not None:
            write_checkpoint(self.checkpoint_folder, state.step, state.tensors(), state.record())
        elif self.settings.recover:
            tensors = {name: t.detach().clone() for name, t in state.tensors().items()}
            self._kept = tensors, copy.deepcopy(state.record())

    def _last_good(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        if self.checkpoint_folder is None:
            return self._kept
        if not checkpoints(self.checkpoint_folder):
            return None
        _, tensors, record = latest_checkpoint(self.checkpoint_folder)
        return tensors, record

    def _recover_or_stop(self, state: TrainingState, step: int, fault: str) -> None:
        where = f"{type(self.objective).__name__}, step {step}: {fault}"
        good = self._last_good()
        if state.recoveries < self.settings.recover and good is not None:
            recoveries, factor = state.recoveries + 1, state.learning_rate_factor / 2
            state.restore(*good)
            state.recoveries, state.learning_rate_factor = recoveries, factor
            # Other batches than those that led here.
            state.generators["rows"].manual_seed(self.settings.seed + 1_000_003 * recoveries)
            change = "the learning rate halved"
            self._calm_down(recoveries)
            if self._objective is not self.objective:
                change += f" and {self._objective}"
            self.history.append(
                {
                    "step": state.step,
                    "event": f"{where}; went back to step {state.step} and on with {change} "
                    f"(recovery {recoveries} of {self.settings.recover})",
                }
            )
            return
        self.history.append({"step": state.step, "event": f"stopped: {where}"})
        kept = "; the last good checkpoint is kept" if good and self.checkpoint_folder else ""
        raise TrainingDiverged(
            f"training stopped, {where}{kept}. Try, in this order: "
            f"{_advice(self.objective, self.settings)}"
        )

    def _calm_down(self, times: int) -> None:
        """Take the objective that so many recoveries leave."""
        self._objective = self.objective
        for _ in range(times):
            if isinstance(self._objective, Watched):
                self._objective = self._objective.calmer()

    def _interruption(self, state: TrainingState) -> str:
        if self.checkpoint_folder is None:
            return f"interrupted after step {state.step}; nothing was saved, as out was not given"
        folder = self.checkpoint_folder.parent
        return f"interrupted after step {state.step}; go on with: basin resume {folder}"


def _module_of(average: WeightAverage | None) -> nn.Module:
    assert average is not None
    return average.module


def _largest(norm: float) -> float:
    return norm if math.isfinite(norm) else math.inf


def _fault(objective: Objective, found: Found) -> str:
    """What is wrong with a step, in words; empty when nothing is."""
    value, terms, norm = found.loss, found.terms, max(found.norms, key=_largest)
    alarm = objective.alarm(terms) if isinstance(objective, Watched) else ""
    if alarm:
        return alarm  # it names the cause of what may not be finite any more
    if not math.isfinite(value):
        bad = [name for name, term in terms.items() if not math.isfinite(term)]
        return f"{f'term {bad[0]!r} of the loss' if bad else 'the loss'} is {value}"
    if not math.isfinite(norm):
        return f"the gradient norm is {norm}"
    return ""


def _advice(objective: Objective, settings: Settings) -> str:
    first = f"a lower learning_rate (now {settings.learning_rate:g})"
    if isinstance(objective, Watched) and objective.calmer() is not objective:
        return f"{first}, {objective.calmer()}, the preset stable, recover=2"
    if objective.support == "discrete":
        return f"{first}, more corruption where there is any, a smaller gradient_clip, recover=2"
    return (
        f"{first}, a larger sigma or sigma_min, a smaller gradient_clip, data without outliers, "
        "recover=2"
    )


def _relative(loss: float, trivial: float | None) -> float | None:
    return loss / trivial if trivial else None


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def _state_tensors(state: Any) -> Iterator[tuple[str, Tensor]]:
    """Tensors of an objective's state; its numbers are settled again by ``init``."""
    if state is not None:
        for name, value in state._asdict().items():
            if isinstance(value, Tensor):
                yield name, value
            elif isinstance(value, nn.Module):
                yield from ((f"{name}.{n}", t) for n, t in value.state_dict().items())


def _restored(state: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Tensors are replaced, modules filled; a module stays the object that its optimiser holds."""
    if not tensors:
        return state
    for name, value in state._asdict().items():
        if isinstance(value, nn.Module):
            value.load_state_dict(_under(f"{name}.", tensors))
    return state._replace(**{n: t for n, t in tensors.items() if "." not in n})


@contextmanager
def _deferred_interrupt() -> Iterator[threading.Event]:
    """Let the step in hand finish when Ctrl-C comes; a second one stops at once."""
    flag = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return
    before = signal.getsignal(signal.SIGINT)

    def handler(number: int, frame: Any) -> None:
        if flag.is_set():
            raise KeyboardInterrupt
        flag.set()

    signal.signal(signal.SIGINT, handler)
    try:
        yield flag
    finally:
        signal.signal(signal.SIGINT, before)
