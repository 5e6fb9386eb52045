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
from basin.cli.parser import Parser, first_sentence
from basin.core.types import Kernel, Objective
from basin.mcmc.metric import Metric

__all__ = ["Component", "add_component", "choose", "taken"]

_FAMILY_OF: Mapping[type, Family] = {
    Kernel: FAMILIES["sampler"],
    Objective: FAMILIES["objective"],
    Metric: METRICS,
}


TITLES = {
    "energy": "energy: the network E(x), low where x is likely",
    "objective": "objective: what training minimises",
    "sampler": "sampler: the Markov chain that draws the report's samples",
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
        named, left = taken(where, left)
        default = (defaults or {}).get(name, parameter.default)
        if named is None and default is parameter.empty:
            raise ValueError(
                f"--{where} must name one of {', '.join(family.members())}, got nothing"
            )
        chosen = type(default) if named is None else family.find(named, where)
        own = _attributes(default) if chosen is type(default) else {}
        inner[name], left = choose(where, chosen, left, own)
    return Component(path, kind, inner, defaults or {}), left


def add_component(
    parser: Parser, name: str, members: Mapping[str, type], chosen: Component | None
) -> None:
    """Show a family's classes, and the options of the one that was chosen."""
    group = parser.add_argument_group(TITLES[name])
    lines = "; ".join(f"{member} ({first_sentence(kind)})" for member, kind in members.items())
    group.add_argument(
        f"--{name}.class",
        metavar="NAME",
        default=None if chosen is None else _name_of(chosen.kind, members),
        help=f"one of: {lines}; or the dotted path of a class of yours",
    )
    for component in () if chosen is None else (chosen, *chosen.all_inner()):
        parameters = set(inspect.signature(component.kind).parameters)
        hidden = FAMILIES[name].hidden if component is chosen else frozenset()
        skip: set[str | int] = {*(hidden & parameters), *component.inner}
        if component is not chosen:
            group.add_argument(
                f"--{component.path}.class",
                metavar="NAME",
                default=component.kind.__name__,
                help="a class of its family: " + first_sentence(component.kind),
            )
        _resolve_annotations(component.kind)
        group.add_class_arguments(
            component.kind, component.path, as_group=False, instantiate=False, skip=skip
        )
        parser.set_defaults(
            {
                f"{component.path}.{parameter}": value
                for parameter, value in component.defaults.items()
                if parameter not in component.inner
            }
        )


def _name_of(chosen: type, members: Mapping[str, type]) -> str:
    own = members.get(chosen.__name__) is chosen
    return chosen.__name__ if own else f"{chosen.__module__}.{chosen.__qualname__}"


def _resolve_annotations(kind: type) -> None:
    """Give the constructor types in place of their names.

    The parser looks names up in the module of the class alone; those of a base class, which may
    come from elsewhere, would cost it the types of all parameters.
    """
    own = getattr(kind.__init__, "__annotations__", {})
    found = _type_hints(kind)
    own.update({name: found[name] for name in own if name in found})


def _type_hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind if hasattr(kind, "__dataclass_fields__") else kind.__init__)


def _family_of(kind: type, parameter: str) -> Family | None:
    return _FAMILY_OF.get(_type_hints(kind).get(parameter, None))  # type: ignore[arg-type]


def taken(where: str, words: Sequence[str]) -> tuple[str | None, list[str]]:
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
