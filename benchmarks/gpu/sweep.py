"""Every op on the GPU, forward and backward, against the CPU in float64."""
from __future__ import annotations

import importlib
import re
import sys
from typing import Any

import numpy as np

import gpugrad as torch
from gpugrad import backend, nn, optim
from gpugrad._tensor import wrap
from gpugrad.autograd.rules import tensors as ops
from gpugrad.backend import kernels
from gpugrad.nn import functional as F
from gpugrad.ops import conv_implicit as implicit
from gpugrad.ops import load
from gpugrad.ops.conv_routes import only
from measure import ROOT

SPECS = load()

TESTS = ROOT / "tests"
sys.path.insert(0, str(TESTS))

DTYPES = ("float32", "float64", "float16", "bfloat16")
# How many times the distance of two neighbouring numbers at the largest magnitude of the result.
# The records' samples are small: sums of a few dozen numbers of about 1.
ALLOWED = {"float32": 64, "float64": 64, "float16": 16, "bfloat16": 16}


def run(dry_run: bool) -> dict[str, Any]:
    """The largest error of each op and dtype, what is wrong, and which kernels never ran."""
    op_db = importlib.import_module("op_db")
    for path in TESTS.glob("op_db_*.py"):           # importing them makes the records
        importlib.import_module(path.stem)
    launched = watch_launches()
    errors: dict[str, dict[str, float]] = {}
    failures: list[str] = []
    for name in sorted(op_db.RECORDS):
        record = op_db.RECORDS[name]
        for dtype in DTYPES:
            if dtype == "bfloat16" and not bfloat16():
                continue
            if "16" in dtype and name.endswith("_backward"):
                continue        # their statistics are float32 then: run by their op's gradient
            worst = 0.0
            for case in record.samples():
                if "16" in dtype and name in op_db.NOT_OF_16_BITS:
                    continue
                try:
                    worst = max(worst, *differences(name, case, dtype), 0.0)
                except NotImplementedError:
                    continue
                except Exception as e:              # an op that fails must not end the sweep
                    failures.append(f"{name} {dtype}: {type(e).__name__}: {str(e)[:300]}")
                    break
            errors.setdefault(name, {})[dtype] = worst
            if not worst <= ALLOWED[dtype] * record.tolerance / 4e-3:
                failures.append(f"{name} {dtype}: off by {worst:.3g} units in the last place")
    for dtype in DTYPES if bfloat16() else DTYPES[:-1]:
        for name, program in PROGRAMS.items():
            try:
                worst = max(distance(host(a), host(b), dtype) for a, b in zip(
                    program("cuda", getattr(torch, dtype)), program("cpu", torch.float64)))
            except NotImplementedError:
                continue
            except Exception as e:
                failures.append(f"{name} {dtype}: {type(e).__name__}: {str(e)[:300]}")
                continue
            errors.setdefault(name, {})[dtype] = worst
            if not worst <= 4 * ALLOWED[dtype]:         # several steps, each rounded
                failures.append(f"{name} {dtype}: off by {worst:.3g} units in the last place")
    everything = {f"{file}.{kernel}" for file, text in kernels.sources().items()
                  for kernel in re.findall(r"__global__\s+void\s+(?:__launch_bounds__\(.*?\)\s*)?"
                                           r"(\w+)\s*\(", text)}
    return {"ops": len(errors), "errors": errors, "failures": failures,
            "kernels": sorted(launched), "never_launched": sorted(everything - launched)}


# Programs of several calls: (device, dtype) to tensors, from the same numbers everywhere ---------

def numbers(seed: int, *shape: int, device: str, dtype: Any) -> Any:
    """Multiples of 1/8, which every dtype holds exactly."""
    eighths = np.random.default_rng(seed).integers(-16, 17, shape)
    return torch.tensor(eighths / 8, dtype=dtype, device=device)


def trained(make: Any, **options: Any) -> Any:
    def program(device: str, dtype: Any) -> list[Any]:
        sizes = [(3, 5), (1000,), (1,), (0, 3)] + [(7,)] * 120      # more than one launch holds
        parameters = [nn.Parameter(numbers(i, *n, device=device, dtype=dtype))
                      for i, n in enumerate(sizes)]
        optimizer = make(parameters, **options)
        for step in range(3):
            for i, p in enumerate(parameters):
                p.grad = numbers(1000 * step + i, *p.shape, device=device, dtype=dtype)
            optimizer.step()
        return parameters
    return program


def clipped(how: Any) -> Any:
    def program(device: str, dtype: Any) -> list[Any]:
        parameters = [nn.Parameter(numbers(i, n, device=device, dtype=dtype))
                      for i, n in enumerate((3, 2000, 1, 77))]
        for i, p in enumerate(parameters):
            p.grad = numbers(50 + i, *p.shape, device=device, dtype=dtype)
        norm = how(parameters)
        return [p.grad for p in parameters] + ([] if norm is None else [norm])
    return program


def crossed(n: int = 6, **options: Any) -> Any:
    def program(device: str, dtype: Any) -> list[Any]:
        x = numbers(1, n, 11, 4, device=device, dtype=dtype).requires_grad_()
        target = torch.tensor(np.random.default_rng(2).integers(0, 11, (n, 4)), device=device)
        weight = numbers(3, 11, device=device, dtype=dtype).abs() + 1
        loss = F.cross_entropy(x, target, weight, ignore_index=4, **options)
        loss.sum().backward()
        return [loss, x.grad]
    return program


def dropped(device: str, dtype: Any) -> list[Any]:
    """Whatever is dropped, the rest is doubled, and gradients go the same way."""
    x = (numbers(1, 3001, device=device, dtype=dtype).abs() + 1).requires_grad_()
    y = F.dropout(x, 0.5)
    y.sum().backward()
    kept = y != 0
    share = 0.4 < kept.to(torch.float32).mean().item() < 0.6
    same = ((x.grad == 2) == kept).all() and (y[kept] == 2 * x[kept]).all()
    return [torch.tensor([share, bool(same)], device=device)]


def drawn(device: str, dtype: Any) -> list[Any]:
    """Numbers from 0 to 1, as even as they should be."""
    torch.manual_seed(1)
    x = torch.rand(10000, device=device)
    state = torch.cuda.get_rng_state()
    again = torch.rand(10, device="cuda")
    torch.cuda.set_rng_state(state)
    repeated = (torch.rand(10, device="cuda") == again).all().item()
    even = abs(x.mean().item() - 0.5) < 0.02 and 0 <= x.min().item() <= x.max().item() < 1
    return [torch.tensor([even, repeated], device=device)]


def counted(device: str, dtype: Any) -> list[Any]:
    """The means of drawn counts and gamma numbers, and that a seed repeats them."""
    right, n = [], 4000
    for draw, mean in [
            (lambda: torch.poisson(torch.full((n,), 5.0, device=device)), 5),
            (lambda: torch.binomial(torch.full((n,), 20.0, device=device),
                                    torch.full((n,), 0.25, device=device)), 5),
            (lambda: torch._standard_gamma(torch.full((n,), 2.0, device=device)), 2)]:
        torch.manual_seed(1)
        x = draw()
        torch.manual_seed(1)
        right += [abs(x.mean().item() - mean) < 0.25, (draw() == x).all().item()]
    return [torch.tensor(right, device=device)]


def attended(width: int) -> Any:
    """Attention with heads so wide: up to 64, and above, it has kernels of its own."""
    def program(device: str, dtype: Any) -> list[Any]:
        q, k, v = [numbers(i, 1, 2, n, width, device=device, dtype=dtype).requires_grad_()
                   for i, n in enumerate((5, 9, 9))]
        out = F.scaled_dot_product_attention(q, k, v)
        out.backward(numbers(3, *out.shape, device=device, dtype=dtype))
        return [out, q.grad, k.grad, v.grad]
    return program


def convolved(way: str, c: int, k: int, groups: int = 1, last: bool = False, tile: Any = None
              ) -> Any:
    """A convolution that goes this way on a GPU; ``tile``: of the kernels on tensor cores.

    Its numbers have so few digits that TF32 holds them.
    """
    def program(device: str, dtype: Any) -> list[Any]:
        format = torch.channels_last if last else torch.contiguous_format
        x, w = (numbers(i, *shape, device=device, dtype=dtype).to(memory_format=format)
                .requires_grad_() for i, shape in enumerate(((2, c, 9, 8), (k, c // groups, 3, 3))))
        names = "TILES", "WEIGHT_TILES"
        tiles = [getattr(implicit, name) for name in names]
        for name, before in zip(names, tiles if tile else ()):
            setattr(implicit, name, (tile if tile in before else before[-1],))
        try:
            with only(way if device == "cuda" else ""):
                y = F.conv2d(x, w, padding=1, groups=groups)
                y.backward(numbers(3, *y.shape, device=device, dtype=dtype))
        except ValueError as e:
            raise NotImplementedError(str(e)) from e        # not of this dtype
        finally:
            for name, before in zip(names, tiles):
                setattr(implicit, name, before)
        return [y, x.grad, w.grad]
    return program


def unscaled(device: str, dtype: Any) -> list[Any]:
    grads = [numbers(i, n, device=device, dtype=dtype) for i, n in enumerate((5, 3000))]
    found = torch.zeros(1, device=device)
    torch._amp_foreach_non_finite_check_and_unscale_(grads, found,
                                                     torch.full((1,), 0.25, device=device))
    scale, tracker = torch.full((1,), 8.0, device=device), \
        torch.zeros(1, dtype=torch.int32, device=device)
    torch._amp_update_scale_(scale, tracker, found, 2.0, 0.5, 1)
    return [*grads, found, scale]


def replayed(device: str, dtype: Any) -> list[Any]:
    """Three training steps with dropout: as one graph on a GPU, else one after another."""
    torch.cuda.manual_seed(3)
    w = nn.Parameter(numbers(1, 6, 5, device="cuda", dtype=torch.float32))
    x = numbers(2, 8, 5, device="cuda", dtype=torch.float32)
    optimizer = optim.SGD([w], lr=0.125)

    def step() -> None:
        optimizer.zero_grad()
        F.dropout(F.linear(x, w), 0.5).square().mean().backward()
        optimizer.step()

    if device == "cpu":                             # the same steps without a graph
        for _ in range(4):
            step()
        return [w.detach().cpu()]
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        step()
    side.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    for _ in range(3):
        graph.replay()
    return [w.detach()]


class Recorded(nn.Module):
    """What recorded steps fuse: batch norm with ReLU and residual, norms of sums, dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv2d(c, 4, 3, padding=1) for c in (3, 4, 4)])
        self.bns = nn.ModuleList([nn.BatchNorm2d(4) for _ in range(3)])
        self.linear, self.norm, self.rms = nn.Linear(256, 260), nn.LayerNorm(260), nn.RMSNorm(260)

    def forward(self, x: Any) -> Any:
        for i in range(2):
            x = F.relu(self.bns[i](self.convs[i](x)))
        x = F.relu(self.bns[2](self.convs[2](x)) + x)
        x = self.linear(x.flatten(1))
        x = x + F.dropout(x.square(), 0.5)
        x = self.norm(x + x.sin())
        return self.rms(x + x.cos())


def recorded(device: str, dtype: Any) -> list[Any]:
    """Steps on a GPU, as one graph or one after the other: the same bits."""
    if device == "cuda" and dtype != torch.float32:
        raise NotImplementedError("they are run once")
    torch.manual_seed(0)
    torch.cuda.manual_seed(0)
    net = Recorded().to("cuda")
    optimizer = optim.Adam(net.parameters(), lr=0.01)
    xs = [numbers(i, 4, 3, 8, 8, device="cuda", dtype=torch.float32) for i in range(5)]

    def step(x: Any) -> Any:
        optimizer.zero_grad(set_to_none=False)
        loss = (net(x) ** 3).mean()
        loss.backward()
        optimizer.step()
        return loss.detach()

    run: Any = step if device == "cpu" else torch.graph_step(step)
    losses = [run(x).cpu() for x in xs]
    if device != "cpu" and not run.replays:
        raise RuntimeError(f"graph_step: {run.reason}")
    return [*losses, *[p.detach().cpu() for p in net.parameters()]]


PROGRAMS: dict[str, Any] = {
    "SGD": trained(optim.SGD, lr=0.25), "SGD on the device": trained(
        optim.SGD, lr=0.25, momentum=0.5, fused=True),
    "SGD momentum": trained(optim.SGD, lr=0.25, momentum=0.5, nesterov=True, weight_decay=0.125),
    "Adam": trained(optim.Adam, lr=0.25, eps=0.125), "Adam amsgrad": trained(
        optim.Adam, lr=0.25, eps=0.125, amsgrad=True, weight_decay=0.125, capturable=True),
    "AdamW": trained(optim.AdamW, lr=0.25, eps=0.125),
    "RMSprop": trained(optim.RMSprop, lr=0.25, eps=0.125, momentum=0.5, centered=True),
    "Adamax": trained(optim.Adamax, lr=0.25, eps=0.125),
    "NAdam": trained(optim.NAdam, lr=0.25, eps=0.125),
    "RAdam": trained(optim.RAdam, lr=0.25, eps=0.125),
    "Adagrad": trained(optim.Adagrad, lr=0.25, eps=0.125),
    "Adagrad on the device": trained(optim.Adagrad, lr=0.25, eps=0.125, fused=True),
    "Adadelta": trained(optim.Adadelta, lr=0.25, eps=0.125),
    "Rprop": trained(optim.Rprop, lr=0.25), "ASGD": trained(optim.ASGD, lr=0.25, t0=1),
    "clip_grad_norm_": clipped(lambda p: nn.utils.clip_grad_norm_(p, 1.0)),
    "clip_grad_value_": clipped(lambda p: nn.utils.clip_grad_value_(p, 0.5)),
    "cross_entropy": crossed(), "cross_entropy sum": crossed(reduction="sum"),
    "cross_entropy rows": crossed(reduction="none", label_smoothing=0.125),
    "cross_entropy of many": crossed(5000),
    "attention of 64": attended(64), "attention": attended(72),
    "dropout": dropped, "rand": drawn, "counts": counted, "unscale": unscaled,
    "graph": replayed, "graph_step": recorded,
    **{f"convolution by {way}, {order}": convolved(way, 12, 20, last=order == "channels last")
       for way in ("columns", "direct", "implicit") for order in ("contiguous", "channels last")},
    **{f"depthwise convolution, {order}": convolved("depthwise", 6, 6, 6, order == "channels last")
       for order in ("contiguous", "channels last")},
    **{f"convolution in tiles of {tile}": convolved("implicit", 40, tile[1] + 8, tile=tile)
       for tile in implicit.TILES},
    **{f"{make.__name__} on the device": trained(make, lr=0.25, capturable=True)
       for make in (optim.AdamW, optim.RMSprop, optim.Rprop, optim.ASGD)},
    **{f"{make.__name__} on the device": trained(make, lr=0.25, eps=0.125, capturable=True)
       for make in (optim.Adamax, optim.NAdam, optim.RAdam, optim.Adadelta)},
}


def watch_launches() -> set[str]:
    """The names of the kernels that are launched from now on."""
    seen: set[str] = set()
    device_kernels: Any = backend.get("cuda").kernels       # type: ignore[attr-defined]
    launch = device_kernels.launch

    def watched(file: str, name: str, *args: Any, **kw: Any) -> None:
        seen.add(f"{file}.{name}")
        launch(file, name, *args, **kw)

    device_kernels.launch = watched
    return seen


def bfloat16() -> bool:
    """Whether arrays of bfloat16 can be had here."""
    try:
        torch.zeros(1, dtype=torch.bfloat16, device="cuda")
        return True
    except (NotImplementedError, ImportError, RuntimeError, TypeError):
        return False


def differences(name: str, case: Any, dtype: str) -> list[float]:
    """How far results and gradients are off, in units in the last place of the largest number."""
    results = []
    for device, wide in ("cuda", False), ("cpu", True):
        be, spec = backend.get(device), SPECS[name]
        without_gradients = importlib.import_module("op_db_pointwise").UNDEFINED
        tensors: list[Any] = []
        for i, a in enumerate(case.args):
            if a is None:
                tensors.append(None)
                continue
            if a.dtype.kind == "f":                 # rounded alike for both
                a = a.astype(getattr(torch, dtype).np).astype(
                    np.float64 if wide else getattr(torch, dtype).np)
            t = wrap(be.from_host(a), be)
            differentiable = (min(i, len(spec.names) - 1) in spec.diff
                              and name not in without_gradients)
            tensors.append(t.requires_grad_(differentiable and t.is_floating_point()))
        out = getattr(ops, name)(*tensors, **case.kw)
        outs = out if isinstance(out, tuple) else (out,)
        live = [t for t in outs if t.requires_grad]
        if live:
            random = np.random.default_rng(1)
            slopes = [torch.tensor(random.standard_normal(t.shape), dtype=t.dtype, device=device)
                      for t in live]
            torch.autograd.backward(live, slopes)
        results.append([host(t) for t in outs]
                       + [host(t.grad) for t in tensors if t is not None and t.requires_grad])
    if name == "max_pool2d":                        # its positions are the device's own affair
        results = [[r[0], *r[2:]] for r in results]
    return [distance(a, b, dtype) for a, b in zip(*results)]


def host(t: Any) -> Any:
    """As NumPy's float64, a complex number as two, or as it is if it holds other numbers."""
    if t is None:
        return np.zeros(0)
    if t.is_complex():
        return t.detach().to(torch.complex128).cpu().numpy().reshape(-1).view(np.float64)
    return (t.detach().to(torch.float64) if t.is_floating_point() else t.detach()).cpu().numpy()


def distance(a: Any, b: Any, dtype: str) -> float:
    """The largest difference over the spacing of the dtype's numbers at the largest magnitude."""
    if a.shape != b.shape:
        return float("inf")
    if a.dtype.kind != "f" or not a.size:
        return 0.0 if np.array_equal(a, b) else float("inf")
    if not np.array_equal(np.isfinite(a), np.isfinite(b)):
        return float("inf")
    finite = np.isfinite(b)
    if not finite.any():
        return 0.0
    size = max(float(np.abs(b[finite]).max()), 1e-3)
    return float(np.abs(a[finite] - b[finite]).max()) / (size * torch.finfo(
        getattr(torch, dtype)).eps)


def table(r: dict[str, Any]) -> str:
    """Markdown: the largest errors, what is wrong, and what never ran."""
    lines = [f"{r['ops']} ops against the CPU in float64; {len(r['kernels'])} kernels launched. "
             "Largest errors, in units in the last place at the result's largest magnitude:", "",
             "| dtype | median op | worst op | |", "| --- | --- | --- | --- |"]
    for dtype in DTYPES:
        worst = sorted((e[dtype], name) for name, e in r["errors"].items() if dtype in e)
        if worst:
            lines.append(f"| {dtype} | {worst[len(worst) // 2][0]:.2g} | {worst[-1][0]:.3g} | "
                         f"{worst[-1][1]} |")
    lines += ["", "Wrong: " + ("; ".join(r["failures"]) or "nothing") + ".",
              "Never launched: " + (", ".join(r["never_launched"]) or "none") + "."]
    return "\n".join(lines)
