"""``basin evaluate DIR``: measure a trained model again."""

from __future__ import annotations

import json

from basin.cli import job
from basin.cli.parser import Parser
from basin.cli.show import evaluation_table
from basin.core.validation import positive, positive_integer
from basin.training import CHECKS
from basin.training.check_log_z import LOG_Z_METHODS

__all__ = ["run"]

DESCRIPTION = """\
Measure a trained model and write DIR/evaluation.json. Where the truth is known (a toy density):
the Kullback-Leibler divergence by quadrature, the error of log Z, the Fisher divergence, the
weights of the modes. Everywhere: held-out loss against the trivial predictor, samples against
held-out rows (distances, a classifier, precision and recall, coverage, calibration), and whether
samples repeat training rows. Each with its error or p-value, its number of rows, and what a perfect
model would score (the floor).

Runs that were trained by sampling are tried by chains ten times as long as training's, from data
and from noise; --long_run does it for any run, and longer.

--log_z estimates log Z by another method than training did, in any dimension, sets the two beside
each other (log_z_check) and uses the estimate in the log-likelihood: smc and ais go down the noise
levels, bridge does so in both directions, probability_flow and quadrature are for few dimensions.
With --tolerance a log-likelihood whose log Z is not known so well is refused."""

EXAMPLES = """\
  basin evaluate runs/board
  basin evaluate runs/board --json | python -m json.tool
  basin evaluate runs/board --weights ema
  basin evaluate runs/board --checks mmd,energy_distance,classifier_two_sample
  basin evaluate runs/board --long_run 100
  basin evaluate runs/wine --log_z smc --num_particles 2048 --tolerance 0.1"""


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
    parser.add_argument(
        "--checks",
        metavar="NAME,NAME",
        help="only these; the results are printed and not written. Names: " + ", ".join(CHECKS),
    )
    parser.add_argument(
        "--long_run",
        metavar="FACTOR",
        type=int,
        help="chains this many times as long as training's: 10 to 100 tell, 1000 is the most",
    )
    parser.add_argument(
        "--spacing",
        metavar="DELTA",
        type=float,
        help="of the numbers in the data, for bits per dimension: 1 for grey levels 0..255",
    )
    parser.add_argument(
        "--log_z", metavar="|".join(LOG_Z_METHODS), help="estimate log Z by this method too"
    )
    parser.add_argument(
        "--num_particles", type=int, default=1024, help="particles, chains or draws of --log_z"
    )
    parser.add_argument(
        "--tolerance",
        type=float | None,
        default=None,
        help="nats that log Z may be off by in a log-likelihood",
    )
    parser.add_argument("--json", action="store_true", help="print evaluation.json, nothing else")
    job.add_energy(parser)
    given = parser.parse(arguments)
    weights = given["weights"]
    if weights not in (None, "raw", "ema"):
        raise ValueError(f"--weights must be raw or ema, got {weights!r}")
    method = given["log_z"]
    if method not in (None, *LOG_Z_METHODS):
        raise ValueError(f"--log_z must be one of {', '.join(LOG_Z_METHODS)}, got {method!r}")
    if given["tolerance"] is not None:
        positive(tolerance=given["tolerance"])
    positive_integer(num_particles=given["num_particles"])
    chosen = job.open_run(given["folder"], energy=given["energy"])
    model = job.open_run(given["folder"], weights=weights, energy=given["energy"])
    checks = None if given["checks"] is None else tuple(given["checks"].split(","))
    for name in checks or ():
        if name not in CHECKS:
            raise ValueError(f"--checks must be among {', '.join(CHECKS)}, got {name!r}")
    check = None
    if method is not None:
        check = job.check_log_z(model, method, given["num_particles"], given["seed"])
    is_chosen = model.config["weights"] == chosen.config["weights"]
    measure = job.evaluate if is_chosen else job.evaluate_other_weights
    results = measure(
        model,
        job.data_of(model),
        seed=given["seed"],
        checks=checks,
        long_run=given["long_run"],
        spacing=given["spacing"],
        log_z_check=check,
        tolerance=given["tolerance"],
    )
    print(json.dumps(results, indent=2) if given["json"] else evaluation_table(results))
    return 0
