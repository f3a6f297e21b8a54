"""bfloat16 against PyTorch: promotion, values, gradients, random numbers, text, training, files."""
from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from test_promotion_parity import PAIRS, SINGLES

import gpugrad
from gpugrad import nn

torch = pytest.importorskip("torch")
pytest.importorskip("ml_dtypes")

pytestmark = pytest.mark.filterwarnings("ignore")
UNIT = 2.0**-8                                   # half the distance from 1 to the next number


def tensor(lib: Any, a: Any, dtype: str = "bfloat16") -> Any:
    """A tensor of the library with an array's numbers."""
    return lib.from_numpy(np.array(a)).to(getattr(lib, dtype))


def numbers(t: Any) -> Any:
    """A tensor of either library as an array; bfloat16 as float32."""
    t = t.detach()
    return (t.float() if str(t.dtype) == "torch.bfloat16" else t).numpy()


def both(f: Any) -> tuple[Any, Any]:
    """What f(library) gives with each of them, or the name of the exception."""
    out = []
    for lib in (torch, gpugrad):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                out.append(f(lib))
        except Exception as e:
            out.append(f"{type(e).__name__}")
    return out[0], out[1]


# Promotion ---------------------------------------------------------------------------------------

OTHERS = "bool uint8 int8 int64 bfloat16 float16 float32 float64".split()


def operands() -> Iterator[tuple[Any, Any]]:
    """Pairs of (array, dtype) and numbers, one of them of bfloat16."""
    x, y = np.array([1, 2, 3]), np.array([3, 2, 1])
    for other in OTHERS:
        for a, b in (("bfloat16", other), (other, "bfloat16")):
            yield (x, a), (y, b)
            yield (x, a), (y[1], b)
            yield (x[1], a), (y, b)
            yield (x[1], a), (y[1], b)
    for number in (True, 2, 2.5):
        yield (x, "bfloat16"), number
        yield number, (x, "bfloat16")
        yield (x[1], "bfloat16"), number


def agree(code: str, **values: Any) -> bool:
    def run(lib: Any) -> Any:
        scope = {k: tensor(lib, *v) if isinstance(v, tuple) else v for k, v in values.items()}
        return eval(code, {"t": lib, **scope})

    a, b = both(run)
    if isinstance(a, str):       # gpugrad computes some things that torch doesn't
        return a in ("NotImplementedError", "TypeError") or a == b
    if isinstance(b, str) or str(a.dtype) != str(b.dtype) or tuple(a.shape) != tuple(b.shape):
        return False
    rough = 2 * UNIT if str(a.dtype) == "torch.bfloat16" else 1e-5
    return np.allclose(numbers(a), numbers(b), rough, rough, equal_nan=True)


@pytest.mark.parametrize("code", PAIRS.split("\n")[1:-1])
def test_pairs(code: str) -> None:
    c = np.array([True, False, True]), "bool"
    assert not [(x, y) for x, y in operands() if not agree(code, x=x, y=y, c=c)]


@pytest.mark.parametrize("code", SINGLES.split("\n")[1:-1])
def test_singles(code: str) -> None:
    assert agree(code, x=(np.array([[0, 1, 2], [3, 1, 2]]), "bfloat16"))


def test_rounding() -> None:
    random = np.random.default_rng(0)
    bits = random.integers(0, 1 << 32, 20000, dtype=np.uint64).astype(np.uint32)
    for a in (bits.view(np.float32), random.standard_normal(20000), bits.astype(np.int64) << 20,
              random.standard_normal(2000).astype(np.float16)):
        a, b = both(lambda lib, a=a: numbers(tensor(lib, a)))
        np.testing.assert_array_equal(a, b)


# Values and gradients ----------------------------------------------------------------------------

random = np.random.default_rng(0)
DATA = {"x": random.standard_normal((8, 100)), "y": random.standard_normal((8, 100)),
        "p": random.uniform(0.05, 3, (8, 100)), "w": random.standard_normal((100, 30)),
        "v": random.standard_normal(100), "b": random.standard_normal(30),
        "im": random.standard_normal((2, 4, 9, 9)), "k": random.standard_normal((6, 4, 3, 3)),
        "q": random.uniform(0, 1, (8, 100)), "s": random.standard_normal((8, 1))}
WHOLE = {"i": random.integers(0, 100, 8), "j": random.integers(0, 8, (8, 100))}

# Equal to the last bit, forward; the number is the limit for gradients, in units of 2**-8 relative
# to the largest: 1 is one rounding.
EXACT = """
x + y 1
x - 0.3 1
x * y 1
x * s 2
x * 0.3 1
x / p 3
x / 0.3 1
t.addcmul(x, y, p, value=0.7) 3
t.addcdiv(x, y, p, value=0.7) 3
t.lerp(x, y, q) 2
p ** 0.5 2
p ** 1.7 3
x ** 2 2
x ** 3 3
p ** -2 4
p.reciprocal() 3
p.sqrt() 2
x.neg() 1
x.abs() 1
x.square() 2
x.clamp(-0.3, 1 / 3) 1
x.floor() 1
x.round() 1
x % p 4
t.maximum(x, y) 1
t.where(x > y, x, y) 1
x.sum() 1
x.sum(0) 1
x.sum(1) 1
x.mean() 1
x.mean(1) 1
x.std() 3
x.cumsum(1) 8
x.norm() 3
x.max(1)[0] 1
x.amax(0) 1
x @ w 1
t.addmm(b, x, w) 2
x @ v 2
v @ v 2
x.view(2, 4, 100) @ w.view(2, 100, 15) 2
f.linear(x, w.t(), b) 2
f.relu(x) 1
f.leaky_relu(x, 0.1) 1
f.hardtanh(x) 1
f.dropout(x, 0.0) 1
f.mse_loss(x, y) 3
x.softmax(1) 3
x.log_softmax(0) 4
f.conv2d(im, k, b[:6], padding=1) 2
f.conv2d(im, k, stride=2, dilation=2) 2
f.max_pool2d(im, 3, 2) 1
f.avg_pool2d(im, 3, 2, 1) 2
f.layer_norm(x, (100,), v, v) 4
f.embedding(j, w) 6
t.cat([x, y], 1) 1
x[:, i] 2
x.gather(0, j) 2
x.t().contiguous() 1
x.flip(0) 1
t.triu(x) 1
x.view(2, 4, 100).transpose(0, 2) 1
"""

# Other last bits: vector functions differ, or PyTorch rounds in the middle. The numbers: the limits
# for values and for gradients.
CLOSE = """
x.exp() 1 3
p.log() 1 3
p.log1p() 1 3
x.expm1() 1 3
x.sin() 1 3
x.cos() 1 3
x.tanh() 1 3
x.sigmoid() 1 3
x.erf() 1 3
p.rsqrt() 1 3
2 ** x 1 3
t.lerp(x, y, 0.3) 1 2
f.adaptive_avg_pool2d(im, 4) 1 2
p ** y 1 5
f.silu(x) 1 3
f.gelu(x) 1 3
f.gelu(x, approximate='tanh') 1 3
f.elu(x) 1 3
f.softplus(x) 1 3
f.logsigmoid(x) 1 3
x.var(1) 1 3
x.logsumexp(1) 2 4
x.log_softmax(1) 2 4
f.cross_entropy(x, i) 3 4
f.cross_entropy(x, i, label_smoothing=0.1) 3 4
f.nll_loss(x, i) 1 2
f.batch_norm(x, None, None, v, v, True) 2 6
t.tril(x).prod(1) 2 8
x.scatter_add(0, j, y) 2 2
"""


def exact() -> list[Any]:
    return [line.rpartition(" ")[::2] for line in EXACT.split("\n")[1:-1]]


def close() -> list[Any]:
    return [line.rsplit(" ", 2) for line in CLOSE.split("\n")[1:-1]]


def outcome(lib: Any, code: str) -> tuple[Any, list[Any]]:
    """The value of a line and the gradients of its inputs."""
    leaves = {k: tensor(lib, v).requires_grad_() for k, v in DATA.items()}
    whole = {k: lib.from_numpy(v) for k, v in WHOLE.items()}
    out = eval(code, {"t": lib, "f": lib.nn.functional, **leaves, **whole})
    g = np.random.default_rng(1).standard_normal(tuple(out.shape))
    found = lib.autograd.grad(out, list(leaves.values()), tensor(lib, g), allow_unused=True)
    assert all(g is None or str(g.dtype) == "torch.bfloat16" for g in found)
    return out, [None if g is None else numbers(g) for g in found]


def check_gradients(a: list[Any], b: list[Any], limit: float) -> None:
    for x, y in zip(a, b):
        assert (x is None) == (y is None)
        if x is not None:
            np.testing.assert_allclose(y, x, limit * UNIT, limit * UNIT * np.abs(x).max())


@pytest.mark.parametrize("code, limit", exact())
def test_equal_to_the_last_bit(code: str, limit: str) -> None:
    (a, ga), (b, gb) = both(lambda lib: outcome(lib, code))
    assert str(a.dtype) == str(b.dtype) == "torch.bfloat16"
    np.testing.assert_array_equal(numbers(b), numbers(a))
    check_gradients(ga, gb, float(limit))


@pytest.mark.parametrize("code, limit, gradients", close())
def test_equal_but_for_a_rounding(code: str, limit: str, gradients: str) -> None:
    (a, ga), (b, gb) = both(lambda lib: outcome(lib, code))
    assert str(a.dtype) == str(b.dtype) == "torch.bfloat16"
    a, b = numbers(a), numbers(b)
    np.testing.assert_allclose(b, a, 2 * float(limit) * UNIT, UNIT / 2 * np.abs(a).max())
    check_gradients(ga, gb, float(gradients))


# Random numbers ----------------------------------------------------------------------------------

@pytest.mark.parametrize("n", [5, 15, 16, 17, 96, 1000])
@pytest.mark.parametrize("draw, exact", [
    (lambda t, n: t.rand(n, dtype=t.bfloat16), True),
    (lambda t, n: t.empty(n, dtype=t.bfloat16).uniform_(-0.3, 2.7), True),
    (lambda t, n: t.empty(n, dtype=t.bfloat16).exponential_(1.7), True),
    (lambda t, n: t.empty(n, dtype=t.bfloat16).bernoulli_(0.3), True),
    (lambda t, n: t.empty(n, dtype=t.bfloat16).random_(), True),
    (lambda t, n: t.empty(n, dtype=t.bfloat16).random_(-3, 70), True),
    (lambda t, n: t.randint(-5, 9, (n,), dtype=t.bfloat16), True),
    (lambda t, n: t.bernoulli(t.full((n,), 0.25, dtype=t.bfloat16)), True),
    (lambda t, n: t.randn(n, dtype=t.bfloat16), False),
    (lambda t, n: t.empty(n, dtype=t.bfloat16).normal_(1, 3), False),
    (lambda t, n: t.nn.init.kaiming_uniform_(t.empty(n, 4, dtype=t.bfloat16)), True),
    (lambda t, n: t.nn.functional.dropout(t.ones(n, dtype=t.bfloat16), 0.3), True)])
def test_random_streams(draw: Any, exact: bool, n: int) -> None:
    def run(lib: Any) -> tuple[Any, Any]:
        lib.manual_seed(3)
        return numbers(draw(lib, n)), lib.get_rng_state().numpy()

    (a, state), (b, other) = both(run)
    np.testing.assert_array_equal(state, other)
    if exact:
        np.testing.assert_array_equal(b, a)
    else:                                        # the vector functions of float32 differ
        np.testing.assert_allclose(b, a, 2 * UNIT, 1e-6)
        assert (a == b).mean() > 0.95


# Text and numbers in a row -----------------------------------------------------------------------

@pytest.mark.parametrize("seed", range(40))
def test_text(seed: int) -> None:
    random = np.random.default_rng(seed)
    shape = tuple(int(n) for n in random.choice([1, 3, 7, 40], random.integers(0, 4)))
    a = random.standard_normal(shape) * 10.0 ** random.integers(-9, 12)
    if seed % 3 == 0:
        a = np.round(a)
    x, y = both(lambda lib: repr(tensor(lib, a).requires_grad_(seed % 2 == 0)))
    assert x == y
    x, y = both(lambda lib: repr(lib.finfo(lib.bfloat16)))
    assert x == y


@pytest.mark.parametrize("make", [
    lambda t: t.arange(0, 2, 0.3, dtype=t.bfloat16), lambda t: t.arange(5, dtype=t.bfloat16),
    lambda t: t.arange(3, -2, -0.7, dtype=t.bfloat16), lambda t: t.eye(3, dtype=t.bfloat16),
    lambda t: t.linspace(0, 1, 7, dtype=t.bfloat16),
    lambda t: t.linspace(-3, 5, 20, dtype=t.bfloat16),
    lambda t: t.full((2,), 3.1, dtype=t.bfloat16), lambda t: t.full((2,), 1e39, dtype=t.bfloat16),
    lambda t: t.tensor([1e39, -1e-42, 0.1], dtype=t.bfloat16),
    lambda t: t.tensor([1.0], dtype=t.bfloat16).fill_(0.1),
    lambda t: t.zeros(1, dtype=t.bfloat16).numpy(), lambda t: t.iinfo(t.bfloat16),
    lambda t: t.tensor([1.5], dtype=t.bfloat16).view(t.int16),
    lambda t: t.ones(2, dtype=t.bfloat16) & 1, lambda t: t.set_default_dtype(t.int8)])
def test_making(make: Any) -> None:
    a, b = both(make)
    if isinstance(a, str):
        assert a == b or {a, b} == {"NotImplementedError", "TypeError"}
    else:
        assert str(a.dtype) == str(b.dtype)
        np.testing.assert_array_equal(numbers(b), numbers(a))


# Training and files ------------------------------------------------------------------------------

def network(lib: Any) -> Any:
    n = lib.nn
    return n.Sequential(n.Conv2d(1, 6, 3, padding=1), n.BatchNorm2d(6), n.ReLU(), n.MaxPool2d(2),
                        n.Conv2d(6, 8, 3), n.Tanh(), n.Flatten(), n.Linear(32, 10))


@pytest.mark.parametrize("name, options", [
    ("SGD", {"lr": 0.05, "momentum": 0.9}), ("Adam", {"lr": 0.01}), ("AdamW", {"lr": 0.01}),
    ("RMSprop", {"lr": 0.003})])
def test_training(name: str, options: Any) -> None:
    def run(lib: Any) -> list[float]:
        lib.manual_seed(0)
        net = network(lib).to(lib.bfloat16)
        opt = getattr(lib.optim, name)(net.parameters(), **options)
        x, y = lib.randn(16, 1, 8, 8, dtype=lib.bfloat16), lib.arange(16) % 10
        losses = []
        for _ in range(12):
            loss = lib.nn.functional.cross_entropy(net(x), y)
            opt.zero_grad()
            loss.backward()
            opt.step()
            losses.append(loss.item())
        return losses

    a, b = both(run)
    np.testing.assert_allclose(b, a, 0.05, 0.05)


def through(write: Any, read: Any, obj: Any) -> Any:
    f = io.BytesIO()
    write(obj, f)
    f.seek(0)
    return read(f)


def test_files() -> None:
    for a in (np.arange(12.0).reshape(3, 4), np.array(0.1), np.zeros((0, 3))):
        x, y = both(lambda lib, a=a: tensor(lib, a))
        for back in (through(gpugrad.save, torch.load, y), through(torch.save, gpugrad.load, x)):
            assert str(back.dtype) == "torch.bfloat16"
            np.testing.assert_array_equal(numbers(back), numbers(x))


def test_state_dicts() -> None:
    theirs, ours = both(lambda lib: network(lib).to(lib.bfloat16))
    ours.load_state_dict(through(torch.save, gpugrad.load, theirs.state_dict()))
    assert isinstance(ours, nn.Module)
    for p, q in zip(theirs.parameters(), ours.parameters()):
        np.testing.assert_array_equal(numbers(p), numbers(q))
    theirs.load_state_dict(through(gpugrad.save, torch.load, ours.state_dict()))
