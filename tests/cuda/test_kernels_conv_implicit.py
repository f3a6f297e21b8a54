"""Convolution on tensor cores against the definition in float64, of the same rounded operands."""
from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from gpugrad import backend, dtypes
from gpugrad.backend import cuda, kernels, precision
from gpugrad.backend.columns import out_hw
from gpugrad.ops import conv_implicit as implicit

pytestmark = pytest.mark.gpu

# Of the largest result: the last place of a result of 16 bits, what sums lose for float32.
UNTIL = {"float32": 1e-5, "float16": 1e-3, "bfloat16": 8e-3}
ONE, NONE = (1, 1), (0, 0)

# images, channels out, kernel, stride, padding, dilation
GEOMETRIES = [
    ((2, 8, 7, 6), 16, (3, 3), ONE, ONE, ONE),
    ((2, 5, 9, 7), 10, (3, 2), (2, 1), (1, 0), (1, 2)),      # channels that are no whole chunks
    ((2, 24, 8, 9), 40, (3, 3), (2, 2), ONE, ONE),
    ((2, 3, 8, 8), 9, ONE, (2, 3), NONE, ONE),               # phases without taps
    ((1, 4, 13, 12), 8, (3, 3), (3, 2), (2, 3), (2, 4)),     # common factors of stride, dilation
    ((3, 16, 4, 4), 8, (4, 4), ONE, NONE, ONE),              # one result from each image
]


@pytest.fixture
def be() -> Any:
    be = backend.get("cuda")
    if be.gemm.capability() < implicit.CAPABILITY:
        pytest.skip("the device has no such tensor cores")
    return be


@pytest.fixture(params=["float32", "float16", "bfloat16"])
def dtype(request: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The kernels for bfloat16 are those with 64-bit indices here."""
    if request.param == "bfloat16":
        monkeypatch.setattr(kernels, "NARROW", 0)
    return request.param


def tf32(a: Any) -> Any:
    bits = a.astype(np.float32).view(np.uint32)
    return ((bits + 0x1000) & 0xffffe000).astype(np.uint32).view(np.float32)


def real(shape: Any, dtype: str, seed: int) -> Any:
    a = np.random.default_rng(seed).normal(size=shape)
    return tf32(a) if dtype == "float32" else a.astype(getattr(dtypes, dtype).np)


def on(be: Any, a: Any, last: bool) -> Any:
    if not last:
        return be.from_host(a)
    return be.from_host(np.ascontiguousarray(a.transpose(0, 2, 3, 1))).transpose(0, 3, 1, 2)


def taps(x: Any, kernel: Any, stride: Any, padding: Any, dilation: Any) -> Iterator[Any]:
    """(row, column, the view of padded images that it meets) of each tap."""
    oh, ow = out_hw(x.shape, kernel, stride, padding, dilation)
    wide = x if padding == NONE else np.pad(
        x, ((0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2))
    for r in range(kernel[0]):
        for s in range(kernel[1]):
            top, side = r * dilation[0], s * dilation[1]
            yield r, s, wide[:, :, top:top + stride[0] * (oh - 1) + 1:stride[0],
                             side:side + stride[1] * (ow - 1) + 1:stride[1]]


def convolution(x: Any, w: Any, *how: Any) -> Any:
    return sum(np.einsum("nchw,kc->nkhw", view, w[:, :, r, s])
               for r, s, view in taps(x, w.shape[2:], *how))


def of_input(g: Any, w: Any, x_shape: Any, *how: Any) -> Any:
    (ph, pw), (n, c, h, v) = how[1], x_shape
    out = np.zeros((n, c, h + 2 * ph, v + 2 * pw))
    for r, s, view in taps(out, w.shape[2:], how[0], NONE, how[2]):
        view += np.einsum("nkhw,kc->nchw", g, w[:, :, r, s])        # a view of out
    return out[:, :, ph:ph + h, pw:pw + v]


def of_weight(g: Any, x: Any, w_shape: Any, *how: Any) -> Any:
    out = np.zeros(w_shape)
    for r, s, view in taps(x, w_shape[2:], *how):
        out[:, :, r, s] = np.einsum("nkhw,nchw->kc", g, view)
    return out


def results(be: Any, dtype: str, geometry: Any, last: bool, bias: bool = True) -> Any:
    """((name, what the kernels make), ...), and what it should be."""
    shape, k, kernel, *how = geometry
    size = out_hw(shape, kernel, *how)
    x, w, g = (real(s, dtype, i) for i, s in enumerate((
        shape, (k, shape[1], *kernel), (shape[0], k, *size))))
    b = real((k,), dtype, 3) if bias else None
    dx, dw, dg = (on(be, a, last) for a in (x, w, g))
    got = (implicit.forward(be, dx, dw, be.from_host(b) if bias else None, *how, 1),
           implicit.grad_input(be, dg, dw, shape, *how, 1),
           implicit.grad_weight(be, dg, dx, w.shape, *how, 1))
    x, w, g = (a.astype(np.float64) for a in (x, w, g))
    y = convolution(x, w, *how)
    want = (y + b.astype(np.float64).reshape(-1, 1, 1) if bias else y,
            of_input(g, w, shape, *how), of_weight(g, x, w.shape, *how))
    return got, want


def agree(be: Any, dtype: str, got: Any, want: Any, last: bool) -> None:
    for a, b in zip(got, want, strict=True):
        assert a.shape == b.shape and a.dtype == getattr(dtypes, dtype).np
        order = a.transpose(0, 2, 3, 1) if last else a
        assert order.flags.c_contiguous
        np.testing.assert_allclose(be.to_host(a).astype(np.float64), b, rtol=0,
                                   atol=UNTIL[dtype] * max(1, np.abs(b).max()))


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
@pytest.mark.parametrize("last", [True, False])
def test_convolution_and_its_gradients(be: Any, dtype: str, geometry: Any, last: bool) -> None:
    agree(be, dtype, *results(be, dtype, geometry, last, bias=last), last)


@pytest.mark.parametrize("tile", implicit.TILES, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_every_tile(be: Any, dtype: str, tile: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than one tile in both directions, none full, and more steps than the ring has stages."""
    monkeypatch.setattr(implicit, "TILES", (tile,))
    least = tile if tile in implicit.WEIGHT_TILES else (64, 64)
    monkeypatch.setattr(implicit, "WEIGHT_TILES", (least,))
    names: list[str] = []
    launch = kernels.Kernels.launch

    def noted(self: Any, file: str, name: str, *rest: Any) -> None:
        names.append(name)
        launch(self, file, name, *rest)
    monkeypatch.setattr(kernels.Kernels, "launch", noted)
    for cache in implicit.planned, implicit.split:
        cache.cache_clear()
    geometry = ((2, 40, 9, 8), tile[1] + 8, (2, 1), ONE, ONE, ONE)
    agree(be, dtype, *results(be, dtype, geometry, True), True)
    for cache in implicit.planned, implicit.split:
        cache.cache_clear()
    size = "{}x{}".format(*tile)
    assert names.count(f"conv_implicit_{size}") == 2
    assert f"conv_implicit_weight_{least[0]}x{least[1]}" in names


def test_many_slices(be: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sum of a weight's gradient goes in slices, even of a single step; several threads add."""
    monkeypatch.setattr(implicit, "LEAST_STEPS", 1)
    implicit.split.cache_clear()
    shape = 2, 8, 12, 12
    slices = implicit.split(2, shape, (3, 3), shape[2:], ONE, ONE, ONE, 4)[1]
    assert slices == 18 > 2 * implicit.SHARE
    for last in True, False:
        geometry = shape, 8, (3, 3), ONE, ONE, ONE
        agree(be, "float32", *results(be, "float32", geometry, last), last)
    implicit.split.cache_clear()


@pytest.mark.parametrize("order", ["reversed", "5"])
def test_every_order_of_threads_gives_the_same_bits(be: Any, order: str) -> None:
    if not cuda.simulated():
        pytest.skip("the simulated device has orders")
    from gpugrad.cudasim.kernel import settings
    for last in True, False:
        one = results(be, "float16", GEOMETRIES[2], last)[0]
        with settings.using(order=order):
            other = results(be, "float16", GEOMETRIES[2], last)[0]
        for a, b in zip(one, other, strict=True):
            assert (be.to_host(a) == be.to_host(b)).all()


def test_float32_is_rounded_to_tf32(be: Any) -> None:
    rng = np.random.default_rng(7)
    x, w = (rng.normal(size=s).astype(np.float32) for s in ((2, 12, 5, 5), (8, 12, 3, 3)))
    how = ONE, ONE, ONE
    got = be.to_host(implicit.forward(be, be.from_host(x), be.from_host(w), None, *how, 1))
    exact, rounded = (convolution(*[f(a).astype(np.float64) for a in (x, w)], *how)
                      for f in (np.asarray, tf32))
    np.testing.assert_allclose(got, rounded, rtol=0, atol=1e-5 * np.abs(rounded).max())
    assert np.abs(got - exact).max() > 1e-4


@pytest.mark.parametrize("last", [True, False])
def test_positive_part(be: Any, last: bool) -> None:
    x, w = real((2, 8, 5, 5), "float16", 0), real((16, 8, 3, 3), "float16", 1)
    x[1, 3, 2, 2] = np.nan
    bias = real((16,), "float16", 2)
    args = on(be, x, last), on(be, w, last), be.from_host(bias), ONE, NONE, ONE, 1
    y, positive = (be.to_host(implicit.forward(be, *args, relu=r)) for r in (False, True))
    assert np.isnan(y).any() and (y < 0).any()
    np.testing.assert_array_equal(positive, np.maximum(y, 0))


def test_memory_that_begins_anywhere(be: Any) -> None:
    """Copies of 16 bytes need addresses of 16 bytes: other memory is laid out anew."""
    x, w = real((2, 8, 5, 5), "float16", 0), real((8, 8, 3, 3), "float16", 1)
    flat = be.from_host(np.append(np.float16(0), x.transpose(0, 2, 3, 1)))
    shifted = flat[1:].reshape(2, 5, 5, 8).transpose(0, 3, 1, 2)
    assert be.address(shifted) % implicit.CHUNK
    gaps = on(be, np.repeat(x, 2, 3), True)[:, :, :, ::2]
    how = None, ONE, ONE, ONE, 1
    want = be.to_host(implicit.forward(be, on(be, x, True), on(be, w, True), *how))
    for a in shifted, gaps, on(be, x, False):
        for b in on(be, w, True), on(be, w, False):
            np.testing.assert_array_equal(be.to_host(implicit.forward(be, a, b, *how)), want)


def test_what_is_taken(be: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    half, single, double = (np.dtype(d) for d in (np.float16, np.float32, np.float64))

    def takes(dtype: Any = half, x: Any = (2, 8, 5, 5), w: Any = (16, 8, 3, 3), groups: int = 1,
              **kw: Any) -> bool:
        return implicit.takes(be, dtype, x, w, ONE, NONE, ONE, groups, **kw)
    assert takes() and takes(single) and not takes(double)
    assert not takes(groups=2) and not takes(w=(4, 8, 3, 3)) and not takes(x=(2, 2, 5, 5))
    assert not takes(x=(0, 8, 5, 5)) and not takes(w=(16, 8, 6, 3))
    assert not takes(single, tf32=False)
    monkeypatch.setattr(precision.convolution, "allow_tf32", False)
    assert not takes(single) and takes(single, tf32=True)
    monkeypatch.setattr(be.gemm, "_capability", 75)
    assert not takes()


def test_tiles_by_shape() -> None:
    """Shapes of ResNet-50 with 64 images, and small ones."""
    def tile(pixels: int, channels: int) -> Any:
        return implicit.tile_of(implicit.TILES, pixels, channels, implicit.FILL)[:2]
    assert tile(64 * 56 * 56, 64) == (128, 64)
    assert tile(64 * 14 * 14, 256) == (128, 128)
    assert tile(64 * 7 * 7, 512) == (128, 64)
    assert tile(4 * 8 * 8, 64) == (64, 64) and tile(10, 8) == (64, 64)
    for shape, c in ((64, 64, 56, 56), 64), ((64, 512, 7, 7), 512), ((2, 8, 3, 3), 8):
        plan, slices, size, _ = implicit.split(c // 8, shape, (3, 3), shape[2:], ONE, ONE, ONE, 8)
        pixels = shape[0] * shape[2] * shape[3]
        assert plan.grid[1] == slices and (slices - 1) * size < pixels <= slices * size
        assert plan.grid[0] * slices <= max(implicit.SPLIT, plan.grid[0]) and size % 32 == 0


# Where chunks lie in shared memory ---------------------------------------------------------------

def places(be: Any, file: str, call: str, rows: int, columns: int, chunk: int = 8) -> Any:
    """chunk_at of a kernel's file, for rows and columns of chunks of so many elements."""
    text = re.search(r"^(template <int C>\s+)?__device__ __forceinline__ int chunk_at\(.*?\n?\}$",
                     kernels.source(file), re.M | re.S)
    assert text is not None
    code = f"#define CHUNK {chunk}\n{text[0]}" + f"""
extern "C" __global__ void all_places(int* y) {{
    y[blockIdx.x * blockDim.x + threadIdx.x] = {call}((int) blockIdx.x, (int) threadIdx.x);
}}"""
    y = be.empty((rows, columns), np.int32)
    be.cupy.RawModule(code=code).get_function("all_places")((rows,), (columns,), (y,))
    found = be.to_host(y)
    assert sorted(found.ravel()) == list(range(rows * columns))     # each chunk has its own place
    return found


def test_rows_are_read_and_written_without_bank_conflicts(be: Any) -> None:
    """8 chunks at a time, which lie in 8 different eighths of the banks."""
    at = places(be, "conv_implicit", "chunk_at", 128, 4)
    for first in range(0, 128, 8):
        for c in range(4):
            assert len(set(at[first:first + 8, c] % 8)) == 8        # a matrix of ldmatrix
    assert all(len(set(at.ravel()[i:i + 8] % 8)) == 8 for i in range(0, 512, 8))


@pytest.mark.parametrize(("chunks", "chunk"), [(8, 8), (16, 8), (16, 4), (32, 4)])
def test_pixels_are_read_and_written_without_bank_conflicts(be: Any, chunks: int,
                                                            chunk: int) -> None:
    """Tiles of 64 and 128 columns, of 16 and of 32 bits."""
    at = places(be, "conv_implicit_weight", f"chunk_at<{chunks}>", 4 * chunk, chunks, chunk)
    assert all(len(set(at.ravel()[i:i + 8] % 8)) == 8 for i in range(0, at.size, 8))
    if chunk == 8:
        for first in range(0, 32, 8):
            assert all(len(set(at[first:first + 8, c] % 8)) == 8 for c in range(chunks))
        return
    g, t = np.arange(32) // 4, np.arange(32) % 4                    # TF32: single words
    for first in range(0, 16, 4):
        for c in range(0, chunks, 2):
            words = 4 * at[first + t, c + g // 4] + g % 4
            assert len(set(words % 32)) == 32
