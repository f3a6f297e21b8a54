"""Products with a bias and an activation in one call (cuBLASLt), and what uses them."""
from __future__ import annotations

import copy
import ctypes
import importlib.util
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from against_portable import agree, note_launches
from c_library import Noted

import gpugrad as torch
import gpugrad.nn.functional as F
from gpugrad import backend, nn
from gpugrad.autograd.rules import tensors as T
from gpugrad.backend import cublas, cublaslt, precision
from gpugrad.backend import cuda as cuda_backend
from gpugrad.backend.cublaslt import EPILOGUES, RESULT
from gpugrad.cudasim import driver
from gpugrad.nn.modules.hooks import Hookable

pytestmark = pytest.mark.gpu
__all__ = ["note_launches"]             # a fixture

UNTIL = {"float32": 1e-5, "float16": 4e-3, "bfloat16": 3e-2}


@pytest.fixture(scope="module")
def be() -> Any:
    return backend.get("cuda:0")


@pytest.fixture
def epilogues(be: Any) -> Iterator[Any]:
    """Those of a device that has used none yet; the backend has them for as long."""
    if not cuda_backend.simulated():
        pytest.skip("looks into the simulated cuBLASLt")
    before = be.epilogues
    be.epilogues = cublaslt.Epilogues(be.gemm, cuda_backend._cublaslt)
    yield be.epilogues
    be.epilogues = before


def operands(be: Any, dtype: str, m: int = 5, k: int = 7, n: int = 8) -> Any:
    """x (m, k), w (n, k) and a bias (n,) on the device, and in float64 on the host."""
    random = np.random.default_rng(1)
    arrays = [random.uniform(-1, 1, s).astype(getattr(torch, dtype).np)
              for s in ((m, k), (n, k), (n,))]
    return [be.from_host(a) for a in arrays], [a.astype(np.float64) for a in arrays]


def gelu(v: Any) -> Any:
    return v / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (v + 0.044715 * v**3)))


@pytest.mark.parametrize("dtype", UNTIL)
def test_a_bias_and_gelu_in_one_call(be: Any, epilogues: Any, dtype: str) -> None:
    (x, w, b), (hx, hw, hb) = operands(be, dtype)
    want = hx @ hw.T + hb
    got = be.raw.addmm(b, x, w.T)
    assert epilogues.library.calls == ["BIAS"] * 2          # one of them to try it
    np.testing.assert_allclose(be.to_host(got).astype(float), want, UNTIL[dtype], UNTIL[dtype])
    y, v = be.raw.linear_gelu(x, w, b, approximate="tanh")
    assert epilogues.library.calls[2:] == ["GELU_AUX_BIAS"] * 2
    np.testing.assert_allclose(be.to_host(v).astype(float), want, UNTIL[dtype], UNTIL[dtype])
    np.testing.assert_allclose(be.to_host(y).astype(float), gelu(want), UNTIL[dtype], UNTIL[dtype])


@pytest.mark.parametrize("dtype", UNTIL)
def test_sums_beside_the_product(be: Any, epilogues: Any, dtype: str) -> None:
    """The gradients of a weight and of a bias: sums of one factor's rows or the other's columns."""
    (x, g, _), (hx, hg, _) = operands(be, dtype, 7, 5, 8)
    g, hg = g.T[:5], hg.T[:5]                               # (5, 8); x (7, 5): its first rows
    x, hx = be.xp.ascontiguousarray(x.T), hx.T              # (5, 7)
    for order, name in (("C", "BGRADA"), ("F", "BGRADB")):
        epilogues.library.calls.clear()
        product, sums = be.raw.product_and_sums(g, x, order=order)
        assert epilogues.library.calls == [name] * 2        # one of them to try it
        assert product.flags.c_contiguous is (order == "C")
        for got, want in ((product, hx.T @ hg), (sums, hg.sum(0))):
            assert got.dtype == x.dtype
            np.testing.assert_allclose(be.to_host(got).astype(float), want, UNTIL[dtype],
                                       UNTIL[dtype])


def test_backward_of_a_layer_is_two_products(be: Any, epilogues: Any,
                                             monkeypatch: pytest.MonkeyPatch) -> None:
    layer, calls = nn.Linear(8, 4).to("cuda"), epilogues.library.calls
    x = torch.randn(6, 8, device="cuda")

    def gradients(**kw: Any) -> list[Any]:
        layer.zero_grad()
        y = layer(x) if not kw else torch.addmm(layer.bias, x, layer.weight.t(), **kw)
        calls.clear()
        (y * torch.arange(24.0, device="cuda").reshape(6, 4)).sum().backward()
        return [None if p.grad is None else p.grad.cpu().numpy() for p in layer.parameters()]

    g = np.arange(24.0).reshape(6, 4)
    want = g.T @ x.cpu().numpy(), g.sum(0)
    gradients()
    for name in ("BGRADB", ""):
        for got, right in zip(gradients(), want, strict=True):
            np.testing.assert_allclose(got, right, 1e-5, 1e-4)
        assert calls == [name] * bool(name)
        monkeypatch.setattr(cublaslt, "settings", SimpleNamespace(      # sums of rounded numbers?
            tf32=True, half_reduction=True, bfloat16_reduction=True))
    monkeypatch.undo()
    assert gradients(alpha=2)[1].tolist() == want[1].tolist() and not calls
    layer.weight.requires_grad_(False)
    assert gradients()[1].tolist() == want[1].tolist() and not calls
    layer.requires_grad_(True)
    layer.bias.requires_grad_(False)
    assert gradients()[1] is None and not calls
    w = torch.randn(8, 4, device="cuda", requires_grad=True)        # lies the other way
    b = torch.randn(4, device="cuda", requires_grad=True)
    for _ in range(2):
        w.grad = b.grad = None
        calls.clear()
        torch.addmm(b, x, w).backward(torch.from_numpy(g.astype("f4")).cuda())
    assert calls[-1] == "BGRADA"
    np.testing.assert_allclose(w.grad.cpu().numpy(), want[0].T, 1e-5, 1e-4)
    assert b.grad.tolist() == want[1].tolist()


def test_training_steps_in_a_graph_have_the_bits_of_eager_ones(epilogues: Any) -> None:
    found = []
    for graph in (False, True):
        torch.manual_seed(1)
        net = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 4)).to("cuda")
        opt = torch.optim.SGD(net.parameters(), lr=0.1)

        def step(x: Any, net: Any = net, opt: Any = opt) -> Any:
            opt.zero_grad()
            loss = net(x).square().mean()
            loss.backward()
            opt.step()
            return loss

        step = torch.graph_step(step) if graph else step
        inputs = [torch.randn(6, 8, device="cuda") for _ in range(6)]
        epilogues.library.calls.clear()
        found.append([step(x).item() for x in inputs] + [p.tolist() for p in net.parameters()])
        assert epilogues.library.calls.count("BGRADB") >= 4
    assert found[0] == found[1] and step.replays


def test_every_layout_of_the_operands(be: Any, epilogues: Any) -> None:
    (x, w, b), (hx, hw, hb) = operands(be, "float32", 6, 4, 8)
    wide = be.empty((6, 12), "f4")
    wide[:, 4:8] = x
    for left in (x, wide[:, 4:8], be.xp.ascontiguousarray(x.T).T):
        for right in (w.T, be.xp.ascontiguousarray(w.T)):
            np.testing.assert_allclose(be.to_host(be.raw.addmm(b, left, right)), hx @ hw.T + hb,
                                       rtol=1e-5, atol=1e-6)
    assert epilogues.library.calls == ["BIAS"] * 7


def test_an_algorithm_is_asked_for_once_a_shape(be: Any, epilogues: Any) -> None:
    library = epilogues.library
    for n in (4, 5, 4, 5):
        (x, w, b), _ = operands(be, "float32", n=n)
        be.raw.addmm(b, x, w.T)
    assert library.asked == 3 and len(library.calls) == 5   # and one for the trial
    assert len(library._things) == 12                       # preferences are gone


def test_what_is_left_to_the_portable_way(be: Any, epilogues: Any,
                                          monkeypatch: pytest.MonkeyPatch) -> None:
    def ways(*arrays: Any) -> Any:
        epilogues.library.calls.clear()
        return be.raw.addmm(*arrays), list(epilogues.library.calls)

    (x, w, b), (hx, hw, hb) = operands(be, "float32")
    want = hx @ hw.T + hb
    ways(b, x, w.T)
    double = [a.astype("f8") for a in (b, x, w)]
    shifted = be.empty((9,), "f4")
    shifted[1:] = b
    spread = be.xp.repeat(b, 2)
    for arrays, calls in (((double[0], double[1], double[2].T), []), ((b, x, w.T), ["BIAS"]),
                          ((shifted[1:], x, w.T), []),                      # not aligned
                          ((spread[::2], x, w.T), ["BIAS"])):               # copied
        got, made = ways(*arrays)
        np.testing.assert_allclose(be.to_host(got), want, rtol=1e-5)
        assert made == calls
    assert ways(b, x[:1], w.T)[1] == []
    monkeypatch.setattr(be, "capturing", True)
    assert ways(b, x, w.T)[1] == ["BIAS"]                   # known from before
    assert ways(b, x[:4], w.T)[1] == []                     # new: no questions in a capture
    monkeypatch.undo()
    monkeypatch.setattr(be.gemm, "_library", None)
    none = cublaslt.Epilogues(be.gemm, lambda cupy: 1 / 0)
    assert none("BIAS", x, w.T, b) is NotImplemented


def test_tf32_is_another_problem(be: Any, epilogues: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.full((16, 16), 1 + 2.0**-12, device="cuda")
    b = torch.zeros(16, device="cuda")
    exact = F.linear(x, x, b)[0, 0].item()
    monkeypatch.setattr(cublaslt, "settings", SimpleNamespace(
        tf32=True, half_reduction=True, bfloat16_reduction=True))
    assert abs(exact - 16 * (1 + 2.0**-12) ** 2) < 1e-5 and F.linear(x, x, b)[0, 0].item() == 16


def test_sums_in_float32_are_asked_for(epilogues: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    d = torch.float16
    x, w, b = (torch.ones(*s, device="cuda", dtype=d) for s in ((4, 8), (8, 8), (8,)))
    for allowed in (True, False):
        monkeypatch.setattr(precision.matmul, "half_reduction", allowed)
        assert (F.linear(x, w, b) == 9).all() and epilogues.library.strict is not allowed


def test_in_a_captured_graph(epilogues: Any) -> None:
    layer, x = nn.Linear(8, 8).to("cuda"), torch.zeros(4, 8, device="cuda")
    with torch.no_grad(), torch.cuda.stream(torch.cuda.Stream()):
        layer(x)
        graph = torch.cuda.CUDAGraph()
        epilogues.library.calls.clear()
        with torch.cuda.graph(graph):
            y = layer(x)
            z = layer(x[:3])                                # of a shape that comes too late
        assert epilogues.library.calls == ["BIAS"]
        x.copy_(torch.randn(4, 8))
        graph.replay()
        want = layer.to("cpu")(x.cpu())
        np.testing.assert_allclose(y.cpu().numpy(), want.numpy(), 1e-5, 1e-6)
        np.testing.assert_allclose(z.cpu().numpy(), want[:3].numpy(), 1e-5, 1e-6)


# A library that isn't right ----------------------------------------------------------------------

def broken(epilogues: Any, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    library = epilogues.library
    matmul = library.matmul

    def wrong(arrays: Any, *args: int) -> Any:
        if how == "status":
            return 15
        if how == "algorithm":
            raise AssertionError("nothing to run")
        status = matmul(arrays, *args)
        out = arrays[2]
        if how == "sums of the other":
            arrays[3][...] = 0
        elif how == "bias along the other dim":
            out -= arrays[3]
            out += 1
        elif how == "NaN is 0":
            out[...] = cuda_backend.needed().nan_to_num(out)
        return status

    monkeypatch.setattr(library, "matmul", wrong)
    if how == "algorithm":
        monkeypatch.setattr(library, "algorithm", lambda *args: None)
    if how == "descriptor":
        monkeypatch.setattr(library, "describe", lambda *args: 7)


@pytest.mark.parametrize(("how", "said"), [
    ("status", "cublasLtMatmul says NOT_SUPPORTED"),
    ("algorithm", "no algorithm for a small problem"),
    ("bias along the other dim", "differ from NumPy's"), ("NaN is 0", "differ from NumPy's"),
    ("descriptor", "attribute 3 can't be")])
def test_a_library_that_is_not_right_is_left_with_one_warning(
        be: Any, epilogues: Any, monkeypatch: pytest.MonkeyPatch, how: str, said: str) -> None:
    broken(epilogues, monkeypatch, how)
    (x, w, b), (hx, hw, hb) = operands(be, "float32")
    with pytest.warns(RuntimeWarning, match=f"BIAS .*{said}") as record:
        got = be.raw.addmm(b, x, w.T)
    np.testing.assert_allclose(be.to_host(got), hx @ hw.T + hb, rtol=1e-5)
    assert len(record) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        be.raw.addmm(b, x, w.T)
        be.raw.addmm(b, x[:3], w.T)
    assert epilogues.right == {("BIAS", cublas.R_32F): False}


@pytest.mark.parametrize("how", ["sums of the other", "algorithm"])
def test_sums_that_are_not_right_or_not_there(be: Any, epilogues: Any, how: str,
                                              monkeypatch: pytest.MonkeyPatch) -> None:
    """What no version promises is missed in silence; what is wrong is said once."""
    broken(epilogues, monkeypatch, how)
    (x, g, _), (hx, hg, _) = operands(be, "float32", 5, 8, 5)
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        for _ in range(2):
            product, sums = be.raw.product_and_sums(g, x, order="F")
            np.testing.assert_allclose(be.to_host(product), hx.T @ hg, rtol=1e-5)
            np.testing.assert_allclose(be.to_host(sums), hg.sum(0), rtol=1e-5)
    assert [("BGRADB" in str(w.message) and "differ" in str(w.message)) for w in record] == \
        [True] * (how != "algorithm")
    assert epilogues.right == {("BGRADB", cublas.R_32F): False}


def test_one_that_fails_later_is_left_too(be: Any, epilogues: Any,
                                          monkeypatch: pytest.MonkeyPatch) -> None:
    (x, w, b), (hx, hw, hb) = operands(be, "float32")
    be.raw.addmm(b, x, w.T)
    broken(epilogues, monkeypatch, "status")
    with pytest.warns(RuntimeWarning, match="NOT_SUPPORTED"):
        got = be.raw.addmm(b, x, w.T)
    np.testing.assert_allclose(be.to_host(got), hx @ hw.T + hb, rtol=1e-5)


# The simulated library refuses what cuBLASLt refuses ----------------------------------------------

def test_what_the_simulated_library_refuses(be: Any, epilogues: Any) -> None:
    library = epilogues.library
    d = library.descriptor(cublas.COMPUTE_32F, cublas.R_32F)
    assert library.describe(d, cublaslt.TRANSA, 1) == 0
    assert [library.describe(d, a, v) for a, v in (
        (cublaslt.TRANSA, 2), ((3, 8), 0), ((99, 4), 0), (cublaslt.EPILOGUE, 5))] == [7] * 4
    for make in (lambda: library.descriptor(cublas.COMPUTE_64F, 0),
                 lambda: library.layout(cublas.R_32F, 4, 4, 3)):
        with pytest.raises(RuntimeError, match="INVALID_VALUE"):
            make()
    with pytest.raises(RuntimeError, match="not a MatrixLayout"):
        library.destroy("MatrixLayout", d)

    (x, w, b), _ = operands(be, "float32")
    seen: list[Any] = []
    matmul = library.matmul
    library.matmul = lambda arrays, *args: (seen.append((arrays, args)), matmul(arrays, *args))[1]
    be.raw.addmm(b, x, w.T)
    arrays, args = seen[-1]
    for place, value, fault in ((3, args[3] + 4, "multiple of 16"), (14, 1 << 40, None),
                                (15, 12345, "isn't CuPy's current one")):
        changed = [*args]
        changed[place] = value
        if fault:
            with pytest.raises(RuntimeError, match=fault):
                matmul(arrays, *changed)
    assert matmul(arrays, 1, *args[1:]) == 1                # no handle
    other = library.layout(cublas.R_32F, 7, 4, 7)
    assert matmul(arrays, *args[:6], other, *args[7:]) == 7
    with pytest.raises(RuntimeError, match="of an allocation of"):
        matmul((x[:1].copy(), *arrays[1:]), *args)
    with pytest.raises(RuntimeError, match="another problem's"):
        (x2, w2, b2), _ = operands(be, "float32", 6)
        be.raw.addmm(b2, x2, w2.T)
        matmul(seen[-1][0], *seen[-1][1][:12], args[12], *seen[-1][1][13:])


# The real library, without a GPU -----------------------------------------------------------------

def wheel(pattern: str) -> Path:
    spec = importlib.util.find_spec("nvidia")
    roots = list(spec.submodule_search_locations or ()) if spec else []
    found = sorted(p for root in roots for p in Path(root).glob(pattern))
    if not found:
        pytest.skip("cuBLAS is not installed: pip install nvidia-cublas-cu12")
    return found[0]


def test_the_numbers_are_those_of_the_header() -> None:
    """Evaluates the enumerations of cublasLt.h."""
    text = wheel("*/include/cublasLt.h").read_text(encoding="utf-8")
    known: dict[str, int] = {}
    for name, value in re.findall(r"^\s*(CUBLASLT_[EMR]\w+) = ([^,]+?),?$", text, re.M):
        if re.fullmatch(r"[\w |()]+", value):
            known[name] = eval(value, {}, known)

    def number(name: str) -> int:
        return known["CUBLASLT_" + name]

    for name, value in EPILOGUES.items():
        assert number(f"EPILOGUE_{name}") == value
    for name in "TRANSA TRANSB EPILOGUE BIAS_POINTER".split():
        assert number(f"MATMUL_DESC_{name}") == getattr(cublaslt, name)[0]
    for name in "POINTER LD".split():
        assert number(f"MATMUL_DESC_EPILOGUE_AUX_{name}") == getattr(cublaslt, f"AUX_{name}")[0]
    assert number("MATMUL_PREF_MAX_WORKSPACE_BYTES") == cublaslt.WORKSPACE_BYTES[0]
    assert [number(f"MATMUL_PREF_MIN_ALIGNMENT_{x}_BYTES") for x in "ABCD"] == \
        [at for at, _ in cublaslt.ALIGNMENTS]
    assert number("MATMUL_PREF_REDUCTION_SCHEME_MASK") == cublaslt.REDUCTIONS[0]
    assert number("REDUCTION_SCHEME_COMPUTE_TYPE") == cublaslt.IN_FLOAT32
    struct = re.search(r"typedef struct \{([^}]*)\} cublasLtMatmulHeuristicResult_t;", text)
    assert struct is not None
    fields = re.findall(r"^\s*(?:cublas\w+|size_t|float|int) (\w+)(?:\[4\])?;", struct[1], re.M)
    assert len(fields) == len(RESULT.names) and RESULT.itemsize == 96
    assert re.search(r"typedef struct \{\s*uint64_t data\[8\];\s*\} cublasLtMatmulAlgo_t;", text)


def test_the_real_library_takes_the_descriptors() -> None:
    """Descriptors, layouts and preferences need no device; the sizes of attributes are checked."""
    lib = cublaslt.Library(ctypes.CDLL(str(wheel("*/lib/libcublasLt.so.*"))))
    for epilogue in EPILOGUES:
        plan = cublaslt.Plan(lib, epilogue, cublas.R_32F, cublas.COMPUTE_32F, (0, 40), (1, 40),
                             (48, 32), 40)
        assert plan.addresses(1 << 40, 1 << 41 if epilogue == "GELU_AUX_BIAS" else 0) == 0
        assert lib.describe(plan.descriptor, (cublaslt.EPILOGUE[0], 8), 4) == 7
        assert plan.find(0, 1 << 20, True) is False               # without a handle: no algorithm
    preference = lib.preference()
    assert [lib.prefer(preference, (at, n), 16) for at, n in (
        cublaslt.WORKSPACE_BYTES, *cublaslt.ALIGNMENTS, cublaslt.REDUCTIONS, (1, 4),
        (5, 8))] == [0] * 6 + [7] * 2
    lib.destroy("MatmulPreference", preference)


def test_the_real_library_is_called_with_the_types_of_its_header() -> None:
    class Lib(Noted):
        def called(self, name: str, args: Any) -> None:
            if name.endswith("GetHeuristic"):
                args[-1]._obj.value = 1
                (ctypes.c_char * RESULT.itemsize).from_address(args[-2])[64] = b"\x07"

    lib = Lib()
    seen, library, far = lib.seen, cublaslt.Library(lib), 1 << 40
    found = library.algorithm(far, 1, 2, 3, 4, 5)
    assert found["workspace"] == 7 and seen["cublasLtMatmulAlgoGetHeuristic"][:8] == [
        far, 1, 2, 3, 4, 4, 5, 1]
    assert library.matmul(None, far, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, far, 9, far) == 0
    assert seen["cublasLtMatmul"][-3:] == [far, 9, far]
    lib.status = 15
    assert library.matmul(None, far, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, far, 9, far) == 15
    assert library.algorithm(far, 1, 2, 3, 4, 5) is None
    with pytest.raises(RuntimeError, match="cublasLtMatmulDescCreate: NOT_SUPPORTED"):
        library.descriptor(68, 0)


@pytest.mark.skipif(driver.is_installed(), reason="there it is replaced")
def test_no_library_is_found_without_cublas() -> None:
    found = cublaslt.load(SimpleNamespace())
    assert found is None or isinstance(found, cublaslt.Library)


# Layers and their activations --------------------------------------------------------------------

@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
@pytest.mark.parametrize("activation", ["relu", "gelu", "gelu_tanh"])
def test_backward_of_an_activation_and_the_sums(dtype: str, activation: str) -> None:
    random = np.random.default_rng(2)
    for shape in ((5, 3), (40, 33), (1300, 3), (1, 1)):
        g, v = random.standard_normal((2, *shape))
        agree("act_bias_backward", g, v, dtype=dtype, activation=activation,
              until=5e-2 if dtype == "bfloat16" else None)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("kind", ["relu", "none"])
def test_a_layer_and_its_activation_have_the_bits_of_both(dtype: str, kind: str) -> None:
    d = getattr(torch, dtype)
    torch.manual_seed(3)
    x, w, b = (torch.randn(*s, device="cuda").to(d) for s in ((700, 6), (9, 6), (9,)))
    w[0, 0] = float("nan")                                  # relu lets it through
    found = []
    for together in (True, False):
        ts = [t.clone().requires_grad_() for t in (x, w, b)]
        if together:
            y = T.linear_relu(*ts) if kind == "relu" else \
                T.linear_gelu(*ts, approximate=kind)[0]
        else:
            y = (F.relu if kind == "relu" else F.gelu)(F.linear(*ts))
        y.backward(torch.ones_like(y) * 0.3)
        found.append([t.detach().float().cpu().numpy() for t in (y, *[t.grad for t in ts])])
    for together, apart in zip(*found):
        np.testing.assert_array_equal(together, apart)


@pytest.mark.parametrize("activation", ["relu", "gelu", nn.ReLU(), nn.GELU()], ids=str)
def test_layers_of_a_transformer(activation: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(4)
    layer = nn.TransformerEncoderLayer(8, 2, 16, 0.0, activation)
    x = torch.randn(3, 2, 8)
    want = layer(x)
    want.sum().backward()
    on_device = copy.deepcopy(layer).to("cuda")
    on_device.zero_grad()
    called: list[str] = []
    monkeypatch.setattr(Hookable, "_hooked", False)     # of hooks on all modules in other tests
    for name in ("linear_relu", "linear_gelu"):
        real = getattr(T, name)
        monkeypatch.setattr(T, name,
                            lambda *a, real=real, name=name, **kw: (called.append(name),
                                                                    real(*a, **kw))[1])
    got = on_device(x.to("cuda"))
    assert len(called) == 1
    got.sum().backward()
    np.testing.assert_allclose(got.detach().cpu().numpy(), want.detach().numpy(), 2e-5, 2e-5)
    for p, q in zip(layer.parameters(), on_device.parameters()):
        np.testing.assert_allclose(q.grad.cpu().numpy(), p.grad.numpy(), 1e-4, 1e-4)
    heard: list[Any] = []
    on_device.linear1.register_forward_hook(lambda *a: heard.append(a[2].shape))
    on_device(x.to("cuda"))
    assert len(called) == 1 and len(heard) == 1
    layer.activation = nn.GELU("tanh")                      # its bits might be others
    layer.to("cuda")(x.to("cuda"))
    assert len(called) == 1
