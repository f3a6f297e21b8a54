// Reductions of all but the channel, for kernels that gpugrad/ops/channels.py launches.
//
// x is (n, c, size) in C order; each channel c has n * size positions. A block of 256 threads takes
// a tile of channels and one part of their positions: blockIdx.x is the tile, blockIdx.y the part.
// A tile is one channel, whose threads take neighbouring positions; or, where size is small, 32
// channels beside each other, with 8 threads for each. The parts of a channel are put together by
// whoever reads them, in one fixed order. Arrays of parts are (parts, c).
#ifndef GPUGRAD_CHANNELS_CUH
#define GPUGRAD_CHANNELS_CUH

#include "reduce.cuh"

#define CHANNEL_THREADS 256

// part: how many positions a part has (the last one may have fewer); tile: 1 or 32 channels.
struct Channels {
    long long n, c, size, part;
    int tile, parts;
};

// Where a thread stands: its channel, which may lie beyond the last, and its number among the
// channel's threads.
struct Stand {
    Index channel;
    int lane, lanes;
    bool inside;
};

__device__ __forceinline__ Stand stand(const Channels& a) {
    int lanes = CHANNEL_THREADS / a.tile, lane = (int) threadIdx.x / a.tile;
    Index channel = (Index) blockIdx.x * a.tile + (int) threadIdx.x % a.tile;
    return {channel, lane, lanes, channel < (Index) a.c};
}

// A thread's positions in its block's part, one after the other, and where they are in memory:
// position p is element p % size of image p / size.
struct Walk {
    Index at, position, end;
    Index inner, size, lanes, step, over, jump;

    __device__ __forceinline__ Walk(const Channels& a, const Stand& s) {
        Index c = (Index) a.c, begin = (Index) blockIdx.y * (Index) a.part;
        size = (Index) a.size;
        lanes = s.lanes;
        position = begin + s.lane;
        end = s.inside ? min(begin + (Index) a.part, (Index) (a.n * a.size)) : 0;
        Index image = position / size;
        inner = position - image * size;
        at = (image * c + s.channel) * size + inner;
        over = lanes % size;
        step = lanes / size * c * size + over;
        jump = (c - 1) * size;
    }

    __device__ __forceinline__ bool more() const { return position < end; }

    __device__ __forceinline__ void next() {
        position += lanes;
        inner += over;
        at += step;
        if (inner >= size) {
            inner -= size;
            at += jump;
        }
    }
};

// use(its place, an element of x) for this thread's elements of a part, in their order.
template <class E, class F>
__device__ __forceinline__ void each_position(const E* x, const Channels& a, const Stand& s,
                                              F use) {
    Walk w(a, s);
    while (w.position + (AHEAD - 1) * w.lanes < w.end) {
        Index at[AHEAD];
        E v[AHEAD];
#pragma unroll
        for (int k = 0; k < AHEAD; ++k, w.next()) v[k] = x[at[k] = w.at];
#pragma unroll
        for (int k = 0; k < AHEAD; ++k) use(at[k], v[k]);
    }
    for (; w.more(); w.next()) use(w.at, x[w.at]);
}

// Over the threads of a channel; all of them get it.
template <class V> __device__ __forceinline__ V channel_total(V v, const Channels& a) {
    if (a.tile == 1) return block_sum(v);
    __shared__ V values[CHANNEL_THREADS];
    values[threadIdx.x] = v;
    __syncthreads();
    int first = (int) threadIdx.x % a.tile;
    v = values[first];
    for (int i = first + a.tile; i < CHANNEL_THREADS; i += a.tile) v = Sum()(v, values[i]);
    __syncthreads();                            // before anyone writes values again
    return v;
}

// How many positions part p has.
__device__ __forceinline__ Acc held(const Channels& a, int p) {
    return (Acc) min(a.part, a.n * a.size - p * a.part);
}

// The sum of a channel's parts.
__device__ __forceinline__ Acc sum_of_parts(const Acc* parts, const Channels& a, const Stand& s) {
    Acc v = 0;
    if (s.inside)
        for (int p = s.lane; p < a.parts; p += s.lanes) v += parts[p * (Index) a.c + s.channel];
    return channel_total(v, a);
}

// A channel's mean and the sum of its squared distances from it, from those of its parts.
__device__ __forceinline__ Two<Acc, Acc> moments_of_parts(const Acc* means, const Acc* squares,
                                                          const Channels& a, const Stand& s) {
    Acc n = (Acc) (a.n * a.size), v = 0;
    if (s.inside)
        for (int p = s.lane; p < a.parts; p += s.lanes)
            v += held(a, p) * means[p * (Index) a.c + s.channel];
    Acc mean = channel_total(v, a) / n;
    v = 0;
    if (s.inside)
        for (int p = s.lane; p < a.parts; p += s.lanes) {
            Index i = p * (Index) a.c + s.channel;
            Acc d = means[i] - mean;
            v += squares[i] + held(a, p) * d * d;
        }
    return {mean, channel_total(v, a)};
}

#endif
