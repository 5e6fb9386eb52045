"""``basin sample DIR``: draws from a trained model, in the user's units."""

from __future__ import annotations

from pathlib import Path

from basin.cli.choices import FAMILIES
from basin.cli.components import add_component, choose, taken
from basin.cli.job import (
    NUM_SAMPLES,
    add_energy,
    check_ending,
    default_num_samples,
    draw,
    folder_of,
    open_run,
)
from basin.cli.parser import Parser
from basin.core.validation import positive, positive_integer

__all__ = ["run"]

DESCRIPTION = """\
Draw from a trained model. Rows come in the units of the data.

A model of a noise level sigma describes the data blurred by N(0, sigma^2 I), and so do its draws;
--sigma chooses another level where the energy knows several; --sampler another way to draw than
the model's own, one Markov chain a row."""

EXAMPLES = """\
  basin sample runs/board --num_samples 10000 --seed 1
  basin sample runs/wine --num_samples 500 --out draws.csv
  basin sample runs/digits --sigma 0.3 --out blurred.npy
  basin sample runs/wine --sampler NUTS --out chains.csv"""


def run(arguments: list[str]) -> int:
    """Load, draw, write."""
    named, words = taken("sampler", arguments)
    sampler = None
    if named:
        sampler, words = choose("sampler", FAMILIES["sampler"].find(named), words)
    parser = Parser("sample", "DIR [options]", DESCRIPTION, EXAMPLES)
    parser.add_argument("folder", metavar="DIR", help="run folder")
    counts = ", ".join(f"{count:,} for {kind}" for kind, count in NUM_SAMPLES.items())
    parser.add_argument(
        "--num_samples", type=int, help=f"rows to draw; by default {counts}, fewer of wide rows"
    )
    parser.add_argument("--seed", type=int, default=0, help="same seed, same machine: same bits")
    parser.add_argument(
        "--sigma", type=float | None, default=None, help="noise level; the run's own when left out"
    )
    parser.add_argument(
        "--out", metavar="FILE", help=".npz, .npy or .csv; DIR/samples.npz when left out"
    )
    add_component(parser, "sampler", FAMILIES["sampler"].members(), sampler)
    add_energy(parser)
    given = parser.parse_and_build(words)
    if given["num_samples"] is not None:
        positive_integer(num_samples=given["num_samples"])
    if given["sigma"] is not None:
        positive(sigma=given["sigma"])
    if given["out"] is not None:
        check_ending(Path(given["out"]))
    model = open_run(given["folder"], energy=given["energy"])
    path = Path(given["out"] or folder_of(model) / "samples.npz")
    draw(
        model,
        path,
        num_samples=given["num_samples"] or default_num_samples(model),
        seed=given["seed"],
        sigma=given["sigma"],
        kernel=None if sampler is None else sampler.build(given["sampler"]),
    )
    print(path)
    return 0
