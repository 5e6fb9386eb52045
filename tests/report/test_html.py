import re
from dataclasses import replace

import numpy as np
import pytest

from basin.report.html import escape_sentence, write_report
from helpers.pages import Page, is_harmless
from helpers.run_folders import config, known_run, rows_run, write

NASTY = "<script>alert(1)</script>"


def page_of(made):
    return Page(write_report(made.folder, run=made.run, dataset=made.dataset))


@pytest.fixture(scope="module")
def plane(tmp_path_factory):
    made = known_run(tmp_path_factory.mktemp("run") / "two")
    return made, page_of(made)


def test_the_page_is_whole_and_fetches_nothing(plane):
    made, page = plane
    assert is_harmless(page)
    assert "Content-Security-Policy" in page.source
    for title in ("Pictures", "Training", "Checks", "Repeat this run", "References"):
        assert title in page.text
    assert [p.name for p in made.folder.glob(".report*")] == []
    assert (made.folder / "report.html").stat().st_size < 2_000_000


def test_the_page_says_what_was_found(plane):
    _, page = plane
    assert "Good." in page.text
    assert "0.0081 ± 0.0012" in page.text  # digits from the error
    assert "pσ , σ = 0.1, ema weights" in page.text.replace("pσ,", "pσ ,")
    assert "basin train three_blobs --out runs/blobs --seed 3" in page.text
    assert "sha256:0123456789abcdef" in page.text
    assert "dual score matching" in page.text
    assert "unchecked" in page.text
    for title in (
        "Data",
        "True log density",
        "Samples",
        "Model’s score",
        "Where the model is wrong",
    ):
        assert title in page.words


def test_every_picture_has_words(plane):
    _, page = plane
    assert (
        page.tags.count("svg") == page.tags.count("figure") == page.tags.count("figcaption") == 10
    )
    assert all(len(words) > 20 for words in page.alternatives)
    assert 'lang="en"' in page.source
    assert "prefers-color-scheme: dark" in page.source
    assert "@media print" in page.source
    identifiers = re.findall(r'\bid="([^"]*)"', page.source)
    assert len(identifiers) == len(set(identifiers))


def test_same_run_same_bytes(plane):
    made, page = plane
    assert write_report(made.folder, run=made.run, dataset=made.dataset).read_text() == page.source


def test_names_from_the_run_stay_text(tmp_path):
    data = np.random.default_rng(0).normal(size=(300, 3)).astype(np.float32)
    columns = [NASTY, '"><img src=x onerror=alert(1)>', "$\\frac{"]
    made = rows_run(tmp_path, data, data[:100], name=NASTY, columns=columns)
    settings = {**made.config, "command": f"basin train '{NASTY}'", "basin_version": NASTY}
    settings |= {"explanation": NASTY, "training_ended": NASTY, "weights": NASTY}
    settings["objective"] = {"class": NASTY}
    settings["log_z"] = {"log_z": 1.0, "method": NASTY, "standard_error": None}
    settings["data"]["source"] = {"source": NASTY, "fingerprint": NASTY}
    checks = {
        NASTY: {"value": 1.0, "meaning": NASTY, "null": NASTY, "about": {"density": NASTY}},
        "not_done": {NASTY: NASTY},
        "memorisation": {"value": 0.1, "details": {"verdict": NASTY}},
    }
    rows = [{"step": i, "loss": 1.0, "terms": {NASTY: 1.0}, NASTY: 1} for i in range(30)]
    write(tmp_path, settings, [*rows, {"step": 31, "event": NASTY}], data[:100], checks)
    page = page_of(made)
    assert is_harmless(page)
    assert "<script" not in page.source.lower()
    assert "<img" not in page.source.lower()
    assert NASTY in page.text  # shown, not dropped
    assert "$\\frac{" in page.text  # not read as mathematics
    mutant = page.source.replace("&lt;script&gt;", "<script>", 1)
    assert "<script" in mutant  # the search above would have seen it


@pytest.mark.parametrize("text", ["\ud800", "\x00", "\u202egnp.exe", "‏", "x" * 100_000])
def test_odd_characters_do_not_break_the_page(tmp_path, text):
    data = np.zeros((5, 2), np.float32)
    made = rows_run(tmp_path, data, data, name=text, columns=[text, "b"])
    page = page_of(made)
    assert is_harmless(page)
    assert not set("\x00\u202e\u200f") & set(page.source)
    assert len(page.source) < 2_000_000


def test_a_bare_folder_gives_a_page_that_says_so(tmp_path):
    write(tmp_path, config(2), None, None, None)
    page = Page(write_report(tmp_path))
    assert is_harmless(page)
    for sentence in (
        "The model could not be loaded",
        "The data could not be read again",
        "There are no samples",
        "has not been evaluated",
        "There is no history",
        "There is nothing to draw",
    ):
        assert sentence in page.text
    assert "Cannot tell" in page.text


def test_almost_empty_configurations(tmp_path):
    for settings in ({}, {"data": [1], "energy": 3, "training": "x", "sigma": "wide", "log_z": 2}):
        write(tmp_path, settings, [], None, {})
        assert is_harmless(Page(write_report(tmp_path)))


@pytest.mark.parametrize("content", [None, "", "{", "[1, 2]", "\xff\xfe", "[" * 100_000])
def test_a_folder_that_is_no_run_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "config.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(ValueError, match="must hold a Basin run"):
        write_report(tmp_path)
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize("dim", [1, 3])
def test_other_dimensions_of_a_known_density(tmp_path, dim):
    page = page_of(known_run(tmp_path, dim))
    assert is_harmless(page)
    assert ("Density" if dim == 1 else "Pairs of columns") in page.words


@pytest.mark.usefixtures("small_ending")
def test_a_model_that_fails_leaves_the_rest(tmp_path):
    made = known_run(tmp_path)

    def fail(*_args):
        raise RuntimeError(f"no {NASTY}")

    made.run = replace(made.run, energy=fail)
    page = page_of(made)
    assert is_harmless(page)
    assert f"landscape could not be computed: no {NASTY}" in page.text
    assert "Pairs of columns" in page.words


def test_images(tmp_path):
    data = np.random.default_rng(0).integers(0, 17, (70, 1, 8, 8)).astype(np.float32)
    page = page_of(rows_run(tmp_path, data, data[:70] + 1, "images"))
    assert is_harmless(page)
    for title in ("Samples", "Data", "Nearest training rows"):
        assert title in page.words
    assert "the smallest distance here is 8." in page.text  # 64 grey levels off by one each


@pytest.mark.usefixtures("small_ending")
def test_images_that_cannot_be_drawn(tmp_path):
    data = np.zeros((5, 2, 3, 4, 5), np.float32)
    page = page_of(rows_run(tmp_path, data, data, "images"))
    assert "are not images this page can draw" in page.text


def test_ten_thousand_columns(tmp_path):
    data = np.random.default_rng(0).normal(size=(50, 10_000)).astype(np.float32)
    columns = [f"column {i}" for i in range(10_000)]
    made = rows_run(tmp_path, data, data[:20], columns=columns)
    page = page_of(made)
    assert is_harmless(page)
    assert "The first 6 of 10,000 columns" in page.text
    assert len(page.source) < 1_000_000


@pytest.mark.usefixtures("small_ending")
def test_a_full_disk_leaves_the_old_report(tmp_path, monkeypatch):
    made = known_run(tmp_path, 1)
    (tmp_path / "report.html").write_text("old")

    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("basin.report.writing.os.replace", full)
    with pytest.raises(OSError, match="No space left"):
        page_of(made)
    assert (tmp_path / "report.html").read_text() == "old"
    assert list(tmp_path.glob(".report*")) == []


def test_a_real_run_from_start_to_page(tmp_path):
    import basin

    truth = basin.datasets.TwoBlobs()
    energy = basin.energies.NoiseConditional(2, hidden=(16,))
    out = tmp_path / "run"
    options = {"num_steps": 30, "batch_size": 512, "evaluate_every": 15, "progress": False}
    run = basin.fit(energy, truth, out=out, **options)
    np.savez(out / "samples.npz", samples=run.sample(200, num_steps=20).numpy(), sigma=run.sigma)
    (out / "evaluation.json").write_text("{}")
    page = Page(write_report(out))
    assert is_harmless(page)
    assert "Not shown" not in page.text
    assert page.tags.count("figure") >= 9
    assert basin.report.plot_panels(run).axes


def test_a_command_in_a_sentence_is_set_as_code_and_stays_text():
    found = escape_sentence(f"run `basin sample` on `{NASTY}` or `")
    nasty = "&lt;script&gt;alert(1)&lt;/script&gt;"
    assert found == f"run <code>basin sample</code> on <code>{nasty}</code> or `"
