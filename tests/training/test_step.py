"""A step by a graph is the step by autograd; who decides, and what a run says of it."""

from __future__ import annotations

import importlib
import json
import signal
from types import SimpleNamespace
from typing import NamedTuple

import pytest
import torch

import basin
from basin.core import graph as graphs
from basin.core.describe import describe
from basin.datasets import TwoMoons
from basin.energies import MLP
from basin.objectives import DenoisingScoreMatching, LearnedStein, NoiseContrastiveEstimation
from basin.training import TrainingDiverged, TrainingInterrupted, load, resume
from basin.training import step as steps
from basin.training.adam import Adam
from basin.training.average import WeightAverage
from basin.training.settings import Settings
from basin.training.step import Asked, by_autograd, pays_to_compile, steps_together

FEW = {
    "num_steps": 12,
    "evaluate_every": 4,
    "checkpoint_every": 4,
    "batch_size": 64,
}  # four a graph


@pytest.fixture
def uncompiled(monkeypatch):
    """Graphs run operation by operation: to the same bits, and without seconds of compiling."""

    def plain(function, inputs, generator, compiled):
        return graphs.flat_graph(function, inputs, generator, compiled=False)

    monkeypatch.setattr(steps, "flat_graph", plain)


def losses(run):
    return [record["loss"] for record in run.history if "loss" in record]


def trained(compile, objective=None, **settings):
    objective = objective or DenoisingScoreMatching(0.2)
    settings = {**FEW, **settings}
    return basin.fit(MLP(2, (16,)), TwoMoons(), objective, compile=compile, **settings)


@pytest.mark.parametrize(
    "objective",
    [DenoisingScoreMatching(0.2), NoiseContrastiveEstimation(), LearnedStein(learned_steps=5)],
    ids=lambda objective: type(objective).__name__,
)
def test_a_graph_takes_the_steps_of_autograd(uncompiled, objective):
    """Those of learned parts too, between which the energy waits; Adam's formula and its kernel
    differ by rounding."""
    graph, plain = (trained(choice, objective) for choice in (True, False))
    assert losses(graph) == pytest.approx(losses(plain), rel=1e-5)
    assert losses(graph)[0] != losses(graph)[-1]
    for mine, its in zip(graph.energy.parameters(), plain.energy.parameters(), strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-4, atol=1e-5)


class Count(NamedTuple):
    sigma: float
    levels: None
    count: torch.Tensor


class BreaksAtSeven(DenoisingScoreMatching):
    """Its seventh loss is infinite, each time."""

    def init(self, x, generator):
        return Count(*super().init(x, generator), torch.zeros(()))

    def __call__(self, energy, x, state, generator):
        loss = super().__call__(energy, x, state, generator)
        value = loss.value / (state.count < 6).to(x.dtype)
        return loss._replace(value=value, state=state._replace(count=state.count + 1))


def test_a_fault_is_found_at_its_step_and_recovered_from(uncompiled, tmp_path):
    told = []
    for compile in (True, False):
        out = tmp_path / str(compile)
        with pytest.raises(TrainingDiverged, match="step 7: the loss is inf") as stopped:
            trained(compile, BreaksAtSeven(0.2), recover=1, out=out)
        history = [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()]
        events = [record["event"] for record in history if "event" in record]
        assert "went back to step 4" in events[0]  # of the last checkpoint
        told.append((str(stopped.value).replace(str(out), ""), events))
    assert told[0] == told[1]


def test_a_step_moves_nothing_before_it_is_taken():
    energy, generator = MLP(2, (16,)), torch.Generator().manual_seed(0)
    optimizer, average = Adam(energy.parameters(), (0.9, 0.99)), WeightAverage(energy, 0.5)
    objective, x = DenoisingScoreMatching(0.2), torch.randn(64, 2, generator=generator)
    state = SimpleNamespace(
        energy=energy,
        objective_state=objective.init(x, generator),
        generators={"noise": generator},
        learned={},
        optimizer=optimizer,
        average=average,
        step=0,
    )

    def asked(x):
        return Asked(objective, [x, x], [0.1, 0.1], 1.0)

    propose = steps._GraphSteps(lambda *given: given, state, asked(x), compiled=False)

    def kept():
        moments = optimizer.tensors().values()
        return [t.detach().clone() for t in (*energy.parameters(), *moments)]

    before = kept()
    (wrong,) = propose(state, asked(x * float("nan")))
    assert all(torch.equal(a, b) for a, b in zip(kept(), before, strict=True))
    (right,) = propose(state, asked(x))
    right.take()
    after = kept()
    assert not any(torch.equal(a, b) for a, b in zip(after, before, strict=True))
    assert all(bool(t.isfinite().all()) for t in after)
    wrong.take()  # a loop that took it would be seen
    assert not all(bool(t.isfinite().all()) for t in kept())


def test_a_compiled_run_differs_by_rounding():
    compiled, plain = (trained(choice, checkpoint_every=2) for choice in (True, False))
    assert losses(compiled) == pytest.approx(losses(plain), rel=1e-4)
    assert compiled.config["compiled"] is True
    assert plain.config["compiled"] is False
    weights = zip(compiled.energy.parameters(), plain.energy.parameters(), strict=True)
    assert all(torch.allclose(a, b, rtol=1e-3, atol=1e-4) for a, b in weights)


@pytest.fixture
def made(monkeypatch):
    """Of each graph of steps that is made, how many it takes and whether it is compiled."""
    found, step = [], steps._GraphSteps

    class Counted(step):
        def __init__(self, bind, state, asked, *, compiled=True):
            found.append((len(asked.batches), compiled))
            super().__init__(bind, state, asked, compiled=compiled)

    monkeypatch.setattr(steps, "_GraphSteps", Counted)
    return found


def test_resuming_goes_on_as_the_run_began(uncompiled, made, tmp_path):
    whole = trained(True, out=tmp_path / "whole")

    def stop(energy, record):
        if record["step"] == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(True, on_evaluation=stop, out=tmp_path / "part")
    again = resume(tmp_path / "part", TwoMoons())
    assert made == [(1, False), (4, True)] * 3
    assert losses(again)[-1] == losses(whole)[-1]


class Fractional(torch.nn.Module):
    """Takes a number out of a tensor."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(2))

    def forward(self, x):
        return (x * self.weight).pow(4).sum(1) / (1 + float(x.detach().square().mean()))


def test_what_cannot_be_compiled_stops_a_run_that_asks_for_it():
    with pytest.raises(ValueError, match="compile must be False or 'auto' for Deno"):
        basin.fit(Fractional(), TwoMoons(), DenoisingScoreMatching(0.2), compile=True, **FEW)


def test_auto_goes_on_without_and_says_so(monkeypatch):
    fit = importlib.import_module("basin.training.fit")
    monkeypatch.setattr(fit, "pays_to_compile", lambda *sizes: True)
    objective = DenoisingScoreMatching(0.2)
    run = basin.fit(Fractional(), TwoMoons(), objective, compile="auto", **FEW)
    plain = basin.fit(Fractional(), TwoMoons(), objective, compile=False, **FEW)
    assert losses(run) == losses(plain)
    assert next(r["event"] for r in run.history if "event" in r).startswith("not compiled")


def test_auto_decides_by_sizes():
    energy = MLP(2)
    assert not pays_to_compile(energy, 1024, 4000)
    assert pays_to_compile(energy, 1024, 200_000)
    assert pays_to_compile(MLP(2, (1024, 1024)), 1024, 20_000)


def test_steps_together_divide_what_lies_between_looks_at_the_run():
    def settings(evaluate, checkpoint, num_steps=12, rows=64):
        return Settings(
            num_steps=num_steps,
            evaluate_every=evaluate,
            checkpoint_every=checkpoint,
            batch_size=rows,
        )

    energy = MLP(2)
    assert steps_together(energy, settings(4, 4)) == 4
    assert steps_together(energy, settings(4, 6)) == 2
    assert steps_together(energy, settings(4, 4, num_steps=13)) == 1
    assert steps_together(energy, settings(100, 1000, num_steps=4000)) == 5
    assert steps_together(energy, settings(100, 1000, num_steps=4000, rows=4096)) == 1  # long ones


def test_a_long_list_is_one_graph_a_step(uncompiled, made, monkeypatch):
    whole = trained(True)
    assert made == [(1, False), (4, True)]
    assert losses(trained(True)) == losses(whole)
    made.clear()
    monkeypatch.setattr(steps, "_SHORT_LIST", 10)
    assert losses(trained(True)) == losses(whole)
    assert made == [(1, False), (1, True)]


class Interrupted(DenoisingScoreMatching):
    """Someone presses Ctrl-C in its first step."""

    def __call__(self, energy, x, state, generator):
        signal.raise_signal(signal.SIGINT)
        return super().__call__(energy, x, state, generator)


def test_a_run_that_stopped_between_takes_single_steps_to_the_next_look(
    uncompiled, tmp_path, monkeypatch
):
    """One of an earlier version may have stopped after any step."""
    fit = importlib.import_module("basin.training.fit")
    whole = trained(True)
    with monkeypatch.context() as earlier:
        earlier.setattr(fit, "steps_together", lambda *sizes: 1)
        earlier.setattr(fit, "by_graph", lambda bind, on_failure: by_autograd(bind))
        with pytest.raises(TrainingInterrupted, match="after step 1;"):
            trained(True, Interrupted(0.2), out=tmp_path / "run")
    config = tmp_path / "run" / "config.json"
    told = json.loads(config.read_text()) | {"objective": describe(DenoisingScoreMatching(0.2))}
    config.write_text(json.dumps(told))
    again = resume(tmp_path / "run", TwoMoons())
    assert losses(again) == pytest.approx(losses(whole), rel=1e-5)


def test_a_state_that_counts_in_numbers_is_refused(uncompiled):
    """A graph would hold the count where it stood."""

    class Counting(DenoisingScoreMatching):
        def __call__(self, energy, x, state, generator):
            loss = super().__call__(energy, x, state, generator)
            return loss._replace(state=state._replace(sigma=state.sigma * 0.999))

    with pytest.raises(ValueError, match="counts in its state"):
        basin.fit(MLP(2, (16,)), TwoMoons(), Counting(0.2), compile=True, **FEW)


class Changing(DenoisingScoreMatching):
    """Its state counts in whole numbers, then in fractions; or begins without a count."""

    start = torch.zeros((), dtype=torch.long)

    def init(self, x, generator):
        return Count(*super().init(x, generator), self.start)

    def __call__(self, energy, x, state, generator):
        loss = super().__call__(energy, x, state, generator)
        count = 0.5 if state.count is None else state.count + 0.5
        return loss._replace(state=state._replace(count=torch.as_tensor(count)))


class Appearing(Changing):
    start = None


@pytest.mark.parametrize("kind", [Changing, Appearing])
def test_a_state_that_becomes_another_kind_is_refused(uncompiled, kind):
    """A graph would read the new numbers as if they were of the old kind."""
    with pytest.raises(ValueError, match="makes another tensor of count in its state"):
        trained(True, kind(0.2))


class Telling(DenoisingScoreMatching):
    """Terms in a shape and precision of their own."""

    def __call__(self, energy, x, state, generator):
        loss = super().__call__(energy, x, state, generator)
        exact = torch.tensor([2.0**24 + 1], dtype=torch.float64)
        return loss._replace(terms={**loss.terms, "exact": exact})


def test_terms_keep_their_digits(uncompiled):
    last = trained(True, Telling(0.2)).history[-1]
    assert last["terms"]["exact"] == 2**24 + 1


def test_the_choice_is_kept_and_old_runs_were_not_compiled(tmp_path):
    run = trained("auto", out=tmp_path / "run")
    assert run.config["training"]["compile"] == "auto"
    assert run.config["compiled"] is False
    values = json.loads(json.dumps(Settings(compile=True).to_json()))
    assert Settings.from_json(values).compile is True
    del values["compile"]
    assert Settings.from_json(values).compile is False
    assert load(tmp_path / "run").config["compiled"] is False


@pytest.mark.parametrize("word", ["yes", 1, 0])
def test_another_word_is_refused(word):
    """1 equals True, and was once taken for no."""
    with pytest.raises(ValueError, match=rf"compile must be True, False or .auto., got {word!r}"):
        trained(word)
