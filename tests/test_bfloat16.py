"""bfloat16: its numbers, its place among the dtypes, every op, modules, optimizers and files."""
from __future__ import annotations

import copy
import importlib
import io
import math
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpugrad as torch
from gpugrad import nn
from gpugrad._tensor import wrap
from gpugrad.autograd.rules import tensors as T
from gpugrad.ops import load

ml_dtypes = pytest.importorskip("ml_dtypes")

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
from op_db import NOT_OF_16_BITS, RECORDS, Case, Record  # noqa: E402
from op_db_pointwise import UNDEFINED  # noqa: E402

SPECS = load()

for part in sorted(HERE.glob("op_db_*.py")):     # importing them makes the other records
    importlib.import_module(part.stem)

BF16 = torch.bfloat16
ARRAY = BF16.np
ZEROS = torch.zeros(4096, dtype=torch.int64)
LARGEST = 3.3895313892515355e38
HALF_UNIT = 2.0**-8                              # half the distance from 1 to the next number


def bf16(data: Any, **kw: Any) -> torch.Tensor:
    return torch.tensor(data, dtype=BF16, **kw)


# Numbers -----------------------------------------------------------------------------------------

@pytest.mark.parametrize("value, held", [
    (1.0, 1.0), (1 + HALF_UNIT, 1.0), (1 + 3 * HALF_UNIT, 1 + 4 * HALF_UNIT), (0.1, 0.10009765625),
    (1 + HALF_UNIT * 1.01, 1 + 2 * HALF_UNIT), (-3.3895e38, -LARGEST), (1e39, math.inf),
    (1e-40, 9.183549615799121e-41), (1e-45, 0.0), (257, 256.0), (259, 260.0), (True, 1.0)])
def test_rounding_to_nearest_even(value: float, held: float) -> None:
    assert bf16(value).item() == held
    assert torch.tensor([value], dtype=torch.float64).to(BF16).tolist() == [held]
    assert torch.tensor([value], dtype=torch.float32).bfloat16().float().tolist() == [held]


@pytest.mark.parametrize("dtype", [
    torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.float16,
    torch.float32, torch.float64, torch.complex64])
def test_casts_both_ways(dtype: torch.dtype) -> None:
    x = torch.tensor([0, 1, 100]).to(dtype)
    y = x.to(BF16)
    assert y.dtype is BF16 and y.to(dtype).dtype is dtype and torch.equal(y.to(dtype), x)


def test_python_values() -> None:
    x = bf16([[1.5, -2.0], [0.1, math.inf]])
    assert x.tolist() == [[1.5, -2.0], [0.10009765625, math.inf]]
    assert float(x[0, 0]) == 1.5 and int(x[0, 1]) == -2 and bool(x[0, 0])
    assert f"{x[1, 0]:.3f}" == "0.100"
    assert x.element_size() == x.itemsize == 2 and x.nbytes == 8


def test_bits() -> None:
    x = bf16([1.0, -2.0])
    assert x.view(torch.int16).tolist() == [0x3F80, -0x4000]
    assert torch.equal(torch.tensor([0x3F80], dtype=torch.int16).view(BF16), bf16([1.0]))


def test_text() -> None:
    assert repr(bf16([1.0, 0.1])) == "tensor([1.0000, 0.1001], dtype=torch.bfloat16)"
    assert repr(bf16([])) == "tensor([], dtype=torch.bfloat16)"
    assert repr(bf16(3e10)) == "tensor(3.0065e+10, dtype=torch.bfloat16)"
    assert bf16([1]).type() == "torch.BFloat16Tensor"
    assert torch.ones(1).type("torch.BFloat16Tensor").dtype is BF16


def test_numpy_has_no_such_dtype() -> None:
    x = bf16([1.0])
    for read in (lambda: x.numpy(), lambda: np.asarray(x), lambda: x.numpy(force=True)):
        with pytest.raises(TypeError, match="Got unsupported ScalarType BFloat16"):
            read()
    for make in (torch.from_numpy, torch.tensor, torch.as_tensor):
        with pytest.raises(TypeError, match=r"can't convert .* of type ml_dtypes\.bfloat16"):
            make(np.zeros(2, ARRAY))


def test_limits() -> None:
    f = torch.finfo(BF16)
    assert (f.bits, f.eps, f.max, f.min) == (16, 0.0078125, LARGEST, -LARGEST)
    assert f.tiny == f.smallest_normal == 2.0**-126 and f.resolution == 0.01
    assert f.dtype == "bfloat16" and "resolution=0.01" in repr(f)
    with pytest.raises(RuntimeError, match="c10::BFloat16 without overflow"):
        torch.full((2,), 1e39, dtype=BF16)


def test_what_kind_it_is() -> None:
    x = bf16([1.0])
    assert x.is_floating_point() and x.is_signed() and not x.is_complex()
    assert BF16.is_floating_point and BF16.itemsize == 2 and repr(BF16) == "torch.bfloat16"
    assert BF16.to_complex() is torch.complex64 and BF16.to_real() is BF16


# Promotion ---------------------------------------------------------------------------------------

@pytest.mark.parametrize("other, result", [
    (torch.bool, BF16), (torch.uint8, BF16), (torch.int64, BF16), (BF16, BF16),
    (torch.float16, torch.float32), (torch.float32, torch.float32),
    (torch.float64, torch.float64), (torch.complex64, torch.complex64)])
def test_promotion(other: torch.dtype, result: torch.dtype) -> None:
    x, y = bf16([1.0, 2.0]), torch.ones(2, dtype=other)
    assert (x + y).dtype is (y * x).dtype is result
    if other is not torch.complex64:
        assert (x < y).dtype is torch.bool
    expected = BF16 if other is not torch.complex64 else torch.complex64
    assert (x + torch.ones((), dtype=other)).dtype is expected


@pytest.mark.parametrize("number", [2, 2.5])
def test_numbers_are_weak(number: float) -> None:
    x = bf16([1.0, 2.0])
    for y in (x + number, number - x, x * number, number / x, x / number):
        assert y.dtype is BF16
    assert (x ** number).dtype is x.clamp(max=number).dtype is BF16


def test_a_factor_is_not_rounded_first() -> None:
    x = torch.randn(1000)
    for dtype in (BF16, torch.float16):
        y = x.to(dtype).requires_grad_()
        wide = y.detach().float()
        third = 1 / 3
        (y * third).sum().backward()
        assert torch.equal(y * third, (wide * third).to(dtype))
        assert torch.equal(y / 0.3, (wide / 0.3).to(dtype))
        assert torch.equal(y.detach().clone().mul_(third), (wide * third).to(dtype))
        assert torch.equal(y.detach().clone().div_(0.3), (wide / 0.3).to(dtype))
        assert y.grad[0].item() == torch.tensor(third).to(dtype).item()
        z = y.detach().clone().requires_grad_()
        w = z * 1.0
        w.mul_(third)
        w.sum().backward()
        assert torch.equal(z.grad, y.grad) and w.grad_fn.name() == "MulBackward0"


def test_default_dtype() -> None:
    torch.set_default_dtype(BF16)
    try:
        assert torch.get_default_dtype() is BF16
        assert torch.tensor(0.5).dtype is torch.ones(2).dtype is torch.rand(2).dtype is BF16
        assert (torch.tensor([1, 2]) / 2).dtype is torch.tensor([1, 2]).exp().dtype is BF16
        assert repr(torch.tensor([0.5])) == "tensor([0.5000])"
        assert nn.Linear(2, 3).weight.dtype is torch.Tensor([1.0]).dtype is BF16
        assert repr(torch.tensor([0.5]).float()) == "tensor([0.5000], dtype=torch.float32)"
    finally:
        torch.set_default_dtype(torch.float32)


# Every op ----------------------------------------------------------------------------------------

# Products of 16 bits of what was rounded before.
RECURRENT = [f"{kind}_layer{end}" for kind in ("rnn", "lstm", "gru") for end in ("", "_backward")]
PRODUCTS = ("act_layer_backward", "attention", "attention_backward", "linear_gelu",
            *RECURRENT[1::2])
# A GPU's products are of 16 bits, and rounded before anything is added to them.
GPU_PRODUCTS = ("addmm", "convolution", "conv_grad_input", "convolution_nd", "conv_transpose",
                "linear_relu", *RECURRENT[::2])

# What forward ops hand to these backward ops in float32.
STATISTICS = {"mean", "invstd", "r", "total", "log_sum", "shift", "lse", "cells"}


def arguments(record: Record, case: Case, device: str, wide: bool, leaf: bool) -> list[Any]:
    """The case's arguments rounded to bfloat16; wide: and then in float32, on the CPU."""
    spec, out = SPECS[record.name], []
    for i, a in enumerate(case.args):
        if a is None:
            out.append(None)
            continue
        i = min(i, len(spec.names) - 1)
        t = wrap(np.array(a.astype(ARRAY) if a.dtype.kind == "f" else a))
        if wide or (record.name.endswith("_backward") and spec.names[i] in STATISTICS):
            t = t.float() if t.is_floating_point() else t
        t = t if wide else t.to(device)
        out.append(t.requires_grad_(leaf and i in spec.diff and t.is_floating_point()))
    return out


def call(record: Record, tensors: Any, case: Case) -> tuple[Any, ...]:
    out = getattr(T, record.name)(*tensors, **case.kw)
    return out if isinstance(out, tuple) else (out,)


def numbers(t: Any) -> Any:
    t = t.detach().cpu()
    return t.double()._a if t.is_floating_point() else t._a


every = pytest.mark.parametrize("record", [RECORDS[n] for n in sorted(RECORDS) if n in SPECS],
                                ids=lambda r: r.name)


@pytest.mark.filterwarnings("ignore:.*:RuntimeWarning")
@every
def test_values_are_rounded_once(record: Record, device: str) -> None:
    """What float32 gives, rounded: half a unit of the last place, and float32's own error."""
    if record.name in NOT_OF_16_BITS:
        pytest.skip("not of 16 bits")
    until = 1.01 * HALF_UNIT
    if record.name == "nextafter":               # which is another number in each dtype
        until *= 3
    if record.name == "pow_number":              # rounds a number and between products: PyTorch's
        until *= 4
    if device == "cuda" and record.name in RECURRENT:
        until *= 4                               # products and states are rounded at each step
    if record.name in ("linear_gelu", "act_layer_backward"):     # round between their parts
        until *= 4
    rough = record.name in PRODUCTS or (device == "cuda" and record.name in GPU_PRODUCTS)
    for case in record.samples():
        found = call(record, arguments(record, case, device, False, False), case)
        expected = call(record, arguments(record, case, device, True, False), case)
        for a, b in zip(found, expected):
            if not b.is_floating_point() and device == "cuda":
                continue                         # indices may have another form there
            assert a.dtype is b.dtype or (a.dtype is BF16 and b.dtype is torch.float32)
            a, b = numbers(a), numbers(b)
            near_zero = np.abs(b).max(initial=0) * until if rough else 2e-6
            np.testing.assert_allclose(a, b, until, near_zero)


@pytest.mark.filterwarnings("ignore:.*:RuntimeWarning")
@pytest.mark.parametrize("create_graph", [False, True])
@every
def test_gradients(record: Record, create_graph: bool, device: str) -> None:
    """Those of float32, a few roundings apart; in the dtype of what they are gradients of."""
    if record.name in UNDEFINED:
        return                                   # their backward is an error
    if record.name in NOT_OF_16_BITS:
        pytest.skip("not of 16 bits")
    for case in record.samples():
        both = []
        for wide in (False, True):
            tensors = arguments(record, case, device, wide, True)
            leaves = [t for t in tensors if t is not None and t.requires_grad]
            outs = [t for t in call(record, tensors, case) if t.requires_grad]
            if not leaves or not outs:
                break
            random = np.random.default_rng(1)
            slopes = [wrap(np.array(random.standard_normal(t.shape))).to(BF16).to(t) for t in outs]
            found = torch.autograd.grad(outs, leaves, slopes, allow_unused=True,
                                        create_graph=create_graph)
            both.append(found)
            assert all(g is None or g.dtype is t.dtype for g, t in zip(found, leaves))
        for a, b in zip(*both):
            assert (a is None) == (b is None)
            if a is None or not a.numel():
                continue
            a, b = numbers(a), numbers(b)
            size = np.abs(b[np.isfinite(b)]).max(initial=1)
            np.testing.assert_allclose(a, b, 5 * HALF_UNIT, 5 * HALF_UNIT * size)


@pytest.mark.parametrize("f", [
    lambda x: x.sum(), lambda x: x.sum(0)[0], lambda x: x.cumsum(0)[-1, 0], lambda x: x.norm() ** 2,
    lambda x: x.mean() * 4096, lambda x: torch.dot(x[:, 0], x[:, 0]), lambda x: x[:, 0] @ x[:, 0],
    lambda x: (x.T @ x)[0, 0], lambda x: (x.T[None] @ x[None])[0, 0, 0],
    lambda x: (x.T @ x[:, 0])[0],
    lambda x: nn.functional.linear(x.T, x.T)[0, 0], lambda x: x.var(0, correction=0)[0] + 4096,
    lambda x: nn.functional.mse_loss(x, torch.zeros_like(x), reduction="sum"),
    lambda x: nn.functional.avg_pool2d(x.view(1, 1, 64, 64), 64)[0, 0, 0, 0] * 4096,
    lambda x: nn.functional.conv2d(x.view(1, 1, 64, 64), x.view(1, 1, 64, 64))[0, 0, 0, 0],
    lambda x: torch.zeros(1, dtype=BF16).scatter_add(0, ZEROS, x[:, 0]),
    lambda x: torch.zeros(1, dtype=BF16).index_put((ZEROS,), x[:, 0], accumulate=True),
    lambda x: x.logsumexp(0) * 4096 / (1 + math.log(4096))])
def test_sums_are_made_in_float32(f: Any) -> None:
    """In bfloat16 a sum of ones stops at 256."""
    assert f(torch.ones(4096, 1, dtype=BF16)).item() == pytest.approx(4096, rel=0.02)


def test_gradients_are_summed_in_broadcasting() -> None:
    b = torch.zeros(1, dtype=BF16, requires_grad=True)
    (torch.ones(4096, dtype=BF16) + b).sum().backward()
    assert b.grad.dtype is BF16 and b.grad.item() == 4096


def test_reductions_and_comparisons() -> None:
    x = bf16([[1.0, math.nan, -2.0], [0.0, 3.0, 3.0]])
    assert x.isnan().tolist() == [[False, True, False], [False] * 3] and x.any() and not x.all()
    assert math.isnan(x.max().item()) and x.max(1).indices.tolist() == [1, 1]
    assert x[1].max().item() == 3 and x[1].argmax().item() == 1 and x[1].argmin().item() == 0
    assert (x[1] == 3).tolist() == [False, True, True] and x.count_nonzero().item() == 5
    assert torch.equal(x[1], bf16([0, 3, 3])) and torch.allclose(x[1], x[1] * 1.001)
    assert torch.where(x[1] > 0, x[1], 0.5).dtype is BF16 and x[x > 0].tolist() == [1, 3, 3]


# Random numbers ----------------------------------------------------------------------------------

@pytest.mark.parametrize("fill", [
    lambda d: torch.rand(100, dtype=d), lambda d: torch.randn(96, dtype=d),
    lambda d: torch.empty(100, dtype=d).exponential_(2.0),
    lambda d: torch.empty(100, dtype=d).bernoulli_(0.3),
    lambda d: torch.randint(0, 9, (100,), dtype=d), lambda d: torch.randperm(50, dtype=d),
    lambda d: torch.bernoulli(torch.full((100,), 0.25, dtype=d)),
    lambda d: torch.empty(96, dtype=d).normal_(1, 3)])
def test_the_stream_of_float32_rounded(fill: Any) -> None:
    draws = []
    for dtype in (BF16, torch.float32):
        torch.manual_seed(0)
        draws.append(fill(dtype))
    assert draws[0].dtype is BF16 and torch.equal(draws[0], draws[1].bfloat16())


def test_uniform_numbers_are_below_the_bound() -> None:
    torch.manual_seed(0)
    x = torch.rand(20000, dtype=BF16)
    assert 0 <= x.min().item() and x.max().item() < 1
    x.uniform_(2.0, 3.0)
    assert 2 <= x.min().item() and x.max().item() < 3
    assert x.random_().max().item() == 256


# Modules, optimizers, files ----------------------------------------------------------------------

def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(4, 4, 3), nn.GELU(), nn.AvgPool2d(2), nn.Flatten(), nn.LayerNorm(4),
        nn.Dropout(0.1), nn.Linear(4, 3))


@pytest.mark.parametrize("make", [
    lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True),
    lambda p: torch.optim.Adam(p, lr=0.01, amsgrad=True),
    lambda p: torch.optim.AdamW(p, lr=0.01), lambda p: torch.optim.RMSprop(p, lr=0.003)])
def test_training(make: Any) -> None:
    torch.manual_seed(0)
    net = network().to(BF16)
    assert all(p.dtype is BF16 for p in net.parameters())
    assert net[1].running_mean.dtype is BF16 and net[1].num_batches_tracked.dtype is torch.int64
    opt = make(net.parameters())
    x, y = torch.randn(32, 1, 8, 8, dtype=BF16), torch.arange(32) % 3
    x += y.view(-1, 1, 1, 1)
    losses = []
    for _ in range(40):
        loss = nn.functional.cross_entropy(net(x), y)
        opt.zero_grad()
        loss.backward()
        assert all(p.grad.dtype is BF16 for p in net.parameters())
        opt.step()
        losses.append(loss.item())
    assert loss.dtype is BF16 and losses[-1] < 0.6 * losses[0]
    assert all(p.dtype is BF16 for p in net.parameters())


def test_module_casts() -> None:
    net = network().bfloat16()
    assert net[0].weight.dtype is BF16 and net.float()[0].weight.dtype is torch.float32
    assert net.to(torch.ones(1, dtype=BF16))[0].bias.dtype is BF16


def test_orthogonal_matrices() -> None:
    q = nn.init.orthogonal_(torch.empty(6, 6, dtype=BF16))
    assert q.dtype is BF16 and torch.allclose(q @ q.T, torch.eye(6, dtype=BF16), atol=0.02)


def test_clipping() -> None:
    p = nn.Parameter(torch.ones(100, dtype=BF16))
    p.grad = torch.full((100,), 3.0, dtype=BF16)
    assert nn.utils.clip_grad_norm_([p], 1.0).item() == pytest.approx(30, rel=0.01)
    assert p.grad.norm().item() == pytest.approx(1, rel=0.01) and p.grad.dtype is BF16


@pytest.mark.parametrize("x", [
    torch.arange(12.0).to(BF16).view(3, 4), torch.arange(12.0).to(BF16).view(3, 4).t()[1:],
    torch.tensor(1.5, dtype=BF16), torch.zeros(0, 3, dtype=BF16),
    torch.ones(2, dtype=BF16).expand(3, 2)])
def test_copies_and_files(x: torch.Tensor) -> None:
    file = io.BytesIO()
    torch.save({"x": x}, file)
    file.seek(0)
    for y in (torch.load(file)["x"], copy.deepcopy(x), pickle.loads(pickle.dumps(x)), x.clone()):
        assert y.dtype is BF16 and y.shape == x.shape and torch.equal(x, y)


def test_state_dict() -> None:
    a, b = network().bfloat16(), network().bfloat16()
    opt = torch.optim.Adam(a.parameters())
    a(torch.randn(4, 1, 8, 8, dtype=BF16)).sum().backward()
    opt.step()
    file = io.BytesIO()
    torch.save([a.state_dict(), opt.state_dict()], file)
    file.seek(0)
    weights, moments = torch.load(file)
    b.load_state_dict(weights)
    other = torch.optim.Adam(b.parameters())
    other.load_state_dict(moments)
    for p, q in zip(a.parameters(), b.parameters()):
        assert torch.equal(p, q) and torch.equal(opt.state[p]["exp_avg"], other.state[q]["exp_avg"])
        assert other.state[q]["exp_avg"].dtype is BF16


# The package ml_dtypes ---------------------------------------------------------------------------

def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60,
                          cwd=HERE.parent)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_is_imported_at_the_first_use() -> None:
    run("import sys, gpugrad as torch\n"
        "torch.finfo(torch.bfloat16), torch.ones(2).sum(), torch.nn.Linear(2, 2)\n"
        "assert 'ml_dtypes' not in sys.modules\n"
        "assert torch.ones(2).bfloat16().dtype is torch.bfloat16\n"
        "assert 'ml_dtypes' in sys.modules")


def test_a_pickle_may_be_the_first_use() -> None:
    data = pickle.dumps(bf16([1.5]))
    out = run(f"import pickle, gpugrad as torch; print(pickle.loads({data!r}) + 1)")
    assert out == "tensor([2.5000], dtype=torch.bfloat16)\n"


@pytest.mark.parametrize("use", [
    "torch.zeros(2, dtype=torch.bfloat16)", "torch.ones(2).bfloat16()",
    "torch.set_default_dtype(torch.bfloat16)", "torch.nn.Linear(2, 2).bfloat16()"])
def test_without_it(use: str) -> None:
    out = run("import sys; sys.modules['ml_dtypes'] = None\n"
              "import gpugrad as torch\n"
              f"try: {use}\n"
              "except ImportError as e: print(e.name, e)\n"
              "assert torch.ones(2).half().sum().item() == 2\n"
              "assert torch.get_default_dtype() is torch.float32")
    assert out.startswith("ml_dtypes tensors of dtype torch.bfloat16 need the package ml_dtypes: "
                          "pip install ml_dtypes")
