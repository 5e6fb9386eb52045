"""``basin train DATA --out DIR``: data in, run folder with report out."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import basin
from basin.cli.choices import FAMILIES, as_arguments, read_settings
from basin.cli.components import Component, add_component, choose
from basin.cli.job import (
    DEFAULT_OBJECTIVE,
    NUM_SAMPLES,
    build_energy,
    check_kernel,
    check_out,
    default_energy_name,
    load_data,
    train,
)
from basin.cli.parser import Parser
from basin.cli.show import show_end
from basin.cli.wide_rows import rows_that_fit
from basin.datasets import load

__all__ = ["run"]

USAGE = "DATA --out DIR [options]"

DESCRIPTION = """\
Learn an energy-based model from data, draw from it, measure it and write a report.

DATA is a name that `basin data` lists (checkerboard, digits, wine ...) or a file: .csv .parquet
.npy .npz, one row an observation, numbers only. A toy density is drawn afresh at every step. A
table is standardised by its training part, and the standardisation is a part of the model.

Without options the objective is dual score matching: a normalised log density at every noise
level, without Markov chains. The parameters shown below are those of the chosen objective and
energy; see others by `basin train --objective DenoisingScoreMatching --help`."""

EXAMPLES = """\
  basin train checkerboard --out runs/board
  basin train checkerboard --out runs/lesson --preset course
  basin train digits --out runs/digits --seed 1
  basin train sales.csv --out runs/sales --columns price,area --num_steps 8000
  basin train two_moons --out runs/moons --objective DenoisingScoreMatching --objective.sigma 0.2
  basin train rings --out runs/rings --energy.hidden 64,64 --print_config > rings.yaml
  basin train --config rings.yaml --out runs/rings2"""

# What this command fills in, or says in another way, of basin.fit and basin.datasets.load.
FILLED = {
    *("energy", "x", "objective", "out", "overwrite", "progress"),
    *("validation", "condition", "sample_weight", "on_evaluation", "extra"),  # of a program
}
FILLED |= {"source", "fingerprint"}


def run(arguments: list[str]) -> int:
    """Parse, train, say where the report is."""
    settings, left = read_settings([word for word in arguments if word != "--print_config"])
    data_of_file = settings.pop("data", None)  # DATA on the command line wins, as options do
    words = as_arguments(settings) + left
    components, words = _choose(settings, words)
    parser = _make_parser(components)
    if "--print_config" in arguments:
        print(_as_yaml(_with_data(parser.parse(words), data_of_file)), end="")
        return 0
    given = _with_data(parser.parse_and_build(words), data_of_file)
    for key, mend in (("data", "DATA"), ("out", "--out DIR")):
        if given[key] is None:
            raise ValueError(f"{mend} must be given; see basin train --help")
    out = Path(given["out"])
    check_out(out, overwrite=given["overwrite"])
    dataset = load_data(given["data"], _pick(given, _options(load)))
    settled = _own(given, "energy")
    energy_settings = {name: settled[name] for name in settled if _is_said("energy", name, words)}
    energy = components["energy"].kind
    if "seed" in inspect.signature(energy).parameters:
        energy_settings["seed"] = given["seed"]
    objective = components["objective"].build(given["objective"])
    is_discrete = objective.support == "discrete"
    if is_discrete and "num_states" in inspect.signature(energy).parameters:
        energy_settings.setdefault("num_states", objective.num_states)
    kernel = components["sampler"].build(given["sampler"]) if "sampler" in components else None
    check_kernel(
        kernel,
        is_discrete=is_discrete,
        has_noise_levels=hasattr(energy, "at"),
    )
    if not _is_given("batch_size", words):
        usual, shape = given["batch_size"], dataset.train.event_shape
        given["batch_size"] = rows_that_fit(usual, shape, "a batch", "--batch_size")
    done, results = train(
        dataset,
        build_energy(
            dataset, energy, energy_settings, standardise=not is_discrete, seed=given["seed"]
        ),
        objective,
        out,
        kernel=kernel,
        num_samples=given["num_samples"],
        energy_settings=energy_settings,
        overwrite=given["overwrite"],
        **_pick(given, _options(basin.fit)),
    )
    show_end(done, results)
    return 0


def _with_data(given: dict[str, Any], data_of_file: Any) -> dict[str, Any]:
    if given["data"] is not None or data_of_file is None:
        return given
    return {**given, "data": str(data_of_file)}


def _choose(
    settings: Mapping[str, Any], words: list[str]
) -> tuple[dict[str, Component], list[str]]:
    """The components that were named, else the defaults, and the words that are left."""
    named = {name: (settings.get(name) or {}).get("class") for name in FAMILIES}
    chosen: dict[str, Component] = {}
    kind = FAMILIES["objective"].find(named["objective"] or DEFAULT_OBJECTIVE)
    chosen["objective"], words = choose("objective", kind, words)
    inner = _innermost(chosen["objective"])
    kernel = inner.inner.get("kernel")
    default = default_energy_name(inner.kind, None if kernel is None else kernel.kind)
    energy = named["energy"] or default
    chosen["energy"], words = choose("energy", FAMILIES["energy"].find(energy), words)
    if named["sampler"]:
        kind = FAMILIES["sampler"].find(named["sampler"])
        chosen["sampler"], words = choose("sampler", kind, words)
    return chosen, words


def _innermost(objective: Component) -> Component:
    """The objective that a penalty wraps, which is the one that asks for an energy."""
    inner = objective.inner.get("objective")
    return objective if inner is None else _innermost(inner)


def _make_parser(components: Mapping[str, Component]) -> Parser:
    parser = Parser("train", USAGE, DESCRIPTION, EXAMPLES)
    parser.add_argument("data", nargs="?", metavar="DATA", help="a name or a file")
    parser.add_argument("--out", metavar="DIR", help="run folder to write: new or empty")
    parser.add_argument(
        "--overwrite", action="store_true", help="empty --out first if it holds another run"
    )
    parser.add_argument("--config", metavar="FILE", help="settings from a YAML file")
    parser.add_argument(
        "--preset",
        metavar="NAME",
        help="settings that Basin ships: course (the lesson's), stable (training by sampling)",
    )
    counts = ", ".join(f"{count:,} for {kind}" for kind, count in NUM_SAMPLES.items())
    parser.add_argument(
        "--num_samples",
        type=int | None,
        default=None,
        help=f"rows of samples.npz; by default {counts}, fewer of wide rows",
    )
    parser.add_argument(
        "--print_config", action="store_true", help="print all settings as YAML and stop"
    )
    for name, family in FAMILIES.items():
        add_component(parser, name, family.members(), components.get(name))
    for title, function in (("training", basin.fit), ("data", load)):
        known = set(_options(basin.fit)) if function is load else set()
        hidden = set(inspect.signature(function).parameters) - set(_options(function))
        skip: set[str | int] = {*hidden, *known}
        group = parser.add_argument_group(title)
        group.add_function_arguments(function, as_group=False, skip=skip)
    return parser


def _options(function: Any) -> list[str]:
    """Keyword parameters of ``function`` that the shell offers."""
    parameters = inspect.signature(function).parameters.values()
    return [p.name for p in parameters if p.name not in FILLED and p.kind != p.VAR_KEYWORD]


def _pick(given: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: given[name] for name in names if name in given}


def _own(given: Mapping[str, Any], component: str) -> dict[str, Any]:
    """Parameters of a component without the name of its class."""
    return {name: value for name, value in given[component].items() if name != "class"}


def _is_said(component: str, name: str, words: Iterable[str]) -> bool:
    """Whether a parameter was given, rather than left to its default or to the data."""
    return _is_given(f"{component}.{name}", words)


def _is_given(name: str, words: Iterable[str]) -> bool:
    option = f"--{name}"
    return any(word == option or word.startswith((f"{option}=", f"{option}.")) for word in words)


def _as_yaml(given: Mapping[str, Any]) -> str:
    """All settings as a file for ``--config``."""
    import yaml

    dropped = ("config", "preset", "out", "overwrite", "print_config")
    kept = {key: _plain(value) for key, value in given.items() if key not in dropped}
    kept = {key: value for key, value in kept.items() if value != {"class": None}}
    if kept["data"] is None:
        del kept["data"]
    return yaml.safe_dump(kept, sort_keys=False, default_flow_style=None)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return list(value) if isinstance(value, tuple) else value
