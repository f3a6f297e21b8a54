"""__half and __nv_bfloat16: conversions of all patterns, arithmetic and functions."""
from __future__ import annotations

import numpy as np
import pytest

SOURCE = r'''
#include <cuda_fp16.h>
#include <cuda_bf16.h>
#ifdef BFLOAT16
typedef __nv_bfloat16 T;
typedef __nv_bfloat162 T2;
#define F(name) __bfloat16##name
#define TO(from, how) __##from##2bfloat16##how
#define PAIR __halves2bfloat162
#define BITS __ushort_as_bfloat16
#else
typedef __half T;
typedef __half2 T2;
#define F(name) __half##name
#define TO(from, how) __##from##2half##how
#define PAIR __halves2half2
#define BITS __ushort_as_half
#endif
#define K extern "C" __global__
#define EACH int i = blockIdx.x * blockDim.x + threadIdx.x; if (i < n)
K void widen(const T* x, float* y, int n) { EACH y[i] = F(2float)(x[i]); }
K void narrow(const float* x, T* y, int n) {
    EACH {
        y[i] = TO(float, )(x[i]);
        y[n + i] = TO(float, _rz)(x[i]);
        y[2 * n + i] = TO(float, _ru)(x[i]);
        y[3 * n + i] = TO(float, _rd)(x[i]);
        y[4 * n + i] = T(x[i]);
    }
}
K void narrow_double(const double* x, T* y, int n) { EACH y[i] = T(x[i]); }
K void to_integers(const T* x, long long* y, int n) {
    EACH {
        y[i] = F(2ll_rn)(x[i]);
        y[n + i] = F(2ll_rz)(x[i]);
        y[2 * n + i] = F(2int_ru)(x[i]);
        y[3 * n + i] = F(2int_rd)(x[i]);
        y[4 * n + i] = F(2ushort_rz)(x[i]);
        y[5 * n + i] = (short) x[i];
    }
}
K void from_integers(const long long* x, T* y, int n) {
    EACH {
        y[i] = TO(ll, _rn)(x[i]);
        y[n + i] = T((int) x[i]);
    }
}
K void arithmetic(const T* a, const T* b, T* y, int n) {
    EACH {
        T s = a[i];
        s += b[i];
        int r = 0;
        y[r++ * n + i] = a[i] + b[i];
        y[r++ * n + i] = __hsub(a[i], b[i]);
        y[r++ * n + i] = a[i] * b[i];
        y[r++ * n + i] = __hdiv(a[i], b[i]);
        y[r++ * n + i] = s;
        y[r++ * n + i] = -a[i];
        y[r++ * n + i] = __habs(a[i]);
        y[r++ * n + i] = __hfma(a[i], b[i], a[i]);
        y[r++ * n + i] = hsqrt(__habs(a[i]));
        y[r++ * n + i] = __hmax(a[i], b[i]);
        y[r++ * n + i] = __hmin(a[i], b[i]);
        y[r++ * n + i] = hexp(a[i]);
        y[r++ * n + i] = hfloor(a[i]);
        y[r++ * n + i] = a[i] > b[i] ? T(1) : T(0);
        y[r++ * n + i] = __hle(a[i], b[i]) ? T(1.0f) : T(0.0);
        T2 two = PAIR(a[i], b[i]) + PAIR(b[i], b[i]);
        y[r++ * n + i] = two.x;
        y[r++ * n + i] = __hmul2(PAIR(a[i], b[i]), PAIR(b[i], b[i])).y;
        y[r++ * n + i] = __low2float(__lowhigh2highlow(two));
    }
}
K void special(T* y) {
    T nan = BITS(0x7fff), one = T(1.f), inf = T(1.f) / T(0.f), zero = T(0.f);
    y[0] = __hmax(nan, one);
    y[1] = __hmin_nan(one, nan);
    y[2] = __hisnan(nan) && !__hisnan(inf) && __hisinf(-inf) == -1 ? one : zero;
    y[3] = __hltu(nan, one) && !__hlt(nan, one) && !(nan == nan) && nan != nan ? one : zero;
    y[4] = __hmax(-zero, zero);
    y[5] = T(70000) * T(70000) * T(1e38f) * T(1e38f);
    y[6] = one ? inf : zero;
    y[7] = __hfma_relu(-one, one, zero);
    y[8] = __hadd_sat(one, one);
}
K void shuffled(const T* x, T* y, T2* z) {
    __shared__ T s[32];
    int t = threadIdx.x;
    s[t] = x[t];
    __syncthreads();
    y[t] = __shfl_xor_sync(0xffffffffu, s[31 - t], 1);
    z[t] = __shfl_down_sync(0xffffffffu, T2(s[t], s[t]), 16);
}
K void atomics(T* x, T2* y) {
    atomicAdd(x, T(1.f));
    atomicAdd(y, PAIR(T(1.f), T(2.f)));
}
'''
ALL = np.arange(65536).astype(np.uint16)
BF = ("-DBFLOAT16",)
rng = np.random.default_rng(3)


def to_bfloat16(x):
    """float32 or float64 to bits of bfloat16, to the nearest, ties to even."""
    with np.errstate(all="ignore"):
        x = np.asarray(x, np.float64)
        single = x.astype(np.float32)
        # What the step to float32 lost must not vanish: keep it as its last bit (round to odd).
        single = np.where(np.isfinite(x) & (np.abs(single) > np.abs(x)),
                          np.nextafter(single, np.float32(0)), single)
        bits = single.view(np.uint32) | (single != x)
        bits = bits.astype(np.uint64)
        rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16
    return np.where(np.isnan(x), 0x7fff, rounded).astype(np.uint16)


def from_bfloat16(b):
    return (b.astype(np.uint32) << 16).view(np.float32)


def to_half(x):
    with np.errstate(all="ignore"):
        return np.where(np.isnan(x), 0x7fff, np.asarray(x).astype(np.float16).view(np.uint16)
                        ).astype(np.uint16)


class HalfKind:
    def __init__(self, name):
        self.name = name
        self.options = BF if name == "bfloat16" else ()
        self.narrow = to_bfloat16 if name == "bfloat16" else to_half

    def widen(self, b):
        return from_bfloat16(b) if self.options else b.view(np.float16).astype(np.float32)

    def pointer(self, sim, a):
        """The array's bits under the dtype that the kernel wants."""
        pointer = sim.pointer(a)
        pointer.dtype = BFLOAT16 if self.options else np.dtype(np.float16)
        return pointer


class _BFloat16:
    name = "bfloat16"


BFLOAT16 = _BFloat16()


@pytest.fixture(params=["float16", "bfloat16"])
def kind(request):
    return HalfKind(request.param)


def run(sim, kind, name, *args, n=None, block=256):
    """bits arrays are passed as the kind's dtype."""
    grid = -(-(n or block) // block)
    packed = [kind.pointer(sim, a) if isinstance(a, np.ndarray) and a.dtype == np.uint16 else a
              for a in args] + ([np.int32(n)] if n else [])
    sim.run(SOURCE, name, grid, block, *packed, options=kind.options)


def same(found, expected):
    """Equal bits, where any NaN equals any other."""
    np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))


def test_all_patterns_widen(sim, mode, kind):
    y = sim.empty(65536, np.float32)
    run(sim, kind, "widen", sim.array(ALL), y, n=65536)
    expected = kind.widen(ALL)
    nan = np.isnan(expected)
    same(np.isnan(y), nan)
    same(y.view(np.uint32)[~nan], expected.view(np.uint32)[~nan])


def floats(kind):
    """All values, the points between neighbours, and those a bit to both sides; and others."""
    values = kind.widen(ALL[:0x7f80 if kind.options else 0x7c00]).astype(np.float64)
    between = (values[1:] + values[:-1]) / 2
    most = values[-1] + (values[-1] - values[-2]) / 2
    with np.errstate(all="ignore"):
        x = np.r_[values, between, most, most * 1.5, np.inf, np.nan].astype(np.float32)
        x = np.r_[x, np.nextafter(x, np.float32(0)), np.nextafter(x, np.float32(np.inf))]
    x = np.r_[x, rng.integers(0, 2**32, 50000, np.uint64).astype(np.uint32).view(np.float32)]
    return np.r_[x, -x]


def test_narrowing_rounds_to_the_nearest(sim, mode, kind):
    x = floats(kind)
    y = sim.empty((5, len(x)), np.uint16)
    run(sim, kind, "narrow", sim.array(x), y, n=len(x))
    expected = np.where(np.isnan(x), 0x7fff, kind.narrow(x))
    same(y[0], expected)
    same(y[4], expected)
    finite = np.isfinite(x)
    zero, up, down = [kind.widen(y[i].copy())[finite].astype(np.float64) for i in (1, 2, 3)]
    x = x[finite].astype(np.float64)
    most = float(kind.widen(np.uint16([0x7f7f if kind.options else 0x7bff]))[0])
    assert (up >= x).all() and (down <= x).all()
    assert (np.where(x < 0, up, down) == zero).all()
    # The two neighbours, or one and the same.
    exact = up == down
    assert (x[exact] == up[exact]).all()
    near = ~exact & (np.abs(x) < most)
    steps = kind.narrow(np.abs(up[near])).astype(int) - kind.narrow(np.abs(down[near])).astype(int)
    assert (np.abs(steps) == 1).all()


def test_double_rounds_once(sim, mode, kind):
    with np.errstate(all="ignore"):          # of signalling NaNs
        x = floats(kind).astype(np.float64)
    x = np.r_[x, x * (1 + 2**-40), x * (1 - 2**-40), rng.normal(0, 1, 1000), 1e300, -1e300, 1e-300]
    y = sim.empty(len(x), np.uint16)
    run(sim, kind, "narrow_double", sim.array(x), y, n=len(x))
    same(y, np.where(np.isnan(x), 0x7fff, kind.narrow(x)))


def test_integers(sim, mode, kind):
    x = ALL
    y = sim.empty((6, 65536), np.int64)
    run(sim, kind, "to_integers", sim.array(x), y, n=65536)
    with np.errstate(all="ignore"):
        v = kind.widen(x).astype(np.float64)
        nearest, cut = np.rint(v), np.trunc(v)

        def clip(a, dtype):
            info = np.iinfo(dtype)
            return [0 if np.isnan(x) else info.max if x == np.inf else info.min if x == -np.inf
                    else min(max(int(x), info.min), info.max) for x in a]

        same(y[0], clip(nearest, np.int64))
        same(y[1], clip(cut, np.int64))
        same(y[2], clip(np.ceil(v), np.int32))
        same(y[3], clip(np.floor(v), np.int32))
        same(y[4], clip(cut, np.uint16))
        same(y[5], clip(cut, np.int16))
    n = np.r_[np.arange(-3000, 3000), rng.integers(-2**31, 2**31, 1000), 65504, 65519, 65520]
    y = sim.empty((2, len(n)), np.uint16)
    run(sim, kind, "from_integers", sim.array(n, np.int64), y, n=len(n))
    same(y[0], kind.narrow(n.astype(np.float64)))
    same(y[1], kind.narrow(n.astype(np.float64)))


def test_arithmetic_is_rounded_once(sim, mode, kind):
    a = kind.narrow(rng.normal(0, 3, 4096))
    b = kind.narrow(rng.normal(0, 3, 4096))
    y = sim.empty((18, 4096), np.uint16)
    run(sim, kind, "arithmetic", sim.array(a), sim.array(b), y, n=4096)
    p, q = kind.widen(a).astype(np.float64), kind.widen(b).astype(np.float64)
    total = kind.narrow(p + q)
    exponential = kind.narrow(np.exp(p).astype(np.float32))
    assert (np.abs(y[11].astype(int) - exponential) <= 1).all()     # the host's expf
    y[11] = exponential
    expected = [
        total, kind.narrow(p - q), kind.narrow(p * q), kind.narrow(p / q), total, kind.narrow(-p),
        kind.narrow(np.abs(p)), kind.narrow(p * q + p), kind.narrow(np.sqrt(np.abs(p))),
        kind.narrow(np.maximum(p, q)), kind.narrow(np.minimum(p, q)), exponential,
        kind.narrow(np.floor(p)), kind.narrow((p > q) * 1.0), kind.narrow((p <= q) * 1.0), total,
        kind.narrow(q * q), kind.narrow(2 * q)]
    for i, row in enumerate(expected):
        np.testing.assert_array_equal(y[i], row, err_msg=f"row {i}")


def test_special_values(sim, mode, kind):
    y = sim.empty(9, np.uint16)
    run(sim, kind, "special", y, block=1)
    one, inf, zero = kind.narrow(1.0), kind.narrow(np.inf), 0
    same(y, [one, 0x7fff, one, one, zero, inf, inf, zero, one])


def test_shared_memory_and_shuffles(sim, mode, kind):
    x = kind.narrow(np.arange(32.0))
    y, z = sim.empty(32, np.uint16), sim.empty(64, np.uint16)
    run(sim, kind, "shuffled", sim.array(x), y, sim.pointer(z), block=32)
    lanes = np.arange(32)
    same(y, x[31 - (lanes ^ 1)])
    same(z.reshape(32, 2)[:16], np.stack([x[16:], x[16:]], 1))


def test_atomic_addition(sim, mode, kind):
    x, y = sim.array(kind.narrow(np.zeros(1))), sim.array(kind.narrow(np.zeros(2)))
    run(sim, kind, "atomics", x, sim.pointer(y), block=64)
    same(kind.widen(np.array(x)), [64])
    same(kind.widen(np.array(y)), [64, 128])
