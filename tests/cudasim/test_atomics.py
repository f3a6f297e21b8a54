"""Atomic operations: results, what they return, and the types that CUDA has them for."""
from __future__ import annotations

import numpy as np
import pytest

from gpugrad.cudasim import errors

SOURCE = r'''
#define K template <class T> __global__ void
#define I blockIdx.x * blockDim.x + threadIdx.x
K add(T* y, const T* x, T* old) { old[I] = atomicAdd(y, x[I]); }
K sub(T* y, const T* x, T* old) { old[I] = atomicSub(y, x[I]); }
K min_(T* y, const T* x, T* old) { old[I] = atomicMin(y, x[I]); }
K max_(T* y, const T* x, T* old) { old[I] = atomicMax(y, x[I]); }
K and_(T* y, const T* x, T* old) { old[I] = atomicAnd(y, x[I] | 8); }
K or_(T* y, const T* x, T* old) { old[I] = atomicOr(y, x[I]); }
K xor_(T* y, const T* x, T* old) { old[I] = atomicXor(y, x[I]); }
K exch(T* y, const T* x, T* old) { old[I] = atomicExch(y, x[I]); }
K cas(T* y, const T* x, T* old) {
    T seen = *(volatile T*) y, before;
    do {                                       // y = 2 * y + x, as there is no such operation
        before = seen;
        seen = atomicCAS(y, before, (T) (2 * before + x[I]));
    } while (seen != before);
    old[I] = before;
}
extern "C" __global__ void count(unsigned* y, unsigned* old) {
    old[I] = atomicInc(y, 10u);
    old[gridDim.x * blockDim.x + I] = atomicDec(y + 1, 10u);
}
extern "C" __global__ void in_shared(const int* x, int* y) {
    __shared__ int s;
    if (threadIdx.x == 0) s = 0;
    __syncthreads();
    atomicAdd(&s, x[I]);
    __syncthreads();
    if (threadIdx.x == 0) y[blockIdx.x] = s;
}
extern "C" __global__ void scoped(int* y) {
    atomicAdd_block(y, 1);
    atomicAdd_system(y, 1);
}
'''
TYPES = {"int": np.int32, "unsigned": np.uint32, "unsigned long long": np.uint64,
         "long long": np.int64, "float": np.float32, "double": np.float64}
WORDS = ["int", "unsigned", "unsigned long long"]
HAVE = {"add": [*WORDS, "float", "double"], "sub": ["int", "unsigned"],
        "min_": [*WORDS, "long long"], "max_": [*WORDS, "long long"], "and_": WORDS, "or_": WORDS,
        "xor_": WORDS, "exch": [*WORDS, "float"], "cas": ["unsigned long long"]}
NAMES = [f"{name}<{kind}>" for name, kinds in HAVE.items() for kind in kinds]
STEPS = {"add": lambda y, x: y + x, "sub": lambda y, x: y - x, "min_": min, "max_": max,
         "and_": lambda y, x: y & (x | 8), "or_": lambda y, x: y | x, "xor_": lambda y, x: y ^ x,
         "exch": lambda y, x: x, "cas": lambda y, x: 2 * y + x}


@pytest.mark.parametrize("name", NAMES)
def test_results_and_old_values(sim, plainly, name):
    dtype = np.dtype(TYPES[name.split("<")[1][:-1]])
    x = np.random.default_rng(0).integers(1, 100, 24).astype(dtype)
    y, old = sim.array([77], dtype), sim.empty(24, dtype)
    sim.run(SOURCE, name, 3, 8, y, sim.array(x), old, names=NAMES)
    value, expected = 77, []
    for v in x.tolist():
        expected.append(value)
        value = STEPS[name.split("<")[0]](value, v)
    wrap = 2 ** (8 * dtype.itemsize)
    if dtype.kind == "u":
        expected, value = [e % wrap for e in expected], value % wrap
    np.testing.assert_array_equal(old, np.array(expected, dtype))
    assert y[0] == dtype.type(value)


def test_sums_in_every_order(sim, mode, order):
    x = np.arange(96, dtype=np.int32)
    for kind in ("int", "float"):
        y, old = sim.array([0], TYPES[kind]), sim.empty(96, TYPES[kind])
        sim.run(SOURCE, f"add<{kind}>", 3, 32, y, sim.array(x, TYPES[kind]), old, names=NAMES)
        assert y[0] == x.sum()
    sums = sim.empty(3, np.int32)
    sim.run(SOURCE, "in_shared", 3, 32, sim.array(x), sums, names=NAMES)
    np.testing.assert_array_equal(sums, x.reshape(3, 32).sum(1))
    y = sim.array([0], np.int32)
    sim.run(SOURCE, "scoped", 2, 16, y, names=NAMES)
    assert y[0] == 64


def test_counters_wrap_at_their_limit(sim, mode):
    y, old = sim.array([0, 0], np.uint32), sim.empty((2, 24), np.uint32)
    sim.run(SOURCE, "count", 1, 24, y, old, names=NAMES)
    np.testing.assert_array_equal(old[0], np.arange(24) % 11)
    np.testing.assert_array_equal(old[1], -np.arange(24) % 11)


def test_atomic_sums_of_integers_wrap(sim, mode):
    y, old = sim.array([2**31 - 1], np.int32), sim.empty(1, np.int32)
    sim.run(SOURCE, "add<int>", 1, 1, y, sim.array([1], np.int32), old, names=NAMES)
    assert y[0] == -2**31


@pytest.mark.parametrize("call", [
    "atomicAdd((long long*) p, 1ll)", "atomicAdd((short*) p, (short) 1)",
    "atomicMin((float*) p, 1.f)", "atomicExch((double*) p, 1.0)", "atomicSub((float*) p, 1.f)"])
def test_types_that_cuda_has_no_operation_for(sim, plainly, call):
    with pytest.raises(errors.CompileError, match=r"CUDA has no atomic\w+ for this type"):
        sim.module(f'extern "C" __global__ void f(void* p) {{ {call}; }}').function("f")
