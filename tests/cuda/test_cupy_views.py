"""Views of CuPy's arrays have the base that backward goes by: the real CuPy's, without a GPU."""
from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpugrad as torch
from gpugrad.backend.cupy_functions import as_strided

VIEWS: dict[str, Callable[[Any, Any], Any]] = {
    "T": lambda cp, a: a.T, "slice": lambda cp, a: a[1:], "integer": lambda cp, a: a[1],
    "element": lambda cp, a: a[1, 1], "ellipsis": lambda cp, a: a[...],
    "None": lambda cp, a: a[None], "view": lambda cp, a: a.view(),
    "view of a dtype": lambda cp, a: a.view("i4"), "reshape": lambda cp, a: a.reshape(16),
    "ravel": lambda cp, a: a.ravel(), "transpose": lambda cp, a: a.transpose(1, 0),
    "swapaxes": lambda cp, a: a.swapaxes(0, 1), "diagonal": lambda cp, a: a.diagonal(),
    "squeeze": lambda cp, a: a[None].squeeze(0), "flip": lambda cp, a: cp.flip(a, 0),
    "broadcast_to": lambda cp, a: cp.broadcast_to(a[:1], (4, 4)),
    "moveaxis": lambda cp, a: cp.moveaxis(a, 0, 1), "split": lambda cp, a: cp.split(a, 2)[1],
    "expand_dims": lambda cp, a: cp.expand_dims(a, 0), "rot90": lambda cp, a: cp.rot90(a),
    "real": lambda cp, a: a.real, "real of complex": lambda cp, a: a.view("c8").real,
    "imag of complex": lambda cp, a: a.view("c8").imag,
    "ascontiguousarray": lambda cp, a: cp.ascontiguousarray(a),
    "CuPy's as_strided": lambda cp, a: cp.lib.stride_tricks.as_strided(a, (2, 3), (4, 16)),
    "as_strided": lambda cp, a: as_strided(a[1:], (2, 3), (4, 16))}


def seen(cp: Any, a: Any) -> str:
    """What each view of a (4, 4) array of float32 looks like."""
    lines = []
    for name, make in VIEWS.items():
        v = make(cp, a)
        base = "itself" if v is a else "the array" if v.base is a else v.base
        lines.append(f"{name}: {base}, {v.shape}, {v.strides}, {v.dtype}, {v.flags.c_contiguous}, "
                     f"{v.flags.f_contiguous}, {v.data.ptr - a.data.ptr}")
    return "\n".join(lines)


def real() -> str:
    """seen() of the real CuPy; "" without it."""
    try:
        import cupy
    except ImportError:
        return ""
    memory = cupy.cuda.UnownedMemory(1 << 16, 64, None, 0)  # nothing looks into it
    return seen(cupy, cupy.ndarray((4, 4), np.float32, cupy.cuda.MemoryPointer(memory, 0)))


def test_the_simulated_device_has_cupys_views() -> None:
    from gpugrad.cudasim import cupy as simulated

    found = seen(simulated, simulated.zeros((4, 4), np.float32))
    assert "\nas_strided: the array, (2, 3), (4, 16)" in found
    assert "\nCuPy's as_strided: None, (2, 3), (4, 16)" in found
    here = Path(__file__)                        # another process: in this one cupy is simulated
    code = f"import sys; sys.path.insert(0, {str(here.parent)!r}); import {here.stem} as t; "
    environment = {k: v for k, v in os.environ.items() if k != "GPUGRAD_CUDA"}
    said = subprocess.run([sys.executable, "-c", code + "print(t.real(), end='')"],
                          env=environment, capture_output=True, text=True, check=True).stdout
    if not said:
        pytest.skip("CuPy isn't installed")
    assert found == said


@pytest.mark.gpu
def test_views_by_strides_know_their_memory() -> None:
    x = torch.arange(8.0, device="cuda")[1:]
    for view in x.unfold(0, 2, 2), x.as_strided((2, 2), (1, 1), 1), torch.view_as_real(
            torch.complex(x, x))[1:]:
        assert view.storage_offset() in (1, 2) and view._base is not None


@pytest.mark.gpu
def test_a_view_of_a_gradient_is_not_added_to() -> None:
    x = torch.ones(4, device="cuda", requires_grad=True)
    g = torch.arange(8.0, device="cuda")
    kept, h = g.clone(), x * 1
    first = torch.zeros(8, device="cuda").as_strided_scatter(h, (4,), (2,))
    second = torch.zeros(8, device="cuda").as_strided_scatter(h, (4,), (2,))
    (first + second).backward(g)                 # both rules give the same view of g
    assert g.equal(kept) and x.grad is not None and x.grad.equal(2 * kept[::2])
    h, taken = x * 1, torch.zeros(4, device="cuda")
    first, second = taken.as_strided_scatter(h, (4,), (1,)), taken.as_strided_scatter(h, (4,), (1,))
    (first + second).backward(g[:4])
    assert g.equal(kept)
