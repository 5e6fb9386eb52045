"""The page on many GPUs: its script, in two processes, keeps their weights together."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parent.parent / "docs" / "skeletons" / "many_processes.py"


def test_two_processes_end_with_the_same_weights_from_other_rows():
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    shown = subprocess.run(
        [*launch, str(SCRIPT)], capture_output=True, text=True, timeout=240, check=False
    )
    assert shown.returncode == 0, shown.stderr[-2000:]
    found = re.findall(r"process (\d): loss (\S+), sum of weights (\S+)", shown.stdout)
    assert sorted(rank for rank, _, _ in found) == ["0", "1"], shown.stdout
    (_, first_loss, first), (_, second_loss, second) = found
    assert first == second
    assert first_loss != second_loss
