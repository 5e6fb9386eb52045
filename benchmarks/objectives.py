"""Every objective on six densities, with one network and one budget of time each.

    python benchmarks/objectives.py [--seconds 60] [--objective ...] [--density ...]
                                    [--processes 2] [--json FILE] [--markdown FILE]

One network, MLP d-128-128-128 SiLU with confinement 0.05 (NoiseConditional of the same widths for
objectives that need noise levels); fresh draws; the objectives' own defaults and the settings of
RECIPES, which are a family's and never a density's. The number of steps is what fits the budget,
by a short run before. Each run has one thread, and its seconds are those that the processor spent
on it, which are what a clock shows where nothing else runs; other jobs then change little.

KL is about the density that the objective learns (p, or p blurred at its sigma): by quadrature in
two dimensions, in ten with log Z = log E_p[exp(-E)/p] over draws of it (its effective sample size
beside it: low, the value is a guess). Mode error is the largest error of the model's mass in a mode
(by quadrature; two dimensions). The Fisher divergence needs a smooth density, and is left out where
there is none.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import basin
from basin.core.types import Objective

SEED, DIMENSION = 0, 10
WEIGHTS = torch.tensor([0.3, 0.2, 0.15, 0.1, 0.1, 0.07, 0.05, 0.03])
GOOD_KL, NUM_LOOKS, NUM_DRAWS = 0.05, 8, 20_000
LOOK_POINTS = 136  # a side: enough to tell when KL falls below GOOD_KL
FEW_STEPS, MOST_STEPS, SHARE_OF_TRIAL = 10, 800, 0.02

PAGE_HEAD = """# Every objective on six densities

Written by `python benchmarks/objectives.py --json FILE --markdown docs/every-objective.md`, not by
hand. One network (128-128-128, SiLU), {seconds:.0f} s of training each, two runs at a time on two
cores, fresh draws, seed 0, defaults: nothing is tuned to a density. KL and the mass in modes are by
quadrature; in 10 dimensions log Z is log E_p[exp(-E)/p]. A blind objective cannot see the weights
of modes that lie far apart ([why](objectives.md#the-list)); what it says of them is chance. The
Fisher divergence is left out where the density has no score.

"""

# By family, with the reason; what is not named takes fit's own settings. A quarter of the rows
# where a step takes several derivatives or chain steps a row: more steps in the same time.
RECIPES: dict[str, dict[str, Any]] = {
    name: {"batch_size": 256}
    for name in (
        "Adversarial",
        "BridgedScoreMatching",
        "ContrastiveDivergence",
        "ExactScoreMatching",
        "ImprovedContrastiveDivergence",
        "KernelStein",
        "LearnedStein",
        "PersistentContrastiveDivergence",
        "RecoveryLikelihood",
        "ShortRunMaximumLikelihood",
        "SlicedScoreMatching",
    )
}


def densities() -> dict[str, Any]:
    means = 2 * torch.randn(8, DIMENSION, generator=torch.Generator().manual_seed(0))
    data = basin.datasets
    return {
        "checkerboard": data.Checkerboard(),
        "eight_gaussians": data.EightGaussians(),
        "rings": data.Rings(),
        "two_moons": data.TwoMoons(),
        "two_blobs": data.TwoBlobs(),
        "mixture_10d": data.MixtureOfGaussians(means, 0.25, WEIGHTS / WEIGHTS.sum()),
    }


def objectives() -> dict[str, type[Objective]]:
    """The objectives for real-valued data that need nothing but data."""
    found = {name: getattr(basin.objectives, name) for name in basin.objectives.__all__}
    return {
        name: kind
        for name, kind in found.items()
        if isinstance(kind, type)
        and issubclass(kind, Objective)
        and kind.support == "real"
        and not name.endswith("Penalty")
    }


def make_energy(objective: Objective, dim: int) -> Any:
    hidden = (128, 128, 128)
    if objective.needs_noise_level:
        return basin.energies.NoiseConditional(dim, hidden=hidden, seed=SEED)
    return basin.energies.MLP(dim, hidden=hidden, confinement=0.05, seed=SEED)


def time_of_a_step(trial: Callable[[int], Any], seconds: float) -> float:
    """Processor seconds a step of the run that ``trial(num_steps)`` makes, for such a budget."""

    def taken(steps: int) -> float:
        started = time.process_time()
        trial(steps)
        return time.process_time() - started

    taken(FEW_STEPS)  # imports, caches
    fixed, steps = taken(FEW_STEPS), 10 * FEW_STEPS
    while (more := taken(steps) - fixed) < SHARE_OF_TRIAL * seconds and steps < MOST_STEPS:
        steps *= 2  # short runs mostly tell what fit does once
    return max(more, 1e-6 * steps) / (steps - FEW_STEPS)


def train(
    kind: type[Objective], density: Any, seconds: float, look: Callable[[float, Any], None]
) -> tuple[Any, float, int]:
    """A run that takes about ``seconds``, its milliseconds a step and its steps.

    ``look(seconds, energy)`` is called at NUM_LOOKS moments of it; its own time is not counted.
    """
    dim = density.event_shape[0]
    recipe = RECIPES.get(kind.__name__, {})

    def trial(steps: int) -> Any:
        return basin.fit(
            make_energy(kind(), dim),
            density,
            kind(),
            seed=SEED,
            **recipe,
            num_steps=steps,
            evaluate_every=steps,
        )

    per_step = time_of_a_step(trial, seconds)
    steps = max(50, int(seconds / per_step))
    started, looking = time.process_time(), 0.0

    def on_evaluation(energy: Any, record: dict[str, Any]) -> None:
        nonlocal looking
        before = time.process_time()
        look(before - started - looking, energy)
        looking += time.process_time() - before

    run = basin.fit(
        make_energy(kind(), dim),
        density,
        kind(),
        seed=SEED,
        **recipe,
        num_steps=steps,
        evaluate_every=max(1, steps // NUM_LOOKS),
        on_evaluation=on_evaluation,
    )
    return run, 1e3 * per_step, steps


def target_of(run_sigma: float | None, density: Any) -> Any:
    return density if run_sigma is None else density.blurred(run_sigma)


def kl(energy: Any, truth: Any, num_points: int = 408) -> tuple[float, float | None]:
    """KL in nats, and the effective sample size of its log Z where that is by sampling."""
    if truth.event_shape == (2,):
        return basin.evaluation.kl_to_truth(energy, truth, num_points=num_points).value, None
    x = truth.sample(NUM_DRAWS, torch.Generator().manual_seed(7))
    with torch.no_grad():
        log_ratio = -energy(x).double() - truth.log_prob(x).double()
    log_z = torch.logsumexp(log_ratio, 0) - math.log(len(x))
    weights = torch.softmax(log_ratio, 0)
    return float(log_z - log_ratio.mean()), float(1 / weights.square().sum())


def measure(name: str, density_name: str, seconds: float) -> dict[str, Any]:
    torch.set_num_threads(1)
    kind, density = objectives()[name], densities()[density_name]
    curve: list[tuple[float, float]] = []
    sigma_seen: list[float | None] = []

    def look(taken: float, energy: Any) -> None:
        if not sigma_seen:
            objective = kind()
            x = density.sample(8192, torch.Generator().manual_seed(0))
            state = objective.init(x, torch.Generator().manual_seed(0))
            level = 0.1 if objective.needs_noise_level else objective.noise_level(state)
            if hasattr(state, "sigma_max"):
                level = min(max(0.1, state.sigma_min), state.sigma_max)
            sigma_seen.append(level)
        fixed = energy.at(sigma_seen[0]) if hasattr(energy, "at") else energy
        curve.append((taken, kl(fixed, target_of(sigma_seen[0], density), LOOK_POINTS)[0]))

    row: dict[str, Any] = {"objective": name, "density": density_name, "seconds": seconds}
    try:
        run, milliseconds, steps = train(kind, density, seconds, look)
    except (basin.training.TrainingDiverged, ValueError, RuntimeError) as error:
        return {**row, "failed": f"{type(error).__name__}: {str(error)[:300]}"}
    truth = target_of(run.sigma, density)
    energy = run.energy_at()
    value, effective = kl(energy, truth)
    reached = [when for when, at in curve if at <= GOOD_KL]
    row |= {
        "about": "p" if run.sigma is None else f"p blurred by {run.sigma:.3g}",
        "kl": value,
        "kl_effective_sample_size": effective,
        "fisher": None,
        "mode_error": None,
        "ms_per_step": milliseconds,
        "num_steps": steps,
        "seconds_to_good_kl": reached[0] if reached else None,
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "blind": bool(run.config["blindness"]),
        "blindness": run.config["blindness"],
        "verdict": run.config["verdict"]["word"],
        "weights": run.config["weights"],
    }
    if truth.is_smooth:
        found = basin.evaluation.fisher_divergence(
            energy, truth, generator=torch.Generator().manual_seed(8)
        )
        row["fisher"] = found.value
    if truth.event_shape == (2,):
        row["mode_error"] = basin.evaluation.mode_weights_of_energy(energy, truth).value
    return row


def _one(job: tuple[str, str, float]) -> dict[str, Any]:
    return measure(*job)


def page(rows: list[dict[str, Any]]) -> str:
    """What was measured, one table a quantity, objectives by densities, as Markdown."""
    densities_seen = list(dict.fromkeys(row["density"] for row in rows))
    found = {(row["objective"], row["density"]): row for row in rows}
    names = sorted({row["objective"] for row in rows})

    def cells(name: str, key: str, show: Callable[[float], str]) -> list[str]:
        mine = [found.get((name, density)) for density in densities_seen]
        return [
            "" if row is None else "failed" if "failed" in row else _cell(row[key], show)
            for row in mine
        ]

    def matrix(key: str, show: Callable[[float], str], among: list[str]) -> list[str]:
        return [
            _line(["objective", *densities_seen]),
            _line(["---"] * (1 + len(densities_seen))),
            *(_line([f"`{name}`", *cells(name, key, show)]) for name in among),
        ]

    def overview(name: str) -> list[str]:
        good = [r for r in rows if r["objective"] == name and "failed" not in r]
        if not good:
            return [f"`{name}`", *["failed"] * 5]
        off = found.get((name, "two_blobs"), {}).get("mode_error")
        return [
            f"`{name}`",
            good[0]["about"],
            "yes" if good[0]["blind"] else "no",
            _cell(off, _three),
            f"{sum(r['ms_per_step'] for r in good) / len(good):.1f}",
            f"{max(r['peak_memory_mb'] for r in good):.0f}",
        ]

    heads = [
        "objective",
        "learns",
        "says it is blind",
        "two blobs: weight off by",
        "ms a step",
        "peak MB",
    ]
    lines = [
        _line(heads),
        _line(["---"] * len(heads)),
        *(_line(overview(name)) for name in names),
    ]
    for title, key, show in (
        ("KL from the truth, nats", "kl", _three),
        ("Largest error of the model's mass in a mode", "mode_error", _three),
        ("Fisher divergence", "fisher", _short),
        (f"Seconds of training until KL {GOOD_KL} (of {NUM_LOOKS} looks)",
         "seconds_to_good_kl", _short),
        (f"Effective sample size of log Z, of {NUM_DRAWS:,} draws; a low one makes its KL a guess",
         "kl_effective_sample_size", _count),
    ):  # fmt: skip
        lines += ["", f"## {title}", "", *matrix(key, show, names)]
    failed = [row for row in rows if "failed" in row]
    for row in failed:
        lines += ["", f"`{row['objective']}` on {row['density']}: {row['failed']}"]
    return "\n".join(lines) + "\n"


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _cell(value: float | None, show: Callable[[float], str]) -> str:
    return "–" if value is None else show(value)


def _count(value: float) -> str:
    return f"{value:.0f}"


def _three(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.0f}"


def _short(value: float) -> str:
    return f"{value:.2g}" if abs(value) < 100 else f"{value:.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--objective", nargs="+", default=list(objectives()))
    parser.add_argument("--density", nargs="+", default=list(densities()))
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path, help="docs/every-objective.md, from what is there")
    arguments = parser.parse_args()
    jobs = [(o, d, arguments.seconds) for d in arguments.density for o in arguments.objective]
    rows: list[dict[str, Any]] = []
    if arguments.json and arguments.json.is_file():  # goes on where it was stopped
        rows = json.loads(arguments.json.read_text())
        done = {(row["objective"], row["density"]) for row in rows}
        jobs = [job for job in jobs if job[:2] not in done]
    # A fresh process for each run: peak memory is then its own.
    context = multiprocessing.get_context("spawn")
    with context.Pool(arguments.processes, maxtasksperchild=1) as pool:
        for row in pool.imap(_one, jobs):
            rows.append(row)
            shown = row.get("failed") or (
                f"KL {row['kl']:.4f}, mode error {row['mode_error']}, Fisher {row['fisher']}, "
                f"{row['ms_per_step']:.2f} ms, {row['num_steps']} steps, {row['verdict']}"
            )
            print(f"{row['density']:16} {row['objective']:36} {shown}", flush=True)
            if arguments.json:
                arguments.json.write_text(json.dumps(rows, indent=1) + "\n")
    print(page(rows))
    if arguments.markdown:
        head = PAGE_HEAD.format(seconds=arguments.seconds)
        arguments.markdown.write_text(head + page(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
