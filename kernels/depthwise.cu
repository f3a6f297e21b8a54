// Depthwise convolution and its two gradients: every input channel has kernels of its own.
//
// x is (n, c, h, w), weight (c * each, 1, kh, kw), y and its gradient (n, c * each, oh, ow), all in C
// order; with last, x, y and their gradients have their channels last. Output channel k reads input
// channel k / each. Sums in Acc. Forward: a thread per element of y. For x: a thread per element of
// x, gathering from the windows that cover it. For weight: a row of threads per element of weight,
// summing over all images (reduce.cuh). No atomics, fixed order.
#include "reduce.cuh"

// The first element of a channel in images of `size` pixels of `channels` each.
__device__ __forceinline__ Index start(Index image, int channel, int channels, Index size,
                                       int last) {
    return last ? image * size * channels + channel : (image * channels + channel) * size;
}

// bias (c * each) is added if with_bias; else it isn't read. n = size of y
extern "C" __global__ void depthwise(const T* __restrict__ x, const T* __restrict__ weight,
                                     const T* __restrict__ bias, T* __restrict__ y, long long n,
                                     Windows win, int channels, int each, int last,
                                     int with_bias) {
    int step = last ? channels / each : 1;
    EACH(i, n) {
        Spot at = spot(i, win.oh, win.ow, last ? channels : 1);
        Index image = last ? at.plane : at.plane / channels;
        int k = last ? at.channel : (int) (at.plane - image * channels);
        const T* in = x + start(image, k / each, channels / each, (Index) win.h * win.w, last);
        const T* by = weight + (Index) k * win.kh * win.kw;
        int top = at.row * win.sh - win.ph, left = at.column * win.sw - win.pw;
        Acc sum = with_bias ? widen(bias[k]) : (Acc) 0;
        for (int ky = 0; ky < win.kh; ++ky) {
            int row = top + ky * win.dh;
            if (row < 0 || row >= win.h) continue;
            for (int kx = 0; kx < win.kw; ++kx) {
                int column = left + kx * win.dw;
                if (column >= 0 && column < win.w)
                    sum += widen(in[((Index) row * win.w + column) * step]) *
                           widen(by[ky * win.kw + kx]);
            }
        }
        y[i] = narrow(sum);
    }
}

// n = size of gx
extern "C" __global__ void depthwise_grad_input(const T* __restrict__ gy,
                                                const T* __restrict__ weight,
                                                T* __restrict__ gx, long long n, Windows win,
                                                int channels, int each, int last) {
    int ins = channels / each, step = last ? channels : 1;
    EACH(i, n) {
        Spot at = spot(i, win.h, win.w, last ? ins : 1);
        Index image = last ? at.plane : at.plane / ins;
        int c = last ? at.channel : (int) (at.plane - image * ins);
        Acc sum = 0;
        for (int m = 0; m < each; ++m) {
            int k = c * each + m;
            const T* in = gy + start(image, k, channels, (Index) win.oh * win.ow, last);
            const T* by = weight + (Index) k * win.kh * win.kw;
            for (int ky = 0; ky < win.kh; ++ky) {
                int y = at.row + win.ph - ky * win.dh, r = y / win.sh;
                if (y < 0 || r * win.sh != y || r >= win.oh) continue;
                for (int kx = 0; kx < win.kw; ++kx) {
                    int x0 = at.column + win.pw - kx * win.dw, q = x0 / win.sw;
                    if (x0 >= 0 && q * win.sw == x0 && q < win.ow)
                        sum += widen(in[((Index) r * win.ow + q) * step]) *
                               widen(by[ky * win.kw + kx]);
                }
            }
        }
        gx[i] = narrow(sum);
    }
}

// rows = size of gw, length = images * oh * ow
extern "C" __global__ void __launch_bounds__(1024) depthwise_grad_weight(
        const T* __restrict__ gy, const T* __restrict__ x, T* __restrict__ gw, long long rows,
        long long length, Windows win, int channels, int each) {
    EACH_ROW(row, rows) {
        Place at = place(row, win.kh, win.kw);
        int k = (int) at.plane;
        int top = at.row * win.dh - win.ph, left = at.column * win.dw - win.pw;
        Acc sum = 0;
        EACH_OF_ROW(i, length) {
            Place out = place(i, win.oh, win.ow);
            int y = out.row * win.sh + top, x0 = out.column * win.sw + left;
            if (y < 0 || y >= win.h || x0 < 0 || x0 >= win.w) continue;
            Index from = (out.plane * (channels / each) + k / each) * win.h + y;
            Index g = ((out.plane * channels + k) * win.oh + out.row) * win.ow + out.column;
            sum += widen(gy[g]) * widen(x[from * win.w + x0]);
        }
        sum = block_sum(sum);
        if (threadIdx.x == 0) gw[row] = narrow(sum);
    }
}

// The same with channels last, as parts (parts, kh * kw, channels) in Acc: a block has 32 channels of
// one tap, blockIdx.x counts these, and a part of the length = images * oh * ow windows, blockIdx.y,
// which its 8 warps share.
extern "C" __global__ void __launch_bounds__(256) depthwise_grad_weight_last(
        const T* __restrict__ gy, const T* __restrict__ x, Acc* __restrict__ parts,
        long long length, long long part, Windows win, int channels, int each) {
    __shared__ Acc sums[8][32];
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, tiles = (channels + 31) / 32;
    int tap = blockIdx.x / tiles, k = (blockIdx.x - tap * tiles) * 32 + lane;
    int ky = tap / win.kw, ins = channels / each;
    int top = ky * win.dh - win.ph, left = (tap - ky * win.kw) * win.dw - win.pw;
    Index end = min((Index) ((blockIdx.y + 1) * part), (Index) length);
    Acc sum = 0;
    for (Index i = (Index) (blockIdx.y * part) + warp; i < end; i += 8) {
        Place out = place(i, win.oh, win.ow);
        int y = out.row * win.sh + top, x0 = out.column * win.sw + left;
        if (k >= channels || y < 0 || y >= win.h || x0 < 0 || x0 >= win.w) continue;
        Index from = (out.plane * win.h + y) * win.w + x0;
        sum += widen(gy[i * channels + k]) * widen(x[from * ins + k / each]);
    }
    sums[warp][lane] = sum;
    __syncthreads();
    if (warp || k >= channels) return;
    for (int w = 1; w < 8; ++w) sum += sums[w][lane];
    parts[((Index) blockIdx.y * (win.kh * win.kw) + tap) * channels + k] = sum;
}
