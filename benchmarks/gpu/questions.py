"""What only a GPU can answer about CuPy and CUDA, each answer with a number."""
from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import gpugrad as torch
from gpu.libraries import Library
from measure import percentiles


def run(dry_run: bool) -> dict[str, Any]:
    """An answer to each question; one that fails says how."""
    answers: dict[str, Any] = {}
    for question in QUESTIONS:
        try:
            answers[question.__name__] = question(dry_run)
        except Exception as e:
            answers[question.__name__] = f"{type(e).__name__}: {str(e)[:500]}"
        print(question.__name__, answers[question.__name__], flush=True)
    return answers


def host_us(fn: Callable[[], Any], dry_run: bool) -> float | None:
    """Microseconds of the host for a call that is only queued, the least of several loops.

    A dry run has none.
    """
    loops, best = 100, float("inf")
    if dry_run:
        fn()
        return None
    for _ in range(20):
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(loops):
            fn()
        best = min(best, (time.perf_counter() - start) / loops)
    torch.cuda.synchronize()
    return round(1e6 * best, 2)


def device_ms(fn: Callable[[], Any], dry_run: bool) -> float | None:
    """Median milliseconds of the device for a call; a dry run has none."""
    if dry_run:
        fn()
        return None
    lib = Library("gpugrad", dry_run)
    for _ in range(10):
        fn()
    loops = 1
    while lib.elapsed([fn], loops) * loops < 1 and loops < 1 << 12:
        loops *= 2
    return percentiles([lib.elapsed([fn], loops) for _ in range(20)])["median"]


def random(*shape: int, dtype: Any = torch.float32) -> Any:
    """Normal numbers; never zeros, which GPUs multiply with less power and so faster."""
    return torch.randn(*shape, device="cuda").to(dtype)


COPY_ONE = 'extern "C" __global__ void copy_one(const float* x, float* y) { y[0] = x[0]; }'


def launch_cost(dry_run: bool) -> dict[str, float | None]:
    """1. Host microseconds to queue the smallest piece of work, by five ways."""
    cupy = torch.backend.cuda.needed()
    be = torch.backend.get("cuda")
    x, y = cupy.ones(8, "f4"), cupy.ones(8, "f4")
    function = cupy.RawModule(code=COPY_ONE).get_function("copy_one")
    t = torch.ones(8, device="cuda")
    out = {"CuPy ufunc": host_us(lambda: cupy.add(x, y, out=y), dry_run),
           "CuPy RawKernel": host_us(lambda: function((1,), (1,), (x, y)), dry_run),
           "gpugrad kernel": host_us(lambda: be.map("activation", "relu", x), dry_run),
           "gpugrad relu": host_us(lambda: torch.relu(t), dry_run)}
    bare = getattr(function, "kernel", None)
    if bare is not None:
        out["CuPy Function"] = host_us(lambda: bare((1,), (1,), (x, y)), dry_run)
    event = torch.cuda.Event()
    out["event"] = host_us(event.record, dry_run)
    return out


def graph_replays(dry_run: bool) -> dict[str, Any]:
    """2. Does a captured step with cuBLAS and a pool of its own give the right numbers again?"""
    x = torch.randn(64, 32, device="cuda")
    w = torch.randn(32, 16, device="cuda", requires_grad=True)
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        torch.autograd.grad((x @ w).relu().sum(), w)
    side.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        g: Any = torch.autograd.grad((x @ w).relu().sum(), w)[0]
    worst = 0.0
    for seed in range(5):
        torch.manual_seed(seed)
        with torch.no_grad():
            x.copy_(torch.randn(64, 32))
            w.copy_(torch.randn(32, 16))
        noise = [torch.randn(64, 64, device="cuda") for _ in range(8)]     # memory comes and goes
        graph.replay()
        want = x.cpu().double().T @ ((x.cpu().double() @ w.detach().cpu().double()) > 0).double()
        worst = max(worst, float((g.cpu().double() - want).abs().max()))
        del noise
    return {"largest error": worst,
            "replay, host us": host_us(graph.replay, dry_run)}


def half_batches(dry_run: bool) -> dict[str, Any]:
    """3. CuPy's batched products of 16 bits against ours: milliseconds, and whether they work."""
    cupy = torch.backend.cuda.needed()
    shape = (2, 8, 8) if dry_run else (96, 1024, 64)
    out: dict[str, Any] = {}
    for name in "float16", "bfloat16":
        dtype = getattr(torch, name)
        try:
            q, k = random(*shape, dtype=dtype), random(*shape, dtype=dtype)
        except Exception as e:
            out[name] = f"{type(e).__name__}: {e}"
            continue
        out[f"gpugrad {name} ms"] = device_ms(partial(torch.matmul, q, k.transpose(1, 2)),
                                              dry_run)
        try:
            out[f"CuPy {name} ms"] = device_ms(
                partial(cupy.matmul, q._a, k._a.swapaxes(1, 2)), dry_run)
        except Exception as e:
            out[f"CuPy {name}"] = f"{type(e).__name__}: {str(e)[:200]}"
    return out


def random_under_capture(dry_run: bool) -> dict[str, Any]:
    """4. Do replays draw new numbers, the ones that eager code would have drawn?"""
    x = torch.ones(1000, device="cuda")
    torch.nn.functional.dropout(x, 0.5)
    torch.cuda.manual_seed(7)
    eager = [torch.nn.functional.dropout(x, 0.5) for _ in range(4)]
    torch.cuda.manual_seed(7)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = torch.nn.functional.dropout(x, 0.5)
    replayed = []
    for _ in range(3):
        graph.replay()
        replayed.append(y.clone())
    replayed.append(torch.nn.functional.dropout(x, 0.5))        # and eager code goes on from there
    return {"as eager": [bool((a == b).all()) for a, b in zip(eager, replayed)],
            "all different": len({tuple(r.tolist()) for r in replayed}) == 4}


def cublaslt_epilogue(dry_run: bool) -> Any:
    """5. nvmath's cublasLt with a bias epilogue: does it run on CuPy's arrays?"""
    if dry_run:
        return "not on the simulated device"
    import nvmath

    cupy = torch.backend.cuda.needed()
    a, b = cupy.random.random((256, 128), "f4"), cupy.random.random((128, 64), "f4")
    bias = cupy.random.random((256, 1), "f4")
    epilog = nvmath.linalg.advanced.MatmulEpilog.BIAS
    out = nvmath.linalg.advanced.matmul(a, b, epilog=epilog, epilog_inputs={"bias": bias})
    return {"largest error": float(cupy.abs(out - (a @ b + bias)).max())}


def tf32(dry_run: bool) -> dict[str, Any]:
    """6. What TF32 costs in precision and saves in time on a float32 product."""
    n = 32 if dry_run else 4096
    a, b = random(n, n), random(n, n)
    want = a.double() @ b.double()
    out: dict[str, Any] = {}
    for allowed in False, True:
        torch.backends.cuda.matmul.allow_tf32 = allowed
        name = "tf32" if allowed else "float32"
        error = ((a @ b).double() - want).abs().max() / want.abs().max()
        out[f"{name} error"] = float(error)
        out[f"{name} ms"] = device_ms(lambda: a @ b, dry_run)
    torch.backends.cuda.matmul.allow_tf32 = False
    return out


def cudnn_frontend(dry_run: bool) -> Any:
    """7. Can cudnn-frontend, installed alone, make a handle beside CuPy?"""
    if dry_run:
        return "not on the simulated device"
    import cudnn

    handle = cudnn.create_handle()
    return {"frontend": cudnn.__version__, "backend": cudnn.backend_version(),
            "handle": bool(handle)}


def nan_patterns(dry_run: bool) -> dict[str, Any]:
    """8. Are infinities, NaN and tiny numbers what the CPU makes of them?"""
    x = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-40, 88.8, -104.0], np.float32)
    t = torch.tensor(x)
    out = {}
    for name in "relu", "sigmoid", "tanh", "exp", "log", "sqrt":
        fn = getattr(torch, name)
        a, b = fn(t).numpy(), fn(t.cuda()).cpu().numpy()
        same = np.isclose(a, b, rtol=1e-5, atol=0, equal_nan=True)
        out[name] = "as on the CPU" if same.all() else \
            f"differs at {x[~same].tolist()}: {a[~same].tolist()} and {b[~same].tolist()}"
    return out


QUESTIONS = (launch_cost, graph_replays, half_batches, random_under_capture, cublaslt_epilogue,
             tf32, cudnn_frontend, nan_patterns)


def table(answers: dict[str, Any]) -> str:
    """Markdown: a line for each answer."""
    by_name = {question.__name__: question for question in QUESTIONS}
    return "\n".join(f"- {(by_name[name].__doc__ or name).strip()} {answer}"
                     for name, answer in answers.items())
