"""``basin score DIR TABLE``: how likely each row of a table is."""

from __future__ import annotations

from pathlib import Path

import torch

from basin.cli.job import add_energy, check_ending, open_run, write_rows
from basin.cli.parser import Parser
from basin.datasets import read_rows

__all__ = ["run"]

ROWS_AT_ONCE = 65_536

DESCRIPTION = """\
Write the log density of every row of a table, in nats and in the table's own units, and its
anomaly score, which is minus the log density: the higher, the stranger. TABLE needs the columns
that the run was trained on; others are passed over. The density is that of the data blurred at
the run's noise level."""

EXAMPLES = """\
  basin score runs/wine new_bottles.csv --out scores.csv
  basin score runs/wine new_bottles.csv --sigma 0.2 --out scores.npz"""


def run(arguments: list[str]) -> int:
    """Load, read, score, write."""
    parser = Parser("score", "DIR TABLE --out FILE", DESCRIPTION, EXAMPLES)
    parser.add_argument("folder", metavar="DIR", help="run folder")
    parser.add_argument("table", metavar="TABLE", help=".csv .parquet .npy .npz")
    parser.add_argument(
        "--out", metavar="FILE", help=".csv, .npz or .npy; the screen when left out"
    )
    parser.add_argument(
        "--sigma", type=float | None, default=None, help="noise level; the run's own when left out"
    )
    add_energy(parser)
    given = parser.parse(arguments)
    if given["out"] is not None:
        check_ending(Path(given["out"]))
        _not_the_table(Path(given["out"]), Path(given["table"]))
    model = open_run(given["folder"], energy=given["energy"])
    data = model.config["data"]
    rows = read_rows(given["table"], data["event_shape"], columns=data["columns"])
    log_density = torch.cat(
        [
            model.log_prob(rows.take(start, min(start + ROWS_AT_ONCE, len(rows))), given["sigma"])
            for start in range(0, len(rows), ROWS_AT_ONCE)
        ]
    )
    if given["out"] is None:
        print("log_density,anomaly_score")
        for value in log_density.tolist():
            print(f"{value:.9g},{-value:.9g}")
        return 0
    path = Path(given["out"])
    write_rows(path, {"log_density": log_density, "anomaly_score": -log_density}, None)
    print(path)
    return 0


def _not_the_table(out: Path, table: Path) -> None:
    """Refuse to write the scores over the rows that they are about."""
    if out.exists() and table.exists() and out.samefile(table):
        raise ValueError(f"--out must be another file than TABLE, got {out} for both")
