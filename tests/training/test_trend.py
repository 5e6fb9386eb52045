"""The verdict on a loss curve, word by word."""

from __future__ import annotations

import math

import numpy as np
import pytest

from basin.training.trend import trend


def curve(function, n=40, **names):
    return [
        {"step": i, "loss": function(i / n), **{k: v(i / n) for k, v in names.items()}}
        for i in range(n)
    ]


def wobble(t):
    return 1e-3 * math.sin(997 * t)


@pytest.mark.parametrize(
    ("history", "word"),
    [
        (curve(lambda t: math.exp(-20 * t) + wobble(t)), "flat"),
        (curve(lambda t: 1 - t + wobble(t)), "improving"),
        (curve(lambda t: 1 + t + wobble(t)), "diverged"),
        (curve(lambda t: 1 - t / 2, validation_loss=lambda t: (t - 0.4) ** 2), "over-fitting"),
        (curve(lambda t: math.nan if t > 0.9 else 1 - t), "diverged"),
        (curve(lambda t: 1 - t, n=5), "cannot tell"),
        ([], "cannot tell"),
    ],
)
def test_words(history, word):
    assert trend(history).word == word


def test_a_change_within_its_error_is_none():
    noise = iter(np.random.default_rng(0).normal(size=40))
    verdict = trend(curve(lambda t: math.exp(-20 * t) + 0.1 * next(noise) - 0.02 * t))
    assert verdict.word == "flat"
    assert "±" in verdict.sentence
    noise = iter(np.random.default_rng(0).normal(size=40))
    clear = trend(curve(lambda t: math.exp(-20 * t) + 0.001 * next(noise) - 0.2 * t))
    assert clear.word == "improving"


def test_a_loss_that_is_no_measure_of_fit_cannot_tell_and_shows_the_gap():
    rows = curve(lambda t: 1 - t)
    for row in rows:
        row["terms"] = {"gap": 0.25}
    verdict = trend(rows, is_a_score_of_fit=False)
    assert verdict.word == "cannot tell"
    assert "0.25" in verdict.sentence


def test_events_are_not_points_of_the_curve():
    rows = curve(lambda t: 1 - t)
    assert trend([*rows, {"step": 40, "event": "went back"}]) == trend(rows)
