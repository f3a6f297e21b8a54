"""Compiling: what a source may contain, messages, options, headers, variables, the cache."""
from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from gpugrad.cudasim import compiler, errors, kernel
from gpugrad.cudasim.source import Rewriter, exports

i32, f32 = np.int32, np.float32
ROOT = Path(compiler.__file__).parents[2]


def test_templates_by_name_expressions(sim, mode):
    code = r'''template <class T, int N> __global__ void scale(T* x) { x[threadIdx.x] *= N; }
namespace deep { template <class T> __global__ void negate(T* x) { x[threadIdx.x] *= -1; } }
__global__ void plain(int* x) { x[threadIdx.x] += 1; }'''
    names = ["scale<float, 3>", "scale<int, -2>", "deep::negate<double>", "plain"]
    for name, dtype, factor, more in [(names[0], f32, 3, 0), (names[1], i32, -2, 0),
                                      (names[2], np.float64, -1, 0), (names[3], i32, 1, 1)]:
        x = sim.array(np.arange(8), dtype)
        sim.run(code, name, 1, 8, x, names=names)
        np.testing.assert_array_equal(x, np.arange(8) * factor + more)
    with pytest.raises(errors.CompileError, match=r"no name expression 'scale<double, 3>'; it has: "
                                                  r"scale<float, 3>"):
        sim.module(code, names).function("scale<double, 3>")
    with pytest.raises(errors.CompileError, match=r"no extern .* it has: none"):
        sim.module(code).function("plain")


def test_kernels_by_macros_and_conditions(sim, plainly):
    code = r'''// extern "C" __global__ void commented(int* x) {}
#define KERNEL(name, op) extern "C" __global__ void name##_kernel(int* x) { x[0] = x[0] op 2; }
KERNEL(plus, +)
KERNEL(times, *)
#if 0
extern "C" __global__ void absent(int* x) {}
#endif
extern "C" {
__global__ void first(int* x) { x[0] = '{' + "}"[0]; }
static __device__ int helper(int v) { return v; }
__global__ void __launch_bounds__(256) second(int* x)
{ x[0] = helper(x[0]); }
}
extern "C" __global__ void declared(int* x);
extern "C" __global__ void declared(int* x) { x[0] = 5; }'''
    kernels = sim.module(code).binary("plain").kernels
    assert list(kernels) == ["plus_kernel", "times_kernel", "first", "second", "declared"]
    x = sim.array([5], i32)
    sim.run(code, "times_kernel", 1, 1, x)
    assert x[0] == 10


def test_kernels_named_as_functions_of_libc(sim, mode):
    code = "\n".join([f'extern "C" __global__ void {name}(int* x) {{ x[0] = {n}; }}'
                      for n, name in enumerate(["select", "random", "remove", "index", "write"])])
    for n, name in enumerate(["select", "random", "remove", "index", "write"]):
        x = sim.array([99], i32)
        sim.run(code, name, 1, 1, x)
        assert x[0] == n


def test_one_template_in_two_modules_is_two(sim, mode):
    code = r'''template <class T> __device__ T* room() { __shared__ T s[SIZE]; return s; }
extern "C" __global__ void f(int* x) { int* s = room<int>(); s[threadIdx.x] = threadIdx.x;
    __syncthreads(); x[threadIdx.x] = s[SIZE - 1 - threadIdx.x]; }'''
    for size in (32, 64, 16):
        x = sim.empty(size, i32)
        sim.run(code, "f", 1, size, x, options=[f"-DSIZE={size}"])
        np.testing.assert_array_equal(x, np.arange(size)[::-1])


def test_options(sim, plainly, tmp_path):
    (tmp_path / "my header.cuh").write_text("#define FROM_HEADER 7\n")
    code = r'''#include "my header.cuh"
#include <cuda_fp16.h>
extern "C" __global__ void f(int* x) {
    assert(N == 4);                     // NDEBUG
    T = A; x[1] = B; x[2] = FROM_HEADER; x[3] = __cplusplus;
}'''
    x = sim.empty(4, i32)
    sim.run(code, "f", 1, 1, x, options=("-DA=4", "--define-macro=B=5", "-DT=x[0]",
                                         "-D", "N=3", "-DNDEBUG", "-DI", "-I", str(tmp_path),
                                         "--use_fast_math", "-lineinfo", "--std=c++20",
                                         "--gpu-architecture=sm_80"))
    assert x.tolist()[:3] == [4, 5, 7] and x[3] > 201703
    with pytest.raises(errors.CompileError, match="doesn't know the compiler option '-Wall'"):
        sim.module(code, options=["-Wall"])
    for standard in ("-std=c++11", "--std=c++14", "-std=c++17"):
        sim.run("extern \"C\" __global__ void f(int* x) { x[0] = __cplusplus; }", "f", 1, 1, x,
                options=[standard])
        assert x[0] == 201703


def test_changed_headers_are_compiled_anew(sim, plainly, tmp_path, monkeypatch):
    monkeypatch.setenv("GPUGRAD_CUDASIM_CACHE", str(tmp_path / "cache"))
    header = tmp_path / "h.cuh"
    code = '#include "h.cuh"\nextern "C" __global__ void f(int (*x)[N]) {}'
    for n in (3, 5):
        header.write_text(f"#define N {n}\n")
        module = compiler.Module(code, [f"-I{tmp_path}"])
        assert module.binary("plain").kernels["f"][1] == "PS 8 8,"
    assert len(list((tmp_path / "cache").glob("*.json"))) == 1       # in place of the first


def test_errors_point_to_the_source(sim, mode):
    code = '''#line 1 "common.cuh"
__device__ int twice(int x) { return 2 * x; }
__device__ int broken(int x) { return y; }
#line 2 "softmax.cu"
extern "C" __global__ void f(int* x) {
    x[0] = twice(x[0]) +;
}
'''
    with pytest.raises(errors.CompileError) as caught:
        sim.module(code, path="softmax.cu").function("f")
    text = str(caught.value)
    assert text.startswith("softmax.cu can't be compiled")
    assert "common.cuh:2: error: 'y' was not declared" in text
    assert "\n    __device__ int broken(int x) { return y; }" in text
    assert "softmax.cu:3: error: expected primary-expression" in text
    assert "\n    x[0] = twice(x[0]) +;" in text
    assert "building-" not in text


@pytest.mark.parametrize("code, says", [
    ("#include <cmath>", "cmath: No such file"), ("#include <stdint.h>", "stdint.h: No such file"),
    ("__device__ float f() { return INFINITY; }", "'INFINITY' was not declared"),
    ("__device__ int f() { return std::max(1, 2); }", "'max' is not a member of 'std'"),
    ("__device__ uint32_t f() { return 1; }", "'uint32_t' does not name a type"),
    ("__device__ int f() { return max(1, 2ll); }", "ambiguous"),
])
def test_what_nvrtc_has_not_is_not_there(sim, plainly, code, says):
    with pytest.raises(errors.CompileError, match=says):
        compiler.Module(code + '\nextern "C" __global__ void k() {}').function("k")


def test_inline_ptx_is_refused(sim, plainly):
    code = """#line 1 "a.cu"
extern "C" __global__ void f(int* x) {
    asm("mov.u32 %0, %laneid;" : "=r"(x[0]));
}"""
    with pytest.raises(errors.CompileError, match=r"a\.cu:2: inline PTX"):
        sim.module(code).function("f")


def test_faults_name_the_file_of_line_directives(sim, checking):
    code = '''#line 1 "common.cuh"
__device__ __forceinline__ void put(int* x, int i) {
    x[i] = 1;
}
#line 10 "kernels/used.cu"
extern "C" __global__ void f(int* x) {
    put(x, 4);
}
'''
    with pytest.raises(errors.OutOfBoundsError) as caught:
        sim.run(code, "f", 1, 1, sim.array([1, 2, 3, 4], i32), path="kernels/used.cu")
    assert (caught.value.file, caught.value.line) == ("common.cuh", 2)
    assert "at common.cuh:2, called at kernels/used.cu:11" in str(caught.value)


def test_variables_of_the_device(sim, mode):
    code = r'''__constant__ float weights[4] = {1, 2, 3, 4};
__device__ int counter = 5;
__device__ float2 pair;
extern "C" __global__ void f(float* x) {
    x[threadIdx.x] = weights[threadIdx.x] * counter + pair.y;
}'''
    module, x = sim.module(code), sim.empty(4, f32)
    address, nbytes = module.variable("weights")
    assert nbytes == 16 and module.variable("counter")[1] == 4 and module.variable("pair")[1] == 8
    import ctypes
    view = np.frombuffer((ctypes.c_ubyte * nbytes).from_address(address), f32)
    view[:] = [1, 2, 3, 4]
    sim.run(code, "f", 1, 4, x)
    assert x.tolist() == [5, 10, 15, 20]
    view[:] = 7
    sim.run(code, "f", 1, 4, x)
    assert x.tolist() == [35] * 4
    with pytest.raises(errors.CompileError, match="no __device__ or __constant__ variable 'none'"):
        module.variable("none")


def test_printf_assert_and_clock(sim, mode, capfd):
    code = r'''extern "C" __global__ void f(long long* x) {
    long long begin = clock64();
    assert(threadIdx.x < 2);
    printf("thread %d of %s %.2f\n", threadIdx.x, "f", 1.5);
    x[threadIdx.x] = clock64() - begin;
}'''
    x = sim.empty(2, np.int64)
    sim.run(code, "f", 1, 2, x)
    assert capfd.readouterr().out == "thread 0 of f 1.50\nthread 1 of f 1.50\n"
    assert (x > 0).all()


def test_rewriting_keeps_the_lines():
    text = '''# 1 "a.cu"
extern "C" __global__ void
__launch_bounds__(256, 2)
f(float* x) {
    extern __shared__
        float s[];
    __shared__ float
        a[4], b;
    const char* q = "__shared__ {"; char c = '{';
}
'''
    rewriter = Rewriter(text)
    new = rewriter.run()
    assert new.count("\n") == text.count("\n")
    assert rewriter.kernels == {"f": "256"}
    assert "cs_shared_variable(a); cs_shared_variable(b);" in new and '"__shared__ {"' in new
    assert 'cs_export("f", (256), &f)' in exports(rewriter.kernels, ())


# ---- the compiler and the cache ---------------------------------------------------------------


def without_compiler(monkeypatch, cxx):
    if cxx is None:
        monkeypatch.delenv("CXX", raising=False)
        monkeypatch.setenv("PATH", "/nonexistent")
    else:
        monkeypatch.setenv("CXX", cxx)
    compiler._find.cache_clear()


@pytest.fixture
def forget_compiler():
    yield
    compiler._find.cache_clear()


@pytest.mark.parametrize("cxx, says", [("/nonexistent", "CXX=/nonexistent can't be run"),
                                       (None, "there is no g\\+\\+ on the PATH")])
def test_without_a_compiler(monkeypatch, forget_compiler, cxx, says):
    without_compiler(monkeypatch, cxx)
    assert not compiler.available()
    module = compiler.Module('extern "C" __global__ void f() {} // without a compiler')
    for _ in range(2):
        monkeypatch.setattr(compiler, "_loaded", None)
        with pytest.raises(errors.NoCompilerError, match=says) as caught:
            module.function("f")
        assert "install g++" in str(caught.value) and "apt install g++" in str(caught.value)


def test_clang_is_refused(monkeypatch, forget_compiler, tmp_path):
    fake = tmp_path / "clang++"
    fake.write_text("#!/bin/sh\necho clang version 17\n")
    fake.chmod(0o755)
    monkeypatch.setenv("CXX", str(fake))
    monkeypatch.setenv("GPUGRAD_CUDASIM_CACHE", str(tmp_path))
    monkeypatch.setattr(compiler, "_loaded", None)
    with pytest.raises(errors.NoCompilerError, match="is Clang"):
        compiler.Module('extern "C" __global__ void f() {}').function("f")


def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.setenv("GPUGRAD_CUDASIM_CACHE", str(tmp_path / "a"))
    assert compiler.cache_folder() == tmp_path / "a"
    monkeypatch.delenv("GPUGRAD_CUDASIM_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "b"))
    assert compiler.cache_folder() == tmp_path / "b" / "gpugrad" / "cudasim"
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))      # nothing can be put there
    assert compiler.cache_folder().is_dir()


SCRIPT = """
import sys, time
import numpy as np
from gpugrad.cudasim import compiler, kernel, memory
kernel.settings.mode = sys.argv[1]
code = 'extern "C" __global__ void f(float* x) { x[threadIdx.x] = 2 * threadIdx.x; }'
x = memory.allocate(128).view("f4")
compiler.Module(code).function("f")((1,), (32,), (memory.Pointer(
    x.__array_interface__["data"][0], x.dtype),))
assert (x == 2 * np.arange(32)).all()
print("right")
"""


def start(mode, cache):
    return subprocess.Popen([sys.executable, "-c", SCRIPT, mode], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True,
                            env={**os.environ, "GPUGRAD_CUDASIM_CACHE": str(cache),
                                 "PYTHONPATH": str(ROOT)})


def test_processes_share_the_cache(sim, tmp_path):
    running = [start(mode, tmp_path) for mode in ("plain", "check", "plain", "check")]
    for process in running:
        out, err = process.communicate(timeout=120)
        assert (out, err) == ("right\n", "")
    files = sorted(path.suffix for path in tmp_path.iterdir())
    assert files == [".json"] * 2 + [".so"] * 3      # two modules and the runtime, nothing else
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    out, err = start("check", tmp_path).communicate(timeout=120)
    assert out == "right\n"
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


def test_old_files_leave_the_cache(sim, tmp_path):
    names = ["runtime-old.so", "old.json", "old.so.lock", "new.so", "other.txt"]
    for name in names:
        (tmp_path / name).write_text("")
        if name != "new.so":
            os.utime(tmp_path / name, (0, 0))
    (tmp_path / "building-x").mkdir()
    os.utime(tmp_path / "building-x", (0, 0))
    compiler._tidy(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new.so", "other.txt"]


def test_a_moved_cache_is_still_good(sim, tmp_path):
    assert start("plain", tmp_path / "a").communicate(timeout=120)[0] == "right\n"
    (tmp_path / "a").rename(tmp_path / "b")
    assert start("plain", tmp_path / "b").communicate(timeout=120)[0] == "right\n"
    assert len(list((tmp_path / "b").iterdir())) == 3


def test_threads_launch_at_the_same_time(sim, mode):
    code = r'''extern "C" __global__ void f(float* x, int n) {
    __shared__ float s[64];
    for (int i = 0; i < n; ++i) {
        s[threadIdx.x] = threadIdx.x + x[threadIdx.x];
        __syncthreads();
        x[threadIdx.x] = s[63 - threadIdx.x] - 63 + 2 * threadIdx.x;
        __syncthreads();
    }
}'''
    function = sim.module(code).function("f")
    wrong = []

    def work(seed):
        x = np.random.default_rng(seed).integers(0, 99, 64).astype(f32)
        for _ in range(20):
            a = sim.array(x)
            function((2,), (64,), (sim.pointer(a), i32(2)))
            if not np.isfinite(a).all():
                wrong.append(a)

    if mode == "check":         # two blocks would race
        function = lambda grid, *rest, f=function: f((1,), *rest)     # noqa: E731
    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_one_kernel_in_both_modes(sim, checking):
    code = 'extern "C" __global__ void f(float* x) { x[threadIdx.x] = 1; }'
    function = sim.module(code).function("f")
    short = sim.array(np.zeros(4), f32)
    args = (sim.pointer(short),)
    with pytest.raises(errors.OutOfBoundsError):
        function((1,), (5,), args)
    with kernel.settings.using("plain"):
        function((1,), (5,), args)          # into the margin behind it
    with pytest.raises(errors.OutOfBoundsError):
        function((1,), (5,), args)


def test_a_launch_costs_little(sim, checking):
    code = 'extern "C" __global__ void f(float* x, int n) { x[threadIdx.x] = n; }'
    function, x = sim.module(code).function("f"), sim.array(np.zeros(32), f32)
    args = sim.pointer(x), i32(32)
    best = 1.0
    for _ in range(20):
        begin = time.perf_counter()
        for _ in range(100):
            function((1,), (32,), args)
        best = min(best, (time.perf_counter() - begin) / 100)
    assert best < 60e-6         # seconds; about 5e-6 on a quiet machine
