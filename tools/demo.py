"""``make demo``: train on two things with the commands a user would type, then say what is next."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

RUNS = {
    # Half the samples and fewer steps than by default, so that slow machines need four minutes.
    "runs/demo-checkerboard": ["checkerboard", "--num_samples", "4000"],
    "runs/demo-digits": ["digits", "--num_steps", "1500"],
}


def main() -> int:
    """Run both commands, then name the pages."""
    started = time.perf_counter()
    for folder, what in RUNS.items():
        command = ["train", *what, "--out", folder, "--overwrite"]
        print(f"\n$ basin {' '.join(command)}", flush=True)
        code = subprocess.call([sys.executable, "-m", "basin", *command])
        if code:
            return code
    print(f"\nDone in {time.perf_counter() - started:.0f} s. Open these pages in a browser:\n")
    for folder in RUNS:
        print(f"  {Path(folder, 'report.html').resolve()}")
    print(
        "\nTry next (after: source .venv/bin/activate):\n"
        "\n  basin data                                             what has a name"
        "\n  basin train checkerboard --out runs/lesson --preset course   the lesson's recipe"
        "\n  basin sample runs/demo-digits --num_samples 25 --out digits.npz"
        "\n  basin evaluate runs/demo-checkerboard --json"
        "\n  basin train YOUR.csv --out runs/mine                   a table of your own"
        "\n  basin train --help"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
