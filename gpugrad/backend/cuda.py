"""CUDA devices: CuPy, looked for at the first request and imported only here, and our kernels."""
from __future__ import annotations

import contextlib
import functools
import os
import threading
import types
from typing import Any

import numpy as np

from gpugrad.backend import cublas, cublaslt, several
from gpugrad.backend.base import Backend
from gpugrad.backend.columns import out_size
from gpugrad.backend.copies import Copies, is_pinned
from gpugrad.backend.cuda_random import CudaGenerator
from gpugrad.backend.cupy_functions import Module, order_of
from gpugrad.backend.kernels import ACC, BLOCK, Kernels, acc, windows
from gpugrad.backend.random import DEFAULT_SEED, unsigned_seed
from gpugrad.device import device
from gpugrad.dtypes import HALF
from gpugrad.layouts import in_order

Pair = tuple[int, int]

_INSTALL = 'pip install "gpugrad[cuda12]", or "gpugrad[cuda13]" with a driver for CUDA 13'


# Which devices there are -------------------------------------------------------------------------

_WANTED = os.environ.get("GPUGRAD_CUDA", "")
_simulate = [_WANTED == "sim"]


@functools.cache
def usable() -> tuple[Any, str]:
    """(cupy, ""), or (None, why CUDA can't be used and what to do). Never raises; looks once."""
    if _simulate[0]:
        reason = _lacking()
        return (None, reason) if reason else (_simulation().start(), "")
    if _WANTED not in ("", "sim"):
        return None, f"GPUGRAD_CUDA is {_WANTED!r}: it must be sim, or not be set"
    try:
        import cupy
    except ModuleNotFoundError as e:
        missing = "CuPy is not installed" if e.name == "cupy" else f"CuPy can't be imported ({e})"
        return None, f"{missing}: {_INSTALL}"
    except Exception as e:
        return None, f"CuPy can't be imported ({type(e).__name__}: {e})"
    try:
        if not cupy.cuda.runtime.driverGetVersion():
            return None, ("there is no NVIDIA driver: install it, and see that the command "
                          "nvidia-smi lists a device")
        if not cupy.cuda.runtime.getDeviceCount():
            return None, "the NVIDIA driver shows no device (is CUDA_VISIBLE_DEVICES set?)"
    except Exception as e:
        return None, f"the NVIDIA driver reports {e}"
    try:
        cupy.cuda.nvrtc.getVersion()
    except Exception as e:
        return None, f"CuPy does not find CUDA's compiler NVRTC ({e}): {_INSTALL}"
    return cupy, ""


def _simulation() -> Any:
    """What puts the simulated device in CuPy's place; None if its package isn't installed."""
    try:
        from gpugrad.cudasim import installing
    except ModuleNotFoundError:
        return None
    return installing


def _lacking() -> str:
    """Why there can be no simulated device, and what to install; "" if there can."""
    simulation = _simulation()
    if simulation is None:
        return ("the simulated CUDA device is a package of its own: install it by pip install "
                "gpugrad-cudasim")
    reason: str = simulation.missing()
    return reason


def simulated() -> bool:
    """Whether CUDA devices are simulated ones."""
    return _simulate[0]


def simulate(on: bool) -> None:
    """From now on CUDA devices are simulated ones, or again those that are there."""
    from gpugrad import backend

    if on == _simulate[0]:
        return
    if on and _made:
        raise RuntimeError(f"a CUDA device ({next(iter(_made.values())).name}) is in use already: "
                           f"start the simulation before the first tensor goes to a device, or "
                           f"set GPUGRAD_CUDA=sim in the environment")
    reason = _lacking() if on else ""
    if reason:
        raise RuntimeError(reason)
    _simulate[0] = on
    for d in [d for d in backend._made if d.type == "cuda"]:
        del backend._made[d]
    _made.clear()
    if not on:
        _simulation().stop()
    usable.cache_clear()


forked = [""]       # the error for who wants CUDA in a worker process: see backend/forked.py


def needed() -> Any:
    """CuPy; RuntimeError with the reason if CUDA can't be used."""
    if forked[0]:
        raise RuntimeError(forked[0])
    cupy, reason = usable()
    if cupy is None:
        raise RuntimeError(f"CUDA is not available: {reason}. Without a GPU use the device 'cpu'")
    return cupy


def device_count() -> int:
    """How many CUDA devices there are; 0 if CUDA can't be used."""
    cupy = usable()[0]
    return 0 if cupy is None else int(cupy.cuda.runtime.getDeviceCount())


def current_device() -> int:
    """The index of this thread's current CUDA device. RuntimeError if CUDA can't be used."""
    return int(needed().cuda.runtime.getDevice())


def set_device(index: int) -> None:
    """Make a CUDA device this thread's current one, for gpugrad and for CuPy alike."""
    cupy = needed()
    check_index(index)
    cupy.cuda.runtime.setDevice(index)


def check_index(index: int) -> None:
    """RuntimeError if there is no CUDA device of this index."""
    n = device_count()
    if not 0 <= index < n:
        there = "cuda:0" if n == 1 else f"cuda:0 to cuda:{n - 1}"
        raise RuntimeError(f"CUDA error: invalid device ordinal: there is no cuda:{index}, "
                           f"only {there}")


def make(d: device) -> CudaBackend:
    """The backend of a CUDA device. RuntimeError, with the reason, if it can't be used."""
    cupy = needed()
    index = d.index or 0
    check_index(index)
    if device_count() == 1:
        return CudaBackend(d, cupy)
    with cupy.cuda.Device(index):
        be = OneOfSeveral(d, cupy)
    several.append(be)
    return be


# Seeds are kept here, so that seeding doesn't need CuPy: by index, and None for the other devices.
_seeds: dict[int | None, int] = {None: DEFAULT_SEED}
_made: dict[int, CudaBackend] = {}


def in_use() -> bool:
    """Whether a CUDA device has been asked for by now."""
    return bool(_made)


def made() -> list[CudaBackend]:
    """The CUDA devices that have been asked for."""
    return list(_made.values())


def _cublas(cupy: Any) -> Any:
    """The functions of cuBLAS, or None."""
    if simulated():
        from gpugrad.cudasim.cublas import Library

        return Library(cupy)
    return cublas.load(cupy)


def _cublaslt(cupy: Any) -> Any:
    """The functions of cuBLASLt, or None."""
    if simulated():
        from gpugrad.cudasim.cublaslt import Library

        return Library(cupy)
    return cublaslt.load(cupy)


def seed(value: int, index: int | None = None) -> None:
    """Seed the generator of one CUDA device, or of all: at once, or when it comes into use."""
    value = unsigned_seed(value)
    if index is None:
        _seeds.clear()
    _seeds[index] = value
    for i, be in _made.items():
        if index is None or index == i:
            be.generator.manual_seed(value)


# One device --------------------------------------------------------------------------------------

class CudaBackend(Backend):
    """A CUDA device. Work goes to CuPy's current stream, memory comes from CuPy's pool."""

    index = 1
    prefix = "torch.cuda."
    widens_products = False
    checks_classes = False
    column_bytes = 1 << 28
    chunk = 1 << 62
    kept: Any = None          # a list of what a graph must keep alive, while one is captured
    allocator: Any = None     # where memory came from before the capture
    _capturer = 0             # the thread that captures: others work on

    def __init__(self, d: device, cupy: Any) -> None:
        super().__init__(d)
        self.id, self.cupy = d.index or 0, cupy
        self.xp, self.ndarray = self.module(), cupy.ndarray
        self.kernels = Kernels(self)
        self.gemm, self.copies = cublas.Gemm(self, _cublas), Copies(self)
        self.epilogues = cublaslt.Epilogues(self.gemm, _cublaslt)
        self.generator = self.new_generator(_seeds.get(self.id, _seeds[None]))
        _made[self.id] = self

    @property
    def capturing(self) -> bool:
        """Does this thread capture a graph?"""
        return self._capturer != 0 and self._capturer == threading.get_ident()

    @capturing.setter
    def capturing(self, on: bool) -> None:
        self._capturer = threading.get_ident() if on else 0

    def module(self) -> Any:
        """What ops find as ``be.xp``."""
        return Module(self.cupy)

    def new_generator(self, seed: int) -> CudaGenerator:
        return CudaGenerator(self, seed)

    # Memory --------------------------------------------------------------------------------------

    def asarray(self, a: Any) -> Any:
        return a if isinstance(a, self.ndarray) else self.xp.asarray(a)

    def scalar(self, value: Any, dtype: Any) -> Any:
        # It would be written at each replay, into memory of the recording.
        if self.capturing and not self.capturing_ops:
            raise RuntimeError(f"the number {value} is used for the first time while a step is "
                               f"recorded: run the step once before recording it")
        checked = np.asarray(value, dtype)[()]      # NumPy raises if it is out of range
        return self.xp.full((), checked, dtype)

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        return self.ndarray(shape, dtype)           # as CuPy's empty does it, a call less

    def outside_graph(self) -> Any:
        """``with``: memory is allocated where no graph writes to, also while one is captured.

        Memory of the graph's own pool may have served for something else earlier in the capture,
        which each replay writes there again. So it can't hold what is written before a replay.
        """
        if not self.capturing:
            return contextlib.nullcontext()
        return self.cupy.cuda.using_allocator(self.allocator)

    def from_host(self, a: Any, non_blocking: bool = False) -> Any:
        return self.copies.to_device(a, non_blocking)

    def from_device(self, a: Any, source: Backend, non_blocking: bool = False) -> Any:
        if isinstance(a, self.ndarray):
            return self.copy(a)                     # between GPUs, not by way of the host
        return self.from_host(source.to_host(a), non_blocking)

    def to_host(self, a: Any, non_blocking: bool = False) -> Any:
        if non_blocking:
            return self.copies.to_host(a)
        if self.capturing:
            raise RuntimeError(f"a tensor of shape {list(a.shape)} on {self.name} is read by the "
                               f"host (.item(), .cpu(), print, if ...) while a step is recorded: "
                               f"keep it on the device and read it after the replay")
        return self.xp.asnumpy(a, order="C")

    def into_host(self, a: Any, out: Any) -> bool:
        fits = out.flags.c_contiguous and is_pinned(out, self.cupy)
        if fits:
            self.copies.to_host(a, out)
        return fits

    def record_use(self, a: Any, stream: Any) -> None:
        self.copies.record_use(a, stream.cupy)

    def is_dense(self, a: Any) -> bool:
        # CuPy's arrays can always be written to.
        return bool(a.flags.forc) or in_order(a) is not None

    def address(self, a: Any) -> int:
        return int(a.data.ptr)

    def expand(self, x: Any, shape: tuple[int, ...]) -> Any:
        return self.xp.broadcast_to(x, shape)

    def workspace(self, key: str, shape: tuple[int, ...], dtype: Any) -> Any:
        # Kept memory would have to be kept per stream, which is what CuPy's pool does already.
        return self.xp.empty(shape, dtype)

    def synchronize(self) -> None:
        self.cupy.cuda.Device(self.id).synchronize()

    # Arithmetic ----------------------------------------------------------------------------------

    def matmul(self, a: Any, b: Any, out: Any = None, dtype: Any = None) -> Any:
        product = self.gemm(a, b, out, dtype)
        return self._matmul(a, b, out, dtype) if product is NotImplemented else product

    def _matmul(self, a: Any, b: Any, out: Any, dtype: Any) -> Any:
        """The product by CuPy: of other dtypes, or if cuBLAS isn't found."""
        if self.capturing:
            raise RuntimeError(f"a product of {a.dtype} and {b.dtype} can't be captured into a "
                               f"graph: only float32, float64, float16 and bfloat16 can, and they "
                               f"need cuBLAS")
        if a.dtype in HALF:         # CuPy has no batches of bfloat16
            product = self.xp.matmul(a.astype(np.float32), b.astype(np.float32))
            product = product.astype(dtype or a.dtype, copy=False)
        elif out is not None and out.flags.c_contiguous:
            return self.xp.matmul(a, b, out=out)
        else:
            product = self.xp.matmul(a, b)
        if out is None:
            return product
        out[...] = product
        return out

    def sums_at(self, places: Any, weights: Any, n: int) -> Any:
        # CuPy's bincount waits, to look for negative places and the greatest one.
        sums = self.xp.zeros(n, np.uint64 if weights is None else np.float64)
        self.xp.add.at(sums, places, 1 if weights is None else weights)
        return sums.view(np.int64) if weights is None else sums

    def erf(self, x: Any) -> Any:
        from cupyx.scipy.special import erf

        y = erf(x)                                  # of 16 bits CuPy's has 32 or 64
        return y.astype(x.dtype) if y.dtype != x.dtype and x.dtype in HALF else y

    def diagonal(self, x: Any, offset: int, dim1: int, dim2: int) -> Any:
        return x.diagonal(offset, dim1, dim2)       # CuPy's can be written to

    # Kernels -------------------------------------------------------------------------------------

    def takes(self, dtype: Any) -> bool:
        return self.kernels.take(dtype)

    def launch(self, file: str, name: str, grid: Any, block: Any, args: Any, dtype: Any) -> None:
        self.kernels.launch(file, name, grid, block, args, dtype)

    def map(self, file: str, name: str, *arrays: Any, numbers: Any = ()) -> Any:
        """What a kernel of map.cuh's kind makes of arrays of one shape and dtype: a new array.

        numbers: what the kernel takes as Acc after its arrays and n, Python numbers. NotImplemented
        if there is no kernel for the arrays: the caller then takes the portable way.
        """
        x, kernels = arrays[0], self.kernels
        shape, dtype = x.shape, x.dtype
        for a in arrays:
            if a.shape != shape or a.dtype != dtype:
                return NotImplemented
        if not kernels.take(dtype):
            return NotImplemented
        if not x.flags.c_contiguous and (order := order_of(arrays)):
            out = self.map(file, name, *[a.transpose(order) for a in arrays], numbers=numbers)
            return out.transpose(np.argsort(order).tolist())
        out, n, size = self.ndarray(shape, dtype), x.size, dtype.itemsize
        if n:
            args = [a if a.flags.c_contiguous else self.xp.ascontiguousarray(a) for a in arrays]
            grid, count, wide = kernels.spans[n, 16 // size]
            args += out, count
            if numbers:
                kind = ACC[size]
                try:
                    args += [kind(v) for v in numbers]
                except TypeError:                # a tensor of one
                    args += [acc(v, dtype) for v in numbers]
            kernels.launch(file, name, grid, BLOCK, tuple(args), dtype, wide)
        return out

    def _dense(self, a: Any) -> Any:
        """a in C order, as kernels read it; copied only if it isn't."""
        return a if a.flags.c_contiguous else self.xp.ascontiguousarray(a)

    # Windows -------------------------------------------------------------------------------------

    def im2col(self, x: Any, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair,
               out: Any = None) -> Any:
        if not self._fits(x, out):
            return super().im2col(x, kernel, stride, padding, dilation, out)
        win, (oh, ow) = _windows(x.shape, kernel, stride, padding, dilation)
        n, c = x.shape[:2]
        if out is None:
            out = self.empty((n, c * kernel[0] * kernel[1], oh * ow), x.dtype)
        self.kernels.each("im2col", "im2col", x.dtype, n * c * oh * ow, (self._dense(x), out), win)
        return out

    def col2im(self, cols: Any, shape: Any, kernel: Pair, stride: Pair, padding: Pair,
               dilation: Pair, out: Any = None) -> Any:
        if not self._fits(cols, out):
            return super().col2im(cols, shape, kernel, stride, padding, dilation, out)
        win, _ = _windows(shape, kernel, stride, padding, dilation)
        if out is None:
            out = self.empty(tuple(shape), cols.dtype)
        self.kernels.each("im2col", "col2im", cols.dtype, out.size, (self._dense(cols), out), win)
        return out

    def _fits(self, a: Any, out: Any) -> bool:
        return self.kernels.take(a.dtype) and (out is None or out.flags.c_contiguous)


def _windows(shape: Any, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair) -> Any:
    """(the struct for kernels, how many windows) on images (n, c, h, w)."""
    size = tuple(shape[2:])
    count = tuple([out_size(*a) for a in zip(size, kernel, stride, padding, dilation)])
    return windows(size, count, kernel, stride, padding, dilation), count


# Several devices ---------------------------------------------------------------------------------

class OneOfSeveral(CudaBackend):
    """A CUDA device among others: what is asked of it runs with it as the current device.

    CuPy allocates and launches on the thread's current device, wherever the operands are. Only
    machines with several GPUs pay for asking which one that is.
    """

    index = 2

    def from_device(self, a: Any, source: Backend, non_blocking: bool = False) -> Any:
        if not isinstance(a, self.ndarray) or a.data.device_id == self.id:
            take = super().from_device
            return on_device(self.runtime, self.id, take, (a, source, non_blocking), {})
        return self._from_peer(a, int(a.data.device_id))

    def _from_peer(self, a: Any, other: int) -> Any:
        """A copy from another device, in order with both devices' current streams."""
        cuda = self.cupy.cuda
        ours, theirs = cuda.get_current_stream(self.id), cuda.get_current_stream(other)
        ours.wait_event(on_device(self.runtime, other, self._marked, (theirs,), {}))
        out = self.copy(a)
        done = on_device(self.runtime, self.id, self._marked, (ours,), {})
        on_device(self.runtime, other, theirs.wait_event, (done,), {})
        return out

    def _marked(self, stream: Any) -> Any:
        event = self.cupy.cuda.Event(disable_timing=True)
        event.record(stream)
        return event

    def module(self) -> Any:
        self.runtime = self.cupy.cuda.runtime
        return Guarded(super().module(), self.runtime, self.id)

    def copy(self, a: Any) -> Any:      # a may be another device's, but the copy is made here
        return on_device(self.runtime, self.id, self.cupy.array, (a,), {"order": "C"})

    def new_generator(self, seed: int) -> CudaGenerator:
        return GuardedGenerator(self, seed)

    def guard(self, f: Any) -> Any:
        def run(*args: Any, **kw: Any) -> Any:
            return on_device(self.runtime, self.id, f, args, kw)
        return run


def on_device(runtime: Any, index: int, f: Any, args: Any, kw: Any) -> Any:
    """f(*args, **kw) with another device as the current one."""
    before = runtime.getDevice()
    if before == index:
        return f(*args, **kw)
    runtime.setDevice(index)
    try:
        return f(*args, **kw)
    finally:
        runtime.setDevice(before)


class Guarded:
    """A module or function of CuPy for one of several devices: called with it as the current one.

    The first array among the arguments tells the device, because all devices' ops share CuPy's
    ufuncs; without an array it is the module's own.
    """

    def __init__(self, target: Any, runtime: Any, index: int) -> None:
        self.target, self.runtime, self.index = target, runtime, index

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.target, name)
        if isinstance(found, types.ModuleType) or (callable(found) and not isinstance(found, type)):
            found = Guarded(found, self.runtime, self.index)
        setattr(self, name, found)                  # next time it is there
        return found

    def __call__(self, *args: Any, **kw: Any) -> Any:
        at = [a.data.device_id for a in args if hasattr(a, "data") and hasattr(a.data, "device_id")]
        return on_device(self.runtime, at[0] if at else self.index, self.target, args, kw)


def _guarded(method: Any) -> Any:
    @functools.wraps(method)
    def run(self: OneOfSeveral, *args: Any, **kw: Any) -> Any:
        return on_device(self.runtime, self.id, method, (self, *args), kw)
    return run


for _name, _method in list(vars(CudaBackend).items()):
    if callable(_method) and _name[0] != "_" and _name not in (
            "module", "address", "is_dense", "from_device", "new_generator"):
        setattr(OneOfSeveral, _name, _guarded(_method))


class GuardedGenerator(CudaGenerator):
    """The generator of one of several devices."""


def _drawn(method: Any) -> Any:
    @functools.wraps(method)
    def run(self: GuardedGenerator, *args: Any, **kw: Any) -> Any:
        return on_device(self.be.runtime, self.be.id, method, (self, *args), kw)
    return run


for _name in ("uniform normal random randint randperm bernoulli bernoulli_of exponential "
              "multinomial words").split():
    setattr(GuardedGenerator, _name, _drawn(getattr(CudaGenerator, _name)))
