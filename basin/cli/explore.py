"""``basin explore DIR``: walkers on the model's landscape, in one page."""

from __future__ import annotations

import os
import sys
import webbrowser
from pathlib import Path

from basin.cli.job import add_energy, folder_of, open_run
from basin.cli.parser import Parser

__all__ = ["run"]

DESCRIPTION = """\
Write DIR/explore.html and open it: the energy as a map, and walkers that Langevin moves over it.

One file, which needs no network. A 2-D model is shown whole, a larger one on the plane of the two
main directions of its data; images also walk from noise to samples."""

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
    model = open_run(given["folder"], energy=given["energy"])
    path = write_explorer(folder_of(model), run=model)
    print(path)
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
