"""Runs side by side: what differs is said, the best is marked only where that means something."""

from __future__ import annotations

import json

import pytest

from basin.cli.main import main
from basin.report.comparison import write_comparison
from helpers.pages import Page, is_harmless
from helpers.run_folders import evaluation, known_run

NASTY = "<script>alert(1)</script>"


def checks(kl, error):
    changed = evaluation()
    changed["kl_to_truth"] |= {"value": kl, "standard_error": error}
    return changed


def compared(tmp_path, *kls, error=0.001, **changes):
    """The page of runs that differ in their KL, and in what ``changes`` says of the last."""
    made = []
    for i, kl in enumerate(kls):
        last = changes if i == len(kls) - 1 else {}
        one = known_run(tmp_path / f"run{i}", **last)
        (one.folder / "evaluation.json").write_text(json.dumps(checks(kl, error)))
        made.append(one)
    path = tmp_path / "page.html"
    write_comparison([m.folder for m in made], path, runs=[m.run for m in made])
    return Page(path)


def test_runs_stand_side_by_side_and_the_clearly_better_one_is_marked(tmp_path):
    page = compared(tmp_path, 0.05, 0.01, 0.2)
    assert is_harmless(page)
    for name in ("run0", "run1", "run2"):
        assert page.text.count(name) >= 4  # heading, columns, pictures
    assert "<b>0.0100 ± 0.0010</b>" in page.source
    assert page.source.count("<b>0.") == 1  # equal values of the other checks are not marked
    assert "Not alike" not in page.text
    assert "Held-out loss relative to the trivial predictor" in page.text
    for i in range(3):
        assert f"run{i}: Samples" in page.text


@pytest.mark.usefixtures("small_ending")
def test_a_difference_within_two_standard_errors_has_no_winner(tmp_path):
    page = compared(tmp_path, 0.0100, 0.0125, error=0.001)
    assert "0.0100 ± 0.0010" in page.text
    assert "<b>0." not in page.source


@pytest.mark.usefixtures("small_ending")
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sigma": 0.2}, "The runs differ in their noise level (run0: 0.1; run1: 0.2)"),
        ({"data": {"name": "other.csv", "kind": "table"}}, "The runs differ in their data"),
    ],
)
def test_runs_about_different_things_are_told_apart_and_have_no_winner(tmp_path, changes, words):
    page = compared(tmp_path, 0.5, 0.01, **changes)
    assert words in page.text
    assert "<b>0." not in page.source


def test_what_comes_from_a_run_stays_text(tmp_path):
    one, other = (known_run(tmp_path / name) for name in ("a", "b"))
    named = {**one.config, "data": {**one.config["data"], "name": NASTY}}
    (one.folder / "config.json").write_text(json.dumps(named))
    (other.folder / "evaluation.json").write_text(json.dumps({NASTY: {"value": 1.0}}))
    path = tmp_path / "page.html"
    write_comparison([one.folder, other.folder], path, runs=[one.run, other.run])
    page = Page(path)
    assert is_harmless(page)
    assert "<script>" not in page.source
    assert "alert(1)" in page.text


def test_runs_without_numbers_or_pictures_are_compared_all_the_same(tmp_path):
    made = [known_run(tmp_path / name) for name in ("a", "b")]
    for one in made:
        for name in ("evaluation.json", "history.jsonl", "samples.npz"):
            (one.folder / name).unlink()
    path = tmp_path / "page.html"
    write_comparison([m.folder for m in made], path)
    page = Page(path)
    assert is_harmless(page)
    assert "None of these runs has been evaluated" in page.text
    assert "None of these runs has a held-out loss" in page.text


def test_one_run_and_the_same_run_twice_are_refused(tmp_path):
    made = known_run(tmp_path / "a")
    with pytest.raises(ValueError, match="folders must be 2 to 12 runs, got 1"):
        write_comparison([made.folder], tmp_path / "page.html")
    with pytest.raises(ValueError, match="folders must be different runs"):
        write_comparison([made.folder, tmp_path / "." / "a"], tmp_path / "page.html")


@pytest.mark.usefixtures("small_ending")
def test_folders_of_one_name_are_told_apart_by_those_above(tmp_path):
    made = [known_run(tmp_path / name / "run") for name in ("old", "new")]
    path = tmp_path / "page.html"
    write_comparison([m.folder for m in made], path, runs=[m.run for m in made])
    assert "old/run" in Page(path).text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a", "--out", "x.html"], "--out must be left out for one run"),
        (["a", "b", "--out", "x.txt"], "--out must end in .html, got x.txt"),
        (["a", "b", "--out", "nowhere/x.html"], "--out must be in a folder that is there"),
    ],
)
def test_the_shell_says_what_cannot_be(arguments, message, capsys):
    assert main(["report", *arguments]) == 2
    assert message in capsys.readouterr().err
