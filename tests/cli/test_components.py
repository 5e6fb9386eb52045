"""Components inside components, from words to objects and from a settings file to words."""

from __future__ import annotations

import inspect
from dataclasses import dataclass

import pytest

from basin.cli.choices import FAMILIES, as_arguments, read_settings
from basin.cli.components import choose
from basin.cli.train import _choose, _make_parser
from basin.core.types import Kernel, Objective
from basin.mcmc import DenseMetric, DiagonalMetric
from basin.objectives import ContrastiveDivergence, DualScoreMatching
from basin.samplers import (
    MALA,
    NUTS,
    Barker,
    Langevin,
    ParallelTempering,
    PreconditionedLangevin,
    Reflected,
)

QUARTER = Langevin(0.25)


@dataclass(frozen=True)
class Wrapper:
    objective: Objective
    weight: float = 0.5


@dataclass(frozen=True)
class Defaulted:
    kernel: Kernel = QUARTER


def test_a_kernel_is_chosen_inside_an_objective():
    words = ["--objective.kernel", "MALA", "--objective.kernel.step_size", "0.3", "--num_steps=5"]
    component, left = choose("objective", ContrastiveDivergence, words)
    assert component.inner["kernel"].kind is MALA
    assert left == words[2:]
    built = component.build({"kernel": {"class": "MALA", "step_size": 0.3}, "num_steps": 7})
    assert built == ContrastiveDivergence(kernel=MALA(0.3), num_steps=7)


def test_a_metric_is_chosen_inside_a_kernel():
    component, left = choose("sampler", NUTS, ["--sampler.inverse_mass", "DenseMetric"])
    assert left == []
    assert component.build({"max_depth": 5}) == NUTS(max_depth=5, inverse_mass=DenseMetric())
    given = {"inverse_mass": {"class": "DiagonalMetric", "variances": [1.0, 2.0]}}
    default, _ = choose("sampler", NUTS, [])
    assert default.build(given) == NUTS(inverse_mass=DiagonalMetric([1.0, 2.0]))
    with pytest.raises(ValueError, match="must be one of DenseMetric, DiagonalMetric, IdentityM"):
        choose("sampler", NUTS, ["--sampler.inverse_mass", "Sparse"])


def test_the_outer_default_is_the_inner_options_default():
    component, _ = choose("objective", Defaulted, [])
    assert component.inner["kernel"].defaults == {"step_size": 0.25}
    other, _ = choose("objective", Defaulted, ["--objective.kernel=MALA"])
    assert other.inner["kernel"].defaults == {}


def test_to_any_depth():
    words = ["--o.objective=ContrastiveDivergence", "--o.objective.kernel=MALA", "--o.weight=1"]
    component, left = choose("o", Wrapper, words)
    paths = ["o.objective", "o.objective.kernel", "o.objective.kernel.inverse_mass"]
    assert [c.path for c in component.all_inner()] == paths
    assert left == ["--o.weight=1"]
    assert choose("o", Wrapper, ["--o.objective=DualScoreMatching"])[0].build({}) == Wrapper(
        DualScoreMatching()
    )


@pytest.mark.parametrize(
    ("words", "match"),
    [
        ([], "--o.objective must name one of"),
        (["--o.objective=Nothing"], "--o.objective must be one of .*got 'Nothing'"),
        (["--o.objective"], "must be followed by the name of a class"),
    ],
)
def test_what_is_wrong_is_named(words, match):
    with pytest.raises(ValueError, match=match):
        choose("o", Wrapper, words)


@pytest.mark.parametrize(
    ("words", "kernel"),
    [
        (
            ["ParallelTempering", "--sampler.kernel", "Barker", "--sampler.temperatures", "1,3"],
            ParallelTempering(Barker(), (1.0, 3.0)),
        ),
        (
            [
                "Reflected",
                "--sampler.kernel=MALA",
                "--sampler.lower=-1",
                "--sampler.upper=[2,.inf]",
            ],
            Reflected(MALA(), -1.0, (2.0, float("inf"))),
        ),
        (
            ["PreconditionedLangevin", "--sampler.scale", "0.5,2"],
            PreconditionedLangevin(scale=(0.5, 2.0)),
        ),
    ],
)
def test_kernels_around_kernels_and_lists_of_numbers_come_from_the_shell(words, kernel):
    settings, left = read_settings(["rings", "--out", "x", "--sampler", *words])
    components, left = _choose(settings, left)
    given = _make_parser(components).parse_and_build(left)
    assert components["sampler"].build(given["sampler"]) == kernel


@pytest.mark.parametrize("family", ["energy", "objective", "sampler"])
def test_the_shell_knows_the_type_of_every_parameter(family):
    """One that it cannot resolve takes anything, and a list of numbers stays text or a list."""
    for name, kind in FAMILIES[family].members().items():
        inner = {"kernel": "MALA", "objective": "SlicedScoreMatching"}
        parameters = inspect.signature(kind).parameters
        words = [f"--{family}.{n}={inner[n]}" for n in parameters if n in inner]
        settings, left = read_settings([f"--{family}", name, *words])
        components, left = _choose(settings, left)
        for action in _make_parser(components)._actions:
            assert "Unvalidated" not in str(getattr(action, "_typehint", "")), (name, action.dest)


def test_a_settings_file_nests_the_same_way():
    settings = {"objective": {"class": "A", "kernel": {"class": "MALA", "step_size": 0.5}}}
    assert as_arguments(settings) == [
        "--objective.class=A",
        "--objective.kernel.class=MALA",
        "--objective.kernel.step_size=0.5",
    ]
