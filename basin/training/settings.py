"""The settings of a training run: numbers that :func:`basin.fit` takes, checked once.

They go into ``config.json`` as they are, so that a run can be repeated and resumed.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from basin.core.types import Schedule
from basin.core.validation import (
    in_unit_interval,
    non_negative,
    positive,
    positive_integer,
    seed_number,
)
from basin.schedules import Constant, Cosine

__all__ = ["Settings"]

_MAXIMUM_THREADS = 1024
_SCHEDULES = {"cosine": Cosine(1.0, 0.0), "constant": Constant(1.0)}


@dataclass(frozen=True)
class Settings:
    """Numbers of the training loop; see :func:`basin.fit` for what each one means."""

    num_steps: int = 4000
    batch_size: int = 1024
    learning_rate: float = 4e-3
    learning_rate_schedule: Literal["cosine", "constant"] = "cosine"
    warmup_steps: int = 100
    adam_betas: tuple[float, float] = (0.9, 0.99)
    gradient_clip: float | None = 10.0
    ema_decay: float | None = 0.999
    evaluate_every: int | None = None
    checkpoint_every: int | None = None
    patience: int | None = 20
    recover: int = 0
    num_threads: int | None = None
    compile: bool | Literal["auto"] = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        positive_integer(num_steps=self.num_steps, batch_size=self.batch_size)
        positive(learning_rate=self.learning_rate)
        if self.learning_rate_schedule not in _SCHEDULES:
            raise ValueError(
                f"learning_rate_schedule must be one of {', '.join(_SCHEDULES)}, "
                f"got {self.learning_rate_schedule!r}"
            )
        non_negative(warmup_steps=self.warmup_steps, recover=self.recover)
        seed_number(seed=self.seed)
        betas: Any = self.adam_betas
        if not (
            isinstance(betas, tuple | list)
            and len(betas) == 2
            and all(isinstance(beta, int | float) and 0 <= beta < 1 for beta in betas)
        ):
            raise ValueError(f"adam_betas must be two numbers in [0, 1), got {betas!r}")
        if self.gradient_clip is not None:
            positive(gradient_clip=self.gradient_clip)
        if self.ema_decay is not None:
            in_unit_interval(ema_decay=self.ema_decay)
        for name in ("evaluate_every", "checkpoint_every", "patience", "num_threads"):
            if getattr(self, name) is not None:
                positive_integer(**{name: getattr(self, name)})
        if not isinstance(self.compile, bool) and self.compile != "auto":  # 1 equals True
            raise ValueError(f'compile must be True, False or "auto", got {self.compile!r}')
        if self.num_threads is not None and self.num_threads > _MAXIMUM_THREADS:
            raise ValueError(  # torch ends the process when the system refuses a thread
                f"num_threads must be at most {_MAXIMUM_THREADS}, got {self.num_threads}"
            )

    @property
    def schedule(self) -> Schedule:
        """The learning rate's factor along the run, t in [0, 1]."""
        return _SCHEDULES[self.learning_rate_schedule]

    @property
    def steps_between_evaluations(self) -> int:
        """``evaluate_every``, or a fortieth of the run and at least ten steps."""
        return self.evaluate_every or max(min(10, self.num_steps), self.num_steps // 40)

    @property
    def steps_between_checkpoints(self) -> int:
        """``checkpoint_every``, or a tenth of the run and at most 1,000 steps."""
        return self.checkpoint_every or max(1, min(1000, self.num_steps // 10))

    def learning_rate_at(self, step: int) -> float:
        """Learning rate of step ``step`` (from 0): linear warm-up times the schedule."""
        warm = min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0
        return self.learning_rate * warm * self.schedule(min(1.0, step / self.num_steps))

    def to_json(self) -> dict[str, Any]:
        """Plain numbers for ``config.json``."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Settings:
        """Back from ``config.json``; runs from before there was a choice were not compiled."""
        return cls(**{"compile": False, **values, "adam_betas": tuple(values["adam_betas"])})
