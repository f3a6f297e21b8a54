// Reading, writing and adding at indices, without float atomics: the same bits every time.
//
// An index counts from the end if it is negative. Nothing stops a kernel when an index lies outside:
// a read there gives NaN, and a write or an addition is left out. A thread per element, unless it
// says otherwise; sums in Acc. Arrays are in C order; index is long long.
#include "map.cuh"

// Where index i of a dimension of n points to; n itself if that is outside.
__device__ __forceinline__ long long at(long long i, long long n) {
    if (i < 0) i += n;
    return i >= 0 && i < n ? i : n;
}

// Element e of (outer, m, inner).
struct Element {
    Index outer, j, inner;
};

__device__ __forceinline__ Element element(Index e, Index m, Index inner) {
    Index row = e / inner, outer = row / m;
    return {outer, row - outer * m, e - row * inner};
}

template <class E>
__device__ __forceinline__ void select(const E* x, const long long* index, E* y, long long n,
                                       long long size, long long m, long long inner,
                                       const E& outside) {
    EACH(e, n) {
        Element k = element(e, (Index) m, (Index) inner);
        long long row = at(index[k.j], size);
        y[e] = row == size ? outside : x[((Index) k.outer * size + row) * inner + k.inner];
    }
}

// y (outer, m, inner) from x (outer, size, inner) and index (m,); n = outer * m * inner. 16 bytes are
// moved at a time if rows have a whole number of them.
extern "C" __global__ void index_select(const T* __restrict__ x, const long long* __restrict__ index,
                                        T* __restrict__ y, long long n, long long size, long long m,
                                        long long inner) {
    if (inner % PACK == 0 && aligned<Vector>(x) && aligned<Vector>(y)) {
        Vector outside;
#pragma unroll
        for (int k = 0; k < PACK; ++k) outside.at[k] = narrow(NOT_A_NUMBER);
        select((const Vector*) x, index, (Vector*) y, n / PACK, size, m, inner / PACK, outside);
    } else {
        select(x, index, y, n, size, m, inner, narrow(NOT_A_NUMBER));
    }
}

// How index lies on x for gather and scatter: the same number of dims, those of index no longer but
// for `dim`, where x has n. ops/places.py packs it, and joins dims that can be joined.
struct Along {
    long long ndim, dim, n, size[8], stride[8];
};

// Where element e of index points to in x; -1 if that is outside.
__device__ __forceinline__ Index along(const long long* index, Index e, const Along& a) {
    long long row = at(index[e], a.n);
    Index place = 0, rest = e;
    for (int d = (int) a.ndim - 1; d >= 0; --d) {
        Index next = rest / (Index) a.size[d];
        place += (d == a.dim ? (Index) row : rest - next * (Index) a.size[d]) * (Index) a.stride[d];
        rest = next;
    }
    return row == a.n ? -1 : place;
}

// y has the shape of index; n is its size.
extern "C" __global__ void gather(const T* __restrict__ x, const long long* __restrict__ index,
                                  T* __restrict__ y, long long n, Along a) {
    EACH(e, n) {
        Index place = along(index, e, a);
        y[e] = place < 0 ? narrow(NOT_A_NUMBER) : x[place];
    }
}

// x becomes g at index; positions are distinct. n = size of index and g
extern "C" __global__ void scatter(const T* __restrict__ g, const long long* __restrict__ index,
                                   T* __restrict__ x, long long n, Along a) {
    EACH(e, n) {
        Index place = along(index, e, a);
        if (place >= 0) x[place] = g[e];
    }
}

// Where the elements of index point to in x, which has `total`; total itself if that is outside. The
// dtype plays no part.
extern "C" __global__ void places(const long long* __restrict__ index, long long* __restrict__ place,
                                  long long n, Along a, long long total) {
    EACH(e, n) {
        Index p = along(index, e, a);
        place[e] = p < 0 ? total : p;
    }
}

// The index of several dims as one, a dim at a time: place = index * stride, added to what is there
// unless `first`. total, the product of the sizes, stands for outside. The dtype plays no part.
extern "C" __global__ void flat_index(const long long* __restrict__ index,
                                      long long* __restrict__ place, long long n, long long size,
                                      long long stride, long long total, int first) {
    EACH(e, n) {
        long long row = at(index[e], size), before = first ? 0 : place[e];
        place[e] = row == size || before == total ? total : before + row * stride;
    }
}

// Which of n places is the last to name a row: last (size,) begins as -1. The dtype plays no part.
extern "C" __global__ void last_of(const long long* __restrict__ place, int* __restrict__ last,
                                   long long n, long long size) {
    EACH(e, n) if (place[e] < size) atomicMax(last + place[e], (int) e);
}

// Rows of x (outer, size, inner) become those of values (outer, m, inner), whose places are (m,); of
// several for one place the last. n = outer * m * inner
extern "C" __global__ void index_put(const T* __restrict__ values,
                                     const long long* __restrict__ place,
                                     const int* __restrict__ last, T* __restrict__ x, long long n,
                                     long long size, long long m, long long inner) {
    EACH(e, n) {
        Element k = element(e, (Index) m, (Index) inner);
        long long row = place[k.j];
        if (row < size && last[row] == (int) k.j)
            x[((Index) k.outer * size + row) * inner + k.inner] = values[e];
    }
}

// Sums of rows that have one place ---------------------------------------------------------------------
//
// Rows of g (outer, m, inner) are added to rows of x (outer, size, inner) at place (m,); a place of
// `size` or more, or `skip`, is left out. order (m,) sorts place, equal ones by their position. The
// sorted rows are cut into parts of PART; a thread takes a column of a part. A run of equal places
// that ends in its part is added to x at once. Of a run that goes on, each part's sum is kept: in
// `first` if the run began in an earlier part, else in `last`; then add_runs joins them. So rows are
// summed in their order, whatever the grid.
#define PART 32

// The places in their order.
struct Sorted {
    const long long *place, *order;

    __device__ __forceinline__ long long operator[](long long j) const { return place[order[j]]; }
};

struct Rows {
    long long m, size, inner, columns, skip;
};

// Column c of (outer, rows, inner) begins here; its rows are inner apart.
__device__ __forceinline__ Index column(Index c, long long rows, const Rows& r) {
    Index outer = c / (Index) r.inner;
    return outer * (Index) (rows * r.inner) + (c - outer * (Index) r.inner);
}

__device__ __forceinline__ void add_to(T* x, Index c, long long row, Acc sum, const Rows& r) {
    if (row >= r.size || row == r.skip) return;
    T* out = x + column(c, r.size, r) + (Index) (row * r.inner);
    *out = narrow(widen(*out) + sum);
}

// Whether row j, the first of a part, goes on with the run before it.
__device__ __forceinline__ bool goes_on(const Sorted& place, long long j, const Rows& r) {
    return j > 0 && j < r.m && place[j] == place[j - 1];
}

// order (m,) sorts where index (m,) points to in a dimension of `size`; that is place (m,). A warp finds
// WAYS of them their positions, by counting which of all come before: m * m steps, and no memory.
// The first n elements of x become 0.
#define WAYS 4
extern "C" __global__ void row_order(const long long* __restrict__ index,
                                     long long* __restrict__ place, long long* __restrict__ order,
                                     T* __restrict__ x, long long n, long long m, long long size) {
    bool vectors = aligned<Vector>(x);
    EACH_PACK(i, n, PACK) {
        Vector zeros;
#pragma unroll
        for (int k = 0; k < PACK; ++k) zeros.at[k] = narrow(0);
        store(x, i, (Index) n, vectors && i + PACK <= (Index) n, zeros);
    }
    int lane = (int) threadIdx.x % 32;
    Index warps = (Index) gridDim.x * (blockDim.x / 32);
    Index first = ((Index) blockIdx.x * blockDim.x + threadIdx.x) / 32 * WAYS;
    for (; first < (Index) m; first += warps * WAYS) {
        Index own[WAYS];
        int before[WAYS];
#pragma unroll
        for (int w = 0; w < WAYS; ++w) {
            own[w] = (Index) at(index[min(first + w, (Index) m - 1)], size);
            before[w] = 0;
        }
        for (Index k = lane; k < (Index) m; k += 32) {
            Index other = (Index) at(index[k], size);
#pragma unroll
            for (int w = 0; w < WAYS; ++w) before[w] += other < own[w] + (k < first + w);
        }
#pragma unroll
        for (int w = 0; w < WAYS; ++w) {
            for (int lanes = 16; lanes; lanes >>= 1)
                before[w] += __shfl_xor_sync(0xffffffffu, before[w], lanes);
            if (lane == w && first + w < (Index) m) {
                order[before[w]] = first + w;
                place[first + w] = own[w];
            }
        }
    }
}

// n = parts * columns
extern "C" __global__ void add_rows(const T* __restrict__ g, const long long* __restrict__ places,
                                    const long long* __restrict__ order, T* __restrict__ x,
                                    Acc* __restrict__ first, Acc* __restrict__ last, long long n,
                                    Rows r) {
    const Sorted place = {places, order};
    EACH(e, n) {
        Index part = e / (Index) r.columns, c = e - part * (Index) r.columns;
        const T* in = g + column(c, r.m, r);
        long long begin = (long long) part * PART, end = min(begin + PART, r.m);
        bool open = goes_on(place, begin, r);
        for (long long j = begin; j < end;) {
            long long row = place[j];
            Acc sum = 0;
            for (; j < end && place[j] == row; ++j) sum += widen(in[(Index) (order[j] * r.inner)]);
            if (open) first[e] = sum;
            else if (j == end && goes_on(place, end, r)) last[e] = sum;
            else add_to(x, c, row, sum, r);
            open = false;
        }
    }
}

// A thread per column of a part: joins the run that began in it and goes on. n = parts * columns
extern "C" __global__ void add_runs(const long long* __restrict__ places,
                                    const long long* __restrict__ order, T* __restrict__ x,
                                    const Acc* __restrict__ first, const Acc* __restrict__ last,
                                    long long n, Rows r) {
    const Sorted place = {places, order};
    EACH(e, n) {
        Index part = e / (Index) r.columns, c = e - part * (Index) r.columns;
        long long begin = (long long) part * PART, end = begin + PART;
        if (!goes_on(place, end, r)) continue;
        long long row = place[end];
        bool began_before = place[begin] == row && goes_on(place, begin, r);
        if (began_before) continue;
        Acc sum = last[e];
        for (Index k = e + (Index) r.columns; goes_on(place, end, r) && place[end] == row;
             k += (Index) r.columns, end += PART)
            sum += first[k];
        add_to(x, c, row, sum, r);
    }
}

// Without an order, for few rows: x (size, inner) from g (m, inner) and index (m,): each row the sum
// of those whose index names it, or with `mean` their mean; 0 if there are none, and in row `skip`.
// A block has TILE columns of a row. Each of its warps, up to 32, looks through a part of the index,
// and adds what it finds in its order; then their sums are added in theirs.
#define TILE 128
#define OF_LANE (TILE / 32)
#define AT_ONCE 4
extern "C" __global__ void __launch_bounds__(1024) sum_rows(
        const T* __restrict__ g, const long long* __restrict__ index, T* __restrict__ x,
        long long m, long long size, long long inner, long long skip, int mean) {
    __shared__ Acc sums[32 * TILE];
    __shared__ int counts[32];
    Index columns = (Index) inner, tiles = (columns + TILE - 1) / TILE, row = blockIdx.x / tiles;
    Index tile = (blockIdx.x - row * tiles) * TILE;
    int lane = threadIdx.x, warp = threadIdx.y, warps = blockDim.y;
    Index part = ((Index) m + warps * 32 - 1) / (warps * 32) * 32, begin = warp * part;
    Index end = row == skip ? begin : min(begin + part, (Index) m);
    Acc sum[OF_LANE] = {};
    int count = 0;
    for (; begin < end; begin += 32) {
        unsigned found = __ballot_sync(0xffffffffu, begin + lane < end
                                       && at(index[begin + lane], size) == row);
        count += __popc(found);
        while (found) {                         // AT_ONCE rows are on their way together
            Acc v[AT_ONCE][OF_LANE];
            unsigned left = found;
#pragma unroll
            for (int a = 0; a < AT_ONCE; ++a, left &= left - 1) {
                const T* in = g + (begin + (left ? __ffs(left) - 1 : 0)) * columns;
#pragma unroll
                for (int k = 0; k < OF_LANE; ++k) {
                    Index c = tile + lane + 32 * k;
                    v[a][k] = left && c < columns ? widen(in[c]) : 0;
                }
            }
#pragma unroll
            for (int a = 0; a < AT_ONCE; ++a, found &= found - 1)
#pragma unroll
                for (int k = 0; k < OF_LANE; ++k)
                    if (found) sum[k] += v[a][k];
        }
    }
#pragma unroll
    for (int k = 0; k < OF_LANE; ++k) sums[warp * TILE + lane + 32 * k] = sum[k];
    if (lane == 0) counts[warp] = count;
    __syncthreads();
    for (int k = warp * 32 + lane; k < TILE && tile + k < columns; k += warps * 32) {
        Acc total = 0;
        int times = 0;
        for (int w = 0; w < warps; ++w) {
            total += sums[w * TILE + k];
            times += counts[w];
        }
        x[row * columns + tile + k] = narrow(mean && times ? total / times : total);
    }
}
