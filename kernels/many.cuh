// Many tensors in one launch: their addresses come by value, so that nothing is copied to the device.
//
// A block takes CHUNK elements of one tensor, whichever the tensors' sizes: block b works on tensor k
// with first[k] <= b < first[k + 1]. backend/many.py packs the struct, at most MOST tensors at a time,
// because the parameters of a kernel have 4 KB in all: fewer, where a tensor has more arrays. All tensors of a column are dense, and those of
// a row lie in memory in the same order.
#ifndef GPUGRAD_MANY_CUH
#define GPUGRAD_MANY_CUH

#include "common.cuh"

#define CHUNK 4096

template <int COLUMNS, int MOST> struct TensorsOf {
    void* at[COLUMNS][MOST];
    long long size[MOST];
    int first[MOST + 1];
    int count;
};

typedef TensorsOf<5, 72> Tensors;

// What a block works on: elements begin .. end - 1 of tensor k.
struct Chunk {
    int k;
    long long begin, end;
};

template <int COLUMNS, int MOST>
__device__ __forceinline__ Chunk chunk_of_block(const TensorsOf<COLUMNS, MOST>& t) {
    int low = 0, high = t.count - 1;
    while (low < high) {
        int middle = (low + high + 1) >> 1;
        if (t.first[middle] <= (int) blockIdx.x) low = middle;
        else high = middle - 1;
    }
    long long begin = (long long) ((int) blockIdx.x - t.first[low]) * CHUNK;
    return {low, begin, min(begin + CHUNK, t.size[low])};
}

// This thread's share of a chunk: neighbouring threads take neighbours.
#define EACH_OF_CHUNK(i, chunk)                                                                \
    for (long long i = chunk.begin + threadIdx.x; i < chunk.end; i += blockDim.x)

#endif
