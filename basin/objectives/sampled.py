"""What objectives that sample from the model share: draws, the contrast of energies, the watch.

    J = E_data[E] - E_draws[E] + energy_l2 (E_data[E^2] + E_draws[E^2])

With exact draws the first two terms have the gradient of the negative log-likelihood,

    -grad log p(x) = grad E(x) - E_{x~ ~ p}[grad E(x~)],

while their value says nothing of the fit: it is zero for a perfect model and for a flat one.

Nothing is clamped and no draw is dropped: a run that goes astray is seen by its numbers.

A kernel of whole numbers makes an objective one of whole numbers: no blur, no scale to measure
distances in, and new starts with independent coordinates in place of a Gaussian.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal, NamedTuple, NoReturn

import torch
from torch import Tensor

from basin.core.conditions import Given
from basin.core.discrete import independent_coordinates, whole_numbers
from basin.core.gradients import score
from basin.core.smoothing import smoothed
from basin.core.tensors import (
    event_mean_square,
    expand_like,
    num_event_dimensions,
)
from basin.core.types import Kernel, Loss, Objective, Watched
from basin.core.validation import in_unit_interval, non_negative, positive, positive_integer
from basin.mcmc.finiteness import finite_rows
from basin.objectives.meanings import ENERGY_TERMS
from basin.samplers.barker import Barker
from basin.samplers.langevin import Langevin
from basin.samplers.mala import MALA
from basin.sampling.run import sample

__all__ = []  # for the objectives of this folder

SAMPLED_TERMS: Mapping[str, str] = {
    **ENERGY_TERMS,
    "gap_per_dimension": "gap over d, to be compared between data sets; beyond 100 nats the "
    "energy runs away from its sampler",
    "sampler_gradient": "mean norm of the score where the chains end, over sqrt(d), in units of "
    "one over the data's standard deviation: about 1 on a Gaussian, more with finer detail; "
    "beyond 1000 it explodes",
    "moved": "how far the chains went in this step, root mean square, in standard deviations of "
    "the data; zero means that they are stuck",
    "outside": "share of chains farther than 10 standard deviations of the data from its mean; "
    "beyond a half they have left it",
    "lost": "share of chains that are not finite any more",
}

# For objectives whose kernel may be one of whole numbers, which then have these terms.
ANY_ROWS_TERMS: Mapping[str, str] = {
    **SAMPLED_TERMS,
    "changed": "of whole numbers: share of coordinates that the chains changed in this step; zero "
    "means that they are stuck",
}

DEFAULT_BLUR = 0.1  # standard deviations of standardised data, enough for Langevin steps to rest
DEFAULT_ENERGY_L2 = 0.001

# Half of sigma^2 for the default blur of 0.1: the largest with a fixed point in every direction.
SHORT_LANGEVIN = Langevin(0.005)

RECOVERY_TERMS: Mapping[str, str] = {
    **SAMPLED_TERMS,
    "E_data": "mean energy of the noised batch, over all noise levels, in nats",
    "E_model": "mean energy of the draws that recover it, in nats",
    "sampler_gradient": "mean norm of the conditional score where the chains end, over sqrt(d), in "
    "units of 1/s: about 1; beyond 1000 it explodes",
    "moved": "how far the chains went from the noisier copy, root mean square, in units of s: "
    "about 1; zero means that they are stuck",
    "outside": "share of chains farther than 10 s from the noisier copy that they recover",
}

_GAP_BAND = 100.0  # nats a dimension; chains twice too wide for a Gaussian are 1.5 away
_GRADIENT_LIMIT = 1000.0  # detail as fine as a thousandth of the data's standard deviation
_FAR = 10.0  # standard deviations
_SHARE_OUTSIDE = 0.5
_NUM_GRADIENTS = 64  # chains whose score is looked at: a mean for the eye


class NewStarts(NamedTuple):
    """How often chains of a buffer start anew, and where."""

    wide: float
    width: float
    at_data: float

    def check(self) -> None:
        """Refuse what is no pair of probabilities."""
        in_unit_interval(reinitialise=self.wide, restart_at_data=self.at_data)
        positive(width=self.width)
        if self.wide + self.at_data > 1:
            raise ValueError(
                "reinitialise + restart_at_data must be at most 1, got "
                f"{self.wide:g} + {self.at_data:g}"
            )


class DataLaw(NamedTuple):
    """N(m, S) of the rows: ``mean`` [d], ``factor`` [r, d] with factor'factor = S, its scale."""

    mean: Tensor
    factor: Tensor
    deviation: float

    @classmethod
    def of(cls, x: Tensor) -> DataLaw:
        """From the first 2,048 rows of ``x`` ``[n, *event]``.

        The rows themselves, centred and over sqrt(n), are such a factor; where there are more
        rows than dimensions, R of their QR decomposition is a smaller one.
        """
        rows = x[:2048].flatten(1)
        mean = rows.mean(0)
        factor = (rows - mean) / math.sqrt(len(rows))
        deviation = float(factor.square().sum(0).mean().sqrt())
        if not deviation > 0:
            _refuse_one_row()
        if factor.shape[0] > factor.shape[1]:
            factor = torch.linalg.qr(factor, mode="r").R
        return cls(mean, factor, deviation)

    def draw(self, n: int, x: Tensor, generator: torch.Generator, *, width: float = 1.0) -> Tensor:
        """``n`` draws of N(m, width^2 S), with the event, dtype and device of ``x``."""
        factor = self.factor.to(x)
        size = (n, len(factor))
        z = torch.randn(size, generator=generator, dtype=x.dtype, device=x.device)
        return (self.mean.to(x) + width * (z @ factor)).reshape(n, *x.shape[1:])


class StateLaw(NamedTuple):
    """Rows of whole numbers, ``[n, *event]``, that new starts take their coordinates from."""

    rows: Tensor

    @classmethod
    def of(cls, x: Tensor, num_states: int) -> StateLaw:
        """The first 2,048 rows of ``x`` ``[n, *event]``."""
        whole_numbers("x", x, num_states)
        if bool((x == x[:1]).all()):
            _refuse_one_row()
        return cls(x[:2048])

    def draw(self, n: int, x: Tensor, generator: torch.Generator, *, width: float = 1.0) -> Tensor:
        """``n`` rows of independent coordinates, each from its own law; ``width`` has no part."""
        del width
        return independent_coordinates(self.rows.to(x), n, generator)


def draws(
    energy: Any, kernel: Kernel, start: Tensor, num_steps: int, generator: torch.Generator
) -> Tensor:
    """Where the chains are after ``num_steps`` steps from ``start``, detached; maybe not finite."""
    chains = sample(
        energy,
        kernel,
        start,
        num_steps=num_steps,
        seed=generator,
        keep="last",
        check_step_size=False,
        on_divergence="count",
    )
    return chains.last


def contrast(
    on_data: Tensor, on_draws: Tensor, energy_l2: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss from the energies of the data and of the draws, and its terms."""
    data, model = on_data.mean(), on_draws.mean()
    value = data - model
    if energy_l2:
        value = value + energy_l2 * (on_data.square().mean() + on_draws.square().mean())
    terms = {"E_data": data.detach(), "E_model": model.detach(), "gap": (data - model).detach()}
    return value, terms


def watched_terms(
    energy: Any, start: Tensor, end: Tensor, gap: Tensor, law: DataLaw
) -> dict[str, Tensor]:
    """What :meth:`Sampled.alarm` looks at, in the units of ``law`` and from its mean.

    ``energy`` is that of the first :func:`num_watched` rows of ``end``.
    """
    at = end[:_NUM_GRADIENTS]
    steepness = event_mean_square(score(energy, at)).sqrt() * law.deviation
    distance = event_mean_square(end - law.mean.to(end).reshape(end.shape[1:])).sqrt()
    return {
        "gap_per_dimension": gap / num_event_dimensions(end),
        "sampler_gradient": steepness.mean(),
        "moved": event_mean_square(end - start).mean().sqrt() / law.deviation,
        "outside": (distance > _FAR * law.deviation).to(end.dtype).mean(),
        "lost": 1 - finite_rows(end).to(end.dtype).mean(),
    }


def num_watched(n: int) -> int:
    """How many of ``n`` chains :func:`watched_terms` takes scores of."""
    return min(n, _NUM_GRADIENTS)


def changed_terms(start: Tensor, end: Tensor, gap: Tensor) -> dict[str, Tensor]:
    """What :meth:`Sampled.alarm` looks at where rows are whole numbers."""
    return {
        "gap_per_dimension": gap / num_event_dimensions(end),
        "changed": (end != start).to(end.dtype).mean(),
    }


class Sampled(Objective, Watched):
    """An objective with chains: fields ``kernel`` and ``num_steps``, terms of ``watched_terms``.

    Its ``support`` and ``num_states`` are those of the kernel.
    """

    normalises: ClassVar[bool] = False
    is_a_score_of_fit: ClassVar[bool] = False
    kernel: Kernel

    @property
    def support(self) -> Literal["real", "discrete"]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return getattr(self.kernel, "support", "real")

    @property
    def num_states(self) -> int | None:
        """Values of a coordinate where the kernel moves whole numbers; None where real ones."""
        return getattr(self.kernel, "num_states", None)

    def law_of(self, x: Tensor) -> DataLaw | StateLaw:
        """What the chains are watched by, and start anew from, settled from rows ``x``."""
        if self.support == "discrete":
            assert self.num_states is not None
            return StateLaw.of(x, self.num_states)
        return DataLaw.of(x)

    def watch(
        self, energy: Any, start: Tensor, end: Tensor, gap: Tensor, law: DataLaw | StateLaw
    ) -> dict[str, Tensor]:
        """:func:`watched_terms`, or :func:`changed_terms` of whole numbers."""
        if isinstance(law, StateLaw):
            return changed_terms(start, end, gap)
        return watched_terms(energy, start, end, gap, law)

    def unless_discrete(self, value: float | None, default: float) -> float:
        """``value`` where one was given; else ``default``, and zero where rows are whole numbers.

        Whole numbers have no blur, and the usual energies of them (Ising models, Boltzmann
        machines) leave no offset free that squared energies would have to hold.
        """
        if value is not None:
            return value
        return 0.0 if self.support == "discrete" else default

    def alarm(self, terms: Mapping[str, float]) -> str:
        if terms.get("lost", 0) > 0:
            return f"{terms['lost']:.3g} of the chains are not finite any more"
        if not abs(terms["gap_per_dimension"]) <= _GAP_BAND:
            return (
                f"the energy gap is out of band: E_data - E_model is {terms['gap']:.4g} nats, "
                f"{terms['gap_per_dimension']:.4g} a dimension where {_GAP_BAND:g} are allowed"
            )
        if not terms.get("sampler_gradient", 0) <= _GRADIENT_LIMIT:
            return (
                f"the sampler's gradients explode: {terms['sampler_gradient']:.4g} in units of the "
                f"data's standard deviation, where {_GRADIENT_LIMIT:g} are allowed"
            )
        if terms.get("outside", 0) > _SHARE_OUTSIDE:
            return (
                f"the chains have left the data: {terms['outside']:.3g} of them are farther than "
                f"{_FAR:g} standard deviations from its mean"
            )
        if terms["changed" if "changed" in terms else "moved"] == 0:
            return "the chains are stuck: not one has moved in this step"
        return ""

    def calmer(self) -> Objective:
        """The same objective with half the sampling step, where it has one, and twice the steps."""
        objective: Any = self
        changed: dict[str, Any] = {"num_steps": 2 * objective.num_steps}
        changed["kernel"] = _calmer_kernel(objective.kernel)
        return replace(objective, **changed)


def _calmer_kernel(kernel: Any) -> Any:
    """Half the sampling step, also where it is that of a kernel inside."""
    if hasattr(kernel, "step_size"):
        return replace(kernel, step_size=kernel.step_size / 2)
    if hasattr(kernel, "kernel"):
        return replace(kernel, kernel=_calmer_kernel(kernel.kernel))
    return kernel


def check_sampler(
    kernel: Any,
    num_steps: int,
    num_chains: int | None,
    sigma: float | None,
    energy_l2: float | None,
) -> None:
    """Refuse what cannot sample, by name; None is a value that is still to be settled."""
    if not (hasattr(kernel, "init") and hasattr(kernel, "step")) or isinstance(kernel, type):
        raise ValueError(
            f"kernel must be one of basin.samplers, as Langevin(0.005), got {kernel!r}"
        )
    positive_integer(num_steps=num_steps)
    if num_chains is not None:
        positive_integer(num_chains=num_chains)
    given = {"sigma": sigma, "energy_l2": energy_l2}
    non_negative(**{name: value for name, value in given.items() if value is not None})
    if sigma and getattr(kernel, "support", "real") == "discrete":
        raise ValueError(
            f"sigma must be zero or left out with {kernel!r}, which moves whole numbers: they are "
            f"not blurred, got {sigma:g}"
        )


def require_real_kernel(kernel: Any, objective: object) -> None:
    """Refuse a kernel of whole numbers where chains start from Gaussian noise."""
    if getattr(kernel, "support", "real") != "real":
        raise ValueError(
            f"kernel must be one of real numbers for {type(objective).__name__}, whose chains "
            f"start from Gaussian noise, got {kernel!r}; ContrastiveDivergence and "
            "PersistentContrastiveDivergence take it"
        )


def _refuse_one_row() -> NoReturn:
    raise ValueError("x must vary to train by sampling, got one row or rows that are all the same")


def refuse_conditions(energy: Any, objective: object) -> None:
    """Chains that live on under one condition cannot serve the rows of another."""
    if isinstance(energy, Given):
        raise ValueError(
            f"{type(objective).__name__} must be given an energy without conditions: its chains "
            "do not know under which one they were drawn; take ContrastiveDivergence, whose "
            "chains start at the rows, or DualScoreMatching"
        )


def travel(kernel: Any, num_steps: int) -> str:
    """How far a chain can go, in words; a number where ``step_size`` is that of a diffusion."""
    if not isinstance(kernel, Langevin | MALA | Barker):
        steps = "1 step" if num_steps == 1 else f"{num_steps} steps"
        return f"{steps} of {type(kernel).__name__}"
    step_size = kernel.step_size
    reach = math.sqrt(2 * step_size * num_steps)
    return f"about sqrt(2 x {step_size:g} x {num_steps}) = {reach:.2g} a coordinate"


def visits_are_blind(kernel: Any, num_steps: int) -> str:
    """Why chains that live on in a buffer miss the weights of far modes."""
    return (
        f"in a visit its chains go {travel(kernel, num_steps)} and none crosses a "
        "barrier of many nats: each far mode holds as many as start or fall there, whatever "
        "mass exp(-E) gives it"
    )


def finished(value: Tensor, terms: dict[str, Tensor], state: Any) -> Loss:
    """A loss whose terms are detached."""
    return Loss(value, {name: term.detach() for name, term in terms.items()}, state)


def at_rows(x: Tensor, n: int, sigma: float, generator: torch.Generator) -> Tensor:
    """``n`` chains at rows of ``x`` drawn with replacement, blurred like the data."""
    places = torch.randint(len(x), (n,), generator=generator, device=generator.device)
    return smoothed(x[places.to(x.device)], sigma, generator)


def visited(
    buffer: Tensor,
    places: Tensor,
    rows: Tensor,
    law: DataLaw | StateLaw,
    restart: NewStarts,
    generator: torch.Generator,
) -> Tensor:
    """Where the chains at ``places`` of a buffer start their next visit.

    Each where it was; with probability ``restart.at_data`` at its row of ``rows``, and with
    probability ``restart.wide`` at a draw of ``law``: N(m, width^2 S), or whole numbers.
    """
    start = buffer[places]
    n = len(start)
    u = torch.rand(n, generator=generator, device=buffer.device)
    wide = law.draw(n, buffer, generator, width=restart.width)
    start = torch.where(expand_like(u < restart.wide, start), wide, start)
    is_at_data = (u >= restart.wide) & (u < restart.wide + restart.at_data)
    return torch.where(expand_like(is_at_data, start), rows[:n], start)


def shuffled(buffer: Tensor, generator: torch.Generator) -> Tensor:
    """All places of a buffer in random order."""
    return torch.randperm(len(buffer), generator=generator, device=buffer.device)
