"""What an operation and a training step may cost, in calls of functions: deterministic, no timing.

Counted are the calls of gpugrad's functions, and those that its functions make, of Python functions
and of C functions. Not counted: ufuncs and classes, which Python's profiler doesn't hear of, and
comprehensions, which are no calls since Python 3.12; so one table does for all versions.
tests/call_budget.json has it, for NumPy alone, with the compiled helper, and, for some, on the
simulated CUDA device, whose own calls don't count. A fresh process counts, since what other tests
leave behind (hooks, complex gradients) can cost calls.

    python tests/test_call_budget.py             # the counts beside the budgets
    python tests/test_call_budget.py --update    # the counts become the budgets
"""
from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

import gpugrad as torch  # noqa: E402
import gpugrad.nn.functional as F  # noqa: E402
from gpugrad import nn, optim  # noqa: E402
from gpugrad.backend import compiled  # noqa: E402

BUDGETS = Path(__file__).with_name("call_budget.json")
GPUGRAD = str(Path(torch.__file__).parent)
SIMULATOR = str(Path(GPUGRAD) / "cudasim")
ON_CUDA = ("add", "relu", "matmul", "linear", "batch_norm", "layer_norm")
INLINED = ("<listcomp>", "<dictcomp>", "<setcomp>")
WARM = 4                    # calls that come before the counted one: they fill caches, and record


# What is counted ----------------------------------------------------------------------------------

def ones(*shape: int, grad: bool = True) -> Any:
    return torch.ones(*shape, requires_grad=grad)       # where torch.set_default_device says


def forms() -> dict[str, tuple[Callable[..., Any], list[Any]]]:
    """Functions and their inputs, which require gradients."""
    labels = torch.tensor([1, 0, 2, 1])
    return {
        "add": (lambda a, b: a + b, [ones(8, 8), ones(8, 8)]),
        "add number": (lambda a: a + 1.5, [ones(8, 8)]),
        "mul": (lambda a, b: a * b, [ones(8, 8), ones(8, 8)]),
        "div": (lambda a, b: a / b, [ones(8, 8), ones(8, 8)]),
        "exp": (torch.exp, [ones(8, 8)]),
        "relu": (torch.relu, [ones(8, 8)]),
        "matmul": (lambda a, b: a @ b, [ones(8, 8), ones(8, 8)]),
        "sum": (lambda a: a.sum(), [ones(8, 8)]),
        "mean of rows": (lambda a: a.mean(1), [ones(8, 8)]),
        "view": (lambda a: a.view(4, 16), [ones(8, 8)]),
        "transpose": (lambda a: a.t(), [ones(8, 8)]),
        "index": (lambda a: a[1], [ones(8, 8)]),
        "cat": (lambda a, b: torch.cat([a, b]), [ones(8, 8), ones(8, 8)]),
        "linear": (F.linear, [ones(4, 8), ones(5, 8), ones(5)]),
        "conv2d": (F.conv2d, [ones(2, 3, 8, 8), ones(4, 3, 3, 3), ones(4)]),
        "max_pool2d": (lambda a: F.max_pool2d(a, 2), [ones(2, 3, 8, 8)]),
        "batch_norm": (lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True),
                       [ones(2, 3, 4, 4), ones(3), ones(3)]),
        "layer_norm": (lambda x, w, b: F.layer_norm(x, (8,), w, b),
                       [ones(4, 8), ones(8), ones(8)]),
        "softmax": (lambda a: F.softmax(a, -1), [ones(8, 8)]),
        "gelu": (F.gelu, [ones(8, 8)]),
        "cross_entropy": (lambda a: F.cross_entropy(a, labels), [ones(4, 5)]),
        "mse_loss": (F.mse_loss, [ones(4, 5), ones(4, 5)]),
        "embedding": (lambda w: F.embedding(labels, w), [ones(4, 5)]),
        "attention": (F.scaled_dot_product_attention, [ones(1, 2, 4, 8) for _ in range(3)]),
    }


def lenet() -> Any:
    return nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 3), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(576, 120), nn.ReLU(), nn.Linear(120, 84),
        nn.ReLU(), nn.Linear(84, 10))


def steps() -> dict[str, tuple[Any, Any, Any]]:
    """Networks, their optimizers, and images for two labels."""
    mlp, le = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)), lenet()
    return {"MLP, SGD": (mlp, optim.SGD(mlp.parameters(), lr=0.1), ones(2, 64, grad=False)),
            "LeNet, Adam": (le, optim.Adam(le.parameters()), ones(2, 1, 32, 32, grad=False))}


def training(net: Any, optimizer: Any) -> Callable[[Any, Any], Any]:
    def run(images: Any, labels: Any) -> Any:
        optimizer.zero_grad()
        loss = F.cross_entropy(net(images), labels)
        loss.backward()
        optimizer.step()
        return loss

    return run


def cases() -> Iterator[tuple[str, Callable[[], Any]]]:
    """(name, what to call), as the table has them."""
    for name, (f, inputs) in forms().items():
        plain = [x.detach() for x in inputs]
        g = torch.ones_like(f(*plain))

        def both(f: Any = f, inputs: Any = inputs, g: Any = g) -> Any:
            for x in inputs:
                x.grad = None
            f(*inputs).backward(g)

        yield f"{name}, no grad", lambda f=f, plain=plain: f(*plain)
        yield f"{name}, forward", lambda f=f, inputs=inputs: f(*inputs)
        yield f"{name}, forward and backward", both
    labels = torch.tensor([1, 0])
    for name, (net, optimizer, images) in steps().items():
        run = training(net, optimizer)
        yield f"{name} step", lambda run=run, images=images: run(images, labels)
    for name, (net, optimizer, images) in steps().items():
        run = torch.graph_step(training(net, optimizer))
        yield f"{name} step, recorded", lambda run=run, images=images: run(images, labels)


# Counting -----------------------------------------------------------------------------------------

def ours(frame: FrameType | None) -> bool:
    """Is it a function of gpugrad, or one that it wrote itself, which has a name in brackets?"""
    name = "" if frame is None else frame.f_code.co_filename
    return (name.startswith(GPUGRAD) and not name.startswith(SIMULATOR)) or \
        (name.startswith("<") and not name.startswith("<frozen"))


def calls(run: Callable[[], Any]) -> int:
    """How many calls gpugrad makes in one run."""
    count = 0

    def hear(frame: FrameType, event: str, _: Any) -> None:
        nonlocal count
        if event == "call" and frame.f_code.co_name not in INLINED:
            count += ours(frame) or ours(frame.f_back)
        elif event == "c_call":
            count += ours(frame)

    for _ in range(WARM):
        run()
    before, collecting = sys.getprofile(), gc.isenabled()
    gc.disable()
    sys.setprofile(hear)
    try:
        run()
    finally:
        sys.setprofile(before)
        if collecting:
            gc.enable()
    return count


def cases_on_cuda() -> Iterator[tuple[str, Callable[[], Any]]]:
    """(name, what to call) on the simulated device."""
    torch.set_default_device("cuda")
    for name, run in cases():
        if name.partition(",")[0] in ON_CUDA:
            yield name, run
    mlp = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    step = training(mlp, optim.Adam(mlp.parameters()))
    images, labels = ones(2, 64, grad=False), torch.tensor([1, 0])
    yield "MLP, Adam step", lambda: step(images, labels)


def counted() -> dict[str, dict[str, int]]:
    """The calls of each case, without and, where they can be, with the compiled helper and on the
    simulated device."""
    found = {}
    for which in "numpy", "compiled", "cuda":
        run = subprocess.run([sys.executable, __file__, "--count", which], capture_output=True,
                             text=True, check=True, timeout=100, env={
            **os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1",
            "GPUGRAD_CPU_KERNELS": "1" if which == "compiled" else "0",
            "GPUGRAD_CUDA": "sim" if which == "cuda" else ""})
        counts = json.loads(run.stdout)
        if counts:
            found[which] = counts
    return found


# Tests --------------------------------------------------------------------------------------------

def budgets() -> dict[str, dict[str, int]]:
    return json.loads(BUDGETS.read_text())


@pytest.fixture(scope="module")
def counts() -> dict[str, dict[str, int]]:
    return counted()


@pytest.mark.parametrize("which", ["numpy", "compiled", "cuda"])
def test_calls_stay_within_the_budget(counts, which):
    if which not in counts:
        pytest.skip("no compiler")
    table = budgets()[which]
    over = [f"{name}: {count} calls, budget {table[name]}" for name, count in counts[which].items()
            if count > table.get(name, count)]
    assert not over, "\n".join([
        "More calls than before. Make them fewer; or, if they are worth it, run "
        "python tests/test_call_budget.py --update", *over])


def test_the_table_has_what_is_counted(counts):
    for which, table in budgets().items():
        assert list(table) == list(counts.get(which, table)), \
            "run python tests/test_call_budget.py --update"


def test_the_same_run_makes_the_same_calls():
    for name in "add, forward and backward", "LeNet, Adam step":
        run = dict(cases())[name]
        assert calls(run) == calls(run) > 3


def test_a_call_more_is_seen(monkeypatch):
    run = dict(cases())["softmax, forward"]
    before, real = calls(run), F.softmax
    monkeypatch.setattr(F, "softmax", lambda *args: [real(*args), abs(-1)][0])
    assert calls(run) == before                     # what users' code calls isn't gpugrad's
    text = "lambda real: lambda *args: [real(*args), abs(-1)][0]"
    monkeypatch.setattr(F, "softmax", eval(compile(text, f"{GPUGRAD}/x.py", "eval"))(real))
    assert calls(run) == before + 2


# By hand ------------------------------------------------------------------------------------------

def main() -> None:
    if "--count" in sys.argv:
        which, there = sys.argv[-1], cases
        if which == "cuda":
            there = cases_on_cuda if torch.cuda.is_available() else tuple
        elif (compiled.library() is not None) != (which == "compiled"):
            there = tuple
        print(json.dumps({name: calls(run) for name, run in there()}))
        return
    old, found = budgets() if BUDGETS.exists() else {}, counted()
    for which, table in found.items():
        for name, count in table.items():
            budget = old.get(which, {}).get(name)
            print(f"{which:9}{name:36}{count:6}{'' if budget == count else f'   budget {budget}'}")
    if "--update" in sys.argv:
        BUDGETS.write_text(json.dumps({**old, **found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
