"""Progress: plain lines where nobody looks at a terminal, nothing unless asked for."""

from __future__ import annotations

import sys

import torch

from basin.samplers.mala import MALA
from basin.sampling.run import sample
from helpers.energies import DiagonalGaussian


def run(progress):
    x0 = torch.zeros(3, 1)
    options = {"num_steps": 1000, "num_warmup": 200, "progress": progress}
    return sample(DiagonalGaussian([1.0]), MALA(0.5), x0, **options)


def test_silent_by_default_plain_lines_without_a_terminal_and_the_same_draws(capsys):
    quiet = run(progress=False)
    assert capsys.readouterr() == ("", "")
    shown = run(progress=True)
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == ""
    assert lines[-1].startswith("sampling: 1000 of 1000 steps")
    assert "accepted 0." in lines[-1]
    assert "0 divergent" in lines[-1]
    assert any(line.startswith("warm-up: 200 of 200 steps") for line in lines)
    assert 10 <= len(lines) <= 20
    assert "\x1b" not in err
    assert torch.equal(quiet.positions, shown.positions)


def test_a_bar_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    run(progress=True)
    err = capsys.readouterr().err
    assert "1000/1000" in err
    assert "warm-up" in err
