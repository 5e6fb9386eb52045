"""What the README and the pages in docs/ say runs: the Python, and every basin command.

The cells of a page are run here in one process; test_site.py runs one page in a kernel of its own
and, where it is told to be slow, all of them.
"""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

import basin
from basin.cli.choices import read_settings
from basin.cli.main import COMMANDS
from basin.cli.train import _choose, _make_parser
from basin.core.types import Objective

ROOT = Path(__file__).resolve().parent.parent
HOW_TO = ROOT / "docs" / "how_to"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted(HOW_TO.glob("*.md"))]


def commands() -> list[str]:
    """Every ``basin ...`` line of the pages, without its comment."""
    found = []
    for page in PAGES:
        found += re.findall(r"^ {4}(basin .*?)(?: {2,}#.*)?$", page.read_text(), re.MULTILINE)
    return found


@pytest.mark.parametrize("page", ["README.md", "docs/start.md"])
def test_the_first_lines_of_python_run(page, tmp_path, monkeypatch, capsys):
    code = re.search(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    assert code is not None
    quick = code[1].replace("num_steps=4000", "num_steps=20").replace("(128, 128, 128)", "(8,)")
    assert quick != code[1]
    monkeypatch.chdir(tmp_path)
    exec(compile(quick, page, "exec"), {})
    assert "log Z = " in capsys.readouterr().out
    assert (tmp_path / "runs" / "mine" / "model.safetensors").exists() == ("out=" in quick)


def cells(page: Path) -> list[str]:
    """The Python that the site runs."""
    return re.findall(
        r"^```\{code-cell\}.*?\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL
    )


@pytest.mark.parametrize("page", [p for p in PAGES if cells(p)], ids=lambda page: page.stem)
def test_the_cells_of_a_page_run(page, monkeypatch):
    """In the folder of the page, in a session of its own, without a warning."""
    session = ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", session)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(page.parent)
    with torch.random.fork_rng(devices=[]):
        for cell in cells(page):
            exec(compile(cell, f"{page.name}\n{cell}", "exec"), vars(session))
    for skeleton in (ROOT / "docs" / "skeletons").glob("*.py"):
        sys.modules.pop(skeleton.stem, None)


def test_every_cell_is_found():
    """A cell that is written in another way would not be run here."""
    for page in PAGES:
        assert len(cells(page)) == page.read_text().count("{code-cell}"), page.name


QUESTIONS = sorted(path.stem for path in HOW_TO.glob("*.md") if path.stem != "index")
FRONT_MATTER = re.compile(
    r"\A---\nfile_format: mystnb\nkernelspec:\n  name: python3\n(.+\n)*?---\n"
)


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_is_in_the_index_and_its_page_begins_with_the_answer(question):
    """Then something that runs (the site runs it), what can go wrong, and where to read on."""
    assert f"\n{question}\n" in (HOW_TO / "index.md").read_text()
    page = FRONT_MATTER.sub("", (HOW_TO / f"{question}.md").read_text()).lstrip()
    assert re.match(r"# .+\n\n\*\*", page), page[:80]
    assert re.findall("^(?:```{code-cell}|```{literalinclude}|    basin )", page, re.MULTILINE)
    assert "\n## What can go wrong\n" in page
    assert "\n## Read on\n" in page


@pytest.mark.parametrize("command", commands())
def test_every_command_of_the_pages_is_known(command):
    words = shlex.split(re.split(r" [|>] ", command)[0], comments=True)
    assert words[1] in COMMANDS
    if words[1] == "train":
        settings, left = read_settings([word for word in words[2:] if word != "--print_config"])
        components, left = _choose(settings, left)
        _make_parser(components).parse(left)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_pictures_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        if "reference/" in target:  # written when the site is built; test_site.py looks
            target = target.replace("reference/", "../basin/").removesuffix(".md")
        assert (page.parent / target).exists(), target


def test_every_objective_is_on_its_page():
    page = (ROOT / "docs" / "objectives.md").read_text()
    names = [
        name
        for name in basin.objectives.__all__
        if isinstance(kind := getattr(basin.objectives, name), type) and issubclass(kind, Objective)
    ]
    assert [name for name in names if f"`{name}`" not in page] == []
