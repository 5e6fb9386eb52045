"""Trees of tensors: named tuples, tuples, lists and dictionaries of them, in any nest.

    tensors_of(tree)                 its tensors, from left to right
    rebuilder(tree)(tensors)         the same nest of other ones
    mapped(function, tree, ...)      the nest of what it makes of the tensors, place by place

What is neither a nest nor a tensor (a count, None) is carried over. Like ``torch.utils._pytree``,
which looks up each node's type in a registry: in a loop of small steps that cost more than the
steps. Cost: about a microsecond a tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor

__all__ = ["mapped", "rebuilder", "tensors_of"]


def tensors_of(tree: Any) -> list[Tensor]:
    """The tensors of a tree, from left to right.

    Example:
        >>> import torch
        >>> tensors_of({"a": torch.tensor(1.0), "b": (None, [torch.tensor(2.0)])})
        [tensor(1.), tensor(2.)]
    """
    found: list[Tensor] = []
    _collect(tree, found)
    return found


def rebuilder(tree: Any) -> Callable[[Iterator[Tensor]], Any]:
    """What puts other tensors, one after the other, where those of ``tree`` are.

    Example:
        >>> import torch
        >>> rebuilder((torch.tensor(1.0), 7))(iter([torch.tensor(3.0)]))
        (tensor(3.), 7)
    """
    if isinstance(tree, Tensor):
        return lambda tensors: next(tensors)
    if isinstance(tree, dict):
        named = {key: rebuilder(item) for key, item in tree.items()}
        return lambda tensors: {key: part(tensors) for key, part in named.items()}
    if isinstance(tree, (tuple, list)):
        parts, make = [rebuilder(item) for item in tree], _maker(tree)
        return lambda tensors: make([part(tensors) for part in parts])
    return lambda tensors: tree


def mapped(function: Callable[..., Any], tree: Any, *others: Any) -> Any:
    """``function`` of the tensors at each place of trees that are alike.

    Example:
        >>> import torch
        >>> mapped(torch.add, (torch.tensor(1.0), "x"), (torch.tensor(2.0), "x"))
        (tensor(3.), 'x')
    """
    if isinstance(tree, Tensor):
        return function(tree, *others)
    if isinstance(tree, dict):
        return {key: mapped(function, tree[key], *(o[key] for o in others)) for key in tree}
    if isinstance(tree, (tuple, list)):
        rows = zip(tree, *others, strict=True)
        return _maker(tree)([mapped(function, *items) for items in rows])
    return tree


def _collect(tree: Any, found: list[Tensor]) -> None:
    if isinstance(tree, Tensor):
        found.append(tree)
    elif isinstance(tree, dict):
        for item in tree.values():
            _collect(item, found)
    elif isinstance(tree, (tuple, list)):
        for item in tree:
            _collect(item, found)


def _maker(nest: Any) -> Callable[[list[Any]], Any]:
    """Named tuples take their items one by one."""
    return getattr(type(nest), "_make", type(nest))
