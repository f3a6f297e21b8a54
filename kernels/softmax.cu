// softmax, log_softmax and their backwards, along one dim.
//
// lines.cuh says how arrays lie and which threads share a line. Lines that fit into registers are
// read once, longer ones twice (softmax.cuh). All in Acc. A line of -inf gives NaN.
#include "softmax.cuh"

template <bool LOG, class L>
__device__ __forceinline__ void forward(In x, Out y, const L& line) {
    Acc kept[KEPT];
    Softened s = soften<LOG>(x, line, kept);
    Acc log_sum = LOG ? log(s.sum) : 0;
    if (is_kept(line)) {
#pragma unroll
        for (int k = 0; k < KEPT; ++k) {
            Index i = line.begin() + k * line.step();
            if (i < line.end()) y[line.at(i)] = narrow(LOG ? kept[k] - log_sum : kept[k] / s.sum);
        }
    } else {
        for (Index i = line.begin(); i < line.end(); i += line.step()) {
            Acc v = widen(x[line.at(i)]) - s.most;
            y[line.at(i)] = narrow(LOG ? v - log_sum : exp(v) / s.sum);
        }
    }
}

extern "C" __global__ void __launch_bounds__(512, ROW_BLOCKS) softmax(In x, Out y, long long outer,
                                                           long long length, long long inner) {
    EACH_LINE(line, outer, length, inner, forward<false>(x, y, line));
}

extern "C" __global__ void __launch_bounds__(512, ROW_BLOCKS) log_softmax(In x, Out y, long long outer,
                                                               long long length, long long inner) {
    EACH_LINE(line, outer, length, inner, forward<true>(x, y, line));
}

// softmax: y (g - sum(g y)); log_softmax: g - exp(y) sum(g).
template <bool LOG> __device__ __forceinline__ Acc share(Acc g, Acc y) { return LOG ? g : g * y; }
template <bool LOG> __device__ __forceinline__ Acc slope(Acc g, Acc y, Acc sum) {
    return LOG ? g - exp(y) * sum : y * (g - sum);
}

template <bool LOG, class L>
__device__ __forceinline__ void backward(In g, In y, Out gx, const L& line) {
    Acc sum = 0;
    if (is_kept(line)) {
        Acc gs[KEPT], ys[KEPT];
#pragma unroll
        for (int k = 0; k < KEPT; ++k) {
            Index i = line.begin() + k * line.step();
            bool there = i < line.end();
            gs[k] = there ? widen(g[line.at(i)]) : 0;
            ys[k] = there ? widen(y[line.at(i)]) : 0;
            sum += share<LOG>(gs[k], ys[k]);
        }
        sum = line.reduce(sum, (Acc) 0, Sum());
#pragma unroll
        for (int k = 0; k < KEPT; ++k) {
            Index i = line.begin() + k * line.step();
            if (i < line.end()) gx[line.at(i)] = narrow(slope<LOG>(gs[k], ys[k], sum));
        }
    } else {
        for (Index i = line.begin(); i < line.end(); i += line.step())
            sum += share<LOG>(widen(g[line.at(i)]), LOG ? 0 : widen(y[line.at(i)]));
        sum = line.reduce(sum, (Acc) 0, Sum());
        for (Index i = line.begin(); i < line.end(); i += line.step())
            gx[line.at(i)] = narrow(slope<LOG>(widen(g[line.at(i)]), widen(y[line.at(i)]), sum));
    }
}

extern "C" __global__ void __launch_bounds__(512, ROW_BLOCKS) softmax_backward(In g, In y, Out gx,
                                                                    long long outer,
                                                                    long long length,
                                                                    long long inner) {
    EACH_LINE(line, outer, length, inner, backward<false>(g, y, gx, line));
}

extern "C" __global__ void __launch_bounds__(512, ROW_BLOCKS) log_softmax_backward(In g, In y, Out gx,
                                                                        long long outer,
                                                                        long long length,
                                                                        long long inner) {
    EACH_LINE(line, outer, length, inner, backward<true>(g, y, gx, line));
}
