// Convolution, and its gradient for the input, as one product of matrices on tensor cores.
//
// A row of the product is a pixel of the result, a column one of its channels, and what is summed
// is (tap, channel of the source). For the gradient the source is the result's gradient, the
// kernels are (channels in, rows, columns, channels out), and the results go in as many phases as
// stride * stride: those of one phase meet the same taps, so none is multiplied by zeros.
#include "conv_implicit.cuh"

#define WITH_BIAS 1         // bias (channels) is added; else it isn't read
#define WITH_RELU 2
#define PLANAR 4            // the result is (n, channels, rows, columns)
#define BACK 8              // the gradient for the input

#ifdef TENSOR_CORES

// Along one dim, one phase: result first + i * step, of which there are count, takes from source
// origin + i * stride + j * move what tap + j * next multiplies, for j below taps.
struct Phase {
    int count, first, step, origin, stride, tap, next, taps, move;
};

__device__ __forceinline__ Phase phase_of(const Along& a, int phase, bool back) {
    if (!back)
        return {a.results, 0, 1, -a.padding, a.stride, 0, 1, a.taps, a.dilation};
    int tap = 0, at = phase + a.padding;
    while (tap < a.period && (at - tap * a.dilation) % a.stride != 0) ++tap;
    int taps = tap < min(a.period, a.taps) ? (a.taps - tap + a.period - 1) / a.period : 0;
    return {(a.results - phase + a.stride - 1) / a.stride, phase, a.stride,
            (at - tap * a.dilation) / a.stride, 1, tap, a.period, taps,
            -(a.period * a.dilation) / a.stride};
}

// What a block does: a phase, and its tile's first pixel and channel.
struct Task {
    Phase rows, columns;
    int pixels, m0, n0;
};

template <int BM, int BN>
__device__ __forceinline__ Task task_of(const Convolution& by, int x, int y) {
    const int back = by.flags & BACK, wide = back ? by.columns.stride : 1;
    const int tiles = (by.channels + BN - 1) / BN;
    Phase rows = phase_of(by.rows, y / wide, back), columns = phase_of(by.columns, y % wide, back);
    return {rows, columns, by.images * rows.count * columns.count, x / tiles * BM, x % tiles * BN};
}

// Where chunk c of row r is in a tile of rows of 4 chunks, without conflicts of banks: neither
// where 8 rows are read at one c, nor where 8 neighbours are written.
__device__ __forceinline__ int chunk_at(int r, int c) { return 4 * r + (c ^ (r >> 1 & 3)); }

// Lane t of four gets word t of each of them, in their order.
__device__ __forceinline__ void exchange(unsigned (&w)[4]) {
    const int t = threadIdx.x & 3;
#pragma unroll
    for (int d = 1; d < 4; d *= 2)
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            if (i & d) continue;
            unsigned got = __shfl_xor_sync(0xffffffffu, t & d ? w[i] : w[i | d], d);
            if (t & d) w[i] = got;
            else w[i | d] = got;
        }
}

// The results. A lane has two neighbouring channels of each 8; where a pixel has whole chunks, four
// lanes exchange them so that each stores 8.
template <class At>
__device__ __forceinline__ void store(Fragment (&sum)[At::MI][At::NI], const Task& task,
                                      const T* bias, T* y, const Convolution& by) {
    const Phase &rows = task.rows, &columns = task.columns;
    const int m0 = task.m0, n0 = task.n0, pixels = task.pixels;
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    const int wm = warp / At::WARPS_N * At::WM, wn = warp % At::WARPS_N * At::WN;
    const int first = n0 + wn + 2 * (lane & 3);
    const bool planar = by.flags & PLANAR, whole = !planar && by.channels % CHUNK == 0;
    const Index plane = (Index) by.rows.results * by.columns.results;
    if (by.flags & WITH_BIAS) {
#pragma unroll
        for (int j = 0; j < 2 * At::NI; ++j) {
            int at = first + j / 2 * 8 + j % 2;
            float v = at < by.channels ? (float) widen(bias[at]) : 0.0f;
#pragma unroll
            for (int i = 0; i < At::MI; ++i) {
                sum[i][j / 2][j % 2] += v;
                sum[i][j / 2][2 + j % 2] += v;
            }
        }
    }
#pragma unroll
    for (int i = 0; i < 2 * At::MI; ++i) {
        int m = m0 + wm + i * 8 + (lane >> 2), a = m / columns.count, n = a / rows.count;
        Index pixel = (Index) (rows.first + (a - n * rows.count) * rows.step) * by.columns.results
            + columns.first + (m - a * columns.count) * columns.step;
        T* at = y + n * plane * by.channels + (planar ? pixel : pixel * by.channels);
#pragma unroll
        for (int q = 0; q < At::NI; q += 4) {
            float v[2][4];
#pragma unroll
            for (int j = 0; j < 8; ++j) {
                float u = sum[i / 2][q + j / 2][i % 2 * 2 + j % 2];
                v[j % 2][j / 2] = by.flags & WITH_RELU && u < 0 ? 0.0f : u;
            }
            if (whole) {
                unsigned low[4], high[4];
#pragma unroll
                for (int j = 0; j < 4; ++j) {
#if defined(FLOAT16) || defined(BFLOAT16)
                    low[j] = pack(v[0][j], v[1][j]);
#else
                    low[j] = __float_as_uint(v[0][j]);
                    high[j] = __float_as_uint(v[1][j]);
#endif
                }
                exchange(low);
                int to = n0 + wn + q * 8 + (lane & 3) * 8;
                if (CHUNK == 4) exchange(high);
                if (m < pixels && to < by.channels)
                    *(uint4*) (at + to) =
                        CHUNK == 8 ? make_uint4(low[0], low[1], low[2], low[3])
                                   : make_uint4(low[0], high[0], low[1], high[1]);
                if (CHUNK == 4 && m < pixels && to + 4 < by.channels)
                    *(uint4*) (at + to + 4) = make_uint4(low[2], high[2], low[3], high[3]);
            } else if (m < pixels) {
#pragma unroll
                for (int j = 0; j < 8; ++j) {
                    int to = first + q * 8 + j / 2 * 8 + j % 2;
                    if (to < by.channels) at[planar ? to * plane : to] = narrow(v[j % 2][j / 2]);
                }
            }
        }
    }
}

template <int BM, int BN, int STAGES>
__device__ __forceinline__ void convolve(const T* __restrict__ x, const T* __restrict__ weight,
                                         const T* __restrict__ bias, T* __restrict__ y,
                                         const Convolution& by) {
    typedef Tile<BM, BN, STAGES> At;
    __shared__ uint4 ring[STAGES * (At::A + At::B)];
    const Task task = task_of<BM, BN>(by, blockIdx.x, blockIdx.y);
    const Phase &rows = task.rows, &columns = task.columns;
    const int m0 = task.m0, n0 = task.n0, pixels = task.pixels;
    if (m0 >= pixels) return;
    const int t = threadIdx.x, lane = t & 31, warp = t >> 5, chunks = by.chunks;
    const int wm = warp / At::WARPS_N * At::WM, wn = warp % At::WARPS_N * At::WN;

    // A thread copies chunk t % 4 of some pixels' windows in the source, and of channels' kernels.
    // All its copies of one step are from one tap: what differs is where the windows begin.
    int row[At::LOADS_A], column[At::LOADS_A];
    int window[At::LOADS_A];                // in chunks, of which arrays have less than 2^31
#pragma unroll
    for (int i = 0; i < At::LOADS_A; ++i) {
        int m = m0 + (t >> 2) + i * (At::THREADS / 4), a = m / columns.count;
        int n = a / rows.count;
        row[i] = (a - n * rows.count) * rows.stride + rows.origin;
        column[i] = (m - a * columns.count) * columns.stride + columns.origin;
        window[i] = ((n * by.rows.source + row[i]) * by.columns.source + column[i]) * chunks;
        if (m >= pixels) row[i] = -(1 << 28);
    }
    const int kernel = by.rows.taps * by.columns.taps * chunks;         // chunks of one
    unsigned there = 0;                     // bit 8 + i: whether kernel i is there
#pragma unroll
    for (int i = 0; i < At::LOADS_B; ++i)
        if (n0 + (t >> 2) + i * (At::THREADS / 4) < by.channels) there |= 256u << i;
    const uint4* source = (const uint4*) x;
    const uint4* kernels = (const uint4*) weight;
    int c = t & 3, r = 0, s = 0;            // its chunk of the summed dim: of the channels, the tap
    int of_window, of_kernel;
    unsigned valid;                         // bit i: whether window i has the tap inside; 8 + i
    auto settle = [&] {
        while (c >= chunks) {
            c -= chunks;
            if (++s == columns.taps) s = 0, ++r;
        }
        int down = r * rows.move, right = s * columns.move;
        of_window = (down * by.columns.source + right) * chunks + c;
        of_kernel = (n0 + (t >> 2)) * kernel + c + chunks * (
            (rows.tap + r * rows.next) * by.columns.taps + columns.tap + s * columns.next);
        valid = there;
#pragma unroll
        for (int i = 0; i < At::LOADS_A; ++i)
            if ((unsigned) (row[i] + down) < (unsigned) by.rows.source
                && (unsigned) (column[i] + right) < (unsigned) by.columns.source)
                valid |= 1u << i;
        if (r >= rows.taps) valid = 0;
    };
    settle();
    const int to = chunk_at(t >> 2, t & 3);
    auto load = [&](int stage) {
        uint4* a = ring + stage * (At::A + At::B) + to;
#pragma unroll
        for (int i = 0; i < At::LOADS_A; ++i)
            copy16(a + i * At::THREADS, source + (window[i] + of_window), valid >> i & 1);
#pragma unroll
        for (int i = 0; i < At::LOADS_B; ++i)
            copy16(a + At::A + i * At::THREADS,
                   kernels + (of_kernel + i * (At::THREADS / 4) * kernel), valid >> (8 + i) & 1);
        c += 4, of_window += 4, of_kernel += 4;
        if (c >= chunks) settle();
    };
    Fragment sum[At::MI][At::NI] = {};
    const int left_at = chunk_at(wm + (lane & 15), lane >> 4);
    const int right_at = chunk_at(wn + (lane & 7) + (lane >> 4) * 8, lane >> 3 & 1);
    auto work = [&](int stage) {
        const uint4* a = ring + stage * (At::A + At::B);
        const uint4* b = a + At::A;
#pragma unroll
        for (int k = 0; k < 4; k += 2) {    // of two chunks each; 16 rows lie 64 chunks apart
            unsigned left[At::MI][4], right[At::NI][2];
#pragma unroll
            for (int i = 0; i < At::MI; ++i) {
                load_matrix4(left[i], a + (left_at ^ k) + i * 64);
                round_fragment(left[i]);
            }
#pragma unroll
            for (int j = 0; j < At::NI; j += 2) {
                unsigned two[4];
                load_matrix4(two, b + (right_at ^ k) + j * 32);
                round_fragment(two);
                right[j][0] = two[0], right[j][1] = two[1];
                right[j + 1][0] = two[2], right[j + 1][1] = two[3];
            }
#pragma unroll
            for (int i = 0; i < At::MI; ++i)
#pragma unroll
                for (int j = 0; j < At::NI; ++j) multiply(sum[i][j], left[i], right[j]);
        }
    };
    pipeline<STAGES>((rows.taps * columns.taps * chunks + 3) / 4, load, work);

    const Task same = task_of<BM, BN>(by, anew(blockIdx.x), anew(blockIdx.y));
    store<At>(sum, same, bias, y, by);
}
#define CONVOLVE(BM, BN, STAGES) convolve<BM, BN, STAGES>(x, weight, bias, y, by)
#else
struct Convolution {
    int numbers[18];
};
#define CONVOLVE(BM, BN, STAGES)
#endif

// x (n, h, w, chunks * CHUNK), weight (channels, taps, chunks * CHUNK), y (n, results, channels).
// A block per tile of pixels of a phase and channels (x), and phase (y).
extern "C" __global__ void __launch_bounds__(128, 2) conv_implicit_128x128(
        const T* x, const T* weight, const T* bias, T* y, Convolution by) {
    CONVOLVE(128, 128, 3);
}

extern "C" __global__ void __launch_bounds__(128, 4) conv_implicit_128x64(
        const T* x, const T* weight, const T* bias, T* y, Convolution by) {
    CONVOLVE(128, 64, 4);
}

extern "C" __global__ void __launch_bounds__(128, 5) conv_implicit_64x64(
        const T* x, const T* weight, const T* bias, T* y, Convolution by) {
    CONVOLVE(64, 64, 4);
}
