"""``basin explore DIR``: walkers on the model's landscape, in one page."""

from __future__ import annotations

import os
import sys
import webbrowser
from pathlib import Path

from basin.cli.job import add_energy, open_for_a_page
from basin.cli.parser import Parser
from basin.cli.show import can_explore

__all__ = ["run"]

DESCRIPTION = """\
Write DIR/explore.html and open it: the energy as a map, and walkers that Langevin moves over it.

One file, which needs no network. A 2-D model is shown whole, a larger one on the plane of the two
main directions of its data; images also walk from noise to samples. What cannot be shown, as a
model of one dimension, is named on the page."""

EXAMPLES = """\
  basin explore runs/board
  basin explore runs/digits --no_open"""


def run(arguments: list[str]) -> int:
    """Check the folder, write the page, print its path, open it."""
    from basin.report import write_explorer

    parser = Parser("explore", "DIR [options]", DESCRIPTION, EXAMPLES)
    parser.add_argument("folder", metavar="DIR", help="run folder")
    parser.add_argument(
        "--no_open", action="store_true", help="write the page without opening a browser"
    )
    add_energy(parser)
    given = parser.parse(arguments)
    model = open_for_a_page(given["folder"], energy=given["energy"])
    path = write_explorer(given["folder"], run=model)
    print(path)
    if model is None or not can_explore(model):
        print("basin: the page has no map, and says why", file=sys.stderr)
    if not given["no_open"] and _has_screen():
        _open(path)
    return 0


def _has_screen() -> bool:
    """Whether a browser with windows can be opened; one of text would take over the terminal."""
    names = ("DISPLAY", "WAYLAND_DISPLAY")
    return sys.platform in ("darwin", "win32") or any(os.environ.get(name) for name in names)


def _open(path: Path) -> None:
    if not webbrowser.open(path.resolve().as_uri()):
        print(f"no browser could be opened; open {path} yourself", file=sys.stderr)
