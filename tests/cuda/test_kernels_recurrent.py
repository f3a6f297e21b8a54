"""The kernels of recurrent layers against the portable text, step by step and through nn."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from against_portable import DTYPES, agree, launched, note_launches, order, run

import gpugrad as torch
import gpugrad.nn as nn
from gpugrad import backend
from gpugrad.autograd.op import SPECS
from gpugrad.backend import kernels

assert note_launches and order                   # fixtures
pytestmark = pytest.mark.gpu

KINDS = {"lstm": (4, 2), "gru": (3, 1), "rnn": (1, 1)}
STEPS = ((3, 3, 3), (5, 3, 3, 1))
UNTIL = {"float16": 1e-2, "bfloat16": 8e-2}


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def layer(rng: Any, kind: str, sizes: Any, inputs: int = 4, width: int = 5, biases: bool = True,
          states: bool = True) -> list[Any]:
    gates, count = KINDS[kind]

    def draw(*shape: int) -> Any:
        return rng.uniform(-0.8, 0.8, shape)
    rows = gates * width
    return [draw(sum(sizes), inputs), draw(rows, inputs), draw(rows, width),
            *([draw(rows), draw(rows)] if biases else [None, None]),
            *(draw(sizes[0], width) if states else None for _ in range(count))]


def kept(kind: str, args: Any, dtype: str, **kw: Any) -> list[Any]:
    """What backward takes of a layer's results, rounded as they are."""
    results = [a.astype(float) for a in run(kind + "_layer", args, dtype, **kw)]
    return {"lstm": results[3:], "gru": [results[0], *results[2:]], "rnn": results[:1]}[kind]


def backward_arguments(rng: Any, kind: str, args: Any, sizes: Any, dtype: str, given: Any,
                       **kw: Any) -> list[Any]:
    width = args[2].shape[1]
    gs = [rng.standard_normal((sum(sizes) if k == 0 else sizes[0], width)) if there else None
          for k, there in enumerate(given[:1 + KINDS[kind][1]])]
    return [*gs, *args, *kept(kind, args, dtype, sizes=sizes, **kw)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_forward_and_backward(rng: Any, kind: str, dtype: str) -> None:
    until = UNTIL.get(dtype)
    for sizes, reverse, there, given in ((STEPS[0], False, True, (True, True, True)),
                                         (STEPS[1], True, True, (True, False, True)),
                                         (STEPS[1], False, False, (False, True, True))):
        kw: dict[str, Any] = {"reverse": reverse}
        if kind == "rnn":
            kw["relu"] = reverse
        args = layer(rng, kind, sizes, biases=there, states=there)
        agree(kind + "_layer", *args, dtype=dtype, until=until, sizes=sizes, **kw)
        assert kind + "_step" in launched
        inputs = backward_arguments(rng, kind, args, sizes, dtype, given, **kw)
        agree(kind + "_layer_backward", *inputs, dtype=dtype, until=until, sizes=sizes, **kw)
        assert kind + "_step_backward" in launched


def test_nan_stays_nan_in_its_sequence(rng: Any) -> None:
    for kind in KINDS:
        args = layer(rng, kind, (2, 2))
        args[0][0, 1] = np.nan
        kw: dict[str, Any] = {"relu": True} if kind == "rnn" else {}
        out = run(kind + "_layer", args, "float32", sizes=(2, 2), **kw)[0]
        assert np.isnan(out[[0, 2]]).all() and np.isfinite(out[[1, 3]]).all()


SEEN: dict[Any, Any] = {}


@pytest.mark.parametrize("kind", KINDS)
def test_every_order_gives_the_same_bits(order: Any, kind: str, rng: Any) -> None:
    sizes = STEPS[1]
    args = layer(rng, kind, sizes)
    back = backward_arguments(rng, kind, args, sizes, "float32", (True, True, True))
    bits = [a.tobytes() for name, inputs in (("_layer", args), ("_layer_backward", back))
            for a in run(kind + name, inputs, "float32", sizes=sizes)]
    assert SEEN.setdefault(kind, bits) == bits


@pytest.mark.parametrize("kind", KINDS)
def test_64_bit_indices_and_a_small_grid(kind: str, rng: Any,
                                         monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "NARROW", 0)
    monkeypatch.setattr(kernels, "MAX_BLOCKS", 4)
    sizes = (9, 8)
    args = layer(rng, kind, sizes, width=130)
    agree(kind + "_layer", *args, dtype="float32", sizes=sizes)
    agree(kind + "_layer_backward",
          *backward_arguments(rng, kind, args, sizes, "float32", (True, True, True)),
          dtype="float32", sizes=sizes)


def test_what_has_no_kernel_goes_the_portable_way(rng: Any) -> None:
    be = backend.get("cuda")
    for kind in KINDS:
        args = layer(rng, kind, (0, 0))
        arrays = [be.from_host(a.astype("f4")) for a in args]
        launched.clear()
        out = getattr(be.raw, kind + "_layer")(*arrays, sizes=(0, 0))[0]
        assert out.shape == (0, 5) and kind + "_step" not in launched
        args = layer(rng, kind, (2, 1))
        back = backward_arguments(rng, kind, args, (2, 1), "float64", (True, True, True))
        plain = SPECS[kind + "_layer_backward"].forward(
            be, *[be.from_host(a) for a in back[:1 + KINDS[kind][1] + len(args)]], sizes=(2, 1))
        again = getattr(be.raw, kind + "_layer_backward")(*[be.from_host(a) for a in back],
                                                          sizes=(2, 1))
        for a, b in zip(plain, again):
            np.testing.assert_allclose(be.to_host(a), be.to_host(b), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_a_training_step_equals_the_cpus_and_does_not_wait(kind: str, rng: Any) -> None:
    x = torch.tensor(rng.standard_normal((4, 3, 5)), dtype=torch.float32)
    found = []
    for device in ("cpu", "cuda"):
        torch.manual_seed(0)
        net = getattr(nn, kind)(5, 6, 2, bidirectional=True).to(device)
        inputs = x.to(device, copy=True).requires_grad_()

        def step(net: Any = net, inputs: Any = inputs) -> Any:
            return net(inputs)[0].square().sum().backward()
        step()
        if device == "cuda" and torch.cuda.sim.is_simulated():
            torch.cuda.sim.reset()
            step()
            stats = torch.cuda.sim.stats()
            assert stats.syncs == stats.h2d == stats.d2h == 0
            for t in (inputs, *net.parameters()):
                t.grad /= 2
        found.append([t.grad.cpu().numpy() for t in (inputs, *net.parameters())])
    for a, b in zip(*found):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5)


def test_a_captured_step_is_replayed(rng: Any) -> None:
    net = nn.LSTM(3, 4).to("cuda")
    x = torch.zeros(3, 2, 3, device="cuda")

    def step() -> Any:
        with torch.no_grad():
            return net(x)[0]
    step()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = step()
    x.copy_(torch.tensor(rng.standard_normal((3, 2, 3)), dtype=torch.float32))
    graph.replay()
    np.testing.assert_allclose(out.cpu().numpy(), step().cpu().numpy(), rtol=1e-6)
