import math

import pytest

import basin
from basin.report.collect import RunRecord
from basin.report.verdict import judge, trend
from helpers.run_folders import config, history


def record(evaluation=None, rows=None, **changes):
    return RunRecord(None, {**config(2), **changes}, tuple(rows or history()), evaluation or {})


def long_run(p_value, leaves):
    said = "short-run generator, not a density" if leaves else "drifts"
    said = said if p_value < 0.01 else "stays"
    details = {"verdict": f"{said}: why", "leaves": leaves, "factor": 10}
    return {"long_run": {"value": 0.5, "p_value": p_value, "details": details}}


@pytest.mark.parametrize(
    ("evaluation", "level"),
    [
        ({}, "unknown"),
        ({"kl_to_truth": {"value": 0.01}}, "good"),
        ({"kl_to_truth": {"value": 0.1}}, "fair"),
        ({"kl_to_truth": {"value": 0.48}}, "poor"),
        ({"kl_to_truth": {"value": None}}, "unknown"),
        ({"kl_to_truth": "0.01"}, "unknown"),
        ({"kl_to_truth": {"value": 0.01}, "log_z_error": {"value": -0.5}}, "fair"),
        ({"kl_to_truth": {"value": 0.01}, "mode_weights": {"value": 0.2, "floor": 0.01}}, "fair"),
        ({"mmd": {"value": 0.0, "p_value": 0.4}}, "good"),
        ({"mmd": {"value": 0.3, "p_value": 0.002}}, "fair"),
        ({"relative_loss": {"value": 0.999}}, "poor"),
        ({"relative_loss": {"value": 0.5}}, "unknown"),  # a loss alone says nothing of quality
        ({"relative_loss": {"value": 0.985, "floor": 0.98}}, "unknown"),
        ({"memorisation": {"value": 0.1, "p_value": 1e-6}}, "poor"),
        (long_run(p_value=0.0005, leaves=True), "poor"),
        (long_run(p_value=0.0005, leaves=False), "fair"),
        (long_run(p_value=0.4, leaves=False), "unknown"),
        ({"held_out_log_likelihood": {"value": 1, "details": {"gap_to_truth": 0.5}}}, "poor"),
        ({"held_out_log_likelihood": {"value": 1, "details": {"gain_over_gaussian": -3}}}, "poor"),
    ],
)
def test_level(evaluation, level):
    assert judge(record(evaluation)).level == level


def checked_log_z(agrees):
    details = {"agrees": agrees, "found": {"method": "sequential Monte Carlo", "log_z": 1.0}}
    return {"log_z_check": {"value": 3.0, "standard_error": 0.1, "details": details}}


def test_a_log_z_that_another_method_does_not_agree_with_is_said_on_top():
    verdict = judge(record({"mmd": {"value": 0.0, "p_value": 0.4}, **checked_log_z(False)}))
    assert verdict.level == "fair"
    assert "does not agree with that of sequential Monte Carlo" in verdict.warnings[0]
    agreeing = judge(record({"mmd": {"value": 0.0, "p_value": 0.4}, **checked_log_z(True)}))
    assert agreeing.level == "good"
    assert any("that of sequential Monte Carlo" in line for line in agreeing.evidence)
    assert judge(record(checked_log_z(None))).level == "unknown"  # nothing was claimed


def test_a_short_run_generator_is_named_in_the_warnings():
    found = judge(record(long_run(p_value=0.0005, leaves=True))).warnings
    assert any(text.startswith("Short-run generator, not a density: why.") for text in found)
    assert not any("why" in text for text in judge(record(long_run(0.4, False))).warnings)


def test_one_bad_check_outweighs_the_good_ones():
    good = {"kl_to_truth": {"value": 0.001}, "mmd": {"value": 0, "p_value": 0.9}}
    assert judge(record(good)).level == "good"
    assert judge(record({**good, "memorisation": {"value": 0.01}})).level == "poor"


def curve(function, name="validation_relative"):
    rows = []
    for step in range(1, 41):
        value = function(step / 40)
        loss = 0.4 + 0.5 * math.exp(-step / 10)
        rows.append({"step": step, "relative_loss": loss, "loss": loss, name: value})
    return rows


@pytest.mark.parametrize(
    ("function", "word"),
    [
        (lambda t: 0.5 + 0.4 * math.exp(-20 * t) + 1e-4 * math.sin(99 * t), "flat"),
        (lambda t: 1 - 0.5 * t, "improving"),
        (lambda t: 0.5 + (t - 0.4) ** 2, "over-fitting"),
        (lambda t: 0.5 + t, "over-fitting"),
    ],
)
def test_trend_of_held_out_loss(function, word):
    assert trend(record(rows=curve(function)))[0] == word


def test_trend_of_a_diverging_and_a_stopped_run():
    rows = [{"step": i, "loss": 0.5 + i / 10, "relative_loss": 0.5 + i / 10} for i in range(40)]
    assert trend(record(rows=rows))[0] == "diverged"
    assert judge(record(rows=rows)).level == "poor"
    rows.append({"step": 41, "loss": math.nan})
    assert trend(record(rows=rows))[0] == "diverged"
    assert trend(record(rows=rows[:3]))[0] == "cannot tell"
    assert trend(RunRecord(None, {}))[0] == "cannot tell"


def test_warnings():
    def warned(word, **changes):
        return any(word in warning for warning in judge(record(**changes)).warnings)

    assert warned("unchecked")
    assert not warned("unchecked", log_z=None)
    assert not warned("unchecked", evaluation={"log_z_error": {"value": 0.01}})
    assert not warned("trained with Basin")
    assert warned("trained with Basin 0.0.1", basin_version="0.0.1")
    assert warned("format 7", format=7)
    assert warned("not finished", finished=None)
    assert warned("energy_gap: why", evaluation={"not_done": {"energy_gap": "why"}})
    assert warned("halved", rows=[*history(), {"step": 9, "event": "learning rate halved"}])
    assert basin.__version__


def test_a_sigma_at_the_end_of_its_ladder_is_said_on_top():
    choice = "highest held-out likelihood, at the lowest level of the ladder: it still rises"
    assert any("lowest level" in text for text in judge(record(sigma_choice=choice)).warnings)
    assert not any("σ was" in text for text in judge(record(sigma_choice="requested")).warnings)
