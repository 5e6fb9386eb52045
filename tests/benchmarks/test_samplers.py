"""benchmarks/samplers.py: no kernel is forgotten, its truths are true, its page is its results.

The true moments of each target are held to exact draws of it; the mutants are a mean and a standard
deviation that are a little off.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch

import basin
from basin.samplers import HMC, MALA, BlockGibbs, Gibbs, GibbsWithGradients, ReverseDiffusion
from helpers.statistics import THRESHOLD

ROOT = Path(__file__).resolve().parents[2]


def script():
    """benchmarks/samplers.py as a module; benchmarks is no package."""
    name = "benchmarks_samplers"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / "samplers.py")
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


benchmark = script()
NAMES = list(benchmark.TARGETS)


@pytest.fixture(scope="module")
def targets():
    return {name: make() for name, (_, make) in benchmark.TARGETS.items()}


def test_every_kernel_has_a_target():
    measured = {case.kernel for case in benchmark.cases()}
    assert measured == set(benchmark.kernels())
    assert set(benchmark.FACTS) == {kernel.__name__ for kernel in measured}


def test_a_kernel_without_a_target_is_an_error(monkeypatch):
    class Forgotten(MALA):
        pass

    monkeypatch.setattr(benchmark, "kernels", lambda: [MALA, Forgotten])
    with pytest.raises(LookupError, match=r"no target for \['Forgotten'\]"):
        benchmark.cases()


def test_cases_are_told_apart_by_target_and_label():
    keys = [(case.target, case.label) for case in benchmark.cases()]
    assert len(set(keys)) == len(keys)


def exact(target, n=20_000):
    x = target.draw(n, torch.Generator().manual_seed(5))
    return target.statistics(x.unsqueeze(1)).double()


@pytest.mark.statistical
@pytest.mark.parametrize("name", NAMES)
def test_the_true_moments_are_those_of_exact_draws(name, targets):
    target = targets[name]
    values = exact(target)
    assert benchmark.errors(values, target)["p_value"] > THRESHOLD
    moved = target._replace(mean=target.mean + 0.06 * target.deviation)
    assert benchmark.errors(values, moved)["p_value"] < THRESHOLD
    wider = target._replace(deviation=1.06 * target.deviation)
    assert benchmark.errors(values, wider)["p_value"] < THRESHOLD


def test_the_exact_draws_are_of_the_energy(targets):
    """Its mean score over them is zero: E_p[s] = 0, with a mutant of twice the slope in x."""
    for name in ("gaussian", "mixture", "banana", "log_gamma", "posterior"):
        target = targets[name]
        x = target.draw(20_000, torch.Generator().manual_seed(6))
        along = basin.score(target.energy, x) * (x - x.mean(0))  # its mean is -1, by parts
        z = (along.double().mean(0) + 1) / along.double().std(0) * len(x) ** 0.5
        assert float(z.abs().max()) < 4, name
        wrong = (2 * along.double().mean(0) + 1) / along.double().std(0) * len(x) ** 0.5
        assert float(wrong.abs().min()) > 4, name


def test_errors_of_numbers_worked_out_by_hand():
    """Two chains of averages 1 and 3, true mean 0: t = 2 / (sqrt(2) / sqrt(2)) = 2."""
    values = torch.tensor([[[1.0], [1.0]], [[3.0], [3.0]]], dtype=torch.float64)
    target = benchmark.Target(None, None, torch.zeros(1), torch.full((1,), 2.0))
    found = benchmark.errors(values, target)
    assert found["mean_off"] == 1.0
    assert found["deviation_off"] == pytest.approx((5**0.5) / 2 - 1)
    assert found["t_mean"] == pytest.approx(2.0)
    assert found["p_value"] == pytest.approx(min(1.0, 2 * 0.2951672353), rel=1e-6)


@pytest.mark.parametrize(
    ("kernel", "name", "cost"),
    [
        (MALA(), "banana", 1),
        (HMC(num_leapfrog_steps=7), "banana", 7),
        (Gibbs(), "ising", 32),  # both values of 16 units
        (GibbsWithGradients(), "ising", 1),
        (BlockGibbs(), "machine", 2),
    ],
    ids=lambda value: type(value).__name__,
)
def test_energies_are_counted(kernel, name, cost, targets, generator):
    target = targets[name]
    energy = benchmark.Counted(target.energy)
    state = kernel.init(energy, target.start(4, generator), generator)
    energy.calls.clear()
    for _ in range(5):
        state, _ = kernel.step(energy, state, generator)
    assert energy.calls["rows"] == 4 * 5 * cost


def test_energies_are_counted_at_other_noise_levels(targets, generator):
    energy = benchmark.Counted(targets["walk"].energy)
    kernel, level = ReverseDiffusion(), energy.at(2.0)
    kernel.step(level, kernel.init(level, torch.zeros(4, 2), generator), generator)
    assert energy.calls["rows"] == 4


@pytest.mark.parametrize(
    ("rhat", "p_value", "says"),
    [
        (1.0, 0.5, "right"),
        (None, 0.5, "right"),
        (1.0, 1e-5, "**off**"),
        (1.02, 0.5, "not yet mixed"),
        (1.2, 0.5, "**not mixed**"),
        (1.02, 1e-5, "**off, not mixed**"),
    ],
)
def test_the_verdict(rhat, p_value, says):
    row = {"lost": 0, "chains": 50, "rhat": rhat, "p_value": p_value}
    assert benchmark.verdict(row) == says
    assert benchmark.verdict(row | {"lost": 3}) == "**lost 3 of 50 chains**"


def test_the_page_is_that_of_the_results():
    rows = json.loads(benchmark.RESULTS.read_text())
    peer = json.loads(benchmark.PEER_RESULTS.read_text())
    assert benchmark.PAGE.read_text() == benchmark.page(rows, peer)
    measured = {(row["target"], row["label"]) for row in rows}
    assert measured == {(case.target, case.label) for case in benchmark.cases()}


@pytest.mark.statistical
def test_a_wrong_sampler_is_said_to_be_off():
    """A mutant of MALA that samples exp(-E / 1.3): off; MALA itself is not."""

    def cooled(energy):
        return lambda x: energy(x) / 1.3

    class Warm(MALA):
        def init(self, energy, x, generator):
            return super().init(cooled(energy), x, generator)

        def step(self, energy, state, generator):
            return super().step(cooled(energy), state, generator)

    work = {"target": "log_gamma", "label": "", "num_steps": 400, "num_warmup": 100}
    for kernel, is_right in ((MALA(), True), (Warm(), False)):
        case = benchmark.Case(type(kernel), make=benchmark.fixed(kernel), **work)
        assert (benchmark.measure(case)["p_value"] > THRESHOLD) == is_right
