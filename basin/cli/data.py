"""``basin data``: the sources that have a name."""

from __future__ import annotations

from basin.cli.parser import Parser
from basin.datasets import Dataset, catalogue, load

__all__ = ["run"]

TITLES = {
    "density": "toy densities: the truth is known, every step trains on fresh draws",
    "table": "tables: standardised, a tenth held out for validation and a tenth for the test",
    "images": "images: one common scale, held out as tables are",
}

EXAMPLES = """\
  basin data                list every name
  basin data wine           what one of them holds
  basin data my/table.csv   check a file of yours without training"""


def run(arguments: list[str]) -> int:
    """List the catalogue, or describe one source."""
    parser = Parser("data", "[SOURCE]", "List the data that have a name; or look at one.", EXAMPLES)
    parser.add_argument("source", nargs="?", metavar="SOURCE", help="a name or a file")
    source = parser.parse(arguments)["source"]
    if source is not None:
        dataset = load(source)
        print(dataset.description)
        for name, shift, scale in _columns(dataset):
            print(f"  {name:32} mean {shift:<12.6g} standard deviation {scale:.6g}")
        return 0
    entries = catalogue()
    for kind in dict.fromkeys(entry.kind for entry in entries):
        print(TITLES.get(kind, kind))
        for entry in entries:
            if entry.kind == kind:
                print(f"  {entry.name:22}{entry.description}")
        print()
    print("files: .csv .tsv .parquet .npy .npz, IDX, or a folder of images: basin train PATH ...")
    return 0


def _columns(dataset: Dataset) -> list[tuple[str, float, float]]:
    if dataset.columns is None:
        return []
    return list(zip(dataset.columns, dataset.shift.tolist(), dataset.scale.tolist(), strict=True))
