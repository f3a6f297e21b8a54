"""make_graphed_callables: forward and backward of a module as CUDA graphs inside one autograd node.
"""
from __future__ import annotations

from typing import Any

from gpugrad._tensor import Tensor
from gpugrad.autograd import Function, grad
from gpugrad.autograd.grad_mode import no_grad
from gpugrad.creation import empty_like
from gpugrad.cuda.devices import synchronize
from gpugrad.cuda.graphs import CUDAGraph, graph, graph_pool_handle, side_stream


def make_graphed_callables(callables: Any, sample_args: Any, num_warmup_iters: int = 3,
                           allow_unused_input: bool = False, pool: Any = None) -> Any:
    """Functions or modules whose forward and backward are launched as CUDA graphs.

    A module is changed in place: its forward replays the graph as long as it is in the mode,
    training or not, in which it was captured. Results lie in fixed memory, which the next call
    overwrites.

    Args:
        callables: one, or a tuple of them, to be called in this order in each step. They take
            tensors and return a tensor or a tuple of them.
        sample_args: a tuple of tensors for each: shapes, dtypes and requires_grad of later calls.
        num_warmup_iters: how often each is run before it is captured.
        allow_unused_input: whether an input or parameter may have no gradient.
        pool: memory to share with other graphs, see CUDAGraph.capture_begin.
    """
    single = not isinstance(callables, tuple)
    several = (callables,) if single else callables
    arguments = (sample_args,) if single else sample_args
    if len(several) != len(arguments):
        raise ValueError(f"{len(several)} callables were given with sample_args for "
                         f"{len(arguments)}")
    for args in arguments:
        if not isinstance(args, tuple) or not all(isinstance(a, Tensor) for a in args):
            raise TypeError("In the beta API, sample_args for each callable must contain only "
                            "Tensors. Other types are not allowed.")
    pool = graph_pool_handle() if pool is None else pool
    parts = [Graphed(f, args, allow_unused_input) for f, args in zip(several, arguments)]
    synchronize()
    with side_stream():
        for part in parts:
            for _ in range(num_warmup_iters):
                part.run()
    synchronize()
    for part in parts:
        part.capture_forward(pool)
    for part in reversed(parts):
        part.capture_backward(pool)
    made = tuple([part.callable() for part in parts])
    return made[0] if single else made


class Graphed:
    """One callable with its graphs and the memory that they read and write."""

    def __init__(self, function: Any, args: tuple[Tensor, ...], allow_unused: bool) -> None:
        self.function, self.allow_unused = function, allow_unused
        # copies: a tensor that is a sample of two callables would be overwritten by the second
        self.args = tuple([a.detach().clone().requires_grad_(a.requires_grad) for a in args])
        self.is_module = hasattr(function, "forward") and hasattr(function, "parameters")
        if self.is_module and any(b.requires_grad for b in function.buffers()):
            raise RuntimeError("In any :class:`~torch.nn.Module` passed to "
                               ":func:`~make_graphed_callables`, only parameters may be trainable. "
                               "All buffers must have ``requires_grad=False``.")
        parameters = tuple(function.parameters()) if self.is_module else ()
        self.inputs = (*self.args, *parameters)
        self.forward_graph, self.backward_graph = CUDAGraph(), CUDAGraph()
        self.outputs: tuple[Tensor, ...] = ()
        self.slopes: list[Tensor | None] = []           # gradients of the outputs
        self.gradients: list[Tensor | None] = []        # of the inputs
        self.returns_tuple = False

    def run(self) -> None:
        """Forward and backward, not captured."""
        outputs = self._forward()
        self._backward(outputs, [empty_like(y).fill_(1) for y in outputs if y.requires_grad])

    def _forward(self) -> tuple[Tensor, ...]:
        outputs = self.function(*self.args)
        self.returns_tuple = isinstance(outputs, tuple | list)
        outputs = tuple(outputs) if self.returns_tuple else (outputs,)
        if not all(isinstance(y, Tensor) for y in outputs):
            raise TypeError("a graphed callable must return a tensor or a tuple of tensors")
        return outputs

    def _backward(self, outputs: Any, slopes: Any) -> Any:
        ends = [y for y in outputs if y.requires_grad]
        wanted = [x for x in self.inputs if x.requires_grad]
        if not ends or not wanted:
            return [None] * len(wanted)
        return grad(ends, wanted, slopes, allow_unused=self.allow_unused)

    def capture_forward(self, pool: Any) -> None:
        with graph(self.forward_graph, pool):
            self.outputs = self._forward()

    def capture_backward(self, pool: Any) -> None:
        self.slopes = [empty_like(y).detach() if y.requires_grad else None for y in self.outputs]
        with graph(self.backward_graph, pool):
            found = iter(self._backward(self.outputs, [g for g in self.slopes if g is not None]))
        self.gradients = [next(found) if x.requires_grad else None for x in self.inputs]
        self.outputs = tuple([y.detach() for y in self.outputs])

    def callable(self) -> Any:
        """What takes the callable's place."""
        part = self

        class GraphedFunction(Function):
            @staticmethod
            def forward(ctx: Any, *inputs: Any) -> Any:
                for ours, given in zip(part.args, inputs):
                    _put(ours, given)
                part.forward_graph.replay()
                return tuple([y.detach() for y in part.outputs])

            @staticmethod
            def backward(ctx: Any, *slopes: Any) -> Any:
                for ours, given in zip(part.slopes, slopes):
                    if ours is not None:
                        _put(ours, given)
                part.backward_graph.replay()
                return tuple([None if g is None else g.detach() for g in part.gradients])

        def call(*args: Tensor) -> Any:
            parameters = part.inputs[len(part.args):]
            outputs = GraphedFunction.apply(*args, *parameters)
            return outputs if part.returns_tuple else outputs[0]

        if not self.is_module:
            return call
        module, mode, eager = self.function, self.function.training, self.function.forward

        def forward(*args: Any) -> Any:
            return call(*args) if module.training == mode else eager(*args)

        module.forward = forward
        return module


def _put(ours: Tensor, given: Tensor) -> None:
    """Copy a call's tensor to where the graph reads it, unless it lies there already."""
    if ours.data_ptr() != given.data_ptr():
        with no_grad():
            ours.copy_(given, non_blocking=True)
