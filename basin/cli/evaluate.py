"""``basin evaluate DIR``: measure a trained model again."""

from __future__ import annotations

import json

from basin.cli import job
from basin.cli.parser import Parser
from basin.cli.show import evaluation_table

__all__ = ["run"]

DESCRIPTION = """\
Measure a trained model and write DIR/evaluation.json. Where the truth is known (a toy density):
the Kullback-Leibler divergence by quadrature, the error of log Z, the Fisher divergence, the
weights of the modes. Elsewhere: held-out loss against the trivial predictor, energies of held-out
rows, a two-sample test, and whether samples repeat training rows. Each with its error and with
what a perfect model would score (the floor)."""

EXAMPLES = """\
  basin evaluate runs/board
  basin evaluate runs/board --json | python -m json.tool
  basin evaluate runs/board --weights ema"""


def run(arguments: list[str]) -> int:
    """Load the run and its data, measure, print."""
    parser = Parser("evaluate", "DIR [options]", DESCRIPTION, EXAMPLES)
    parser.add_argument("folder", metavar="DIR", help="run folder")
    parser.add_argument("--seed", type=int, default=0, help="of the draws that measuring needs")
    parser.add_argument(
        "--weights",
        metavar="raw|ema",
        help="the run's chosen weights when left out; the others are measured without writing",
    )
    parser.add_argument("--json", action="store_true", help="print evaluation.json, nothing else")
    given = parser.parse(arguments)
    weights = given["weights"]
    if weights not in (None, "raw", "ema"):
        raise ValueError(f"--weights must be raw or ema, got {weights!r}")
    chosen = job.open_run(given["folder"])
    model = job.open_run(given["folder"], weights=weights)
    is_chosen = model.config["weights"] == chosen.config["weights"]
    measure = job.evaluate if is_chosen else job.evaluate_other_weights
    results = measure(model, job.data_of(model), seed=given["seed"])
    print(json.dumps(results, indent=2) if given["json"] else evaluation_table(results))
    return 0
