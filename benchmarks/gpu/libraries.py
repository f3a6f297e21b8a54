"""The columns: a framework in one of its forms, and the numbers that all of them compute with."""
from __future__ import annotations

import contextlib
import importlib
import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from measure import installed, version

COLUMNS = {
    "gpugrad": "gpugrad", "gpugrad-graph": "gpugrad, graph", "gpugrad-plain": "gpugrad, no tuning",
    "gpugrad-columns": "gpugrad, by columns", "gpugrad-implicit": "gpugrad, implicit",
    "gpugrad-direct": "gpugrad, direct", "gpugrad-cudnn": "gpugrad, by cuDNN", "torch": "torch",
    "torch-plain": "torch, no tuning", "torch-graph": "torch, graph", "compile": "torch.compile",
    "compile-max": "torch.compile, max-autotune", "jax": "JAX"}
WAYS = ("gpugrad-columns", "gpugrad-implicit", "gpugrad-direct", "gpugrad-cudnn")   # of convolution
FRAMEWORKS = {"gpugrad": ("gpugrad", "gpugrad-graph"),
              "torch": ("torch", "torch-plain", "torch-graph"),
              "compile": ("compile", "compile-max"), "jax": ("jax",),
              "ways": ("gpugrad-plain", *WAYS)}
GRAPHS = ("gpugrad-graph", "torch-graph")
REFERENCE = "reference"             # in float64: no column, but what the columns must agree with

BLOCK = (1 << 22) - 3               # random numbers that larger arrays repeat; a prime number
WARM_L2 = 120e6                     # bytes that no L2 cache holds, so that inputs come from memory


def library_of(column: str) -> str:
    """The package behind a column."""
    if column == REFERENCE:
        return "torch" if installed("torch") else "gpugrad"
    return {"gpugrad": "gpugrad", "jax": "jax"}.get(column.partition("-")[0], "torch")


class Missing(Exception):
    """A framework, or what it needs, isn't there."""


class Library:
    """One column's framework on its device; in a dry run the simulated device, or the CPU."""

    def __init__(self, column: str, dry_run: bool) -> None:
        self.column, self.dry_run = column, dry_run
        self.name = library_of(column)
        if not installed(self.name):
            raise Missing(f"{self.name} is not installed")
        if dry_run:
            os.environ["GPUGRAD_CUDA"] = "sim"
            os.environ.setdefault("JAX_PLATFORMS", "cpu")
            if column.startswith(("torch-", "compile")):
                raise Missing("not in a dry run: it needs a GPU")
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
        import numpy as np

        self.np = np
        self.random = np.random.default_rng(0)
        self.block = self.random.standard_normal(4093 if dry_run else BLOCK, np.float32)
        self.precision, self.layout, self.device = "float32", "contiguous", "cuda"
        self.torch: Any = None
        self.ways = contextlib.ExitStack()
        if self.name == "jax":
            self.jax = importlib.import_module("jax")
            if not dry_run and self.jax.default_backend() != "gpu":
                raise Missing("this JAX has no GPU")
            return
        self.torch = importlib.import_module(self.name)
        if dry_run and not (self.name == "gpugrad" and column != REFERENCE):
            self.device = "cpu"
            self.torch.set_num_threads(1)
        elif not self.torch.cuda.is_available():
            if column == REFERENCE and self.name == "torch":    # then gpugrad's float64
                self.name, self.torch = "gpugrad", importlib.import_module("gpugrad")
            if not self.torch.cuda.is_available():
                raise Missing(f"{self.name} finds no CUDA device")
        if not dry_run and self.name == "gpugrad" and self.torch.cuda.sim.is_simulated():
            raise Missing("its device is simulated: use --dry-run")

    def facts(self) -> dict[str, Any]:
        """Version and device, for the head of a report."""
        found: dict[str, Any] = {"library": f"{self.name} {version(self.name)}"}
        if self.torch is None:
            found["device"] = str(self.jax.devices()[0].device_kind)
        elif self.device == "cuda":
            p = self.torch.cuda.get_device_properties()
            found.update(device=p.name, compute_capability=f"{p.major}.{p.minor}",
                         multiprocessors=p.multi_processor_count)
        else:
            found["device"] = "CPU"
        if self.name == "torch":
            found.update(cuda=self.torch.version.cuda, cudnn=self.torch.backends.cudnn.version())
        if self.name == "gpugrad" and self.device == "cuda":
            cupy = self.torch.backend.cuda.needed()
            found.update(cupy=cupy.__version__, cuda=cupy.cuda.runtime.runtimeGetVersion(),
                         driver=cupy.cuda.runtime.driverGetVersion())
        return found

    # Settings of a row ---------------------------------------------------------------------------

    def restart(self, precision: str, layout: str) -> None:
        """The same random numbers again, at a precision and with images in a memory format."""
        self.precision, self.layout = precision, layout
        self.random = self.np.random.default_rng(1)
        if self.torch is None:
            # XLA's default for float32 is TF32: it has to be asked for more.
            exact = "highest" if precision == "float32" else "tensorfloat32"
            self.jax.config.update("jax_default_matmul_precision",
                                   "default" if precision == "amp" or self.dry_run else exact)
            return
        torch = self.torch
        torch.manual_seed(0)
        tf32 = precision == "tf32" and self.column != REFERENCE
        torch.backends.cuda.matmul.allow_tf32 = tf32        # both: PyTorch's defaults differ
        torch.backends.cudnn.allow_tf32 = tf32
        # Trials take long on the simulated device, and tell nothing.
        torch.backends.cudnn.benchmark = not (self.dry_run or self.column.endswith("-plain"))
        self.ways.close()
        if self.column in WAYS:
            from gpugrad.ops.conv_routes import only

            self.ways.enter_context(only(self.column.partition("-")[2]))

    @contextlib.contextmanager
    def any_way(self) -> Iterator[None]:
        """Convolutions inside go as they do without a column's way: for what isn't timed."""
        if self.column not in WAYS:
            yield
            return
        from gpugrad.ops.conv_routes import only

        with only(""):
            yield

    @property
    def dtype(self) -> Any:
        """Of the inputs of an op."""
        return {"float16": self.torch.float16, "bfloat16": self.torch.bfloat16}.get(
            self.precision, self.torch.float32)

    def autocast(self) -> Any:
        """For the forward of a step."""
        if self.precision == "amp" and self.column != REFERENCE:
            return self.torch.autocast(self.device, dtype=self.torch.bfloat16)
        return contextlib.nullcontext()

    # Numbers -------------------------------------------------------------------------------------

    def array(self, *shape: int) -> Any:
        """Normal numbers of float32 on the host; never zeros, which GPUs multiply faster."""
        n, begin = math.prod(shape), int(self.random.integers(len(self.block)))
        return self.np.resize(self.block, n + begin)[begin:].reshape(shape)

    def indices(self, below: int, *shape: int) -> Any:
        return self.random.integers(0, below, shape)

    def put(self, array: Any, grad: bool = False) -> Any:
        """On the device, rounded to the row's dtype; images in the row's memory format."""
        t = self.torch.from_numpy(self.np.require(array, requirements="C")).to(self.device)
        if t.is_floating_point():
            t = t.to(self.dtype)
            if self.column == REFERENCE:
                t = t.to(self.torch.float64)
        if t.ndim == 4 and self.layout == "channels_last":
            t = t.to(memory_format=self.torch.channels_last)
        return t.requires_grad_() if grad else t

    def normal(self, *shape: int, grad: bool = False) -> Any:
        return self.put(self.array(*shape), grad)

    def integers(self, below: int, *shape: int) -> Any:
        return self.put(self.indices(below, *shape))

    def sets(self, nbytes: float) -> int:
        """How many sets of inputs a row goes round, so that none of them is in L2."""
        return 2 if self.dry_run else max(1, min(16, math.ceil(WARM_L2 / max(1.0, nbytes))))

    # Time ----------------------------------------------------------------------------------------

    def synchronize(self, value: Any = None) -> None:
        if self.torch is None:
            self.jax.block_until_ready(value)
        elif self.device == "cuda":
            self.torch.cuda.synchronize()

    def elapsed(self, calls: Sequence[Callable[[], Any]], loops: int) -> float:
        """Milliseconds of a call, from events around so many; JAX has none, so its are the host's.
        """
        if self.torch is None:
            value: Any = None
            began = time.perf_counter()
            for i in range(loops):
                value = calls[i % len(calls)]()
            self.synchronize(value)
            return 1e3 * (time.perf_counter() - began) / loops
        start, end = (self.torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for i in range(loops):
            calls[i % len(calls)]()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end)) / loops

    def queued(self, calls: Sequence[Callable[[], Any]], loops: int) -> float:
        """Microseconds of the host for a call that is only queued."""
        value: Any = None
        self.synchronize()
        began = time.perf_counter()
        for i in range(loops):
            value = calls[i % len(calls)]()
        took = time.perf_counter() - began
        self.synchronize(value)
        return 1e6 * took / loops

    # Memory --------------------------------------------------------------------------------------

    def free(self) -> int | None:
        """Bytes of the device that nobody holds, as the driver counts; caches are emptied."""
        if self.torch is None or self.device != "cuda":
            return None
        self.torch.cuda.empty_cache()
        return int(self.torch.cuda.mem_get_info()[0])

    def peak(self, calls: Sequence[Callable[[], Any]]) -> int | None:
        """The most bytes in use at once during some calls, by the framework's own counter."""
        if self.torch is None:
            stats = self.jax.devices()[0].memory_stats() or {}
            return stats.get("peak_bytes_in_use")
        if self.device != "cuda":
            return None
        found: list[int] = []

        def watched() -> None:          # in a thread: gpugrad's counter slows down its thread
            self.torch.cuda.synchronize()
            self.torch.cuda.reset_peak_memory_stats()
            for call in [*calls][:2]:
                call()
            self.torch.cuda.synchronize()
            found.append(int(self.torch.cuda.max_memory_allocated()))

        thread = threading.Thread(target=watched)
        thread.start()
        thread.join()
        return found[0] if found else None

    # Graphs --------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def side_stream(self) -> Iterator[Any]:
        """Work inside is on a stream that can be captured."""
        torch = self.torch
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            yield stream
        torch.cuda.current_stream().wait_stream(stream)

    def captured(self, stream: Any, work: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        """(what replays the work, what the work returned): a CUDA graph of it."""
        torch = self.torch
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            result = work()
        return graph.replay, result
