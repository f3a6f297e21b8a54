// Samples of planes at given places, and the gradient for their weights.
//
// x is (n, c, size), at and w (n, taps, p), y and g (n, c, p), all C order. Place -1 is outside and
// counts for nothing. A thread per element of the result; neighbours are neighbouring samples. Sums
// in Acc, in the order of taps or channels.
#include "common.cuh"

// n = images * c * p
extern "C" __global__ void sample(const T* __restrict__ x, const long long* __restrict__ at,
                                  const T* __restrict__ w, T* __restrict__ y, long long n,
                                  long long c, long long size, long long p, int taps) {
    EACH(i, n) {
        Index plane = i / (Index) p, column = i - plane * (Index) p, image = plane / (Index) c;
        const T* in = x + plane * (Index) size;
        Index first = image * taps * (Index) p + column;
        Acc sum = 0;
        for (int k = 0; k < taps; ++k) {
            long long spot = at[first + k * (Index) p];
            if (spot >= 0) sum += widen(w[first + k * (Index) p]) * widen(in[spot]);
        }
        y[i] = narrow(sum);
    }
}

// n = images * taps * p
extern "C" __global__ void sample_grad_weight(const T* __restrict__ g, const T* __restrict__ x,
                                              const long long* __restrict__ at,
                                              T* __restrict__ out, long long n, long long c,
                                              long long size, long long p, int taps) {
    EACH(i, n) {
        Index line = i / (Index) p, column = i - line * (Index) p, image = line / taps;
        long long spot = at[i];
        Acc sum = 0;
        if (spot >= 0)
            for (Index k = 0; k < (Index) c; ++k) {
                Index plane = image * (Index) c + k;
                sum += widen(g[plane * (Index) p + column]) *
                       widen(x[plane * (Index) size + spot]);
            }
        out[i] = narrow(sum);
    }
}
