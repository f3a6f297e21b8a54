// What the kernels of attention on tensor cores share: tiles of rows in shared memory, their
// products, and which scores count.
//
// A tile has rows of D elements, zeros beyond those that are there, in chunks of 16 bytes; a
// chunk's place in its row is its number ^ row % 8, so that the eight rows that ldmatrix reads at
// once, and the rows that a product with TF32 reads a column of, lie in different banks. A warp
// has BANDS bands of 16 rows of the tile that is held, and all columns: in mma's accumulators a
// thread has the elements (lane / 4, lane % 4 * 2), the one beside it, and the two eight rows
// below, of each eight columns. Weights go from accumulators to the next product's left operand
// without leaving the thread. For TF32 that product takes columns 0 2 4 6 1 3 5 7 of every eight,
// on both sides.
#ifndef GPUGRAD_ATTENTION_MMA_CUH
#define GPUGRAD_ATTENTION_MMA_CUH

#include "attention.cuh"
#include "map.cuh"
#include "mma.cuh"
#include "philox.cuh"
#include "reduce.cuh"

#define LOG2_E 1.4426950408889634f

// Dropout of weights, if state isn't null: word i of the draw (philox.cuh) belongs to weight i of
// (images, heads, length, keys), and below `bound` it keeps it, times `scale`.
struct Dropout {
    const unsigned long long* state;
    unsigned long long offset, bound;
    float scale;
};
#define DROPOUT                                                                                \
    const unsigned long long *__restrict__ state, unsigned long long offset,                   \
        unsigned long long bound, float keeps

#ifdef TENSOR_CORES
constexpr int CHUNK = 16 / sizeof(T), STEP = 2 * CHUNK;     // a step: the columns that mma takes

template <int D> __device__ __forceinline__ int place_of(int row, int chunk) {
    return row * D + (chunk ^ (row & 7)) * CHUNK;
}

// 2 ^ x, in the last places; 0 below the normal numbers.
__device__ __forceinline__ float power_of_2(float x) {
#ifdef __GPUGRAD_CUDASIM__
    return exp2f(x);
#else
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#endif
}

__device__ __forceinline__ int lane() { return threadIdx.x & 31; }

// Begins to copy rows first ... of x into a tile.
template <int ROWS, int D, int THREADS>
__device__ __forceinline__ void fetch(T* tile, const T* x, long long step, int first, int rows,
                                      int columns) {
    constexpr int CHUNKS = D / CHUNK, AT_ONCE = THREADS / CHUNKS;
    int c = threadIdx.x % CHUNKS, r = threadIdx.x / CHUNKS;
    const T* from = x + (first + r) * step + c * CHUNK;
#pragma unroll
    for (int i = 0; i < ROWS; i += AT_ONCE, from += AT_ONCE * step) {
        bool inside = c * CHUNK < columns && first + r + i < rows;
        copy16(tile + place_of<D>(r + i, c), inside ? from : x, inside);
    }
}

// What was loaded, as mma takes it.
__device__ __forceinline__ void round_off(unsigned (&a)[4]) {
#if !defined(FLOAT16) && !defined(BFLOAT16)
#pragma unroll
    for (int i = 0; i < 4; ++i) a[i] = to_tf32(__uint_as_float(a[i]));
#endif
}

// The left operand of a step: 16 rows.
template <int D>
__device__ __forceinline__ void left(unsigned (&a)[4], const T* tile, int row, int step) {
    load_matrix4(a, tile + place_of<D>(row + (lane() & 15), 2 * step + (lane() >> 4)));
    round_off(a);
}

// The right operands of a step for 16 columns, which are rows of a tile.
template <int D>
__device__ __forceinline__ void right(unsigned (&b)[4], const T* tile, int row, int step) {
    load_matrix4(b, tile + place_of<D>(row + (lane() & 7) + (lane() >> 4) * 8,
                                       2 * step + (lane() >> 3 & 1)));
    round_off(b);
}

// The right operands of a step for 16 columns of a tile, whose rows are those of the step.
template <int D>
__device__ __forceinline__ void columns(unsigned (&b)[4], const T* tile, int row, int column) {
#if defined(FLOAT16) || defined(BFLOAT16)
    load_matrix4_transposed(b, tile + place_of<D>(row + (lane() & 15),
                                                  column / CHUNK + (lane() >> 4)));
#else
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        int c = column + (i >> 1) * 8 + lane() / 4, r = row + lane() % 4 * 2 + (i & 1);
        b[i] = to_tf32(tile[place_of<D>(r, c / CHUNK) + c % CHUNK]);
    }
#endif
}

// The left operand of a step from accumulators, whose columns are those of the step.
template <int N>
__device__ __forceinline__ void left(unsigned (&a)[4], const float (&p)[N][4], int step) {
#if defined(FLOAT16) || defined(BFLOAT16)
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        const float(&from)[4] = p[2 * step + i / 2];
        a[i] = pack(from[i % 2 * 2], from[i % 2 * 2 + 1]);
    }
#else
#pragma unroll
    for (int i = 0; i < 4; ++i) a[i] = to_tf32(p[step][i % 2 * 2 + i / 2]);
#endif
}

__device__ __forceinline__ void times(float (&low)[4], float (&high)[4], const unsigned (&a)[4],
                                      const unsigned (&b)[4]) {
    const unsigned first[2] = {b[0], b[1]}, second[2] = {b[2], b[3]};
    multiply(low, a, first);
    multiply(high, a, second);
}

template <int BANDS, int N>
__device__ __forceinline__ void clear(float (&sums)[BANDS][N][4]) {
#pragma unroll
    for (int i = 0; i < BANDS; ++i)
#pragma unroll
        for (int j = 0; j < N; ++j)
#pragma unroll
            for (int e = 0; e < 4; ++e) sums[i][j][e] = 0;
}

// s = held passed.T: this warp's rows of the first, all of the second.
template <int BANDS, int N, int D>
__device__ __forceinline__ void scores(float (&s)[BANDS][N][4], const T* held, int row,
                                       const T* passed) {
    clear(s);
#pragma unroll
    for (int step = 0; step < D / STEP; ++step) {
        unsigned a[BANDS][4], b[4];
#pragma unroll
        for (int i = 0; i < BANDS; ++i) left<D>(a[i], held, row + 16 * i, step);
#pragma unroll
        for (int j = 0; j < N; j += 2) {
            right<D>(b, passed, j * 8, step);
#pragma unroll
            for (int i = 0; i < BANDS; ++i) times(s[i][j], s[i][j + 1], a[i], b);
        }
    }
}

// sums += p passed
template <int BANDS, int N, int D>
__device__ __forceinline__ void gather(float (&sums)[BANDS][D / 8][4],
                                       const float (&p)[BANDS][N][4], const T* passed) {
#pragma unroll
    for (int step = 0; step < N * 8 / STEP; ++step) {
        unsigned a[BANDS][4], b[4];
#pragma unroll
        for (int i = 0; i < BANDS; ++i) left(a[i], p[i], step);
#pragma unroll
        for (int j = 0; j < D / 8; j += 2) {
            columns<D>(b, passed, step * STEP, j * 8);
#pragma unroll
            for (int i = 0; i < BANDS; ++i) times(sums[i][j], sums[i][j + 1], a[i], b);
        }
    }
}

// This warp's rows of sums * factors become rows first ... of x, by way of its rows of a tile.
template <int BANDS, int D>
__device__ __forceinline__ void store(T* x, long long step, const float (&sums)[BANDS][D / 8][4],
                                      const float (&factors)[BANDS][2], T* tile, int row, int first,
                                      int rows, int columns) {
    __syncwarp();
#pragma unroll
    for (int i = 0; i < BANDS; ++i)
#pragma unroll
        for (int h = 0; h < 2; ++h) {
            int r = row + 16 * i + 8 * h + lane() / 4;
#pragma unroll
            for (int j = 0; j < D / 8; ++j) {
                int c = j * 8 + lane() % 4 * 2;
                Pack<T, 2> p = {narrow(sums[i][j][2 * h] * factors[i][h]),
                                narrow(sums[i][j][2 * h + 1] * factors[i][h])};
                *(Pack<T, 2>*) (tile + place_of<D>(r, c / CHUNK) + c % CHUNK) = p;
            }
        }
    __syncwarp();
    for (int i = lane(); i < BANDS * 16 * D / CHUNK; i += 32) {
        int r = row + i / (D / CHUNK), c = i % (D / CHUNK);
        if (first + r < rows && c * CHUNK < columns)
            *(Pack<T, CHUNK>*) (x + (first + r) * step + c * CHUNK) =
                *(const Pack<T, CHUNK>*) (tile + place_of<D>(r, c));
    }
}

// The scores of tiles that begin at these rows and columns become -inf where the query doesn't see
// the key. KEYS: rows are keys, else queries. With a mask they become scores * scale, and it is
// applied: to eight columns at a time, which then move to the end, so that few registers do.
template <bool KEYS, int BANDS, int N>
__device__ __forceinline__ void hide(float (&s)[BANDS][N][4], const Attention& a, const bool* seen,
                                     const T* added, int row, int column, float scale) {
    row += lane() / 4;
    column += lane() % 4 * 2;
    if (!a.masked) {
#pragma unroll
        for (int i = 0; i < BANDS; ++i)
#pragma unroll
            for (int j = 0; j < N; ++j)
#pragma unroll
                for (int e = 0; e < 4; ++e) {
                    int r = row + 16 * i + e / 2 * 8, c = column + j * 8 + e % 2;
                    int query = KEYS ? c : r, key = KEYS ? r : c;
                    if (key >= a.keys || (a.causal && key > query)) s[i][j][e] = -INFINITE;
                }
        return;
    }
#pragma unroll 1
    for (int j = 0; j < N; ++j, column += 8)
#pragma unroll
        for (int i = 0; i < BANDS; ++i)
#pragma unroll
            for (int e = 0; e < 4; ++e) {
                int r = row + 16 * i + e / 2 * 8, c = column + e % 2;
                int query = KEYS ? c : r, key = KEYS ? r : c;
                float v = s[i][0][e] * scale;
                if (key >= a.keys || (a.causal && key > query)) {
                    v = -INFINITE;
                } else if (query < a.length) {
                    long long at = query * a.row + key * a.key;
                    if (a.masked == 2) v += widen(added[at]);
                    else if (!seen[at]) v = -INFINITE;
                }
#pragma unroll
                for (int k = 1; k < N; ++k) s[i][k - 1][e] = s[i][k][e];
                s[i][N - 1][e] = v;
            }
}

// Which weights of a band of 16 rows are kept: bit 4 * j + e is that of element e of column j.
// first: the number of the head's first weight. KEYS: rows are keys, else queries.
template <bool KEYS, int N>
__device__ __forceinline__ unsigned kept(const Attention& a, const Dropout& drop, long long first,
                                         int row, int column) {
    unsigned long long key = drop.state[0], counter = drop.state[1] + drop.offset;
    unsigned bits = 0;
    Words w;
    row += lane() / 4;
    column += lane() % 4 * 2;
#pragma unroll 1
    for (int j = 0; j < 2 * N; ++j)             // two elements of a row
#pragma unroll(KEYS ? 1 : 2)
        for (int e = 0; e < 2; ++e) {
            int r = row + j % 2 * 8, c = column + j / 2 * 8 + e;
            long long i = first + (long long) (KEYS ? c : r) * a.keys + (KEYS ? r : c);
            if (KEYS || e == 0 || i % 4 == 0) w = philox4x32(key, counter + i / 4);
            unsigned low = i & 1 ? w.at[1] : w.at[0], high = i & 1 ? w.at[3] : w.at[2];
            bits |= (unsigned) ((i & 2 ? high : low) < drop.bound) << (2 * j + e);
        }
    return bits;
}

#endif
#endif
