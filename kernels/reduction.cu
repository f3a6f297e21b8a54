// Sums, variances, logsumexp, the places of extremes, any and all.
//
// channel_*: x is (n, c, size) and all but c is reduced (channels.cuh): parts of a channel at first,
// then, where there are several, the parts. Lines: x is (outer, length, inner) and length is
// reduced, with channels.cuh's mapping of threads for one part and outer * inner channels; logsumexp
// takes whole rows (reduce.cuh). All arrays are in C order; sums and comparisons in Acc.
#include "channels.cuh"
#include "lines.cuh"

// scale times the sum of each channel: y (c), or parts (parts, c) without the scale if there are
// several.
extern "C" __global__ void channel_sum(const T* __restrict__ x,
                                                              Acc* __restrict__ parts,
                                                              T* __restrict__ y, Channels a,
                                                              Acc scale) {
    Stand s = stand(a);
    Acc sum = 0;
    each_position(x, a, s, [&](Index, T v) { sum += widen(v); });
    sum = channel_total(sum, a);
    if (s.lane || !s.inside) return;
    if (a.parts == 1) y[s.channel] = narrow(sum * scale);
    else parts[(Index) blockIdx.y * (Index) a.c + s.channel] = sum;
}

extern "C" __global__ void channel_sum_of_parts(
        const Acc* __restrict__ parts, T* __restrict__ y, Channels a, Acc scale) {
    Stand s = stand(a);
    Acc sum = sum_of_parts(parts, a, s);
    if (!s.lane && s.inside) y[s.channel] = narrow(sum * scale);
}

// The mean and the sum of squared distances from it, of each part: (parts, c). x is read twice, the
// second time from the cache: exact however large the mean is.
extern "C" __global__ void channel_moments(const T* __restrict__ x,
                                                                  Acc* __restrict__ means,
                                                                  Acc* __restrict__ squares,
                                                                  Channels a) {
    Stand s = stand(a);
    Acc sum = 0;
    each_position(x, a, s, [&](Index, T v) { sum += widen(v); });
    Acc mean = channel_total(sum, a) / held(a, blockIdx.y);
    sum = 0;
    each_position(x, a, s, [&](Index, T v) {
        Acc d = widen(v) - mean;
        sum += d * d;
    });
    sum = channel_total(sum, a);
    if (s.lane || !s.inside) return;
    Index i = (Index) blockIdx.y * (Index) a.c + s.channel;
    means[i] = mean;
    squares[i] = sum;
}

// From the moments of parts: mean (c), and the squared distances over `degrees`, or their root.
extern "C" __global__ void channel_variance(
        const Acc* __restrict__ means, const Acc* __restrict__ squares, T* __restrict__ variance,
        T* __restrict__ mean, Channels a, Acc degrees, int root) {
    Stand s = stand(a);
    Two<Acc, Acc> m = moments_of_parts(means, squares, a, s);
    if (s.lane || !s.inside) return;
    Acc v = m.b / degrees;
    variance[s.channel] = narrow(root ? sqrt(v) : v);
    mean[s.channel] = narrow(m.a);
}

// log(sum(exp(x))) of each row, without overflow; x is read twice, the second time from the cache.
extern "C" __global__ void __launch_bounds__(512, ROW_BLOCKS) logsumexp(
        const T* __restrict__ x, T* __restrict__ y, long long rows, long long length) {
    EACH_ROW(row, rows) {
        Across line = {row, (Index) length};
        Acc top = -INFINITE, sum = 0;
        read_line(x, line, [&](Index, Acc v) { top = Max()(top, v); });
        top = block_max(top);
        if (top - top != 0) top = 0;            // infinite or NaN: it goes through exp below
        read_line(x, line, [&](Index, Acc v) { sum += exp(v - top); });
        sum = block_sum(sum);
        if (threadIdx.x == 0) y[row] = narrow(log(sum) + top);
    }
}

// A value and its place; the better one of two: NaN before numbers, then the larger value times
// sign, then the lower place. Places are -1 where there is no value yet.
typedef Two<Acc, Index> Found;

struct Better {
    __device__ __forceinline__ Found operator()(Found v, Found w) const {
        bool v_nan = v.a != v.a, w_nan = w.a != w.a, tie = v.a == w.a || (v_nan && w_nan);
        if (v.b < 0) return w;
        if (w.b < 0) return v;
        if (tie) return v.b < w.b ? v : w;
        return v_nan || v.a > w.a ? v : w;
    }
};

// Where the largest, or for sign -1 the smallest, value of each line is. The lines are the channels
// of `a` as far as threads go; x has n elements, of which the last line may have fewer.
extern "C" __global__ void line_extreme(const T* __restrict__ x, T* __restrict__ values,
                                        long long* __restrict__ indices, Channels a,
                                        long long length, long long inner, long long n, Acc sign) {
    __shared__ Found found[CHANNEL_THREADS];
    Stand s = stand(a);
    Index step = (Index) inner, outer = s.channel / step;
    Index first = outer * (Index) length * step + s.channel - outer * step;
    Index end = s.inside ? min((Index) length, ((Index) n - first - 1) / step + 1) : 0;
    Found best = {0, -1};
    Index p = s.lane;
    for (; p + (AHEAD - 1) * s.lanes < end; p += AHEAD * s.lanes) {
        T v[AHEAD];
#pragma unroll
        for (int k = 0; k < AHEAD; ++k) v[k] = x[first + (p + k * s.lanes) * step];
#pragma unroll
        for (int k = 0; k < AHEAD; ++k)
            best = Better()(best, Found{sign * widen(v[k]), p + k * s.lanes});
    }
    for (; p < end; p += s.lanes)
        best = Better()(best, Found{sign * widen(x[first + p * step]), p});
    for (int half = s.lanes / 2; half; half /= 2) {
        found[threadIdx.x] = best;
        __syncthreads();
        if (s.lane < half) best = Better()(best, found[threadIdx.x + half * a.tile]);
        __syncthreads();
    }
    if (s.lane || !s.inside) return;
    values[s.channel] = x[first + best.b * step];
    indices[s.channel] = best.b;
}

// Whether any element of a channel is nonzero, or for wanted 0, whether none is zero: parts of the
// channels as for channel_sum, whose dtype plays no part.
extern "C" __global__ void channel_any(const unsigned char* __restrict__ x,
                                                              unsigned char* __restrict__ y,
                                                              Channels a, int wanted) {
    Stand s = stand(a);
    int seen = 0;
    each_position(x, a, s, [&](Index, unsigned char v) { seen |= (v != 0) == wanted; });
    seen = channel_total(seen, a) != 0;
    if (!s.lane && s.inside)
        y[(Index) blockIdx.y * (Index) a.c + s.channel] = (unsigned char) (seen == wanted);
}
