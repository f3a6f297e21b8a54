"""``selftest``: small programs on every device in every precision, against float64 on the CPU."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import gpugrad as torch
import gpugrad.nn.functional as F
from gpugrad import dtypes, nn
from gpugrad.command.line import fail

# How far a result may be from the exact one, as a share of the largest number in it.
UNTIL = {"float64": 1e-10, "float32": 1e-4, "float16": 2e-2, "bfloat16": 1e-1}

Program = Callable[[Any], Any]


def _functions() -> Iterator[tuple[str, Program, tuple[tuple[int, ...], ...]]]:
    """(name, program of a list of tensors, their shapes)."""
    yield "pointwise", lambda t: F.gelu(t[0]) * t[1].sigmoid() + t[0].exp().clamp(max=2), \
        ((7, 33), (7, 33))
    yield "matrix product", lambda t: t[0] @ t[1], ((33, 65), (65, 17))
    yield "batched product", lambda t: torch.bmm(t[0], t[1]), ((3, 9, 17), (3, 17, 5))
    yield "convolution", lambda t: F.conv2d(t[0], t[1], stride=2, padding=1), \
        ((2, 3, 13, 11), (5, 3, 3, 3))
    yield "depthwise convolution", lambda t: F.conv2d(t[0], t[1], padding=1, groups=4), \
        ((2, 4, 9, 9), (4, 1, 3, 3))
    yield "transposed convolution", lambda t: F.conv_transpose2d(t[0], t[1], stride=2), \
        ((2, 3, 5, 5), (3, 4, 3, 3))
    yield "pooling", lambda t: F.max_pool2d(t[0], 3, 2, 1) + F.avg_pool2d(t[0], 3, 2, 1), \
        ((2, 3, 9, 9),)
    yield "batch norm", lambda t: F.batch_norm(t[0], None, None, t[1], t[2], training=True), \
        ((6, 5, 7), (5,), (5,))
    yield "layer norm", lambda t: F.layer_norm(t[0], (37,), t[1], t[2]), ((9, 37), (37,), (37,))
    yield "group norm", lambda t: F.group_norm(t[0], 2, t[1], t[2]), ((3, 6, 5), (6,), (6,))
    yield "softmax", lambda t: F.softmax(t[0], -1) * F.log_softmax(t[0], 0), ((11, 70),)
    yield "cross entropy", lambda t: F.cross_entropy(
        t[0], torch.arange(9, device=t[0].device) % 5, label_smoothing=0.1), ((9, 5),)
    yield "attention", lambda t: F.scaled_dot_product_attention(t[0], t[1], t[2], is_causal=True), \
        ((2, 3, 19, 8),) * 3
    yield "sums", lambda t: t[0].sum(1) + t[0].mean(1) + t[0].var(1) + t[0].logsumexp(1), \
        ((6, 301),)
    yield "running sums", lambda t: t[0].cumsum(1).div(40) + t[0].sigmoid().cumprod(1), ((4, 40),)
    yield "sorting", lambda t: t[0].sort(1)[0] * t[0].topk(9, 1)[0].sum(), ((5, 31),)
    yield "indexing", lambda t: t[0][torch.arange(12, device=t[0].device) % 5, 1:].sum(0), ((5, 9),)
    yield "embedding", lambda t: F.embedding(torch.arange(14, device=t[0].device) % 6, t[0]), \
        ((6, 5),)


def _data(shapes: Any, dtype: Any, device: Any) -> list[Any]:
    """The same numbers everywhere, rounded to the precision that is tried."""
    generator = torch.Generator().manual_seed(7)
    out = []
    for shape in shapes:
        values = torch.randn(shape, generator=generator).to(dtype)
        out.append(values.to(device).requires_grad_())
    return out


def _outcome(program: Program, tensors: list[Any]) -> list[Any]:
    """Result and gradients, as float64 on the CPU."""
    result = program(tensors)
    weights = torch.linspace(0.5, 1.5, result.numel(), dtype=torch.float64)
    result.backward(weights.to(result.device, result.dtype).reshape(result.shape))
    return [t.detach().cpu().double() for t in (result, *[t.grad for t in tensors])]


def _difference(got: list[Any], want: list[Any]) -> float:
    """The greatest difference, as a share of the greatest number; inf for NaN."""
    worst = 0.0
    for a, b in zip(got, want):
        share = ((a - b).abs().max() / b.abs().max().clamp(min=1e-3)).item()
        worst = max(worst, share) if share == share else float("inf")
    return worst


def _training(device: Any) -> float:
    """How far a recurrent and a convolutional network's losses are from the CPU's in float64."""
    def losses(device: Any, dtype: Any) -> Any:
        torch.manual_seed(3)
        conv = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2))
        lstm, head = nn.LSTM(12, 8), nn.Linear(8, 3)
        net = nn.ModuleList([conv, lstm, head]).to(device, dtype)
        opt = torch.optim.AdamW(net.parameters(), lr=0.01)
        x = torch.randn(6, 1, 8, 8, dtype=torch.float64).to(device, dtype)
        y = (torch.arange(6) % 3).to(device)
        found = []
        for _ in range(4):
            opt.zero_grad()
            loss = F.cross_entropy(head(lstm(conv(x).flatten(2).transpose(1, 2).transpose(
                0, 1).reshape(3, 6, 12))[0][-1]), y)
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            opt.step()
            found.append(loss.detach())
        return [torch.stack(found).cpu().double()]
    return _difference(losses(device, torch.float32), losses("cpu", torch.float64))


def _drops(device: Any) -> bool:
    """Does dropout keep its share, and give the same from the same seed?"""
    def drawn() -> Any:
        torch.manual_seed(5)
        return F.dropout(torch.ones(4000, device=device), 0.25)
    first = drawn()
    return bool((first == drawn()).all()) and abs(first.mean().item() - 1) < 0.05


def _compared(program: Program, shapes: Any, dtype: Any, device: Any) -> float:
    exact = [t.detach().double().cpu().requires_grad_() for t in _data(shapes, dtype, "cpu")]
    got = _outcome(program, _data(shapes, dtype, device))
    return _difference(got, _outcome(program, exact))


def _checks(device: Any) -> Iterator[tuple[str, str, Callable[[], float], float]]:
    """(program, precision, what finds its difference, limit) for one device."""
    for name, program, shapes in _functions():
        for precision, limit in UNTIL.items():
            if precision == "bfloat16" and not dtypes.has_bfloat16():
                continue
            yield name, precision, partial(_compared, program, shapes, getattr(torch, precision),
                                           device), limit
    yield "training", "float32", lambda: _training(device), 1e-3
    yield "dropout", "float32", lambda: 0.0 if _drops(device) else float("inf"), 0.0


def run(options: Any) -> int:
    """Run all checks on all devices; prints a line for each that fails."""
    names = ["cpu", *[f"cuda:{i}" for i in range(torch.cuda.device_count())]]
    if options.device:
        names = [options.device]
    elif not torch.cuda.is_available():
        print(f"without CUDA: {torch.cuda.unavailable_reason()}")
    failures = 0
    for name in names:
        try:
            device = torch.zeros(0, device=name).device
        except RuntimeError as e:
            return fail(str(e).splitlines()[0])
        if device.type == "meta":
            return fail("the meta device computes nothing: name cpu or a CUDA device")
        count = wrong = 0
        for program, precision, difference, limit in _checks(device):
            count += 1
            try:
                off = difference()
                why = "" if off <= limit else f"is off by {off:.1e}, more than {limit:.0e}"
            except Exception as e:               # a kernel that doesn't compile, no memory...
                why = f"raised {type(e).__name__}: {str(e).partition(chr(10))[0]}"
            if why:
                wrong += 1
                print(f"{device}: {program} in {precision} {why}")
        print(f"{device}: {count - wrong} of {count} checks passed")
        failures += wrong
    return int(failures > 0)
