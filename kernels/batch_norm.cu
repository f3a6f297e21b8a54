// Batch norm: each channel of (n, c, size) to mean 0 and variance 1, by channels.cuh's mapping.
//
// reduction.cu's channel_moments makes the parts that batch_norm puts together, and batch_norm_sums
// those of batch_norm_backward: two launches each way, x read twice from memory. Parameters and
// statistics (c) are in Acc, in which everything is calculated. affine: bit 0 if there is a weight,
// bit 1 if there is a bias; their arrays are not read otherwise.
//
// Recorded steps (gpugrad/ops/fused.py) have the statistics in a launch of their own, which moves
// the running ones too, then batch norm, a residual's sum and ReLU in one; and their gradients. The
// bits are those of the separate kernels: the same expressions, each result rounded as it would be
// stored, and fma() where a compiler might contract a product and a sum in one place only.
#include "channels.cuh"

// A channel's line: what is stored is (x - mean) * slope + shift.
struct Scaled {
    Acc mean, slope, shift;

    __device__ __forceinline__ Scaled(Acc mean, Acc invstd, const Acc* weight, const Acc* bias,
                                      Index channel, int affine)
        : mean(mean), slope(affine & 1 ? invstd * weight[channel] : invstd),
          shift(affine & 2 ? bias[channel] : 0) {}
    __device__ __forceinline__ T operator()(T x) const {
        return narrow(fma(widen(x) - mean, slope, shift));
    }
};

// a.parts = 0: means and squares are the channels' own mean and variance.
extern "C" __global__ void batch_norm(
        const T* __restrict__ x, const Acc* __restrict__ weight, const Acc* __restrict__ bias,
        const Acc* __restrict__ means, const Acc* __restrict__ squares, T* __restrict__ y,
        Acc* __restrict__ mean_out, Acc* __restrict__ invstd_out, Channels a, Acc eps,
        int affine) {
    Stand s = stand(a);
    Acc mean = 0, variance = 0;
    if (a.parts) {
        Two<Acc, Acc> m = moments_of_parts(means, squares, a, s);
        mean = m.a;
        variance = m.b / (Acc) (a.n * a.size);
    } else if (s.inside) {
        mean = means[s.channel];
        variance = squares[s.channel];
    }
    if (!s.inside) return;
    Acc invstd = 1 / sqrt(variance + eps);
    Scaled scaled(mean, invstd, weight, bias, s.channel, affine);
    each_position(x, a, s, [=](Index i, T v) { y[i] = scaled(v); });
    if (s.lane || blockIdx.y) return;
    mean_out[s.channel] = mean;
    invstd_out[s.channel] = invstd;
}

// A statistic moved by `share` towards a batch's.
__device__ __forceinline__ Acc moved(Acc running, Acc batch, Acc share) {
    return fma(running, 1 - share, batch * share);
}

__device__ __forceinline__ Acc unbiased(Acc invstd, Acc unbias, Acc eps) {
    return (1 / (invstd * invstd) - eps) * unbias;
}

// Mean and 1 / std of each channel from those of its parts, as batch_norm finds them; and the
// running statistics, if there are any, moved as moved_statistics does. A block for a tile. moving:
// bit 0 if there are any, bit 1 if there is a counter of batches.
extern "C" __global__ void batch_norm_statistics(
        const Acc* __restrict__ means, const Acc* __restrict__ squares, Acc* __restrict__ mean_out,
        Acc* __restrict__ invstd_out, Acc* running_mean, Acc* running_var, long long* batches,
        Channels a, Acc eps, int moving, Acc share, Acc unbias) {
    Stand s = stand(a);
    if (moving & 2 && blockIdx.x == 0 && threadIdx.x == 0) ++*batches;
    Two<Acc, Acc> m = moments_of_parts(means, squares, a, s);
    if (s.lane || !s.inside) return;
    Acc invstd = 1 / sqrt(m.b / (Acc) (a.n * a.size) + eps);
    mean_out[s.channel] = m.a;
    invstd_out[s.channel] = invstd;
    if (!(moving & 1)) return;
    running_mean[s.channel] = moved(running_mean[s.channel], m.a, share);
    running_var[s.channel] = moved(running_var[s.channel], unbiased(invstd, unbias, eps), share);
}

// relu(batch norm + residual). affine: bit 2 if there is a residual, bit 3 if `spread` is the
// variance and not 1 / std, bit 4 if there is no ReLU.
extern "C" __global__ void batch_norm_relu(
        const T* __restrict__ x, const T* __restrict__ residual, const Acc* __restrict__ weight,
        const Acc* __restrict__ bias, const Acc* __restrict__ mean, const Acc* __restrict__ spread,
        T* __restrict__ y, Channels a, Acc eps, int affine) {
    Stand s = stand(a);
    if (!s.inside) return;
    Acc invstd = affine & 8 ? 1 / sqrt(spread[s.channel] + eps) : spread[s.channel];
    Scaled scaled(mean[s.channel], invstd, weight, bias, s.channel, affine);
    each_position(x, a, s, [=](Index i, T from) {
        Acc v = widen(scaled(from));
        if (affine & 4) v = widen(narrow(v + widen(residual[i])));
        y[i] = narrow(v < 0 && !(affine & 16) ? 0 : v);
    });
}

// The sums over each part of g and of g * (x - mean): (parts, c). slope: g at a place, where x is v.
template <class F>
__device__ __forceinline__ void sums_of(const T* x, Acc centre, Acc* sums, Acc* products,
                                        const Channels& a, const Stand& s, F slope) {
    Two<Acc, Acc> v = {0, 0};
    each_position(x, a, s, [&](Index i, T from) {
        Acc g = slope(i, from);
        v.a += g;
        v.b = fma(g, widen(from) - centre, v.b);
    });
    v = channel_total(v, a);
    if (s.lane || !s.inside) return;
    Index i = (Index) blockIdx.y * (Index) a.c + s.channel;
    sums[i] = v.a;
    products[i] = v.b;
}

// `share` neighbouring channels have one mean: 1 in batch norm, those of a group in group norm.
extern "C" __global__ void batch_norm_sums(
        const T* __restrict__ g, const T* __restrict__ x, const Acc* __restrict__ mean,
        Acc* __restrict__ sums, Acc* __restrict__ products, Channels a, int share) {
    Stand s = stand(a);
    sums_of(x, s.inside ? mean[s.channel / share] : 0, sums, products, a, s,
            [=](Index i, T) { return widen(g[i]); });
}

// Of g through ReLU, whose result y was: what comes through is written to t, for others. If `both`,
// the gradient is g + more.
extern "C" __global__ void relu_batch_norm_sums(
        const T* __restrict__ g, const T* __restrict__ more, const T* __restrict__ y,
        const T* __restrict__ x, const Acc* __restrict__ mean, T* __restrict__ t,
        Acc* __restrict__ sums, Acc* __restrict__ products, Channels a, int both) {
    Stand s = stand(a);
    sums_of(x, s.inside ? mean[s.channel] : 0, sums, products, a, s, [=](Index i, T) {
        T v = both ? narrow(widen(g[i]) + widen(more[i])) : g[i];
        if (widen(y[i]) <= 0) v = narrow(0);
        t[i] = v;
        return widen(v);
    });
}

// Of g through ReLU of the batch norm itself, whose result is made again: y is not read.
extern "C" __global__ void batch_norm_relu_sums(
        const T* __restrict__ g, const T* __restrict__ x, const Acc* __restrict__ weight,
        const Acc* __restrict__ bias, const Acc* __restrict__ mean,
        const Acc* __restrict__ invstd, Acc* __restrict__ sums, Acc* __restrict__ products,
        Channels a, int affine) {
    Stand s = stand(a);
    Index c = s.inside ? s.channel : 0;
    Scaled scaled(mean[c], invstd[c], weight, bias, c, affine);
    sums_of(x, scaled.mean, sums, products, a, s,
            [=](Index i, T v) { return widen(scaled(v)) <= 0 ? 0 : widen(g[i]); });
}

// gx = scale * (g - gb / m - (x - mean) * invstd * gw / m), with m = n * size; or, if the statistics
// are constants (training 0), scale * g. THROUGH: g is 0 where batch norm gave nothing above 0.
template <bool THROUGH>
__device__ __forceinline__ void slopes(const T* g, const T* x, const Acc* weight, const Acc* bias,
                                       const Acc* mean, const Acc* invstd, const Acc* sums,
                                       const Acc* products, T* gx, Acc* gw, Acc* gb,
                                       const Channels& a, int training, int affine) {
    Stand s = stand(a);
    Acc sum = sum_of_parts(sums, a, s), product = sum_of_parts(products, a, s);
    if (!s.inside) return;
    Acc centre = mean[s.channel], r = invstd[s.channel], m = (Acc) (a.n * a.size);
    Scaled scaled(centre, r, weight, bias, s.channel, affine);
    Acc shift = training ? sum / m : 0, tilt = training ? r * r * product / m : 0;
    each_position(g, a, s, [=](Index i, T slope) {
        Acc v = THROUGH && widen(scaled(x[i])) <= 0 ? 0 : widen(slope);
        v -= shift;
        if (training) v = fma(centre - widen(x[i]), tilt, v);
        gx[i] = narrow(scaled.slope * v);
    });
    if (s.lane || blockIdx.y) return;
    gw[s.channel] = product * r;
    gb[s.channel] = sum;
}

extern "C" __global__ void batch_norm_backward(
        const T* __restrict__ g, const T* __restrict__ x, const Acc* __restrict__ weight,
        const Acc* __restrict__ mean, const Acc* __restrict__ invstd, const Acc* __restrict__ sums,
        const Acc* __restrict__ products, T* __restrict__ gx, Acc* __restrict__ gw,
        Acc* __restrict__ gb, Channels a, int training, int affine) {
    slopes<false>(g, x, weight, weight, mean, invstd, sums, products, gx, gw, gb, a, training,
                  affine & 1);
}

extern "C" __global__ void batch_norm_relu_backward(
        const T* __restrict__ g, const T* __restrict__ x, const Acc* __restrict__ weight,
        const Acc* __restrict__ bias, const Acc* __restrict__ mean,
        const Acc* __restrict__ invstd, const Acc* __restrict__ sums,
        const Acc* __restrict__ products, T* __restrict__ gx, Acc* __restrict__ gw,
        Acc* __restrict__ gb, Channels a, int training, int affine) {
    slopes<true>(g, x, weight, bias, mean, invstd, sums, products, gx, gw, gb, a, training,
                 affine);
}

// Running statistics (c) moved by `share` towards a batch's mean and variance; unbias is m / (m - 1).
// The new ones may lie where the old ones are.
extern "C" __global__ void moved_statistics(const T* running_mean, const T* running_var,
                                            const Acc* __restrict__ mean,
                                            const Acc* __restrict__ invstd, T* new_mean,
                                            T* new_var, long long n, Acc share, Acc unbias,
                                            Acc eps) {
    EACH(i, n) {
        new_mean[i] = narrow(moved(widen(running_mean[i]), mean[i], share));
        new_var[i] = narrow(moved(widen(running_var[i]), unbiased(invstd[i], unbias, eps), share));
    }
}
