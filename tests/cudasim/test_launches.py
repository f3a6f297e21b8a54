"""What a launch is refused for: arguments, grids and blocks that can't be."""
from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gpugrad.cudasim import errors

ROOT = Path(errors.__file__).parents[2]
SOURCE = r'''
#define K extern "C" __global__ void
struct Sizes { int h, w; double scale; };
struct Odd { char c; long long n; short s; };
enum Kind : unsigned char { RED, GREEN };
K numbers(float* y, float f, double d, int i, long long l, unsigned u, bool b, short s,
          unsigned char c, unsigned long long q) {
    y[0] = f; y[1] = (float) d; y[2] = i; y[3] = (float) l; y[4] = u; y[5] = b; y[6] = s; y[7] = c;
    y[8] = (float) (q >> 60);
}
K structs(double* y, Sizes a, int n, const Odd b, Kind kind) {
    y[0] = a.h; y[1] = a.w; y[2] = a.scale; y[3] = n; y[4] = b.c; y[5] = (double) b.n; y[6] = b.s;
    y[7] = kind;
}
K pointers(const float* f, long long* l, void* any, const float4* four, float* const* table,
           const bool* flag) {
    if (threadIdx.x == 0) l[0] = (f != nullptr) + 2 * (any != nullptr) + 4 * (flag != nullptr);
}
K through_table(float* const* table, int n) { table[threadIdx.x][0] = (float) n; }
K nothing() {}
K few() {}
K __launch_bounds__(64) bounded(int* x) { x[threadIdx.x] = 1; }
K __launch_bounds__(32 * (1 + 1), 2) bounded_by_sum(int* x) { x[threadIdx.x] = 1; }
K where(int* x) {
    int i = ((blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x)
        * blockDim.x * blockDim.y * blockDim.z
        + (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
    x[i] = i;
}
'''
SIZES = np.dtype([("h", "i4"), ("w", "i4"), ("scale", "f8")])
ODD = np.dtype([("c", "i1"), ("n", "i8"), ("s", "i2")], align=True)
NUMBERS = (np.float32(1.5), 2.5, np.int32(-3), np.int64(2**40), np.uint32(5), True, np.int16(-7),
           np.uint8(8), np.uint64(2**63))


def test_numbers_by_value(sim, mode):
    y = sim.empty(9, np.float32)
    sim.run(SOURCE, "numbers", 1, 1, y, *NUMBERS)
    assert y.tolist() == [1.5, 2.5, -3, 2.0**40, 5, 1, -7, 8, 8]


def test_python_integers_that_fit(sim, mode):
    y = sim.empty(9, np.float32)
    sim.run(SOURCE, "numbers", 1, 1, y, np.float32(1), 2.0, -3, 4, 5, np.bool_(False), 6, 7,
            8 << 60)
    assert y.tolist() == [1, 2, -3, 4, 5, 0, 6, 7, 8]


def test_structs_by_value(sim, mode):
    y = sim.empty(8, np.float64)
    a, b = np.array((2, 3, 0.25), SIZES), np.array((-4, 2**40, -5), ODD)
    sim.run(SOURCE, "structs", 1, 1, y, a[()], np.int32(9), b[()], np.uint8(1))
    assert y.tolist() == [2, 3, 0.25, 9, -4, 2**40, -5, 1]


def test_pointers_of_all_kinds(sim, mode):
    f, found = sim.array([1.0], np.float32), sim.empty(1, np.int64)
    flag, any_ = sim.array([True]), sim.array([1], np.int8)
    sim.run(SOURCE, "pointers", 1, 1, f, found, any_, sim.array([0.0] * 4, np.float32),
            sim.array([0], np.uint64), flag)
    assert found[0] == 7
    sim.run(SOURCE, "pointers", 1, 1, None, found.view(np.uint64), None, None, None, None)
    assert found[0] == 0
    address = int(sim.pointer(f).address)
    sim.run(SOURCE, "pointers", 1, 1, address, found, np.uint64(address), None, None, None)
    assert found[0] == 3


def test_addresses_in_an_array(sim, mode):
    arrays = [sim.array([0.0], np.float32) for _ in range(5)]
    table = sim.array([sim.pointer(a).address for a in arrays], np.uint64)
    sim.run(SOURCE, "through_table", 1, 5, table, np.int32(3))
    assert [a[0] for a in arrays] == [3] * 5


@pytest.mark.parametrize("index, value, says", [
    (0, np.zeros(9, np.float32), "argument 0 is a NumPy array, in the host's memory"),
    (0, np.float32(1), "argument 0 is float32"),
    (0, "x", "argument 0 is str 'x', but the kernel declares float*"),
    (0, 12345, "argument 0 is 12345, which is no address in device memory"),
    (1, 1.5, "argument 1 is float, but the kernel declares float: pass numpy.float32"),
    (1, np.float64(1), "argument 1 is float64, but the kernel declares float"),
    (1, np.float16(1), "argument 1 is float16"),
    (2, np.float32(1), "argument 2 is float32, but the kernel declares double"),
    (3, np.int64(1), "argument 3 is int64, but the kernel declares int"),
    (3, 2**31, "argument 3 is 2147483648, too large for the int"),
    (3, np.uint32(2**31), "argument 3 is uint32"),
    (3, True, "argument 3 is bool"),
    (3, np.float32(1), "argument 3 is float32"),
    (4, np.int32(1), "argument 4 is int32, but the kernel declares long long"),
    (5, -1, "argument 5 is -1, too large for the unsigned"),
    (6, 1, "argument 6 is int, but the kernel declares bool"),
    (7, np.ones(1, np.int16), "argument 7 is a NumPy array of shape"),
    (8, None, "argument 8 is NoneType"),
], ids=str)
def test_wrong_arguments(sim, mode, index, value, says):
    args = [sim.pointer(sim.empty(9, np.float32)), *NUMBERS]
    args[index] = value
    function = sim.module(SOURCE).function("numbers")
    with pytest.raises(errors.ArgumentError) as caught:
        function((1,), (1,), tuple(args))
    assert str(caught.value).startswith("numbers<<<(1,), (1,)>>>: ") and says in str(caught.value)
    assert caught.value.kernel == "numbers" and isinstance(caught.value, TypeError)


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int32, np.uint8])
def test_arrays_of_another_dtype(sim, plainly, dtype):
    with pytest.raises(errors.ArgumentError, match=f"array of {np.dtype(dtype)}, but the kernel "
                                                   r"declares float\*"):
        sim.run(SOURCE, "numbers", 1, 1, sim.empty(20, dtype), *NUMBERS)
    with pytest.raises(errors.ArgumentError, match=r"array of float64, but the kernel declares "
                                                   r"const bool\*"):
        sim.run(SOURCE, "pointers", 1, 1, None, None, None, None, None, sim.empty(1, np.float64))


@pytest.mark.parametrize("args", [(), NUMBERS, (*NUMBERS, 1, 2)], ids=len)
def test_another_number_of_arguments(sim, plainly, args):
    with pytest.raises(errors.ArgumentError, match=f"{len(args)} arguments for 10 parameters"):
        sim.run(SOURCE, "numbers", 1, 1, *args)


def test_structs_of_another_size(sim, plainly):
    y = sim.empty(8, np.float64)
    args = [y, np.array((2, 3, 0.25), SIZES)[()], np.int32(9), np.array((1, 2, 3), ODD)[()], 1]
    args[1] = np.array((2, 3), [("h", "i4"), ("w", "i4")])[()]
    with pytest.raises(errors.ArgumentError, match=r"argument 1 has 8 bytes, .* a struct of 16"):
        sim.run(SOURCE, "structs", 1, 1, *args)
    args[1] = np.int32(1)
    with pytest.raises(errors.ArgumentError, match="a struct of 16 bytes by value"):
        sim.run(SOURCE, "structs", 1, 1, *args)


@pytest.mark.parametrize("grid, block, says", [
    ((1,), (1025,), "the most that a device allows is (1024, 1024, 64)"),
    ((1,), (1, 1, 65), "(1024, 1024, 64)"), ((1,), (32, 64), "2048 threads"),
    ((0,), (1,), "the grid is (0,)"), ((1,), (0,), "the block is (0,)"), ((), (1,), "grid is ()"),
    ((1, 65536), (1,), "(2147483647, 65535, 65535)"), ((1, 1, 65536), (1,), "65535"),
    ((1, 1, 1, 1), (1,), "1 to 3 dimensions"), ((2**31,), (1,), "the grid is"),
], ids=str)
def test_grids_and_blocks(sim, mode, grid, block, says):
    with pytest.raises(errors.LaunchError) as caught:
        sim.run(SOURCE, "nothing", grid, block)
    assert says in str(caught.value) and "nothing<<<" in str(caught.value)


@pytest.mark.parametrize("name", ["bounded", "bounded_by_sum"])
def test_launch_bounds(sim, mode, name):
    x = sim.array(np.zeros(96, np.int32))
    sim.run(SOURCE, name, 1, 64, x)
    assert x.sum() == 64
    with pytest.raises(errors.LaunchError, match="96 threads, but its __launch_bounds__ are 64"):
        sim.run(SOURCE, name, 1, 96, x)


@pytest.mark.parametrize("grid, block", [
    ((3,), (5,)), ((2, 3), (4, 5)), ((2, 3, 4), (3, 2, 5)), ((1, 1, 7), (1, 33)), ((1,), (1024,))],
    ids=str)
def test_indices(sim, mode, order, grid, block):
    n = int(np.prod(grid) * np.prod(block))
    x = sim.empty(n, np.int32)
    sim.run(SOURCE, "where", grid, block, x)
    np.testing.assert_array_equal(x, np.arange(n))


def test_no_arguments(sim, mode):
    sim.run(SOURCE, "nothing", 2, 2)


INTERRUPTED = """
import os, signal, sys, threading
import numpy as np
from gpugrad.cudasim import compiler, kernel, memory
kernel.settings.mode = sys.argv[1]
signal.signal(signal.SIGINT, signal.default_int_handler)     # a shell's & ignores it
x = memory.allocate(128).view("f4")
f = compiler.Module('extern "C" __global__ void f(float* x, int n) {'
                    'for (int i = 0; i < n; ++i) { __syncthreads(); x[threadIdx.x] = i; } }'
                    ).function("f")
args = memory.Pointer(x.__array_interface__["data"][0], x.dtype), np.int32(2**31 - 1)
threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    f((1000,), (32,), args)
except KeyboardInterrupt:
    print("interrupted")
f((1,), (32,), (args[0], np.int32(8)))
print(x[31])
"""


def test_a_kernel_can_be_interrupted(sim, mode):
    run = subprocess.run([sys.executable, "-c", INTERRUPTED, mode], capture_output=True, text=True,
                         timeout=100, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert run.stdout == "interrupted\n7.0\n" and run.stderr == ""


def test_settings_are_checked(sim):
    with pytest.raises(ValueError, match="plain, check or coverage"):
        sim.settings.mode = "fast"
    with pytest.raises(ValueError, match="forward, reversed or a seed"):
        sim.settings.order = "backward"
    before = sim.settings.mode, sim.settings.order
    with sim.settings.using("plain", 7):
        assert (sim.settings.mode, sim.settings.order) == ("plain", 7)
    assert (sim.settings.mode, sim.settings.order) == before


def test_orders(sim, plainly):
    code = r'''extern "C" __global__ void f(int* next, int* order) {
    order[atomicAdd(next, 1)] = blockIdx.x * blockDim.x + threadIdx.x;
}'''

    def run(order):
        with sim.settings.using(order=order):
            n, found = sim.array([0], np.int32), sim.empty(12, np.int32)
            sim.run(code, "f", 3, 4, n, found)
            return found.tolist()

    assert run("forward") == list(range(12)) and run("reversed") == list(range(12))[::-1]
    assert run(5) == run(5) != run(6) and sorted(run(5)) == list(range(12))
