"""The stand-in is as CuPy is: the same calls by CuPy itself, on a simulated driver, without a GPU.

``python tests/cuda/test_cupy_itself.py`` prints what CuPy itself gives.
"""
from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpugrad.cudasim import driver
from gpugrad.cudasim.pytest_plugin import simulated_cuda as simulated_cuda

ROOT = Path(__file__).parents[2]
DTYPES = ("float32", "float16", "bfloat16", "int64", "bool")
HALVES = ("float16", "bfloat16")

Call = Callable[[Any, Any, Any], Any]       # of CuPy, an array (3, 4) and another one

CALLS: dict[str, Call] = {
    "add": lambda cp, x, y: x + y,
    "multiply": lambda cp, x, y: x * y,
    "x * 2": lambda cp, x, y: x * 2,
    "x * 2.5": lambda cp, x, y: x * 2.5,
    "bools": lambda cp, x, y: x * (y > 1),
    "integers": lambda cp, x, y: x * cp.ones((3, 4), np.int64),
    "F order": lambda cp, x, y: cp.asarray(x.get().copy("F")) + 1,
    "T": lambda cp, x, y: x.T + y.T,
    "maximum": lambda cp, x, y: cp.maximum(x, y),
    "less": lambda cp, x, y: cp.less(x, y),
    "where": lambda cp, x, y: cp.where(y > 1, x, y),
    "where of numbers": lambda cp, x, y: cp.where(y > 1, x, cp.zeros((), x.dtype)),
    "tril": lambda cp, x, y: cp.tril(x),
    "triu": lambda cp, x, y: cp.triu(x, 1),
    "exp": lambda cp, x, y: cp.exp(x),
    "sqrt": lambda cp, x, y: cp.sqrt(x),
    "floor": lambda cp, x, y: cp.floor(x),
    "round": lambda cp, x, y: x.round(),
    "clip": lambda cp, x, y: x.clip(0, 1),
    "isnan": lambda cp, x, y: cp.isnan(x),
    "square": lambda cp, x, y: cp.square(x),
    "erf": lambda cp, x, y: _special(cp).erf(x),
    "sum": lambda cp, x, y: x.sum(),
    "sum 1": lambda cp, x, y: x.sum(1, keepdims=True),
    "mean": lambda cp, x, y: x.mean(0),
    "var": lambda cp, x, y: x.var(1),
    "prod": lambda cp, x, y: x.prod(0),
    "max": lambda cp, x, y: x.max(1),
    "argmax": lambda cp, x, y: x.argmax(1),
    "any": lambda cp, x, y: x.any(0),
    "cumsum": lambda cp, x, y: cp.cumsum(x, 1),
    "cumprod": lambda cp, x, y: cp.cumprod(x, 0),
    "concatenate": lambda cp, x, y: cp.concatenate([x, y], 1),
    "concatenate 9": lambda cp, x, y: cp.concatenate([x] * 9),
    "stack": lambda cp, x, y: cp.stack([x, y], 1),
    "roll": lambda cp, x, y: cp.roll(x, 1, 0),
    "flip": lambda cp, x, y: cp.flip(x, 0),
    "repeat": lambda cp, x, y: cp.repeat(x, 2, 0),
    "tile": lambda cp, x, y: cp.tile(x, (2, 1)),
    "pad": lambda cp, x, y: cp.pad(x, 1),
    "reshape": lambda cp, x, y: x.T.reshape(2, 6),
    "astype": lambda cp, x, y: x.astype(np.float32),
    "astype of F": lambda cp, x, y: x.T.astype(np.float64),
    "copy": lambda cp, x, y: x.T.copy(),
    "empty_like": lambda cp, x, y: cp.zeros_like(x.T),
    "ascontiguousarray": lambda cp, x, y: cp.ascontiguousarray(x.T),
    "transpose": lambda cp, x, y: x[None].transpose(2, 0, 1),
    "take": lambda cp, x, y: x.take(cp.arange(2), 1),
    "x[i]": lambda cp, x, y: x[cp.arange(2)],
    "x[:, i]": lambda cp, x, y: x[:, cp.arange(2)],
    "x[i, i]": lambda cp, x, y: x[cp.arange(2), cp.arange(2)],
    "x[mask]": lambda cp, x, y: x[cp.arange(3) > 0],
    "x[1]": lambda cp, x, y: x[1],
    "take_along_axis": lambda cp, x, y: cp.take_along_axis(x, cp.zeros((3, 1), np.int64), 1),
    "set by index": lambda cp, x, y: _set(x, cp.arange(2), 1),
    "set by mask": lambda cp, x, y: _set(x, cp.arange(3) > 1, 0),
    "sort": lambda cp, x, y: cp.sort(x, 1),
    "argsort": lambda cp, x, y: cp.argsort(x, 1),
    "nonzero": lambda cp, x, y: cp.nonzero(x)[0],
    "diagonal": lambda cp, x, y: x.diagonal(),
    "broadcast_to": lambda cp, x, y: cp.broadcast_to(x[:1], (2, 4)),
    "einsum": lambda cp, x, y: cp.einsum("ij->i", x),
    "outer": lambda cp, x, y: cp.outer(x[0], y[0]),
    "searchsorted": lambda cp, x, y: cp.searchsorted(cp.sort(x[0]), x[1]),
    "bincount": lambda cp, x, y: cp.bincount(cp.arange(3)),
    "arange": lambda cp, x, y: cp.arange(3.0),
    "add.at": lambda cp, x, y: _add_at(cp, cp.zeros(3, np.float32)),
    "full": lambda cp, x, y: cp.full((2,), 3, x.dtype),
}
# What a capture refuses: the device would have to be waited for, or the host's memory to be read.
REFUSED = {"concatenate 9", "x[mask]", "set by mask", "sort", "argsort", "nonzero", "searchsorted",
           "bincount", "F order"}


def _special(cp: Any) -> Any:
    import cupyx.scipy.special

    return cupyx.scipy.special


def _set(x: Any, at: Any, value: Any) -> Any:
    x = x.copy()
    x[at] = value
    return x


def _add_at(cp: Any, x: Any) -> Any:
    cp.add.at(x, cp.zeros(2, np.int64), 1)
    return x


def described(cp: Any, name: str, dtype: str) -> Any:
    """[dtype, shape, strides, values] of what a call gives, or the error's name."""
    values = np.array([[1, 0, 3, 2], [2, 5, 1, 0], [0, 1, 2, 4]], np.float32)
    x, y = cp.asarray(values).astype(dtype), cp.asarray(values[::-1].copy()).astype(dtype)
    try:
        r = CALLS[name](cp, x, y)
    except Exception as e:
        return type(e).__name__
    return [r.dtype.name, list(r.shape), list(r.strides), r.astype(np.float64).get().tolist()]


def captured(cp: Any, name: str) -> str:
    """"captured", or "refused"."""
    x = cp.asarray(np.ones((3, 4), np.float32))
    places = cp.arange(3), cp.arange(2), cp.arange(3) > 0, cp.arange(3) > 1, x > 1
    with cp.cuda.Stream(non_blocking=True) as stream:
        stream.begin_capture(cp.cuda.runtime.streamCaptureModeRelaxed)
        try:
            CALLS[name](cp, x, x)
            return "captured"
        except Exception:
            return "refused"
        finally:
            stream.end_capture()
            del places


def seen(cp: Any) -> Any:
    try:
        import ml_dtypes  # noqa: F401
        dtypes = DTYPES
    except ImportError:
        dtypes = tuple(d for d in DTYPES if d != "bfloat16")
    return {"calls": {f"{name} of {dtype}": described(cp, name, dtype)
                      for name in CALLS for dtype in dtypes},
            "captured": {name: captured(cp, name) for name in CALLS}}


def main() -> None:
    driver.install()
    import cupy

    print(json.dumps(seen(cupy)))


def output(*command: Any, **variables: str) -> str:
    """What a Python program prints."""
    lacking = driver.missing()
    if lacking:
        pytest.skip(lacking)
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    env = {name: value for name, value in os.environ.items() if name != "GPUGRAD_CUDA"}
    run = subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True,
                         env={**env, "PYTHONPATH": path, **variables})
    assert run.returncode == 0 and "Error" not in run.stderr, run.stderr
    return run.stdout


@pytest.fixture(scope="module")
def itself() -> Any:
    return json.loads(output(__file__))


def test_results(itself: Any, simulated_cuda: Any) -> None:
    found, differing = seen(simulated_cuda), []
    for call, theirs in itself["calls"].items():
        ours = found["calls"][call]
        if ours == theirs:
            continue
        alike = isinstance(ours, list) and isinstance(theirs, list) and ours[:3] == theirs[:3]
        if not alike or not np.allclose(ours[3], theirs[3], 1e-2 if theirs[0] in HALVES else 1e-5):
            differing.append((call, ours, theirs))
    assert differing == []


def test_captures(itself: Any, simulated_cuda: Any) -> None:
    refused = {name for name, result in itself["captured"].items() if result == "refused"}
    ours = {name for name in CALLS if captured(simulated_cuda, name) == "refused"}
    assert refused == ours == REFUSED


PROGRAM = """
import sys

import beside
import cupy

import gpugrad as torch

assert sys.argv[1:] == ["a", "--b"]
net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2)).to("cuda")
opt = torch.optim.Adam(net.parameters(), 0.1)
x, y = torch.randn(6, 4, device="cuda"), torch.tensor([0, 1] * 3, device="cuda")

@torch.graph_step
def step():
    opt.zero_grad()
    loss = torch.nn.functional.cross_entropy(net(x), y)
    loss.backward()
    opt.step()
    return loss

losses = [step().item() for _ in range(30)]
assert step.replays > 20 and losses[-1] < losses[0] / 4, losses
assert type(x._a) is cupy.ndarray and "gpugrad" not in cupy.__file__
try:
    cupy.RawKernel(r'''extern "C" __global__ void f(float* x) { x[1 << 20] = 1; }''', "f")(
        (1,), (1,), (cupy.zeros(4, "f"),))
except RuntimeError as e:
    print(type(e).__name__)
"""


def test_a_program(tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("")
    (tmp_path / "program.py").write_text(PROGRAM)
    told = output("-m", "gpugrad.cudasim", "cupy", tmp_path / "program.py", "a", "--b")
    assert told == "OutOfBoundsError\n"


def test_the_hosts_time(tmp_path: Path) -> None:
    told = output(ROOT / "benchmarks/host.py", "--rounds", "2", "--only", "MLP", "--markdown",
                  tmp_path / "host.md")
    assert "'launches': 1" in told
    assert "| MLP 64-64-10, SGD |  | " in (tmp_path / "host.md").read_text()


STREAMS = """
import sys

import cupy

side, event = cupy.cuda.Stream(non_blocking=True), cupy.cuda.Event()
blocking = cupy.cuda.Stream()
a = cupy.zeros(4, "f")
if sys.argv[1] == "waits":
    side.wait_event(cupy.cuda.get_current_stream().record())
with side:
    b = a + 1
if sys.argv[1] == "waits":
    cupy.cuda.get_current_stream().wait_event(side.record(event))
c = b + 1
with blocking:                                  # waits for the default stream by itself
    d = c * 2
print((d + 0).tolist())
"""


@pytest.mark.parametrize("streams", ["late", "early"])
def test_missing_waits_are_seen(streams: str, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(STREAMS)
    run = "-m", "gpugrad.cudasim", "cupy", tmp_path / "program.py"
    assert output(*run, "waits", GPUGRAD_CUDASIM_STREAMS=streams) == "[4.0, 4.0, 4.0, 4.0]\n"
    assert output(*run, "doesn't", GPUGRAD_CUDASIM_STREAMS=streams) == "[nan, nan, nan, nan]\n"


if __name__ == "__main__":
    main()
