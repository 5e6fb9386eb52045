"""``make docs``: the pictures of the README, from the runs that ``make demo`` made."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from basin.report import plot_images, plot_panels

IMAGES = Path("docs/images")
BOARD, DIGITS = Path("runs/demo-checkerboard"), Path("runs/demo-digits")


def main() -> int:
    """Draw from both run folders."""
    for folder in (BOARD, DIGITS):
        if not (folder / "config.json").is_file():
            raise SystemExit(f"{folder} is not there; run: make demo")
    IMAGES.mkdir(parents=True, exist_ok=True)
    _save(plot_panels(BOARD), IMAGES / "checkerboard.png")
    _save(plot_images(DIGITS, "samples", num_images=40), IMAGES / "digits.png")
    return 0


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, dpi=110, bbox_inches="tight")
    print(path)


if __name__ == "__main__":
    raise SystemExit(main())
