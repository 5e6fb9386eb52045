"""Long-run honesty: do chains much longer than training's stay with the data?

Training by short chains can make a good generator of an energy that is a bad density: k steps from
noise look like data, and 10 k steps look like nothing (Nijkamp et al. 2020, arXiv 1903.12370). Two
sets of chains run ``factor`` times as long as training's did:

    from data    start at held-out rows. If the model is the data's law and the kernel leaves it
                 alone, they are draws of it at every time (exact start): whatever happens to them
                 is the model's, not slow mixing. Their last positions are compared with other
                 held-out rows by the energy distance, whose permutation p-value is exact.
    from noise   start wide. If they have not arrived while the others stayed, chains mix slowly.

How far apart is said by a classifier: ``tv_lower`` is a 95% lower limit of the total variation
distance TV. By Pinsker's inequality a model with KL(p‖pθ) up to 0.2 nats, the most that Basin's
report calls fair, has TV <= sqrt(0.2 / 2) = 0.316. So the verdict

    "short-run generator, not a density"    p < 0.001 for chains from data, and TV above 0.316

means: certainly not fair, as this kernel samples it. (An unadjusted kernel has a law of its own;
what trained with it is judged with it.)
Cost: num_steps × factor kernel steps for each chain.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from basin.core.types import Energy, Kernel
from basin.core.validation import all_finite, positive_integer, same_event_shape
from basin.evaluation.classifier_two_sample import classifier_two_sample
from basin.evaluation.energy_distance import energy_distance
from basin.evaluation.estimate import About, Estimate
from basin.sampling.run import sample

__all__ = ["long_run"]

_SMALL = 1e-3  # p-value: one perfect model in a thousand is wronged
_FAR = math.sqrt(0.2 / 2)  # Pinsker: TV of KL 0.2
_FEWEST = 20  # chains that a classifier needs
_FARTHEST = 1e100  # a square must stay finite in float64
_PARTS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)  # times of the trace, in lengths of training


def long_run(
    energy: Energy,
    kernel: Kernel,
    held_out: Tensor,
    noise: Tensor,
    generator: torch.Generator | None = None,
    *,
    num_steps: int,
    factor: int = 10,
    num_chains: int | None = None,
    num_permutations: int = 1999,
    about: About | None = None,
) -> Estimate:
    """Energy distance of long chains from held-out data, null hypothesis: chains at data stay.

    Args:
        energy: ``[batch, *event] -> [batch]``.
        kernel: that of the training, one of ``basin.samplers``.
        held_out: rows not trained on, ``[n, *event]``, blurred as the model is, in random order; 40
            or more. Some start chains, the others are what the ends are compared with.
        noise: where the other chains start, ``[m, *event]``; 20 or more.
        generator: source of all draws, on the device of the rows; seed 0 by default.
        num_steps: k, the length of a chain in training.
        factor: how many times longer the chains are here, 10 to 100 (at most 1000).
        num_chains: from data; half of the held-out rows by default. At least 20 rows must remain,
            and the more remain the more is seen.
        num_permutations: the smallest p-value is 1 / (num_permutations + 1).
        about: what to state in the result.

    Returns:
        ``value``: D² of the chains from data after ``factor`` k steps (infinite when fewer than
        20 are finite then); ``details``: ``verdict`` in words, ``leaves``, ``tv_lower``,
        ``from_noise`` (the same of the other chains), ``lost`` (share of chains that are not
        finite) and ``trace``: mean energies and D² of both after 1, 2, 5, 10 ... times k steps.

    Example:
        >>> import torch, basin
        >>> g = torch.Generator().manual_seed(0)
        >>> rows, noise = torch.randn(200, 2, generator=g), 3 * torch.randn(100, 2, generator=g)
        >>> kernel = basin.samplers.MALA(0.5)
        >>> right, flat = lambda x: 0.5 * x.square().sum(1), lambda x: 0.005 * x.square().sum(1)
        >>> for energy in (right, flat):
        ...     found = long_run(energy, kernel, rows, noise, num_steps=10)
        ...     print(found.details["verdict"].split(":")[0])
        stays
        short-run generator, not a density
    """
    positive_integer(num_steps=num_steps, factor=factor, num_permutations=num_permutations)
    same_event_shape("noise", noise, held_out.shape[1:])
    all_finite("held_out", held_out)
    all_finite("noise", noise)
    if factor > _PARTS[-1]:
        raise ValueError(f"factor must be at most {_PARTS[-1]}, got {factor}")
    if len(held_out) < 2 * _FEWEST or len(noise) < _FEWEST:
        raise ValueError(
            f"held_out must have {2 * _FEWEST} rows and noise {_FEWEST} or more, got "
            f"{len(held_out)} and {len(noise)}"
        )
    num_chains = len(held_out) // 2 if num_chains is None else num_chains
    if not _FEWEST <= num_chains <= len(held_out) - _FEWEST:
        raise ValueError(
            f"num_chains must be {_FEWEST} or more and leave as many of the {len(held_out)} rows, "
            f"got {num_chains}"
        )
    generator = generator or torch.Generator(held_out.device).manual_seed(0)
    at_data, others = held_out[:num_chains], held_out[num_chains:]
    chains = {"from_data": at_data, "from_noise": noise}
    trace: list[dict[str, float]] = []
    done = 0
    for part in [*(part for part in _PARTS if part < factor), factor]:
        for name, start in chains.items():
            chains[name] = _moved(energy, kernel, start, (part - done) * num_steps, generator)
        done = part
        trace.append(_traced(energy, chains, others, part * num_steps))
    compared = {
        name: _compared(ends, others, num_permutations, generator) for name, ends in chains.items()
    }
    data, wide = compared["from_data"], compared["from_noise"]
    leaves = data.p_value < _SMALL and data.tv_lower > _FAR
    return Estimate(
        value=data.distance,
        standard_error=data.standard_error,
        floor=0.0,
        p_value=data.p_value,
        n=len(at_data),
        meaning=f"energy distance from held-out data after {factor} times training's {num_steps} "
        "steps, from data",
        about=about or About(),
        null="held-out data are the law at rest of the model's chain",
        details={
            "verdict": _verdict(data, wide, leaves, factor, num_steps),
            "leaves": leaves,
            "tv_lower": data.tv_lower,
            "lost": data.lost,
            "from_noise": wide._asdict(),
            "kernel": repr(kernel),
            "num_steps": num_steps,
            "factor": factor,
            "trace": trace,
        },
    )


class _Compared(NamedTuple):
    """One set of chains against held-out rows."""

    distance: float
    standard_error: float | None
    p_value: float
    tv_lower: float
    lost: float


def _moved(
    energy: Energy, kernel: Kernel, start: Tensor, num_steps: int, generator: torch.Generator
) -> Tensor:
    """Where the chains are then; the lost ones are out of the game, and not finite."""
    alive = _is_there(start)
    ends = torch.full_like(start, torch.nan)
    if bool(alive.any()):
        chains: Any = sample(
            energy,
            kernel,
            start[alive],
            num_steps=num_steps,
            seed=generator,
            keep="last",
            check_step_size=False,
            on_divergence="count",
        )
        ends[alive] = chains.last
    return ends


def _is_there(x: Tensor) -> Tensor:
    """Which rows are finite, and their squares too."""
    return (x.flatten(1).abs() < _FARTHEST).all(dim=1)


def _traced(
    energy: Energy, chains: dict[str, Tensor], others: Tensor, step: int
) -> dict[str, float]:
    at = {"step": float(step)}
    for name, ends in chains.items():
        there = ends[_is_there(ends)]
        with torch.no_grad():
            at[f"energy_{name}"] = float(energy(there).double().mean()) if len(there) else math.nan
        if len(there) >= _FEWEST:
            at[f"distance_{name}"] = energy_distance(there, others, num_permutations=1).value
    return at


def _compared(
    ends: Tensor, others: Tensor, num_permutations: int, generator: torch.Generator
) -> _Compared:
    there = ends[_is_there(ends)]
    lost = 1 - len(there) / len(ends)
    if len(there) < _FEWEST:  # under the null hypothesis no chain is ever lost
        return _Compared(math.inf, None, 1 / (1 + num_permutations), lost, lost)
    found = energy_distance(there, others, generator, num_permutations=num_permutations)
    told_apart = classifier_two_sample(there, others, generator)
    # Of all chains: the lost ones are where no data are, the rest as far as the classifier says.
    tv_lower = lost + (1 - lost) * float(told_apart.details["tv_lower"])
    assert found.p_value is not None  # it always has one
    return _Compared(found.value, found.standard_error, found.p_value, tv_lower, lost)


def _verdict(data: _Compared, wide: _Compared, leaves: bool, factor: int, num_steps: int) -> str:
    after = f"after {factor} times training's {num_steps} steps"
    if leaves:
        return (
            f"short-run generator, not a density: {after}, chains that started at held-out data "
            f"have left them (total variation at least {data.tv_lower:.2f}, p = {data.p_value:.1g})"
        )
    if data.p_value < _SMALL:
        return (
            f"drifts: {after}, chains that started at held-out data are not quite there any more "
            f"(p = {data.p_value:.1g}; total variation at least {data.tv_lower:.2f})"
        )
    if wide.p_value < _SMALL:
        return (
            f"stays, but mixes slowly: chains from data stay with them (p = {data.p_value:.2g}); "
            f"{after}, those from noise have not arrived (p = {wide.p_value:.1g})"
        )
    return (
        f"stays: {after}, chains from data and from noise cannot be told from held-out data "
        f"(p = {data.p_value:.2g} and {wide.p_value:.2g})"
    )
