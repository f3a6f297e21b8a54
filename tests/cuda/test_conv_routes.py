"""Every way of a convolution gives what float64 gives on the CPU; and which way is taken."""
from __future__ import annotations

import itertools
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import gpugrad as torch
import gpugrad.nn.functional as F
from gpugrad import backend
from gpugrad.backend import kernels, precision
from gpugrad.ops import conv_routes as routes

pytestmark = pytest.mark.gpu

FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
UNTIL = {torch.float32: 1e-5, torch.float64: 1e-12, torch.float16: 1e-2, torch.bfloat16: 8e-2}
LAST = torch.channels_last
KINDS = "forward", "grad_input", "grad_weight"

# x, w, stride, padding, dilation, groups
SHAPES: dict[str, tuple[Any, ...]] = {
    "plain": ((2, 3, 7, 6), (5, 3, 3, 3), (1, 1), (1, 1), (1, 1), 1),
    "one channel": ((3, 1, 9, 8), (6, 1, 5, 5), (1, 1), (2, 2), (1, 1), 1),
    "LeNet's second": ((2, 6, 8, 8), (16, 6, 5, 5), (1, 1), (0, 0), (1, 1), 1),
    "stem": ((1, 3, 13, 11), (18, 3, 7, 7), (2, 2), (3, 3), (1, 1), 1),
    "uneven": ((2, 4, 9, 5), (6, 2, 2, 3), (2, 1), (0, 2), (1, 2), 2),
    "wide apart": ((1, 2, 9, 9), (4, 2, 3, 3), (3, 2), (4, 1), (2, 3), 1),
    "1 x 1": ((2, 8, 5, 4), (12, 8, 1, 1), (1, 1), (0, 0), (1, 1), 1),
    "1 x 1 in groups": ((2, 8, 3, 4), (6, 4, 1, 1), (1, 1), (0, 0), (1, 1), 2),
    "1 x 1, apart": ((2, 5, 6, 7), (3, 5, 1, 1), (2, 2), (0, 0), (1, 1), 1),
    "one row": ((2, 4, 1, 17), (4, 4, 1, 4), (1, 3), (0, 2), (1, 1), 1),
    "depthwise": ((2, 5, 6, 7), (5, 1, 3, 3), (1, 1), (1, 1), (1, 1), 5),
    "depthwise, 3 each": ((2, 34, 5, 4), (102, 1, 3, 2), (2, 1), (1, 0), (1, 2), 34),
    "many windows": ((2, 2, 33, 32), (3, 2, 2, 2), (1, 1), (1, 1), (1, 1), 1),
    "many channels": ((1, 70, 3, 4), (33, 70, 3, 3), (1, 1), (1, 1), (1, 1), 1),
    "no images": ((0, 2, 4, 4), (3, 2, 3, 3), (1, 1), (0, 0), (1, 1), 1),
}


@pytest.fixture(autouse=True)
def settings() -> Iterator[Any]:
    """The settings, without TF32; afterwards they are as before, and no trial is remembered."""
    before = dict(vars(precision.convolution))
    precision.convolution.allow_tf32 = False
    yield precision.convolution
    vars(precision.convolution).update(before)
    routes._timed.clear()
    routes.decided.cache_clear()


@pytest.fixture
def went(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ways that convolutions go."""
    names: list[str] = []

    def noting(name: str, f: Any) -> Any:
        return lambda *args: names.append(name) or f(*args)     # type: ignore[func-returns-value]
    for name, way in routes.WAYS.items():
        monkeypatch.setitem(routes.WAYS, name, types.SimpleNamespace(
            takes=way.takes, **{kind: noting(name, getattr(way, kind)) for kind in KINDS}))
    return names


def real(shape: Any, seed: int, dtype: Any = torch.float64) -> Any:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape)).to(dtype)


def case_of(shape: Any, dtype: Any = torch.float32, last: bool = False) -> Any:
    x, w, *where = shape
    y = routes.out_hw(x[2:], w[2:], *where[:3])
    return routes.Case(x, w, (x[0], w[0], *y), *where, torch.ones(1, dtype=dtype)._a.dtype, last)


def run(device: str, dtype: Any, shape: Any, last: bool = False, bias: bool = True,
        calculated: Any = None) -> list[Any]:
    """A convolution of numbers of a dtype with its gradients of both orders."""
    def draw(shape: Any, seed: int) -> Any:
        return real(shape, seed, dtype).to(device, calculated or dtype)
    x, w, *where = shape
    leaves = [draw(x, 0), draw(w, 1), *[draw(w[0], 2)] * bias]
    if last:
        leaves[:2] = [t.contiguous(memory_format=LAST) for t in leaves[:2]]
    x, w, *b = [t.requires_grad_() for t in leaves]
    y = F.conv2d(x, w, *(b or [None]), *where)
    slope = draw(y.shape, 3).requires_grad_()
    first = torch.autograd.grad(y, leaves, slope, create_graph=True)
    second = torch.autograd.grad(first, [x, w, slope], [draw(g.shape, 4) for g in first])
    return [y.detach(), *[g.detach() for g in first], *second]


def agree(dtype: Any, shape: Any, last: bool = False, bias: bool = True, until: float = 0,
          ) -> list[Any]:
    """Results on the GPU, and that they are what float64 gives of the same numbers."""
    got = run("cuda", dtype, shape, last, bias)
    want = run("cpu", dtype, shape, False, bias, torch.float64)
    until = until or UNTIL[dtype]
    for k, (a, b) in enumerate(zip(got, want, strict=True)):
        assert a.is_cuda and a.dtype is dtype and a.shape == b.shape, k
        scale = max(1.0, b.abs().max().item()) if b.numel() else 1.0
        np.testing.assert_allclose(a.cpu().double().numpy(), b.numpy(), rtol=until,
                                   atol=until * scale, err_msg=f"{shape} {dtype} {last} {k}")
    return got


@pytest.mark.parametrize("name", ["depthwise", "direct", "implicit", "columns"])
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_every_way(name: str, dtype: Any, settings: Any) -> None:
    be, count = backend.get("cuda"), 0
    tf32 = settings.allow_tf32 = name == "implicit" and dtype is torch.float32
    for k, ((label, shape), last) in enumerate(itertools.product(SHAPES.items(), (False, True))):
        case = case_of(shape, dtype, last)
        if not all(routes.WAYS[name].takes(be, kind, case) for kind in KINDS) or (
                label == "no images" and name != "columns"):
            continue
        with routes.only(name):
            agree(dtype, shape, last, bool(k % 3), 5e-3 if tf32 else 0)
        count += 1
    assert count >= {"depthwise": 4, "direct": 26, "columns": 30,
                     "implicit": 0 if dtype is torch.float64 else 8}[name]


def test_every_order_of_threads() -> None:
    if not torch.cuda.sim.is_simulated():
        pytest.skip("the simulated device has orders")
    from gpugrad.cudasim.kernel import settings as simulated
    for order, name, shape in itertools.product(
            ("reversed", 5), ("direct", "columns", "depthwise"), ("uneven", "depthwise, 3 each")):
        if name == "depthwise" and shape == "uneven":
            continue
        with simulated.using(order=order), routes.only(name):
            agree(torch.float32, SHAPES[shape], last=True)


def test_arrays_of_more_than_two_billion_elements(monkeypatch: pytest.MonkeyPatch) -> None:
    """What they run, on small ones: the kernels with 64-bit indices."""
    monkeypatch.setattr(kernels, "NARROW", 0)
    for name, shape in (("direct", "uneven"), ("columns", "uneven"), ("depthwise", "depthwise")):
        with routes.only(name):
            agree(torch.float32, SHAPES[shape], last=True)


def test_which_way(went: list[str], settings: Any) -> None:
    be = backend.get("cuda")

    def way(kind: str, x: Any, w: Any, dtype: Any = torch.float32, groups: int = 1,
            padding: Any = (1, 1), tf32: bool = False) -> str:
        settings.allow_tf32 = tf32
        case = case_of((x, w, (1, 1), padding, (1, 1), groups), dtype)
        return routes.by_rule(be, kind, case, tf32)
    for kind in KINDS:
        assert way(kind, (8, 32, 9, 9), (32, 1, 3, 3), groups=32) == "depthwise"
        assert way(kind, (64, 1, 28, 28), (6, 1, 5, 5)) == "direct"
        assert way(kind, (64, 6, 14, 14), (16, 6, 5, 5)) == "direct"
        assert way(kind, (64, 64, 56, 56), (64, 64, 3, 3)) == "columns"
        large = (64, 64, 56, 56), (64, 64, 3, 3)
        assert way(kind, *large, tf32=True) == way(kind, *large, torch.float16) == "implicit"
        assert way(kind, *large, torch.float64) == "columns"
        assert way(kind, (64, 64, 56, 56), (256, 64, 1, 1), torch.float16, 1, (0, 0)) == "columns"
        assert way(kind, (1, 64, 4, 4), (64, 64, 3, 3), torch.float16) == "columns"
    assert way("forward", (64, 3, 224, 224), (64, 3, 7, 7)) == "direct"
    assert way("grad_weight", (64, 3, 224, 224), (64, 3, 7, 7)) == "columns"
    agree(torch.float32, SHAPES["plain"])
    assert set(went) == {"direct"}


def test_a_way_that_is_forced_must_take_it() -> None:
    with routes.only("depthwise"), pytest.raises(ValueError, match="no forward of Case"):
        F.conv2d(torch.ones(1, 2, 4, 4, device="cuda"), torch.ones(2, 2, 3, 3, device="cuda"))


def test_tf32_only_where_it_is_allowed_and_pays(settings: Any, monkeypatch: Any) -> None:
    """The simulated device rounds as tensor cores do, so the setting can be seen."""
    x, w = (real(s, k).float().cuda() for k, s in enumerate(((1, 8, 9, 9), (8, 8, 3, 3))))
    want = F.conv2d(x.cpu(), w.cpu())

    def error(name: str) -> float:
        with routes.only(name):
            return float((F.conv2d(x, w).cpu() - want).abs().max())
    settings.allow_tf32 = True
    assert error("columns") < 1e-4                      # too small
    monkeypatch.setattr(routes, "MANY", 1)
    routes.decided.cache_clear()
    if torch.cuda.get_device_capability() >= (8, 0):
        assert 1e-4 < error("columns") < 1e-1 and 1e-4 < error("implicit") < 1e-1
    torch.backends.cudnn.allow_tf32 = False
    monkeypatch.setattr(precision.matmul, "float32", "high")        # that is about other products
    assert error("columns") < 1e-4 and error("direct") < 1e-4
    assert precision.here.tf32 is None and precision.matmul.tf32


def test_benchmark_tries_all_once(settings: Any, went: list[str],
                                  monkeypatch: pytest.MonkeyPatch) -> None:
    settings.benchmark = True
    times, made = iter([3.0, 1.0, 2.0]), []
    fastest, be = routes.fastest, backend.get("cuda")
    monkeypatch.setattr(routes, "fastest", lambda *a: made.append(a[1]) or fastest(*a))
    monkeypatch.setattr(be.cupy.cuda, "get_elapsed_time", lambda start, end: next(times))
    x, w = (real(s, k).half().cuda() for k, s in enumerate(((1, 8, 9, 9), (8, 8, 3, 3))))
    want = F.conv2d(x.cpu(), w.cpu())
    for _ in range(3):
        torch.testing.assert_close(F.conv2d(x, w).cpu(), want, rtol=1e-2, atol=1e-2)
    assert made == ["forward"] and went[-3:] == ["implicit"] * 3    # the second of three
    assert next(times, None) is None and len(went) == 3 * (1 + routes.TRIALS) + 3
    settings.benchmark_limit = 1
    F.conv2d(x[..., :5], w)
    assert made == ["forward"] * 2 and went[-1] == "direct"


def test_nothing_is_tried_out_in_a_capture(settings: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(routes, "fastest", lambda *a: pytest.fail("a trial"))
    x, w = torch.ones(1, 2, 5, 5, device="cuda"), torch.ones(3, 2, 3, 3, device="cuda")
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        F.conv2d(x, w)
    torch.cuda.current_stream().wait_stream(side)
    settings.benchmark = True
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = F.conv2d(x, w)
    x.fill_(2)
    graph.replay()
    assert y.cpu().eq(36).all()
    settings.benchmark = False


def test_columns_are_made_in_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    be, sizes = backend.get("cuda"), []
    monkeypatch.setattr(be, "column_bytes", 2 * 36 * 27 * 4)        # two images at a time
    launch = kernels.Kernels.launch

    def noted(self: Any, file: str, *rest: Any) -> None:
        if file == "im2col":
            sizes.append(max(a.nbytes for a in rest[3] if isinstance(a, be.ndarray)))
        launch(self, file, *rest)
    monkeypatch.setattr(kernels.Kernels, "launch", noted)
    shape = (5, 3, 6, 6), (4, 3, 3, 3), (1, 1), (1, 1), (1, 1), 1
    for last in (False, True):
        with routes.only("columns"):
            agree(torch.float32, shape, last)
    assert len(sizes) > 20 and max(sizes) <= 2 * 36 * 27 * 4


def test_contiguous_images_are_copied_a_part_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their weight gradient is made of rows of channels."""
    monkeypatch.setattr(backend.get("cuda"), "column_bytes", 1 << 14)
    x, w = real((32, 64, 4, 4), 0).float().cuda(), real((64, 64, 1, 1), 1).float().cuda()
    w.requires_grad_()
    with routes.only("columns"):
        y = F.conv2d(x, w)
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        found, = torch.autograd.grad(y, w, torch.ones_like(y))
    took = torch.cuda.max_memory_allocated() - before - 4 * y.numel()
    assert took < 4 * x.numel()
    want = torch.einsum("ncl->c", x.double().cpu().flatten(2)).expand(64, 64)
    assert (found[..., 0, 0].cpu() - want).abs().max().item() < 1e-3
