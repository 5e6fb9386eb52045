"""Components that hold components: a kernel in an objective, a metric in a kernel.

    --objective ContrastiveDivergence --objective.kernel MALA --objective.kernel.step_size 0.01
    --sampler NUTS --sampler.inverse_mass DenseMetric

A parameter annotated as :class:`Kernel`, :class:`Objective` or :class:`Metric` is a component of
its own, found in its family like the outer one, to any depth.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from basin.cli.choices import FAMILIES, METRICS, Family
from basin.core.types import Kernel, Objective
from basin.mcmc.metric import Metric

__all__ = ["Component", "choose"]

_FAMILY_OF: Mapping[type, Family] = {
    Kernel: FAMILIES["sampler"],
    Objective: FAMILIES["objective"],
    Metric: METRICS,
}


@dataclass(frozen=True)
class Component:
    """A chosen class, where its options are (``objective.kernel``), and what it holds.

    Attributes:
        path: prefix of its options.
        kind: the class.
        inner: components by the parameter that takes them.
        defaults: parameters where the outer class has another default than the class itself.
    """

    path: str
    kind: type
    inner: Mapping[str, Component]
    defaults: Mapping[str, Any]

    def all_inner(self) -> list[Component]:
        """Every component inside, outermost first."""
        return [c for one in self.inner.values() for c in (one, *one.all_inner())]

    def build(self, parameters: Mapping[str, Any]) -> Any:
        """Make it from what the parser read."""
        own = {name: value for name, value in parameters.items() if name != "class"}
        for name, component in self.inner.items():
            own[name] = component.build(own.get(name) or {})
        return self.kind(**own)


def choose(
    path: str, kind: type, words: Sequence[str], defaults: Mapping[str, Any] | None = None
) -> tuple[Component, list[str]]:
    """The component at ``path`` with those inside it, and the words that did not name a class."""
    left = list(words)
    inner: dict[str, Component] = {}
    for name, parameter in inspect.signature(kind).parameters.items():
        family = _family_of(kind, name)
        if family is None:
            continue
        where = f"{path}.{name}"
        named, left = _taken(where, left)
        default = (defaults or {}).get(name, parameter.default)
        if named is None and default is parameter.empty:
            raise ValueError(
                f"--{where} must name one of {', '.join(family.members())}, got nothing"
            )
        chosen = type(default) if named is None else family.find(named, where)
        own = _attributes(default) if chosen is type(default) else {}
        inner[name], left = choose(where, chosen, left, own)
    return Component(path, kind, inner, defaults or {}), left


def _family_of(kind: type, parameter: str) -> Family | None:
    hints = typing.get_type_hints(kind if hasattr(kind, "__dataclass_fields__") else kind.__init__)
    return _FAMILY_OF.get(hints.get(parameter, None))  # type: ignore[arg-type]


def _taken(where: str, words: Sequence[str]) -> tuple[str | None, list[str]]:
    """The class that ``--where NAME`` names, the last one said, and the other words."""
    options = (f"--{where}", f"--{where}.class")
    named, left = None, []
    rest = iter(words)
    for word in rest:
        option, equals, value = word.partition("=")
        if option not in options:
            left.append(word)
            continue
        named = value if equals else next(rest, "")
        if not named or named.startswith("-"):
            raise ValueError(f"{option} must be followed by the name of a class")
    return named, left


def _attributes(instance: object) -> dict[str, Any]:
    """What an instance was made with."""
    return {name: getattr(instance, name) for name in inspect.signature(type(instance)).parameters}
