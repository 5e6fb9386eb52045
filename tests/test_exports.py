"""The export lists are current, and ``import basin`` stays light."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import basin

ROOT = Path(__file__).resolve().parent.parent

# Third parties that cost more than a few milliseconds: imported inside the functions that need
# them, so that `import basin` costs what torch costs.
HEAVY = ("sklearn", "scipy", "matplotlib", "rich", "tensorboard", "arviz_stats", "pyarrow", "ot")


def modules_after(statement: str, first: str = "pass") -> set[str]:
    """Top-level module names in a fresh interpreter that ran ``statement``, without ``first``'s."""
    script = f"import json, sys\n{first}\nbefore = set(sys.modules)\n{statement}\n"
    script += "print(json.dumps(sorted(set(sys.modules) - before)))"
    shown = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True, cwd=ROOT
    )
    return {name.split(".")[0] for name in json.loads(shown.stdout.splitlines()[-1])}


def test_export_lists_are_current():
    check = subprocess.run(
        [sys.executable, "tools/exports.py", "--check"], capture_output=True, text=True, cwd=ROOT
    )
    assert check.returncode == 0, check.stdout + check.stderr


def test_a_new_module_makes_the_check_fail(tmp_path):
    """The mutant: an export list that nobody rewrote."""
    (tmp_path / "tools").mkdir()
    (tmp_path / "basin" / "core").mkdir(parents=True)
    (tmp_path / "tools" / "exports.py").write_text((ROOT / "tools" / "exports.py").read_text())
    for folder in ("sampling", "training"):
        (tmp_path / "basin" / folder).mkdir()
        (tmp_path / "basin" / folder / "__init__.py").write_text("")
    (tmp_path / "basin" / "core" / "one.py").write_text('__all__ = ["one"]\none = 1\n')
    command = [sys.executable, str(tmp_path / "tools" / "exports.py")]
    assert subprocess.run(command, capture_output=True).returncode == 0
    assert subprocess.run([*command, "--check"], capture_output=True).returncode == 0
    (tmp_path / "basin" / "core" / "two.py").write_text('__all__ = ["two"]\ntwo = 2\n')
    assert subprocess.run([*command, "--check"], capture_output=True).returncode == 1


def test_importing_every_folder_pulls_in_nothing_heavy():
    everything = "import basin\nfor name in dir(basin): getattr(basin, name)"
    extra = modules_after(everything, first="import torch")
    assert "basin" in extra
    assert not extra & set(HEAVY), sorted(extra & set(HEAVY))


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], []])
def test_the_top_of_the_shell_does_not_import_torch(arguments):
    statement = (
        f"from basin.cli.main import main\ntry: main({arguments!r})\nexcept SystemExit: pass"
    )
    assert "torch" not in modules_after(statement)


def test_the_package_root_names_what_design_promises():
    for name in ("score", "fit", "sample", "load", "energies", "datasets", "samplers"):
        assert hasattr(basin, name), name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        getattr(basin, "no" + "thing")
