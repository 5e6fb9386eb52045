"""Memory of training on a file far larger than the memory allowed: 10^8 rows of 2 float32, 800 MB.

    python benchmarks/memory_mapped_training.py [--rows 100000000] [--folder DIR]

Makes the NPY file (kept with --keep), loads it (checks, split, moments, duplicates: three streamed
passes), draws 2,000 batches of 2,048 rows, and trains the default energy for 300 steps of
`basin.fit` with checkpoints, log Z and the choice of sigma. Prints anonymous memory (RssAnon of
/proc/self/status; pages of the file are not part of it), sampled 200 times a second, and the peak.
The aim (issue 2) is less than 1.5 GB, torch included.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

LIMIT_MB = 1500


def memory_mb(field: str) -> float:
    """One line of /proc/self/status in MB."""
    found = re.search(rf"^{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.M)
    return int(found.group(1)) * 1024 / 1e6 if found else float("nan")


class PeakAnonymous:
    """Highest RssAnon seen by a thread that looks every 5 ms."""

    def __enter__(self) -> PeakAnonymous:
        self.peak = memory_mb("RssAnon")
        self.is_over = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.is_over.set()
        self.thread.join()

    def _watch(self) -> None:
        while not self.is_over.wait(0.005):
            self.peak = max(self.peak, memory_mb("RssAnon"))


def make(path: Path, num_rows: int) -> None:
    """Write a mixture of four Gaussians a million rows at a time."""
    numbers = np.random.default_rng(0)
    with path.open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (num_rows, 2)}
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, num_rows, 1_000_000):
            n = min(1_000_000, num_rows - start)
            centres = numbers.integers(0, 2, size=(n, 2)).astype(np.float32) * 4 - 2
            file.write((centres + numbers.standard_normal((n, 2), dtype=np.float32)).tobytes())


def report(what: str, seconds: float, watch: PeakAnonymous) -> None:
    print(
        f"{what:<28} {seconds:7.2f} s   anonymous {memory_mb('RssAnon'):7.1f} MB   "
        f"peak {watch.peak:7.1f} MB   file pages {memory_mb('RssFile'):7.1f} MB",
        flush=True,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rows", type=int, default=100_000_000)
    parser.add_argument("--batch_size", type=int, default=2048)
    parser.add_argument("--num_steps", type=int, default=2000)
    parser.add_argument("--training_steps", type=int, default=300)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    path = options.folder / f"basin_memory_{options.rows}.npy"
    try:
        if not path.exists():
            make(path, options.rows)
        with PeakAnonymous() as watch:
            import torch

            from basin.datasets.load import load

            report("import", 0.0, watch)
            start = time.perf_counter()
            dataset = load(path, memory_map=True)
            report("load", time.perf_counter() - start, watch)
            print(dataset.description)
            generator = torch.Generator().manual_seed(0)
            total = torch.zeros(2)
            start = time.perf_counter()
            for _ in range(options.num_steps):
                total += dataset.train.draw(options.batch_size, generator).mean(dim=0)
            seconds = time.perf_counter() - start
            report(f"{options.num_steps} batches", seconds, watch)
            print(f"mean of the draws {(total / options.num_steps).tolist()}, shift", dataset.shift)
            print(f"{seconds / options.num_steps * 1e6:.0f} us a batch")
            import basin

            energy = basin.energies.Standardised(
                basin.energies.NoiseConditional(2), dataset.shift, dataset.scale
            )
            start = time.perf_counter()
            with tempfile.TemporaryDirectory(dir=options.folder) as out:
                run = basin.fit(
                    energy, dataset, num_steps=options.training_steps, out=Path(out) / "run"
                )
            report(f"fit, {options.training_steps} steps", time.perf_counter() - start, watch)
            print(run.log_z)
        is_below = watch.peak < LIMIT_MB
        print(f"peak {watch.peak:.0f} MB, limit {LIMIT_MB} MB: {'held' if is_below else 'BROKEN'}")
        return 0 if is_below else 1
    finally:
        if not options.keep:
            path.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
