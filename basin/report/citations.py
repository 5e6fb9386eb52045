"""Which publications a run rests on, found from the class names in its ``config.json``.

Components carry their references (:mod:`basin.core.references`); what no class stands for (the
optimiser, the averaged weights, the two-sample test, the data) is listed here.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import Any

from basin.core.references import Reference, cite

__all__ = ["references_of"]

SURVEY = Reference(
    "How to Train Your Energy-Based Models",
    ("Y. Song", "D. P. Kingma"),
    2021,
    "https://arxiv.org/abs/2101.03288",
)
NOISE_LADDER = Reference(
    "Generative Modeling by Estimating Gradients of the Data Distribution",
    ("Y. Song", "S. Ermon"),
    2019,
    "https://arxiv.org/abs/1907.05600",
)
LANGEVIN = Reference(
    "Exponential convergence of Langevin distributions and their discrete approximations",
    ("G. O. Roberts", "R. L. Tweedie"),
    1996,
    "https://doi.org/10.2307/3318418",
)
MALA_SCALING = Reference(
    "Optimal scaling of discrete approximations to Langevin diffusions",
    ("G. O. Roberts", "J. S. Rosenthal"),
    1998,
    "https://doi.org/10.1111/1467-9868.00123",
)
MMD = Reference(
    "A Kernel Two-Sample Test",
    ("A. Gretton", "K. M. Borgwardt", "M. J. Rasch", "B. Schölkopf", "A. Smola"),
    2012,
    "https://jmlr.org/papers/v13/gretton12a.html",
)
AVERAGING = Reference(
    "Acceleration of Stochastic Approximation by Averaging",
    ("B. T. Polyak", "A. B. Juditsky"),
    1992,
    "https://doi.org/10.1137/0330046",
)
ADAM = Reference(
    "Adam: A Method for Stochastic Optimization",
    ("D. P. Kingma", "J. Ba"),
    2015,
    "https://arxiv.org/abs/1412.6980",
)
DIGITS = Reference(
    "Optical Recognition of Handwritten Digits",
    ("E. Alpaydin", "C. Kaynak"),
    1998,
    "https://doi.org/10.24432/C50P49",
)

FAMILIES = ("objectives", "energies", "samplers", "schedules", "datasets")
OF_CLASS: Mapping[str, tuple[Reference, ...]] = {
    "AnnealedLangevin": (NOISE_LADDER,),
    "Langevin": (LANGEVIN,),
    "MALA": (LANGEVIN, MALA_SCALING),
}


def references_of(
    config: Mapping[str, Any], evaluation: Mapping[str, Any]
) -> tuple[Reference, ...]:
    """The publications that a run rests on, by year, each once.

    Args:
        config: what ``config.json`` holds; every nested ``{"class": name}`` counts.
        evaluation: what ``evaluation.json`` holds; its keys count.

    Example:
        >>> [r.year for r in references_of({"training": {"ema_decay": None}}, {})]
        [2015, 2021]
    """
    found = {SURVEY.url: SURVEY}

    def add(*references: Reference) -> None:
        found.update({reference.url: reference for reference in references})

    for name in _class_names(config):
        add(*OF_CLASS.get(name, ()))
        for family in FAMILIES:
            kind = getattr(importlib.import_module(f"basin.{family}"), name, None)
            if isinstance(kind, type):
                add(*cite(kind))
    training = config.get("training")
    if isinstance(training, Mapping):
        add(ADAM)
        if training.get("ema_decay"):
            add(AVERAGING)
    if "mmd" in evaluation:
        add(MMD)
    data = config.get("data")
    if isinstance(data, Mapping) and data.get("name") in ("digits", "binarised_digits"):
        add(DIGITS)
    return tuple(sorted(found.values(), key=lambda reference: (reference.year, reference.title)))


def _class_names(value: Any, depth: int = 0) -> Iterator[str]:
    """Every name under a key ``class`` in a nest of mappings and lists; public names only."""
    if depth > 20:
        return
    if isinstance(value, Mapping):
        name = value.get("class")
        if isinstance(name, str) and name.isidentifier() and not name.startswith("_"):
            yield name
        for part in value.values():
            yield from _class_names(part, depth + 1)
    elif isinstance(value, list | tuple):
        for part in value[:1000]:
            yield from _class_names(part, depth + 1)
