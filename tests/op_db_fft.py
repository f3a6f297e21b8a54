"""The records of Fourier transforms. See op_db.py."""
from __future__ import annotations

import numpy as np

from op_db import Array, Draw, case, record


def complex_numbers(d: Draw, *shape: int) -> Array:
    return d.real(*shape) + 1j * d.real(*shape)


def c2c(x: Array, dims: tuple[int, ...], norm: str = "backward", inverse: bool = False) -> Array:
    return (np.fft.ifftn if inverse else np.fft.fftn)(x, None, dims, norm)


record("fft_c2c", c2c, lambda d: [
    case(complex_numbers(d, 3, 4), dims=(1,)), case(complex_numbers(d, 5), dims=(0,), inverse=True),
    case(complex_numbers(d, 2, 3, 2), dims=(0, 2), norm="ortho"),
    case(complex_numbers(d, 2, 3), dims=(0, 1), norm="forward", inverse=True),
    case(complex_numbers(d, 0, 3), dims=(1,))])
record("fft_r2c", lambda x, dim, norm="backward": np.fft.rfft(x, None, dim, norm), lambda d: [
    case(d.real(3, 4), dim=1), case(d.real(5), dim=0, norm="ortho"),
    case(d.real(3, 2), dim=0, norm="forward"), case(d.real(0, 3), dim=1)])
record("fft_c2r", lambda x, dim, n, norm="backward": np.fft.irfft(x, n, dim, norm), lambda d: [
    case(complex_numbers(d, 2, 3), dim=1, n=4), case(complex_numbers(d, 3), dim=0, n=5),
    case(complex_numbers(d, 3, 2), dim=0, n=5, norm="forward"),
    case(complex_numbers(d, 2, 1), dim=1, n=1, norm="ortho")])


def double_middle(x: Array, dim: int, count: int) -> Array:
    at = np.arange(x.shape[dim])
    kept = np.moveaxis(x, dim, -1) * ((at > 0) & (at <= count))
    return np.moveaxis(kept, -1, dim)


record("double_middle", double_middle, lambda d: [
    case(complex_numbers(d, 2, 3), dim=1, count=1), case(d.real(4), dim=0, count=2)])
