"""``make docs``: the picture of the README, from a run that ``make demo`` made."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from basin.report import plot_panels

IMAGES = Path("docs/images")
BOARD = Path("runs/demo-checkerboard")


def main() -> int:
    """Draw the lesson's panels, the truth above the model."""
    if not (BOARD / "config.json").is_file():
        raise SystemExit(f"{BOARD} is not there; run: make demo")
    IMAGES.mkdir(parents=True, exist_ok=True)
    _save(plot_panels(BOARD), IMAGES / "checkerboard.png")
    return 0


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, dpi=110, bbox_inches="tight")
    print(path)


if __name__ == "__main__":
    raise SystemExit(main())
