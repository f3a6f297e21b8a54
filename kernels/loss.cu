// Losses of class indices: negative log-likelihood and cross entropy, forward and backward; and the
// mean squared error.
//
// Scores are (outer, length, inner) in C order, the classes of a line are the `length` elements that
// are `inner` apart; target, losses and weights are (outer, inner), one for each line. Every loss is
// written beside the weight it has in a mean, and both are then summed in chunks, in one fixed
// order. weight (length) has a part only if `weighted`; a line whose class is `ignore` has none, and
// a class out of range makes loss and gradient of its line NaN. All in Acc.
#include "map.cuh"
#include "softmax.cuh"

typedef const long long* __restrict__ Classes;
typedef const Acc* __restrict__ InAcc;
typedef Acc* __restrict__ OutAcc;

__device__ __forceinline__ Acc weight_of(In weight, int weighted, Index c) {
    return weighted ? widen(weight[c]) : 1;
}

__device__ __forceinline__ bool is_class(long long c, Index length) {
    return c >= 0 && c < (long long) length;
}

// A thread per line. x holds log-probabilities. n = outer * inner
extern "C" __global__ void nll_loss(In x, Classes target, In weight, OutAcc losses, OutAcc weights,
                                    long long n, long long length, long long inner,
                                    long long ignore, int weighted) {
    EACH(i, n) {
        Index outer = i / (Index) inner;
        long long c = target[i];
        Acc w = c == ignore ? 0 : NOT_A_NUMBER, loss = w;
        if (c != ignore && is_class(c, length)) {
            w = weight_of(weight, weighted, c);
            Index at = (outer * (Index) length + (Index) c) * (Index) inner + i - outer * (Index) inner;
            loss = -w * widen(x[at]);
        }
        losses[i] = loss;
        weights[i] = w;
    }
}

// A thread per element of gx. g is for each line if `each`, else one for all; over the sum of the
// weights if `mean`. n = outer * length * inner
extern "C" __global__ void nll_loss_backward(In g, Classes target, In weight, InAcc total, Out gx,
                                             long long n, long long length, long long inner,
                                             long long ignore, int weighted, int each, int mean) {
    EACH(i, n) {
        Index row = i / (Index) inner, outer = row / (Index) length;
        Index line = outer * (Index) inner + i - row * (Index) inner, own = row - outer * (Index) length;
        long long c = target[line];
        Acc v = 0;
        if (c != ignore && !is_class(c, length)) v = NOT_A_NUMBER;
        else if (c != ignore && c == own) {
            v = -weight_of(weight, weighted, own) * widen(g[each ? line : 0]);
            if (mean) v /= *total;
        }
        gx[i] = narrow(v);
    }
}

// Labels are 1 - smoothing at the target, and smoothing shared by all classes. A line's shift is its
// maximum, rounded, and log_sum the logarithm of its sum of exp(v - shift).
template <class L>
__device__ __forceinline__ void entropy(In x, Classes target, In weight, OutAcc losses,
                                        OutAcc weights, OutAcc log_sums, OutAcc shifts,
                                        long long ignore, int weighted, Acc smoothing,
                                        const L& line) {
    Acc kept[KEPT];
    Softened s = soften<true>(x, line, kept);
    Acc shift = rint(s.most), log_sum = log(s.sum) + (s.most - shift), even = 0;
    if (smoothing != 0) {
        read_line(x, line, [&](Index i, Acc v) {
            even += weight_of(weight, weighted, i) * (log_sum - (v - shift));
        });
        even = line.reduce(even, (Acc) 0, Sum()) * smoothing / line.length;
    }
    if (!line.leader()) return;
    long long c = target[line.number];
    Acc w = c == ignore ? 0 : NOT_A_NUMBER, loss = w;
    if (c != ignore && is_class(c, line.length)) {
        w = weight_of(weight, weighted, c);
        loss = (1 - smoothing) * w * (log_sum - (widen(x[line.at((Index) c)]) - shift)) + even;
    }
    losses[line.number] = loss;
    weights[line.number] = w;
    log_sums[line.number] = log_sum;
    shifts[line.number] = shift;
}

// lines.cuh says which threads share a line.
extern "C" __global__ void __launch_bounds__(512, ROW_BLOCKS) cross_entropy(
        In x, Classes target, In weight, OutAcc losses, OutAcc weights, OutAcc log_sums,
        OutAcc shifts, long long outer, long long length, long long inner, long long ignore,
        int weighted, Acc smoothing) {
    EACH_LINE(line, outer, length, inner,
              entropy(x, target, weight, losses, weights, log_sums, shifts, ignore, weighted,
                      smoothing, line));
}

template <class L>
__device__ __forceinline__ void entropy_slope(In g, In x, Classes target, In weight,
                                              InAcc log_sums, InAcc total, InAcc shifts, Out gx,
                                              long long ignore, int weighted, int each, int mean,
                                              Acc smoothing, const L& line) {
    Acc share = smoothing / line.length, all = smoothing;     // all: share * the sum of all weights
    if (smoothing != 0 && weighted) {
        Acc sum = 0;
        for (Index i = line.begin(); i < line.end(); i += line.step()) sum += widen(weight[i]);
        all = line.reduce(sum, (Acc) 0, Sum()) * share;
    }
    if (line.begin() >= line.end()) return;
    long long c = target[line.number];
    Acc shift = shifts[line.number], log_sum = log_sums[line.number];
    Acc slope = widen(g[each ? line.number : 0]) / (mean ? *total : 1), own = 0;
    Index mine = -1;
    if (c == ignore) {
        for (Index i = line.begin(); i < line.end(); i += line.step()) gx[line.at(i)] = narrow(0);
        return;
    }
    if (is_class(c, line.length)) {
        own = (1 - smoothing) * weight_of(weight, weighted, c);
        mine = (Index) c;
    } else {
        slope = NOT_A_NUMBER;
    }
    read_line(x, line, [&](Index i, Acc v) {
        v = (own + all) * exp(v - shift - log_sum);
        if (i == mine) v -= own;
        if (share != 0) v -= share * weight_of(weight, weighted, i);
        gx[line.at(i)] = narrow(slope * v);
    });
}

extern "C" __global__ void __launch_bounds__(512, ROW_BLOCKS) cross_entropy_backward(
        In g, In x, Classes target, In weight, InAcc log_sums, InAcc total, InAcc shifts, Out gx,
        long long outer, long long length, long long inner, long long ignore, int weighted, int each,
        int mean, Acc smoothing) {
    EACH_LINE(line, outer, length, inner,
              entropy_slope(g, x, target, weight, log_sums, total, shifts, gx, ignore, weighted,
                            each, mean, smoothing, line));
}

// (x - y) squared.
extern "C" __global__ void squared_error(In x, In y, Out out, long long n) {
    map(x, y, out, n, [](Acc v, Acc w) { return (v - w) * (v - w); });
}

// 2 (x - y) g slope; g is for each element if `each`, else one for all.
extern "C" __global__ void squared_error_backward(In g, In x, In y, Out gx, long long n, int each,
                                                  Acc slope) {
    Acc all = each ? 0 : widen(*g) * slope;
    bool vectors = aligned<Vector>(x) && aligned<Vector>(y) && aligned<Vector>(gx) &&
                   (!each || aligned<Vector>(g));
    EACH_PACK(i, n, PACK) {
        bool whole = vectors && i + PACK <= (Index) n;
        Vector a = load<PACK>(x, i, n, whole), b = load<PACK>(y, i, n, whole), c = a;
        if (each) c = load<PACK>(g, i, n, whole);
#pragma unroll
        for (int k = 0; k < PACK; ++k)
            a.at[k] = narrow((widen(a.at[k]) - widen(b.at[k]))
                             * (each ? widen(c.at[k]) * slope : all));
        store(gx, i, n, whole, a);
    }
}

// Sums of (x - y) squared, a row of `length` elements for each; the last row may be shorter.
extern "C" __global__ void __launch_bounds__(512, ROW_BLOCKS) squared_error_parts(
        In x, In y, OutAcc parts, long long rows, long long length, long long n) {
    EACH_ROW(row, rows) {
        Index first = row * (Index) length, end = min(first + (Index) length, (Index) n);
        Acc sum = 0;
        for (Index i = first + threadIdx.x; i < end; i += AHEAD * blockDim.x) {
            T v[AHEAD], w[AHEAD];
#pragma unroll
            for (int k = 0; k < AHEAD; ++k) {
                Index at = i + k * (int) blockDim.x;
                v[k] = x[at < end ? at : i];
                w[k] = y[at < end ? at : i];
            }
#pragma unroll
            for (int k = 0; k < AHEAD; ++k) {
                Acc d = widen(v[k]) - widen(w[k]);
                if (i + k * (int) blockDim.x < end) sum += d * d;
            }
        }
        sum = block_sum(sum);
        if (threadIdx.x == 0) parts[row] = sum;
    }
}

// One row: the sum of all parts, over `count`.
extern "C" __global__ void __launch_bounds__(512, ROW_BLOCKS) squared_error_total(
        InAcc parts, Out loss, long long, long long length, Acc count) {
    Acc sum = 0;
    EACH_OF_ROW(i, length) sum += parts[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0 && threadIdx.y == 0) *loss = narrow(sum / count);
}

// Sums of losses and of weights, a row of `length` for each; the last row may be shorter.
extern "C" __global__ void __launch_bounds__(512, ROW_BLOCKS) loss_parts(
        InAcc losses, InAcc weights, OutAcc loss_sums, OutAcc weight_sums, long long rows,
        long long length, long long n) {
    EACH_ROW(row, rows) {
        Index first = row * (Index) length, end = min(first + (Index) length, (Index) n);
        Two<Acc, Acc> sum = {0, 0};
        for (Index i = first + threadIdx.x; i < end; i += blockDim.x)
            sum = {sum.a + losses[i], sum.b + weights[i]};
        sum = block_sum(sum);
        if (threadIdx.x == 0) {
            loss_sums[row] = sum.a;
            weight_sums[row] = sum.b;
        }
    }
}

// One row: the sum of all losses, over that of the weights if `mean`; and that of the weights.
extern "C" __global__ void __launch_bounds__(512, ROW_BLOCKS) loss_total(
        InAcc losses, InAcc weights, Out loss, OutAcc total, long long, long long length,
        int mean) {
    Two<Acc, Acc> sum = {0, 0};
    EACH_OF_ROW(i, length) sum = {sum.a + losses[i], sum.b + weights[i]};
    sum = block_sum(sum);
    if (threadIdx.x == 0 && threadIdx.y == 0) {
        *loss = narrow(mean ? sum.a / sum.b : sum.a);
        *total = sum.b;
    }
}
