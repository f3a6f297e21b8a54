"""CUDA devices: CuPy, looked for at the first request and imported only here, and our kernels."""
from __future__ import annotations

import functools
import types
from typing import Any

import numpy as np

from gpugrad.backend.base import Backend
from gpugrad.backend.columns import out_size
from gpugrad.backend.kernels import Kernels, windows
from gpugrad.backend.random import DEFAULT_SEED, PhiloxGenerator, unsigned_seed
from gpugrad.device import device

Pair = tuple[int, int]

_INSTALL = 'pip install "gpugrad[cuda12]", or "gpugrad[cuda13]" with a driver for CUDA 13'


# Which devices there are -------------------------------------------------------------------------

@functools.cache
def usable() -> tuple[Any, str]:
    """(cupy, ""), or (None, why CUDA can't be used and what to do). Never raises; looks once."""
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


def needed() -> Any:
    """CuPy; RuntimeError with the reason if CUDA can't be used."""
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
        return OneOfSeveral(d, cupy)


# Seeds are kept here, so that seeding doesn't need CuPy: by index, and None for the other devices.
_seeds: dict[int | None, int] = {None: DEFAULT_SEED}
_made: dict[int, CudaBackend] = {}


def in_use() -> bool:
    """Whether a CUDA device has been asked for by now."""
    return bool(_made)


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
    column_bytes = 1 << 28
    chunk = 1 << 62

    def __init__(self, d: device, cupy: Any) -> None:
        super().__init__(d)
        self.id, self.cupy = d.index or 0, cupy
        self.xp, self.ndarray = self.module(), cupy.ndarray
        self.kernels = Kernels(self)
        self.generator = CudaGenerator(self, _seeds.get(self.id, _seeds[None]))
        _made[self.id] = self

    def module(self) -> Any:
        """What ops find as ``be.xp``."""
        return Module(self.cupy)

    # Memory --------------------------------------------------------------------------------------

    def asarray(self, a: Any) -> Any:
        return a if isinstance(a, self.ndarray) else self.xp.asarray(a)

    def scalar(self, value: Any, dtype: Any) -> Any:
        if self.capturing:      # it would be written at each replay, into memory of the recording
            raise RuntimeError(f"the number {value} is used for the first time while a step is "
                               f"recorded: run the step once before recording it")
        checked = np.asarray(value, dtype)[()]      # NumPy raises if it is out of range
        return self.xp.full((), checked, dtype)

    def from_host(self, a: Any) -> Any:
        return self.xp.asarray(a, order="C")

    def from_device(self, a: Any, source: Backend) -> Any:
        if isinstance(a, self.ndarray):
            return self.copy(a)                     # between GPUs, not by way of the host
        return self.from_host(source.to_host(a))

    def to_host(self, a: Any) -> Any:
        if self.capturing:
            raise RuntimeError(f"a tensor of shape {list(a.shape)} on {self.name} is read by the "
                               f"host (.item(), .cpu(), print, if ...) while a step is recorded: "
                               f"keep it on the device and read it after the replay")
        return self.xp.asnumpy(a, order="C")

    def is_dense(self, a: Any) -> bool:
        return bool(a.flags.forc)                   # CuPy's arrays can always be written to

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

    def matmul(self, a: Any, b: Any, out: Any = None) -> Any:
        # float16: CuPy sums 2-D products in float32, and makes batched ones in float32 throughout.
        if out is None:
            return self.xp.matmul(a, b)
        if out.flags.c_contiguous:
            return self.xp.matmul(a, b, out=out)
        out[...] = self.xp.matmul(a, b)
        return out

    def erf(self, x: Any) -> Any:
        from cupyx.scipy.special import erf

        return erf(x)

    def diagonal(self, x: Any, offset: int, dim1: int, dim2: int) -> Any:
        return x.diagonal(offset, dim1, dim2)       # CuPy's can be written to

    # Kernels -------------------------------------------------------------------------------------

    def launch(self, file: str, name: str, grid: Any, block: Any, args: Any, dtype: Any) -> None:
        self.kernels.launch(file, name, grid, block, args, dtype)

    def map(self, file: str, name: str, *arrays: Any) -> Any:
        """What an elementwise kernel makes of arrays of one shape and dtype: a new array.

        NotImplemented if there is no kernel for them: the caller then takes the portable way.
        """
        x = arrays[0]
        alike = all(a.dtype == x.dtype and a.shape == x.shape for a in arrays)
        if not alike or not self.kernels.take(x.dtype):
            return NotImplemented
        out = self.empty(x.shape, x.dtype)
        self.kernels.each(file, name, x.dtype, out.size, [*map(self._dense, arrays), out])
        return out

    def philox(self, n: int, seed: int, offset: int) -> Any:
        """n random words, uint32, of a seed's stream; NotImplemented without kernels."""
        if not self.kernels.on:
            return NotImplemented
        words = self.empty((n,), np.uint32)
        blocks = min(-(-n // 1024), 1 << 16)        # a thread makes four words
        self.kernels.launch("random", "philox", (blocks,), (256,),
                            (words, np.int64(n), np.uint64(seed), np.uint64(offset)), np.float32)
        return words

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

    # Pooling: x is (..., h, w), pairs are (rows, columns); NotImplemented where there is no kernel.

    def max_pool2d(self, x: Any, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair,
                   out_hw: Pair) -> Any:
        """(the maxima, their int32 positions in the plane of h * w)."""
        size = x.shape[-2:]
        if not self.kernels.take(x.dtype) or size[0] * size[1] >= 1 << 31:
            return NotImplemented
        y = self.empty((*x.shape[:-2], *out_hw), x.dtype)
        indices = self.empty(y.shape, np.int32)
        self.kernels.each("pool", "max_pool2d", x.dtype, y.size, (self._dense(x), y, indices),
                          windows(size, tuple(out_hw), kernel, stride, padding, dilation))
        return y, indices

    def max_pool2d_backward(self, g: Any, indices: Any, x_shape: Any, kernel: Pair, stride: Pair,
                            padding: Pair, dilation: Pair) -> Any:
        """The gradient of x: each pixel gathers from the windows whose maximum it is."""
        if indices.dtype != np.int32:
            return NotImplemented
        win = windows(tuple(x_shape[-2:]), g.shape[-2:], kernel, stride, padding, dilation)
        return self._pool("max_pool2d_backward", (g, indices), x_shape, win)

    def avg_pool2d(self, x: Any, kernel: Pair, stride: Pair, padding: Pair, out_hw: Pair,
                   count_include_pad: bool, divisor: int | None) -> Any:
        """The means of windows, or their sums over ``divisor``."""
        win = windows(x.shape[-2:], tuple(out_hw), kernel, stride, padding)
        return self._pool("avg_pool2d", (x,), (*x.shape[:-2], *out_hw), win,
                          np.int32(count_include_pad), np.int32(divisor or 0))

    def avg_pool2d_backward(self, g: Any, x_shape: Any, kernel: Pair, stride: Pair, padding: Pair,
                            count_include_pad: bool, divisor: int | None) -> Any:
        """The gradient of avg_pool2d's x."""
        win = windows(tuple(x_shape[-2:]), g.shape[-2:], kernel, stride, padding)
        return self._pool("avg_pool2d_backward", (g,), x_shape, win,
                          np.int32(count_include_pad), np.int32(divisor or 0))

    def adaptive_avg_pool2d(self, x: Any, out_hw: Pair) -> Any:
        """The means of out_hw cells that together cover the plane."""
        win = windows(x.shape[-2:], tuple(out_hw))
        return self._pool("adaptive_avg_pool2d", (x,), (*x.shape[:-2], *out_hw), win)

    def adaptive_avg_pool2d_backward(self, g: Any, x_shape: Any) -> Any:
        """The gradient of adaptive_avg_pool2d's x."""
        win = windows(tuple(x_shape[-2:]), g.shape[-2:])
        return self._pool("adaptive_avg_pool2d_backward", (g,), x_shape, win)

    def _pool(self, name: str, arrays: Any, shape: Any, win: Any, *rest: Any) -> Any:
        """Run a kernel of pool.cu from ``arrays`` to a new array of ``shape``."""
        dtype = arrays[0].dtype
        if not self.kernels.take(dtype):
            return NotImplemented
        out = self.empty(tuple(shape), dtype)
        self.kernels.each("pool", name, dtype, out.size, [*map(self._dense, arrays), out], win,
                          *rest)
        return out


def _windows(shape: Any, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair) -> Any:
    """(the struct for kernels, how many windows) on images (n, c, h, w)."""
    size = tuple(shape[2:])
    count = tuple([out_size(*a) for a in zip(size, kernel, stride, padding, dilation)])
    return windows(size, count, kernel, stride, padding, dilation), count


class Module:
    """CuPy's module, whose ufuncs have all the reductions that NumPy's have and CuPy's lack."""

    def __init__(self, cupy: Any) -> None:
        self._cupy = cupy
        for ufunc, reduction in (("maximum", "max"), ("minimum", "min"), ("logical_and", "all"),
                                 ("logical_or", "any")):
            setattr(self, ufunc, Reducing(getattr(cupy, ufunc), getattr(cupy, reduction)))

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._cupy, name)
        setattr(self, name, found)                  # next time it is there
        return found


class Reducing:
    """A ufunc with ``reduce``."""

    def __init__(self, ufunc: Any, reduction: Any) -> None:
        self._ufunc, self._reduction = ufunc, reduction

    def __call__(self, *args: Any, **kw: Any) -> Any:
        return self._ufunc(*args, **kw)

    def reduce(self, x: Any, axis: Any = 0, dtype: None = None, out: Any = None,
               keepdims: bool = False) -> Any:
        return self._reduction(x, axis, out, keepdims)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ufunc, name)


class CudaGenerator(PhiloxGenerator):
    """The Philox generator with words from kernels/random.cu."""

    def words(self, n: int) -> Any:
        words = self.be.philox(n, self._seed, self.offset)
        if words is NotImplemented:
            return super().words(n)
        self.offset = (self.offset + (n + 3) // 4) % (1 << 64)
        return words


# Several devices ---------------------------------------------------------------------------------

class OneOfSeveral(CudaBackend):
    """A CUDA device among others: what is asked of it runs with it as the current device.

    CuPy allocates and launches on the thread's current device, wherever the operands are. Only
    machines with several GPUs pay for asking which one that is.
    """

    index = 2

    def module(self) -> Any:
        self.runtime = self.cupy.cuda.runtime
        return Guarded(super().module(), self.runtime, self.id)

    def copy(self, a: Any) -> Any:      # a may be another device's, but the copy is made here
        return on_device(self.runtime, self.id, self.cupy.array, (a,), {"order": "C"})

    def guard(self, f: Any) -> Any:
        """f, run with this device as the current one."""
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
    if callable(_method) and _name[0] != "_" and _name not in ("module", "address", "is_dense"):
        setattr(OneOfSeveral, _name, _guarded(_method))
OneOfSeveral.empty = _guarded(Backend.empty)      # type: ignore[method-assign]
