"""The main job as library calls, free of argument parsing: train, draw, measure, report.

    data -> energy by rule -> basin.fit -> samples.npz -> evaluation.json -> report.html

Each step is one call that anyone can make in a program; this file only puts them in a row and
writes their results where a run folder keeps them.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import basin
from basin.cli.choices import FAMILIES
from basin.cli.parser import Parser
from basin.cli.wide_rows import rows_that_fit
from basin.core.describe import build, describe, is_own
from basin.core.discrete import uniform_states
from basin.core.types import Density, Kernel
from basin.core.validation import positive_integer
from basin.datasets import Dataset, load
from basin.energies import Standardised, core_energy, restored
from basin.partition import LogZNotEstimated
from basin.paths import Noised
from basin.samplers import AnnealedLangevin
from basin.schedules import Geometric
from basin.training import Run, RunFolderError
from basin.training import load_data as load_training_data
from basin.training.check_log_z import LogZCheck
from basin.training.folder import FORMAT, other_files, read_config, require_utf8
from basin.training.lock import LOCK
from basin.training.writable import in_words, require_writable

__all__ = [
    "DEFAULT_OBJECTIVE",
    "NUM_SAMPLES",
    "add_energy",
    "build_energy",
    "check_ending",
    "check_kernel",
    "check_log_z",
    "check_out",
    "data_of",
    "draw",
    "draw_with",
    "default_energy_name",
    "default_num_samples",
    "evaluate",
    "evaluate_other_weights",
    "energy_of",
    "existing_folder",
    "finish",
    "folder_of",
    "load_data",
    "open_run",
    "open_for_a_page",
    "own_energy_name",
    "train",
    "write_rows",
]

DEFAULT_OBJECTIVE = "DualScoreMatching"

# Rows of samples.npz unless the user says otherwise: enough for shares of modes to half a percent
# where they are cheap, fewer where a row is an image.
NUM_SAMPLES = {"density": 8000, "table": 2000, "images": 500}
CHAIN_STEPS = 1000


def default_energy_name(objective: type, kernel: type | None = None) -> str:
    """The network of an objective: one for all noise levels where it learns a ladder of them.

    ``kernel`` is what moves its chains, where it has any: it then says whether rows are whole
    numbers.
    """
    if "discrete" in (getattr(kind, "support", "real") for kind in (objective, kernel)):
        return "CategoricalMLP"
    return "NoiseConditional" if getattr(objective, "needs_noise_level", False) else "MLP"


def load_data(source: str, options: Mapping[str, Any]) -> Dataset:
    """The data set, with the sentence that describes it on standard error."""
    dataset = load(source, **options)
    print(dataset.description, file=sys.stderr)
    return dataset


def build_energy(
    dataset: Dataset,
    kind: type,
    settings: Mapping[str, Any],
    *,
    standardise: bool = True,
    seed: int = 0,
) -> torch.nn.Module:
    """An energy of the data's shape; standardised, visibly, unless the data are a density.

    ``standardise`` is False for an objective of whole numbers, which stay what they are. ``seed``
    is for networks that take their first weights from torch's global generator, as a user's may.
    """
    energy = _made_from(kind, _dimension(dataset), settings, seed)
    if dataset.kind == "density" or not standardise:
        return energy
    return Standardised(energy, dataset.shift, dataset.scale)


def _made_from(
    kind: type, dimension: int | tuple[int, ...], settings: Mapping[str, Any], seed: int = 0
) -> torch.nn.Module:
    """A network whose first weights follow from the seed; the global generator stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return kind(dimension, **settings)


def check_out(out: Path, *, overwrite: bool) -> None:
    """Refuse a folder that holds anything, before any work; ``overwrite`` allows another run.

    Nothing is removed here: :func:`basin.fit` does that when all input has passed its checks.
    """
    if out.is_symlink() and not out.exists():
        raise ValueError(f"--out must be a folder, got {out}, a link that leads nowhere")
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out must be a folder, got the file {out}")
    require_utf8("--out", out)
    require_writable(out)
    names = {path.name for path in out.iterdir()} if out.is_dir() else set()
    found = sorted(names - {LOCK})
    if not found:
        return
    if "config.json" not in found and "checkpoint" not in found:
        raise ValueError(
            f"--out must be a new or empty folder, got {out}, which holds {', '.join(found[:3])}"
        )
    if not overwrite:
        raise ValueError(
            f"--out must be a new or empty folder, got {out}, which holds another run: "
            f"go on with it by basin resume {out}, give another folder, or say --overwrite"
        )
    foreign = other_files(out)
    if foreign:
        raise ValueError(
            f"--overwrite must find nothing but a run in {out}, got {', '.join(foreign[:3])} "
            "beside it; nothing was removed: give another folder, or move them away"
        )


def train(
    dataset: Dataset,
    energy: torch.nn.Module,
    objective: Any,
    out: Path,
    *,
    kernel: Kernel | None = None,
    num_samples: int | None = None,
    energy_settings: Mapping[str, Any] | None = None,
    **settings: Any,
) -> tuple[Run, dict[str, Any]]:
    """Fit (``settings`` are those of :func:`basin.fit`), then draw, measure and report.

    What the commands after this one need is kept in the run's ``extra``: how to draw, and the
    ``energy_settings`` from which a class of the user's is made again.
    Returns the run and what ``evaluation.json`` holds.
    """
    if num_samples is not None:
        positive_integer(num_samples=num_samples)
    extra: dict[str, Any] = {"num_samples": num_samples}
    extra["sampler"] = None if kernel is None else describe(kernel)
    if not is_own(type(core_energy(energy))):
        extra["energy_settings"] = dict(energy_settings or {})
    run = basin.fit(energy, dataset, objective, out=out, progress=True, extra=extra, **settings)
    return run, finish(run, dataset, kernel=kernel)


def finish(
    run: Run,
    dataset: Dataset | Density,
    *,
    kernel: Kernel | None = None,
    num_samples: int | None = None,
) -> dict[str, Any]:
    """What follows training: ``samples.npz``, ``evaluation.json`` and ``report.html``.

    ``kernel`` and ``num_samples`` are those that ``train`` was given, unless others are.
    """
    from basin.report import write_report

    seed = int(run.config["training"]["seed"])
    folder = folder_of(run)
    kernel = _recorded_kernel(run) if kernel is None else kernel
    num_samples = num_samples or _extra(run).get("num_samples")
    if num_samples is None:
        num_samples = default_num_samples(run)
    draw(run, folder / "samples.npz", num_samples=num_samples, seed=seed, kernel=kernel)
    results = evaluate(run, dataset, seed=seed)
    _say("writing the report")
    write_report(folder, run=run, dataset=dataset)
    return results


def default_num_samples(run: Run) -> int:
    """How many rows are drawn where nobody says: by the kind of the data, fewer of wide rows."""
    usual = NUM_SAMPLES[run.config["data"]["kind"]]
    return rows_that_fit(usual, run.event_shape, "samples", "--num_samples")


def draw(
    run: Run,
    path: Path,
    *,
    num_samples: int,
    seed: int,
    sigma: float | None = None,
    kernel: Kernel | None = None,
) -> Tensor:
    """Draw from the model and write the rows, in the user's units."""
    check_ending(path)
    _say(f"drawing {num_samples:,} samples")
    if kernel is None:
        samples = run.sample(num_samples, seed=seed, sigma=sigma, progress=True)
    else:
        samples = draw_with(kernel, run, num_samples, seed, sigma)
    level = run.config.get("sigma") if sigma is None else sigma
    write_rows(path, {"samples": samples}, run.config["data"].get("columns"), sigma=level)
    return samples


def draw_with(
    kernel: Kernel, run: Run, num_samples: int, seed: int, sigma: float | None = None
) -> Tensor:
    """Draws by a kernel of the user's choice, one chain a row, in the user's units.

    Chains start from the Gaussian of the training rows. Annealed Langevin and the kernels that have
    a method ``down`` walk down the noise levels; any other kernel stays at the level that is asked
    for, and may not cross between modes. Its step size is in the model's coordinates (for a table
    standardised). Chains of whole numbers start from uniform rows.
    """
    check_kernel(
        kernel, is_discrete=run.num_states is not None, has_noise_levels=run.has_noise_levels
    )
    energy = run.energy
    core = core_energy(energy)
    generator = torch.Generator().manual_seed(seed)
    level = run.sigma if sigma is None else sigma
    if run.num_states is not None:
        target = core
        start = uniform_states(num_samples, run.event_shape, run.num_states, generator)
    elif run.has_noise_levels and level is not None:
        steps_down: Any = getattr(kernel, "down", None)
        walks = isinstance(kernel, AnnealedLangevin) or steps_down is not None
        top = run.config["noise_levels"]["sigma_max"] if walks else level
        target = core.at(level)
        if isinstance(kernel, AnnealedLangevin):
            target = Noised(core, Geometric(top, level))
        elif steps_down is not None:  # its step follows from the number of steps
            target, kernel = steps_down(core, top, level, CHAIN_STEPS)
        start = core.sample_base(num_samples, generator, top)
    else:
        law = run.config["start"]
        z = torch.randn((num_samples, *run.event_shape), generator=generator)
        start = torch.tensor(law["mean"]).reshape(run.event_shape) + law["standard_deviation"] * z
        target = core
    chains = basin.sample(
        target,
        kernel,
        start,
        num_steps=CHAIN_STEPS,
        num_warmup=CHAIN_STEPS // 2 if hasattr(kernel, "target_acceptance") else 0,
        seed=generator,
        keep="last",
        progress=True,
    )
    return restored(energy, chains.last)


def check_kernel(kernel: Kernel | None, *, is_discrete: bool, has_noise_levels: bool) -> None:
    """Refuse a kernel that cannot move the rows of a model, before the model is trained."""
    if kernel is None:
        return
    name = type(kernel).__name__
    moves_whole_numbers = getattr(kernel, "support", "real") == "discrete"
    if moves_whole_numbers and not is_discrete:
        raise ValueError(
            "--sampler must move real numbers, as the rows of this model are, got "
            f"{name}, which moves whole ones; take MALA"
        )
    if is_discrete and not moves_whole_numbers:
        raise ValueError(
            f"--sampler must move whole numbers, as the rows of this model are, got "
            f"{name}, which moves real ones; leave it out (they are drawn exactly "
            "where all states can be summed, else by Gibbs sweeps) or take Gibbs"
        )
    needs_levels = isinstance(kernel, AnnealedLangevin) or hasattr(kernel, "down")
    if needs_levels and not has_noise_levels:
        raise ValueError(
            f"--sampler must do without noise levels, which this model has none of, got {name}; "
            "take MALA, or train a model of all levels (DualScoreMatching)"
        )


def _extra(run: Run) -> Mapping[str, Any]:
    return run.config.get("extra") or {}


def _recorded_kernel(run: Run) -> Kernel | None:
    """The kernel that ``basin train --sampler`` was given; one of the user's is not made again."""
    recorded = _extra(run).get("sampler")
    if recorded is None:
        return None
    try:
        return build(recorded, [basin.samplers, basin.mcmc])
    except ValueError:
        _say(
            f"drawing without {recorded.get('class')}, a class of yours; afterwards: basin sample "
            f"{folder_of(run)} --sampler {recorded.get('class')}"
        )
        return None


def evaluate(
    run: Run, dataset: Dataset | Density, *, seed: int = 0, **options: Any
) -> dict[str, Any]:
    """Measure the run and write ``evaluation.json``; some checks alone are not written.

    ``options`` are those of :func:`basin.training.evaluate`.
    """
    require_writable(folder_of(run))
    _say("measuring")
    results = basin.training.evaluate(run, dataset, seed=seed, **options)
    if options.get("checks") is not None:
        return results
    _write_text(folder_of(run) / "evaluation.json", json.dumps(results, indent=2) + "\n")
    return results


def check_log_z(run: Run, method: str, num_particles: int, seed: int) -> LogZCheck:
    """log Z by another method; an estimate that would mean nothing is the run's failure."""
    _say(f"estimating log Z by {method}")
    try:
        return run.check_log_z(method, num_particles=num_particles, seed=seed)
    except LogZNotEstimated as error:
        raise FloatingPointError(f"--log_z {method}: {error}") from error


def evaluate_other_weights(
    run: Run, dataset: Dataset | Density, *, seed: int, **options: Any
) -> dict[str, Any]:
    """Measure the weights that were not chosen; the folder keeps its samples and its file."""
    samples = run.sample(default_num_samples(run), seed=seed, progress=True)
    return basin.training.evaluate(run, dataset, samples=samples, seed=seed, **options)


def folder_of(run: Run) -> Path:
    """The folder of a run that has one."""
    if run.folder is None:
        raise ValueError("run must have a folder, got one that was kept in memory")
    return run.folder


def existing_folder(folder: str | Path) -> Path:
    """The path of a run folder that is there."""
    path = Path(folder)
    if path.is_file():
        raise RunFolderError(f"run folder must be a folder, got the file {path}")
    if not path.is_dir():
        raise RunFolderError(f"run folder must exist, got {path}, which is not there")
    return path


def open_run(folder: str | Path, *, weights: str | None = None, energy: str | None = None) -> Run:
    """``basin.load``, where any way of not being a run folder is one kind of error.

    ``energy`` is the dotted name of the user's class, see :func:`energy_of`.
    """
    path = existing_folder(folder)
    own = None if energy is None else energy_of(path, energy)
    try:
        run = basin.load(path, own)
    except RunFolderError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunFolderError(f"{path} must be a whole Basin run folder: {error!r}") from error
    return run if weights is None else basin.load(path, own, weights=weights)


def open_for_a_page(folder: str | Path, *, energy: str | None = None) -> Run | None:
    """The run, or None where another version of Basin wrote it and this one cannot open it.

    A page then shows what the folder holds without the model, and says so; so does standard error.
    """
    try:
        return open_run(folder, energy=energy)
    except RunFolderError as error:
        if not _is_of_another_version(Path(folder)):
            raise
        print(f"basin: without the model: {error}", file=sys.stderr)
        return None


def _is_of_another_version(folder: Path) -> bool:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    if not isinstance(config, dict) or not {"format", "basin_version"} <= config.keys():
        return False
    return (config["format"], config["basin_version"]) != (FORMAT, basin.__version__)


def energy_of(folder: Path, name: str) -> torch.nn.Module:
    """The network of the user's that a run was trained with, made again with fresh weights.

    Nothing that a run folder names is ever imported, so its class is named here once more.
    """
    config = read_config(folder)
    description = config["energy"]
    is_standardised = description["class"] == "Standardised"
    inner = description["energy"] if is_standardised else description
    if inner["class"] != name:
        raise ValueError(
            f"--energy must name the class that the run was trained with, {inner['class']}, "
            f"got {name!r}"
        )
    shape = tuple(config["data"]["event_shape"])
    settings = (config.get("extra") or {}).get("energy_settings") or {}
    kind = FAMILIES["energy"].find(name)
    made = _made_from(kind, shape[0] if len(shape) == 1 else shape, settings)
    if not is_standardised:
        return made
    return Standardised(made, description["shift"], description["scale"])


def own_energy_name(run: Run) -> str | None:
    """The dotted name of the run's network, where it is the user's and commands need it."""
    kind = type(core_energy(run.energy))
    return None if is_own(kind) else f"{kind.__module__}.{kind.__qualname__}"


def add_energy(parser: Parser) -> None:
    """The option of the commands that open a run."""
    parser.add_argument(
        "--energy",
        metavar="MODULE.CLASS",
        help="where the run was trained with a network of yours: its class, importable from here "
        "(a run folder alone never runs code)",
    )


def data_of(run: Run) -> Dataset | Density:
    """The data that a run was trained on, with the same rows held out."""
    return load_training_data(run.config)


def check_ending(path: Path) -> None:
    """Refuse a file name of an unknown format, and a folder without access, before any work."""
    if path.suffix not in (".npz", ".npy", ".csv"):
        raise ValueError(f"--out must end in .npz, .npy or .csv, got {path}")
    if path.is_dir():
        raise ValueError(f"--out must be a file, got the folder {path}")
    require_writable(path.parent)


def write_rows(
    path: Path,
    columns: Mapping[str, Tensor],
    names: Sequence[str] | None,
    *,
    sigma: float | None = None,
) -> None:
    """Write arrays by the ending of the name: .npz, .npy (the first one only) or .csv.

    Written aside and renamed, so that the file is whole or not there. ``names`` are those of the
    columns of the CSV; x0, x1, ... or the arrays' own when None.
    """
    check_ending(path)
    arrays = {name: value.detach().cpu().numpy() for name, value in columns.items()}
    aside = _aside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with aside.open("wb") as file:
            if path.suffix == ".npz":
                level: dict[str, Any] = {} if sigma is None else {"sigma": np.float64(sigma)}
                np.savez(file, **arrays, **level)
            elif path.suffix == ".npy":
                np.save(file, next(iter(arrays.values())), allow_pickle=False)
            else:
                table = np.column_stack([a.reshape(len(a), -1) for a in arrays.values()])
                header = names or (
                    list(arrays) if len(arrays) > 1 else [f"x{i}" for i in range(table.shape[1])]
                )
                file.write((",".join(map(_quoted, header)) + "\n").encode())
                np.savetxt(file, table, fmt="%.9g", delimiter=",")
        os.replace(aside, path)
    except OSError as error:
        raise _naming(path, error) from error
    finally:
        with suppress(OSError):
            aside.unlink()


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"' if any(c in name for c in ',"\r\n') else name


def _dimension(dataset: Dataset) -> int | tuple[int, ...]:
    shape = tuple(dataset.event_shape)
    return shape[0] if len(shape) == 1 else shape


def _write_text(path: Path, text: str) -> None:
    aside = _aside(path)
    try:
        aside.write_text(text, encoding="utf-8")
        os.replace(aside, path)
    except OSError as error:
        raise _naming(path, error) from error
    finally:
        with suppress(OSError):
            aside.unlink()


def _aside(path: Path) -> Path:
    """Where a file is written before it is renamed; two processes do not share it."""
    return path.with_name(f".{path.name}.{os.getpid()}.writing")


def _naming(path: Path, error: OSError) -> OSError:
    """The same error about the file that was asked for, not the one beside it."""
    return in_words(path, OSError(error.errno, error.strerror, str(path)))


def _say(what: str) -> None:
    print(f"{what} ...", file=sys.stderr, flush=True)
