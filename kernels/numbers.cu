// What graph_step needs: numbers of the host for a graph that is about to be launched, by value, so that
// the host may work out the next ones while these are on their way; and whether elements have changed.
// The dtype plays no part.
#include "common.cuh"

struct Row {
    unsigned at[32];
};

// The first words of the row, n times one behind the other; a thread for each time.
extern "C" __global__ void repeat_row(unsigned* __restrict__ to, Row row, int words, int n) {
    int k = blockIdx.x * blockDim.x + threadIdx.x;
    if (k >= n) return;
#pragma unroll
    for (int w = 0; w < 32; ++w)
        if (w < words) to[k * words + w] = row.at[w];
}

__device__ __forceinline__ unsigned long long mixed(unsigned long long x) {     // splitmix64's last steps
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

// A number for each block of 256 threads, whose sum stands for the words and their places. Sums of integers
// don't depend on their order.
extern "C" __global__ void digest(const unsigned* __restrict__ words, long long n,
                                  unsigned long long* __restrict__ sums) {
    __shared__ unsigned long long part[256];
    unsigned long long sum = 0;
    for (long long i = blockIdx.x * 256ll + threadIdx.x; i < n; i += gridDim.x * 256ll)
        sum += mixed((unsigned long long) i * 0x9e3779b97f4a7c15ull + words[i] + 1);
    part[threadIdx.x] = sum;
    for (int half = 128; half; half /= 2) {
        __syncthreads();
        if ((int) threadIdx.x < half) part[threadIdx.x] += part[threadIdx.x + half];
    }
    if (!threadIdx.x) sums[blockIdx.x] = part[0];
}
