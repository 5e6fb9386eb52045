"""Chains: what a run of a kernel returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from basin.core.types import Kernel
from basin.mcmc.diagnostics import effective_sample_size, split_rhat

__all__ = ["Chains", "DivergenceError", "DivergenceWarning"]

_NAMES_IN_ARVIZ = {
    "is_divergent": "diverging",
    "acceptance_probability": "acceptance_rate",
    "num_gradient_evaluations": "n_steps",
}


class DivergenceWarning(UserWarning):
    """Some transitions were not finite."""


class DivergenceError(RuntimeError):
    """No chain is finite any more."""


@dataclass(frozen=True, eq=False)
class Chains:
    """The draws of a run, in ArviZ's order, and what happened on the way.

    Attributes:
        positions: ``[chain, draw, *event]``, after warm-up and thinning.
        info: one ``[chain, draw]`` tensor for each field of the kernel's info, at those draws.
        kernel: the kernel that made the draws, its step size as warm-up left it.
        num_divergent: divergent transitions after warm-up, all steps and chains, thinned away or
            not: proposals that were not finite, and chains that turned non-finite (each once).
        acceptance_rate: mean of ``is_accepted`` over all steps after warm-up; None for a kernel
            that accepts everything.
        num_steps, num_warmup, thin: as they were asked for.
    """

    positions: Tensor
    info: dict[str, Tensor]
    kernel: Kernel
    num_divergent: int
    acceptance_rate: float | None
    num_steps: int
    num_warmup: int = 0
    thin: int = 1

    @property
    def num_chains(self) -> int:
        """How many chains there are."""
        return self.positions.shape[0]

    @property
    def num_draws(self) -> int:
        """How many draws each chain has kept."""
        return self.positions.shape[1]

    @property
    def last(self) -> Tensor:
        """The last draw of each chain, ``[chain, *event]``."""
        return self.positions[:, -1]

    def pooled(self) -> Tensor:
        """All draws of all chains, ``[chain x draw, *event]``."""
        return self.positions.flatten(0, 1)

    def split_rhat(self) -> Tensor:
        """Rank-normalised split R-hat, ``[*event]``; see :func:`basin.mcmc.split_rhat`."""
        return split_rhat(self.positions)

    def effective_sample_size(self, kind: Literal["bulk", "tail"] = "bulk") -> Tensor:
        """Effective sample size, ``[*event]``; see :func:`basin.mcmc.effective_sample_size`."""
        return effective_sample_size(self.positions, kind)

    def to_arviz(self) -> Any:
        """The same draws for ArviZ: ``posterior["x"]`` and ``sample_stats``, under its own names.

        Needs ``arviz`` (``pip install arviz``); the error says so where it is missing.
        """
        posterior = {"x": self.positions.detach().cpu().numpy()}
        statistics = {
            _NAMES_IN_ARVIZ.get(name, name): value.detach().cpu().numpy()
            for name, value in self.info.items()
        }
        groups = {"posterior": posterior, "sample_stats": statistics}
        try:
            from arviz_base import from_dict  # pyright: ignore[reportMissingImports]
        except ImportError:
            try:
                from arviz import from_dict  # pyright: ignore[reportMissingImports]
            except ImportError as error:
                raise ImportError("to_arviz needs ArviZ: pip install arviz") from error
            return from_dict(**groups)  # ArviZ before 1.0 takes the groups as arguments
        return from_dict(groups)

    def __repr__(self) -> str:
        rate = self.acceptance_rate
        acceptance = "" if rate is None else f", accepted {rate:.3f}"
        return (
            f"Chains({self.num_chains} chains x {self.num_draws} draws of "
            f"{tuple(self.positions.shape[2:])}, {self.kernel!r}{acceptance}, "
            f"{self.num_divergent} divergent)"
        )
