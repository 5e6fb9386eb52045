"""The type that every check returns."""

from __future__ import annotations

import json
import math

import pytest

from basin.evaluation.estimate import About, Estimate


def test_json_and_back() -> None:
    estimate = Estimate(
        0.1,
        0.01,
        0.0,
        0.5,
        100,
        "a number",
        About("p_sigma", 0.1, "ema"),
        null="nothing happens",
        details={"shares": [0.8, 0.2]},
    )
    text = json.dumps(estimate.to_json(), allow_nan=False)
    assert Estimate.from_json(json.loads(text)) == estimate
    keys = {"value", "standard_error", "floor", "p_value", "n", "meaning", "about"}
    assert keys <= set(json.loads(text))
    assert json.loads(text)["about"] == {"density": "p_sigma", "sigma": 0.1, "weights": "ema"}


def test_what_is_not_finite_is_missing_in_json() -> None:
    estimate = Estimate(math.inf, math.nan, None, None, None, "infinite", details={"x": math.inf})
    values = json.loads(json.dumps(estimate.to_json(), allow_nan=False))
    assert values["value"] is None
    assert values["details"] == {"x": None}
    assert math.isnan(Estimate.from_json(values).value)


def test_text_and_number() -> None:
    estimate = Estimate(0.25, 0.01, 0.0, 0.03, 50, "of a check")
    assert str(estimate) == "0.25 ± 0.01 (perfect: 0) of a check, p = 0.03, n = 50"
    assert float(estimate) == 0.25


def test_the_density_has_three_names() -> None:
    with pytest.raises(
        ValueError, match="density must be 'p', 'p_sigma' or 'p_corrupted', got 'q'"
    ):
        About("q")  # pyright: ignore[reportArgumentType]
