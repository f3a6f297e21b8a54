// The gradients of attention on tensor cores: attention.cu's backward for float16 and bfloat16,
// and for float32 with products in TF32.
//
// attention_mma_queries: a block holds queries and the gradients of their results, keys and values
// pass by. attention_mma_keys: it holds keys and values, and the queries of all heads that share
// them pass by. Both make the weights again from lse, so a product is made twice in all, and no
// block adds to what another one writes. Weights and the gradients of scores are rounded to T, as
// the products' operands; all sums are in float32 and have a fixed order.
#include "attention_mma.cuh"

#ifdef TENSOR_CORES
template <int BYTES> struct Backward {          // BYTES: of a row
    static constexpr int BANDS = BYTES <= 128 ? 2 : 1, WARPS = BYTES <= 256 ? 4 : 2;
    static constexpr int HELD = 16 * BANDS * WARPS, PASSED = BYTES <= 256 ? 32 : 16;
};

// For a tile that passes: what belongs to its queries, from `query` on, or else to the tile held.
// Outside there is nothing to see.
__device__ __forceinline__ float of_query(const float* x, long long plane, int query, int length,
                                          float outside) {
    return query < length ? x[plane * length + query] : outside;
}

// s, scores, become weights, and d, the gradients of weights, those of scores. Elements e of column
// j have logs[j][e] and deltas[j][e] if KEYS, otherwise logs[i][e / 2]. huge: scores whose product
// with factor can't be told from its neighbours', so that it is made of their difference.
template <bool KEYS, bool HUGE_, int BANDS, int N, int M>
__device__ __forceinline__ void slopes(float (&s)[BANDS][N][4], float (&d)[BANDS][N][4],
                                       const float (&logs)[M][2], const float (&deltas)[M][2],
                                       float scale) {
#pragma unroll
    for (int i = 0; i < BANDS; ++i)
#pragma unroll
        for (int j = 0; j < N; ++j)
#pragma unroll
            for (int e = 0; e < 4; ++e) {
                int at = KEYS ? j : i, h = KEYS ? e % 2 : e / 2;
                float v = s[i][j][e], log = logs[at][h];
                v = HUGE_ ? (__fmul_rn(v, scale) - log) * LOG2_E
                          : fmaf(v, scale * LOG2_E, -log * LOG2_E);
                s[i][j][e] = power_of_2(v);
                d[i][j][e] = s[i][j][e] * (d[i][j][e] - deltas[at][h]);
            }
}

template <int D, bool KEYS>
__device__ __forceinline__ void backward(In g, In q, In k, In v, const float* __restrict__ lse,
                                         const float* __restrict__ delta,
                                         const bool* __restrict__ seen, In added, Out for_x,
                                         Out for_y, const Attention& a, const Dropout& drop,
                                         float scale) {
    typedef Backward<D * (int) sizeof(T)> B;
    constexpr int BANDS = B::BANDS, PASSED = B::PASSED, N = PASSED / 8, THREADS = 32 * B::WARPS;
    // x: queries if KEYS is false, else keys; y: gradients of results, else values. Of the tile
    // that passes it is the other way round.
    __shared__ __align__(128) T held_x[B::HELD * D], held_y[B::HELD * D], x[PASSED * D],
        y[PASSED * D];
    int rows = KEYS ? a.keys : a.length, others = KEYS ? a.length : a.keys;
    int tiles = (rows + B::HELD - 1) / B::HELD, planes = gridDim.x / tiles;
    int heads = KEYS ? a.heads / a.group : a.heads, tile = blockIdx.x / planes;
    int first = (KEYS ? tile : tiles - 1 - tile) * B::HELD;     // the longest sums go first
    int image = blockIdx.x % planes / heads, head = blockIdx.x % planes % heads;
    int mine = (int) threadIdx.x / 32 * 16 * BANDS, row = first + mine;
    long long lines = (long long) image * a.heads;              // of lse and delta

    float sums_x[BANDS][D / 8][4], sums_y[KEYS ? BANDS : 1][KEYS ? D / 8 : 1][4];
    clear(sums_x);
    clear(sums_y);
    const Strides &of_x = KEYS ? a.k : a.q, &of_y = KEYS ? a.v : a.out;
    fetch<B::HELD, D, THREADS>(held_x, plane(KEYS ? k : q, of_x, image, head), of_x.row, first,
                               rows, a.features);
    fetch<B::HELD, D, THREADS>(held_y, plane(KEYS ? v : g, of_y, image, head), of_y.row, first,
                               rows, a.values);
    float of_rows[2][BANDS][2];
    if (!KEYS) {
#pragma unroll
        for (int i = 0; i < BANDS; ++i)
#pragma unroll
            for (int h = 0; h < 2; ++h) {
                int r = row + 16 * i + 8 * h + lane() / 4;
                of_rows[0][i][h] = of_query(lse, lines + head, r, a.length, INFINITE);
                of_rows[1][i][h] = of_query(delta, lines + head, r, a.length, 0);
            }
    }
    // Tiles pass from `begin` to `end`, for keys once for each head of queries.
    int begin = KEYS && a.causal ? first / PASSED * PASSED : 0;
    int end = !KEYS && a.causal ? min(others, first + B::HELD) : others;
    int steps = end > begin ? (end - begin + PASSED - 1) / PASSED : 0;
    int head_of = KEYS ? head * a.group : head / a.group;       // of what passes
    const Strides &at_x = KEYS ? a.q : a.k, &at_y = KEYS ? a.out : a.v;
    const T *from_x = KEYS ? q : k, *from_y = KEYS ? g : v;
    int all = KEYS ? steps * a.group : steps;
    if (all) {
        fetch<PASSED, D, THREADS>(x, plane(from_x, at_x, image, head_of), at_x.row, begin, others,
                                  a.features);
        fetch<PASSED, D, THREADS>(y, plane(from_y, at_y, image, head_of), at_y.row, begin, others,
                                  a.values);
    }
    commit_copies();
    int c = begin;
    for (int step = 0; step < all; ++step) {
        int next = c + PASSED, next_head = head_of;
        if (KEYS && next >= end) {
            next = begin;
            ++next_head;
        }
        bool more = step + 1 < all;
        bool idle = a.causal && (KEYS ? c + PASSED <= row : c >= row + 16 * BANDS);
        wait_copies<0>();
        __syncthreads();
        float s[BANDS][N][4], d[BANDS][N][4];
        if (!idle) {
            scores<BANDS, N, D>(s, held_x, mine, x);
            scores<BANDS, N, D>(d, held_y, mine, y);
        }
        if (!KEYS) {
            __syncthreads();
            if (more)
                fetch<PASSED, D, THREADS>(y, plane(from_y, at_y, image, next_head), at_y.row, next,
                                          others, a.values);
            commit_copies();
        }
        if (!idle) {
            int query_head = KEYS ? head_of : head;
            long long at = image * a.image + query_head * a.head;
            bool edge = KEYS ? a.causal && c < row + 16 * BANDS - 1
                             : c + PASSED > a.keys || (a.causal && c + PASSED > row + 1);
            if (a.masked || edge)
                hide<KEYS>(s, a, seen + (a.masked == 1 ? at : 0), added + (a.masked == 2 ? at : 0),
                           row, c, scale);
            unsigned bits[BANDS];
#pragma unroll
            for (int i = 0; drop.state && i < BANDS; ++i) {
                long long head_at = (long long) (image * a.heads + query_head) * a.length;
                bits[i] = kept<KEYS, N>(a, drop, head_at * a.keys, row + 16 * i, c);
#pragma unroll
                for (int j = 0; j < N; ++j)
#pragma unroll
                    for (int e = 0; e < 4; ++e)
                        d[i][j][e] = bits[i] >> (4 * j + e) & 1 ? d[i][j][e] * drop.scale : 0;
            }
            float factor = a.masked ? 1 : scale;
            if (KEYS) {
                float of_columns[2][N][2];
                bool huge = false;
#pragma unroll
                for (int j = 0; j < N; ++j)
#pragma unroll
                    for (int h = 0; h < 2; ++h) {
                        int query = c + 8 * j + lane() % 4 * 2 + h;
                        float log = of_query(lse, lines + head_of, query, a.length, INFINITE);
                        huge = huge || (fabsf(log) > 4096 && log != INFINITE);
                        of_columns[0][j][h] = log;
                        of_columns[1][j][h] = of_query(delta, lines + head_of, query, a.length, 0);
                    }
                if (__any_sync(0xffffffffu, huge))
                    slopes<true, true>(s, d, of_columns[0], of_columns[1], factor);
                else slopes<true, false>(s, d, of_columns[0], of_columns[1], factor);
            } else {
                bool huge = false;
#pragma unroll
                for (int i = 0; i < BANDS; ++i)
#pragma unroll
                    for (int h = 0; h < 2; ++h) {
                        float log = of_rows[0][i][h];
                        huge = huge || (fabsf(log) > 4096 && log != INFINITE);
                    }
                if (__any_sync(0xffffffffu, huge))
                    slopes<false, true>(s, d, of_rows[0], of_rows[1], factor);
                else slopes<false, false>(s, d, of_rows[0], of_rows[1], factor);
            }
            if constexpr (KEYS) {
#pragma unroll
                for (int i = 0; i < BANDS; ++i)
#pragma unroll
                    for (int j = 0; j < N; ++j)
#pragma unroll
                        for (int e = 0; e < 4; ++e)
                            if (drop.state && !(bits[i] >> (4 * j + e) & 1)) s[i][j][e] = 0;
                gather<BANDS, N, D>(sums_y, s, y);
            }
        }
        if (KEYS) {
            __syncthreads();
            if (more)
                fetch<PASSED, D, THREADS>(y, plane(from_y, at_y, image, next_head), at_y.row, next,
                                          others, a.values);
            commit_copies();
        }
        if (!idle) gather<BANDS, N, D>(sums_x, d, x);
        __syncthreads();
        if (more)
            fetch<PASSED, D, THREADS>(x, plane(from_x, at_x, image, next_head), at_x.row, next,
                                      others, a.features);
        commit_copies();
        c = next;
        head_of = next_head;
    }
    wait_copies<0>();
    float factors[BANDS][2];
#pragma unroll
    for (int i = 0; i < BANDS; ++i) factors[i][0] = factors[i][1] = scale;
    const Strides& to = KEYS ? a.gk : a.gq;
    __syncthreads();                            // also when nothing passed
    store<BANDS, D>(plane(for_x, to, image, head), to.row, sums_x, factors, held_x, mine, first,
                    rows, a.features);
    if constexpr (KEYS) {
#pragma unroll
        for (int i = 0; i < BANDS; ++i) factors[i][0] = factors[i][1] = drop.state ? drop.scale : 1;
        store<BANDS, D>(plane(for_y, a.gv, image, head), a.gv.row, sums_y, factors, held_y,
                        mine, first, rows, a.values);
    }
}
#define BACKWARD(D, keys, first, second)                                                       \
    backward<D, keys>(g, q, k, v, lse, delta, seen, added, first, second, a,                   \
                      {state, offset, bound, keeps}, scale)
#else
#define BACKWARD(...)
#endif

extern "C" __global__ void __launch_bounds__(128, 2) attention_mma_queries_64(
        In g, In q, In k, In v, const float* __restrict__ lse, const float* __restrict__ delta,
        const bool* __restrict__ seen, In added, Out gq, DROPOUT, Attention a,
        float scale) {
    BACKWARD(64, false, gq, gq);
}

extern "C" __global__ void __launch_bounds__(128, 2) attention_mma_queries_128(
        In g, In q, In k, In v, const float* __restrict__ lse, const float* __restrict__ delta,
        const bool* __restrict__ seen, In added, Out gq, DROPOUT, Attention a,
        float scale) {
    BACKWARD(128, false, gq, gq);
}

extern "C" __global__ void __launch_bounds__(128, 2) attention_mma_keys_64(
        In g, In q, In k, In v, const float* __restrict__ lse, const float* __restrict__ delta,
        const bool* __restrict__ seen, In added, Out gk, Out gv, DROPOUT, Attention a,
        float scale) {
    BACKWARD(64, true, gk, gv);
}

extern "C" __global__ void __launch_bounds__(128, 2) attention_mma_keys_128(
        In g, In q, In k, In v, const float* __restrict__ lse, const float* __restrict__ delta,
        const bool* __restrict__ seen, In added, Out gk, Out gv, DROPOUT, Attention a,
        float scale) {
    BACKWARD(128, true, gk, gv);
}

// delta: for each row the sum of g * out, by 16 threads. Of out's rows gq says where they lie.
extern "C" __global__ void __launch_bounds__(256) attention_mma_delta(
        In g, In out, float* __restrict__ delta, Attention a, long long rows) {
    long long row = (long long) blockIdx.x * 16 + threadIdx.x / 16;
    bool inside = row < rows;
    int r = row % a.length, head = row / a.length % a.heads;
    long long image = row / a.length / a.heads;
    In x = g + image * a.out.image + head * a.out.head + r * a.out.row;
    In y = out + image * a.gq.image + head * a.gq.head + r * a.gq.row;
    float sum = 0;
    for (int c = threadIdx.x % 16 * PACK; inside && c < a.values; c += 16 * PACK) {
        Vector v = *(const Vector*) (x + c), w = *(const Vector*) (y + c);
#pragma unroll
        for (int k = 0; k < PACK; ++k) sum += widen(v.at[k]) * widen(w.at[k]);
    }
    for (int lanes = 8; lanes; lanes >>= 1) sum += partner(sum, lanes);
    if (inside && threadIdx.x % 16 == 0) delta[row] = sum;
}
