"""Components as plain data and back: what ``config.json`` holds.

    describe(MLP(dim=2))  ->  {"class": "MLP", "dim": 2, "hidden": [128, 128], ...}
    build(that, [basin.energies])  ->  an MLP with fresh weights

A description is read from the constructor's signature and from attributes of the same names, so a
component is describable when it keeps what it was given. Building looks names up in the packages
that the caller passes and takes only classes that Basin defines: nothing named in a file is ever
imported, so a stranger's run folder executes nothing.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

from torch import Tensor, nn

__all__ = ["build", "describe", "is_own"]

_MAXIMUM_DEPTH = 32  # nested components; real ones stay below five


def is_own(kind: type) -> bool:
    """Whether Basin itself defines this class, so that :func:`build` can make it again."""
    return kind.__module__ == "basin" or kind.__module__.startswith("basin.")


def describe(component: object) -> dict[str, Any]:
    """``{"class": name, parameter: value, ...}``, made of JSON values only.

    Nested components are described in turn, tensors, arrays and tuples become lists. A class that
    Basin does not define gets its dotted name and nothing else: :func:`build` refuses it, and
    the reader passes the object himself (``basin.load(folder, energy=mine)``).

    Raises:
        TypeError: a parameter is not kept under its own name, or holds what JSON cannot.

    Example:
        >>> from basin.energies.networks.mlp import MLP
        >>> describe(MLP(2, hidden=(8,)))["hidden"]
        [8]
    """
    kind = type(component)
    if not is_own(kind):
        return {"class": f"{kind.__module__}.{kind.__qualname__}"}
    description: dict[str, Any] = {"class": kind.__name__}
    for name in _parameters(kind):
        try:
            value = getattr(component, name)
        except AttributeError:
            raise TypeError(
                f"{kind.__name__} must keep its constructor's parameter {name!r} as an attribute "
                "of that name, so that it can be described"
            ) from None
        description[name] = _as_data(value, f"{kind.__name__}.{name}")
    return description


def build(description: Mapping[str, Any], families: Sequence[ModuleType]) -> Any:
    """Make the component that a description names; the inverse of :func:`describe`.

    Args:
        description: what ``describe`` returned, also after a trip through JSON.
        families: packages whose public classes may be made, as ``[basin.energies]``.

    Lists become tuples. Learned weights are not part of a description: load them afterwards.

    Raises:
        ValueError: an unknown or foreign class, an unknown or missing parameter.
    """
    if not isinstance(description, Mapping):
        raise ValueError(f"a description must be a mapping with a class, got {description!r}")
    return _build(description, _known_classes(families), depth=0)


def _build(description: Mapping[str, Any], known: Mapping[str, type], depth: int) -> Any:
    if depth > _MAXIMUM_DEPTH:
        raise ValueError(f"a description must nest at most {_MAXIMUM_DEPTH} components")
    name = description.get("class")
    if not isinstance(name, str) or name not in known:
        raise ValueError(
            f"class must be one of Basin's own ({', '.join(sorted(known))}), got {name!r}; "
            "nothing else is ever built from a file: make the object yourself and pass it "
            "(for an energy: basin.load(folder, energy=...))"
        )
    kind = known[name]
    accepted = _parameters(kind)
    given = {key: value for key, value in description.items() if key != "class"}
    unknown = sorted(set(given) - set(accepted))
    missing = [
        key
        for key, parameter in accepted.items()
        if parameter.default is parameter.empty and key not in given
    ]
    if unknown or missing:
        problem = f"unknown {', '.join(unknown)}" if unknown else f"missing {', '.join(missing)}"
        raise ValueError(f"{name} takes the parameters {', '.join(accepted)}; {problem}")
    try:
        return kind(**{key: _as_value(value, known, depth) for key, value in given.items()})
    except (TypeError, RuntimeError, AttributeError) as error:
        raise ValueError(f"{name} cannot be built from its description: {error}") from error


def _as_value(value: Any, known: Mapping[str, type], depth: int) -> Any:
    if isinstance(value, Mapping):
        if "class" in value:
            return _build(value, known, depth + 1)
        return {key: _as_value(item, known, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        if depth > _MAXIMUM_DEPTH:
            raise ValueError(f"a description must nest at most {_MAXIMUM_DEPTH} lists")
        return tuple(_as_value(item, known, depth + 1) for item in value)
    return value


def _as_data(value: Any, where: str) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Tensor):
        return value.detach().cpu().tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {str(key): _as_data(item, f"{where}[{key!r}]") for key, item in value.items()}
    if hasattr(value, "tolist"):  # NumPy arrays and numbers, without importing NumPy
        return value.tolist()
    if isinstance(value, Sequence | nn.ModuleList):
        return [_as_data(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if callable(value) or is_own(type(value)):
        return describe(value)
    raise TypeError(f"{where} must be a number, text, tensor, list or component, got {value!r}")


def _parameters(kind: type) -> dict[str, inspect.Parameter]:
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = inspect.signature(kind).parameters
    return {name: item for name, item in parameters.items() if item.kind in named}


def _known_classes(families: Sequence[ModuleType]) -> dict[str, type]:
    known: dict[str, type] = {}
    for family in families:
        for name in getattr(family, "__all__", None) or dir(family):
            value = getattr(family, name, None)
            if isinstance(value, type) and is_own(value) and not name.startswith("_"):
                known[name] = value
    return known
