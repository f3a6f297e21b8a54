// Sums, variances, logsumexp, the places of extremes, any and all.
//
// channel_*: x is (n, c, size) and all but c is reduced (channels.cuh): parts of a channel at first,
// then, where there are several, the parts. Lines: x is (outer, length, inner) and length is
// reduced, with channels.cuh's mapping of threads for one part and outer * inner channels; logsumexp
// takes whole rows (reduce.cuh). All arrays are in C order; sums and comparisons in Acc.
#include "channels.cuh"

// scale times the sum of each channel: y (c), or parts (parts, c) without the scale if there are
// several.
extern "C" __global__ void channel_sum(const T* __restrict__ x,
                                                              Acc* __restrict__ parts,
                                                              T* __restrict__ y, Channels a,
                                                              Acc scale) {
    Stand s = stand(a);
    Acc sum = 0;
    for (Walk w(a, s); w.more(); w.next()) sum += widen(x[w.at]);
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
    for (Walk w(a, s); w.more(); w.next()) sum += widen(x[w.at]);
    Acc mean = channel_total(sum, a) / held(a, blockIdx.y);
    sum = 0;
    for (Walk w(a, s); w.more(); w.next()) {
        Acc d = widen(x[w.at]) - mean;
        sum += d * d;
    }
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
extern "C" __global__ void __launch_bounds__(1024) logsumexp(const T* __restrict__ x,
                                                             T* __restrict__ y, long long rows,
                                                             long long length) {
    EACH_ROW(row, rows) {
        const T* in = x + row * (Index) length;
        Acc top = -INFINITE, sum = 0;
        EACH_OF_ROW(i, length) top = Max()(top, widen(in[i]));
        top = block_max(top);
        if (top - top != 0) top = 0;            // infinite or NaN: it goes through exp below
        EACH_OF_ROW(i, length) sum += exp(widen(in[i]) - top);
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
    for (Index p = s.lane; p < end; p += s.lanes)
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
    for (Walk w(a, s); w.more(); w.next()) seen |= (x[w.at] != 0) == wanted;
    seen = channel_total(seen, a) != 0;
    if (!s.lane && s.inside)
        y[(Index) blockIdx.y * (Index) a.c + s.channel] = (unsigned char) (seen == wanted);
}
