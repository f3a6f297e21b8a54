// Batch norm: each channel of (n, c, size) to mean 0 and variance 1, by channels.cuh's mapping.
//
// reduction.cu's channel_moments makes the parts that batch_norm puts together, and batch_norm_sums
// those of batch_norm_backward: two launches each way, x read twice from memory. Parameters and
// statistics (c) are in Acc, in which everything is calculated. affine: bit 0 if there is a weight,
// bit 1 if there is a bias; their arrays are not read otherwise.
#include "channels.cuh"

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
    Acc slope = affine & 1 ? invstd * weight[s.channel] : invstd;
    Acc shift = affine & 2 ? bias[s.channel] : 0;
    for (Walk w(a, s); w.more(); w.next())
        y[w.at] = narrow((widen(x[w.at]) - mean) * slope + shift);
    if (s.lane || blockIdx.y) return;
    mean_out[s.channel] = mean;
    invstd_out[s.channel] = invstd;
}

// The sums over each part of g and of g * (x - mean): (parts, c). `share` neighbouring channels
// have one mean: 1 in batch norm, those of a group in group norm.
extern "C" __global__ void batch_norm_sums(
        const T* __restrict__ g, const T* __restrict__ x, const Acc* __restrict__ mean,
        Acc* __restrict__ sums, Acc* __restrict__ products, Channels a, int share) {
    Stand s = stand(a);
    Acc centre = s.inside ? mean[s.channel / share] : 0;
    Two<Acc, Acc> v = {0, 0};
    for (Walk w(a, s); w.more(); w.next()) {
        Acc slope = widen(g[w.at]);
        v.a += slope;
        v.b += slope * (widen(x[w.at]) - centre);
    }
    v = channel_total(v, a);
    if (s.lane || !s.inside) return;
    Index i = (Index) blockIdx.y * (Index) a.c + s.channel;
    sums[i] = v.a;
    products[i] = v.b;
}

// gx = scale * (g - gb / m - (x - mean) * invstd * gw / m), with m = n * size; or, if the statistics
// are constants (training 0), scale * g.
extern "C" __global__ void batch_norm_backward(
        const T* __restrict__ g, const T* __restrict__ x, const Acc* __restrict__ weight,
        const Acc* __restrict__ mean, const Acc* __restrict__ invstd, const Acc* __restrict__ sums,
        const Acc* __restrict__ products, T* __restrict__ gx, Acc* __restrict__ gw,
        Acc* __restrict__ gb, Channels a, int training, int affine) {
    Stand s = stand(a);
    Acc sum = sum_of_parts(sums, a, s), product = sum_of_parts(products, a, s);
    if (!s.inside) return;
    Acc centre = mean[s.channel], r = invstd[s.channel], m = (Acc) (a.n * a.size);
    Acc scale = affine & 1 ? r * weight[s.channel] : r;
    Acc shift = training ? sum / m : 0, tilt = training ? r * r * product / m : 0;
    for (Walk w(a, s); w.more(); w.next()) {
        Acc v = widen(g[w.at]) - shift;
        if (training) v -= (widen(x[w.at]) - centre) * tilt;
        gx[w.at] = narrow(scale * v);
    }
    if (s.lane || blockIdx.y) return;
    gw[s.channel] = product * r;
    gb[s.channel] = sum;
}

// Running statistics (c) moved by `share` towards a batch's mean and variance; unbias is m / (m - 1).
extern "C" __global__ void moved_statistics(const T* __restrict__ running_mean,
                                            const T* __restrict__ running_var,
                                            const Acc* __restrict__ mean,
                                            const Acc* __restrict__ invstd,
                                            T* __restrict__ new_mean, T* __restrict__ new_var,
                                            long long n, Acc share, Acc unbias, Acc eps) {
    EACH(i, n) {
        Acc variance = (1 / (invstd[i] * invstd[i]) - eps) * unbias;
        new_mean[i] = narrow(widen(running_mean[i]) * (1 - share) + mean[i] * share);
        new_var[i] = narrow(widen(running_var[i]) * (1 - share) + variance * share);
    }
}
