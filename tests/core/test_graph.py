"""A flat graph is the function: its numbers, its random numbers, its answers, its errors."""

from __future__ import annotations

import pytest
import torch

from basin.core.gradients import score
from basin.core.graph import NotCompilable, flat_graph


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def noisy_loss(generator):
    """Double backward, three ways to draw, and a question that is asked of a number."""

    def function(inputs):
        weight, x = inputs
        with torch.enable_grad():
            weight = weight.detach().requires_grad_(True)
            kept = torch.rand(len(x), generator=generator) < 0.5
            noise = torch.empty_like(x).normal_(generator=generator)
            order = torch.randperm(len(x), generator=generator)
            y = torch.where(kept[:, None], x, x[order]) + noise
            if bool((y > 100).any()):
                raise ValueError("x must be below 100")
            s = score(lambda y: (y @ weight).tanh().square().sum(1), y, create_graph=True)
            loss = s.square().sum()
            (gradient,) = torch.autograd.grad(loss, weight)
        return {"loss": loss, "gradient": gradient}

    return function


@pytest.fixture
def inputs():
    return torch.randn(3, 4, generator=generator(1)), torch.randn(10, 3, generator=generator(2))


def test_a_list_that_is_not_compiled_gives_the_same_bits_and_moves_the_generator_as_far(inputs):
    mine, theirs = generator(), generator()
    graph = flat_graph(noisy_loss(mine), inputs, mine, compiled=False)
    function = noisy_loss(theirs)
    assert torch.equal(mine.get_state(), theirs.get_state())  # making one leaves it where it was
    for _ in range(3):
        found, expected = graph(inputs), function(inputs)
        assert torch.equal(found["loss"], expected["loss"])
        assert torch.equal(found["gradient"], expected["gradient"])
        assert torch.equal(mine.get_state(), theirs.get_state())
    assert graph.num_departures == 0
    assert not found["loss"].requires_grad


def test_what_is_compiled_is_found_again_and_not_taken_for_another(monkeypatch, tmp_path):
    """The same graph a second time, then one that differs by the tensor that it holds."""
    counters = pytest.importorskip("torch._dynamo.utils").counters
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    counters.clear()
    x, one, two = torch.ones(3), torch.ones(3), torch.full((3,), 2.0)
    for held in (one, one, two):
        weight = torch.nn.Parameter(held)
        graph = flat_graph(lambda y, w=weight: (y * w).exp(), x, generator())
        assert torch.equal(graph(x), held.exp())
        assert not graph(x).requires_grad
        with torch.no_grad():
            weight.fill_(0.5)  # what a graph holds may be trained
        assert torch.equal(graph(x), torch.full((3,), 0.5).exp())
        held.fill_(2.0 if held is two else 1.0)
    assert counters["inductor"]["fxgraph_cache_hit"] >= 1


def test_machine_code_takes_inputs_that_lie_otherwise_in_memory():
    def function(x):
        return x.cumsum(0) * x

    x = torch.arange(6.0).reshape(2, 3)
    layouts = [x, x.T.contiguous().T, x[:1].expand(2, 3), torch.cat([x, x], 1)[:, ::2]]
    for first in layouts:
        graph = flat_graph(function, first, generator())
        for y in layouts:
            torch.testing.assert_close(graph(y), function(y))


def test_one_tensor_given_twice_counts_as_two_inputs():
    """Traced as one, the difference would be nought for ever."""
    both = torch.ones(3)
    graph = flat_graph(lambda pair: pair[0] - pair[1], (both, both), generator(), compiled=False)
    assert torch.equal(graph((2 * both, both)), both)


def test_a_compiled_one_differs_by_rounding_and_repeats_its_bits(inputs):
    mine, theirs = generator(), generator()
    graph = flat_graph(noisy_loss(mine), inputs, mine)
    found, expected = graph(inputs), noisy_loss(theirs)(inputs)
    for name in ("loss", "gradient"):
        torch.testing.assert_close(found[name], expected[name], rtol=1e-5, atol=1e-6)
    mine.manual_seed(0)
    again = graph(inputs)
    assert all(torch.equal(found[name], again[name]) for name in found)


def branches(inputs):
    return inputs * 2 if bool(inputs.sum() > 0) else inputs * 3


@pytest.mark.parametrize("watches", [True, False])
def test_another_answer_runs_the_function_itself(watches):
    """The mutant does not watch the answers, and multiplies by two where three was right."""
    graph = flat_graph(branches, torch.ones(3), generator(), compiled=False)
    assert torch.equal(graph(torch.ones(3)), 2 * torch.ones(3))
    if not watches:
        run = graph._run
        graph._run = lambda *tensors: [*run(*tensors)[:-1], torch.tensor(True)]
    other = graph(-torch.ones(3))
    assert torch.equal(other, -3 * torch.ones(3)) is watches
    assert graph.num_departures == int(watches)


def test_an_error_of_the_function_is_still_raised(inputs):
    mine = generator()
    graph = flat_graph(noisy_loss(mine), inputs, mine, compiled=False)
    with pytest.raises(ValueError, match="x must be below 100"):
        graph((inputs[0], inputs[1] + 1000))


def test_a_departure_draws_the_random_numbers_of_the_function():
    mine, theirs = generator(), generator()

    def function(x, source):
        noise = torch.randn(3, generator=source)
        return x + noise if bool(x.sum() > 0) else x - noise

    graph = flat_graph(lambda x: function(x, mine), torch.ones(3), mine, compiled=False)
    for sign in (1, -1, 1):
        x = sign * torch.ones(3)
        assert torch.equal(graph(x), function(x, theirs))
    assert graph.num_departures == 1


def changes_its_input(x):
    return x.add_(1)


def takes_a_number_out(x):
    return x * float(x.sum())


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (changes_its_input, "in place"),
        (takes_a_number_out, r"float\(\) takes a number out of a tensor"),
    ],
)
def test_what_cannot_be_a_list_says_so(function, message):
    with pytest.raises(NotCompilable, match=message):
        flat_graph(function, torch.ones(3), generator(), compiled=False)


def test_random_numbers_whose_law_depends_on_the_input_are_refused():
    mine = generator()

    def function(x):
        return torch.multinomial(x, 2, generator=mine)

    with pytest.raises(NotCompilable, match="law depends on the input"):
        flat_graph(function, torch.ones(3), mine, compiled=False)


def test_a_law_that_is_fixed_is_drawn_from():
    mine, theirs, weights = generator(), generator(), torch.tensor([0.2, 0.8])

    def function(x, source):
        return x + torch.multinomial(weights, 3, replacement=True, generator=source)

    graph = flat_graph(lambda x: function(x, mine), torch.ones(3), mine, compiled=False)
    assert torch.equal(graph(torch.ones(3)), function(torch.ones(3), theirs))


def test_a_machine_without_a_compiler_is_told(monkeypatch):
    from torch import _inductor

    def give_up(graph, tensors, options):
        raise RuntimeError("no g++")

    monkeypatch.setattr(_inductor, "compile", give_up)
    with pytest.raises(NotCompilable, match=r"no g\+\+.*the package g\+\+"):
        flat_graph(torch.sin, torch.ones(3), generator())
