"""Random numbers side by side with PyTorch: the values, and the state after every call."""
from __future__ import annotations

import numpy as np
import pytest

import gpugrad

torch = pytest.importorskip("torch")

FLOATS = ["float16", "float32", "float64"]
INTS = ["int8", "int16", "int32", "int64", "uint8", "bool"]
SIZES = [1, 5, 15, 16, 17, 37, 3000]


def run(call, seed=3):
    """The arrays that call(library) gives on both sides; the states must then be alike."""
    arrays = []
    for library in (torch, gpugrad):
        library.manual_seed(seed)
        arrays.append(call(library).detach().numpy())
    assert np.array_equal(torch.get_rng_state().numpy(), gpugrad.get_rng_state().numpy())
    assert arrays[0].dtype == arrays[1].dtype and arrays[0].shape == arrays[1].shape
    assert arrays[0].strides == arrays[1].strides or not arrays[0].size
    return arrays


def same(call, seed=3):
    a, b = run(call, seed)
    assert np.array_equal(a, b)


def close(call, dtype, seed=3):
    """Equal but for what the vector functions of the two libraries differ by."""
    a, b = run(call, seed)
    limit = {"float16": 2e-3, "float32": 1e-6, "float64": 2e-15}[dtype]
    assert np.abs(a.astype("f8") - b).max(initial=0) <= limit * max(1, np.abs(b).max(initial=0))


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("dtype", FLOATS)
class TestFloats:
    def test_uniform(self, dtype, n):
        same(lambda t: t.rand(n, dtype=getattr(t, dtype)))
        for low, high in ((-0.1, 0.1), (0, 0.37), (-1.3, 2.7), (1e-8, 1), (100, 100.1)):
            same(lambda t, low=low, high=high: t.empty(n, dtype=getattr(t, dtype))
                 .uniform_(low, high))

    def test_normal(self, dtype, n):
        compare = same if n < 16 else lambda call: close(call, dtype)
        compare(lambda t: t.randn(n, dtype=getattr(t, dtype)))
        compare(lambda t: t.empty(n, dtype=getattr(t, dtype)).normal_(0.7, 1.9))
        compare(lambda t: t.normal(1.5, 0.3, (n,), dtype=getattr(t, dtype)))
        compare(lambda t: t.normal(t.arange(n, dtype=getattr(t, dtype)) / n, 2.0))

    def test_exponential(self, dtype, n):
        compare = same if dtype == "float32" else lambda call: close(call, dtype)
        for rate in (1.0, 1.7):
            compare(lambda t, rate=rate: t.empty(n, dtype=getattr(t, dtype)).exponential_(rate))

    def test_bernoulli(self, dtype, n):
        same(lambda t: t.bernoulli(t.linspace(0, 1, n, dtype=getattr(t, dtype))))
        for p in (0.0, 1e-9, 0.37, 1 - 1e-9, 1.0):
            same(lambda t, p=p: t.empty(n, dtype=getattr(t, dtype)).bernoulli_(p))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("replacement", [False, True])
@pytest.mark.parametrize("shape", [(10,), (4, 10), (2, 100)])
@pytest.mark.parametrize("n", [1, 3, 10])
def test_multinomial(dtype, replacement, shape, n):
    weights = np.random.default_rng(n).random(shape).astype(dtype)
    same(lambda t: t.multinomial(t.from_numpy(weights), n, replacement))


@pytest.mark.parametrize("replacement", [False, True])
def test_multinomial_of_a_transposed_matrix(replacement):
    weights = np.random.default_rng(0).random((20, 6)).astype("f4")
    same(lambda t: t.multinomial(t.from_numpy(weights).t(), 4, replacement))


@pytest.mark.parametrize("dtype", FLOATS + INTS)
def test_integers(dtype):
    high = 2 if dtype == "bool" else 100
    same(lambda t: t.randint(high, (200,), dtype=getattr(t, dtype)))
    same(lambda t: t.empty(200, dtype=getattr(t, dtype)).random_())
    same(lambda t: t.empty(200, dtype=getattr(t, dtype)).random_(high))
    same(lambda t: t.empty(200, dtype=getattr(t, dtype)).random_(1, None))
    if dtype not in ("bool", "uint8"):
        same(lambda t: t.randint(-7, 100, (200,), dtype=getattr(t, dtype)))
    if dtype != "bool":
        same(lambda t: t.randperm(100, dtype=getattr(t, dtype)))


@pytest.mark.parametrize("low, high", [
    (0, 2**24), (0, 2**28 - 1), (0, 2**28), (0, 2**32 - 1), (0, 2**32), (-5, 2**33),
    (-2**62, 2**62), (-2**63, 2**63 - 1), (-2**63, None), (0, None)])
def test_wide_ranges(low, high):
    same(lambda t: t.empty(100, dtype=t.int64).random_(low, high))


@pytest.mark.filterwarnings("ignore:.*out of bounds")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("low, high", [(0, 2**25 - 3), (-2**30, 2**30 - 5), (2**26 + 1, 2**40)])
def test_ranges_that_a_float_cannot_hold(dtype, low, high):
    same(lambda t: t.empty(100, dtype=getattr(t, dtype)).random_(low, high))


@pytest.mark.parametrize("n", [0, 1, 2, 3, 10, 1000, 20000])
def test_permutations(n):
    for seed in range(5):
        same(lambda t: t.randperm(n), seed)


@pytest.mark.parametrize("seed", [0, 1, 2**31, 2**32 + 5, 2**63, 2**64 - 1, -1, -2**63])
def test_seeds(seed):
    same(lambda t: t.rand(5), seed)
    assert torch.initial_seed() == gpugrad.initial_seed()


VIEWS = {
    "transposed": lambda x: x.t(),
    "every other column": lambda x: x[:, ::2],
    "transposed, every other row": lambda x: x.t()[::2],
    "one column": lambda x: x[:, 1],
}


@pytest.mark.parametrize("view", VIEWS)
def test_fills_of_views(view):
    def fill(change):
        def call(t):
            x = VIEWS[view](t.zeros(20, 6))
            change(x)
            return x
        return call
    same(fill(lambda x: x.uniform_()))
    same(fill(lambda x: x.bernoulli_(0.3)))
    same(fill(lambda x: x.random_(9)))
    close(fill(lambda x: x.normal_()), "float32")
    close(fill(lambda x: x.exponential_()), "float32")


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 0, 2), (2, 1, 0)])
def test_like_functions_of_permuted_tensors(order):
    same(lambda t: t.rand_like(t.zeros(3, 4, 5).permute(order)))
    close(lambda t: t.randn_like(t.zeros(3, 4, 5).permute(order)), "float32")
    same(lambda t: t.randint_like(t.zeros(3, 4, 5).permute(order)[:, ::2], 9))
    same(lambda t: t.rand_like(t.zeros(3, 1, 5).expand(3, 4, 5)))


def test_random_programs():
    """Long sequences of calls leave both generators in the same state all along."""
    for seed in range(20):
        choose = np.random.default_rng(seed)
        for library in (torch, gpugrad):
            library.manual_seed(seed)
        for _ in range(40):
            n, which = int(choose.integers(1, 40)), choose.integers(7)
            arrays = []
            for t in (torch, gpugrad):
                if which == 0:
                    x = t.rand(n)
                elif which == 1:
                    x = t.randn(n)
                elif which == 2:
                    x = t.randn(n, dtype=t.float64)
                elif which == 3:
                    x = t.randperm(n)
                elif which == 4:
                    x = t.randint(n, (n,))
                elif which == 5:
                    x = t.empty(n).bernoulli_(0.4)
                else:
                    x = t.randn(3, n).t().contiguous()
                arrays.append(x.numpy())
            np.testing.assert_allclose(arrays[0], arrays[1], rtol=0, atol=2e-6)
            assert np.array_equal(torch.get_rng_state().numpy(),
                                  gpugrad.get_rng_state().numpy())


def test_states_travel_both_ways():
    torch.manual_seed(4)
    torch.randn(7)
    gpugrad.set_rng_state(gpugrad.from_numpy(torch.get_rng_state().numpy()))
    assert gpugrad.randn(7).tolist() == torch.randn(7).tolist()
    gpugrad.randn(5)
    gpugrad.rand(1000)
    torch.set_rng_state(torch.from_numpy(gpugrad.get_rng_state().numpy()))
    assert gpugrad.randn(7).tolist() == torch.randn(7).tolist()


def test_generators():
    streams = [t.Generator().manual_seed(8) for t in (torch, gpugrad)]
    for _ in range(3):
        a, b = (t.randperm(50, generator=g) for t, g in zip((torch, gpugrad), streams))
        assert a.tolist() == b.tolist()
        a, b = (t.empty((), dtype=t.int64).random_(generator=g)
                for t, g in zip((torch, gpugrad), streams))
        assert a.item() == b.item()
