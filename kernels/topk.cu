// The k largest or smallest of each row, in order, and where they are; k is at most 256.
//
// x is (rows, length) in C order, values and indices (rows, k). A block of 256 threads per row, any
// grid. Values are compared as unsigned keys in the same order, for the smallest ones reversed. The
// k-th key is found a byte at a time, from the highest, by counting in shared memory how many keys of
// the right beginning have each next byte. Then what is above it is gathered, and of what equals it
// the first places; both are ranked by counting. A NaN is greater than all numbers, and of equal
// values the first comes first. Only integers are added atomically: the same result every time.
#include "common.cuh"

#define THREADS 256
#define MOST 256

#ifdef FLOAT64
typedef unsigned long long Key;
#define BITS 64
__device__ __forceinline__ Key bits_of(double v) { return (Key) __double_as_longlong(v); }
#else
typedef unsigned Key;
#define BITS 32
__device__ __forceinline__ Key bits_of(float v) { return __float_as_uint(v); }
#endif

// Larger values have larger keys; -0 and 0 have the same.
__device__ __forceinline__ Key key_of(T element, bool largest) {
    Acc v = widen(element);
    Key bits = bits_of(v == 0 ? 0 : v), sign = (Key) 1 << (BITS - 1);
    Key key = v != v ? ~(Key) 0 : bits & sign ? ~bits : bits | sign;
    return largest ? key : ~key;
}

// The sum of v over the threads before this one; `all` is that over all threads.
__device__ __forceinline__ int sum_before(int v, int& all) {
    __shared__ int ends[THREADS / 32];
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, sum = v;
    for (int step = 1; step < 32; step *= 2) {
        int before = __shfl_up_sync(0xffffffffu, sum, step);
        if (lane >= step) sum += before;
    }
    if (lane == 31) ends[warp] = sum;
    __syncthreads();
    all = 0;
    for (int w = 0; w < THREADS / 32; ++w) {
        if (w == warp) sum += all;
        all += ends[w];
    }
    __syncthreads();                            // before anyone writes ends again
    return sum - v;
}

extern "C" __global__ void topk(const T* __restrict__ x, T* __restrict__ values,
                                long long* __restrict__ indices, long long rows, long long length,
                                int k, int largest) {
    __shared__ int histogram[256];
    __shared__ Key kth, found_keys[MOST];
    __shared__ int missing;
    __shared__ Index found[MOST];
    for (Index row = blockIdx.x; row < (Index) rows; row += gridDim.x) {
        const T* in = x + row * (Index) length;
        if (threadIdx.x == 0) {
            kth = 0;
            missing = k;                        // how many of the k have the beginning of kth
        }
        for (int shift = BITS - 8; shift >= 0; shift -= 8) {
            histogram[threadIdx.x] = 0;
            __syncthreads();
            Key beginning = shift == BITS - 8 ? 0 : kth >> (shift + 8);
            for (Index i = threadIdx.x; i < (Index) length; i += THREADS) {
                Key key = key_of(in[i], largest);
                bool same = shift == BITS - 8 || key >> (shift + 8) == beginning;
                if (same) atomicAdd(&histogram[(int) (key >> shift & 255)], 1);
            }
            __syncthreads();
            int byte = 255 - (int) threadIdx.x, here = histogram[byte], needed = missing, all;
            int above = sum_before(here, all);
            if (above < needed && needed <= above + here) {         // true of one thread
                kth |= (Key) byte << shift;
                missing = needed - above;
            }
            __syncthreads();
        }
        int above = 0, equal = k - missing;     // where the next ones of both kinds go
        for (Index base = 0; base < (Index) length && (above < k - missing || equal < k);
             base += THREADS) {
            Index i = base + threadIdx.x;
            Key key = i < (Index) length ? key_of(in[i], largest) : 0;
            int all_above, all_equal;
            bool is_above = i < (Index) length && key > kth;
            bool is_equal = i < (Index) length && key == kth;
            int a = above + sum_before(is_above, all_above);
            int e = equal + sum_before(is_equal, all_equal);
            int at = is_above ? a : is_equal ? e : MOST;
            if (at < k) {
                found[at] = i;
                found_keys[at] = key;
            }
            above += all_above;
            equal += all_equal;
        }
        __syncthreads();
        for (int j = threadIdx.x; j < k; j += THREADS) {
            int rank = 0;
            Key key = found_keys[j];
            for (int other = 0; other < k; ++other)
                rank += found_keys[other] > key || (found_keys[other] == key && other < j);
            values[row * (Index) k + rank] = in[found[j]];
            indices[row * (Index) k + rank] = found[j];
        }
        __syncthreads();                        // before the next row's are written
    }
}
