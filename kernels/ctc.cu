// Connectionist temporal classification: forward-backward over alignments, in logarithms.
//
// x (t, n, c) holds log-probabilities; targets (n, s); a sequence has its first `inputs` times and
// `labels` targets, hence states 0 .. 2 labels, with blanks at even ones. alpha and share are
// (n, t, 2 s + 1). ctc_loss and ctc_shares take a block for each sequence: a thread for a state, a
// barrier for each time. ctc_loss_backward takes a block for each time of a sequence. Sums in Acc, in
// a fixed order; -inf outside a sequence, NaN for one with a label or a length out of range.
#include "reduce.cuh"

typedef const long long* __restrict__ Integers;

// A sequence. Its threads all see the same.
struct Sequence {
    const long long* targets;
    Index number, times, labels, states;     // states: of the longest that would fit
    bool right;
};

__device__ __forceinline__ Sequence sequence(Index number, Integers targets, Integers inputs,
                                             Integers lengths, Index t, Index c, Index s) {
    Sequence q = {targets + number * s, number, (Index) inputs[number], (Index) lengths[number],
                  2 * s + 1, false};
    int wrong = inputs[number] < 0 || inputs[number] > t || lengths[number] < 0 ||
                lengths[number] > s;
    if (!wrong)
        for (Index k = threadIdx.x; k < q.labels; k += blockDim.x)
            if (q.targets[k] < 0 || q.targets[k] >= c) wrong = 1;
    q.right = block_reduce(wrong, 0, [](int a, int b) { return a | b; }) == 0;
    return q;
}

__device__ __forceinline__ Index label(const Sequence& q, Index state, Index blank) {
    return state & 1 ? (Index) q.targets[state >> 1] : blank;
}

// Whether paths come to a state from the one before the last.
__device__ __forceinline__ bool skips(const Sequence& q, Index state) {
    return (state & 1) && state > 1 && q.targets[state >> 1] != q.targets[(state >> 1) - 1];
}

__device__ __forceinline__ Acc log_of_sum(Acc a, Acc b, Acc c) {
    Acc most = a > b ? a : b;
    if (c > most) most = c;
    if (most == -INFINITE) most = 0;
    return log(exp(a - most) + exp(b - most) + exp(c - most)) + most;
}

__device__ __forceinline__ Acc total_of(const Sequence& q, const Acc* alpha, Index t) {
    if (!q.right) return NOT_A_NUMBER;
    if (q.times == 0) return q.labels == 0 ? 0 : -INFINITE;
    const Acc* last = alpha + (q.number * t + q.times - 1) * q.states;
    return log_of_sum(last[2 * q.labels], q.labels ? last[2 * q.labels - 1] : -INFINITE, -INFINITE);
}

extern "C" __global__ void __launch_bounds__(512, ROW_BLOCKS) ctc_loss(
        In x, Integers targets, Integers inputs, Integers lengths, Acc* alpha, Out loss, long long t,
        long long n, long long c, long long s, long long blank) {
    for (Index number = blockIdx.x; number < (Index) n; number += gridDim.x) {
        Sequence q = sequence(number, targets, inputs, lengths, (Index) t, (Index) c, (Index) s);
        for (Index i = 0; i < (Index) t; ++i) {
            Acc* now = alpha + (number * (Index) t + i) * q.states;
            const Acc* before = now - q.states;
            for (Index j = threadIdx.x; j < q.states; j += blockDim.x) {
                Acc v = -INFINITE;
                if (q.right && i < q.times && j <= 2 * q.labels && (i || j < 2)) {
                    if (i)
                        v = log_of_sum(before[j], j ? before[j - 1] : -INFINITE,
                                       skips(q, j) ? before[j - 2] : -INFINITE);
                    else
                        v = 0;
                    v += widen(x[(i * (Index) n + number) * (Index) c + label(q, j, (Index) blank)]);
                }
                now[j] = v;
            }
            __syncthreads();
        }
        if (threadIdx.x == 0) loss[number] = narrow(-total_of(q, alpha, (Index) t));
    }
}

// share: of all paths' probability what goes through a state at a time. onward (n, 2, states): how
// probable it is to come to the end from each state, by turns for one time and the next. heads and
// nexts (n, s): whether a label is the first of its kind, and where the next one is, or -1.
extern "C" __global__ void __launch_bounds__(512, ROW_BLOCKS) ctc_shares(
        In x, Integers targets, Integers inputs, Integers lengths, const Acc* __restrict__ alpha,
        Acc* onward, Acc* __restrict__ share, Acc* __restrict__ totals, int* __restrict__ heads,
        int* __restrict__ nexts, long long t, long long n, long long c, long long s,
        long long blank) {
    for (Index number = blockIdx.x; number < (Index) n; number += gridDim.x) {
        Sequence q = sequence(number, targets, inputs, lengths, (Index) t, (Index) c, (Index) s);
        Acc total = total_of(q, alpha, (Index) t);
        if (threadIdx.x == 0) totals[number] = total;
        if (!q.right) continue;
        for (Index k = threadIdx.x; k < q.labels; k += blockDim.x) {
            Index next = k + 1, before = 0;
            while (next < q.labels && q.targets[next] != q.targets[k]) ++next;
            while (q.targets[before] != q.targets[k]) ++before;
            heads[number * (Index) s + k] = before == k;
            nexts[number * (Index) s + k] = next < q.labels ? (int) next : -1;
        }
        const Index last = 2 * q.labels;
        for (Index i = q.times - 1; i >= 0; --i) {
            Acc* now = onward + (number * 2 + (i & 1)) * q.states;
            const Acc* after = onward + (number * 2 + (1 - (i & 1))) * q.states;
            Index row = (number * (Index) t + i) * q.states;
            for (Index j = threadIdx.x; j <= last; j += blockDim.x) {
                Acc beta = j >= last - 1 ? 0 : -INFINITE;
                if (i < q.times - 1)
                    beta = log_of_sum(after[j], j < last ? after[j + 1] : -INFINITE,
                                      j + 2 <= last && skips(q, j + 2) ? after[j + 2] : -INFINITE);
                share[row + j] = exp(alpha[row + j] + beta - total);
                now[j] = beta +
                         widen(x[(i * (Index) n + number) * (Index) c + label(q, j, (Index) blank)]);
            }
            __syncthreads();
        }
    }
}

extern "C" __global__ void __launch_bounds__(512, ROW_BLOCKS) ctc_loss_backward(
        In g, In x, Integers targets, Integers inputs, Integers lengths,
        const Acc* __restrict__ share, const Acc* __restrict__ totals, const int* __restrict__ heads,
        const int* __restrict__ nexts, T* gx, long long t, long long n, long long c, long long s,
        long long blank, int zero_infinity) {
    for (Index row = blockIdx.x; row < (Index) (t * n); row += gridDim.x) {
        Index i = row / (Index) n, number = row - i * (Index) n;
        Acc total = totals[number], slope = widen(g[number]);
        In in = x + row * (Index) c;
        T* out = gx + row * (Index) c;
        bool lost = total == -INFINITE, outside = i >= inputs[number];
        if (outside || lost || total != total) {
            Acc all = outside || (lost && zero_infinity) ? 0 : NOT_A_NUMBER;
            for (Index k = threadIdx.x; k < (Index) c; k += blockDim.x) out[k] = narrow(all);
            continue;
        }
        const long long* labels = targets + number * (Index) s;
        const Index count = (Index) lengths[number];
        const Acc* mine = share + (number * (Index) t + i) * (2 * (Index) s + 1);
        Acc blanks = 0;
        for (Index j = threadIdx.x; j <= 2 * count; j += blockDim.x)
            if (!(j & 1) || labels[j >> 1] == blank) blanks += mine[j];
        blanks = block_sum(blanks);
        for (Index k = threadIdx.x; k < (Index) c; k += blockDim.x)
            out[k] = narrow(slope * (exp(widen(in[k])) - (k == (Index) blank ? blanks : 0)));
        __syncthreads();
        for (Index k = threadIdx.x; k < count; k += blockDim.x) {
            if (!heads[number * (Index) s + k] || labels[k] == blank) continue;
            Acc sum = 0;
            for (int at = (int) k; at >= 0; at = nexts[number * (Index) s + at])
                sum += mine[2 * at + 1];
            Index own = (Index) labels[k];
            out[own] = narrow(slope * (exp(widen(in[own])) - sum));
        }
        __syncthreads();                        // before the next row's block_sum
    }
}
