// Scaled dot-product attention by tiles, without its matrix of scores, forward and backward.
//
// q and g are (images, heads, length, features | values), k and v (images, heads / group, keys,
// features | values): `group` heads of q share one of k and v. Rows may lie anywhere. lse, the
// logarithm of the sum of a query's exponentials, and delta, the sum of g * out over a row, are
// (images, heads, length) in Acc, in C order. A query that sees no key has lse = +inf and gets zeros.
//
// A block holds a tile of queries of one head in shared memory while tiles of keys pass by; for the
// gradients of k and v it holds keys, and queries pass by. 16 threads in x share a row of scores, and
// each has every 16th one; threads in y take rows that are blockDim.y apart. Softmax is made on the
// way (Milakov, Gimelshein, 2018; Dao et al., FlashAttention, 2022), backward makes the weights again
// from lse. Tiles, scores and sums are in Acc; every sum has a fixed order, no block writes what
// another does. The number in a kernel's name is how many features and values it has room for; a tile's
// rows depend on it and on Acc, so that shared memory stays within 48 KB. ops/attention.py knows them.
#include "attention.cuh"
#include "reduce.cuh"

constexpr int ACROSS = 16;

// Blocks of attention_queries_64 that a multiprocessor has registers for.
#ifdef FLOAT64
#define QUERY_BLOCKS 2
#else
#define QUERY_BLOCKS 3
#endif

// How many rows a tile has that is held and one that passes, and the threads in y.
template <int HELD_, int PASSED_> struct Rows {
    static constexpr int HELD = HELD_, PASSED = PASSED_, DOWN = HELD < 16 ? HELD : 16;
    static constexpr int MINE = HELD / DOWN, OTHERS = PASSED / ACROSS;
};

template <int WIDTH> struct Forward {           // WIDTH: bytes of a row
    typedef Rows<WIDTH <= 256 ? 64 : WIDTH <= 512 ? 32 : 16, WIDTH <= 512 ? 32 : 16> Tiles;
};

template <int WIDTH> struct Backward {
    typedef Rows<WIDTH <= 512 ? 32 : 8, WIDTH <= 256 ? 64 : 16> Tiles;
};

// Rows first ... of x, of `rows` x `columns`, which are `step` apart, times `factor`; zeros beyond. A
// tile's rows have one place more than features, so that threads that read a column read different
// banks.
template <int N, int PLACES>
__device__ __forceinline__ void load(Acc (&tile)[N][PLACES], In x, int step, int first,
                                     int rows, int columns, Acc factor) {
    constexpr int D = PLACES - 1;
    const T* from = x + (long long) first * step;
    for (int i = threadIdx.y * ACROSS + threadIdx.x; i < N * D; i += ACROSS * blockDim.y) {
        int r = i / D, c = i % D;
        bool inside = first + r < rows && c < columns;
        tile[r][c] = inside ? widen(from[r * step + c]) * factor : (Acc) 0;
    }
}

// s = a b.T for this thread's rows of both tiles.
template <class R, int D>
__device__ __forceinline__ void products(Acc (&s)[R::MINE][R::OTHERS],
                                         const Acc (&a)[R::HELD][D + 1],
                                         const Acc (&b)[R::PASSED][D + 1], int columns) {
#pragma unroll
    for (int i = 0; i < R::MINE; ++i)
#pragma unroll
        for (int j = 0; j < R::OTHERS; ++j) s[i][j] = 0;
#pragma unroll 4
    for (int d = 0; d < columns; ++d) {
        Acc other[R::OTHERS];
#pragma unroll
        for (int j = 0; j < R::OTHERS; ++j) other[j] = b[threadIdx.x + j * ACROSS][d];
#pragma unroll
        for (int i = 0; i < R::MINE; ++i) {
            Acc own = a[threadIdx.y + i * R::DOWN][d];
#pragma unroll
            for (int j = 0; j < R::OTHERS; ++j) s[i][j] += own * other[j];
        }
    }
}

// sums += p b: this thread has every 16th column of its rows.
template <class R, int D>
__device__ __forceinline__ void gather(Acc (&sums)[R::MINE][D / ACROSS],
                                       const Acc (&p)[R::HELD][R::PASSED + 1],
                                       const Acc (&b)[R::PASSED][D + 1]) {
#pragma unroll 4
    for (int c = 0; c < R::PASSED; ++c) {
        Acc other[D / ACROSS];
#pragma unroll
        for (int n = 0; n < D / ACROSS; ++n) other[n] = b[c][threadIdx.x + n * ACROSS];
#pragma unroll
        for (int i = 0; i < R::MINE; ++i) {
            Acc own = p[threadIdx.y + i * R::DOWN][c];
#pragma unroll
            for (int n = 0; n < D / ACROSS; ++n) sums[i][n] += own * other[n];
        }
    }
}

// Writes sums * factors into rows first ... of x, of `rows` x `columns`, which are `step` apart.
template <class R, int D>
__device__ __forceinline__ void store(Out x, int step, const Acc (&sums)[R::MINE][D / ACROSS],
                                      const Acc (&factors)[R::MINE], int first, int rows,
                                      int columns) {
    T* to = x + (long long) first * step;
#pragma unroll
    for (int i = 0; i < R::MINE; ++i) {
        int r = threadIdx.y + i * R::DOWN;
        if (first + r >= rows) continue;
#pragma unroll
        for (int n = 0; n < D / ACROSS; ++n) {
            int c = threadIdx.x + n * ACROSS;
            if (c < columns) to[r * step + c] = narrow(sums[i][n] * factors[i]);
        }
    }
}

// What becomes of the score s of a query and a key: -inf if the query doesn't see the key. `at` is
// where the mask of this head begins.
__device__ __forceinline__ Acc masked(Acc s, const Attention& a, const bool* seen, const T* added,
                                      long long at, int query, int key) {
    if (query >= a.length || key >= a.keys || (a.causal && key > query)) return -INFINITE;
    if (!a.masked) return s;
    at += query * a.row + key * a.key;
    if (a.masked == 1) return seen[at] ? s : -INFINITE;
    return s + widen(added[at]);
}

// Over the 16 threads that share a row; all of them get the result.
template <class F> __device__ __forceinline__ Acc over_row(Acc v, F f) {
    for (int lanes = ACROSS / 2; lanes; lanes >>= 1) v = f(v, partner(v, lanes));
    return v;
}

struct Greater {
    __device__ __forceinline__ Acc operator()(Acc v, Acc w) const { return v > w ? v : w; }
};

// Which of `heads` heads of which image this block works on, and at which row its tile begins: the
// last tiles, which have most to do under a causal mask, go first.
struct Share {
    long long plane;
    int image, head, first;
};

__device__ __forceinline__ Share share(int rows, int held, int heads) {
    int tiles = (rows + held - 1) / held, plane = (int) blockIdx.x / tiles;
    return {plane, plane / heads, plane % heads,
            (tiles - 1 - (int) (blockIdx.x % tiles)) * held};
}

__device__ __forceinline__ long long mask_of(const Attention& a, int image, int head) {
    return image * a.image + head * a.head;
}

template <int D>
__device__ __forceinline__ void attend(In q, In k, In v, const bool* __restrict__ seen, In added,
                                       Out out, Acc* __restrict__ lse, const Attention& a,
                                       Acc scale) {
    typedef typename Forward<D * (int) sizeof(Acc)>::Tiles R;
    __shared__ Acc queries[R::HELD][D + 1], others[R::PASSED][D + 1], p[R::HELD][R::PASSED + 1];
    Share mine = share(a.length, R::HELD, a.heads);
    long long at = mask_of(a, mine.image, mine.head);
    k = plane(k, a.k, mine.image, mine.head / a.group);
    v = plane(v, a.v, mine.image, mine.head / a.group);
    load(queries, plane(q, a.q, mine.image, mine.head), (int) a.q.row, mine.first, a.length,
         a.features, scale);
    Acc most[R::MINE], total[R::MINE], sums[R::MINE][D / ACROSS];
#pragma unroll
    for (int i = 0; i < R::MINE; ++i) {
        most[i] = LOWEST;                       // never -inf, whose difference with itself is NaN
        total[i] = 0;
#pragma unroll
        for (int n = 0; n < D / ACROSS; ++n) sums[i][n] = 0;
    }
    int end = a.causal ? min(a.keys, mine.first + R::HELD) : a.keys;
    for (int c = 0; c < end; c += R::PASSED) {
        __syncthreads();
        load(others, k, (int) a.k.row, c, a.keys, a.features, (Acc) 1);
        __syncthreads();
        Acc s[R::MINE][R::OTHERS];
        products<R, D>(s, queries, others, a.features);
#pragma unroll
        for (int i = 0; i < R::MINE; ++i) {
            int r = threadIdx.y + i * R::DOWN;
            Acc top = most[i];
#pragma unroll
            for (int j = 0; j < R::OTHERS; ++j) {
                s[i][j] = masked(s[i][j], a, seen, added, at, mine.first + r,
                                 c + (int) threadIdx.x + j * ACROSS);
                top = Greater()(top, s[i][j]);
            }
            top = over_row(top, Greater());
            Acc shrink = exp(most[i] - top);
            most[i] = top;
            total[i] *= shrink;
#pragma unroll
            for (int j = 0; j < R::OTHERS; ++j) {
                Acc e = exp(s[i][j] - top);
                total[i] += e;
                p[r][threadIdx.x + j * ACROSS] = e;
            }
#pragma unroll
            for (int n = 0; n < D / ACROSS; ++n) sums[i][n] *= shrink;
        }
        __syncthreads();
        load(others, v, (int) a.v.row, c, a.keys, a.values, (Acc) 1);
        __syncthreads();
        gather<R, D>(sums, p, others);
    }
    Acc factors[R::MINE];
#pragma unroll
    for (int i = 0; i < R::MINE; ++i) {
        int r = mine.first + threadIdx.y + i * R::DOWN;
        Acc sum = over_row(total[i], Sum());
        factors[i] = sum == 0 ? (Acc) 0 : 1 / sum;
        if (threadIdx.x == 0 && r < a.length)
            lse[mine.plane * a.length + r] = sum == 0 ? INFINITE : most[i] + log(sum);
    }
    store<R, D>(plane(out, a.out, mine.image, mine.head), (int) a.out.row, sums, factors,
                mine.first, a.length, a.values);
}

// The gradient of q, and delta for that of the others. Of out's rows gk says where they lie.
template <int D>
__device__ __forceinline__ void for_queries(In g, In q, In k, In v, In out,
                                            const Acc* __restrict__ lse, Acc* __restrict__ delta,
                                            const bool* __restrict__ seen, In added, Out gq,
                                            const Attention& a, Acc scale) {
    typedef typename Backward<D * (int) sizeof(Acc)>::Tiles R;
    __shared__ Acc queries[R::HELD][D + 1], slopes[R::HELD][D + 1], others[R::PASSED][D + 1],
        ds[R::HELD][R::PASSED + 1];
    Share mine = share(a.length, R::HELD, a.heads);
    long long at = mask_of(a, mine.image, mine.head);
    k = plane(k, a.k, mine.image, mine.head / a.group);
    v = plane(v, a.v, mine.image, mine.head / a.group);
    out = plane(out, a.gk, mine.image, mine.head) + mine.first * a.gk.row;
    load(queries, plane(q, a.q, mine.image, mine.head), (int) a.q.row, mine.first, a.length,
         a.features, scale);
    load(slopes, plane(g, a.out, mine.image, mine.head), (int) a.out.row, mine.first, a.length,
         a.values, (Acc) 1);
    __syncthreads();
    Acc sums[R::MINE][D / ACROSS], factors[R::MINE], logs[R::MINE], deltas[R::MINE];
#pragma unroll
    for (int i = 0; i < R::MINE; ++i) {
        int r = threadIdx.y + i * R::DOWN;
        bool inside = mine.first + r < a.length;
        long long row = mine.plane * a.length + mine.first + r;
        logs[i] = inside ? lse[row] : (Acc) 0;
        Acc sum = 0;
#pragma unroll 1
        for (int c = threadIdx.x; inside && c < a.values; c += ACROSS)
            sum += slopes[r][c] * widen(out[r * (int) a.gk.row + c]);
        deltas[i] = over_row(sum, Sum());
        if (inside && threadIdx.x == 0) delta[row] = deltas[i];
        factors[i] = scale;
#pragma unroll
        for (int n = 0; n < D / ACROSS; ++n) sums[i][n] = 0;
    }
    int end = a.causal ? min(a.keys, mine.first + R::HELD) : a.keys;
    for (int c = 0; c < end; c += R::PASSED) {
        Acc s[R::MINE][R::OTHERS], dp[R::MINE][R::OTHERS];
        __syncthreads();
        load(others, v, (int) a.v.row, c, a.keys, a.values, (Acc) 1);
        __syncthreads();
        products<R, D>(dp, slopes, others, a.values);
        __syncthreads();
        load(others, k, (int) a.k.row, c, a.keys, a.features, (Acc) 1);
        __syncthreads();
        products<R, D>(s, queries, others, a.features);
#pragma unroll
        for (int i = 0; i < R::MINE; ++i) {
            int r = threadIdx.y + i * R::DOWN;
#pragma unroll
            for (int j = 0; j < R::OTHERS; ++j) {
                int key = threadIdx.x + j * ACROSS;
                Acc e = exp(masked(s[i][j], a, seen, added, at, mine.first + r, c + key) - logs[i]);
                ds[r][key] = e * (dp[i][j] - deltas[i]);
            }
        }
        __syncthreads();
        gather<R, D>(sums, ds, others);
    }
    store<R, D>(plane(gq, a.gq, mine.image, mine.head), (int) a.gq.row, sums, factors, mine.first,
                a.length, a.features);
}

// The gradients of k and v, over all heads of q that use them.
template <int D>
__device__ __forceinline__ void for_keys(In g, In q, In k, In v, const Acc* __restrict__ lse,
                                         const Acc* __restrict__ delta,
                                         const bool* __restrict__ seen, In added, Out gk, Out gv,
                                         const Attention& a, Acc scale) {
    typedef typename Backward<D * (int) sizeof(Acc)>::Tiles R;
    __shared__ Acc keys[R::HELD][D + 1], values[R::HELD][D + 1], others[R::PASSED][D + 1],
        p[R::HELD][R::PASSED + 1];
    Share mine = share(a.keys, R::HELD, a.heads / a.group);
    load(keys, plane(k, a.k, mine.image, mine.head), (int) a.k.row, mine.first, a.keys, a.features,
         (Acc) 1);
    load(values, plane(v, a.v, mine.image, mine.head), (int) a.v.row, mine.first, a.keys, a.values,
         (Acc) 1);
    Acc for_k[R::MINE][D / ACROSS], for_v[R::MINE][D / ACROSS], ones[R::MINE];
#pragma unroll
    for (int i = 0; i < R::MINE; ++i) {
        ones[i] = 1;
#pragma unroll
        for (int n = 0; n < D / ACROSS; ++n) for_k[i][n] = for_v[i][n] = 0;
    }
    int begin = a.causal ? mine.first / R::PASSED * R::PASSED : 0;
    for (int member = 0; member < a.group; ++member) {
        int head = mine.head * a.group + member;
        long long first = (mine.plane * a.group + member) * a.length;
        long long at = mask_of(a, mine.image, head);
        In heads = plane(q, a.q, mine.image, head), slopes = plane(g, a.out, mine.image, head);
        for (int c = begin; c < a.length; c += R::PASSED) {
            Acc s[R::MINE][R::OTHERS], ds[R::MINE][R::OTHERS];
            __syncthreads();
            load(others, heads, (int) a.q.row, c, a.length, a.features, scale);
            __syncthreads();
            products<R, D>(s, keys, others, a.features);
            __syncthreads();
            load(others, slopes, (int) a.out.row, c, a.length, a.values, (Acc) 1);
            __syncthreads();
            products<R, D>(ds, values, others, a.values);
#pragma unroll
            for (int j = 0; j < R::OTHERS; ++j) {
                int query = c + threadIdx.x + j * ACROSS;
                bool inside = query < a.length;
                Acc log_sum = inside ? lse[first + query] : (Acc) 0;
                Acc sum = inside ? delta[first + query] : (Acc) 0;
#pragma unroll
                for (int i = 0; i < R::MINE; ++i) {
                    int r = threadIdx.y + i * R::DOWN;
                    Acc e = exp(masked(s[i][j], a, seen, added, at, query, mine.first + r)
                                - log_sum);
                    p[r][threadIdx.x + j * ACROSS] = e;
                    ds[i][j] = e * (ds[i][j] - sum);
                }
            }
            __syncthreads();
            gather<R, D>(for_v, p, others);
            __syncthreads();
            load(others, heads, (int) a.q.row, c, a.length, a.features, scale);
#pragma unroll
            for (int i = 0; i < R::MINE; ++i)
#pragma unroll
                for (int j = 0; j < R::OTHERS; ++j)
                    p[threadIdx.y + i * R::DOWN][threadIdx.x + j * ACROSS] = ds[i][j];
            __syncthreads();
            gather<R, D>(for_k, p, others);
        }
    }
    store<R, D>(plane(gk, a.gk, mine.image, mine.head), (int) a.gk.row, for_k, ones, mine.first,
                a.keys, a.features);
    store<R, D>(plane(gv, a.gv, mine.image, mine.head), (int) a.gv.row, for_v, ones, mine.first,
                a.keys, a.values);
}

extern "C" __global__ void __launch_bounds__(256, 2) attention_64(
        In q, In k, In v, const bool* __restrict__ seen, In added, Out out, Acc* __restrict__ lse,
        Attention a, Acc scale) {
    attend<64>(q, k, v, seen, added, out, lse, a, scale);
}

extern "C" __global__ void __launch_bounds__(256, 2) attention_128(
        In q, In k, In v, const bool* __restrict__ seen, In added, Out out, Acc* __restrict__ lse,
        Attention a, Acc scale) {
    attend<128>(q, k, v, seen, added, out, lse, a, scale);
}

extern "C" __global__ void __launch_bounds__(256, QUERY_BLOCKS) attention_queries_64(
        In g, In q, In k, In v, In out, const Acc* __restrict__ lse, Acc* __restrict__ delta,
        const bool* __restrict__ seen, In added, Out gq, Attention a, Acc scale) {
    for_queries<64>(g, q, k, v, out, lse, delta, seen, added, gq, a, scale);
}

extern "C" __global__ void __launch_bounds__(256, 2) attention_queries_128(
        In g, In q, In k, In v, In out, const Acc* __restrict__ lse, Acc* __restrict__ delta,
        const bool* __restrict__ seen, In added, Out gq, Attention a, Acc scale) {
    for_queries<128>(g, q, k, v, out, lse, delta, seen, added, gq, a, scale);
}

extern "C" __global__ void __launch_bounds__(256, 2) attention_keys_64(
        In g, In q, In k, In v, const Acc* __restrict__ lse, const Acc* __restrict__ delta,
        const bool* __restrict__ seen, In added, Out gk, Out gv, Attention a, Acc scale) {
    for_keys<64>(g, q, k, v, lse, delta, seen, added, gk, gv, a, scale);
}

extern "C" __global__ void __launch_bounds__(256, 2) attention_keys_128(
        In g, In q, In k, In v, const Acc* __restrict__ lse, const Acc* __restrict__ delta,
        const bool* __restrict__ seen, In added, Out gk, Out gv, Attention a, Acc scale) {
    for_keys<128>(g, q, k, v, lse, delta, seen, added, gk, gv, a, scale);
}
