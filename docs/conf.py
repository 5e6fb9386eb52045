"""The site: `make site` builds it into docs/_build/html, any warning is an error.

The reference is written here from the packages themselves, one page a folder, one section a file,
so that it is as complete as the code. Python in `{code-cell}` blocks is run. Formulas are written
into the pages as MathML, which browsers draw themselves: the site needs no network.
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
from pathlib import Path
from typing import Any

from docutils import nodes
from math_core import LatexError, LatexToMathML
from sphinx.util import logging

import basin

project = "Basin"
author = "The authors of Basin"
version = release = basin.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "myst_nb",
    "sphinx_copybutton",
]
highlight_language = "none"  # a formula in a docstring is no Python
html_theme = "furo"
html_title = f"Basin {basin.__version__}"
html_show_copyright = False
html_math_renderer = "mathml"
myst_update_mathjax = False  # there is none
exclude_patterns = ["_build", "skeletons"]
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3

nb_execution_mode = "auto"
nb_execution_raise_on_error = True
nb_execution_timeout = 240
nb_merge_streams = True

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # docstrings say shapes, units and ranges; signatures say types
napoleon_include_init_with_doc = False
napoleon_use_ivar = True  # attributes are described once
napoleon_use_rtype = False

# From the top of the house to the ground.
PACKAGES = (  # tests/test_site.py reads them too
    "training",
    "energies",
    "objectives",
    "samplers",
    "sampling",
    "partition",
    "evaluation",
    "datasets",
    "paths",
    "schedules",
    "report",
    "mcmc",
    "core",
)
SECTIONS = ("Args", "Attributes", "Raises", "Returns", "Warns", "Example", "Examples", "Yields")


def modules_of(package: str) -> list[str]:
    """Dotted names of a folder's modules that export something, those of sub-folders too."""
    home = importlib.import_module(package)
    found = []
    for info in pkgutil.iter_modules(home.__path__):
        name = f"{package}.{info.name}"
        if info.ispkg:
            found += modules_of(name)
        elif _exports(home.__path__[0], info.name):
            found.append(name)
    return found


def _exports(folder: str, module: str) -> bool:
    tree = ast.parse((Path(folder) / f"{module}.py").read_text(encoding="utf-8"))
    named = [node for node in tree.body if isinstance(node, ast.Assign)]
    return any(getattr(node.targets[0], "id", "") == "__all__" for node in named)


def write_reference(app: Any) -> None:
    """One page a package into docs/reference/, before anything is read."""
    folder = Path(app.srcdir) / "reference"
    folder.mkdir(exist_ok=True)
    top = "# Reference\n\nEvery public name, folder by folder; each file is one idea.\n\n"
    listing = "\n".join(PACKAGES)
    _write(folder / "index.md", f"{top}```{{toctree}}\n:maxdepth: 2\n\n{listing}\n```\n")
    for package in PACKAGES:
        dotted = f"basin.{package}"
        lines = [f"# {dotted}", "", "```{eval-rst}", f".. automodule:: {dotted}", "```", ""]
        for module in modules_of(dotted):
            title = module.removeprefix(f"{dotted}.")
            lines += [f"## {title}", "", "```{eval-rst}", f".. automodule:: {module}"]
            lines += ["   :members:", "   :undoc-members:", "   :exclude-members: " + _HIDDEN]
            lines += ["```", ""]
        _write(folder / f"{package}.md", "\n".join(lines))


_HIDDEN = "forward, extra_repr, references, training"


def _write(path: Path, text: str) -> None:
    """Only what changed, so that Sphinx builds only that."""
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def keep_formulas(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Blocks that are set in by four spaces are formulas or tables: their lines stay as they are.

    A bar elsewhere is one of mathematics, and not reStructuredText's mark of a substitution.
    """
    del app, what, name, obj, options
    section, kept, is_formula = "", [], False
    for number, line in enumerate(lines):
        if line and not line.startswith(" "):
            section = line.rstrip(":") if line.endswith(":") else ""
        starts = line.startswith("    ") and number > 0 and not lines[number - 1].strip()
        before = next((old for old in reversed(lines[:number]) if old.strip()), "")
        if starts and section not in SECTIONS and not before.startswith("    "):
            kept += ["::", ""]
            is_formula = True
        is_formula = is_formula and (line.startswith("    ") or not line.strip())
        kept.append(line.replace("``", "") if is_formula else _with_plain_bars(line))
    lines[:] = kept


def _with_plain_bars(line: str) -> str:
    parts = line.split("``")
    return "``".join(p.replace("|", "\\|") if i % 2 == 0 else p for i, p in enumerate(parts))


FORMULAS = LatexToMathML(annotation=True)  # with the LaTeX, which can be copied


def draw_formula(translator: Any, node: Any) -> None:
    """A formula in a sentence or on lines of its own; one that cannot be drawn is a warning."""
    text = node.astext()
    try:
        drawn = FORMULAS.convert_with_local_state(text, displaystyle=node.tagname == "math_block")
    except LatexError as error:
        logging.getLogger(__name__).warning("%s in the formula %s", error, text, location=node)
        drawn = f"<code>{translator.encode(text)}</code>"
    translator.body.append(drawn)
    raise nodes.SkipNode


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.add_html_math_renderer("mathml", (draw_formula, None), (draw_formula, None))
    app.connect("builder-inited", write_reference)
    app.connect("autodoc-process-docstring", keep_formulas, priority=100)
