"""``basin resume DIR``: go on with a run that was stopped."""

from __future__ import annotations

from basin.cli import job
from basin.cli.parser import Parser
from basin.cli.show import show_end
from basin.core.validation import positive_integer
from basin.training import resume
from basin.training.writable import require_writable

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
    parser.add_argument(
        "--num_samples", type=int, help="rows of samples.npz; by default as basin train chooses"
    )
    job.add_energy(parser)
    given = parser.parse(arguments)
    if given["num_samples"] is not None:
        positive_integer(num_samples=given["num_samples"])
    folder = job.existing_folder(given["folder"])
    require_writable(folder)  # samples, measures and the report follow, also of a finished run
    name = given["energy"]
    energy = None if name is None else job.energy_of(folder, name)
    done = resume(folder, energy=energy, progress=True)
    show_end(done, job.finish(done, job.data_of(done), num_samples=given["num_samples"]))
    return 0
