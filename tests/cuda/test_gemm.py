"""Products by cuBLAS: all ways in which operands can lie in memory, dtypes, TF32, and faults."""
from __future__ import annotations

import ctypes
import gc
import itertools
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from c_library import Noted

import gpugrad as torch
from gpugrad import backend
from gpugrad.backend import cublas, precision
from gpugrad.backend import cuda as cuda_backend
from gpugrad.cudasim import driver

pytestmark = pytest.mark.gpu

SIZES = [(3, 4, 5), (1, 4, 5), (3, 1, 5), (3, 4, 1), (1, 1, 1), (0, 4, 5), (3, 0, 5), (3, 4, 0)]
BATCHES: list[tuple[Any, Any]] = [
    ((), ()), ((2,), (2,)), ((2,), ()), ((), (2,)), ((2, 3), (2, 3)), ((2, 1), (1, 3)),
    ((2, 3), (3,)), ((0,), (0,)), ((1,), (4,)), ((9, 2), (9, 2)), ((9, 2), (2,)),
]


@pytest.fixture(scope="module")
def be() -> Any:
    return backend.get("cuda:0")


@pytest.fixture
def library(be: Any) -> Any:
    """The simulated cuBLAS, to see which calls are made."""
    if not cuda_backend.simulated():
        pytest.skip("looks into the simulated cuBLAS")
    return be.gemm.library


@pytest.fixture
def settings() -> Iterator[Any]:
    before = dict(vars(precision.matmul))
    yield precision.matmul
    vars(precision.matmul).clear()
    vars(precision.matmul).update(before)


# Where a matrix of (..., rows, columns) lies in a larger block of memory.
def c_order(shape: Any) -> Any:
    return shape, lambda a: a


def transposed(shape: Any) -> Any:
    *batch, r, c = shape
    return (*batch, c, r), lambda a: a.swapaxes(-1, -2)


def padded_rows(shape: Any) -> Any:
    *batch, r, c = shape
    return (*batch, r, c + 3), lambda a: a[..., 1:c + 1]


def padded_columns(shape: Any) -> Any:
    *batch, r, c = shape
    return (*batch, c, r + 2), lambda a: a.swapaxes(-1, -2)[..., :r, :]


def every_other(shape: Any) -> Any:
    *batch, r, c = shape
    return (*batch, 2 * r, 2 * c), lambda a: a[..., ::2, ::2]


def backwards(shape: Any) -> Any:
    return shape, lambda a: a[..., ::-1]


def heads(shape: Any) -> Any:
    """The last batch dim between rows and columns, as attention has it."""
    *batch, r, c = shape
    if not batch:
        return shape, lambda a: a
    return (*batch[:-1], r, batch[-1], c), lambda a: a.swapaxes(-2, -3)


LAYOUTS = [c_order, transposed, padded_rows, padded_columns, every_other, backwards, heads]


def laid(be: Any, shape: Any, how: Any, dtype: Any = "f8", seed: int = 0) -> tuple[Any, Any]:
    """(a device array of this shape that lies in memory like that, the same on the host)."""
    memory, view = how(tuple(shape))
    host = np.random.default_rng(seed).integers(-4, 5, memory).astype(dtype)
    return view(be.from_host(host)), view(host)


@pytest.mark.parametrize(("how_a", "how_b"), list(itertools.product(LAYOUTS, repeat=2)))
def test_every_layout_and_batch(be: Any, how_a: Any, how_b: Any) -> None:
    for (m, k, n), (batch_a, batch_b) in itertools.product(SIZES, BATCHES):
        a, host_a = laid(be, (*batch_a, m, k), how_a)
        b, host_b = laid(be, (*batch_b, k, n), how_b, seed=1)
        got = be.gemm(a, b)
        want = host_a @ host_b
        assert got is not NotImplemented and got.shape == want.shape and got.dtype == want.dtype
        assert (be.to_host(got) == want).all(), (m, k, n, batch_a, batch_b)


@pytest.mark.parametrize("how", [c_order, transposed, padded_rows, padded_columns, every_other,
                                 heads])
def test_into_memory_that_is_there(be: Any, how: Any) -> None:
    for (m, k, n), (batch_a, batch_b) in itertools.product(SIZES, BATCHES):
        for how_a, how_b in ((c_order, c_order), (transposed, heads)):
            a, host_a = laid(be, (*batch_a, m, k), how_a)
            b, host_b = laid(be, (*batch_b, k, n), how_b, seed=1)
            want = host_a @ host_b
            for alpha, beta in ((1.0, 0.0), (0.5, 2.0), (2.0, 1.0)):
                out, before = laid(be, want.shape, how, seed=2)
                if beta == 0:
                    out[...] = np.nan                       # it must not be read
                assert be.gemm(a, b, out, alpha=alpha, beta=beta) is out
                expected = alpha * want + (beta * before if beta else 0)
                assert (be.to_host(out) == expected).all()


def test_expanded_operands(be: Any) -> None:
    a, host_a = laid(be, (3, 4), c_order)
    b, host_b = laid(be, (4, 5), transposed, seed=1)
    xp = be.xp
    for left, right in itertools.product(((), (6,), (2, 6)), repeat=2):
        got = be.gemm(xp.broadcast_to(a, (*left, 3, 4)), xp.broadcast_to(b, (*right, 4, 5)))
        want = np.broadcast_to(host_a, (*left, 3, 4)) @ np.broadcast_to(host_b, (*right, 4, 5))
        assert (be.to_host(got) == want).all()
    column = xp.broadcast_to(a[:, :1], (3, 4))              # steps of 0 inside of the matrix
    assert (be.to_host(be.gemm(column, b)) == np.broadcast_to(host_a[:, :1], (3, 4)) @ host_b).all()


def test_no_copies_and_few_calls(be: Any, library: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Transposed, batched and broadcast operands are read where they lie, in one call."""
    monkeypatch.setattr(be.xp, "ascontiguousarray", None, raising=False)

    def calls(a: Any, b: Any) -> list[str]:
        library.calls.clear()
        be.gemm(a, b)
        return [call.partition("(")[0] for call in library.calls]

    def new(shape: Any, how: Any = c_order) -> Any:
        memory, view = how(shape)
        return view(be.cupy.ones(memory, "f4"))

    single, batched = ["cublasGemmEx"], ["cublasGemmStridedBatchedEx"]
    for how_a, how_b in itertools.product((c_order, transposed, padded_rows, padded_columns),
                                          repeat=2):
        assert calls(new((3, 4), how_a), new((4, 5), how_b)) == single
        assert calls(new((7, 3, 4), how_a), new((7, 4, 5), how_b)) == batched
    assert calls(new((2, 7, 3, 4)), new((2, 7, 5, 4)).swapaxes(-1, -2)) == batched
    assert calls(new((7, 3, 4), transposed), new((4, 5))) == batched
    assert calls(new((3, 4)), new((2, 7, 4, 5))) == batched
    assert calls(new((2, 7, 3, 4)), new((4, 5), transposed)) == single      # one long left operand
    assert calls(new((2, 1, 3, 4)), new((1, 7, 4, 5))) == 2 * batched
    assert calls(new((2, 3, 4, 5), heads), new((2, 3, 5, 4), heads)) == 2 * batched


def test_many_uneven_batches_take_one_call_and_a_copy(be: Any, library: Any) -> None:
    a, host_a = laid(be, (20, 30, 3, 4), heads)
    b, host_b = laid(be, (20, 30, 4, 5), heads, seed=1)
    library.calls.clear()
    assert (be.to_host(be.gemm(a, b)) == host_a @ host_b).all()
    assert len(library.calls) == 1


def test_the_second_product_of_a_kind_needs_no_thought(be: Any, library: Any,
                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    cases = [((3, 4), c_order, (4, 5), transposed), ((2, 3, 4), c_order, (4, 5), c_order),
             ((2, 3, 4, 5), heads, (2, 3, 5, 4), heads), ((7, 3, 4), transposed, (4, 5), c_order)]
    for seed in range(2):
        for shape_a, how_a, shape_b, how_b in cases:
            a, host_a = laid(be, shape_a, how_a, "f4", seed)
            b, host_b = laid(be, shape_b, how_b, "f4", seed + 5)
            assert (be.to_host(be.gemm(a, b)) == host_a @ host_b).all()
            half = be.gemm(a.astype("f2"), b.astype("f2"), dtype=np.float32)
            assert half.dtype == np.float32 and (be.to_host(half) == host_a @ host_b).all()
        monkeypatch.setattr(cublas, "layout", None)         # the second time around
    a, host_a = laid(be, (3, 4), c_order, "f4")
    b, host_b = laid(be, (4, 5), transposed, "f4")
    assert (be.to_host(be.gemm(a, b, alpha=2.0)) == 2 * (host_a @ host_b)).all()


def test_other_factors_than_one_are_cublass_work(be: Any, library: Any) -> None:
    """addmm and baddbmm with a matrix add in the product's own call."""
    for name, lead in (("addmm", ()), ("baddbmm", (2,))):
        op = getattr(be.raw, name)
        for dtype in ("f4", "f8", "f2"):
            c, a, b = (laid(be, (*lead, *s), how, dtype, i) for i, (s, how) in enumerate(
                (((3, 5), transposed), ((3, 4), c_order), ((4, 5), padded_columns))))
            for beta, alpha in ((1, 1), (2, -1), (0.5, 3), (0, 2)):
                given = c[0] if beta else be.xp.full_like(c[0], np.nan)
                library.calls.clear()
                got = op(given, a[0], b[0], beta=beta, alpha=alpha)
                want = beta * c[1] + alpha * (a[1] @ b[1])
                assert (be.to_host(got) == want).all() and len(library.calls) == 1
                assert (be.to_host(c[0]) == c[1]).all()
        got = op(*[be.from_host(np.arange(n).reshape(*lead, *s)) for n, s in (
            (4 << len(lead), (2, 2)), (6 << len(lead), (2, 3)), (6 << len(lead), (3, 2)))], beta=3)
        assert got.dtype == np.int64                        # by the portable text
    row = be.from_host(np.arange(5.0))
    a, host_a = laid(be, (3, 4), c_order)
    b, host_b = laid(be, (4, 5), c_order)
    assert (be.to_host(be.raw.addmm(row, a, b, beta=2)) == 2 * np.arange(5) + host_a @ host_b).all()


def test_factors_that_change_from_step_to_step_are_not_kept_for_ever() -> None:
    scalars = cublas.Scalars()
    addresses = [scalars[False, float(k)] for k in range(3000)]
    assert len(scalars) == 1024 and scalars[False, 7.0] == addresses[7]
    assert ctypes.c_float.from_address(addresses[-1]).value == 2999


def test_workspaces_are_as_large_as_pytorchs() -> None:
    found = cublas.Library.workspace_bytes
    assert found(None, 90) == 33554432 and found(None, 80) == found(None, 75) == 8519680


HALVES = ["float16", "bfloat16"]


def half(dtype: str) -> Any:
    d = getattr(torch, dtype)
    if dtype == "bfloat16" and not torch.cuda.is_bf16_supported():
        pytest.skip("bfloat16 is not supported here")
    return d


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("batch", [(), (3,)])
def test_half_operands_are_summed_in_float32(dtype: str, batch: Any) -> None:
    d = half(dtype)
    k = 8192
    x = torch.full((*batch, 2, k), 0.5, device="cuda", dtype=d)
    got = x @ x.transpose(-1, -2)                           # in 16 bits it would stick at 1024
    assert got.dtype == d and (got == k / 4).all()


def test_half_operands_with_a_float32_result(be: Any) -> None:
    x = np.full((2, 3, 40), 0.1, np.float16)
    a = be.from_host(x)
    got = be.matmul(a, a.swapaxes(-1, -2), dtype=np.float32)
    assert got.dtype == np.float32
    wide = x.astype(np.float32)
    np.testing.assert_allclose(be.to_host(got), wide @ wide.swapaxes(-1, -2), rtol=1e-6)
    assert backend.cpu.matmul(x, x.swapaxes(-1, -2), dtype=np.float32).dtype == np.float32


def test_other_dtypes_take_cupys_way(be: Any) -> None:
    x = torch.arange(6, device="cuda").reshape(2, 3)
    assert be.gemm(x._a, x._a.T) is NotImplemented
    assert (x @ x.t()).tolist() == [[5, 14], [14, 50]]
    z = torch.tensor([[1j, 2.0]], device="cuda")
    assert (z @ z.t()).item() == 3
    assert be.gemm(x._a.astype("f4"), x._a.T.astype("f8")) is NotImplemented


def test_without_the_library(be: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(be.gemm, "_library", None)
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    for dtype in ("float32", "float16"):
        a = be.from_host(x.astype(dtype))
        want = x @ x.swapaxes(-1, -2)
        got = be.matmul(a, a.swapaxes(-1, -2))
        assert got.dtype == dtype and (be.to_host(got) == want.astype(dtype)).all()
        out = be.empty((2, 3, 3), "float32")
        assert (be.to_host(be.matmul(a, a.swapaxes(-1, -2), out)) == want).all()
    monkeypatch.setattr(be, "capturing", True)
    with pytest.raises(RuntimeError, match="can't be captured"):
        be.matmul(a, a.swapaxes(-1, -2))


# TF32 --------------------------------------------------------------------------------------------

def test_tf32_only_if_it_is_asked_for(settings: Any) -> None:
    if torch.cuda.get_device_capability() < (8, 0):
        pytest.skip("this device has no TF32")
    x = torch.full((16, 16), 1 + 2.0**-12, device="cuda")
    exact = 16 * (1 + 2.0**-12) ** 2
    assert abs((x @ x)[0, 0].item() - exact) < 1e-5
    for switch in (lambda: torch.set_float32_matmul_precision("high"),
                   lambda: setattr(torch.backends.cuda.matmul, "allow_tf32", True)):
        torch.set_float32_matmul_precision("highest")
        switch()
        assert (x @ x)[0, 0].item() == 16                   # 2**-12 is beyond 10 bits
        assert abs((x.double() @ x.double())[0, 0].item() - exact) < 1e-12
    torch.backends.cuda.matmul.allow_tf32 = False
    assert abs((x @ x)[0, 0].item() - exact) < 1e-5


def test_reduced_precision_reductions(be: Any, library: Any, settings: Any) -> None:
    x = torch.ones(4, 4, device="cuda", dtype=torch.float16)

    def mode() -> int:
        x @ x
        return int(library._made[be.gemm._local.__dict__["handle"]].mode)

    assert mode() == cublas.DEFAULT_MATH
    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
    assert mode() == cublas.NO_REDUCED_REDUCTION
    x.float() @ x.float()
    assert library._made[be.gemm._local.__dict__["handle"]].mode == cublas.DEFAULT_MATH


# Streams and errors ------------------------------------------------------------------------------

def test_products_go_to_the_current_stream(be: Any, library: Any) -> None:
    x = torch.ones(4, 4, device="cuda")
    side = torch.cuda.Stream()
    x @ x
    with torch.cuda.stream(side):
        x @ x                                               # the simulated cuBLAS checks the stream
        assert library._made[be.gemm._local.__dict__["handle"]].stream == side.cuda_stream
    assert (x @ x).sum().item() == 64


def test_each_thread_has_a_handle_and_gives_it_back(be: Any, library: Any) -> None:
    x = torch.ones(4, 4, device="cuda")
    x @ x
    before, found = set(library._made), []

    def work() -> None:
        with torch.cuda.stream(torch.cuda.Stream()):
            found.append((x @ x).sum().item())
        found.append(set(library._made) - before)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    gc.collect()
    assert found[0] == 64 and len(found[1]) == 1
    assert set(library._made) == before


def test_shapes_that_do_not_fit(be: Any) -> None:
    a = be.from_host(np.ones((3, 4)))
    with pytest.raises(ValueError, match=r"\[3, 4\] and \[3, 4\] can't be multiplied"):
        be.gemm(a, a)
    with pytest.raises(ValueError, match=r"shape \[3, 3\], and out \[4, 4\]"):
        be.gemm(a, a.T, be.empty((4, 4), "f8"))
    with pytest.raises(ValueError, match="give out"):
        be.gemm(a, a.T, beta=1.0)
    x, y = torch.ones(3, 4, device="cuda"), torch.ones(3, 4, device="cuda")
    with pytest.raises(RuntimeError, match=r"cannot be multiplied \(3x4 and 3x4\)"):
        x @ y


def test_vectors(device: str) -> None:
    a = torch.arange(6.0, device=device).reshape(2, 3).requires_grad_()
    v = torch.tensor([1.0, 2.0, 4.0], device=device, requires_grad=True)
    y = torch.mv(a, v)
    assert y.tolist() == [10.0, 31.0] and (a @ v).tolist() == [10.0, 31.0]
    assert torch.dot(v, v).item() == 21 and torch.dot(v, v).shape == ()
    (y.sum() + torch.dot(v, v)).backward()
    assert v.grad is not None and a.grad is not None
    assert v.grad.tolist() == [5.0, 9.0, 15.0] and a.grad.tolist() == [[1.0, 2.0, 4.0]] * 2
    strided = torch.arange(8.0, device=device)[::2]
    assert torch.dot(strided, strided).item() == 56
    assert torch.mv(torch.ones(0, 3, device=device), v.detach()).shape == (0,)


@pytest.mark.parametrize("dtype", HALVES)
def test_weight_gradients_of_half_convolutions_are_summed_in_float32(dtype: str) -> None:
    d = half(dtype)
    n = 3000                                                # in 16 bits the sum would stick
    x = torch.ones(n, 1, 3, 3, device="cuda", dtype=d)
    w = torch.zeros(1, 1, 3, 3, device="cuda", dtype=d, requires_grad=True)
    torch.nn.functional.conv2d(x, w).sum().backward()
    want = torch.tensor(float(n)).to(d)
    assert w.grad is not None and w.grad.dtype == d and (w.grad.cpu() == want).all()


# The simulated library refuses what cuBLAS refuses ------------------------------------------------

def arguments(a: Any, b: Any, c: Any, own: int, **changes: Any) -> tuple[Any, ...]:
    one, zero = cublas.Scalars(), cublas.Scalars()
    arguments.kept = [one, zero]                            # type: ignore[attr-defined]
    m, n, k = 3, 4, 5
    named: dict[str, Any] = {
        "handle": own, "transa": 0, "transb": 0, "m": m, "n": n, "k": k,
        "alpha": one[False, 1.0], "A": a.data.ptr, "Atype": 0, "lda": m, "B": b.data.ptr,
        "Btype": 0, "ldb": k, "beta": zero[False, 0.0], "C": c.data.ptr, "Ctype": 0, "ldc": m,
        "compute": 68, "algo": -1}
    unknown = set(changes) - set(named)
    assert not unknown
    return tuple({**named, **changes}.values())


@pytest.mark.parametrize(("changes", "status"), [
    ({"lda": 2}, "INVALID_VALUE"), ({"ldb": 4}, "INVALID_VALUE"), ({"ldc": 2}, "INVALID_VALUE"),
    ({"transa": 1, "lda": 4}, "INVALID_VALUE"), ({"transb": 1, "ldb": 3}, "INVALID_VALUE"),
    ({"m": -1}, "INVALID_VALUE"), ({"transa": 7}, "INVALID_VALUE"),
    ({"alpha": 0}, "INVALID_VALUE"), ({"C": 0}, "INVALID_VALUE"),
    ({"compute": 70}, "NOT_SUPPORTED"), ({"Atype": 2}, "NOT_SUPPORTED"),
    ({"Ctype": 2}, "NOT_SUPPORTED"), ({"handle": 12345}, "NOT_INITIALIZED"),
])
def test_what_cublas_refuses(be: Any, library: Any, changes: Any, status: str) -> None:
    be.gemm.prepare()
    handle = be.gemm._local.__dict__["handle"]
    a, b, c = (be.from_host(np.ones(s, np.float32)) for s in ((5, 3), (4, 5), (4, 3)))
    with pytest.raises(RuntimeError, match=f"CUBLAS_STATUS_{status} when calling `cublasGemmEx"):
        library.gemm((a, b, c), *arguments(a, b, c, handle, **changes))
    library.gemm((a, b, c), *arguments(a, b, c, handle))
    assert (be.to_host(c) == 5).all()


def test_addresses_outside_of_an_allocation(be: Any, library: Any) -> None:
    be.gemm.prepare()
    handle = be.gemm._local.__dict__["handle"]
    a, b, c = (be.from_host(np.ones(s, np.float32)) for s in ((5, 3), (4, 5), (4, 3)))
    for name, x in (("A", a), ("B", b), ("C", c)):
        with pytest.raises(RuntimeError, match="of an allocation of"):
            library.gemm((a, b, c), *arguments(a, b, c, handle, **{name: x.data.ptr + 8}))
    with pytest.raises(RuntimeError, match="an array of float64 is read as float32"):
        library.gemm((a.astype("f8"), b, c), *arguments(a, b, c, handle))


@pytest.mark.parametrize(("step", "fine"), [(12, True), (3, True), (11, True), (2, False),
                                            (5, False), (0, False)])
def test_results_that_overlap(step: int, fine: bool) -> None:
    from gpugrad.cudasim.cublas import Matrices

    # 2 matrices of 3 x 2 whose columns are 6 apart
    assert Matrices(0, 0, 6, step).overlap(3, 2, 2) is not fine


# Finding the library -----------------------------------------------------------------------------

def test_the_real_library_is_called_with_the_types_of_its_header() -> None:
    lib = Noted()
    seen = lib.seen
    library = cublas.Library(lib)
    library.create()
    library.set_stream(1, 2)
    library.set_workspace(1, 3, 32 << 20)
    library.set_math_mode(1, 16)
    library.version(1)
    library.destroy(1)
    far = 1 << 40
    library.gemm(None, 1, 0, 1, 2, 3, 4, far, far, 0, 5, far, 0, 6, far, far, 0, 7, 68, -1)
    assert seen["cublasGemmEx"][-4:] == [0, 7, 68, -1] and seen["cublasGemmEx"][6] == far
    library.gemm_batched(None, 1, 0, 1, 2, 3, 4, far, far, 0, 5, far, far, 0, 6, far, far, far, 0,
                         7, far, 9, 68, -1)
    assert seen["cublasGemmStridedBatchedEx"][-6:] == [0, 7, far, 9, 68, -1]
    assert len(lib.functions["cublasGemmStridedBatchedEx"].argtypes) == 23
    lib.status = 14
    with pytest.raises(RuntimeError, match=r"CUBLAS_STATUS_INTERNAL_ERROR .*\(NT, m=2, n=3, k=4"):
        library.gemm(None, 1, 0, 1, 2, 3, 4, far, far, 0, 5, far, 0, 6, far, far, 0, 7, 68, -1)


@pytest.mark.skipif(driver.is_installed(), reason="there it is replaced")
def test_no_library_is_found_without_cupys() -> None:
    assert cublas.load(SimpleNamespace(cuda=SimpleNamespace())) is None


def test_threads_that_begin_together_share_the_library(be: Any) -> None:
    found, begin = [], threading.Barrier(4)

    def load(cupy: Any) -> Any:
        time.sleep(0.05)                            # as the search for a library takes its time
        return object()

    gemm = cublas.Gemm(be, load)

    def ask() -> None:
        begin.wait()
        found.append(gemm.library)

    asking = [threading.Thread(target=ask) for _ in range(4)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    assert len(found) == 4 and len(set(map(id, found))) == 1
