"""Everything that a report shows, read once from a run folder; nothing here draws or writes.

    config.json + history.jsonl + samples.npz + evaluation.json + basin.load(folder)  ->  RunRecord

What cannot be read is not an error: ``missing`` says what and why, and a page repeats what is about
it. Only a folder that is no run at all (no readable ``config.json``) is refused. No pickle is ever
opened.
Cost: one pass over the files; at most ``MAX_ROWS`` rows of data and of samples are kept.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch

from basin.core.types import Density
from basin.core.wide_rows import num_rows_that_fit
from basin.report.formatting import plain_text

__all__ = ["Missing", "RunRecord", "collect"]

T = TypeVar("T")

Part = Literal["model", "history", "checks", "samples", "data", "truth"]

MAX_ROWS = 5_000  # enough for a scatter plot, few enough for a page of a megabyte
MAX_TRAIN_ROWS = 20_000  # rows searched for nearest neighbours
MAX_BYTES = 2_000_000_000  # of samples.npz unpacked: a small file may hide a huge array


@dataclass(frozen=True)
class Missing:
    """Something of a run that cannot be shown.

    Attributes:
        about: the part of the run; a page that has no place for it leaves the sentence out.
        sentence: what is not shown, why, and what to do about it.
    """

    about: Part
    sentence: str


@dataclass(frozen=True)
class RunRecord:
    """What a report knows of one run.

    Attributes:
        folder: the run folder, or ``None`` for a run kept in memory.
        config: contents of ``config.json``.
        history: rows of ``history.jsonl``.
        evaluation: contents of ``evaluation.json`` (empty when there is none).
        samples: ``[n, *event]`` draws of the model in the user's units, or ``None``.
        samples_sigma: the noise level at which they were drawn, or ``None``.
        data: ``[n, *event]`` training rows (fresh draws of a density), or ``None``.
        density: the law of the data where it is known.
        truth: the same blurred to ``sigma``: what the energy models.
        run: what ``basin.load`` returned, or ``None``.
        missing: each thing that could not be read, by the part of the run that it is about.
    """

    folder: Path | None
    config: Mapping[str, Any]
    history: tuple[Mapping[str, Any], ...] = ()
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    samples: np.ndarray | None = None
    samples_sigma: float | None = None
    data: np.ndarray | None = None
    density: Density | None = None
    truth: Density | None = None
    run: Any = None
    missing: tuple[Missing, ...] = ()

    @property
    def data_config(self) -> Mapping[str, Any]:
        """The ``data`` part of the configuration."""
        return _mapping(self.config.get("data"))

    @property
    def source(self) -> str:
        """Name of the data: of a file, without its folder."""
        name = self.data_config.get("name") or "unnamed data"
        return plain_text(str(name).rstrip("/").rpartition("/")[2] or name, 120)

    @property
    def kind(self) -> str:
        """``density``, ``table`` or ``images``."""
        return plain_text(self.data_config.get("kind") or "table", 20)

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one row: from the configuration, else from the rows at hand."""
        shape = self.data_config.get("event_shape")
        if isinstance(shape, list | tuple) and all(type(n) is int and n > 0 for n in shape):
            return tuple(shape)
        rows = self.samples if self.samples is not None else self.data
        return () if rows is None else rows.shape[1:]

    @property
    def dimension(self) -> int:
        """Number of coordinates of one row."""
        return math.prod(self.event_shape)

    @property
    def sigma(self) -> float | None:
        """Noise level of ``log_prob``, in the model's coordinates."""
        value = self.config.get("sigma")
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        return float(value) if math.isfinite(value) and value > 0 else None

    @property
    def scale(self) -> tuple[float, ...]:
        """What one standardised unit is in the user's units; one number, or one a column."""
        scale = _mapping(self.config.get("energy")).get("scale")
        values = scale if isinstance(scale, list | tuple) else [scale]
        good = [float(v) for v in values if isinstance(v, int | float) and math.isfinite(v)]
        return tuple(good) if good and len(good) == len(values) else (1.0,)

    @property
    def weights(self) -> str:
        """``ema`` or ``raw``: which weights the numbers and the pictures are about."""
        return plain_text(self.config.get("weights") or "raw", 20)

    def column(self, index: int) -> str:
        """Name of a coordinate as the user knows it, else ``x₁``, ``x₂`` ..."""
        columns = self.data_config.get("columns")
        if isinstance(columns, list | tuple) and index < len(columns):
            return plain_text(columns[index], 40)
        subscripts = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
        return f"x{str(index + 1).translate(subscripts)}"


def collect(source: Any, *, run: Any = None, dataset: Any = None) -> RunRecord:
    """Read a run folder, or take what a ``Run`` in memory holds.

    Args:
        source: path of a run folder, a ``Run``, or a ``RunRecord`` (returned as it is).
        run: the loaded run; ``None`` asks ``basin.load``.
        dataset: the loaded data set; ``None`` loads it again from what the configuration names.

    Raises:
        ValueError: the folder has no readable ``config.json``: it is not a run.
    """
    if isinstance(source, RunRecord):
        return source
    if isinstance(source, str | Path):
        record = _read_folder(Path(source))
        if run is None:
            run, record = _attempt(
                record, "model", "The model could not be loaded", lambda: _load_run(Path(source))
            )
    else:
        run = source
        folder = getattr(run, "folder", None)
        if folder is not None and (Path(folder) / "config.json").is_file():
            record = _read_folder(Path(folder))
        else:
            record = RunRecord(None, dict(run.config), tuple(run.history))
            samples, record = _attempt(
                record,
                "samples",
                "No samples could be drawn",
                lambda: _numpy(run.sample(2_000, seed=0)),
            )
            record = replace(record, samples=samples, samples_sigma=record.sigma)
    record = replace(record, run=run)
    if dataset is None:
        dataset, record = _attempt(
            record, "data", "The data could not be read again", lambda: _load_dataset(record)
        )
    return record if dataset is None else _with_data(record, dataset)


def _read_folder(folder: Path) -> RunRecord:
    config = _read_json(folder / "config.json")
    if not isinstance(config, Mapping):
        raise ValueError(
            f"folder must hold a Basin run, got {str(folder)!r} without a readable config.json; "
            "name the folder that --out made"
        )
    record = RunRecord(folder, config)
    history, notes = _read_history(folder / "history.jsonl")
    missing = tuple(Missing("history", sentence) for sentence in notes)
    record = replace(record, history=history, missing=record.missing + missing)
    evaluation = _read_json(folder / "evaluation.json")
    if isinstance(evaluation, Mapping):
        record = replace(record, evaluation=evaluation)
    else:
        record = _lacking(record, "checks", _why_no_evaluation(folder))
    return _with_samples(record, folder / "samples.npz")


def _with_samples(record: RunRecord, path: Path) -> RunRecord:
    if not path.is_file():
        return _lacking(
            record,
            "samples",
            "There are no samples in this folder, so none are shown: run `basin sample` on it.",
        )

    def read() -> tuple[np.ndarray, float | None]:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            if archive.zip.getinfo("samples.npy").file_size > MAX_BYTES:
                raise ValueError("it unpacks to more than a page can show")
            samples = _rows(archive["samples"])
            sigma = archive["sigma"] if "sigma" in archive.files else None
            return samples, None if sigma is None or sigma.size != 1 else float(sigma.item())

    found, record = _attempt(record, "samples", "samples.npz could not be read", read)
    if found is None:
        return record
    samples, sigma = found
    if samples.shape[1:] != record.event_shape or not len(samples):
        expected = ", ".join(["n", *map(str, record.event_shape)])
        return _lacking(
            record,
            "samples",
            f"samples.npz holds an array of shape {samples.shape}, not ({expected}): not shown.",
        )
    finite = np.isfinite(samples.reshape(len(samples), -1)).all(axis=1)
    if not finite.all():
        record = _lacking(
            record,
            "samples",
            f"{int((~finite).sum())} of {len(samples)} samples are not finite and are not drawn: "
            "the sampler diverged.",
        )
        samples = samples[finite]
    if not len(samples):
        return record
    return replace(record, samples=samples, samples_sigma=sigma)


def _with_data(record: RunRecord, dataset: Any) -> RunRecord:
    """Rows of the data set, its law where known and that law blurred to the model's level."""
    generator = torch.Generator().manual_seed(0)
    density: Density | None = dataset if isinstance(dataset, Density) else dataset.density

    def rows() -> np.ndarray:
        if density is not None:
            return _rows(_numpy(density.sample(2_000, generator)))
        train: Any = getattr(dataset, "train", None)
        wanted = num_rows_that_fit(MAX_TRAIN_ROWS, train.event_shape)
        if train.num_rows is not None and train.num_rows <= wanted:
            return _numpy(train.take(0, train.num_rows))
        return _numpy(train.draw(wanted, generator))

    data, record = _attempt(record, "data", "The data could not be drawn", rows)
    if data is not None and data.shape[1:] != record.event_shape:
        return _lacking(
            record,
            "data",
            f"The data named {record.source} now have rows of shape {data.shape[1:]}, the model "
            f"was trained on {record.event_shape}; they are not shown.",
        )
    record = replace(record, data=data, density=density)
    if density is None or record.sigma is None:
        return record
    if len(set(record.scale)) > 1:
        return _lacking(
            record,
            "truth",
            "The truth is not shown: the blur differs between coordinates, and no data "
            "set of Basin blurs itself so.",
        )
    level = record.sigma * record.scale[0]
    truth, record = _attempt(
        record, "truth", "The blurred truth could not be computed", lambda: density.blurred(level)
    )
    return replace(record, truth=truth)


def _load_run(folder: Path) -> Any:
    from basin.training.run import load  # here, so that a broken model costs only its pictures

    return load(folder)


def _load_dataset(record: RunRecord) -> Any:
    from basin.training.build import load_data

    if "source" not in record.data_config:
        raise ValueError("config.json does not name them")
    return load_data(dict(record.config))


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def _read_history(path: Path) -> tuple[tuple[Mapping[str, Any], ...], tuple[str, ...]]:
    """Rows that parse; a line cut short by a killed process is counted, not fatal."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return (), ("There is no history.jsonl, so no training curves are shown.",)
    rows: list[Mapping[str, Any]] = []
    num_bad = 0
    for line in lines:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if isinstance(row, Mapping):
            rows.append(row)
        elif line.strip():
            num_bad += 1
    notes = [f"{num_bad} lines of history.jsonl could not be read."] if num_bad else []
    if not rows:
        notes.append("history.jsonl holds no row, so no training curves are shown.")
    return tuple(rows), tuple(notes)


def _why_no_evaluation(folder: Path) -> str:
    if (folder / "evaluation.json").exists():
        return "evaluation.json could not be read: run `basin evaluate` on this folder again."
    return "This run has not been evaluated: run `basin evaluate` on this folder."


def _attempt(
    record: RunRecord, about: Part, what: str, action: Callable[[], T]
) -> tuple[T | None, RunRecord]:
    """Result of ``action``, or ``None`` and a sentence: a report comes out whatever is broken."""
    try:
        return action(), record
    except Exception as error:  # any fault of a foreign file becomes a sentence on the page
        reason = plain_text(error, 300) or "no reason given"
        return None, _lacking(record, about, f"{what}: {reason} ({type(error).__name__}).")


def _lacking(record: RunRecord, about: Part, sentence: str) -> RunRecord:
    return replace(record, missing=(*record.missing, Missing(about, sentence)))


def _rows(array: np.ndarray) -> np.ndarray:
    if array.dtype.kind not in "fiub" or array.ndim == 0:
        raise ValueError(f"an array of numbers is needed, got {array.dtype} {array.shape}")
    return np.asarray(array[: num_rows_that_fit(MAX_ROWS, array.shape[1:])], dtype=np.float32)


def _numpy(x: Any) -> np.ndarray:
    if isinstance(x, torch.Tensor):
        x = x.detach().cpu().to(torch.float32).numpy()
    return np.asarray(x, dtype=np.float32)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
