// Batch norm: each channel of (n, c, size) to mean 0 and variance 1, by channels.cuh's mapping.
//
// reduction.cu's channel_moments makes the parts that batch_norm puts together, and batch_norm_sums
// those of batch_norm_backward: two launches each way, x read twice from memory. Parameters and
// statistics (c) are in Acc, in which everything is calculated. affine: bit 0 if there is a weight,
// bit 1 if there is a bias; their arrays are not read otherwise.
//
// Recorded steps (gpugrad/ops/fused.py) have batch norm, a residual's sum and ReLU in one launch,
// and their gradients. The bits are those of the separate kernels: the same expressions, each result
// rounded as it would be stored, and fma() where a compiler might contract a product and a sum in
// one place only.
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

// A running statistic moved by `share` towards a batch's.
__device__ __forceinline__ Acc moved(Acc running, Acc batch, Acc share) {
    return fma(running, 1 - share, batch * share);
}

// a.parts = 0: means and squares are the channels' own mean and variance. One thread of a channel
// keeps what was used, and moves the running statistics (c), if there are any; unbias is m / (m - 1).
// bits: 4 if there is a residual, 8 if there are running statistics, 16 if these are held as T and
// not as Acc, 32 if there is a counter of batches.
template <bool RELU>
__device__ __forceinline__ void normalise(
        const T* x, const T* residual, const Acc* weight, const Acc* bias, const Acc* means,
        const Acc* squares, T* y, Acc* mean_out, Acc* invstd_out, void* running_mean,
        void* running_var, void* batches, const Channels& a, Acc eps, int bits, Acc share,
        Acc unbias) {
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
    Scaled scaled(mean, invstd, weight, bias, s.channel, bits);
    each_position(x, a, s, [=](Index i, T from) {
        T v = scaled(from);
        if (RELU) {
            if (bits & 4) v = narrow(widen(v) + widen(residual[i]));
            if (widen(v) < 0) v = narrow(0);
        }
        y[i] = v;
    });
    if (s.lane || blockIdx.y) return;
    mean_out[s.channel] = mean;
    invstd_out[s.channel] = invstd;
    if (bits & 32 && s.channel == 0) ++*(long long*) batches;
    if (!(bits & 8)) return;
    variance = (1 / (invstd * invstd) - eps) * unbias;
    if (bits & 16) {
        T *m = (T*) running_mean + s.channel, *v = (T*) running_var + s.channel;
        *m = narrow(moved(widen(*m), mean, share));
        *v = narrow(moved(widen(*v), variance, share));
    } else {
        Acc *m = (Acc*) running_mean + s.channel, *v = (Acc*) running_var + s.channel;
        *m = moved(*m, mean, share);
        *v = moved(*v, variance, share);
    }
}

extern "C" __global__ void batch_norm(
        const T* __restrict__ x, const Acc* __restrict__ weight, const Acc* __restrict__ bias,
        const Acc* __restrict__ means, const Acc* __restrict__ squares, T* __restrict__ y,
        Acc* __restrict__ mean_out, Acc* __restrict__ invstd_out, void* running_mean,
        void* running_var, void* batches, Channels a, Acc eps, int bits, Acc share, Acc unbias) {
    normalise<false>(x, x, weight, bias, means, squares, y, mean_out, invstd_out, running_mean,
                     running_var, batches, a, eps, bits, share, unbias);
}

// relu(batch norm + residual).
extern "C" __global__ void batch_norm_relu(
        const T* __restrict__ x, const T* __restrict__ residual, const Acc* __restrict__ weight,
        const Acc* __restrict__ bias, const Acc* __restrict__ means,
        const Acc* __restrict__ squares, T* __restrict__ y, Acc* __restrict__ mean_out,
        Acc* __restrict__ invstd_out, void* running_mean, void* running_var, void* batches,
        Channels a, Acc eps, int bits, Acc share, Acc unbias) {
    normalise<true>(x, residual, weight, bias, means, squares, y, mean_out, invstd_out,
                    running_mean, running_var, batches, a, eps, bits, share, unbias);
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
