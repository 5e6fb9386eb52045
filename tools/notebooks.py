"""Write the notebooks of ``course/`` from the text in ``course/sources/``.

    python tools/notebooks.py              write course/NAME.ipynb and course/NAME_solution.ipynb
    python tools/notebooks.py --check      change nothing, exit 1 if a notebook is stale
    python tools/notebooks.py --run NAME   run the solution without Jupyter: output and CPU time
    python tools/notebooks.py --run NAME --exercise    run the notebook that a student gets

A source is MyST Markdown, which Jupytext and MyST-NB read too. Text is Markdown; a line ``+++``
ends a cell of text; code stands between fences::

    ```{code-cell} python
    :tags: [solution]
    def double(x):
        # BEGIN SOLUTION: two times x
        return 2 * x
        # END SOLUTION
    ```

    ```{include} setup.md
    ```

Tags, one a cell:

- ``solution``  both notebooks; the exercise has a stub in place of the marked lines
- ``check``     both notebooks; prints whether the exercise before it is right, or a hint
- ``wrong``     neither; a wrong answer, which the check before it must meet with ``:hint:`` (tests)
- none          both notebooks

nbformat is not needed: a notebook is JSON, and the few keys used here are those of its version 4.5.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

COURSE = Path(__file__).resolve().parent.parent / "course"
SHARED = ("setup",)  # sources that others include; no notebook of their own

FENCE = re.compile(r"^```\{(code-cell|include)\}\s*(\S*)\s*$")
OPTION = re.compile(r"^:(tags|hint):\s*(.*?)\s*$")
SOLUTION = re.compile(r"^( *)# BEGIN SOLUTION: (.+)\n(?:.*\n)*?\1# END SOLUTION$", re.MULTILINE)
MARKER = re.compile(r"^ *# (?:BEGIN SOLUTION: .+|END SOLUTION)\n", re.MULTILINE)
TAGS = ("", "solution", "check", "wrong")


@dataclass(frozen=True)
class Cell:
    """A cell of a source: ``kind`` is "markdown" or "code", ``tag`` one of :data:`TAGS`."""

    kind: str
    text: str
    tag: str = ""
    hint: str = ""


def sources(course: Path = COURSE) -> list[Path]:
    """The sources that become notebooks."""
    return [p for p in sorted((course / "sources").glob("*.md")) if p.stem not in SHARED]


def read_source(path: Path) -> list[Cell]:
    """The cells of a source, with those of the sources that it includes."""
    cells: list[Cell] = []
    text: list[str] = []
    lines = iter(path.read_text(encoding="utf-8").splitlines())
    for line in lines:
        fence = FENCE.match(line)
        if fence is None and line != "+++":
            text.append(line)
            continue
        cells += _markdown(text)
        text = []
        if fence is not None:
            body = _until_closed(lines, path)
            if fence[1] == "include":
                cells += read_source(path.parent / fence[2])
            else:
                cells.append(_code(body, path))
    return cells + _markdown(text)


def solution_cells(cells: list[Cell]) -> list[Cell]:
    """What the solution notebook holds: the answers, without the markers around them."""
    kept = [cell for cell in cells if cell.tag != "wrong"]
    return [replace(cell, text=MARKER.sub("", cell.text + "\n").rstrip("\n")) for cell in kept]


def exercise_cells(cells: list[Cell]) -> list[Cell]:
    """What the student gets: each answer replaced by what is asked and a stub that says so."""
    kept = [cell for cell in cells if cell.tag != "wrong"]
    return [replace(cell, text=SOLUTION.sub(_stub, cell.text)) for cell in kept]


def notebook(cells: list[Cell], name: str) -> str:
    """The text of an ``.ipynb`` file, format 4.5, without outputs."""
    content = {
        "cells": [_as_json(cell, number) for number, cell in enumerate(cells)],
        "metadata": {
            "colab": {"name": name, "provenance": []},
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def notebooks(course: Path = COURSE) -> dict[Path, str]:
    """Every notebook of the course and the text that it should have."""
    texts = {}
    for source in sources(course):
        cells = read_source(source)
        for name, chosen in (
            (f"{source.stem}.ipynb", exercise_cells(cells)),
            (f"{source.stem}_solution.ipynb", solution_cells(cells)),
        ):
            texts[course / name] = notebook(chosen, name)
    return texts


def run_cell(cell: Cell, namespace: dict[str, Any], name: str) -> str:
    """Execute a code cell as Jupyter would, without a kernel; what it printed."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(cell.text, name, "exec"), namespace)
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
    return printed.getvalue()


def main(arguments: list[str] | None = None, course: Path = COURSE) -> int:
    """Write, check or run; the number of stale notebooks decides the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 if stale")
    parser.add_argument("--run", metavar="NAME", help="run the solution of course/sources/NAME.md")
    parser.add_argument("--exercise", action="store_true", help="with --run: what a student gets")
    chosen = parser.parse_args(arguments)
    if chosen.run:
        return _run(
            course / "sources" / f"{chosen.run}.md",
            exercise_cells if chosen.exercise else solution_cells,
        )
    texts = notebooks(course)
    known = set(course.glob("*.ipynb"))
    stale = [p for p, text in texts.items() if p not in known or p.read_text("utf-8") != text]
    orphans = sorted(known - set(texts))
    for path in stale:
        print(f"{'stale' if chosen.check else 'wrote'}: {path.relative_to(course.parent)}")
        if not chosen.check:
            path.write_text(texts[path], encoding="utf-8")
    for path in orphans:
        print(f"no source for: {path.relative_to(course.parent)}")
    if chosen.check and stale:
        print("run: python tools/notebooks.py", file=sys.stderr)
    return int(bool(orphans) or (chosen.check and bool(stale)))


def _markdown(lines: list[str]) -> list[Cell]:
    text = "\n".join(lines).strip("\n")
    return [Cell("markdown", text)] if text.strip() else []


def _until_closed(lines: Iterator[str], path: Path) -> list[str]:
    body = []
    for line in lines:
        if line == "```":
            return body
        body.append(line)
    raise SystemExit(f"{path}: a ```{{code-cell}} is not closed")


def _code(body: list[str], path: Path) -> Cell:
    tag = hint = ""
    while body and (option := OPTION.match(body[0])):
        if option[1] == "tags":
            tag = option[2].strip("[]")
        else:
            hint = option[2]
        body = body[1:]
    text = "\n".join(body).strip("\n")
    if tag not in TAGS:
        raise SystemExit(f"{path}: tag must be one of {', '.join(TAGS[1:])}, got {tag}")
    if (tag == "solution") != bool(SOLUTION.search(text)):
        raise SystemExit(f"{path}: a solution needs its tag and its two markers:\n{text}")
    if (tag == "wrong") != bool(hint):
        raise SystemExit(f"{path}: a wrong answer, and nothing else, names its hint:\n{text}")
    return Cell("code", text, tag, hint)


def _stub(found: re.Match[str]) -> str:
    indent, asked = found[1], found[2]
    return f"{indent}# YOUR CODE: {asked}\n{indent}raise NotImplementedError"


def _as_json(cell: Cell, number: int) -> dict[str, Any]:
    shared = {
        "cell_type": cell.kind,
        "id": f"cell-{number:03d}",
        "metadata": {"tags": [cell.tag]} if cell.tag else {},
        "source": cell.text.splitlines(keepends=True),
    }
    return shared | ({"execution_count": None, "outputs": []} if cell.kind == "code" else {})


def _run(source: Path, choose: Any) -> int:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    began = time.process_time()
    for number, cell in enumerate(choose(read_source(source))):
        if cell.kind == "markdown":
            if cell.text.startswith("#"):
                print(f"\n{cell.text.splitlines()[0]}")
            continue
        started = time.process_time()
        try:
            printed = run_cell(cell, namespace, f"<{source.stem}, cell {number}>")
        except (NotImplementedError, NameError) as error:
            printed = f"  {type(error).__name__}: {error}\n"
            if choose is solution_cells:
                raise
        print(f"[{number}: {time.process_time() - started:.1f} s]\n{printed}", end="", flush=True)
    print(f"{time.process_time() - began:.0f} s of CPU")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
