"""The site builds without a warning, its pages run, and its reference is complete."""

from __future__ import annotations

import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CONF = (ROOT / "docs" / "conf.py").read_text()
PACKAGES = re.findall(r'"(\w+)"', re.search(r"^PACKAGES = \((.*?)^\)", CONF, re.M | re.S)[1])


def test_the_site_builds_without_a_warning(tmp_path):
    """Every page, every `{code-cell}` and every docstring."""
    pytest.importorskip("sphinx", reason="the site needs pip install -e '.[site]'")
    where = ["-d", str(tmp_path / "trees"), str(ROOT / "docs"), str(tmp_path / "html")]
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", *where]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert shown.returncode == 0, shown.stderr[-4000:]
    page = (tmp_path / "html" / "reference" / "samplers.html").read_text(encoding="utf-8")
    for name in ("MALA", "NUTS", "x_i &lt;- x_i - epsilon"):
        assert name in page


def test_every_folder_is_in_the_reference():
    folders = {p.parent.name for p in (ROOT / "basin").glob("*/__init__.py")}
    assert folders - set(PACKAGES) == {"cli"}  # a shell, whose reference is `basin --help`


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_is_documented(package):
    module = importlib.import_module(f"basin.{package}")
    things = {name: getattr(module, name) for name in module.__all__}
    bare = [
        name
        for name, thing in things.items()
        if (inspect.isclass(thing) or inspect.isfunction(thing)) and not inspect.getdoc(thing)
    ]
    assert bare == []
