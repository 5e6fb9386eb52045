"""Matrix products whose result has few columns, laid out as a processor likes them.

On a CPU the product of ``[1000, 128]`` and ``[128, d]`` in float32 takes two to six times as long
for d from 2 to 15 (torch 2.13 with MKL, one core) when both are stored row by row as when the
right factor is stored by columns, or the whole product is taken transposed, A B = (B' A')'. Such
are the inputs of a network in two dimensions, and their features.
"""

from __future__ import annotations

from torch import Tensor

__all__ = []  # for the networks of this folder, which import by path

_NARROW = range(2, 16)


def product(a: Tensor, b: Tensor) -> Tensor:
    """``a @ b`` for ``a`` ``[batch, n]`` and weights ``b`` ``[n, m]``."""
    return a @ b.t().contiguous().t() if _is_narrow(b) else a @ b


def product_over_rows(a: Tensor, b: Tensor) -> Tensor:
    """``a' b`` for ``a`` ``[batch, n]`` and ``b`` ``[batch, m]``; transposed in memory, m small."""
    return (b.t() @ a).t() if _is_narrow(b) else a.t() @ b


def add_product_over_rows_(total: Tensor, a: Tensor, b: Tensor) -> None:
    """``total += a' b`` in place, for a ``total`` from :func:`product_over_rows`."""
    if _is_narrow(b):
        total.t().addmm_(b.t(), a)
    else:
        total.addmm_(a.t(), b)


def _is_narrow(b: Tensor) -> bool:
    return b.shape[1] in _NARROW and b.device.type == "cpu"
