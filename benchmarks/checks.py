"""Each check of basin.evaluation that has a p-value: how often it cries wolf, and what it sees.

    python benchmarks/checks.py [--nulls 1000] [--alternatives 300] [--only NAME ...]

writes ``docs/checks.md`` and ``benchmarks/results/checks.json``. For every check its null
hypothesis is made true 1,000 times; a p-value of at most 0.05 is a false alarm, of which 5% are
due, 2.3% to 7.7% within 3.9 standard errors. Then one stated thing is made wrong, and the share of
p-values of at most 0.05 is the power. Small samples and few permutations (59: the smallest p-value
is 1/60, and 3/60 is 5% exactly) keep it to some minutes on one core; the power grows with both.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

import basin
from basin import evaluation
from basin.evaluation import Estimate

ROOT = Path(__file__).resolve().parent.parent
LEVEL, NUM_PERMUTATIONS, N, M = 0.05, 59, 50, 40

Trial = Callable[[bool, torch.Generator], Estimate]
"""``trial(is_null, generator)``: one use of the check."""


class Case(NamedTuple):
    """A check, the data of its null hypothesis and what is wrong in the alternative."""

    name: str
    null: str
    alternative: str
    trial: Trial


def normal(n: int, dim: int, generator: torch.Generator) -> Tensor:
    return torch.randn(n, dim, generator=generator, dtype=torch.float64)


def standard(x: Tensor) -> Tensor:
    """Energy of N(0, I)."""
    return 0.5 * x.square().sum(1)


def moved(n: int, shift: float, generator: torch.Generator) -> Tensor:
    return normal(n, 2, generator) + torch.tensor([shift, 0.0]).double()


def two_sample(check: Any, n: int = N, m: int = M, **options: Any) -> Trial:
    """Samples moved by one standard deviation in one of two coordinates."""

    def trial(is_null: bool, generator: torch.Generator) -> Estimate:
        x, y = moved(n, 0.0 if is_null else 1.0, generator), normal(m, 2, generator)
        return check(x, y, generator, **options)

    return trial


def neighbours(check: Any, factor: float) -> Trial:
    """Samples too wide or too narrow."""

    def trial(is_null: bool, generator: torch.Generator) -> Estimate:
        x, y = normal(N, 2, generator), normal(M, 2, generator)
        x = x if is_null else factor * x
        return check(x, y, generator, num_permutations=NUM_PERMUTATIONS)

    return trial


def stein(is_null: bool, generator: torch.Generator) -> Estimate:
    x = moved(80, 0.0 if is_null else 0.5, generator)
    return evaluation.kernel_stein_discrepancy(standard, x, generator, num_bootstraps=199)


def regions(is_null: bool, generator: torch.Generator) -> Estimate:
    data, samples = normal(90, 2, generator), normal(71, 2, generator)
    samples = samples if is_null else 0.7 * samples
    return evaluation.highest_density_calibration(standard, data, samples)


def marginals(is_null: bool, generator: torch.Generator) -> Estimate:
    samples, data = moved(90, 0.0 if is_null else 0.6, generator), normal(71, 2, generator)
    return evaluation.marginal_calibration(samples, data)


def gap(is_null: bool, generator: torch.Generator) -> Estimate:
    data, samples = normal(60, 2, generator), normal(60, 2, generator)
    samples = samples if is_null else 0.7 * samples
    return evaluation.energy_gap(standard, data, samples, generator)


def copies(is_null: bool, generator: torch.Generator) -> Estimate:
    train, fresh = normal(200, 2, generator), normal(80, 2, generator)
    samples = normal(80, 2, generator)
    if not is_null:
        samples[:40] = train[:40] + 0.01 * normal(40, 2, generator)
    return evaluation.memorisation(samples, train, fresh, generator)


def modes(is_null: bool, generator: torch.Generator) -> Estimate:
    truth = basin.datasets.EightGaussians()
    samples = truth.sample(400, generator)
    if not is_null:
        kept = (truth.mode_of(samples) != 0) | (torch.rand(400, generator=generator) < 0.3)
        samples = samples[kept]
    return evaluation.mode_weights(samples, truth, generator, num_simulations=300)


def probabilities(is_null: bool, generator: torch.Generator) -> Estimate:
    p = torch.rand(300, generator=generator, dtype=torch.float64)
    events = (torch.rand(300, generator=generator, dtype=torch.float64) < p).long()
    said = p if is_null else torch.sigmoid(2 * torch.logit(p))
    return evaluation.calibration_error(said, events, generator, num_simulations=NUM_PERMUTATIONS)


def chains(is_null: bool, generator: torch.Generator) -> Estimate:
    """Autoregressions of correlation ½: 3 steps of memory, 50 lengths of it in a half-chain."""
    noise = normal(300, 4, generator)
    states = [noise[0]]
    for z in noise[1:]:
        states.append(0.5 * states[-1] + math.sqrt(0.75) * z)
    positions = torch.stack(states, dim=1)
    if not is_null:
        positions[0] += 0.5
    return evaluation.convergence(positions)


def long_chains(is_null: bool, generator: torch.Generator) -> Estimate:
    rows, noise = normal(100, 2, generator), 2 * normal(20, 2, generator)
    precision = 1.0 if is_null else 4.0
    return evaluation.long_run(
        lambda x: precision * standard(x),
        basin.samplers.MALA(0.5),
        rows,
        noise,
        generator,
        num_steps=2,
        factor=5,
        num_permutations=NUM_PERMUTATIONS,
    )


SHIFT = "samples moved by 1 standard deviation in one of 2 coordinates"
GAUSSIAN = f"{N} samples and {M} held-out rows of N(0, I), d = 2"
WITH_PERMUTATIONS = {"num_permutations": NUM_PERMUTATIONS}
CASES = (
    Case(
        "kernel_stein_discrepancy",
        "80 rows of N(0, I), d = 2, and its energy",
        "rows moved by ½ standard deviation in one coordinate",
        stein,
    ),
    Case("mmd", GAUSSIAN, SHIFT, two_sample(evaluation.mmd, **WITH_PERMUTATIONS)),
    Case(
        "energy_distance",
        GAUSSIAN,
        SHIFT,
        two_sample(evaluation.energy_distance, **WITH_PERMUTATIONS),
    ),
    Case(
        "sliced_wasserstein",
        GAUSSIAN,
        SHIFT,
        two_sample(evaluation.sliced_wasserstein, num_directions=10, **WITH_PERMUTATIONS),
    ),
    Case(
        "wasserstein",
        "30 samples and 30 held-out rows of N(0, I), d = 2",
        SHIFT,
        two_sample(evaluation.wasserstein, 30, 30, num_permutations=39),
    ),
    Case(
        "classifier_two_sample",
        "100 samples and 100 held-out rows of N(0, I), d = 2",
        SHIFT,
        two_sample(evaluation.classifier_two_sample, 100, 100),
    ),
    Case("precision", GAUSSIAN, "samples 2 times too wide", neighbours(evaluation.precision, 2.0)),
    Case("recall", GAUSSIAN, "samples 2 times too narrow", neighbours(evaluation.recall, 0.5)),
    Case("coverage", GAUSSIAN, "samples 2 times too narrow", neighbours(evaluation.coverage, 0.5)),
    Case(
        "density_of_samples",
        GAUSSIAN,
        "samples 2 times too wide",
        neighbours(evaluation.density_of_samples, 2.0),
    ),
    Case(
        "marginal_calibration",
        "90 samples and 71 held-out rows of N(0, I), d = 2",
        "samples moved by 0.6 standard deviations in one of 2 coordinates",
        marginals,
    ),
    Case(
        "highest_density_calibration",
        "71 samples and 90 held-out rows of N(0, I), d = 2, and its energy",
        "samples 0.7 times as wide",
        regions,
    ),
    Case(
        "energy_gap",
        "60 samples and 60 held-out rows of N(0, I), d = 2, and its energy",
        "samples 0.7 times as wide",
        gap,
    ),
    Case(
        "memorisation",
        "80 samples, 80 held-out and 200 training rows of N(0, I), d = 2",
        "half of the samples copies of training rows, moved by 0.01",
        copies,
    ),
    Case(
        "mode_weights",
        "400 exact draws of eight Gaussians",
        "70% of one mode's draws missing",
        modes,
    ),
    Case(
        "calibration_error",
        "300 events of uniform probabilities",
        "probabilities said with twice their logit (too sure)",
        probabilities,
    ),
    Case(
        "convergence",
        "4 chains of 300 steps, autoregressions of correlation ½",
        "one chain moved by ½ standard deviation",
        chains,
    ),
    Case(
        "long_run",
        "100 rows of N(0, I), d = 2; MALA on its energy, 10 steps",
        "the energy four times too high (standard deviation ½ for 1)",
        long_chains,
    ),
)


def measure(case: Case, num_nulls: int, num_alternatives: int) -> dict[str, Any]:
    generator = basin.core.stream(2021, f"checks {case.name}")
    started = time.process_time()
    alarms = sum(case.trial(True, generator).p_value <= LEVEL for _ in range(num_nulls))
    seconds = time.process_time() - started
    seen = sum(case.trial(False, generator).p_value <= LEVEL for _ in range(num_alternatives))
    rate, power = alarms / num_nulls, seen / num_alternatives
    one = case.trial(True, generator)
    return {
        "check": case.name,
        "null": case.null,
        "null_hypothesis": one.null,
        "alternative": case.alternative,
        "num_nulls": num_nulls,
        "false_alarm_rate": rate,
        "standard_errors_from_level": (rate - LEVEL) / math.sqrt(LEVEL * (1 - LEVEL) / num_nulls),
        "num_alternatives": num_alternatives,
        "power": power,
        "power_standard_error": math.sqrt(power * (1 - power) / num_alternatives),
        "cpu_milliseconds_a_check": 1000 * seconds / num_nulls,
    }


def page(results: list[dict[str, Any]]) -> str:
    """``docs/checks.md``."""
    rows = [
        f"| `{found['check']}` | {found['null']} | {100 * found['false_alarm_rate']:.1f}% of "
        f"{found['num_nulls']} | {found['standard_errors_from_level']:+.1f} | "
        f"{found['alternative']} | {100 * found['power']:.0f}% ± "
        f"{100 * found['power_standard_error']:.0f} | {found['cpu_milliseconds_a_check']:.0f} |"
        for found in results
    ]
    nulls: dict[str, list[str]] = {}
    for found in results:
        nulls.setdefault(found["null_hypothesis"], []).append(f"`{found['check']}`")
    in_words = [f"- {null}: {', '.join(names)}" for null, names in nulls.items()]
    return PAGE.format(torch=torch.__version__, rows="\n".join(rows), nulls="\n".join(in_words))


PAGE = """\
# How far the checks can be trusted

Made by `python benchmarks/checks.py` (torch {torch}, one thread; the numbers are in
`benchmarks/results/checks.json`). Each check with a p-value was used on data for which its null
hypothesis holds, and on data with one thing wrong; an alarm is p ≤ 0.05. Of 1,000 nulls 5% are due
to alarm, 2.3% to 7.7% within 3.9 standard errors. The samples are small on purpose: at the sizes
that `basin evaluate` takes the power is higher.

| check | null hypothesis holds for | false alarms | s.e. from 5% | what is wrong | power | CPU ms |
| --- | --- | --- | --- | --- | --- | --- |
{rows}

The null hypotheses, as the results state them (`null` in evaluation.json):

{nulls}

How the p-values come about:

- Permutations (`mmd`, `energy_distance`, `sliced_wasserstein`, `wasserstein`, `precision`,
  `recall`, `coverage`, `density_of_samples`, `long_run`): exact for any number of rows; ties are
  broken at random, so that statistics of few values are exact too.
- Simulation of the null (`mode_weights`, `calibration_error`): exact; `mode_weights` counts every
  tie against an alarm, and is cautious.
- Exact Kolmogorov-Smirnov (`marginal_calibration`, `highest_density_calibration`): cautious by the
  steps of its distribution, the former also by Bonferroni's factor.
- Ranks, as good as normal: `classifier_two_sample`, `energy_gap`, `memorisation`.
- `kernel_stein_discrepancy`: a wild bootstrap, right for many rows.
- `convergence`: an F ratio whose effective sample size is estimated, right for chains of many times
  their memory, and cautious by Bonferroni's factor.

Checks without a p-value (`kl_to_truth`, `total_variation`, `fisher_divergence`, `log_z_error`,
`mode_weights_of_energy`, `held_out_log_likelihood`, `relative_loss`, `bits_per_dimension`) have
standard errors, numerical ones where they are quadratures, and the floor of a perfect model.

A pass says little alone. `kernel_stein_discrepancy` does not see the weights of far modes;
`precision` and `density_of_samples` do not see lost modes, `recall` and `coverage` not samples
beside the data; `memorisation` passes for samples far from everything; marginals do not see
dependence; chains that agree may all have missed a mode.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nulls", type=int, default=1000)
    parser.add_argument("--alternatives", type=int, default=300)
    parser.add_argument("--only", nargs="*", help="names; the other results stay as they are")
    given = parser.parse_args()
    torch.set_num_threads(1)
    file = ROOT / "benchmarks" / "results" / "checks.json"
    earlier = json.loads(file.read_text()) if given.only and file.exists() else []
    results = {found["check"]: found for found in earlier}
    for case in CASES:
        if given.only and case.name not in given.only:
            continue
        found = measure(case, given.nulls, given.alternatives)
        results[case.name] = found
        print(
            f"{case.name:28} {found['false_alarm_rate']:.3f} "
            f"({found['standard_errors_from_level']:+.1f} s.e.), power {found['power']:.2f}, "
            f"{found['cpu_milliseconds_a_check']:.0f} ms",
            flush=True,
        )
    in_order = [results[case.name] for case in CASES if case.name in results]
    file.write_text(json.dumps(in_order, indent=2) + "\n")
    (ROOT / "docs" / "checks.md").write_text(page(in_order))


if __name__ == "__main__":
    main()
