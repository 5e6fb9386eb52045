"""A function of tensors as one flat list of operations, its random numbers drawn outside.

    note     run the function once, and note each draw from the generator (what, and how large)
             and each question that it asks of a number (``if bool(x.any())``), with the answer
    trace    run it on stand-ins without numbers: a draw is an input, an answer is the noted one,
             and every operation that reaches the device is written down, autograd's included
    run      draw what was noted, in that order, and run the list, compiled or as it is; if an
             answer is another one today, take the draws back and run the function itself

The list holds no Python and no autograd: of a step of denoising score matching it is the forward
pass, the score and the gradient of the loss on it. Compiled, neighbouring elementwise operations
become one loop over memory. The random numbers are those that the function itself would have
drawn; results differ from its own by rounding only, and not at all where the list is not compiled.

What a function does to tensors is written down; what it does besides happens once. Python numbers
that it holds are fixed, and so are shapes.

Cost: two runs of the function and about a second to trace; seconds to half a minute to compile (a
C++ compiler, on a CPU), once a machine for equal lists, as PyTorch keeps what it compiled.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from basin.core.tensors import laid_out
from basin.core.trees import mapped, rebuilder, tensors_of

__all__ = ["FlatGraph", "NotCompilable", "flat_graph"]


# Of whole numbers: an answer that is a fraction is hardly ever the same again.
_QUESTIONS = (Tensor.__bool__, Tensor.__int__, Tensor.__index__)


class NotCompilable(ValueError):
    """A function that cannot be written as a flat list, or a list that cannot be compiled."""


class FlatGraph:
    """What :func:`flat_graph` returns: ``graph(inputs)`` is ``function(inputs)``.

    Attributes:
        num_operations: of the list.
        num_departures: calls so far in which an answer was another one than when it was noted,
            and the function itself was run.
    """

    def __init__(
        self,
        function: Callable[[Any], Any],
        run: Callable[..., list[Tensor]],
        draws: list[_Draw],
        generator: torch.Generator,
        rebuilt: Callable[[Iterator[Tensor]], Any],
        has_answers: bool,
        num_operations: int,
    ) -> None:
        self._function, self._run, self._draws = function, run, draws
        self._generator, self._rebuilt, self._has_answers = generator, rebuilt, has_answers
        self.num_operations, self.num_departures = num_operations, 0

    def __call__(self, inputs: Any) -> Any:
        generator = self._generator
        before = generator.get_state() if self._has_answers else None
        drawn = [draw(generator) for draw in self._draws]
        with torch.no_grad():
            found = self._run(*tensors_of(inputs), *drawn)
        if before is not None and not bool(found[-1]):
            self.num_departures += 1
            generator.set_state(before)
            return mapped(Tensor.detach, self._function(inputs))
        return self._rebuilt(iter(found))


def flat_graph(
    function: Callable[[Any], Any],
    inputs: Any,
    generator: torch.Generator,
    *,
    compiled: bool = True,
) -> FlatGraph:
    """``function`` as one graph; it may draw from ``generator``, which has not moved afterwards.

    Args:
        function: of one tree (tuples, lists, dictionaries) of tensors, which it leaves as they
            are; returns another tree of tensors. What tensors it holds besides are taken as they
            are.
        inputs: such a tree (``basin.core.trees``), like those of later calls.
        generator: the one that the function draws from.
        compiled: to machine code; False runs the list operation by operation.

    Raises:
        NotCompilable: the function changes its input, takes fractions out of tensors
            (``float(x)``), draws random numbers whose law depends on the input, or uses an
            operation that has no stand-in; or there is no compiler.

    Example:
        >>> import torch
        >>> generator = torch.Generator().manual_seed(0)
        >>> def moved(x):
        ...     return x + torch.randn(2, generator=generator)
        >>> graph = flat_graph(moved, torch.zeros(2), generator, compiled=False)
        >>> first = graph(torch.zeros(2))
        >>> generator = generator.manual_seed(0)
        >>> torch.equal(first, moved(torch.zeros(2)))
        True
    """
    from torch.fx.experimental.proxy_tensor import make_fx  # takes a second

    tensors, rebuilt_inputs = tensors_of(inputs), rebuilder(inputs)
    examples = [laid_out(t.detach(), _without_gaps(t)) for t in tensors]
    before = generator.get_state()
    notes = _Noting(generator)
    versions = [tensor._version for tensor in tensors]
    try:
        with notes:
            function(inputs)
        if [tensor._version for tensor in tensors] != versions:
            raise NotCompilable("the function changes its input in place; return new tensors")
        generator.set_state(before)
        drawn = [draw(generator) for draw in notes.draws]
    finally:
        generator.set_state(before)
    rebuilders: list[Callable[[Iterator[Tensor]], Any]] = []

    def flat(*leaves: Tensor) -> list[Tensor]:
        given, noise = leaves[: len(tensors)], leaves[len(tensors) :]
        handing = _Handing(generator, iter(noise), iter(notes.answers))
        with handing:
            outputs = function(rebuilt_inputs(iter(given)))
        rebuilders.append(rebuilder(outputs))
        found = [tensor.detach() for tensor in tensors_of(outputs)]
        return found + ([torch.stack(handing.as_noted).all()] if handing.as_noted else [])

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch's own, about stand-ins
            graph = make_fx(flat, tracing_mode="fake", _allow_non_fake_inputs=True)(
                *examples,  # one tensor given twice is two of them
                *drawn,
            )
    except NotCompilable:
        raise
    except Exception as error:  # whatever PyTorch raises where stand-ins do not do
        raise NotCompilable(f"{type(error).__name__}: {str(error).splitlines()[0]}") from error
    _simplify(graph)
    return FlatGraph(
        function,
        _compiled(graph, [*examples, *drawn]) if compiled else graph,
        notes.draws,
        generator,
        rebuilders[-1],
        bool(notes.answers),
        len(graph.graph.nodes),
    )


class _Draw(NamedTuple):
    """One call that draws from a generator."""

    function: Callable[..., Tensor]
    arguments: tuple[Any, ...]
    settings: dict[str, Any]

    def __call__(self, generator: torch.Generator) -> Tensor:
        arguments = self.arguments
        if _fills(self.function):  # another tensor each time: results may be this very one
            arguments = (torch.empty_like(arguments[0]), *arguments[1:])
        return self.function(*arguments, **self.settings, generator=generator)


def _fills(function: Any) -> bool:
    """Whether it draws into its first argument, as ``normal_`` does."""
    return getattr(function, "__name__", "").endswith("_")


class _Noting(TorchFunctionMode):
    """Notes the draws from a generator, and the answers to questions asked of numbers."""

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self._generator = generator
        self.draws: list[_Draw] = []
        self.answers: list[int] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        settings = dict(kwargs or {})
        if settings.get("generator") is self._generator:
            del settings["generator"]
            self.draws.append(_Draw(func, args, settings))
        found = func(*args, **(kwargs or {}))
        if func in _QUESTIONS:
            self.answers.append(found)
        return found


class _Handing(TorchFunctionMode):
    """Hands out tensors drawn elsewhere and noted answers; keeps whether an answer is as noted."""

    def __init__(
        self, generator: torch.Generator, drawn: Iterator[Tensor], answers: Iterator[int]
    ) -> None:
        super().__init__()
        self._generator, self._drawn, self._answers = generator, drawn, answers
        self.as_noted: list[Tensor] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if kwargs.get("generator") is self._generator:
            law = args[1:] if _fills(func) else args
            self._require_fixed_law(func, law, kwargs)
            return args[0].copy_(next(self._drawn)) if _fills(func) else next(self._drawn)
        if func in _QUESTIONS:
            answer = next(self._answers)
            self.as_noted.append(args[0].detach().reshape(()) == answer)
            return answer
        if func is Tensor.__float__ and _holds_stand_ins(args):
            raise NotCompilable("float() takes a number out of a tensor; compute with the tensor")
        return func(*args, **kwargs)

    @staticmethod
    def _require_fixed_law(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """What a draw is made from must not come from the input, whose stand-in is not real."""
        if _holds_stand_ins((args, kwargs)):
            name = getattr(func, "__name__", str(func))
            raise NotCompilable(
                f"{name} draws random numbers whose law depends on the input; draw uniform or "
                "normal ones and transform them"
            )


def _without_gaps(tensor: Tensor) -> tuple[int, ...]:
    """Strides as they are, or of a tensor that has its own memory (an expanded one has not)."""
    return torch.empty_like(tensor, device="meta").stride()


def _holds_stand_ins(tree: Any) -> bool:
    from torch._subclasses.fake_tensor import FakeTensor

    return any(isinstance(tensor, FakeTensor) for tensor in tensors_of(tree))


def _compiled(graph: torch.fx.GraphModule, examples: list[Tensor]) -> Callable[..., list[Tensor]]:
    """By the compiler behind ``torch.compile``, without its guards: shapes and types are fixed."""
    from torch import _inductor
    from torch._guards import TracingContext, tracing
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

    inductor: Any = _inductor
    # Without shapes that might be symbols the compiler does not look for what it has compiled.
    context = TracingContext(FakeTensorMode(shape_env=ShapeEnv(), allow_non_fake_inputs=True))
    # Calls between the kernels in C++ too: a tenth of a small step (on a GPU the queue hides them).
    is_on_cpu = all(tensor.device.type == "cpu" for tensor in examples)
    options = {"cpp_wrapper": is_on_cpu}
    try:
        with warnings.catch_warnings(), torch.no_grad(), tracing(context):
            warnings.simplefilter("ignore")  # PyTorch's own
            code = inductor.compile(graph, examples, options=options)
    except Exception as error:  # whatever the compilers say
        reason = f"{type(error).__name__}: {str(error).splitlines()[0]}"
        raise NotCompilable(
            f"PyTorch's compiler gave up ({reason}); on a CPU it wants a C++ compiler, as the "
            "package g++ brings"
        ) from error

    strides = [tensor.stride() for tensor in examples]

    def run(*given: Tensor) -> list[Tensor]:
        return code(*map(laid_out, given, strides))  # it walks as it did when it was made

    return run


def _simplify(graph: torch.fx.GraphModule) -> None:
    """Without detaching, which does nothing outside autograd, and without what nothing needs."""
    for node in list(graph.graph.nodes):
        if node.op == "call_function" and node.target is torch.ops.aten.detach.default:
            node.replace_all_uses_with(node.args[0])
            graph.graph.erase_node(node)
    graph.graph.eliminate_dead_code()
    graph.recompile()
