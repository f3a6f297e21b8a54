// A bias for each channel is added, and the result may go through relu; and the way back.
//
// bias_act: x and y are (n, channels, inner) in C order, and may be the same array: inner is 1 behind a matrix
// product. map.cuh says which thread takes what. Calculated in Acc, rounded once.
#include "channels.cuh"
#include "gelu.cuh"
#include "map.cuh"

extern "C" __global__ void bias_act(const T* x, In bias, T* y, long long n, long long channels,
                                    long long inner, int relu) {
    bool vectors = aligned<Vector>(x) && aligned<Vector>(y);
    EACH_PACK(i, n, PACK) {
        bool whole = vectors && i + PACK <= (Index) n;
        Vector a = load<PACK>(x, i, n, whole);
        Index row = i / (Index) inner, channel = row % (Index) channels;
        Index left = (row + 1) * (Index) inner - i;             // of this channel, from i on
#pragma unroll
        for (int k = 0; k < PACK; ++k) {
            Acc v = widen(a.at[k]) + widen(bias[channel]);
            a.at[k] = narrow(relu && v < 0 ? 0 : v);
            if (--left == 0) {
                left = (Index) inner;
                if (++channel == (Index) channels) channel = 0;
            }
        }
        store(y, i, n, whole, a);
    }
}

// g (rows, columns) times the slope of relu (0), gelu (1) or its approximation (2) at v is gx; and,
// in the order of reduction.cu's channel_sum, the sums of gx's columns: sums, or parts (parts,
// columns) if there are several. relu's v may be its result. channels.cuh's mapping of (rows, columns,
// 1).
extern "C" __global__ void act_bias_backward(const T* __restrict__ g, const T* __restrict__ v,
                                             T* __restrict__ gx, Acc* __restrict__ parts,
                                             T* __restrict__ sums, Channels a, int activation) {
    Stand s = stand(a);
    Acc sum = 0;
    for (Walk w(a, s); w.more(); w.next()) {
        Acc slope = widen(g[w.at]), at = widen(v[w.at]);
        if (activation == 0) slope = at <= 0 ? 0 : slope;
        else slope *= activation == 1 ? gelu_slope(at) : gelu_tanh_slope(at);
        T rounded = narrow(slope);
        gx[w.at] = rounded;
        sum += widen(rounded);
    }
    sum = channel_total(sum, a);
    if (s.lane || !s.inside) return;
    if (a.parts == 1) sums[s.channel] = narrow(sum);
    else parts[(Index) blockIdx.y * (Index) a.c + s.channel] = sum;
}
