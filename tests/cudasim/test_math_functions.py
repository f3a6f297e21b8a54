"""Functions of numbers, bits and conversions, against Python's math and NumPy."""
from __future__ import annotations

import math

import numpy as np
import pytest

X = np.array([-2.75, -1.0, -0.5, -0.3, 0.0, 0.2, 0.5, 0.9, 1.0, 1.5, 2.0, 3.3, 17.0])
UNIT, POSITIVE = X[np.abs(X) < 1], X[X > 0]
# name: (its argument, what it should be)
FUNCTIONS = {
    "exp": (X, np.exp), "exp2": (X, np.exp2), "exp10": (X, lambda x: 10.0**x),
    "expm1": (X, np.expm1), "log": (POSITIVE, np.log), "log2": (POSITIVE, np.log2),
    "log10": (POSITIVE, np.log10), "log1p": (POSITIVE, np.log1p), "sqrt": (POSITIVE, np.sqrt),
    "rsqrt": (POSITIVE, lambda x: 1 / np.sqrt(x)), "cbrt": (X, np.cbrt),
    "rcbrt": (POSITIVE, lambda x: 1 / np.cbrt(x)), "sin": (X, np.sin), "cos": (X, np.cos),
    "tan": (X, np.tan), "asin": (UNIT, np.arcsin), "acos": (UNIT, np.arccos),
    "atan": (X, np.arctan), "sinh": (X, np.sinh), "cosh": (X, np.cosh), "tanh": (X, np.tanh),
    "asinh": (X, np.arcsinh), "acosh": (X[X >= 1], np.arccosh), "atanh": (UNIT, np.arctanh),
    "sinpi": (X, lambda x: np.sin(np.pi * np.fmod(x, 2))),
    "cospi": (X, lambda x: np.cos(np.pi * np.fmod(x, 2))),
    "erf": (X, np.vectorize(math.erf)), "erfc": (X, np.vectorize(math.erfc)),
    "erfcx": (X[X < 4], np.vectorize(lambda x: math.exp(x * x) * math.erfc(x))),
    "normcdf": (X, np.vectorize(lambda x: math.erfc(-x / math.sqrt(2)) / 2)),
    "lgamma": (POSITIVE, np.vectorize(math.lgamma)), "tgamma": (POSITIVE, np.vectorize(math.gamma)),
    "fabs": (X, np.abs), "floor": (X, np.floor), "ceil": (X, np.ceil), "trunc": (X, np.trunc),
    "round": (X, lambda x: np.trunc(x + np.copysign(0.5, x))), "rint": (X, np.rint),
    "nearbyint": (X, np.rint), "logb": (POSITIVE, lambda x: np.floor(np.log2(x))),
}
FAST = {"__expf": np.exp, "__logf": np.log, "__log2f": np.log2, "__log10f": np.log10,
        "__sinf": np.sin, "__cosf": np.cos, "__tanf": np.tan, "__frcp_rn": np.reciprocal,
        "__fsqrt_rn": np.sqrt, "__frsqrt_rn": lambda x: 1 / np.sqrt(x),
        "__saturatef": lambda x: np.clip(x, 0, 1)}
BINARY = {"atan2": np.arctan2, "hypot": np.hypot, "fmod": np.fmod, "fmin": np.fmin,
          "fmax": np.fmax, "copysign": np.copysign, "nextafter": np.nextafter,
          "fdim": lambda x, y: np.maximum(x - y, 0), "remainder": np.vectorize(math.remainder)}


def source():
    lines = []
    for name in FUNCTIONS:
        lines.append(f'extern "C" __global__ void {name}_kernel(const double* x, double* y, '
                     f'const float* xf, float* yf, int n) {{\n'
                     f'    int i = threadIdx.x;\n    if (i < n) y[i] = {name}(x[i]), '
                     f'yf[i] = {name}f(xf[i]);\n}}')
    lines += [f'extern "C" __global__ void k{name}(const float* x, float* y) '
              f'{{ y[threadIdx.x] = {name}(x[threadIdx.x]); }}'
              for name in FAST]
    lines += [f'extern "C" __global__ void {name}_kernel(const double* x, const double* y, '
              f'double* z, float* zf) {{ int i = threadIdx.x; z[i] = {name}(x[i], y[i]); '
              f'zf[i] = {name}f((float) x[i], (float) y[i]); }}' for name in BINARY]
    return "\n".join(lines)


SOURCE = source()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_of_one_argument(sim, plainly, name):
    x, expected = FUNCTIONS[name]
    y, single = sim.empty(len(x), np.float64), sim.empty(len(x), np.float32)
    sim.run(SOURCE, f"{name}_kernel", 1, 32, sim.array(x), y, sim.array(x, np.float32), single,
            np.int32(len(x)))
    np.testing.assert_allclose(y, expected(x), rtol=1e-13, atol=1e-15)
    of_single = expected(x.astype(np.float32).astype(np.float64))
    np.testing.assert_allclose(single, of_single, rtol=3e-7, atol=1e-7)


@pytest.mark.parametrize("name", FAST)
def test_fast_functions(sim, plainly, name):
    y = sim.empty(len(POSITIVE), np.float32)
    sim.run(SOURCE, f"k{name}", 1, len(POSITIVE), sim.array(POSITIVE, np.float32), y)
    np.testing.assert_allclose(y, FAST[name](POSITIVE.astype(np.float32)), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", BINARY)
def test_functions_of_two_arguments(sim, plainly, name):
    x, y = X, np.roll(X, 3) + 0.125
    z, single = sim.empty(len(x), np.float64), sim.empty(len(x), np.float32)
    sim.run(SOURCE, f"{name}_kernel", 1, len(x), sim.array(x), sim.array(y), z, single)
    np.testing.assert_allclose(z, BINARY[name](x, y), rtol=1e-14)
    expected = BINARY[name](x.astype(np.float32), y.astype(np.float32))
    np.testing.assert_allclose(single, expected, rtol=1e-6, atol=1e-7)


MORE = r'''
#define K extern "C" __global__ void
K inverses(const double* x, double* y, int n) {
    int i = threadIdx.x;
    y[i] = erf(erfinv(x[i]));
    y[n + i] = erfc(erfcinv(x[i] + 1));
    y[2 * n + i] = normcdf(normcdfinv((x[i] + 1) / 2));
    y[3 * n + i] = erfinvf((float) x[i]);
}
K overloads(double* y) {
    y[0] = exp(1.0f) == expf(1.0f);
    y[1] = sqrt(2);                                     // an int: in double
    y[2] = pow(2.0f, 3);
    y[3] = pow(2, 0.5);
    y[4] = abs(-3) + abs(-2.5f) + abs(-1ll);
    y[5] = max(2, 3) + min(2.5, 1.5f) + max(1u, 5u) + min(-1ll, 1ll);
    y[6] = max(-1, 1u);                                 // compared as unsigned
    y[7] = fma(2.0, 3.0, 4.0) + fmaf(1.f, 2.f, 3.f);
    y[8] = isnan(nanf("")) + 2 * isinf(-1.0 / 0.0) + 4 * isfinite(1e308) + 8 * signbit(-0.0);
    double s, c;
    sincos(1.0, &s, &c);
    y[9] = s * s + c * c;
    int e;
    y[10] = frexp(12.0, &e) + e;
    y[11] = ldexp(0.75, 4) + scalbn(1.0, 3) + ilogb(9.0);
    y[12] = lrint(2.5) + llround(2.5) + lroundf(-0.5f);
    y[13] = fmaxf(nanf(""), 1.f) + fminf(2.f, nanf(""));
    y[14] = __fdividef(1.f, 4.f) + __powf(2.f, 3.f) + __fmaf_rn(2.f, 2.f, 1.f) + rhypotf(3.f, 4.f);
}
K bits(long long* y) {
    int i = 0;
    y[i++] = __popc(0xf0f0u) + __popcll(~0ull);
    y[i++] = __clz(1) * 100 + __clz(0);
    y[i++] = __clzll(1ll) * 100 + __clzll(0);
    y[i++] = __ffs(8) * 100 + __ffs(0) + __ffsll(1ll << 40);
    y[i++] = __brev(1u) + (long long) (__brevll(1ull) >> 63);
    y[i++] = __umulhi(0x80000000u, 6u) + __mulhi(-(1 << 30), 8);
    y[i++] = (long long) __umul64hi(1ull << 63, 6ull) + __mul64hi(-(1ll << 62), 8ll);
    y[i++] = __float_as_int(1.0f);
    y[i++] = __float_as_uint(-0.0f);
    y[i++] = __double_as_longlong(1.0);
    y[i++] = __int_as_float(0x7f800000) > 1e38f && __uint_as_float(0x40000000u) == 2;
    y[i++] = __double2hiint(1.0) + __double2loint(1.0);
    y[i++] = __hiloint2double(0x3ff00000, 0) == 1;
    y[i++] = __byte_perm(0x33221100u, 0x77665544u, 0x7531u);
    y[i++] = __funnelshift_l(0x80000000u, 1u, 4u);
    y[i++] = __funnelshift_r(0x80000000u, 1u, 4u);
    y[i++] = __sad(-3, 4, 1u) + __hadd(3, 4) + __rhadd(3, 4) + __umul24(3u, 5u);
    y[i++] = __dp4a(0x01020304, 0x01010101, 5);
}
K conversions(const float* x, long long* y, int n) {
    int i = threadIdx.x;
    y[i] = __float2int_rn(x[i]);
    y[n + i] = __float2int_rz(x[i]);
    y[2 * n + i] = __float2int_ru(x[i]);
    y[3 * n + i] = __float2int_rd(x[i]);
    y[4 * n + i] = __float2uint_rz(x[i]);
    y[5 * n + i] = __float2ll_rz(x[i]);
    y[6 * n + i] = __double2int_rn(x[i]);
}
K vectors(float* y) {
    float4 a = make_float4(1, 2, 3, 4);
    float2 b = {a.x, a.w};
    double2 d = make_double2(5, 6);
    uchar4 c = make_uchar4(1, 2, 3, 255);
    int2 i = make_int2(-1, 7);
    longlong2 l = make_longlong2(1, 2);
    dim3 size(3, 4);
    y[0] = a.y + b.y; y[1] = (float) d.y; y[2] = c.w; y[3] = i.x + i.y; y[4] = l.y;
    y[5] = sizeof(float3) * 100 + sizeof(float4); y[6] = alignof(float4) * 100 + alignof(double2);
    y[7] = size.x * 100 + size.y * 10 + size.z; y[8] = warpSize;
    y[9] = alignof(uchar4) * 100 + alignof(short2) * 10 + alignof(float2);
}
K caches(const float* x, float* y) {
    __stcs(y, __ldg(x) + __ldcs(x + 1) + __ldcg(x + 2));
    y[1] = __ldca(x + 3);
    unsigned char copy[8];
    memcpy(copy, x, 8);
    memset(copy, 0, 4);
    memcpy(y + 2, copy, 8);
}
'''


def test_inverse_functions(sim, plainly):
    x = np.array([-0.99, -0.5, -1e-3, 0.0, 0.3, 0.9, 0.999])
    y = sim.empty((4, 7), np.float64)
    sim.run(MORE, "inverses", 1, 7, sim.array(x), y, np.int32(7))
    np.testing.assert_allclose(y[0], x, atol=1e-15)
    np.testing.assert_allclose(y[1], x + 1, rtol=1e-14)
    np.testing.assert_allclose(y[2], (x + 1) / 2, rtol=1e-14)
    np.testing.assert_allclose([math.erf(v) for v in y[3]], x, atol=1e-7)


def test_overloads(sim, mode):
    y = sim.empty(15, np.float64)
    sim.run(MORE, "overloads", 1, 1, y)
    np.testing.assert_allclose(y, [
        1, math.sqrt(2), 8, math.sqrt(2), 6.5, 3 + 1.5 + 5 - 1, 2**32 - 1, 15, 15, 1, 4.75,
        12 + 8 + 3, 2 + 3 - 1, 3, 0.25 + 8 + 5 + 0.2], rtol=1e-7)


def test_bits(sim, mode):
    y = sim.empty(18, np.int64)
    sim.run(MORE, "bits", 1, 1, y)
    assert y.tolist() == [
        8 + 64, 3132, 6364, 400 + 41, 2**31 + 1, 3 - 2, 3 - 2, 0x3f800000, 0x80000000,
        0x3ff0000000000000, 1, 0x3ff00000, 1, 0x77553311, 0x18, 0x18000000, 8 + 3 + 4 + 15,
        1 + 2 + 3 + 4 + 5]


def test_conversions_saturate(sim, mode):
    x = np.array([-2.5, -1.5, -0.4, 0.5, 1.5, 2.7, 3e9, -3e9, 1e30, np.nan], np.float32)
    y = sim.empty((7, 10), np.int64)
    sim.run(MORE, "conversions", 1, 10, sim.array(x), y, np.int32(10))
    top, bottom = 2**31 - 1, -2**31
    ends = [top, bottom, top, 0]
    assert y.tolist() == [
        [-2, -2, 0, 0, 2, 3, *ends], [-2, -1, 0, 0, 1, 2, *ends], [-2, -1, 0, 1, 2, 3, *ends],
        [-3, -2, -1, 0, 1, 2, *ends], [0, 0, 0, 0, 1, 2, 3000000000, 0, 2**32 - 1, 0],
        [-2, -1, 0, 0, 1, 2, 3000000000, -3000000000, 2**63 - 1, 0], [-2, -2, 0, 0, 2, 3, *ends]]


def test_vector_types(sim, mode):
    y = sim.empty(10, np.float32)
    sim.run(MORE, "vectors", 1, 1, y)
    assert y.tolist() == [6, 6, 255, 6, 2, 1216, 1616, 341, 32, 448]


def test_caches_and_copies(sim, mode):
    y = sim.empty(4, np.float32)
    sim.run(MORE, "caches", 1, 1, sim.array([1, 2, 4, 8], np.float32), y)
    assert y.tolist() == [7, 8, 0, 2]
