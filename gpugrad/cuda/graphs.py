"""CUDA graphs: work that is captured once and then launched as a whole, at the cost of one launch.

What a capture needs, all in one place here: memory of its own, which nobody else gets while the
graph lives; a workspace of its own for cuBLAS; random numbers that go on with each replay; and the
flag ``be.capturing``, at which whatever can't be captured raises.
"""
from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator
from typing import Any

from gpugrad.backend.cuda import current_device, in_use, needed, on_device
from gpugrad.backend.cuda_random import CudaGenerator, GraphNumbers
from gpugrad.backend.graph_pool import GraphPool
from gpugrad.cuda.devices import backend_of, synchronize
from gpugrad.cuda.memory import empty_cache
from gpugrad.cuda.streams import Stream, StreamContext, current_stream

MODES = ("global", "thread_local", "relaxed")


def is_current_stream_capturing() -> bool:
    """Whether work that is queued on the current stream is being captured into a graph."""
    return in_use() and bool(needed().cuda.get_current_stream().is_capturing())


def graph_pool_handle() -> GraphPool:
    """A new memory pool that several graphs can share: see CUDAGraph.capture_begin."""
    return GraphPool(needed())


class CUDAGraph:
    """A step of work on one CUDA device, captured once and replayed as often as one likes.

    A replay runs the same kernels on the same memory: new inputs are copied into the tensors that
    the capture read, and results lie in the tensors that it made. The graph keeps the memory that
    was allocated during the capture. The tensors that existed before must be kept by the program.
    Before the capture the step must have been run once or more, on the same stream or another one,
    so that nothing is left to be compiled.
    """

    def __init__(self, keep_graph: bool = False) -> None:
        needed()
        self._graph: Any = None                 # CuPy's, once captured
        self._capture: Capture | None = None    # while it is being captured
        self._pool: GraphPool | None = None
        self._numbers: list[GraphNumbers] = []
        self._generators: list[CudaGenerator] = []
        self._kept: Any = None
        self._be: Any = None

    # Capture -------------------------------------------------------------------------------------

    def register_generator_state(self, generator: Any) -> None:
        """Let the capture draw from a torch.Generator; the default one is always known."""
        if self._capture is not None:
            raise RuntimeError("register_generator_state must be called before the capture begins")
        if not isinstance(generator._g, CudaGenerator):
            raise RuntimeError(f"a CUDA graph draws from generators of CUDA devices, not of "
                               f"'{generator.device}'")
        self._generators.append(generator._g)

    def capture_begin(self, pool: GraphPool | None = None, capture_error_mode: str = "global",
                      check_input_liveness: bool = False) -> None:
        """Capture what is queued on the current stream from now on; ``graph`` is more convenient.

        Args:
            pool: memory to share with other graphs, which must then be replayed in the order in
                which they were captured: from ``graph_pool_handle()`` or another graph's
                ``pool()``.
            capture_error_mode: "global", "thread_local" or "relaxed". CUDA is asked for "relaxed",
                as CuPy may have to allocate; what can't be captured raises in any mode.
            check_input_liveness: not supported.
        """
        if capture_error_mode not in MODES:
            raise RuntimeError(f"Unknown capture error mode. Expected `global`, `thread_local`, or "
                               f"`relaxed`, got {capture_error_mode}")
        if check_input_liveness:
            raise NotImplementedError("check_input_liveness=True is not supported on a GPU: the "
                                      "simulated device (GPUGRAD_CUDA=sim) always checks it")
        if self._graph is not None:
            raise RuntimeError("This CUDAGraph instance already owns a captured graph. To capture "
                               "a new graph, create a new instance.")
        if pool is not None and not isinstance(pool, GraphPool):
            raise TypeError(f"pool must come from graph_pool_handle() or from another graph's "
                            f"pool(), not {type(pool).__name__}")
        be = backend_of()
        if be.kept is not None:
            raise RuntimeError(f"a graph is being captured on {be.name} already: one at a time")
        for generator in self._generators:
            if generator.be is not be:
                raise RuntimeError(f"a generator of {generator.be.name} was registered with a "
                                   f"graph that is captured on {be.name}")
        stream = current_stream()
        if stream.cuda_stream in (0, 1, 2):
            raise RuntimeError("CUDA graphs must be captured on a non-default stream. (However, "
                               "after capture, it's ok to replay them on the default stream.)")
        self._be, self._pool = be, GraphPool(be.cupy) if pool is None else pool
        self._capture = Capture(be, stream, self._pool, self._generators)

    def capture_end(self) -> None:
        """The capture is complete, and the graph can be replayed."""
        capture = self._capture
        if capture is None:
            raise RuntimeError("capture_end() was called without capture_begin()")
        if current_stream() != capture.stream:
            raise RuntimeError("Capture must end on the same stream it began on.")
        self._capture = None
        self._graph = capture.end()
        self._numbers, self._kept = capture.numbers, capture.kept

    def _give_up(self) -> None:
        """End a capture in which something was raised; there is no graph then."""
        capture, self._capture = self._capture, None
        if capture is not None:
            capture.give_up()
        self._pool = None

    # Use -----------------------------------------------------------------------------------------

    def replay(self) -> None:
        """Queue the captured work on the current stream of its device."""
        if self._graph is None:
            raise RuntimeError("Called CUDAGraph::replay without a preceding successful capture.")
        be = self._be
        on_device(be.cupy.cuda.runtime, be.id, self._replay, (be,), {})

    def _replay(self, be: Any) -> None:
        if be.capturing and any(numbers.total for numbers in self._numbers):
            raise RuntimeError("a graph that draws random numbers can't be replayed while another "
                               "one is captured")
        for numbers in self._numbers:
            numbers.before_replay()
        self._graph.launch(be.cupy.cuda.get_current_stream(be.id))

    def instantiate(self) -> None:
        """Nothing: capture_end has done it."""
        self._captured("instantiate")

    def reset(self) -> None:
        """Forget the captured work and let go of its memory."""
        if self._capture is not None:
            raise RuntimeError("reset() must not be called while the graph is captured")
        self._graph = self._pool = self._kept = None
        self._numbers = []

    def pool(self) -> GraphPool:
        """The graph's memory, for other captures to share."""
        if self._pool is None:
            raise RuntimeError("Called CUDAGraph::pool() without a preceding successful capture.")
        return self._pool

    def enable_debug_mode(self) -> None:
        """Nothing: debug_dump can always be called."""

    def debug_dump(self, debug_path: str) -> None:
        """Write the graph to a file in the language of Graphviz."""
        text = self._captured("debug_dump").debug_dot_str()
        with open(debug_path, "w", encoding="utf-8") as f:
            f.write(text)

    def raw_cuda_graph(self) -> int:
        """CUDA's cudaGraph_t."""
        return int(self._captured("raw_cuda_graph").graph)

    def raw_cuda_graph_exec(self) -> int:
        """CUDA's cudaGraphExec_t."""
        return int(self._captured("raw_cuda_graph_exec").graphExec)

    def _captured(self, name: str) -> Any:
        if self._graph is None:
            raise RuntimeError(f"Called CUDAGraph::{name} without a preceding successful capture.")
        return self._graph


class Capture:
    """A capture that is under way on one stream."""

    def __init__(self, be: Any, stream: Stream, pool: GraphPool,
                 generators: list[CudaGenerator]) -> None:
        self.be, self.stream, self.pool = be, stream, pool
        self.kept: list[Any] = []               # what has to live as long as the graph
        # Before a replay the host writes there: it is memory that no graph writes to.
        self.numbers = [GraphNumbers(g) for g in dict.fromkeys([be.generator, *generators])]
        be.gemm.prepare()
        be.allocator = be.cupy.cuda.get_allocator()
        self._inside = contextlib.ExitStack()
        try:
            self._inside.enter_context(be.cupy.cuda.using_allocator(pool.malloc))
            workspaces = be.gemm.fresh_workspaces()
            self._inside.callback(
                lambda: self.kept.append(be.gemm.restore_workspaces(workspaces)))
            for numbers in self.numbers:
                numbers.begin()
                self._inside.callback(numbers.end, record=False)
            stream.cupy.begin_capture()
            be.kept, be.capturing = self.kept, True
            self._inside.callback(self._no_longer)
        except BaseException:
            self._inside.close()
            raise

    def _no_longer(self) -> None:
        self.be.kept, self.be.capturing, self.be.allocator = None, False, None

    def end(self) -> Any:
        """CuPy's graph."""
        with self._inside:
            try:
                for numbers in self.numbers:
                    numbers.end()
            finally:
                graph = self.stream.cupy.end_capture()
        # Numbers that ops share are dropped from their cache one day.
        self.kept += [self.pool, self.stream, *self.be.number.values(), *self.be.zero.values()]
        return graph

    def give_up(self) -> None:
        with self._inside, contextlib.suppress(Exception):
            self.stream.cupy.end_capture()


class graph:
    """``with torch.cuda.graph(g):`` captures the block into the CUDAGraph g.

    Args:
        cuda_graph: where the captured work goes.
        pool, capture_error_mode, check_input_liveness: see CUDAGraph.capture_begin.
        stream: to capture on; by default one that is kept for captures.
        enable_annotations: not supported.
    """

    default_capture_stream: Stream | None = None

    def __init__(self, cuda_graph: CUDAGraph, pool: GraphPool | None = None,
                 stream: Stream | None = None, capture_error_mode: str = "global",
                 enable_annotations: bool = False, check_input_liveness: bool = False) -> None:
        if enable_annotations:
            raise NotImplementedError("enable_annotations=True is not supported: mark parts of a "
                                      "program with torch.cuda.nvtx.range")
        if stream is None:
            stream = _capture_streams.get(current_device())
            if stream is None:
                stream = _capture_streams[current_device()] = Stream()
                type(self).default_capture_stream = stream
        self.cuda_graph, self.pool, self.capture_stream = cuda_graph, pool, stream
        self.stream_ctx = StreamContext(stream)
        self.capture_error_mode = capture_error_mode
        self.check_input_liveness = check_input_liveness

    def __enter__(self) -> None:
        synchronize()
        gc.collect()                    # a cycle that is freed later would be freed in the capture
        empty_cache()
        self.stream_ctx.__enter__()
        try:
            self.cuda_graph.capture_begin(self.pool, self.capture_error_mode,
                                          self.check_input_liveness)
        except BaseException:
            self.stream_ctx.__exit__(None, None, None)
            raise

    def __exit__(self, kind: Any, *exc: object) -> None:
        try:
            if kind is None:
                self.cuda_graph.capture_end()
            else:
                self.cuda_graph._give_up()
        finally:
            self.stream_ctx.__exit__(kind, *exc)


_capture_streams: dict[int, Stream] = {}


@contextlib.contextmanager
def side_stream() -> Iterator[None]:
    """Work inside goes to another stream, in order with what is before and after it."""
    before, side = current_stream(), Stream()
    side.wait_stream(before)
    with StreamContext(side):
        yield
    before.wait_stream(side)
