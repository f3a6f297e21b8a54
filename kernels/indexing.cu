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
