"""The site builds without a warning, needs no network, its pages run, its reference is complete."""

from __future__ import annotations

import html
import importlib
import importlib.util
import inspect
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parent.parent
CONF = (ROOT / "docs" / "conf.py").read_text()
FETCHED = re.compile(
    r"<(?:script|link|img|iframe|source)\b[^>]*?\b(?:src|href)=[\"'](?:https?:)?//[^>]*>"
)
PACKAGES = re.findall(r'"(\w+)"', re.search(r"^PACKAGES = \((.*?)^\)", CONF, re.M | re.S)[1])


def require_the_sites_packages():
    for name in ("sphinx", "math_core"):
        pytest.importorskip(name, reason="the site needs pip install -e '.[site]'")


def build(folder, *options):
    """Build the site as a user does; return its pages by name."""
    require_the_sites_packages()
    where = ["-d", str(folder / "trees"), str(ROOT / "docs"), str(folder / "html")]
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]
    command += [*options, *where]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert shown.returncode == 0, shown.stderr[-4000:]
    return {path.name: path.read_text("utf-8") for path in (folder / "html").rglob("*.html")}


def is_whole(pages):
    for name in ("MALA", "NUTS", "x_i &lt;- x_i - epsilon"):
        assert name in pages["samplers.html"]
    assert {
        name: FETCHED.findall(page) for name, page in pages.items() if FETCHED.search(page)
    } == {}
    for name in ("concepts.html", "survey.html"):  # one has cells, one is text
        assert "<math" in pages[name]
    assert not any("\\(" in page or "MathJax" in page for page in pages.values())
    assert "blind to:   the score at sigma 0.1" in outputs(pages["which_objective.html"])
    return True


def outputs(page):
    """What the cells of a page have printed."""
    found = re.findall(r'class="output .*?<pre>(.*?)</pre>', page, re.DOTALL)
    return html.unescape(re.sub("<[^>]*>", "", "\n".join(found)))


def test_the_site_builds_without_a_warning(tmp_path):
    """Every page and every docstring; of the pages with cells one is run in a kernel.

    The cells of all are run by test_docs.py, in one process. Cells that were not run have no
    lexer, and functions are left out of the lists beside a page, which take a third of the time.
    """
    options = ["nb_execution_mode=off", "suppress_warnings=myst-nb.lexer", "toc_object_entries=0"]
    assert is_whole(pages := build(tmp_path, *(f"-D{option}" for option in options)))
    assert outputs(pages["concepts.html"]) == ""


@pytest.mark.slow
def test_the_whole_site_builds_without_a_warning(tmp_path):
    """With every `{code-cell}` run in a kernel: what `make site` builds."""
    assert is_whole(pages := build(tmp_path))
    assert "log Z = " in outputs(pages["concepts.html"])


@pytest.mark.parametrize(
    "tag",
    ['<script src="https://cdn.example/a.js">', "<link rel='stylesheet' href='//cdn.example/a'>"],
)
def test_what_a_page_would_fetch_is_seen(tag):
    """The mutant: a page that needs a network; a link to read on is none."""
    assert FETCHED.search(tag)
    assert not FETCHED.search('<a href="https://arxiv.org/abs/2101.03288">paper</a>')


def test_a_formula_that_cannot_be_drawn_is_a_warning(caplog):
    """And a warning ends the build; the page would show its source."""
    require_the_sites_packages()
    from docutils import nodes

    spec = importlib.util.spec_from_file_location("site_conf", ROOT / "docs" / "conf.py")
    conf = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(conf)

    def drawn(node):
        translator = SimpleNamespace(body=[], encode=html.escape)
        with pytest.raises(nodes.SkipNode):
            conf.draw_formula(translator, node)
        return "".join(translator.body)

    formula = r"\tfrac12 \mathbb E_p \big\| s_\theta(x) \big\|^2"
    assert drawn(nodes.math(formula, formula)).startswith("<math>")
    assert 'display="block"' in drawn(nodes.math_block(formula, formula))
    assert caplog.records == []
    assert drawn(nodes.math(r"\nosuch<b>", r"\nosuch<b>")) == r"<code>\nosuch&lt;b&gt;</code>"
    assert "nosuch" in caplog.text


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
