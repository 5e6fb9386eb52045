"""``basin explore``: the page is written, and opened only where there is a screen."""

from __future__ import annotations

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
    assert main(["explore", str(tmp_path / "run")]) == 2
    assert "at least 2 dimensions, got 1" in capsys.readouterr().err
    show_end(run, {})
    assert "basin explore" not in capsys.readouterr().out
    assert opened == []
