// A line's maximum and the sum of its exponentials, which softmax and cross entropy begin with.
//
// Up to KEPT elements of a line for each of its threads stay in registers and are read once; longer
// lines are read once here too, maximum and sum found in one go (Milakov, Gimelshein, Online
// normalizer calculation for softmax, 2018), AHEAD elements at a time. All in Acc. A line of -inf
// gives a sum of 0.
#ifndef GPUGRAD_SOFTMAX_CUH
#define GPUGRAD_SOFTMAX_CUH

#include "lines.cuh"

constexpr int KEPT = 4;

template <class L> __device__ __forceinline__ bool is_kept(const L& line) {
    return line.length <= (Index) KEPT * line.step();
}

// The greatest value so far, and the sum of exp(v - most). most is never -inf, which would make NaN
// of a line that begins with it.
struct Softened {
    Acc most, sum;
};

__device__ __forceinline__ Softened partner(Softened v, int lanes) {
    return {partner(v.most, lanes), partner(v.sum, lanes)};
}

struct Soften {
    __device__ __forceinline__ Softened operator()(Softened v, Softened w) const {
        Acc most = Max()(v.most, w.most);
        return {most, v.sum * exp(v.most - most) + w.sum * exp(w.most - most)};
    }
};

// s with AHEAD more elements.
template <bool WHOLE, class L>
__device__ __forceinline__ void soften(Softened& s, In x, const L& line, Index i) {
    T v[AHEAD];
    Acc most = s.most;
    read<WHOLE>(v, x, line, i, narrow(-INFINITE));
#pragma unroll
    for (int k = 0; k < AHEAD; ++k) most = widen(v[k]) > most ? widen(v[k]) : most;
    if (most > s.most) s.sum *= exp(s.most - most);
    s.most = most;
#pragma unroll
    for (int k = 0; k < AHEAD; ++k) s.sum += exp(widen(v[k]) - most);
}

// kept: if the line fits, what this thread has of it, v - most if LOG, else exp(v - most).
template <bool LOG, class L>
__device__ __forceinline__ Softened soften(In x, const L& line, Acc (&kept)[KEPT]) {
    Softened s = {LOWEST, 0};
    if (is_kept(line)) {
#pragma unroll
        for (int k = 0; k < KEPT; ++k) {
            Index i = line.begin() + k * line.step();
            kept[k] = i < line.end() ? widen(x[line.at(i)]) : -INFINITE;
            s.most = Max()(s.most, kept[k]);
        }
        s.most = line.reduce(s.most, LOWEST, Max());
#pragma unroll
        for (int k = 0; k < KEPT; ++k) {
            kept[k] -= s.most;
            Acc e = exp(kept[k]);
            s.sum += e;
            if (!LOG) kept[k] = e;
        }
        s.sum = line.reduce(s.sum, (Acc) 0, Sum());
        return s;
    }
    const int step = AHEAD * line.step();
    Index i = line.begin();
    for (; i + step - line.step() < line.end(); i += step) soften<true>(s, x, line, i);
    if (i < line.end()) soften<false>(s, x, line, i);
    return line.reduce(s, Softened{LOWEST, 0}, Soften());
}

#endif
