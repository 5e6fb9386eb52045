"""The run folder: claimed once, written aside and renamed, read without running anything.

config.json  model.safetensors  model_other.safetensors  checkpoint/  history.jsonl
samples.npz  evaluation.json  report.html  explore.html  events.out.tfevents*
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from basin.training.checkpoint import checksum, read_tensors, write_tensors
from basin.training.config_faults import faults
from basin.training.errors import RunFolderError
from basin.training.lock import LOCK, locked
from basin.training.writable import in_words, require_writable

__all__ = [
    "FORMAT",
    "claim",
    "give_up",
    "load_weights",
    "other_files",
    "read_config",
    "read_weights",
    "require_utf8",
    "write_config",
    "write_weights",
]

FORMAT = 1

# What Basin writes into a run folder; ``overwrite`` removes these and nothing else.
_RUN_FILES = (
    "config.json",
    "config.writing-*",
    "model*.safetensors",
    "model*.writing-*",
    "history.jsonl",
    "history.writing",
    "events.out.tfevents*",
    "samples.npz",
    "evaluation.json",
    "report.html",
    "explore.html",
    ".*.writing",
    ".report-*.html",
    ".explore-*.html",
    "checkpoint",
    LOCK,
)


def other_files(folder: Path) -> list[str]:
    """Names in a folder that no run of Basin wrote."""
    own = {path for pattern in _RUN_FILES for path in folder.glob(pattern)}
    return sorted(path.name for path in folder.iterdir() if path not in own or path.is_symlink())


def require_utf8(name: str, folder: Path) -> None:
    """Refuse a path that is no UTF-8: safetensors and TensorBoard cannot write there."""
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        shown = os.fsencode(folder).decode(errors="backslashreplace")
        raise ValueError(f"{name} must be a name in UTF-8, got {shown}") from None


def claim(folder: Path, *, overwrite: bool = False) -> Path:
    """Make the folder of a new run; one that holds anything is refused and left as it is.

    ``overwrite`` empties the folder of another run that holds nothing else.
    """
    if folder.exists() and not folder.is_dir():
        raise RunFolderError(f"out must be a folder, got the file {folder}; give another name")
    if folder.is_symlink() and not folder.exists():
        raise RunFolderError(f"out must be a folder, got {folder}, a link that leads nowhere")
    require_utf8("out", folder)
    is_run = any((folder / name).exists() for name in ("config.json", "checkpoint"))
    require_writable(folder)
    if overwrite and is_run and not other_files(folder):
        with locked(folder):  # nobody trains in it
            for path in folder.iterdir():
                if path.name != LOCK:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
    if folder.is_dir() and any(path.name != LOCK for path in folder.iterdir()):
        what = "another run" if (folder / "config.json").exists() else "other files"
        go_on = f", or go on with `basin resume {folder}`" if what == "another run" else ""
        raise RunFolderError(
            f"out must be a new or empty folder, got {folder}, which holds {what}; "
            f"choose another folder or remove it{go_on}"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").touch(exist_ok=False)  # of two that start at once, one gets it
    except FileExistsError:
        raise RunFolderError(
            f"out must be a new or empty folder, got {folder}, which another run has just taken; "
            "choose another folder"
        ) from None
    except OSError as error:
        raise in_words(folder, error) from error
    return folder


def give_up(folder: Path) -> None:
    """Leave a folder that was claimed and holds no run yet, so that the next try may take it."""
    with suppress(OSError):
        path = folder / "config.json"
        if path.stat().st_size == 0:
            path.unlink()


def write_config(folder: Path, config: Mapping[str, Any]) -> None:
    """Write ``config.json`` aside and rename it."""
    path = folder / "config.json"
    aside = path.with_suffix(f".writing-{os.getpid()}")
    try:
        aside.write_text(json.dumps(config, indent=2) + "\n")
        os.replace(aside, path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise in_words(path, error) from error


def read_config(folder: Path) -> dict[str, Any]:
    """Read ``config.json``, or say what is wrong with the folder."""
    if not folder.is_dir():
        raise RunFolderError(f"run folder must exist, got {folder}, which does not")
    path = folder / "config.json"
    if not path.is_file():
        raise RunFolderError(
            f"run folder must hold a config.json, got {folder} without one; "
            "is it a folder that `basin train --out` wrote?"
        )
    if path.stat().st_size == 0:
        raise RunFolderError(
            f"{path} must be JSON, got an empty file: the disk was full when the run began, or it "
            "was killed; nothing was trained, so begin again with overwrite (--overwrite)"
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RunFolderError(f"{path} must be JSON, got something else ({error})") from error
    if not isinstance(config, dict) or not {"format", "energy", "objective"} <= config.keys():
        raise RunFolderError(f"{path} must be the config of a Basin run, got another JSON file")
    if config["format"] != FORMAT:
        raise RunFolderError(
            f"{path} must have format {FORMAT}, got {config['format']!r}: it was written by Basin "
            f"{config.get('basin_version')}; use that version, or train anew"
        )
    wrong = next(faults(config), None)
    if wrong is not None:
        raise RunFolderError(
            f"{path} must be as Basin wrote it, got {wrong}; restore the file, or train anew"
        )
    return config


def write_weights(path: Path, energy: nn.Module) -> str:
    """Write the weights and buffers of a module aside and rename them; return their checksum."""
    return write_tensors(path, energy.state_dict(), {})


def read_weights(folder: Path, name: str, config: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of a weights file, if they are those that the run wrote.

    Their checksum came into ``config.json`` by the write that called the run finished, after the
    weights were in place: a crash before it leaves an unfinished run, and never a wrong sum.
    """
    tensors, record = read_tensors(folder / name)
    sums = config.get("weights_sha256")  # not there in runs of before it was kept
    if sums is not None and sums.get(name) != checksum(tensors, record):
        raise RunFolderError(
            f"{folder / name} must hold the weights that this run wrote (config.json has their "
            "checksum), got others; restore the file, or train anew"
        )
    return tensors


def load_weights(path: Path, tensors: Mapping[str, Tensor], energy: nn.Module) -> None:
    """Put weights that were read from ``path`` into ``energy``; shapes and names must match."""
    try:
        energy.load_state_dict(tensors)
    except RuntimeError as error:
        raise RunFolderError(
            f"{path} must fit the energy {type(energy).__name__}, but {error}; "
            "pass the module that was trained as energy="
        ) from error
