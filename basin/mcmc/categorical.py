"""One draw from a categorical law for each chain, by the Gumbel-max trick.

    argmax_v (log p_v - log e_v),      e_v ~ Exp(1) independent

Source: Gumbel 1954; Yellott 1977. The law need not be normalised, and a row that is not a number
gives some index instead of an error, so that one lost chain does not stop the others: the caller
looks at the row. Cost: one exponential number an entry.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["categorical_draw"]


def categorical_draw(log_law: Tensor, generator: torch.Generator) -> Tensor:
    """An index for each row of log probabilities ``[chains, m]``, ``[chains]`` of int64.

    >>> import torch
    >>> sure = torch.tensor([[0.0, -torch.inf], [-torch.inf, -3.0]])
    >>> categorical_draw(sure, torch.Generator().manual_seed(0))
    tensor([0, 1])
    """
    waiting = torch.empty_like(log_law).exponential_(generator=generator)
    return (log_law - waiting.log()).argmax(dim=1)
