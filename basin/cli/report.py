"""``basin report DIR [DIR ...]``: write the page of a run again, or one that compares runs."""

from __future__ import annotations

from pathlib import Path

from basin.cli.job import add_energy, open_for_a_page
from basin.cli.parser import Parser

__all__ = ["run"]

DESCRIPTION = """\
With one run, write DIR/report.html again from what the run folder holds. With several, write one
page that sets them side by side: verdicts, every check with its error, held-out losses, pictures.
It says first in what the runs differ that makes their numbers about different things."""

EXAMPLES = """\
  basin report runs/board
  basin report runs/board runs/lesson --out board-or-lesson.html"""


def run(arguments: list[str]) -> int:
    """Check the folders, write the page, print its path."""
    from basin.report import write_comparison, write_report

    parser = Parser("report", "DIR [DIR ...]", DESCRIPTION, EXAMPLES)
    parser.add_argument("folders", metavar="DIR", nargs="+", help="run folder")
    parser.add_argument(
        "--out", metavar="FILE", help="page that compares runs; comparison.html when left out"
    )
    add_energy(parser)
    given = parser.parse(arguments)
    folders, out = given["folders"], given["out"]
    if len(folders) == 1:
        if out is not None:
            raise ValueError("--out must be left out for one run, whose page is DIR/report.html")
        model = open_for_a_page(folders[0], energy=given["energy"])
        print(write_report(folders[0], run=model))
        return 0
    path = Path(out or "comparison.html")
    if path.suffix != ".html":
        raise ValueError(f"--out must end in .html, got {out}")
    if not path.parent.is_dir():
        raise ValueError(f"--out must be in a folder that is there, got {path}")
    runs = [open_for_a_page(folder, energy=given["energy"]) for folder in folders]
    print(write_comparison(folders, path, runs=runs))
    return 0
