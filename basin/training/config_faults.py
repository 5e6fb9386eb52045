"""What is wrong with a ``config.json`` that somebody else may have written or edited.

Every value that a run reads back is of a known kind; the first that is not is named, so that a
changed file is one clear error and never a surprise far from it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeGuard

from basin.partition.log_z import LogZ
from basin.training.settings import Settings

__all__ = ["faults"]


def faults(config: Mapping[str, Any]) -> Iterator[str]:
    """What is not of the kind that a run writes, as "name: value"; a file may be edited."""
    for name in ("data", "energy", "objective", "training"):
        if not isinstance(config.get(name), Mapping):
            yield f"{name}: {_shown(config, name)}"
            return
    checks: dict[str, Any] = {"requested_sigma": _is_level, "finished": (None, True).__contains__}
    if config.get("finished") is not None:
        checks |= {
            "sigma": _is_level,
            "noise_levels": _are_levels,
            "weights": ("raw", "ema").__contains__,
            "other_weights": (None, "raw", "ema").__contains__,
            "log_z": _is_log_z,
            "log_z_other": _is_log_z,
            "start": _is_start,
        }
    for name, is_right in checks.items():
        if name not in config or not is_right(config[name]):
            yield f"{name}: {_shown(config, name)}"
    try:
        Settings.from_json(config["training"])
    except (KeyError, TypeError, ValueError) as error:
        yield f"training: {error}"
    data = config["data"]
    shape = data.get("event_shape")
    checks = {
        "event_shape": lambda _: _is_shape(shape),
        "columns": lambda names: names is None or _are_names(names, shape),
        "kind": ("density", "table", "images").__contains__,
        "source": lambda source: source is None or isinstance(source, Mapping),
        "density": lambda density: density is None or isinstance(density, Mapping),
        "num_rows": lambda number: number is None or _is_whole(number),
    }
    for name, is_right in checks.items():
        if name not in data or not is_right(data[name]):
            yield f"data.{name}: {_shown(data, name)}"
    optional = {"weights_sha256": _are_sums, "identity": _is_text, "num_states": _are_states}
    for name, is_right in optional.items():
        if name in config and not is_right(config[name]):
            yield f"{name}: {_shown(config, name)}"
    levels, sigma = config.get("noise_levels"), config.get("sigma")
    if levels is not None and sigma is None:
        yield "sigma: null beside noise_levels"


def _shown(values: Mapping[str, Any], name: str) -> str:
    return repr(values[name])[:80] if name in values else "nothing"


def _is_number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**63


def _are_states(value: Any) -> bool:
    return value is None or (_is_whole(value) and value > 1)


def _is_level(value: Any) -> bool:
    return value is None or (_is_number(value) and value > 0)


def _are_levels(value: Any) -> bool:
    if not isinstance(value, Mapping):
        return value is None
    lowest, highest = value.get("sigma_min"), value.get("sigma_max")
    if not _is_number(lowest) or not _is_number(highest):
        return False
    return 0 < lowest <= highest < 1e18  # its square is a float32


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _are_sums(value: Any) -> bool:
    return isinstance(value, Mapping) and all(map(_is_text, value.values()))


def _is_shape(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 0 and all(map(_is_whole, value))


def _are_names(value: Any, shape: Any) -> bool:
    are_texts = isinstance(value, list) and all(map(_is_text, value))
    return are_texts and shape == [len(value)]


def _is_log_z(value: Any) -> bool:
    try:
        if value is not None:
            LogZ.from_json(value)
    except (TypeError, ValueError):
        return False
    if value is None:
        return True
    error = value.get("standard_error")
    return _is_number(value.get("log_z")) and (error is None or _is_number(error))


def _is_start(value: Any) -> bool:
    if not isinstance(value, Mapping) or not isinstance(value.get("mean"), list):
        return False
    return all(map(_is_number, [*value["mean"], value.get("standard_deviation")]))
