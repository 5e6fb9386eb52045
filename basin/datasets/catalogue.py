"""The data sources that have a name: toy densities with known truth, and scikit-learn's data.

A toy density is found by scanning this folder for classes that build without arguments; its name
is the class name in snake_case (``TwoMoons`` is ``two_moons``).
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from pathlib import Path
from typing import NamedTuple

from basin.core.types import Density
from basin.datasets.scikit_learn import SCIKIT_LEARN

__all__ = ["CatalogueEntry", "catalogue", "toy_densities"]

ALIASES = {"gaussian": "standard_gaussian", "moons": "two_moons", "spirals": "two_spirals"}
NUMERALS = {"2": "two", "8": "eight"}


class CatalogueEntry(NamedTuple):
    """A source that :func:`basin.datasets.load` knows by name."""

    name: str
    kind: str
    description: str


def catalogue() -> list[CatalogueEntry]:
    """Every named source: (name, kind, description), densities first.

    Example:
        >>> [entry.name for entry in catalogue() if entry.kind == "images"]
        ['binarised_digits', 'digits']
    """
    toys = [
        CatalogueEntry(name, "density", _first_sentence(density))
        for name, density in toy_densities().items()
    ]
    real = [CatalogueEntry(name, *entry) for name, entry in SCIKIT_LEARN.items()]
    return toys + real


def toy_densities() -> dict[str, type[Density]]:
    """snake_case name -> class, for every density of this folder that builds without arguments."""
    found: dict[str, type[Density]] = {}
    package = __name__.rpartition(".")[0]
    for module in pkgutil.iter_modules([str(Path(__file__).parent)], prefix=f"{package}."):
        for name, item in vars(importlib.import_module(module.name)).items():
            if name.startswith("_") or getattr(item, "__module__", "") != module.name:
                continue
            if inspect.isclass(item) and issubclass(item, Density) and _has_defaults(item):
                found[snake_case(name)] = item
    return dict(sorted(found.items()))


def canonical_name(word: str) -> str | None:
    """The catalogue's name for ``word`` (``8gaussians``, ``Two-Moons``), or None."""
    plain = re.sub(r"[-_\s]", "", word).lower()
    plain = NUMERALS.get(plain[:1], plain[:1]) + plain[1:]
    known = [*toy_densities(), *SCIKIT_LEARN]
    known += [alias for alias, name in ALIASES.items() if name in known and alias not in known]
    matches = [name for name in known if name.replace("_", "") == plain]
    return ALIASES.get(matches[0], matches[0]) if matches else None


def snake_case(name: str) -> str:
    """``EightGaussians`` -> ``eight_gaussians``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def _has_defaults(item: type[Density]) -> bool:
    if inspect.isabstract(item):
        return False
    optional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return all(
        parameter.default is not parameter.empty or parameter.kind in optional
        for parameter in inspect.signature(item).parameters.values()
    )


def _first_sentence(item: type) -> str:
    return (inspect.getdoc(item) or item.__name__).split("\n\n")[0].replace("\n", " ").strip()
