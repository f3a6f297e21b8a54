// Scaled dot-product attention on tensor cores, without its matrix of scores: attention.cu's
// forward for float16 and bfloat16, and for float32 with products in TF32.
//
// A block holds a tile of queries of one head while tiles of keys and values pass by, which are
// copied behind the work. Each warp has rows of its own. Scores, maxima and sums are in float32;
// weights are rounded to T, as the products' operands, and are 0 where dropout drops them. Powers
// are of 2, of score * factor - largest score * factor in one rounding; where that difference would
// be lost, the scores being huge, in two. Every sum has a fixed order.
#include "attention_mma.cuh"

#ifdef TENSOR_CORES
template <int BYTES> struct Forward {           // BYTES: of a row
    static constexpr int BANDS = BYTES <= 256 ? 2 : 1, WARPS = 4, HELD = 16 * BANDS * WARPS;
    static constexpr int PASSED = BYTES <= 128 ? 64 : BYTES <= 256 ? 32 : 16;
    static constexpr int STAGES = BYTES <= 128 ? 2 : 1;
};

// p = 2 ^ (factor * (p - most)), added to the rows' totals. huge: factor * most can't be told from
// its neighbours.
template <bool HUGE_, int BANDS, int N>
__device__ __forceinline__ void weigh(float (&p)[BANDS][N][4], float (&total)[BANDS][2],
                                      const float (&most)[BANDS][2], float factor) {
#pragma unroll
    for (int i = 0; i < BANDS; ++i)
#pragma unroll
        for (int h = 0; h < 2; ++h) {
            float shift = most[i][h] * factor;
#pragma unroll
            for (int j = 0; j < N; ++j)
#pragma unroll
                for (int e = 2 * h; e < 2 * h + 2; ++e) {
                    float& v = p[i][j][e];
                    v = power_of_2(HUGE_ ? (v - most[i][h]) * factor : fmaf(v, factor, -shift));
                    total[i][h] += v;
                }
        }
}

template <int D>
__device__ __forceinline__ void attend(In q, In k, In v, const bool* __restrict__ seen, In added,
                                       Out out, float* __restrict__ lse, const Attention& a,
                                       const Dropout& drop, float scale) {
    typedef Forward<D * (int) sizeof(T)> F;
    constexpr int BANDS = F::BANDS, PASSED = F::PASSED, N = PASSED / 8, THREADS = 32 * F::WARPS;
    __shared__ __align__(128) T queries[F::HELD * D], keys[F::STAGES][PASSED * D],
        values[F::STAGES][PASSED * D];
    int tiles = (a.length + F::HELD - 1) / F::HELD, planes = gridDim.x / tiles;
    int first = (tiles - 1 - (int) blockIdx.x / planes) * F::HELD;     // the longest rows go first
    int image = blockIdx.x % planes / a.heads, head = blockIdx.x % planes % a.heads;
    int mine = (int) threadIdx.x / 32 * 16 * BANDS, row = first + mine;
    long long at = image * a.image + head * a.head;
    const T *from_k = plane(k, a.k, image, head / a.group),
            *from_v = plane(v, a.v, image, head / a.group);
    const bool* seen_here = seen + (a.masked == 1 ? at : 0);
    const T* added_here = added + (a.masked == 2 ? at : 0);

    float factor = (a.masked ? 1 : scale) * LOG2_E;
    float sums[BANDS][D / 8][4], most[BANDS][2], total[BANDS][2];
    clear(sums);
#pragma unroll
    for (int i = 0; i < BANDS; ++i)
#pragma unroll
        for (int h = 0; h < 2; ++h) {
            most[i][h] = LOWEST;                // never -inf, whose difference with itself is NaN
            total[i][h] = 0;
        }
    fetch<F::HELD, D, THREADS>(queries, plane(q, a.q, image, head), a.q.row, first, a.length,
                               a.features);
    fetch<PASSED, D, THREADS>(keys[0], from_k, a.k.row, 0, a.keys, a.features);
    if (F::STAGES == 2) fetch<PASSED, D, THREADS>(values[0], from_v, a.v.row, 0, a.keys, a.values);
    commit_copies();
    int end = a.causal ? min(a.keys, first + F::HELD) : a.keys;
    for (int c = 0, stage = 0; c < end; c += PASSED) {
        int next = F::STAGES == 2 ? 1 - stage : 0, then = c + PASSED < end ? c + PASSED : a.keys;
        wait_copies<0>();
        __syncthreads();
        if (F::STAGES == 2) {
            fetch<PASSED, D, THREADS>(keys[next], from_k, a.k.row, then, a.keys, a.features);
            fetch<PASSED, D, THREADS>(values[next], from_v, a.v.row, then, a.keys, a.values);
        } else {
            fetch<PASSED, D, THREADS>(values[0], from_v, a.v.row, c, a.keys, a.values);
        }
        commit_copies();
        bool idle = a.causal && c >= row + 16 * BANDS;
        float s[BANDS][N][4];
        if (!idle) scores<BANDS, N, D>(s, queries, mine, keys[stage]);
        if (F::STAGES == 1) {
            wait_copies<0>();
            __syncthreads();
            fetch<PASSED, D, THREADS>(keys[0], from_k, a.k.row, then, a.keys, a.features);
            commit_copies();
        }
        if (!idle) {
            if (a.masked || c + PASSED > a.keys || (a.causal && c + PASSED > row + 1))
                hide<false>(s, a, seen_here, added_here, row, c, scale);
            bool huge = false, grown = false;
            float shrink[BANDS][2];
#pragma unroll
            for (int i = 0; i < BANDS; ++i)
#pragma unroll
                for (int h = 0; h < 2; ++h) {
                    float top = most[i][h];
#pragma unroll
                    for (int j = 0; j < N; ++j)
                        top = fmaxf(top, fmaxf(s[i][j][2 * h], s[i][j][2 * h + 1]));
                    top = fmaxf(top, partner(top, 1));
                    top = fmaxf(top, partner(top, 2));
                    shrink[i][h] = power_of_2((most[i][h] - top) * factor);
                    grown = grown || top != most[i][h];
                    huge = huge || !(fabsf(top * factor) < 1 << 26);
                    most[i][h] = top;
                    total[i][h] *= shrink[i][h];
                }
            if (__any_sync(0xffffffffu, huge)) weigh<true>(s, total, most, factor);
            else weigh<false>(s, total, most, factor);
            if (__any_sync(0xffffffffu, grown)) {
#pragma unroll
                for (int i = 0; i < BANDS; ++i)
#pragma unroll
                    for (int j = 0; j < D / 8; ++j)
#pragma unroll
                        for (int e = 0; e < 4; ++e) sums[i][j][e] *= shrink[i][e / 2];
            }
            if (drop.state) {
                long long weights = (long long) (image * a.heads + head) * a.length * a.keys;
#pragma unroll
                for (int i = 0; i < BANDS; ++i) {
                    unsigned bits = kept<false, N>(a, drop, weights, row + 16 * i, c);
#pragma unroll
                    for (int j = 0; j < N; ++j)
#pragma unroll
                        for (int e = 0; e < 4; ++e)
                            if (!(bits >> (4 * j + e) & 1)) s[i][j][e] = 0;
                }
            }
            gather<BANDS, N, D>(sums, s, values[stage]);
        }
        stage = next;
    }
    wait_copies<0>();
    float factors[BANDS][2];
#pragma unroll
    for (int i = 0; i < BANDS; ++i)
#pragma unroll
        for (int h = 0; h < 2; ++h) {
            float sum = total[i][h];
            sum += partner(sum, 1);
            sum += partner(sum, 2);
            factors[i][h] = sum == 0 ? 0 : (drop.state ? drop.scale : 1) / sum;
            int r = row + 16 * i + 8 * h + lane() / 4;
            if (lane() % 4 == 0 && r < a.length)
                lse[(long long) (image * a.heads + head) * a.length + r] =
                    sum == 0 ? INFINITE : most[i][h] * (a.masked ? 1 : scale) + logf(sum);
        }
    store<BANDS, D>(plane(out, a.out, image, head), a.out.row, sums, factors, queries, mine, first,
                    a.length, a.values);
}

#define ATTEND(D)                                                                              \
    attend<D>(q, k, v, seen, added, out, lse, a, {state, offset, bound, keeps}, scale)
#else
#define ATTEND(D)
#endif

extern "C" __global__ void __launch_bounds__(128, 2) attention_mma_64(
        In q, In k, In v, const bool* __restrict__ seen, In added, Out out,
        float* __restrict__ lse, DROPOUT, Attention a, float scale) {
    ATTEND(64);
}

extern "C" __global__ void __launch_bounds__(128, 2) attention_mma_128(
        In q, In k, In v, const bool* __restrict__ seen, In added, Out out,
        float* __restrict__ lse, DROPOUT, Attention a, float scale) {
    ATTEND(128);
}
