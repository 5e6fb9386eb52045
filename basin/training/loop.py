"""The one training loop: any objective, any energy.

    draw a batch -> loss -> gradient -> clip -> Adam -> average        until num_steps

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
from typing import Any

import torch
from torch import Tensor, nn

from basin.core.types import Loss, Objective
from basin.training.adam import Adam
from basin.training.average import WeightAverage
from basin.training.checkpoint import checkpoints, latest_checkpoint, write_checkpoint
from basin.training.errors import TrainingDiverged, TrainingInterrupted
from basin.training.history import History
from basin.training.settings import Settings

__all__ = ["Loop", "TrainingState"]

Draw = Callable[[int, torch.Generator], Tensor]

_HELD_OUT_ROWS = 1024  # at a time, where batches are smaller
_VALIDATION_SEED = 20_261_123  # fixed noise: validation losses of two steps are comparable


@dataclass
class TrainingState:
    """All that the next step needs; :meth:`tensors` and :meth:`record` are what is saved."""

    energy: nn.Module
    average: WeightAverage | None
    optimizer: Adam
    objective_state: Any
    generators: dict[str, torch.Generator]
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
        draw: ``draw(n, generator) -> [n, *event]`` in the energy's coordinates, on its device.
        validation: fixed held-out rows in the same coordinates, or None.
        is_finite_table: early stopping and best weights apply (a table can be learned by heart).
        settings: numbers.
        history: where records go.
        checkpoint_folder: where checkpoints go, or None.
        report: called with (steps done, last record) for a progress bar.
    """

    objective: Objective
    draw: Draw
    validation: Tensor | None
    is_finite_table: bool
    settings: Settings
    history: History
    checkpoint_folder: Path | None
    report: Callable[[int, dict[str, Any]], None]

    def run(self, state: TrainingState) -> str:
        """Train to the end; return why it ended, in words."""
        started = time.perf_counter()
        last: dict[str, Any] = {}
        with _deferred_interrupt() as interrupted:
            while state.step < self.settings.num_steps:
                if not self._step(state):
                    continue  # went back to a checkpoint
                if state.step % self.settings.steps_between_evaluations == 0:
                    last = self._evaluate(state, time.perf_counter() - started)
                if interrupted.is_set():
                    self._save(state)
                    raise TrainingInterrupted(self._interruption(state))
                if state.step % self.settings.steps_between_checkpoints == 0:
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

    def _step(self, state: TrainingState) -> bool:
        """One optimiser step; False when it was not finite and the last checkpoint came back."""
        settings = self.settings
        x = self.draw(settings.batch_size, state.generators["rows"])
        loss = self.objective(state.energy, x, state.objective_state, state.generators["noise"])
        state.optimizer.zero_grad()
        loss.value.backward()
        norm = state.optimizer.clip_gradient(settings.gradient_clip)
        value = float(loss.value.detach())
        if not (math.isfinite(value) and math.isfinite(norm)):
            self._recover_or_stop(state, loss, value, norm)
            return False
        rate = self._learning_rate(state)
        state.optimizer.step(rate)
        state.objective_state = loss.state
        if state.average is not None:
            state.average.update(state.step)
        state.step += 1
        self._sum_up(state, {"loss": value, "gradient_norm": norm})
        self._sum_up(state, {f"terms.{n}": float(t) for n, t in loss.terms.items()})
        state.num_summed += 1
        return True

    def _learning_rate(self, state: TrainingState) -> float:
        return self.settings.learning_rate_at(state.step) * state.learning_rate_factor

    @staticmethod
    def _sum_up(state: TrainingState, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            state.sums[name] = state.sums.get(name, 0.0) + value

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
            "seconds": seconds,
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
            self._remember_best(state, {name: value for name, (value, _) in losses.items()})
        self.history.append(record)
        return record

    def held_out(self, energy: nn.Module, objective_state: Any) -> tuple[float, float | None]:
        """Loss on the held-out rows with fixed noise, and relative to the trivial predictor."""
        assert self.validation is not None
        generator = torch.Generator(self.validation.device).manual_seed(_VALIDATION_SEED)
        total, trivial, count = 0.0, 0.0, 0
        has_trivial = True
        for rows in self.validation.split(max(self.settings.batch_size, _HELD_OUT_ROWS)):
            loss = self.objective(energy, rows, objective_state, generator)
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
        return state.step - state.best_step >= patience * self.settings.steps_between_evaluations

    def _save(self, state: TrainingState) -> None:
        if self.checkpoint_folder is not None:
            write_checkpoint(self.checkpoint_folder, state.step, state.tensors(), state.record())

    def _recover_or_stop(self, state: TrainingState, loss: Loss, value: float, norm: float) -> None:
        bad = [name for name, term in loss.terms.items() if not math.isfinite(float(term))]
        term = f"term {bad[0]!r} of the loss" if bad else "the loss"
        what = f"{term} is {value}" if not math.isfinite(value) else f"the gradient norm is {norm}"
        where = f"{type(self.objective).__name__}, step {state.step + 1}: {what}"
        has_checkpoint = self.checkpoint_folder is not None and checkpoints(self.checkpoint_folder)
        if state.recoveries < self.settings.recover and has_checkpoint:
            assert self.checkpoint_folder is not None
            recoveries, factor = state.recoveries + 1, state.learning_rate_factor / 2
            path, tensors, record = latest_checkpoint(self.checkpoint_folder)
            state.restore(tensors, record)
            state.recoveries, state.learning_rate_factor = recoveries, factor
            # Other batches than those that led here.
            state.generators["rows"].manual_seed(self.settings.seed + 1_000_003 * recoveries)
            self.history.append(
                {
                    "step": state.step,
                    "event": f"{where}; went on from {path.name} with the learning rate halved "
                    f"(recovery {recoveries} of {self.settings.recover})",
                }
            )
            return
        kept = "; the last good checkpoint is kept" if has_checkpoint else ""
        raise TrainingDiverged(
            f"training stopped, {where}{kept}. Try, in this order: a lower learning_rate "
            f"(now {self.settings.learning_rate:g}), a larger sigma or sigma_min, a smaller "
            "gradient_clip, data without outliers, recover=2"
        )

    def _interruption(self, state: TrainingState) -> str:
        if self.checkpoint_folder is None:
            return f"interrupted after step {state.step}; nothing was saved, as out was not given"
        folder = self.checkpoint_folder.parent
        return f"interrupted after step {state.step}; go on with: basin resume {folder}"


def _module_of(average: WeightAverage | None) -> nn.Module:
    assert average is not None
    return average.module


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


def _restored(state: Any, tensors: Mapping[str, Tensor]) -> Any:
    return state._replace(**tensors) if tensors else state


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
