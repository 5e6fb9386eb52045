"""What the commands print when they are done."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["evaluation_table", "show_end"]


def evaluation_table(results: Mapping[str, Any]) -> str:
    """One line a measure: value, standard error, floor, and which density it is about.

    >>> print(evaluation_table({"kl_to_truth": {"value": 0.0123, "standard_error": 0.001,
    ...     "floor": 0.0, "about": {"density": "p_sigma", "sigma": 0.1, "weights": "ema"}}}))
    kl_to_truth                 0.0123 ± 0.001     floor 0          p_sigma, sigma 0.1, ema weights
    """
    return "\n".join(
        _line(name, value) for name, value in results.items() if isinstance(value, Mapping)
    )


def show_end(run: Any) -> None:
    """The page to open and the commands to try next."""
    folder = run.folder
    print(f"\nreport: {folder / 'report.html'}")
    print("next:")
    print(f"  basin sample {folder} --num_samples 1000 --out draws.csv")
    print(f"  basin evaluate {folder} --json")
    if run.config["data"].get("kind") == "table":
        print(f"  basin score {folder} TABLE --out scores.csv")


def _line(name: str, result: Mapping[str, Any]) -> str:
    value = result.get("value")
    error = result.get("standard_error")
    floor = result.get("floor")
    p_value = result.get("p_value")
    shown = _number(value) + (f" ± {_number(error)}" if isinstance(error, int | float) else "")
    beside = f"floor {_number(floor)}" if isinstance(floor, int | float) else ""
    if isinstance(p_value, int | float):
        beside += f"{'  ' if beside else ''}p = {_number(p_value)}"
    return f"{name:27} {shown:18} {beside:16} {_about(result.get('about') or {})}".rstrip()


def _about(about: Mapping[str, Any]) -> str:
    parts = [str(about["density"])] if about.get("density") else []
    if isinstance(about.get("sigma"), int | float):
        parts.append(f"sigma {_number(about['sigma'])}")
    if about.get("weights"):
        parts.append(f"{about['weights']} weights")
    return ", ".join(parts)


def _number(value: Any) -> str:
    if isinstance(value, int | float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return "[" + " ".join(_number(item) for item in value) + "]"
    return str(value)
