// Images and kernels of convolution, laid out so that the channels that are summed come last.
#include "common.cuh"

// How x lies, (outer, rows, columns) with columns side by side, and y: (outer, columns, padded).
struct Swap {
    long long outer, rows, columns, padded;
    long long x_outer, x_row, y_outer, y_column;
};

// y[o, column, row] = x[o, row, column], and 0 for rows up to padded. A block per 32 x 32 of them,
// which it reads and writes in the order of memory.
extern "C" __global__ void __launch_bounds__(256) swap_dims(const T* __restrict__ x,
                                                            T* __restrict__ y, Swap by) {
    __shared__ T tile[32][33];
    const Index across = (Index) (by.columns + 31) / 32, down = (Index) (by.padded + 31) / 32;
    const int a = threadIdx.x, b = threadIdx.y;
    for (Index i = blockIdx.x; i < across * down * (Index) by.outer; i += gridDim.x) {
        Index j = i / across, o = j / down;
        const Index row = (j - o * down) * 32, column = (i - j * across) * 32;
        for (int k = b; k < 32; k += 8)
            if (row + k < by.padded && column + a < by.columns)
                tile[k][a] = row + k < by.rows
                    ? x[o * by.x_outer + (row + k) * by.x_row + column + a] : narrow(0);
        __syncthreads();
        for (int k = b; k < 32; k += 8)
            if (column + k < by.columns && row + a < by.padded)
                y[o * by.y_outer + (column + k) * by.y_column + row + a] = tile[a][k];
        __syncthreads();
    }
}

// Pixels of `channels` to pixels of `padded`, with zeros. n = size of y
extern "C" __global__ void pad_channels(const T* __restrict__ x, T* __restrict__ y, long long n,
                                        int channels, int padded) {
    EACH(i, n) {
        Index pixel = i / padded;
        int c = (int) (i - pixel * padded);
        y[i] = c < channels ? x[pixel * channels + c] : narrow(0);
    }
}
