// Convolution's gradient for the weight as one product of matrices on tensor cores.
//
// A row of the product is a channel of the result, a column (tap, channel of the source), and what
// is summed are the pixels of the result, many more than there are rows and columns: they go in
// slices, each to its own blocks, and conv_implicit_weight_sum adds up the slices in their order.
#include "conv_implicit.cuh"

// How far it is to the pixel DEEP further on: in images, and in rows and columns of the source.
struct Step {
    int images, rows, columns;
};

#ifdef TENSOR_CORES

// Where chunk c of pixel p is in a tile of pixels of C chunks. Read are 8 pixels at one c, or for
// TF32 4 at two neighbours, and written 8 neighbours: all without conflicts of banks.
template <int C> __device__ __forceinline__ int chunk_at(int p, int c) {
    return p * C + (c ^ (CHUNK == 8 ? p & 7 : (p & 3) << 1));
}

// Operands of 16 x (16 or 8) and of (16 or 8) x 16: columns of the tile from base + offset, base a
// multiple of 32, and pixels from 2 * k * CHUNK. `at` is where the lane begins, lane_at(base): what
// is added to its column only changes bits that are 0 there, so it may be put in afterwards.
template <int C> __device__ __forceinline__ int lane_at(int base, bool left) {
    const int lane = threadIdx.x & 31;
#if defined(FLOAT16) || defined(BFLOAT16)
    int down = lane >> 4, across = lane >> 3 & 1;       // which of four matrices of 8 x 8
    return chunk_at<C>((lane & 7) + 8 * (left ? down : across), base / 8 + (left ? across : down));
#else
    return chunk_at<C>(lane & 3, base / 4 + (lane >> 4));
#endif
}

template <int C>
__device__ __forceinline__ void load(unsigned (&r)[4], const uint4* tile, int at, int offset, int k,
                                     bool left) {
#if defined(FLOAT16) || defined(BFLOAT16)
    load_matrix4_transposed(r, tile + (at ^ offset / 8) + k * 16 * C);
#else
    const unsigned* words = (const unsigned*) tile + (threadIdx.x >> 2 & 3);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        int down = left ? i / 2 : i % 2, across = offset / 4 + (left ? i % 2 : i / 2) * 2;
        r[i] = words[4 * ((k * 8 + down * 4) * C + (across & ~7) + (at ^ (across & 7)))];
    }
    round_fragment(r);
#endif
}

template <int BM, int BN, int STAGES>
__device__ __forceinline__ void multiply_slice(const T* __restrict__ g, const T* __restrict__ x,
                                               float* __restrict__ parts, const Convolution& by,
                                               int slice, int g_chunks, const Step& step) {
    typedef Tile<BM, BN, STAGES> At;
    __shared__ uint4 ring[STAGES * (At::A + At::B)];
    constexpr int C = BM / CHUNK;           // chunks of a pixel, of either
    static_assert(BM == BN, "tiles are square");
    const int taps = by.rows.taps * by.columns.taps, chunks = by.chunks;
    const int oh = by.rows.results, ow = by.columns.results;
    const int begin = blockIdx.y * slice, end = min(begin + slice, by.images * oh * ow);
    const int columns = taps * chunks * CHUNK, tiles = (columns + BN - 1) / BN;
    const int m0 = blockIdx.x / tiles * BM, n0 = blockIdx.x % tiles * BN;
    const int t = threadIdx.x, warp = t >> 5;
    const int wm = warp / At::WARPS_N * At::WM, wn = warp % At::WARPS_N * At::WN;

    // A thread copies one chunk of some pixels' gradients, and of what one tap meets there; indices
    // are in chunks, of which arrays have less than 2^31.
    const int left = m0 / CHUNK + t % C, right = n0 / CHUNK + t % C, tap = right / chunks;
    const int top = tap < taps ? tap / by.columns.taps * by.rows.dilation - by.rows.padding
                               : -(1 << 28);        // above all images
    const int side = tap % by.columns.taps * by.columns.dilation - by.columns.padding;
    const int image = by.rows.source * by.columns.source * chunks;
    int h[At::LOADS_B], w[At::LOADS_B], from[At::LOADS_B];          // of the first tap
#pragma unroll
    for (int i = 0; i < At::LOADS_B; ++i) {
        int pixel = begin + t / C + i * (At::THREADS / C), p = pixel / ow;
        w[i] = (pixel - p * ow) * by.columns.stride;
        h[i] = p % oh * by.rows.stride;
        from[i] = p / oh * image + right - tap * chunks;
        if (tap < taps) from[i] += (top * by.columns.source + side) * chunks;
    }
    int more = end - begin - t / C;         // pixels of the slice from the thread's first on
    const bool inside = left < g_chunks;
    int slope = (begin + t / C) * g_chunks + left;
    const uint4* slopes = (const uint4*) g;
    const uint4* source = (const uint4*) x;
    const int to = chunk_at<C>(t / C, t % C);
    auto copy = [&](int stage) {
        uint4* a = ring + stage * (At::A + At::B);
#pragma unroll
        for (int i = 0; i < At::LOADS_A; ++i) {
            const int next = i * (At::THREADS / C);
            copy16(a + to + i * At::THREADS, slopes + (slope + next * g_chunks),
                   next < more && inside);
        }
#pragma unroll
        for (int i = 0; i < At::LOADS_B; ++i) {
            bool valid = i * (At::THREADS / C) < more
                && (unsigned) (h[i] + top) < (unsigned) by.rows.source
                && (unsigned) (w[i] + side) < (unsigned) by.columns.source;
            copy16(a + At::A + to + i * At::THREADS,
                   source + (from[i] + (h[i] * by.columns.source + w[i]) * chunks), valid);
            w[i] += step.columns, h[i] += step.rows, from[i] += step.images * image;
            if (w[i] >= ow * by.columns.stride)
                w[i] -= ow * by.columns.stride, h[i] += by.rows.stride;
            if (h[i] >= oh * by.rows.stride) h[i] -= oh * by.rows.stride, from[i] += image;
        }
        more -= DEEP, slope += DEEP * g_chunks;
    };
    Fragment sum[At::MI][At::NI] = {};
    const int left_at = lane_at<C>(wm, true), right_at = lane_at<C>(wn, false);
    auto work = [&](int stage) {
        const uint4* a = ring + stage * (At::A + At::B);
#pragma unroll
        for (int k = 0; k < 2; ++k) {
            unsigned of_g[At::MI][4], of_x[At::NI][2];
#pragma unroll
            for (int i = 0; i < At::MI; ++i) load<C>(of_g[i], a, left_at, i * 16, k, true);
#pragma unroll
            for (int j = 0; j < At::NI; j += 2) {
                unsigned two[4];
                load<C>(two, a + At::A, right_at, j * 8, k, false);
                of_x[j][0] = two[0], of_x[j][1] = two[1];
                of_x[j + 1][0] = two[2], of_x[j + 1][1] = two[3];
            }
#pragma unroll
            for (int i = 0; i < At::MI; ++i)
#pragma unroll
                for (int j = 0; j < At::NI; ++j) multiply(sum[i][j], of_g[i], of_x[j]);
        }
    };
    pipeline<STAGES>((end - begin + DEEP - 1) / DEEP, copy, work);
    const int block = anew(blockIdx.x), part = anew(blockIdx.y), me = anew(threadIdx.x);
    const int m = block / tiles * BM + me / 32 / At::WARPS_N * At::WM + (me & 31) / 4;
    const int n = block % tiles * BN + me / 32 % At::WARPS_N * At::WN + 2 * (me & 3);
    float* out = parts + ((Index) part * by.channels + m) * columns + n;
#pragma unroll
    for (int i = 0; i < 2 * At::MI; ++i)
#pragma unroll
        for (int j = 0; j < At::NI; ++j) {
            const float* v = sum[i / 2][j] + i % 2 * 2;
            if (m + i * 8 < by.channels && n + j * 8 < columns)
                *(float2*) (out + (Index) i * 8 * columns + j * 8) = make_float2(v[0], v[1]);
        }
}
#define MULTIPLY(BM, BN, STAGES)                                                               \
    multiply_slice<BM, BN, STAGES>(g, x, parts, by, slice, g_chunks, step)
#else
struct Convolution {
    int numbers[18];
};
#define MULTIPLY(BM, BN, STAGES)
#endif

// g (n, results, g_chunks * CHUNK), x (n, h, w, chunks * CHUNK), parts (slices, channels, taps,
// chunks * CHUNK). A block per tile (x), and slice of that many pixels (y).
extern "C" __global__ void __launch_bounds__(128, 2) conv_implicit_weight_128x128(
        const T* g, const T* x, float* parts, Convolution by, int slice, int g_chunks,
        Step step) {
    MULTIPLY(128, 128, 3);
}

extern "C" __global__ void __launch_bounds__(128, 5) conv_implicit_weight_64x64(
        const T* g, const T* x, float* parts, Convolution by, int slice, int g_chunks,
        Step step) {
    MULTIPLY(64, 64, 4);
}

// parts (slices, channels out, taps, padded) to w, without what is padded: (channels out, taps,
// channels) if last, else (channels out, channels, taps). n = size of a slice. A thread (x) per
// element; where there are many slices, several (y) share them.
extern "C" __global__ void __launch_bounds__(256) conv_implicit_weight_sum(
        const float* __restrict__ parts, T* __restrict__ w, long long n, int slices, int taps,
        int padded, int channels, int last) {
    __shared__ float sums[256];
    const int x = threadIdx.x, y = threadIdx.y, wide = blockDim.x;
    for (Index first = (Index) blockIdx.x * wide; first < (Index) n;
         first += (Index) gridDim.x * wide) {
        const Index i = first + x;
        float sum = 0;
        if (i < (Index) n)
            for (int s = y; s < slices; s += blockDim.y) sum += parts[(Index) s * (Index) n + i];
        sums[y * wide + x] = sum;
        __syncthreads();
        const Index rest = i / padded, out = rest / taps;
        const int c = (int) (i - rest * padded);
        if (y == 0 && i < (Index) n && c < channels) {
            for (int k = 1; k < blockDim.y; ++k) sum += sums[k * wide + x];
            w[last ? rest * channels + c : (out * channels + c) * taps + rest - out * taps] =
                narrow((Acc) sum);
        }
        __syncthreads();
    }
}
