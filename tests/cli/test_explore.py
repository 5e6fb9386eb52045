"""``basin explore``: the page is written, and opened only where there is a screen."""

from __future__ import annotations

import json

import pytest
import torch

import basin
from basin.cli.main import main
from basin.cli.show import show_end
from basin.energies import MLP, NoiseConditional


def trained(folder, dim: int):
    x = torch.randn(200, dim, generator=torch.Generator().manual_seed(0))
    kind = NoiseConditional if dim > 1 else MLP
    objective = None if dim > 1 else basin.objectives.DenoisingScoreMatching(sigma=0.1)
    energy = kind(dim, hidden=(8,))
    return basin.fit(energy, x, objective, num_steps=2, batch_size=32, seed=0, out=folder)


@pytest.fixture
def opened(monkeypatch):
    """Addresses that a browser was asked for."""
    found: list[str] = []

    def note(address: str) -> bool:
        found.append(address)
        return False

    monkeypatch.setattr("webbrowser.open", note)
    monkeypatch.setenv("DISPLAY", ":0")
    return found


def test_it_writes_the_page_and_opens_it(tmp_path, opened, capsys):
    run = trained(tmp_path / "run", 2)
    assert main(["explore", str(tmp_path / "run")]) == 0
    page = tmp_path / "run" / "explore.html"
    shown = capsys.readouterr()
    assert shown.out == f"{page}\n"
    assert opened == [page.resolve().as_uri()]
    assert "no browser could be opened" in shown.err
    assert "There are no samples in this folder" in page.read_text()
    show_end(run, {})
    assert f"basin explore {tmp_path / 'run'}" in capsys.readouterr().out
    # The page belongs to the run: another may take the folder.
    assert basin.training.folder.other_files(tmp_path / "run") == []


def test_no_browser_without_a_screen_or_when_told(tmp_path, opened, monkeypatch):
    trained(tmp_path / "run", 2)
    assert main(["explore", str(tmp_path / "run"), "--no_open"]) == 0
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv("DISPLAY")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert main(["explore", str(tmp_path / "run")]) == 0
    assert opened == []


def test_a_line_has_no_landscape_to_walk_on(tmp_path, opened, capsys):
    run = trained(tmp_path / "run", 1)
    assert main(["explore", str(tmp_path / "run")]) == 0
    shown = capsys.readouterr()
    page = tmp_path / "run" / "explore.html"
    assert shown.out == f"{page}\n"
    assert "the page has no map, and says why" in shown.err
    assert "at least 2 dimensions, got 1" in page.read_text()
    show_end(run, {})
    assert "basin explore" not in capsys.readouterr().out


def change_config(folder, **settings):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


@pytest.mark.usefixtures("small_ending")
@pytest.mark.parametrize("command", ["explore", "report"])
def test_a_run_of_another_version_has_a_page_without_its_model(tmp_path, opened, capsys, command):
    folder = tmp_path / "run"
    trained(folder, 1)
    change_config(folder, basin_version="99.0.0")
    assert main([command, str(folder)]) == 0  # what can be opened is
    assert "could not be loaded" not in (folder / f"{command}.html").read_text()
    change_config(folder, format=99)
    capsys.readouterr()
    assert main([command, str(folder)]) == 0
    shown = capsys.readouterr()
    assert "basin: without the model: " in shown.err
    assert "it was written by Basin 99.0.0" in shown.err
    assert shown.out == f"{folder / command}.html\n"
    assert "The model could not be loaded: " in (folder / f"{command}.html").read_text()


@pytest.mark.parametrize("command", ["explore", "report"])
def test_a_damaged_run_is_still_an_error(tmp_path, opened, capsys, command):
    """The mutant: of this version, and yet not to be opened."""
    trained(tmp_path / "run", 1)
    (tmp_path / "run" / "model.safetensors").unlink()
    assert main([command, str(tmp_path / "run")]) == 3
    assert "model.safetensors must exist" in capsys.readouterr().err
    (tmp_path / "run" / "config.json").write_text('{"name": "a web page"}')
    assert main([command, str(tmp_path / "run")]) == 3


@pytest.mark.slow
def test_a_hundred_thousand_columns_have_pages(tmp_path, opened, capsys):
    folder = tmp_path / "run"
    x = torch.randn(40, 100_000, generator=torch.Generator().manual_seed(0))
    objective = basin.objectives.DenoisingScoreMatching(sigma=0.1)
    energy = MLP(100_000, hidden=(2,))
    basin.fit(energy, x, objective, num_steps=2, batch_size=8, seed=0, out=folder)
    for command in ("explore", "report"):
        assert main([command, str(folder)]) == 0
        assert (folder / f"{command}.html").stat().st_size < 3_000_000
    assert "up to 2,000 dimensions, got 100,000" in (folder / "explore.html").read_text()
