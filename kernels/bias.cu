// A bias for each channel is added, and the result may go through relu.
//
// x and y are (n, channels, inner) in C order, and may be the same array: inner is 1 behind a matrix
// product. map.cuh says which thread takes what. Calculated in Acc, rounded once.
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
