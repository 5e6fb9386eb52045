"""An energy called on x, where weights and x of two floating-point types are one clear error.

torch's own sentence ("mat1 and mat2 must have the same dtype") names neither the argument nor what
to do. Whether two types clash is known to the energy alone (many convert, and autocast does), so
nothing is refused before the call: only its failure is put into words.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["evaluated"]


def evaluated(function: Callable[..., Any], energy: object, x: Tensor, *conditions: Any) -> Any:
    """``function(x, *conditions)``, where ``function`` is ``energy`` or a method of it.

    Raises:
        ValueError: the energy's weights and ``x`` have two types that it does not reconcile.
    """
    try:
        return function(x, *conditions)
    except RuntimeError as error:
        if re.search(r"\b(d?types?)\b", str(error)) is None:
            raise
        weights = _weights_dtype(energy)
        if weights == x.dtype:
            raise
        name = type(energy).__name__
        if weights is None:  # a plain function around a network: torch's sentence has both types
            raise ValueError(
                f"x must have the dtype of the weights inside {name}, got {x.dtype} ({error}); "
                "convert x (x0 of basin.sample) or the weights"
            ) from error
        raise ValueError(
            f"x must have the dtype of the weights of {name}, {weights}, got {x.dtype}; convert "
            f"one of them: x.to({weights}) (x0 of basin.sample) or energy.to({x.dtype})"
        ) from error


def _weights_dtype(energy: Any) -> torch.dtype | None:
    """Type of the first parameter; wrappers hold what they wrap as ``.energy``."""
    for _ in range(8):
        if isinstance(energy, nn.Module):
            for parameter in energy.parameters():
                return parameter.dtype
        energy = getattr(energy, "energy", None)
        if energy is None:
            break
    return None
