// Resizing along one dim, and its gradient: every element is a weighted sum of a few of x.
//
// x is (outer, size, inner), y (outer, count, inner), index and weight (count, taps), all C order.
// index -1 stands for a tap that isn't there. A thread per element of y; neighbours write
// neighbours. Sums in Acc, in the order of the taps.
#include "common.cuh"

// n = outer * count * inner
extern "C" __global__ void resample(const T* __restrict__ x, const int* __restrict__ index,
                                    const Acc* __restrict__ weight, T* __restrict__ y, long long n,
                                    long long size, long long count, long long inner, int taps) {
    EACH(i, n) {
        Index line = i / (Index) inner, column = i - line * (Index) inner;
        Index outer = line / (Index) count, place = line - outer * (Index) count;
        const T* in = x + outer * (Index) size * (Index) inner + column;
        Acc sum = 0;
        for (int k = 0; k < taps; ++k) {
            int at = index[place * taps + k];
            if (at >= 0) sum += weight[place * taps + k] * widen(in[at * (Index) inner]);
        }
        y[i] = narrow(sum);
    }
}
