"""The type that every estimate of log Z returns."""

from __future__ import annotations

import json
import math

import pytest

from basin.partition.log_z import LogZ


@pytest.mark.parametrize(
    "log_z",
    [
        LogZ(1.5, 0.1, 1.3, 1.7, 200.0, "importance sampling", "interval"),
        LogZ(-2.0, 0.0, -2.0, math.inf, None, "quadrature", "exact"),
    ],
)
def test_json_and_back(log_z: LogZ) -> None:
    assert LogZ.from_json(json.loads(json.dumps(log_z.to_json(), allow_nan=False))) == log_z


def test_an_unchecked_value_says_so_and_survives_json() -> None:
    value = LogZ.unchecked(0.0, "tied to the largest noise level")
    assert "unchecked" in str(value)
    assert not value.is_checked
    back = LogZ.from_json(json.loads(json.dumps(value.to_json(), allow_nan=False)))
    assert not back.is_checked
    assert back.upper == math.inf


def test_text_tells_the_kinds_of_error_apart() -> None:
    assert "95% interval" in str(LogZ(0.0, 0.1, -0.2, 0.2, None, "m", "interval"))
    assert "in expectation" in str(LogZ(0.0, 0.1, -0.2, 0.2, None, "m", "bounds"))
    assert "infinite" in str(LogZ(0.0, 0.0, -0.1, math.inf, None, "quadrature", "exact"))


def test_a_value_outside_its_range_is_refused() -> None:
    with pytest.raises(ValueError, match="log_z must lie between lower and upper"):
        LogZ(1.0, 0.1, 2.0, 3.0, None, "m", "interval")
    with pytest.raises(ValueError, match="kind must be one of"):
        LogZ(1.0, 0.1, 0.0, 3.0, None, "m", "guess")  # pyright: ignore[reportArgumentType]
