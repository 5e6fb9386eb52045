"""The one sampling loop: any kernel, any energy or path, many chains at once.

    x0 --(num_warmup steps: step size and metric adapted)--> x
    x --(num_steps steps: every thin-th kept)--> draws

Draws go into tensors made beforehand; nothing is read back from the device inside the loop except
the acceptance during warm-up (adaptation needs it) and a look every 64 steps whether any chain is
still finite. Cost: that of the kernel's steps, about ten microseconds a step, and
num_chains x num_draws x d numbers of memory (``keep="last"``: one draw a chain).
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor

from basin.core.graph import NotCompilable
from basin.core.types import Energy, Kernel, Path
from basin.core.validation import all_finite, positive_integer, seed_number
from basin.mcmc.finiteness import finite_rows
from basin.sampling.adapt import Adaptation, adaptable_part
from basin.sampling.chains import Chains, DivergenceError, DivergenceWarning
from basin.sampling.curvature import warn_if_step_too_large, warn_if_unstable
from basin.sampling.initialise import device_of, initial_positions
from basin.sampling.progress import Progress
from basin.sampling.steps import compiled_steps, kernel_steps
from basin.sampling.support import require_same_support

__all__ = ["sample"]

_STEPS_BETWEEN_CHECKS = 64


def sample(
    energy_or_path: Energy | Path,
    kernel: Kernel,
    x0_or_num_chains: Tensor | int,
    *,
    num_steps: int,
    num_warmup: int = 0,
    thin: int = 1,
    seed: int | torch.Generator = 0,
    progress: bool = False,
    keep: Literal["all", "last"] = "all",
    compile: bool = False,
    check_step_size: bool = True,
    on_divergence: Literal["report", "count"] = "report",
) -> Chains:
    """Draw from exp(-E) / Z with a Markov chain.

    With a :class:`~basin.core.types.Path` (an instance of that class, such as those of
    ``basin.paths``; anything else is taken for an energy) step k of ``num_steps`` runs on
    ``path(k / num_steps)``, the last one on ``path(1)``, and the kernel's state is made anew from
    the positions at each energy (MALA then needs two gradients a step). Warm-up runs on
    ``path(0)``, and only the last draws are from the target.

    Args:
        energy_or_path: callable ``[chains, *event] -> [chains]``, or a path.
        kernel: one of ``basin.samplers``, or any :class:`~basin.core.types.Kernel`.
        x0_or_num_chains: starting points ``[chains, *event]`` (float32 or float64, finite; left
            untouched), or a number of chains, which then start from ``energy.sample_base``. Whole
            numbers, for kernels of those, are kept in the same types.
        num_steps: steps after warm-up, before thinning; at least ``thin``.
        num_warmup: steps thrown away first. A kernel with a ``target_acceptance`` has its
            ``step_size`` adapted to it meanwhile, and one with an ``inverse_mass`` that is learned
            has it replaced by the covariance that the chains show; ``Chains.kernel`` says to what.
            Of a kernel around another one (``ParallelTempering``, ``Reflected``) that is done with
            the one inside.
        thin: keep every thin-th step: draw i is step (i + 1) ``thin``, ``num_steps // thin`` draws.
        seed: same seed, same machine: the same bits. A ``torch.Generator`` (on the chains' device)
            is used and moved on; the global generator is never touched.
        progress: show a bar, or plain lines where standard error is not a terminal.
        keep: "last" keeps only the position after the last step, ``[chain, 1, *event]``.
        compile: put several steps into one machine-code graph (PyTorch's compiler, which on a CPU
            wants a C++ compiler): up to a minute before the first step, the first time on a
            machine, and about five seconds later; then steps in a half to a tenth of the time
            (``docs/speed.md``). The random numbers are the same, and draws agree in law. Warm-up is
            not compiled; paths are refused.
        check_step_size: for kernels without an accept step, warn where the step exceeds what the
            curvature of the energy allows, at the first or the last positions (about 20
            Hessian-vector products on 16 rows each).
        on_divergence: "report" warns of lost chains and stops when none is left; "count" goes on
            and leaves them to a caller who looks at the draws or at ``num_divergent`` himself, as
            training does at every step.

    Raises:
        ValueError: for a wrong argument, named; or ``compile=True`` where it cannot be.
        DivergenceError: when no chain is finite any more, with the step.

    Warns:
        StepSizeWarning: see ``check_step_size``.
        DivergenceWarning: when some transitions diverged.

    Example:
        >>> import torch, basin
        >>> gaussian = lambda x: 0.5 * x.square().sum(1)
        >>> kernel = basin.samplers.MALA(step_size=0.8)
        >>> chains = basin.sampling.sample(gaussian, kernel, torch.zeros(4, 2), num_steps=100)
        >>> chains.positions.shape
        torch.Size([4, 100, 2])
    """
    _check(energy_or_path, kernel, num_steps, num_warmup, thin, keep, on_divergence)
    if not isinstance(compile, bool):
        raise ValueError(f"compile must be True or False, got {compile!r}")
    if compile and isinstance(energy_or_path, Path):
        raise ValueError("compile must be False on a path, whose energy is another at each step")
    reports = on_divergence == "report"
    path = energy_or_path if isinstance(energy_or_path, Path) else None
    with torch.inference_mode(False), torch.no_grad():
        energy: Any = energy_or_path if path is None else path(0.0)
        require_same_support(kernel, energy)
        generator = _generator(seed, energy, x0_or_num_chains)
        x0 = initial_positions(energy, x0_or_num_chains, generator)
        check_step_size = check_step_size and _limited_part(kernel) is not None
        if check_step_size and _is_step_too_large(kernel, energy, x0):
            check_step_size = False
        state = kernel.init(energy, x0, generator)
        if reports and hasattr(state, "energy"):
            all_finite("energy at x0", state.energy)

        with Progress("warm-up", num_warmup, progress) as bar:
            kernel, state = _warm_up(energy, kernel, state, generator, num_warmup, bar, reports)

        record = _Record(num_steps, thin, keep, state.position)
        if path is not None:
            steps = _path_steps(path, kernel, state, generator, num_steps)
        else:
            take = _compiled if compile else kernel_steps
            steps = take(energy, kernel, state, generator, num_steps)
        with Progress("sampling", num_steps, progress) as bar:
            for step, (state, info) in enumerate(steps, 1):
                record.add(step, state, info)
                if step % _STEPS_BETWEEN_CHECKS == 0 or step == num_steps:
                    if reports:
                        record.stop_if_none_finite(step, state.position, kernel, "sampling")
                    bar.advance_to(step, record.note(step) if bar.is_shown else "")
        if check_step_size:
            alive = state.position[finite_rows(state.position)]
            _is_step_too_large(kernel, energy if path is None else path(1.0), alive)
        if reports:
            record.warn_if_divergent(kernel)
        return Chains(
            positions=record.draws(),
            info=record.info(),
            kernel=kernel,
            num_divergent=record.num_divergent(),
            acceptance_rate=record.acceptance_rate(),
            num_steps=num_steps,
            num_warmup=num_warmup,
            thin=thin,
        )


def _compiled(
    energy: Energy, kernel: Kernel, state: Any, generator: torch.Generator, num_steps: int
) -> Iterator[tuple[Any, Any]]:
    try:
        return compiled_steps(energy, kernel, state, generator, num_steps)
    except NotCompilable as error:
        name = type(energy).__name__
        raise ValueError(
            f"compile must be False for {type(kernel).__name__} on {name}: {error}"
        ) from error


def _path_steps(
    path: Path, kernel: Kernel, state: Any, generator: torch.Generator, num_steps: int
) -> Iterator[tuple[Any, Any]]:
    """``(state, info)`` after each step, the k-th of them at ``path(k / num_steps)``."""
    for step in range(1, num_steps + 1):
        energy = path(step / num_steps)
        state = kernel.init(energy, state.position, generator)
        state, info = kernel.step(energy, state, generator)
        yield state, info


def _warm_up(
    energy: Energy,
    kernel: Any,
    state: Any,
    generator: torch.Generator,
    num_warmup: int,
    bar: Progress,
    reports: bool,
) -> tuple[Any, Any]:
    """The kernel with its step size and metric tuned and frozen, and the state to go on from."""
    if num_warmup == 0:
        return kernel, state
    adaptation, tuning = None, None
    part = adaptable_part(kernel)
    if part is not None:
        adaptation = Adaptation(num_warmup, part.target_acceptance)
        kernel, tuning = adaptation.init(energy, kernel, state, generator)
    record = _Record(num_warmup, 1, "last", state.position)
    for step in range(1, num_warmup + 1):
        state, info = kernel.step(energy, state, generator)
        record.add(step, state, info)
        if adaptation is not None and tuning is not None:
            kernel, tuning = adaptation.update(energy, kernel, tuning, state, info, generator)
        if step % _STEPS_BETWEEN_CHECKS == 0 or step == num_warmup:
            if reports:
                record.stop_if_none_finite(step, state.position, kernel, "warm-up")
            bar.advance_to(step, record.note(step) if bar.is_shown else "")
    if adaptation is not None and tuning is not None:
        kernel = adaptation.frozen(kernel, tuning)
    return kernel, state


class _Record:
    """Draws, infos and counts of one run, on the chains' device."""

    def __init__(self, num_steps: int, thin: int, keep: str, position: Tensor) -> None:
        self._thin = num_steps if keep == "last" else thin
        self._num_steps = num_steps
        self._num_draws = num_steps // self._thin
        self._num_chains = len(position)
        self._is_finite_at_start = finite_rows(position)
        self._divergences = (~self._is_finite_at_start).long()
        self._last_divergence = torch.zeros_like(self._divergences)
        self._accepted: Tensor | None = None
        # draws come one after another in memory; readers see [chain, draw, *event]
        self._positions = position.new_empty(self._num_draws, *position.shape)
        self._infos: dict[str, Tensor] = {}

    def add(self, step: int, state: Any, info: Any) -> None:
        fields = info._asdict()
        if "is_divergent" in fields:
            self._divergences.add_(fields["is_divergent"])
            self._last_divergence.masked_fill_(fields["is_divergent"], step)
        if "is_accepted" in fields:
            if self._accepted is None:
                self._accepted = torch.zeros_like(self._divergences)
            self._accepted.add_(fields["is_accepted"])
        if step % self._thin == 0:
            draw = step // self._thin - 1
            self._positions[draw] = state.position
            for name, value in fields.items():
                if name not in self._infos:
                    self._infos[name] = value.new_empty(self._num_draws, *value.shape)
                self._infos[name][draw] = value

    def draws(self) -> Tensor:
        return self._positions.transpose(0, 1)

    def info(self) -> dict[str, Tensor]:
        return {name: value.transpose(0, 1) for name, value in self._infos.items()}

    def num_divergent(self) -> int:
        return int(self._divergences.sum())

    def acceptance_rate(self, num_steps: int | None = None) -> float | None:
        if self._accepted is None:
            return None
        return float(self._accepted.double().mean()) / (num_steps or self._num_steps)

    def note(self, step: int) -> str:
        rate = self.acceptance_rate(step)
        accepted = "" if rate is None else f"accepted {rate:.2f}, "
        return f"{accepted}{self.num_divergent()} divergent"

    def stop_if_none_finite(self, step: int, position: Tensor, kernel: Kernel, phase: str) -> None:
        if bool(finite_rows(position).any()):
            return
        last = int(self._last_divergence.max()) or step
        raise DivergenceError(
            f"none of the {self._num_chains} chains is finite any more: the last one left at "
            f"{phase} step {last} of {self._num_steps}, with {kernel!r}; take a smaller step_size, "
            "a kernel with an accept step (MALA), or an energy that grows at infinity "
            "(confinement > 0)"
        )

    def warn_if_divergent(self, kernel: Kernel) -> None:
        count = self.num_divergent()
        if count == 0:
            return
        num_chains = int((self._divergences > 0).sum())
        warnings.warn(
            f"{type(kernel).__name__}: {count} of {self._num_chains * self._num_steps} transitions "
            f"diverged, in {num_chains} of {self._num_chains} chains, the last at step "
            f"{int(self._last_divergence.max())} of {self._num_steps} (not finite, or an energy "
            "error above 1000 nats: rejected where the kernel has an accept step, else the chain "
            "is lost); take a smaller step_size, or a target_acceptance nearer 1",
            DivergenceWarning,
            stacklevel=3,
        )


def _limited_part(kernel: Any) -> Any:
    """The kernel, or the one inside it, whose step the energy's curvature limits; None without."""
    if hasattr(kernel, "unadjusted_step_size") or hasattr(kernel, "oscillating_step_size"):
        return kernel
    inner = getattr(kernel, "kernel", None)
    return None if inner is None else _limited_part(inner)


def _is_step_too_large(kernel: Any, energy: Energy, x: Tensor) -> bool:
    part = _limited_part(kernel)
    if hasattr(part, "oscillating_step_size"):
        return warn_if_unstable(energy, x, part.oscillating_step_size(energy), _name(part))
    step_size = part.unadjusted_step_size(energy)
    if isinstance(step_size, Tensor) and step_size.ndim == x.ndim:
        return False  # a step for each chain: not checked
    return warn_if_step_too_large(energy, x, step_size, _name(part))


def _wants_noise_level(energy: Any) -> bool:
    """Whether it is E(x, sigma), which cannot be called with x alone."""
    if not hasattr(energy, "at") or not isinstance(energy, torch.nn.Module):
        return False
    parameter = inspect.signature(energy.forward).parameters.get("sigma")
    return parameter is not None and parameter.default is parameter.empty


def _name(kernel: Kernel) -> str:
    return type(kernel).__name__


def _generator(
    seed: int | torch.Generator, energy: Energy, x0_or_num_chains: Tensor | int
) -> torch.Generator:
    is_given = isinstance(x0_or_num_chains, Tensor)
    device = x0_or_num_chains.device if is_given else device_of(energy)
    if isinstance(seed, torch.Generator):
        return seed
    seed_number(seed=seed)
    return torch.Generator(device).manual_seed(seed)


def _check(
    energy_or_path: Any,
    kernel: Any,
    num_steps: int,
    num_warmup: int,
    thin: int,
    keep: str,
    on_divergence: str,
) -> None:
    if not callable(energy_or_path):
        raise TypeError(
            "energy_or_path must be a callable [chains, *event] -> [chains] or a Path, got "
            f"{type(energy_or_path).__name__}"
        )
    if isinstance(kernel, type) or not (hasattr(kernel, "init") and hasattr(kernel, "step")):
        made = f"; make one: {kernel.__name__}()" if isinstance(kernel, type) else ""
        raise TypeError(
            "kernel must have init and step, as basin.samplers.Langevin(0.01), got "
            f"{kernel!r}{made}"
        )
    if _wants_noise_level(energy_or_path):
        name = type(energy_or_path).__name__
        raise TypeError(
            f"energy_or_path must be an energy of x alone, got the noise-conditional {name}, whose "
            f"energies are E(x, sigma); choose a noise level: energy.at(0.1)"
        )
    positive_integer(num_steps=num_steps, thin=thin)
    if isinstance(num_warmup, bool) or not isinstance(num_warmup, int) or num_warmup < 0:
        raise ValueError(f"num_warmup must be a whole number, zero or above, got {num_warmup!r}")
    if keep not in ("all", "last"):
        raise ValueError(f'keep must be "all" or "last", got {keep!r}')
    if on_divergence not in ("report", "count"):
        raise ValueError(f'on_divergence must be "report" or "count", got {on_divergence!r}')
    if num_steps < thin:
        raise ValueError(f"num_steps must be at least thin = {thin}, got {num_steps}")
    if isinstance(energy_or_path, Path) and num_steps % thin != 0:
        raise ValueError(
            f"num_steps must be a multiple of thin = {thin} on a path, so that the last draw is "
            f"from the target, got {num_steps}"
        )
