// Group norm: x (n, c, size) in groups of c / groups neighbouring channels of one sample.
//
// The n * groups groups are channels.cuh's channels of (1, n * groups, c / groups * size), the n * c
// images those of (1, n * c, size). reduction.cu's channel_moments makes the parts of the groups
// that group_norm puts together; batch_norm.cu's batch_norm_sums the sums over images, which
// group_norm_backward puts together by groups and group_norm_parameters by channels. Parameters (c)
// and statistics (n * groups) are in Acc, in which everything is calculated. affine: bit 0 if there
// is a weight, bit 1 if there is a bias; their arrays are not read otherwise.
#include "channels.cuh"

extern "C" __global__ void group_norm(
        const T* __restrict__ x, const Acc* __restrict__ weight, const Acc* __restrict__ bias,
        const Acc* __restrict__ means, const Acc* __restrict__ squares, T* __restrict__ y,
        Acc* __restrict__ mean_out, Acc* __restrict__ invstd_out, Channels a, Acc eps, int affine,
        int groups, int size) {
    Stand s = stand(a);
    Two<Acc, Acc> m = moments_of_parts(means, squares, a, s);
    if (!s.inside) return;
    Acc invstd = 1 / sqrt(m.b / (Acc) a.size + eps);
    Index first = s.channel % groups * ((Index) a.size / size);        // of the group's channels
    for (Walk w(a, s); w.more(); w.next()) {
        Index channel = first + w.position / size;
        Acc v = (widen(x[w.at]) - m.a) * invstd;
        if (affine & 1) v *= weight[channel];
        if (affine & 2) v += bias[channel];
        y[w.at] = narrow(v);
    }
    if (s.lane || blockIdx.y) return;
    mean_out[s.channel] = m.a;
    invstd_out[s.channel] = invstd;
}

// gx = invstd * (h - avg(h) - (x - mean) * invstd ** 2 * avg(h * (x - mean))), with h = g * weight
// and averages over the group. sums and products are (parts, n * c), of g and g * (x - mean).
extern "C" __global__ void group_norm_backward(
        const T* __restrict__ g, const T* __restrict__ x, const Acc* __restrict__ weight,
        const Acc* __restrict__ mean, const Acc* __restrict__ invstd, const Acc* __restrict__ sums,
        const Acc* __restrict__ products, T* __restrict__ gx, Channels a, int affine, int groups,
        int size, int parts) {
    Stand s = stand(a);
    Index share = (Index) a.size / size, first = s.channel % groups * share;
    Two<Acc, Acc> v = {0, 0};
    if (s.inside)
        for (Index i = s.lane; i < share * parts; i += s.lanes) {
            Index channel = i % share;
            Index at = (i / share * (Index) a.c + s.channel) * share + channel;
            Acc w = affine & 1 ? weight[first + channel] : 1;
            v.a += w * sums[at];
            v.b += w * products[at];
        }
    v = channel_total(v, a);
    if (!s.inside) return;
    Acc centre = mean[s.channel], r = invstd[s.channel];
    Acc shift = v.a / (Acc) a.size, tilt = r * r * v.b / (Acc) a.size;
    for (Walk w(a, s); w.more(); w.next()) {
        Acc h = widen(g[w.at]);
        if (affine & 1) h *= weight[first + w.position / size];
        gx[w.at] = narrow(r * (h - shift - (widen(x[w.at]) - centre) * tilt));
    }
}

// gw and gb (c): the sums over images and their parts; `a` is (n * parts, c, 1).
extern "C" __global__ void group_norm_parameters(
        const Acc* __restrict__ sums, const Acc* __restrict__ products,
        const Acc* __restrict__ invstd, Acc* __restrict__ gw, Acc* __restrict__ gb, Channels a,
        int groups, int n) {
    Stand s = stand(a);
    Index share = (Index) a.c / groups;
    Two<Acc, Acc> v = {0, 0};
    for (Walk w(a, s); w.more(); w.next()) {
        v.a += products[w.at] * invstd[w.position % n * groups + s.channel / share];
        v.b += sums[w.at];
    }
    v = channel_total(v, a);
    if (s.lane || !s.inside) return;
    gw[s.channel] = v.a;
    gb[s.channel] = v.b;
}
