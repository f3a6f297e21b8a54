"""Planted faults: each is found, with file, line, block and thread; clean kernels pass."""
from __future__ import annotations

import platform
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from gpugrad.cudasim import errors

# The faulty line of each kernel ends with "// its name"; of a race, the line that came second.
SOURCE = r'''
#line 1 "planted.cu"
#define K extern "C" __global__
K void past_end(float* x, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    x[i] = 1.f;                                                     // past_end
}
K void before_start(float* x) {
    x[(int) threadIdx.x - 1] = 1.f;                                 // before_start
}
K void far_away(const float* x, float* y) {
    y[0] = x[1 << 28];                                              // far_away
}
K void null_pointer(const float* x, float* y) {
    y[0] = x[threadIdx.x];                                          // null_pointer
}
K void past_dynamic_shared(float* x) {
    extern __shared__ float s[];
    s[threadIdx.x] = x[threadIdx.x];                                // past_dynamic_shared
}
K void inner_index(int* x) {
    __shared__ int s[4][8];
    s[0][threadIdx.x] = x[threadIdx.x];                             // inner_index
}
K void past_local(int* x, int n) {
    int a[4];
    for (int i = 0; i < n; ++i) a[i] = i;                           // past_local
    x[0] = a[x[0] & 3];
}
K void atomic_past_end(int* x) {
    atomicAdd(x + threadIdx.x, 1);                                  // atomic_past_end
}
__device__ __forceinline__ float inner(const float* x, int i) {
    return x[i];                                                    // inlined
}
K void inlined(const float* x, float* y) {
    y[threadIdx.x] = inner(x, threadIdx.x + 1);
}
K void copied(const float* x, float* y, int n) {
    memcpy(y, x, n * sizeof(float));                                // copied
}
K void misaligned(float* x) {
    float4 v = *reinterpret_cast<float4*>(x + 1);                   // misaligned
    x[0] = v.w;
}
K void misaligned_half(float* x) {
    double* d = (double*) (x + 1);
    x[threadIdx.x] = (float) d[0];                                  // misaligned_half
}
K void missing_barrier(const float* x, float* y) {
    __shared__ float s[64];
    s[threadIdx.x] = x[threadIdx.x];                                // missing_barrier
    y[threadIdx.x] = s[63 - threadIdx.x];
}
K void reused_shared(const float* x, float* y) {
    __shared__ float s[64];
    for (int k = 0; k < 2; ++k) {
        s[threadIdx.x] = x[threadIdx.x] * k;
        __syncthreads();
        y[threadIdx.x] += s[63 - threadIdx.x];                      // reused_shared
    }
}
K void missing_syncwarp(const float* x, float* y) {
    __shared__ float s[32];
    s[threadIdx.x] = x[threadIdx.x];                                // missing_syncwarp
    y[threadIdx.x] = s[31 - threadIdx.x];
}
K void partial_syncwarp(const float* x, float* y) {
    __shared__ float s[32];
    s[threadIdx.x] = x[threadIdx.x];                                // partial_syncwarp
    if (threadIdx.x < 16) __syncwarp(0xffffu);
    else __syncwarp(0xffff0000u);
    y[threadIdx.x] = s[31 - threadIdx.x];
}
K void shuffle_is_no_barrier(const float* x, float* y) {
    __shared__ float s[32];
    s[threadIdx.x] = x[threadIdx.x];
    float v = __shfl_xor_sync(0xffffffffu, x[threadIdx.x], 1);
    y[threadIdx.x] = s[31 - threadIdx.x] + v;                       // shuffle_is_no_barrier
}
K void global_race(float* x) {
    x[0] += threadIdx.x;                                            // global_race
}
K void race_of_blocks(float* x, const float* y) {
    x[0] += y[blockIdx.x];                                          // race_of_blocks
}
K void scatter(float* x, const int* index, const float* y) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    x[index[i]] += y[i];                                            // scatter
}
K void store_beside_atomics(float* x) {
    if (threadIdx.x == 0) x[0] = 1.f;
    atomicAdd(x, 2.f);                                              // store_beside_atomics
}
K void read_beside_atomics(float* x, float* y) {
    atomicAdd(x, 1.f);                                              // read_beside_atomics
    y[threadIdx.x] = x[0];
}
K void bytes(unsigned char* x, unsigned char* y) {
    x[threadIdx.x / 2] = 1;                                         // bytes
}
__device__ int counter;
K void device_variable(int* x) {
    counter += x[threadIdx.x];                                      // device_variable
}
K void unfenced(const float* x, float* part, unsigned* done, float* y) {
    part[blockIdx.x] = x[blockIdx.x];
    if (atomicAdd(done, 1u) == gridDim.x - 1) {
        y[0] = 0;
        for (int i = 0; i < gridDim.x; ++i) y[0] += part[i];        // unfenced
    }
}
K void divergent(float* x) {
    if (threadIdx.x < 16) {
        x[threadIdx.x] = 1;
        __syncthreads();
    } else {
        __syncthreads();                                            // divergent
    }
}
K void barrier_and_shuffle(float* x) {
    float v = x[threadIdx.x];
    if (threadIdx.x < 16) __syncthreads();
    else v = __shfl_down_sync(0xffffffffu, v, 1);                   // barrier_and_shuffle
    x[threadIdx.x] = v;
}
K void shuffle_without_all(float* x) {
    float v = x[threadIdx.x];
    if (threadIdx.x & 1) v = __shfl_xor_sync(0xffffffffu, v, 2);    // shuffle_without_all
    __syncthreads();
    x[threadIdx.x] = v;
}
K void mask_without_itself(float* x) {
    x[threadIdx.x] = __shfl_sync(0x0000ffffu, x[threadIdx.x], 0);   // mask_without_itself
}
K void odd_width(float* x) {
    x[threadIdx.x] = __shfl_sync(0xffffffffu, x[threadIdx.x], 0, 7); // odd_width
}
K void sum_overflow(int* x, int n) {
    x[threadIdx.x] = n + x[threadIdx.x];                            // sum_overflow
}
K void difference_overflow(int* x, int n) {
    x[threadIdx.x] = -n - x[threadIdx.x];                           // difference_overflow
}
K void product_overflow(int* x, int n) {
    x[threadIdx.x] = n * n;                                         // product_overflow
}
K void long_overflow(long long* x, long long n) {
    x[0] = n * n;                                                   // long_overflow
}
K void negation_overflow(int* x, int n) {
    x[threadIdx.x] = -n;                                            // negation_overflow
}
K void wide_shift(int* x, int n) {
    x[threadIdx.x] = 1 << n;                                        // wide_shift
}
K void shifted_out(int* x, int n) {
    x[threadIdx.x] = 0x40000000 << n;                               // shifted_out
}
K void division(int* x, int n) {
    x[threadIdx.x] = 7 / n;                                         // division
}
K void remainder_(int* x, int n) {
    x[threadIdx.x] = 7 % n;                                         // remainder_
}
K void float_to_int(int* x, float v) {
    x[threadIdx.x] = (int) v;                                       // float_to_int
}
K void trap(float* x) {
    if (threadIdx.x == 3) __trap();                                 // trap
    x[threadIdx.x] = 1;
}
K void asserted(float* x) {
    assert(threadIdx.x < 3);                                        // asserted
    x[threadIdx.x] = 1;
}
K void spinning(int* x) {
    while (atomicAdd(x, 0) == 0) {}                                 // spinning
}
'''
KERNELS = SOURCE.split("\n")[2:]
i32, f32 = np.int32, np.float32


def line_of(name: str) -> int:
    found = [n for n, line in enumerate(KERNELS, 1) if line.endswith(f" // {name}")]
    assert len(found) == 1, name
    return found[0]


@dataclass
class Planted:
    """A fault: how to launch its kernel, and what is to be said. args: sizes are float arrays."""

    name: str
    grid: Any
    block: Any
    args: tuple[Any, ...]
    error: type[Exception]
    thread: int
    says: str
    at_block: int = 0
    shared: int = 0
    others: tuple[int, ...] = field(default=())

    def __str__(self) -> str:
        return self.name


def ints(*values: int) -> np.ndarray:
    return np.array(values, i32)


OUT, RACE = errors.OutOfBoundsError, errors.RaceError
ARITHMETIC, BARRIER = errors.KernelArithmeticError, errors.BarrierError
FAULTS = [
    Planted("past_end", 2, 32, (50, i32(50)), OUT, 18, "write of 4 bytes, 0 bytes past the end of "
            "200 bytes of device memory", at_block=1),
    Planted("before_start", 1, 32, (50,), OUT, 0, "4 bytes before the start of 200 bytes"),
    Planted("far_away", 1, 1, (4, 4), OUT, 0, "where there is no device memory"),
    Planted("null_pointer", 1, 4, (None, 4), OUT, 0, "through a null pointer"),
    Planted("past_dynamic_shared", 1, 32, (32,), OUT, 25, "past the end of 100 bytes of shared",
            shared=100),
    Planted("inner_index", 1, 9, (ints(*range(9)),), OUT, 8, "outside a dimension of its array"),
    Planted("past_local", 1, 1, (ints(0), i32(5)), OUT, 0, "outside a dimension of its array"),
    Planted("atomic_past_end", 1, 9, (ints(*range(8)),), OUT, 8, "0 bytes past the end of 32"),
    Planted("inlined", 1, 8, (8, 8), OUT, 7, "read of 4 bytes, 0 bytes past"),
    Planted("copied", 1, 1, (8, 10, i32(9)), OUT, 0, "read of 4 bytes, 0 bytes past the end of 32"),
    Planted("misaligned", 1, 1, (16,), errors.MisalignedError, 0, "not a multiple of 16"),
    Planted("misaligned_half", 1, 1, (16,), errors.MisalignedError, 0, "not a multiple of 8"),
    Planted("missing_barrier", 1, 64, (64, 64), RACE, 32, "no __syncthreads between"),
    Planted("reused_shared", 1, 64, (64, 64), RACE, 32, "writes it and"),
    Planted("missing_syncwarp", 1, 32, (32, 32), RACE, 16, "__syncthreads or __syncwarp between"),
    Planted("partial_syncwarp", 1, 32, (32, 32), RACE, 16, "__syncthreads or __syncwarp between"),
    Planted("shuffle_is_no_barrier", 1, 32, (32, 32), RACE, 0, "no __syncthreads or __syncwarp"),
    Planted("global_race", 1, 2, (1,), RACE, 1, "byte 0 of global memory"),
    Planted("race_of_blocks", 4, 1, (1, 4), RACE, 0, "order of the two blocks", at_block=1),
    Planted("scatter", 2, 4, (8, ints(0, 1, 2, 3, 4, 5, 1, 7), 8), RACE, 2,
            "byte 4 of global memory", at_block=1),
    Planted("store_beside_atomics", 1, 32, (1,), RACE, 1, "writes it"),
    Planted("read_beside_atomics", 1, 32, (1, 32), RACE, 1, "reads it and"),
    Planted("bytes", 1, 4, (np.zeros(4, np.uint8), np.zeros(4, np.uint8)), RACE, 1,
            "byte 0 of global"),
    Planted("device_variable", 1, 4, (ints(1, 2, 3, 4),), RACE, 1, "of global memory"),
    Planted("unfenced", 4, 1, (4, 4, np.zeros(1, np.uint32), 1), RACE, 0,
            "order of the two blocks", at_block=3),
    Planted("divergent", 1, 32, (32,), BARRIER, 16, "waits at one __syncthreads and"),
    Planted("barrier_and_shuffle", 1, 32, (32,), errors.DeadlockError, 16,
            "16 threads wait at __syncthreads, as block (0, 0, 0) thread (0, 0, 0)"),
    Planted("shuffle_without_all", 1, 32, (32,), errors.DeadlockError, 1,
            "__shfl_xor_sync with mask ffffffff"),
    Planted("mask_without_itself", 1, 32, (32,), BARRIER, 16, "leaves out the calling lane 16"),
    Planted("odd_width", 1, 32, (32,), BARRIER, 0, "width 7"),
    Planted("sum_overflow", 1, 4, (ints(1, 2, 3, 4), i32(2**31 - 3)), ARITHMETIC, 2,
            "integer overflow of a sum"),
    Planted("difference_overflow", 1, 4, (ints(1, 2, 3, 4), i32(2**31 - 3)), ARITHMETIC, 3,
            "integer overflow of a difference"),
    Planted("product_overflow", 1, 1, (ints(0), i32(70000)), ARITHMETIC, 0,
            "integer overflow of a product"),
    Planted("long_overflow", 1, 1, (np.zeros(1, np.int64), np.int64(2**40)), ARITHMETIC, 0,
            "integer overflow of a product"),
    Planted("negation_overflow", 1, 1, (ints(0), i32(-2**31)), ARITHMETIC, 0, "of a negation"),
    Planted("wide_shift", 1, 1, (ints(0), i32(33)), ARITHMETIC, 0, "shift overflow"),
    Planted("shifted_out", 1, 1, (ints(0), i32(3)), ARITHMETIC, 0, "shift overflow"),
    Planted("division", 1, 1, (ints(0), i32(0)), ARITHMETIC, 0, "integer division by zero"),
    Planted("remainder_", 1, 1, (ints(0), i32(0)), ARITHMETIC, 0, "integer division by zero"),
    Planted("float_to_int", 1, 1, (ints(0), f32(3e9)), ARITHMETIC, 0, "can't hold"),
    Planted("trap", 1, 8, (8,), errors.TrapError, 3, "__trap()"),
    Planted("asserted", 1, 8, (8,), errors.TrapError, 3, "assertion failed: threadIdx.x < 3"),
]


def launch(sim: Any, fault: Planted) -> None:
    args = []
    for a in fault.args:
        if isinstance(a, int):
            a = sim.array(np.zeros(a, f32))
        elif isinstance(a, np.ndarray):
            a = sim.array(a)
        args.append(a)
    sim.run(SOURCE, fault.name, fault.grid, fault.block, *args, shared=fault.shared)


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_planted_fault_is_found(sim, checking, fault):
    with pytest.raises(fault.error) as caught:
        launch(sim, fault)
    error, text = caught.value, str(caught.value)
    assert isinstance(error, errors.SimulatorError)
    where = f"planted.cu:{line_of(fault.name)}"
    assert text.startswith(f"{fault.name}<<<") and fault.says in text and where in text
    assert error.kernel == fault.name
    assert (error.file, error.line) == ("planted.cu", line_of(fault.name))
    assert error.block == (fault.at_block, 0, 0)
    assert error.thread == (fault.thread, 0, 0)
    assert f"block {error.block} thread {error.thread}" in text
    assert KERNELS[line_of(fault.name) - 1].strip() in text         # the line itself


@pytest.mark.parametrize("order", ["reversed", 1, 2])
@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_planted_fault_is_found_in_every_order(sim, fault, order):
    with sim.settings.using("check", order), pytest.raises(fault.error):
        launch(sim, fault)


def test_the_device_works_on_after_a_fault(sim, checking):
    for _ in range(3):
        x = sim.array(np.zeros(64, f32))
        with pytest.raises(RACE):
            sim.run(SOURCE, "missing_barrier", 1, 64, x, sim.array(x))
        sim.run(SOURCE, "past_end", 2, 32, x, i32(64))
        assert (x == 1).all()


def test_a_fault_names_the_callers_of_an_inlined_function(sim, checking):
    with pytest.raises(OUT) as caught:
        launch(sim, next(f for f in FAULTS if f.name == "inlined"))
    assert f"planted.cu:{line_of('inlined')}, called at planted.cu:{line_of('inlined') + 3}" \
        in str(caught.value)


def test_released_memory_is_out_of_bounds(sim, checking):
    pointer = sim.pointer(sim.array(np.zeros(1 << 22, f32)))
    with pytest.raises(OUT):
        sim.module(SOURCE).function("past_end")((1,), (32,), (pointer, i32(50)))


def test_a_thread_that_waits_in_vain(sim, mode, monkeypatch):
    monkeypatch.setattr(sim.settings, "patience", 1000)
    with pytest.raises(errors.CrashError, match="1000 times without meeting another") as caught:
        sim.run(SOURCE, "spinning", 1, 1, sim.array(ints(0)))
    assert caught.value.line == line_of("spinning")


def test_threads_of_three_dimensions(sim, checking):
    with pytest.raises(OUT) as caught:
        sim.run('extern "C" __global__ void f(int* x) {\n  x[threadIdx.z * 6 + threadIdx.y * 2 + '
                'threadIdx.x + 12 * (blockIdx.y + 2 * blockIdx.z)] = 1;\n}', "f", (1, 2, 2),
                (2, 3, 2), sim.array(np.zeros(41, i32)))
    assert caught.value.block == (0, 1, 1) and caught.value.thread == (1, 2, 0)
    assert "f<<<(1, 2, 2), (2, 3, 2)>>>" in str(caught.value)


# ---- the same kernels as they should be -------------------------------------------------------

CLEAN = r'''
#define K extern "C" __global__
K void barrier(const float* x, float* y) {
    __shared__ float s[64];
    for (int k = 0; k < 2; ++k) {
        s[threadIdx.x] = x[threadIdx.x] + k;
        __syncthreads();
        y[threadIdx.x] += s[63 - threadIdx.x];
        __syncthreads();
    }
}
K void syncwarp(const float* x, float* y) {
    __shared__ float s[32];
    s[threadIdx.x] = x[threadIdx.x];
    __syncwarp();
    y[threadIdx.x] = s[31 - threadIdx.x];
}
K void syncwarp_of_half(const float* x, float* y) {
    __shared__ float s[32];
    int t = threadIdx.x;
    s[t] = x[t];
    if (t < 16) {
        __syncwarp(0xffffu);
        y[t] = s[15 - t];
    } else {
        __syncwarp(0xffff0000u);
        y[t] = s[47 - t];
    }
}
// Lane 0 meets each other lane alone, and so learns of what all of them have written.
K void syncwarp_of_pairs(const float* x, float* y) {
    __shared__ float s[32];
    int t = threadIdx.x;
    s[t] = x[t];
    if (t) __syncwarp(1u << t | 1);
    else {
        for (int i = 1; i < 32; ++i) __syncwarp(1u << i | 1);
        for (int i = 0; i < 32; ++i) y[i] = s[31 - i];
    }
}
K void early_return(float* x, int n) {
    __shared__ float s[64];
    int t = threadIdx.x;
    if (t >= n) return;
    s[t] = x[t];
    __syncthreads();
    x[t] = s[n - 1 - t];
}
K void atomics(float* x, const int* index) {
    atomicAdd(x + index[blockIdx.x * blockDim.x + threadIdx.x], 1.f);
}
// The last block sums what all have written: fence, atomic operation, and only then reading.
K void last_block(const float* x, float* part, unsigned* done, float* y) {
    __shared__ bool last;
    if (threadIdx.x == 0) {
        part[blockIdx.x] = x[blockIdx.x];
        __threadfence();
        last = atomicAdd(done, 1u) == gridDim.x - 1;
    }
    __syncthreads();
    if (last && threadIdx.x == 0) {
        float sum = 0;
        for (int i = 0; i < gridDim.x; ++i) sum += part[i];
        y[0] = sum;
    }
}
K void wraps(unsigned* x, unsigned n) {
    x[threadIdx.x] = n * n + (x[threadIdx.x] - 5u) + (1u << 31 << threadIdx.x);
}
K void vectors(const float4* x, float4* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = make_float4(x[i].w, x[i].z, x[i].y, x[i].x);
}
// Two threads write the halves of what is one element of the array.
K void halves_of_elements(unsigned short* x) {
    x[threadIdx.x] = threadIdx.x;
}
'''


def test_clean_kernels_pass(sim, mode, order):
    x = sim.array(np.arange(64, dtype=f32))
    y = sim.array(np.zeros(64, f32))
    sim.run(CLEAN, "barrier", 1, 64, x, y)
    np.testing.assert_array_equal(y, 2 * x[::-1] + 1)
    for name in ("syncwarp", "syncwarp_of_pairs"):
        y = sim.array(np.zeros(32, f32))
        sim.run(CLEAN, name, 1, 32, x, y)
        np.testing.assert_array_equal(y, x[:32][::-1])
    sim.run(CLEAN, "syncwarp_of_half", 1, 32, x, y)
    np.testing.assert_array_equal(y, x[:32].reshape(2, 16)[:, ::-1].ravel())
    z = sim.array(x)
    sim.run(CLEAN, "early_return", 1, 64, z, i32(50))
    np.testing.assert_array_equal(z, np.r_[x[:50][::-1], x[50:]])
    index = np.random.default_rng(0).integers(0, 5, 96).astype(i32)
    counts = sim.array(np.zeros(5, f32))
    sim.run(CLEAN, "atomics", 3, 32, counts, sim.array(index))
    np.testing.assert_array_equal(counts, np.bincount(index, minlength=5))
    total = sim.empty(1, f32)
    sim.run(CLEAN, "last_block", 8, 32, x, sim.empty(8, f32), sim.array([0], np.uint32), total)
    assert total[0] == 28
    u = sim.array([1, 2, 3, 4], np.uint32)
    sim.run(CLEAN, "wraps", 1, 4, u, np.uint32(70000))
    square = 70000 * 70000 + np.arange(-4, 0)
    np.testing.assert_array_equal(u, (square + [1 << 31, 0, 0, 0]) % 2**32)
    v = sim.empty(64, f32)
    sim.run(CLEAN, "vectors", 2, 8, x, v, i32(16))
    np.testing.assert_array_equal(v, x.reshape(16, 4)[:, ::-1].ravel())
    words = sim.empty(8, np.uint32)
    sim.run(CLEAN, "halves_of_elements", 1, 16, words.view(np.uint16))
    np.testing.assert_array_equal(words.view(np.uint16), np.arange(16))


# ---- plain mode survives what it can't check --------------------------------------------------


def test_division_by_zero_in_plain_mode(sim, plainly):
    x = sim.array(ints(5))
    if platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("only x86-64 traps when it divides by zero")
    with pytest.raises(ARITHMETIC, match="division by zero") as caught:
        sim.run(SOURCE, "division", 1, 1, x, i32(0))
    assert (caught.value.file, caught.value.line) == ("planted.cu", line_of("division"))
    sim.run(SOURCE, "division", 1, 1, x, i32(2))
    assert x[0] == 3


def test_a_crash_in_plain_mode_is_an_exception(sim, plainly):
    with pytest.raises(errors.CrashError, match="no such memory") as caught:
        sim.run(SOURCE, "null_pointer", 1, 4, None, sim.array(np.zeros(4, f32)))
    assert caught.value.line == line_of("null_pointer")


def test_too_much_local_memory(sim, mode):
    code = r'''__device__ __noinline__ int deep(int n) {
    volatile int a[1000];
    a[n % 1000] = n;
    return n ? deep(n - 1) + a[n % 1000] : 0;
}
extern "C" __global__ void f(int* x, int n) { x[threadIdx.x] = deep(n); }'''
    x = sim.array(ints(0, 0))
    with pytest.raises(errors.CrashError, match="too much local memory"):
        sim.run(code, "f", 1, 2, x, i32(10000))
    sim.run(code, "f", 1, 2, x, i32(9))
    assert x.tolist() == [45, 45]


@pytest.mark.parametrize("name", ["trap", "asserted"])
def test_traps_in_plain_mode(sim, plainly, name):
    with pytest.raises(errors.TrapError) as caught:
        launch(sim, next(f for f in FAULTS if f.name == name))
    assert caught.value.line == line_of(name) and caught.value.thread == (3, 0, 0)


@pytest.mark.parametrize("name", ["divergent", "barrier_and_shuffle", "shuffle_without_all",
                                  "mask_without_itself", "odd_width"])
def test_barriers_are_checked_in_plain_mode_too(sim, plainly, name):
    fault = next(f for f in FAULTS if f.name == name)
    with pytest.raises(fault.error) as caught:
        launch(sim, fault)
    assert caught.value.line == line_of(name)
