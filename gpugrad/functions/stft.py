"""Fourier transforms of windows of a signal, and the signal from them."""
from __future__ import annotations

import warnings
from typing import Any

from gpugrad import dtypes
from gpugrad._tensor import Tensor, wrap
from gpugrad.autograd.rules import tensors as T
from gpugrad.dtypes import type_name
from gpugrad.functions.padding import pad
from gpugrad.ops.fft import one_sided


def _window(x: Tensor, window: Tensor | None, n_fft: int, win_length: int, name: str) -> Tensor:
    """The window with zeros on both sides up to n_fft; ones without one."""
    if window is None:
        kind = dtypes.OF[x._a.dtype].to_real().np
        window = wrap(x._be.xp.ones(win_length, kind), x._be)
    elif window._a.ndim != 1 or window._a.size != win_length:
        raise RuntimeError(f"{name}: expected a 1D window tensor of size equal to "
                           f"win_length={win_length}, but got window with size "
                           f"{list(window._a.shape)}")
    if win_length == n_fft:
        return window
    left = (n_fft - win_length) // 2
    return pad(window, (left, n_fft - win_length - left))


def _lengths(n_fft: int, hop_length: Any, win_length: Any) -> tuple[int, int]:
    return (n_fft // 4 if hop_length is None else hop_length,
            n_fft if win_length is None else win_length)


def stft(input: Tensor, n_fft: int, hop_length: int | None = None, win_length: int | None = None,
         window: Tensor | None = None, center: bool = True, pad_mode: str = "reflect",
         normalized: bool = False, onesided: bool | None = None,
         return_complex: bool | None = None, align_to_window: bool | None = None) -> Tensor:
    """Spectra of windows of n_fft points, hop_length apart: (..., frequencies, windows).

    center: window t is centred at t * hop_length, the signal being continued by ``pad_mode``.
    normalized: by 1 / sqrt(n_fft). return_complex=False gives pairs in a last dim.
    """
    hop, length = _lengths(n_fft, hop_length, win_length)
    if return_complex is None:
        if not input.is_complex() and not (window is not None and window.is_complex()):
            raise RuntimeError("stft requires the return_complex parameter be given for real "
                               "inputs, and will further require that return_complex=True in a "
                               "future PyTorch release.")
        return_complex = True
    if align_to_window is not None and center:
        raise RuntimeError("stft align_to_window should only be set when center = false")
    if input._a.dtype.kind not in dtypes.INEXACT:
        raise RuntimeError("stft: expected a tensor of floating point or complex values, not of "
                           f"{type_name(input._a.dtype)}")
    if input._a.ndim not in (1, 2):
        raise RuntimeError("stft: expected a 1D or 2D tensor, but got one of shape "
                           f"{list(input._a.shape)}")
    x = input if input._a.ndim == 2 else T.unsqueeze(input, dim=0)
    if center:
        half = n_fft // 2
        x = T.squeeze(pad(T.unsqueeze(x, dim=1), (half, half), pad_mode), dim=(1,))
    size = x._a.shape[1]
    if not 0 < n_fft <= size:
        raise RuntimeError(f"stft: expected 0 < n_fft < {size}, but got n_fft={n_fft}")
    if hop <= 0:
        raise RuntimeError(f"stft: expected hop_length > 0, but got hop_length={hop}")
    if not 0 < length <= n_fft:
        raise RuntimeError(f"stft: expected 0 < win_length <= n_fft, but got win_length={length}")
    w = _window(x, window, n_fft, length, "stft")
    frames = T.unfold_dim(x, dim=1, size=n_fft, step=hop) * w
    norm = "ortho" if normalized else "backward"
    onesided = not frames.is_complex() if onesided is None else onesided
    if onesided and frames.is_complex():
        raise RuntimeError("Cannot have onesided output if window or input is complex")
    if onesided:
        out = T.fft_r2c(frames, dim=2, norm=norm)
    else:
        out = T.fft_c2c(_complex(frames), dims=(2,), norm=norm)
    out = T.transpose(out, dim0=1, dim1=2)
    out = out if input._a.ndim == 2 else T.squeeze(out, dim=(0,))
    if return_complex:
        return out
    warnings.warn("stft with return_complex=False is deprecated: pass return_complex=True, and use "
                  "torch.view_as_real() for pairs of real numbers", stacklevel=3)
    return T.view_as_real(out)


def _complex(x: Tensor) -> Tensor:
    return x if x.is_complex() else T.to(x, dtype=dtypes.OF[x._a.dtype].to_complex().np)


def istft(input: Tensor, n_fft: int, hop_length: int | None = None, win_length: int | None = None,
          window: Tensor | None = None, center: bool = True, normalized: bool = False,
          onesided: bool | None = None, length: int | None = None,
          return_complex: bool = False) -> Tensor:
    """The signal of which stft gave these spectra: overlapping windows added, over the sum of the
    squares of the windows. length: cut or filled up to so many points."""
    hop, win = _lengths(n_fft, hop_length, win_length)
    if not input.is_complex():
        raise RuntimeError("istft requires a complex-valued input tensor matching the output from "
                           "stft with return_complex=True.")
    if input._a.ndim not in (2, 3) or not input._a.size:
        raise RuntimeError("istft: expected a tensor with 2 or 3 dims and elements, but got one of "
                           f"shape {list(input._a.shape)}")
    x = input if input._a.ndim == 3 else T.unsqueeze(input, dim=0)
    bins, frames = x._a.shape[1:]
    onesided = bins != n_fft if onesided is None else onesided
    want = one_sided(n_fft) if onesided else n_fft
    if bins != want:
        raise RuntimeError("istft: expected the frequency dimension (3rd to the last) of the input "
                           f"tensor to match {'n_fft / 2 + 1' if onesided else 'n_fft'} when "
                           f"onesided={onesided}, but got {bins}")
    if not 0 < hop <= win:
        raise RuntimeError(f"istft: expected 0 < hop_length <= win_length, but got {hop}")
    if not 0 < win <= n_fft:
        raise RuntimeError(f"istft: expected 0 < win_length <= n_fft, but got {win}")
    if onesided and return_complex:
        raise RuntimeError("cannot have onesided input and return_complex=True: a one-sided "
                           "spectrum is that of real numbers")
    w = _window(x, window, n_fft, win, "istft")
    x = T.transpose(x, dim0=1, dim1=2)
    norm = "ortho" if normalized else "backward"
    if return_complex:
        parts = T.fft_c2c(x, dims=(2,), norm=norm, inverse=True)
    else:
        x = x if onesided else T.slice_(x, dim=2, start=0, stop=one_sided(n_fft))
        parts = T.fft_c2r(x, dim=2, n=n_fft, norm=norm)
    size = n_fft + hop * (frames - 1)
    y = T.unfold_backward(parts * w, shape=(x._a.shape[0], size), dim=1, size=n_fft, step=hop)
    square = T.expand(T.unsqueeze(w * w, dim=0), shape=(frames, n_fft))
    envelope = T.unfold_backward(square, shape=(size,), dim=0, size=n_fft, step=hop)
    start = n_fft // 2 if center else 0
    stop = start + length if length is not None else size - (n_fft // 2 if center else 0)
    end = min(stop, size)
    y = T.slice_(y, dim=1, start=start, stop=max(end, start))
    envelope = T.slice_(envelope, dim=0, start=start, stop=max(end, start))
    if x._be.index == 0 and envelope._a.size and abs(envelope._a).min() < 1e-11:
        raise RuntimeError("window overlap add min: 1 -- istft: the windows leave points uncovered "
                           f"(n_fft={n_fft}, hop_length={hop}, win_length={win})")
    y = y / envelope
    if stop > end:
        warnings.warn("The length of signal is shorter than the length parameter. Result is being "
                      "padded with zeros in the tail. Please check your center and hop_length "
                      "settings.", stacklevel=3)
        y = T.pad_to(y, shape=(y._a.shape[0], stop - start))
    return y if input._a.ndim == 3 else T.squeeze(y, dim=(0,))
