"""The course: its notebooks are current, run, and their checks tell right answers from wrong ones.

Each solution is run once on a small budget. Beside each check the source holds wrong answers (cells
tagged ``wrong``), the mutants: each must be refused with the hint that it names.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import json
import math
import os
import re
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
SMALL = "0.01"


def load_tool():
    spec = importlib.util.spec_from_file_location("notebooks", ROOT / "tools" / "notebooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["notebooks"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


tool = load_tool()
NAMES = [path.stem for path in tool.sources()]


def source(name):
    return tool.read_source(tool.COURSE / "sources" / f"{name}.md")


@contextmanager
def budget(steps):
    """A student's session: the budget set, torch's global generator and sys.path given back."""
    path, before = list(sys.path), os.environ.get("BASIN_COURSE_STEPS")
    os.environ["BASIN_COURSE_STEPS"] = steps
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        sys.path[:] = path
        del os.environ["BASIN_COURSE_STEPS"]
        if before is not None:
            os.environ["BASIN_COURSE_STEPS"] = before


@dataclass
class Played:
    """What came of a notebook: names, printed text, wrong answers with what was said of them."""

    namespace: dict = field(default_factory=dict)
    printed: str = ""
    refusals: list = field(default_factory=list)


@functools.cache
def play(name, steps=SMALL):
    """Run the solution, and after each check the wrong answers that belong to it."""
    played, solution, check = Played(), None, None
    original = source(name)
    answers = iter(tool.solution_cells(original))

    def run(cell):
        return tool.run_cell(cell, played.namespace, f"<{name}>\n{cell.text}")

    with budget(steps):
        for cell in original:
            if cell.tag == "wrong":
                assert solution is not None
                assert check is not None
                run(cell)
                played.refusals.append((cell, run(check)))
                run(solution)
                assert "✓" in run(check)
                continue
            shown = next(answers)
            if cell.kind == "code":
                played.printed += run(shown)
            solution = shown if cell.tag == "solution" else solution
            check = shown if cell.tag == "check" else check
    return played


def assigned(text):
    """Names that a cell would have defined."""
    nodes = list(ast.walk(ast.parse(text)))
    names = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    names |= {n.name for n in nodes if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    return names | {
        (alias.asname or alias.name)
        for n in nodes
        if isinstance(n, ast.Import | ast.ImportFrom)
        for alias in n.names
    }


def play_exercise(name):
    """Run what a student opens; a cell may stop only because an exercise is not written."""
    namespace, printed, missing = {}, "", set()
    with budget(SMALL):
        for cell in tool.exercise_cells(source(name)):
            if cell.kind == "markdown":
                continue
            if "basin.fit(" in cell.text:  # needs no answer of the student; the solution ran it
                missing |= assigned(cell.text)
                continue
            try:
                printed += tool.run_cell(cell, namespace, f"<{name}>\n{cell.text}")
            except NotImplementedError:
                missing |= assigned(cell.text)
            except NameError as error:
                if error.name not in missing:
                    raise
                missing |= assigned(cell.text)
    return printed


def test_the_notebooks_are_current(capsys):
    assert tool.main(["--check"]) == 0, capsys.readouterr().out


def test_a_changed_text_makes_the_check_fail(tmp_path, capsys):
    """The mutant: a source that was edited and a notebook that was not."""
    course = tmp_path / "course"
    (course / "sources").mkdir(parents=True)
    text = course / "sources" / "one.md"
    text.write_text("# One\n\n```{code-cell} python\nx = 1\n```\n")
    assert tool.main(["--check"], course) == 1
    assert tool.main([], course) == 0
    assert tool.main(["--check"], course) == 0
    text.write_text(text.read_text().replace("x = 1", "x = 2"))
    assert tool.main(["--check"], course) == 1
    assert tool.main([], course) == 0
    (course / "lost.ipynb").write_text("{}")
    assert tool.main(["--check"], course) == 1
    assert "no source for: course/lost.ipynb" in capsys.readouterr().out


@pytest.mark.parametrize("name", NAMES)
def test_the_solution_runs_and_is_right(name):
    played = play(name)
    num_checks = sum(cell.tag == "check" for cell in source(name))
    assert list(played.namespace["results"].values()) == [True] * num_checks
    assert f"{num_checks} of {num_checks} exercises are right." in played.printed


@pytest.mark.parametrize("name", NAMES)
def test_wrong_answers_are_refused_with_their_hint(name):
    for cell, said in play(name).refusals:
        assert said.startswith("✗ Exercise"), cell.text
        assert cell.hint in said, f"{cell.text}\n{said}"


@pytest.mark.parametrize("name", NAMES)
def test_every_check_is_held_to_a_wrong_answer(name):
    tags = [cell.tag for cell in source(name)]
    for i, tag in enumerate(tags):
        if tag == "check":
            assert "wrong" in tags[i + 1 : i + 2], f"check {tags[: i + 1].count('check')}"


@pytest.mark.parametrize("name", NAMES)
def test_the_exercise_runs_and_says_what_is_not_written(name):
    printed = play_exercise(name)
    num_checks = sum(cell.tag == "check" for cell in source(name))
    assert printed.count("is not written yet") == num_checks
    assert f"0 of {num_checks} exercises are right." in printed


@pytest.mark.parametrize("path", tool.notebooks(), ids=lambda path: path.name)
def test_a_notebook_is_one_that_jupyter_reads(path):
    content = json.loads(path.read_text(encoding="utf-8"))
    assert (content["nbformat"], content["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in content["cells"]}) == len(content["cells"])
    for cell in content["cells"]:
        text = "".join(cell["source"])
        keys = {"cell_type", "id", "metadata", "source"}
        assert set(cell) == keys | (
            {"outputs", "execution_count"} if cell["cell_type"] == "code" else set()
        )
        assert "SOLUTION" not in text
        assert cell["metadata"].get("tags") != ["wrong"]
        if cell["cell_type"] == "markdown":
            for target in re.findall(r"\]\(([^)#:\s]+\.(?:md|ipynb))\)", text):
                assert (path.parent / target).exists(), target


def test_the_page_of_the_course_leads_to_every_notebook():
    page = (tool.COURSE / "README.md").read_text(encoding="utf-8")
    links = set(re.findall(r"\]\(([^)#:\s]+)\)", page))
    assert links == {path.name for path in tool.notebooks()}


@pytest.mark.parametrize("name", NAMES)
def test_the_exercise_does_not_give_the_answers_away(name):
    text = tool.notebook(tool.exercise_cells(source(name)), name)
    for cell in source(name):
        for answer in tool.SOLUTION.finditer(cell.text):
            lines = [line.strip() for line in answer[0].splitlines()[1:-1]]
            assert not any(line in text for line in lines if len(line) > 40), lines


@pytest.mark.parametrize(
    ("cell", "complaint"),
    [
        (":tags: [solved]\nx = 1", "tag must be one of"),
        (":tags: [solution]\nx = 1", "its two markers"),
        ("# BEGIN SOLUTION: one\nx = 1\n# END SOLUTION", "its two markers"),
        (":tags: [wrong]\nx = 1", "names its hint"),
    ],
)
def test_a_source_with_a_fault_is_refused(tmp_path, cell, complaint):
    path = tmp_path / "faulty.md"
    path.write_text(f"```{{code-cell}} python\n{cell}\n```\n")
    with pytest.raises(SystemExit, match=complaint):
        tool.read_source(path)
    path.write_text("```{code-cell} python\nx = 1\n")
    with pytest.raises(SystemExit, match="not closed"):
        tool.read_source(path)


def test_an_answer_becomes_a_stub_at_its_own_indentation():
    text = "def f(x):\n    # BEGIN SOLUTION: two x\n    return 2 * x\n    # END SOLUTION\n\nf(1)"
    cell = tool.Cell("code", text, "solution")
    (stub,) = tool.exercise_cells([cell])
    assert stub.text == "def f(x):\n    # YOUR CODE: two x\n    raise NotImplementedError\n\nf(1)"
    (answer,) = tool.solution_cells([cell])
    assert answer.text == "def f(x):\n    return 2 * x\n\nf(1)"


@pytest.mark.slow
@pytest.mark.statistical
@pytest.mark.parametrize("name", NAMES)
def test_what_the_text_says_holds_at_the_full_budget(name):
    CLAIMS[name](play(name, "1").namespace)


def denoising_score_matching_claims(found):
    assert found["kl_dual"] < 0.02
    assert found["kl_plain"] < found["kl_lesson"]
    assert found["fisher_after"] < 0.1 * found["fisher_before"]
    assert abs(found["weights"]["dual"] - 0.8) < 0.02
    assert abs(found["weights"]["one level"] - 0.8) > 0.05
    assert abs(found["shares"]["no ladder"] - 0.5) < 0.05
    assert abs(found["shares"]["ladder"] - 0.8) < 0.05


def maximum_likelihood_claims(found):
    assert abs(found["gradients"]["exact draws"] + 0.3) < 0.02
    assert abs(found["gradients"]["CD-20 from the data"]) < 0.01
    assert found["kl"] < 1


def noise_contrastive_estimation_claims(found):
    assert abs(found["shares"]["NoiseContrastiveEstimation"] - 0.8) < 0.05
    assert abs(found["shares"]["DenoisingScoreMatching"] - 0.8) > 0.05


def score_matching_claims(found):
    assert max(found["fishers"].values()) < found["zero"] / 2


def stein_and_adversarial_claims(found):
    assert max(found["fishers"].values()) < found["zero"] / 2
    assert found["gap_deep"] > math.log(2)


CLAIMS = {
    "denoising_score_matching": denoising_score_matching_claims,
    "maximum_likelihood": maximum_likelihood_claims,
    "noise_contrastive_estimation": noise_contrastive_estimation_claims,
    "score_matching": score_matching_claims,
    "stein_and_adversarial": stein_and_adversarial_claims,
}
