"""What ``--energy``, ``--objective`` and ``--sampler`` may name, and how a settings file merges.

A component is a class name and the parameters of its constructor, written the same way in a
settings file, in a run's ``config.json`` and in the shell:

    objective:                          --objective DenoisingScoreMatching
      class: DenoisingScoreMatching     --objective.sigma 0.1
      sigma: 0.1

The choices are found, not listed: every public class of the folder that is a member of the
family. A class of yours is named by its dotted path (``mypackage.energies.Mine``).
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from torch import nn

from basin.core.types import Kernel, Objective
from basin.mcmc.metric import Metric

__all__ = ["FAMILIES", "METRICS", "PRESETS", "Family", "as_arguments", "read_settings"]


@dataclass(frozen=True)
class Family:
    """One kind of component: its option, its folders, what all its members are."""

    name: str
    folders: tuple[str, ...]
    base: type
    hidden: frozenset[str] = frozenset()
    """Parameters that follow from the data (the shape) or the run (the seed)."""

    def members(self) -> dict[str, type]:
        """The public classes of the folders, by name."""
        modules = [importlib.import_module(folder) for folder in self.folders]
        found = {name: getattr(module, name) for module in modules for name in module.__all__}
        return {
            name: thing
            for name, thing in found.items()
            if inspect.isclass(thing)
            and issubclass(thing, self.base)
            and not inspect.isabstract(thing)
            and not hasattr(thing, "given")  # conditions come from a program, not from the shell
        }

    def find(self, name: str, option: str = "") -> type:
        """The class of that name or dotted path; a ``ValueError`` that lists the choices."""
        option = option or self.name
        members = self.members()
        if name in members:
            return members[name]
        module, _, last = name.rpartition(".")
        if module:
            if os.getcwd() not in sys.path:
                sys.path.insert(0, os.getcwd())  # a module of yours lies where you are
            try:
                thing = getattr(importlib.import_module(module), last)
            except Exception as error:  # importing runs the module, which may raise anything
                raise ValueError(
                    f"--{option} must name a class that can be imported, got {name!r}: {error!r}"
                ) from error
            if inspect.isclass(thing):
                return thing
        close = get_close_matches(name, members, n=1)
        mend = f"did you mean {close[0]}? " if close else ""
        raise ValueError(
            f"--{option} must be one of {', '.join(members)} or a dotted path to a class, "
            f"got {name!r}; {mend}".rstrip("; ")
        )


FAMILIES = {
    "energy": Family(
        "energy",
        ("basin.energies.networks", "basin.energies.discrete"),
        nn.Module,
        hidden=frozenset({"dim", "event_shape", "seed"}),
    ),
    "objective": Family("objective", ("basin.objectives",), Objective),
    "sampler": Family("sampler", ("basin.samplers",), Kernel),
}

METRICS = Family("inverse_mass", ("basin.mcmc",), Metric)
"""What a kernel may hold; it is named inside one, as ``--sampler.inverse_mass DenseMetric``."""

PRESETS = Path(__file__).parent / "presets"


def read_settings(arguments: list[str]) -> tuple[dict[str, Any], list[str]]:
    """Settings from ``--preset`` and ``--config`` in order, and the arguments that are left.

    A component named on the command line wins over the one of a file; if it is another class, the
    file's parameters for it are dropped, since they are not its own.
    """
    settings: dict[str, Any] = {}
    left: list[str] = []
    components = {f"--{name}": name for name in FAMILIES}
    components |= {f"--{name}.class": name for name in FAMILIES}
    words = iter(_split_equals(arguments, ["--config", "--preset", *components]))
    for word in words:
        if word in ("--config", "--preset"):
            _merge(settings, _read(word, next(words, "")))
        elif word in components:
            name = next(words, "")
            if not name or name.startswith("-"):
                raise ValueError(f"{word} must be followed by the name of a class")
            _merge(settings, {components[word]: name})
        else:
            left.append(word)
    return settings, left


def as_arguments(settings: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Settings as command-line words, so that files and shell pass the same checks.

    >>> as_arguments({"num_steps": 5, "energy": {"class": "MLP", "hidden": [64, 64]}})
    ['--num_steps=5', '--energy.class=MLP', '--energy.hidden=[64, 64]']
    """
    words: list[str] = []
    for key, value in settings.items():
        if isinstance(value, Mapping) and ("class" in value if prefix else key in FAMILIES):
            words += as_arguments(value, f"{prefix}{key}.")
        elif prefix and key == "class":
            words.append(f"--{prefix}class={value}")
        elif key == "data" and not prefix:
            words.insert(0, str(value))
        else:
            text = value if isinstance(value, str) else json.dumps(value)
            words.append(f"--{prefix}{key}={text}")
    return words


def _split_equals(arguments: list[str], options: list[str]) -> list[str]:
    """``--energy=MLP`` as two words, for the options that are read here."""
    words: list[str] = []
    for word in arguments:
        is_own = word.split("=", 1)[0] in options
        words += word.split("=", 1) if is_own else [word]
    return words


def _merge(settings: dict[str, Any], new: Mapping[str, Any]) -> None:
    """Lay ``new`` over ``settings``, component by component."""
    for key, value in new.items():
        if key not in FAMILIES:
            settings[key] = value
            continue
        if not isinstance(value, str | Mapping):
            raise ValueError(f"{key} must be a class name or a mapping with class, got {value!r}")
        component = {"class": value} if isinstance(value, str) else dict(value)
        old = settings.get(key) or {}
        keep = component.get("class", old.get("class")) == old.get("class")
        settings[key] = {**(old if keep else {}), **component}


def _read(option: str, name: str) -> dict[str, Any]:
    """A settings file of the user, or one that Basin ships."""
    import yaml

    if option == "--preset":
        path = PRESETS / f"{name}.yaml"
        known = ", ".join(sorted(p.stem for p in PRESETS.glob("*.yaml")))
        if not path.is_file():
            raise ValueError(f"--preset must be one of {known}, got {name!r}")
    else:
        path = Path(name)
        if not path.is_file():
            raise ValueError(f"--config must be a YAML file, got {name!r}, which is not there")
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{option} must be a YAML file, got {name!r}: {error}") from error
    if not isinstance(settings, dict):
        raise ValueError(f"{option} must hold 'name: value' lines, got {name!r}")
    return settings
