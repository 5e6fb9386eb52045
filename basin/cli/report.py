"""``basin report DIR``: write the report page again."""

from __future__ import annotations

from basin.cli.job import add_energy, folder_of, open_run
from basin.cli.parser import Parser

__all__ = ["run"]

EXAMPLES = """\
  basin report runs/board"""


def run(arguments: list[str]) -> int:
    """Check the folder, write the page, print its path."""
    from basin.report import write_report

    parser = Parser(
        "report", "DIR", "Write DIR/report.html again from what the run folder holds.", EXAMPLES
    )
    parser.add_argument("folder", metavar="DIR", help="run folder")
    add_energy(parser)
    given = parser.parse(arguments)
    model = open_run(given["folder"], energy=given["energy"])
    print(write_report(folder_of(model), run=model))
    return 0
