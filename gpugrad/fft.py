"""gpugrad.fft: discrete Fourier transforms, under the names of torch.fft."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gpugrad import dtypes
from gpugrad._tensor import Tensor
from gpugrad.autograd.rules import tensors as T
from gpugrad.dtypes import type_name
from gpugrad.factory import finish
from gpugrad.functions.arguments import cast, dim_of, public
from gpugrad.functions.rearranging import roll
from gpugrad.ops.fft import SAME_SCALE, one_sided

# Arguments ---------------------------------------------------------------------------------------


def _norm_of(norm: Any) -> str:
    norm = "backward" if norm is None else norm
    if norm not in SAME_SCALE:
        raise RuntimeError(f'Invalid normalization mode: "{norm}", not "forward", "backward" or '
                           '"ortho"')
    return norm


def _ready(x: Tensor, complex_too: bool) -> Tensor:
    """x as a dtype that can be transformed: floating, or complex with ``complex_too``."""
    dtype = x._a.dtype
    if dtype in dtypes.HALF:
        raise RuntimeError(f"Unsupported dtype {type_name(dtype)}: torch.fft takes float32 and "
                           "float64, as in x.float()")
    if dtype.kind in "iub":
        x = cast(x, dtypes.default_np())
    if complex_too and not x.is_complex():
        x = T.to(x, dtype=dtypes.OF[x._a.dtype].to_complex().np)
    return x


def _real(x: Tensor, name: str) -> Tensor:
    if x.is_complex():
        raise RuntimeError(f"{name} expects a real input tensor, but got {type_name(x._a.dtype)}")
    return _ready(x, False)


def _dim(x: Tensor, dim: int) -> int:
    if not x._a.ndim:
        raise IndexError(f"Dimension specified as {dim} but tensor has no dimensions")
    return dim_of(dim, x._a.ndim)


def _points(n: int) -> int:
    if n < 1:
        raise RuntimeError(f"Invalid number of data points ({n}) specified")
    return n


def _given(n: int | None) -> int | None:
    """The number of points of one dim, for which -1 has no meaning."""
    if n is not None and (isinstance(n, bool) or not hasattr(n, "__index__")):
        raise TypeError(f"argument 'n' must be int, not {type(n).__name__}")
    return None if n is None else _points(n)


def _resized(x: Tensor, sizes: Any, dims: Any) -> Tensor:
    """x cut off or filled up with zeros to some sizes of some dims; None and -1 leave one."""
    for n, d in zip(sizes, dims):
        have = x._a.shape[d]
        if n is None or n == -1 or n == have:
            _points(have)
        elif _points(n) < have:
            x = T.slice_(x, dim=d, start=0, stop=n)
        else:
            shape = (*x._a.shape[:d], n, *x._a.shape[d + 1:])
            x = T.slice_backward(x, shape=shape, dim=d, start=0, stop=have, step=1)
    return x


def _dims_and_sizes(x: Tensor, s: Any, dim: Any) -> tuple[list[int], list[Any]]:
    """The dims to transform, and their sizes or None."""
    n = x._a.ndim
    s = [s] if isinstance(s, int) else s
    if dim is not None:
        given = list(dim) if isinstance(dim, Sequence) else [dim]
        dims = [_dim(x, d) for d in given]
        if len(set(dims)) < len(dims):
            raise RuntimeError("FFT dims must be unique")
        if s is not None and len(s) != len(dims):
            raise RuntimeError("When given, dim and shape arguments must have the same length")
    elif s is not None:
        if len(s) > n:
            raise RuntimeError(f"Got shape with {len(s)} values but input tensor only has {n} "
                               "dimensions.")
        dims = list(range(n - len(s), n))
    else:
        dims = list(range(n))
    return dims, [None] * len(dims) if s is None else list(s)


# Complex to complex ------------------------------------------------------------------------------


def _c2c(x: Tensor, dims: Any, norm: str, inverse: bool) -> Tensor:
    if not dims:
        return T.clone(x)
    return T.fft_c2c(x, dims=tuple(dims), norm=norm, inverse=inverse)


def _one(x: Tensor, n: Any, dim: int, norm: Any, inverse: bool) -> Tensor:
    norm = _norm_of(norm)
    d = _dim(x, dim)
    return _c2c(_resized(_ready(x, True), [_given(n)], [d]), [d], norm, inverse)


def fft(input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None) -> Tensor:
    """The discrete Fourier transform of one dim, of n points."""
    return _one(input, n, dim, norm, False)


def ifft(input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None) -> Tensor:
    """The inverse of fft."""
    return _one(input, n, dim, norm, True)


def _several(x: Tensor, s: Any, dim: Any, norm: Any, inverse: bool) -> Tensor:
    norm = _norm_of(norm)
    dims, sizes = _dims_and_sizes(x, s, dim)
    return _c2c(_resized(_ready(x, True), sizes, dims), dims, norm, inverse)


def fftn(input: Tensor, s: Any = None, dim: Any = None, norm: str | None = None) -> Tensor:
    """The discrete Fourier transform of several dims."""
    return _several(input, s, dim, norm, False)


def ifftn(input: Tensor, s: Any = None, dim: Any = None, norm: str | None = None) -> Tensor:
    """The inverse of fftn."""
    return _several(input, s, dim, norm, True)


def _check_two(dim: Any) -> None:
    if dim is None:
        raise TypeError("argument 'dim' must be tuple of ints, not NoneType")


def fft2(input: Tensor, s: Any = None, dim: Any = (-2, -1), norm: str | None = None) -> Tensor:
    """The discrete Fourier transform of two dims."""
    _check_two(dim)
    return _several(input, s, dim, norm, False)


def ifft2(input: Tensor, s: Any = None, dim: Any = (-2, -1), norm: str | None = None) -> Tensor:
    """The inverse of fft2."""
    _check_two(dim)
    return _several(input, s, dim, norm, True)


# Real numbers and half of the frequencies --------------------------------------------------------


def _last_size(x: Tensor, sizes: list[Any], d: int) -> tuple[int, list[Any]]:
    """The number of real points of a transform to real numbers, and the sizes of its input."""
    n = sizes[-1]
    n = _points(2 * (x._a.shape[d] - 1) if n is None or n == -1 else n)
    return n, [*sizes[:-1], one_sided(n)]


def _check_some(dims: list[int], name: str) -> None:
    if not dims:
        raise RuntimeError(f"{name} must transform at least one axis")


def _to_half(x: Tensor, s: Any, dim: Any, norm: Any, name: str) -> Tensor:
    norm, x = _norm_of(norm), _real(x, name)
    dims, sizes = _dims_and_sizes(x, s, dim)
    _check_some(dims, name)
    x = T.fft_r2c(_resized(x, sizes, dims), dim=dims[-1], norm=norm)
    return _c2c(x, dims[:-1], norm, False) if dims[:-1] else x


def _from_half(x: Tensor, s: Any, dim: Any, norm: Any, name: str) -> Tensor:
    norm, x = _norm_of(norm), _ready(x, True)
    dims, sizes = _dims_and_sizes(x, s, dim)
    _check_some(dims, name)
    n, sizes = _last_size(x, sizes, dims[-1])
    x = _resized(x, sizes, dims)
    x = _c2c(x, dims[:-1], norm, True) if dims[:-1] else x
    return T.fft_c2r(x, dim=dims[-1], n=n, norm=norm)


def _hermitian(x: Tensor, s: Any, dim: Any, norm: Any, name: str) -> Tensor:
    """From half of a signal, whose other half is its conjugate, to real frequencies."""
    norm, x = _norm_of(norm), _ready(x, True)
    dims, sizes = _dims_and_sizes(x, s, dim)
    _check_some(dims, name)
    n, sizes = _last_size(x, sizes, dims[-1])
    x = _resized(x, sizes, dims)
    x = _c2c(x, dims[:-1], norm, False) if dims[:-1] else x
    return T.fft_c2r(T.conj_physical(x), dim=dims[-1], n=n, norm=SAME_SCALE[norm])


def _to_hermitian(x: Tensor, s: Any, dim: Any, norm: Any, name: str) -> Tensor:
    norm, x = _norm_of(norm), _real(x, name)
    dims, sizes = _dims_and_sizes(x, s, dim)
    _check_some(dims, name)
    x = T.fft_r2c(_resized(x, sizes, dims), dim=dims[-1], norm=SAME_SCALE[norm])
    x = T.conj_physical(x)
    return _c2c(x, dims[:-1], norm, True) if dims[:-1] else x


_KINDS: dict[str, tuple[Any, str]] = {
    "rfft": (_to_half, "The transform of real numbers: the frequencies up to the half."),
    "irfft": (_from_half, "The inverse of rfft: real numbers, 2 * (size - 1) of them by default."),
    "hfft": (_hermitian, "The real frequencies of a signal given by its half."),
    "ihfft": (_to_hermitian, "The inverse of hfft."),
}


def _family(name: str) -> None:
    kind, text = _KINDS[name]

    def one(input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None) -> Tensor:
        return kind(input, _given(n), _dim(input, dim), norm, name)

    def two(input: Tensor, s: Any = None, dim: Any = (-2, -1), norm: str | None = None) -> Tensor:
        _check_two(dim)
        return kind(input, s, dim, norm, name + "n")

    def several(input: Tensor, s: Any = None, dim: Any = None, norm: str | None = None) -> Tensor:
        return kind(input, s, dim, norm, name + "n")
    for function, suffix, dims in ((one, "", ""), (two, "2", " Of two dims."),
                                   (several, "n", " Of several dims, the last one halved.")):
        function.__name__ = function.__qualname__ = name + suffix
        function.__doc__ = text + dims
        globals()[name + suffix] = function


for _name in _KINDS:
    _family(_name)

# Frequencies -------------------------------------------------------------------------------------


def _frequencies(function: Any, n: int, d: float, dtype: Any, device: Any,
                 requires_grad: bool) -> Tensor:
    from gpugrad.backend import get
    be = get(device)
    if isinstance(n, bool) or not hasattr(n, "__index__"):
        raise TypeError(f"{function.__name__}(): argument 'n' (position 1) must be int, not "
                        f"{type(n).__name__}")
    a = function(n, d).astype(dtypes.default_np() if dtype is None else dtypes.as_dtype(dtype).np)
    return finish(be.from_host(np.ascontiguousarray(a)), be, requires_grad)


def fftfreq(n: int, d: float = 1.0, *, dtype: Any = None, layout: Any = None, device: Any = None,
            requires_grad: bool = False) -> Tensor:
    """The frequencies of fft's n results, in cycles a unit, for points d units apart."""
    return _frequencies(np.fft.fftfreq, n, d, dtype, device, requires_grad)


def rfftfreq(n: int, d: float = 1.0, *, dtype: Any = None, layout: Any = None, device: Any = None,
             requires_grad: bool = False) -> Tensor:
    """The frequencies of rfft's results for n points."""
    return _frequencies(np.fft.rfftfreq, n, d, dtype, device, requires_grad)


def _shifted(x: Tensor, dim: Any, sign: int) -> Tensor:
    if dim is None:
        dims = list(range(x._a.ndim))
    else:
        dims = [dim_of(d, x._a.ndim) for d in (dim if isinstance(dim, Sequence) else [dim])]
    if not dims:
        return T.clone(x)
    half = [x._a.shape[d] // 2 if sign > 0 else (x._a.shape[d] + 1) // 2 for d in dims]
    return roll(x, half, dims)


def fftshift(input: Tensor, dim: Any = None) -> Tensor:
    """The frequency 0 in the middle."""
    return _shifted(input, dim, 1)


def ifftshift(input: Tensor, dim: Any = None) -> Tensor:
    """The inverse of fftshift."""
    return _shifted(input, dim, -1)


_NAMES = ["fft", "ifft", "fft2", "ifft2", "fftn", "ifftn", "fftshift", "ifftshift",
          *[name + suffix for name in _KINDS for suffix in ("", "2", "n")]]
globals().update({name: public(globals()[name]) for name in _NAMES})

__all__ = sorted([*_NAMES, "fftfreq", "rfftfreq"])
