"""The skeletons of the developers' page work as they stand: copied into place, tests included."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SKELETONS = ROOT / "docs" / "skeletons"


def test_the_skeletons_pass_their_own_tests(tmp_path):
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "basin", tmp_path / "basin", ignore=ignored)
    shutil.copytree(ROOT / "tests" / "helpers", tmp_path / "tests" / "helpers", ignore=ignored)
    for file in ("tools", "tests/conftest.py", "pyproject.toml"):
        source, target = ROOT / file, tmp_path / file
        shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    tests = []
    for name, folder in (("objective", "objectives"), ("sampler", "samplers")):
        shutil.copy(SKELETONS / f"{name}.py", tmp_path / "basin" / folder / f"my_{name}.py")
        tests.append(f"tests/test_my_{name}.py")
        shutil.copy(SKELETONS / f"test_{name}.py", tmp_path / tests[-1])
    for command in (
        ["tools/exports.py"],
        ["-m", "pytest", "-q", *tests, "-p", "no:cacheprovider"],
    ):
        done = subprocess.run(
            [sys.executable, *command],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            env={"PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"},
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\b\d+ passed", done.stdout)
