"""``basin resume DIR``: go on with a run that was stopped."""

from __future__ import annotations

from basin.cli import job
from basin.cli.parser import Parser
from basin.cli.show import show_end
from basin.training import resume

__all__ = ["run"]

DESCRIPTION = """\
Go on from the last checkpoint of a run that was stopped by Ctrl-C, a time limit, a crash or a
power cut; then draw, measure and report. The result has the same bits as a run that was never
stopped, on the same machine. A run that had finished training is measured and reported again."""

EXAMPLES = """\
  basin resume runs/board"""


def run(arguments: list[str]) -> int:
    """Check the folder, train on, finish."""
    parser = Parser("resume", "DIR", DESCRIPTION, EXAMPLES)
    parser.add_argument("folder", metavar="DIR", help="run folder")
    folder = job.existing_folder(parser.parse(arguments)["folder"])
    done = resume(folder, progress=True)
    job.finish(done, job.data_of(done))
    show_end(done)
    return 0
