// Running sums along the rows or the columns of x, forwards or from the end.
//
// x is (outer, length, inner) in C order. cumsum_rows, for inner 1: a row's threads (reduce.cuh)
// take as many neighbours at a time, add up what comes before each, and carry the sum on. A long row
// is cut into chunks, each a row of its own: their totals first, then the running sums of the totals,
// with which each chunk starts. cumsum_columns: a thread per column, neighbours beside each other.
// Sums in Acc, in an order that depends on the length alone.
#include "reduce.cuh"

// The sum of v over the threads of the row up to this one; `whole` is that over all of them.
__device__ __forceinline__ Acc running(Acc v, Acc& whole) {
    __shared__ Acc ends[32];
    const unsigned all = 0xffffffffu;
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    for (int step = 1; step < 32; step *= 2) {
        Acc before = __shfl_up_sync(all, v, step);
        if (lane >= step) v += before;
    }
    whole = __shfl_sync(all, v, 31);
    if (blockDim.x == 32) return v;
    if (lane == 31) ends[warp] = v;
    __syncthreads();
    whole = 0;
    for (int w = 0; w < (int) blockDim.x >> 5; ++w) {
        if (w == warp) v += whole;
        whole += ends[w];
    }
    __syncthreads();                            // before anyone writes ends again
    return v;
}

// rows: lines of `length` elements times `chunks`. totals (rows) of the chunks are written if y is
// not asked for (mode 0); chunks start from the sum of those before them (mode 1) or from 0 (mode 2).
// Places are counted from the end if `backwards`.
extern "C" __global__ void __launch_bounds__(1024) cumsum_rows(
        const T* __restrict__ x, Acc* __restrict__ totals, T* __restrict__ y, long long rows,
        long long part, long long length, int chunks, int mode, int backwards) {
    EACH_ROW(row, rows) {
        Index line = row / chunks, chunk = row - line * chunks;
        Index begin = chunk * (Index) part, end = min(begin + (Index) part, (Index) length);
        Index first = line * (Index) length + (backwards ? (Index) length - 1 : 0);
        Acc carry = mode == 1 && chunk ? totals[row - 1] : 0, whole;
        for (Index base = begin; base < end; base += blockDim.x) {
            Index i = base + threadIdx.x, at = backwards ? first - i : first + i;
            Acc v = running(i < end ? widen(x[at]) : 0, whole);
            if (mode && i < end) y[at] = narrow(carry + v);
            carry += whole;
        }
        if (!mode && threadIdx.x == 0) totals[row] = carry;
    }
}

// n = outer * inner
extern "C" __global__ void cumsum_columns(const T* __restrict__ x, T* __restrict__ y, long long n,
                                          long long length, long long inner, int backwards) {
    EACH(i, n) {
        Index step = (Index) inner, outer = i / step;
        Index at = outer * (Index) length * step + i - outer * step;
        if (backwards) {
            at += ((Index) length - 1) * step;
            step = -step;
        }
        Acc sum = 0;
        for (Index k = 0; k < (Index) length; ++k, at += step) {
            sum += widen(x[at]);
            y[at] = narrow(sum);
        }
    }
}
