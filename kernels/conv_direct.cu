// Convolution of few channels, and its two gradients, without columns.
//
// x is images of h x w, y and its gradient images of oh x ow; Few says how far their elements are
// apart, so that both memory formats will do. weight is (groups * k, c, kh, kw) in C order. Output
// channels (for x: input channels) are taken a tile at a time, and blockIdx.y counts tiles of groups.
// Sums in Acc, in a fixed order, without atomics.
#include "map.cuh"

// c and k channels of a group; elements from one image (n), channel (c) and pixel (p) to the next.
struct Few {
    Windows win;
    int c, k, groups, tiles;
    long long xn, xc, xp, yn, yc, yp;
};

constexpr int BLOCKS = sizeof(Acc) == 8 ? 2 : 4;       // for which a multiprocessor has registers
constexpr int THREADS = 128, TAPS = 256, SLOPES = 1024, WARPS = 8, LANES = 32;

// The group and the first channel of this block's tile of `size` channels.
__device__ __forceinline__ int2 tile_of(int tiles, int size) {
    int group = blockIdx.y / tiles;
    return make_int2(group, (blockIdx.y - group * tiles) * size);
}

// A thread has one window and TILE output channels; the weights, at most TAPS of each, are in shared
// memory. n = images * oh * ow
template <int TILE>
__device__ __forceinline__ void forward(const T* __restrict__ x, const T* __restrict__ weight,
                                        const T* __restrict__ bias, T* __restrict__ y, long long n,
                                        const Few& f, int with_bias) {
    __shared__ Pack<Acc, TILE> weights[TAPS];
    const Windows& win = f.win;
    int2 at = tile_of(f.tiles, TILE);
    int taps = f.c * win.kh * win.kw, first = at.x * f.k + at.y, held = min(TILE, f.k - at.y);
    for (int i = threadIdx.x; i < taps * TILE; i += THREADS) {
        int o = i / taps, t = i - o * taps;
        weights[t].at[o] = o < held ? widen(weight[(Index) (first + o) * taps + t]) : (Acc) 0;
    }
    __syncthreads();
    EACH(i, n) {
        Place out = place(i, win.oh, win.ow);
        int top = out.row * win.sh - win.ph, left = out.column * win.sw - win.pw;
        const T* in = x + out.plane * (Index) f.xn + at.x * f.c * (Index) f.xc;
        Pack<Acc, TILE> sum;
#pragma unroll
        for (int o = 0; o < TILE; ++o)
            sum.at[o] = with_bias && o < held ? widen(bias[first + o]) : (Acc) 0;
        const Pack<Acc, TILE>* by = weights;
        for (int c = 0; c < f.c; ++c)
            for (int ky = 0; ky < win.kh; ++ky, by += win.kw) {
                int row = top + ky * win.dh;
                if (row < 0 || row >= win.h) continue;
                const T* line = in + c * (Index) f.xc + (Index) row * win.w * (Index) f.xp;
                for (int kx = 0; kx < win.kw; ++kx) {
                    int column = left + kx * win.dw;
                    if (column < 0 || column >= win.w) continue;
                    Acc v = widen(line[column * (Index) f.xp]);
#pragma unroll
                    for (int o = 0; o < TILE; ++o) sum.at[o] += v * by[kx].at[o];
                }
            }
        T* to = y + out.plane * (Index) f.yn + first * (Index) f.yc +
                ((Index) out.row * win.ow + out.column) * (Index) f.yp;
#pragma unroll
        for (int o = 0; o < TILE; ++o)
            if (o < held) to[o * (Index) f.yc] = narrow(sum.at[o]);
    }
}

extern "C" __global__ void __launch_bounds__(128, BLOCKS) conv_direct8(
        const T* __restrict__ x, const T* __restrict__ weight, const T* __restrict__ bias,
        T* __restrict__ y, long long n, Few f, int with_bias) {
    forward<8>(x, weight, bias, y, n, f, with_bias);
}

extern "C" __global__ void __launch_bounds__(128, BLOCKS) conv_direct16(
        const T* __restrict__ x, const T* __restrict__ weight, const T* __restrict__ bias,
        T* __restrict__ y, long long n, Few f, int with_bias) {
    forward<16>(x, weight, bias, y, n, f, with_bias);
}

// A thread has one pixel and 4 input channels. The weights of as many output channels as fit are in
// shared memory at a time; kh * kw is at most SLOPES. n = images * h * w, a thread for each.
extern "C" __global__ void __launch_bounds__(128, BLOCKS) conv_direct_grad_input(
        const T* __restrict__ gy, const T* __restrict__ weight, T* __restrict__ gx, long long n,
        Few f) {
    constexpr int TILE = 4;
    __shared__ Pack<Acc, TILE> weights[SLOPES];
    const Windows& win = f.win;
    int2 at = tile_of(f.tiles, TILE);
    int taps = win.kh * win.kw, held = min(TILE, f.c - at.y), most = SLOPES / taps;
    Index i = (Index) blockIdx.x * THREADS + threadIdx.x;
    bool mine = i < (Index) n;
    Place to = place(mine ? i : 0, win.h, win.w);
    Pack<Acc, TILE> sum = {};
    for (int from = 0; from < f.k; from += most) {
        int some = min(most, f.k - from);
        __syncthreads();
        for (int j = threadIdx.x; j < some * taps * TILE; j += THREADS) {
            int t = j % taps, c = j / taps % TILE, o = j / taps / TILE;
            Index channel = (Index) (at.x * f.k + from + o) * f.c + at.y + c;
            weights[t * some + o].at[c] = c < held ? widen(weight[channel * taps + t]) : (Acc) 0;
        }
        __syncthreads();
        if (!mine) continue;
        const T* in = gy + to.plane * (Index) f.yn + (at.x * f.k + from) * (Index) f.yc;
        for (int ky = 0; ky < win.kh; ++ky) {
            int down = to.row + win.ph - ky * win.dh, row = down / win.sh;
            if (down < 0 || row * win.sh != down || row >= win.oh) continue;
            for (int kx = 0; kx < win.kw; ++kx) {
                int right = to.column + win.pw - kx * win.dw, column = right / win.sw;
                if (right < 0 || column * win.sw != right || column >= win.ow) continue;
                const T* slope = in + ((Index) row * win.ow + column) * (Index) f.yp;
                const Pack<Acc, TILE>* by = weights + (ky * win.kw + kx) * some;
                for (int o = 0; o < some; ++o) {
                    Acc g = widen(slope[o * (Index) f.yc]);
#pragma unroll
                    for (int c = 0; c < TILE; ++c) sum.at[c] += g * by[o].at[c];
                }
            }
        }
    }
    if (!mine) return;
    T* out = gx + to.plane * (Index) f.xn + (at.x * f.c + at.y) * (Index) f.xc +
             ((Index) to.row * win.w + to.column) * (Index) f.xp;
#pragma unroll
    for (int c = 0; c < TILE; ++c)
        if (c < held) out[c * (Index) f.xc] = narrow(sum.at[c]);
}

// Parts (parts, groups * k, c * kh * kw) of the gradient for weight, in Acc: blockIdx.x is the part,
// of `part` windows out of n = images * oh * ow. A lane has one tap and 8 output channels; the warps
// of a block take 32 windows each in turn, whose slopes are in shared memory. A group's tiles are
// f.tiles tiles of channels for each 32 taps.
extern "C" __global__ void __launch_bounds__(256, 2) conv_direct_grad_weight(
        const T* __restrict__ gy, const T* __restrict__ x, Acc* __restrict__ parts, long long n,
        long long part, Few f, int tap_tiles) {
    constexpr int TILE = 8;
    __shared__ Pack<Acc, TILE> slopes[WARPS][LANES];
    const Windows& win = f.win;
    int2 at = tile_of(f.tiles * tap_tiles, 1);
    int tap_tile = at.y / f.tiles, first = (at.y - tap_tile * f.tiles) * TILE;
    int lane = threadIdx.x % LANES, warp = threadIdx.x / LANES, taps = f.c * win.kh * win.kw;
    int tap = tap_tile * LANES + lane, held = min(TILE, f.k - first);
    Place in = place(min(tap, taps - 1), win.kh, win.kw);
    int down = in.row * win.dh - win.ph, right = in.column * win.dw - win.pw;
    const T* from = x + (at.x * f.c + in.plane) * (Index) f.xc;
    const T* slope = gy + (at.x * f.k + first) * (Index) f.yc;
    Index end = min((Index) ((blockIdx.x + 1) * part), (Index) n);
    Pack<Acc, TILE> sum = {};
    for (Index i = (Index) (blockIdx.x * part) + warp * LANES; i < end; i += WARPS * LANES) {
        int some = min(LANES, (int) (end - i));
        Place out = place(min(i + lane, end - 1), win.oh, win.ow);
        const T* g = slope + out.plane * (Index) f.yn +
                     ((Index) out.row * win.ow + out.column) * (Index) f.yp;
#pragma unroll
        for (int o = 0; o < TILE; ++o)
            slopes[warp][lane].at[o] = o < held ? widen(g[o * (Index) f.yc]) : (Acc) 0;
        __syncwarp();
        out = place(i, win.oh, win.ow);
        for (int j = 0; j < some; ++j) {
            int row = out.row * win.sh + down, column = out.column * win.sw + right;
            if (row >= 0 && row < win.h && column >= 0 && column < win.w) {
                Acc v = widen(from[out.plane * (Index) f.xn +
                                   ((Index) row * win.w + column) * (Index) f.xp]);
#pragma unroll
                for (int o = 0; o < TILE; ++o) sum.at[o] += v * slopes[warp][j].at[o];
            }
            if (++out.column < win.ow) continue;
            out.column = 0;
            if (++out.row < win.oh) continue;
            out.row = 0;
            ++out.plane;
        }
        __syncwarp();
    }
    __syncthreads();
    slopes[warp][lane] = sum;
    __syncthreads();
    int o = warp;                                   // as many warps as channels of a tile
    if (tap >= taps || o >= held) return;
    Acc total = 0;
    for (int w = 0; w < WARPS; ++w) total += slopes[w][lane].at[o];
    Index channel = ((Index) blockIdx.x * f.groups + at.x) * f.k + first + o;
    parts[channel * taps + tap] = total;
}
