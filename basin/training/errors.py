"""What can stop a run, each with a sentence on what to do."""

from __future__ import annotations

__all__ = ["RunFolderError", "TrainingDiverged", "TrainingInterrupted"]


class TrainingDiverged(ArithmeticError):
    """A loss or a gradient was not finite; the last good checkpoint is kept."""


class TrainingInterrupted(KeyboardInterrupt):
    """Ctrl-C: the step was finished and a checkpoint written."""


class RunFolderError(ValueError):
    """A run folder is missing, foreign, truncated or already taken."""
