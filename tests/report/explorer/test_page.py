import base64
import hashlib
import json
import re

import numpy as np
import pytest

from basin.report.explorer.page import write_explorer
from helpers.explored_runs import gaussian_run
from helpers.run_folders import known_run

NASTY = "<script>alert(1)</script>"


def page_of(made):
    return write_explorer(made.folder, run=made.run, dataset=made.dataset).read_text("utf-8")


def scene_of(page):
    return json.loads(re.search(r'id="scene">(.*?)</script>', page, re.DOTALL)[1])


def test_the_policy_allows_the_one_script_and_nothing_from_elsewhere(tmp_path):
    page = page_of(gaussian_run(tmp_path / "run"))
    script = re.search(r"<script>(.*?)</script>", page, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; script-src 'sha256-{digest}'" in page
    assert page.count("<script") == 2  # the data and the script
    assert not re.search(r"\b(src|href)=|https?://|@import|url\(", page)
    assert len(page) < 3_000_000


def test_embedded_numbers_are_those_of_the_run(tmp_path):
    made = gaussian_run(tmp_path / "run")
    scene = scene_of(page_of(made))
    assert scene["levels"][scene["own"]]["sigma"] == 0.1
    data = np.frombuffer(base64.b64decode(scene["data"]), "<f4").reshape(-1, 2)
    samples = np.frombuffer(base64.b64decode(scene["samples"]), "<f4").reshape(-1, 2)
    assert data.shape == (2000, 2)  # fresh draws of the density
    assert np.allclose(samples, np.load(made.folder / "samples.npz")["samples"])
    level = scene["levels"][0]
    coefficients = np.frombuffer(base64.b64decode(level["coefficients"]), "<f4")
    assert len(coefficients) == level["size"] ** 2
    truth = level["truth"]
    values = np.frombuffer(base64.b64decode(truth["values"]), "<u2")
    top = truth["lowest"] + truth["step"] * values.max()
    # The middle of the nearest cell is within half a cell of the mode.
    expected = -np.log(2 * np.pi * (1 + 0.05**2))
    assert expected - level["spacing"] ** 2 <= top <= expected + truth["step"]


def test_names_from_the_run_stay_text(tmp_path):
    made = gaussian_run(
        tmp_path / "run", kind="table", spread=np.ones(2), columns=[NASTY, NASTY], name=NASTY
    )
    page = page_of(made)
    assert "alert(1)" in page
    assert "<script>alert" not in page
    assert scene_of(page)["names"][0] == NASTY
    assert page.count("<script") == page.count("</script>") == 2


def test_what_is_missing_is_named(tmp_path):
    made = gaussian_run(tmp_path / "run", has_samples=False)
    (made.folder / "evaluation.json").unlink(missing_ok=True)
    page = page_of(made)
    assert "There are no samples in this folder" in page
    assert "run <code>basin sample</code> on it" in page
    assert "has not been evaluated" not in page  # it would show no checks anyway
    assert scene_of(page)["samples"] is None


def test_what_is_missing_is_told_by_its_part_and_not_by_its_words(tmp_path):
    """The mutant: a choice by words would drop a note whose file has the name of another part."""
    made = known_run(tmp_path / "run")
    (made.folder / "history.jsonl").unlink()
    made.config["data"].update(source="/nowhere/history.jsonl of the evaluation.csv")
    (made.folder / "config.json").write_text(json.dumps(made.config))
    page = write_explorer(made.folder, run=made.run).read_text("utf-8")
    assert "Not shown. The data could not be read again" in page
    assert "evaluation.csv" in page
    assert "training curves" not in page


def test_a_slice_is_called_one(tmp_path):
    page = page_of(gaussian_run(tmp_path / "run", (3,), kind="table", spread=np.ones(3)))
    assert "A slice is not a projection" in page
    assert "The model has 3 dimensions" in page
    assert "walkers are compared with the model itself" in page


def test_images_walk_from_noise(tmp_path):
    scene = scene_of(page_of(gaussian_run(tmp_path / "run", (1, 4, 4), kind="images")))
    walk = scene["walk"]
    pixels = base64.b64decode(walk["noisy"])
    assert len(pixels) == len(walk["sigmas"]) * walk["count"] * 16
    assert scene["levels"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda made: setattr(made.run, "num_states", 2), "a model of real numbers"),
        (lambda made: made.config["data"].update(event_shape=[1]), "a model of at least 2 dim"),
        (lambda made: made.config["data"].update(is_conditional=True), "an energy of x alone"),
    ],
)
def test_a_model_that_cannot_be_shown_has_a_page_that_says_why(tmp_path, change, message):
    made = known_run(tmp_path / "run")
    change(made)
    (made.folder / "config.json").write_text(json.dumps(made.config))
    page = page_of(made)
    assert f"Not shown. No map of the energy: explore needs {message}" in page
    assert scene_of(page) == {"levels": None, "walk": None}
    assert page.count('" hidden>') == 2  # neither controls nor keys for what is not there


def test_a_model_that_does_not_load_has_a_page_that_says_so(tmp_path):
    made = known_run(tmp_path / "run")
    page = write_explorer(made.folder, dataset=made.dataset).read_text("utf-8")
    assert "The model could not be loaded: " in page
    assert "explore needs the model of the run" in page
    assert scene_of(page)["levels"] is None
